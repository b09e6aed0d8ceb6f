//! One at a time, bursts and stops, calls of a lifecycle, and many subscribers.

use anyhow::{Result, ensure};
use proto::wsman::{SubscribeRequest, WorkspacePhase};
use tokio::{
    task::JoinSet,
    time::{Duration, Instant, sleep, timeout},
};
use tonic::transport::Channel;

use crate::{
    tracker::Moment,
    work::{Bench, first, ids, ms, number, tell, until_last},
};

/// Lifecycles over which API calls are counted.
const COUNTED: usize = 10;
/// Streams per connection.
const STREAMS: usize = 50;
const PATIENCE: Duration = Duration::from_mins(2);
/// Ratio of each round to the floor of the same round.
const BESIDE: &str = "times the floor beside it";
/// Cost of the resources alone.
const BARE: &str = "bare calls: POST of the workspace to phase Running";

impl Bench {
    /// In turn, one at a time: a workspace, a bare pod, and the bare calls of a workspace.
    pub async fn one_at_a_time(&mut self, count: usize) -> Result<()> {
        let (names, floor, bare) = (ids("one", count), ids("one-pod", count), ids("one-bare", count));
        for at in 0..count {
            tell(at, count, "one at a time");
            let (name, pod) = (&names[at..=at], &floor[at..=at]);
            let (begun, took) = first(self.start(name).await?)?;
            let up = first(self.stage.workspaces.wait(name, Moment::Running).await?)?;
            self.record.note("one", "StartWorkspace", "ms", ms(took));
            let started = up - begun;
            self.record.note("one", "start to RUNNING on the stream", "ms", ms(started));
            let (begun, took) = first(self.create_pods(pod).await?)?;
            let up = first(self.stage.pods.wait(pod, Moment::Running).await?)?;
            self.record.note("one", "bare pod: POST", "ms", ms(took));
            self.record.note("one", "bare pod: POST to Running", "ms", ms(up - begun));
            self.record.note("one", BESIDE, "x", started.div_duration_f64(up - begun));
            let calls = self.bare_calls(&names[at], &bare[at]).await?;
            let took = Box::pin(calls.run()).await?;
            self.record.note("one", BARE, "ms", ms(took));
            self.record.note("one", "times the bare calls beside it", "x", started.div_duration_f64(took));
        }
        self.record.floor("one", "StartWorkspace", "bare pod: POST");
        self.record.floor("one", "start to RUNNING on the stream", "bare pod: POST to Running");
        self.clear(&names).await?;
        self.clear_bare_calls(&bare).await?;
        self.delete_pods(&floor).await.map(drop)
    }

    /// A burst of starts, then the stop of all, recorded as scenario `stop`; then the same with bare pods; and again.
    pub async fn crowd(&mut self, scenario: &str, stop: &str, (count, rounds): (usize, usize)) -> Result<()> {
        let tell = |round: usize, what: &str, (running, gone): (f64, f64)| {
            let (running, gone) = (running / 1000.0, gone / 1000.0);
            eprintln!(
                "{scenario} of {count}, round {} of {rounds}: {what} all run after {running:.1} s, all gone after {gone:.1} s",
                round + 1
            );
        };
        for round in 0..rounds {
            let ours =
                self.crowd_of_workspaces(scenario, stop, &ids(&format!("{scenario}-{round}"), count)).await?;
            tell(round, "workspaces", ours);
            let floor =
                self.crowd_of_pods(scenario, stop, &ids(&format!("{scenario}-pod-{round}"), count)).await?;
            tell(round, "bare pods", floor);
            self.record.note(scenario, &format!("starts: {BESIDE}"), "x", ours.0 / floor.0);
            self.record.note(stop, &format!("stops: {BESIDE}"), "x", ours.1 / floor.1);
        }
        self.record.floor(scenario, "starts: until all RUNNING", "bare pods: until all Running");
        self.record.floor(scenario, "start to RUNNING on the stream", "bare pod: POST to Running");
        self.record.floor(stop, "stops: until all gone", "bare pods: delete until all gone");
        self.record.floor(scenario, "CPU of all programs, a start", "bare pods: CPU of all programs, a pod");
        self.record.floor(stop, "CPU of all programs, a stop", "bare pods: CPU of all programs, a delete");
        Ok(())
    }

    /// Returns milliseconds until all were running, and until all were gone.
    async fn crowd_of_workspaces(
        &mut self,
        scenario: &str,
        stop: &str,
        names: &[String],
    ) -> Result<(f64, f64)> {
        let count = number(names.len());
        let (begun, meter) = (Instant::now(), self.stage.meter()?);
        let calls = self.start(names).await?;
        let called = begun.elapsed();
        let up = self.stage.workspaces.wait(names, Moment::Running).await?;
        let spent = self.stage.spent(&meter, None)?;
        let until_running = until_last(begun, &up);
        self.record.note(scenario, "starts: until all RUNNING", "ms", until_running);
        self.record.note(scenario, "StartWorkspace calls a second", "1/s", count / called.as_secs_f64());
        self.record.note(scenario, "manager's CPU, a start", "ms", spent.cpu["manager"] * 1000.0 / count);
        self.record.note(scenario, "CPU of all programs, a start", "ms", spent.cpu_each(count));
        for ((begun, took), up) in calls.iter().zip(&up) {
            self.record.note(scenario, "StartWorkspace", "ms", ms(*took));
            self.record.note(scenario, "start to RUNNING on the stream", "ms", ms(up.duration_since(*begun)));
        }
        self.note_spent(scenario, ", starts", &spent);
        let (begun, meter) = (Instant::now(), self.stage.meter()?);
        self.clear(names).await?;
        let until_gone = ms(begun.elapsed());
        let spent = self.stage.spent(&meter, None)?;
        self.record.note(stop, "stops: until all gone", "ms", until_gone);
        self.record.note(stop, "manager's CPU, a stop", "ms", spent.cpu["manager"] * 1000.0 / count);
        self.record.note(stop, "CPU of all programs, a stop", "ms", spent.cpu_each(count));
        self.note_spent(stop, ", stops", &spent);
        Ok((until_running, until_gone))
    }

    /// Returns milliseconds until all were running, and until all were gone.
    async fn crowd_of_pods(&mut self, scenario: &str, stop: &str, names: &[String]) -> Result<(f64, f64)> {
        let count = number(names.len());
        let (begun, meter) = (Instant::now(), self.stage.meter()?);
        let calls = self.create_pods(names).await?;
        let up = self.stage.pods.wait(names, Moment::Running).await?;
        let (until_running, spent) = (until_last(begun, &up), self.stage.spent(&meter, None)?);
        self.record.note(scenario, "bare pods: until all Running", "ms", until_running);
        self.record.note(scenario, "bare pods: CPU of all programs, a pod", "ms", spent.cpu_each(count));
        for ((begun, _), up) in calls.iter().zip(&up) {
            self.record.note(scenario, "bare pod: POST to Running", "ms", ms(up.duration_since(*begun)));
        }
        let (begun, meter) = (Instant::now(), self.stage.meter()?);
        let gone = self.delete_pods(names).await?;
        let (until_gone, spent) = (until_last(begun, &gone), self.stage.spent(&meter, None)?);
        self.record.note(stop, "bare pods: CPU of all programs, a delete", "ms", spent.cpu_each(count));
        self.record.note(stop, "bare pods: delete until all gone", "ms", until_gone);
        Ok((until_running, until_gone))
    }

    /// API calls of a lifecycle, one workspace after the other with no other load.
    pub async fn calls(&mut self) -> Result<()> {
        let meter = self.stage.meter()?;
        for (at, name) in ids("counted", COUNTED).iter().enumerate() {
            tell(at, COUNTED, "API calls of a lifecycle");
            self.start(std::slice::from_ref(name)).await?;
            self.stage.workspaces.wait(std::slice::from_ref(name), Moment::Running).await?;
            self.clear(std::slice::from_ref(name)).await?;
        }
        // Late events.
        sleep(Duration::from_secs(1)).await;
        let spent = self.stage.spent(&meter, None)?;
        for ((sender, what), count) in &spent.calls {
            let each = count / number(COUNTED);
            if each >= 0.5 {
                self.record.note("calls", &format!("{sender}: {what}"), "calls", each);
            }
        }
        let own = spent.calls_of("manager") / number(COUNTED);
        self.record.note("calls", "manager: all of a lifecycle", "calls", own);
        Ok(())
    }

    /// Many subscribers of everything during a burst.
    pub async fn subscribers(&mut self, subscribers: usize, count: usize) -> Result<()> {
        let names = ids("watched", count);
        let mut following = JoinSet::new();
        for _ in 0..subscribers.div_ceil(STREAMS) {
            let channel = self.stage.channel().await?;
            for _ in 0..STREAMS.min(subscribers - following.len()) {
                let stream = subscribe(channel.clone()).await?;
                following.spawn(until_all_run(stream, count));
            }
        }
        eprintln!("{subscribers} subscribers watch {count} starts");
        let (begun, meter) = (Instant::now(), self.stage.meter()?);
        self.start(&names).await?;
        self.stage.workspaces.wait(&names, Moment::Running).await?;
        let outcomes = timeout(PATIENCE, following.join_all()).await?;
        let spent = self.stage.spent(&meter, None)?;
        let received: Vec<Instant> = outcomes.into_iter().flatten().collect();
        let lost = number(subscribers - received.len());
        let first = received.iter().min().copied().unwrap_or(begun);
        for at in &received {
            self.record.note(
                "subscribers",
                "starts: until a subscriber has received all",
                "ms",
                ms(*at - begun),
            );
            self.record.note("subscribers", "a subscriber behind the first", "ms", ms(*at - first));
        }
        self.record.note("subscribers", "subscriptions that ended early", "", lost);
        let each = spent.cpu["manager"] * 1000.0 / number(count);
        self.record.note("subscribers", "manager's CPU, a start", "ms", each);
        self.note_spent("subscribers", "", &spent);
        self.clear(&names).await?;
        ensure!(lost == 0.0, "{lost} subscriptions ended early");
        Ok(())
    }
}

/// The part of an update that is read: decoding the rest a million times would dominate the measurement.
#[derive(Clone, PartialEq, prost::Message)]
struct Update {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(enumeration = "WorkspacePhase", tag = "4")]
    phase: i32,
}

async fn subscribe(channel: Channel) -> Result<tonic::Streaming<Update>> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await?;
    let codec = tonic_prost::ProstCodec::<SubscribeRequest, Update>::default();
    let path = http::uri::PathAndQuery::from_static("/wsman.WorkspaceManager/Subscribe");
    let request = tonic::Request::new(SubscribeRequest::default());
    Ok(client.server_streaming(request, path, codec).await?.into_inner())
}

/// When the stream has reported this many workspaces as running; `None` if it ended before.
async fn until_all_run(mut updates: tonic::Streaming<Update>, count: usize) -> Option<Instant> {
    let mut running = std::collections::HashSet::new();
    while running.len() < count {
        let status = updates.message().await.ok()??.status?;
        if status.phase() == WorkspacePhase::Running && status.id.starts_with("watched-") {
            running.insert(status.id);
        }
    }
    Some(Instant::now())
}
