//! How fast a drain stops workspaces, measured by the leader's own times: what it records in etcd before each stop, and
//! what reaches the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use proto::spaceport::v1::Drain;
use proto::spaceport::v1::drain::State;
use serde_json::Value;

use crate::bulkheads::behind_proxy;
use crate::drain::{drain, in_state, progress, watch_drain};
use crate::story::{Story, annotated, request, run, story, until};
use e2e::harness::{Answer, Carried, Proxy, Rule, annotations};

/// Time from one stop to the next at 120 a minute.
const INTERVAL: SignedDuration = SignedDuration::from_millis(500);
const WORKSPACES: usize = 7;

/// When each workspace was first seen.
type Heard = Arc<Mutex<BTreeMap<String, Timestamp>>>;

/// Follows the drain in etcd: when the leader recorded each stop.
async fn follow_notes(story: &Story) -> Result<Heard> {
    let mut etcd = story.fleet.etcd().connect().await?;
    let key = format!("/spaceport/{}/drains/eu-1", story.namespace);
    let mut changes = etcd.watch(key, None).await?;
    let notes = Heard::default();
    let noted = Arc::clone(&notes);
    tokio::spawn(async move {
        while let Ok(Some(answer)) = changes.message().await {
            for event in answer.events() {
                let value = event.kv().and_then(|kv| serde_json::from_slice::<Value>(kv.value()).ok());
                for (id, at) in
                    value.iter().flat_map(|value| value["stopping"].as_object().into_iter().flatten())
                {
                    if let Some(Ok(at)) = at.as_str().map(str::parse) {
                        noted.lock().entry(id.clone()).or_insert(at);
                    }
                }
            }
        }
    });
    Ok(notes)
}

/// Lets every call pass, and records when the stop of each workspace arrived.
fn follow_stops(proxy: &Proxy) -> Heard {
    let stops = Heard::default();
    let came = Arc::clone(&stops);
    let look = move |call: &Parts| {
        let carried = call.extensions.get::<Carried>().map(|carried| &*carried.0).unwrap_or_default();
        let is_stop = String::from_utf8_lossy(carried).contains("StoppedByRequest");
        let path = call.uri.path().strip_suffix("/status").and_then(|path| path.rsplit('/').next());
        if let Some(id) = path.filter(|_| call.method == Method::PATCH && is_stop) {
            came.lock().entry(id.to_owned()).or_insert_with(Timestamp::now);
        }
        false
    };
    proxy.rules(vec![Rule::new(look, Answer::Hold)]);
    stops
}

#[test]
fn stops_are_never_noted_closer_than_the_rate_has_it_and_a_pause_lets_none_through() -> Result<()> {
    story("drain-rate", 1, &["us-1"], async |story| {
        let proxy = behind_proxy(story, "eu-1").await?;
        let mut client = story.client().await?;
        for n in 0..WORKSPACES {
            let wanted = request(&format!("ws-{n}"), &["europe"]);
            run(&mut client, annotated(wanted, annotations::BACKUP_DELAY_MS, "1500")).await?;
        }
        let (notes, stops) = (follow_notes(story).await?, follow_stops(&proxy));
        drain(story, &["eu-1", "--idle", "1ms", "--concurrent", "50", "--rate", "120/min"]).await?;
        let mut stream = watch_drain(story).await?;
        let counts = |drain: &Drain| drain.counts.unwrap_or_default();
        progress(&mut stream, |drain| counts(drain).in_flight >= 2).await?;

        let paused = drain(story, &["pause", "eu-1"]).await?;
        ensure!(paused["state"] == "PAUSED", "{paused}");
        let under_way = paused["counts"]["inFlight"].as_u64().context("no count")?;
        let stopped = paused["counts"]["stopped"].as_u64().context("no count")?;
        let before = usize::try_from(under_way + stopped)?;
        ensure!(before < WORKSPACES, "everything was stopped before the pause");
        // Each of them takes three intervals to end, and wakes the drain.
        let seen =
            progress(&mut stream, |drain| drain.state() == State::Paused && counts(drain).in_flight == 0);
        let ended = counts(seen.await?.last().context("nothing was seen")?).stopped;
        ensure!(usize::try_from(ended)? == before, "{ended} were stopped, and {before} before the pause");
        until("the test to have seen all", async || {
            ensure!(notes.lock().len() >= before, "seen {:?}", notes.lock());
            Ok(())
        })
        .await?;
        ensure!(notes.lock().len() == before, "noted while paused: {:?}", notes.lock());
        ensure!(stops.lock().len() == before, "stopped while paused: {:?}", stops.lock());

        drain(story, &["resume", "eu-1"]).await?;
        progress(&mut stream, in_state(State::Drained)).await?;
        let (notes, stops) = (notes.lock().clone(), stops.lock().clone());
        ensure!(notes.len() == WORKSPACES && stops.len() == WORKSPACES, "{notes:?} {stops:?}");
        let mut times: Vec<Timestamp> = notes.values().copied().collect();
        times.sort_unstable();
        for pair in times.windows(2) {
            ensure!(pair[1].duration_since(pair[0]) >= INTERVAL, "too soon after another: {times:?}");
        }
        for (id, came) in &stops {
            ensure!(notes[id] <= *came, "the stop of {id} came before it was noted");
        }
        Ok(())
    })
}
