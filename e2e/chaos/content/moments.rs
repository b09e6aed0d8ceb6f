//! Moments to kill at: when a state file says something new, when the agent sends a request, or any time.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use http::Method;
use http::request::Parts;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::super::rng::Rng;
use super::ground::{Doing, Ground, Live, Site};
use crate::harness::S3Answer;

/// How long a moment is waited for. After that it is any time.
const PATIENCE: Duration = Duration::from_secs(4);
/// Between two looks at the state files: shorter than most steps.
const LOOK: Duration = Duration::from_millis(2);

/// What happens to a request at which the agent is killed.
type At = fn(&Parts) -> bool;

fn query(parts: &Parts) -> &str {
    parts.uri.query().unwrap_or_default()
}

fn is(parts: &Parts, method: &Method, place: &str) -> bool {
    parts.method == *method && parts.uri.path().contains(place)
}

/// Requests by their steps.
const REQUESTS: [(&str, At); 10] = [
    ("an upload begins", |parts| parts.method == Method::POST && query(parts).starts_with("uploads")),
    ("a part is sent", |parts| query(parts).contains("partNumber=1")),
    ("a later part is sent", |parts| query(parts).contains("partNumber=2")),
    ("an upload is completed", |parts| parts.method == Method::POST && query(parts).contains("uploadId=")),
    ("an archive is sent in one", |parts| {
        is(parts, &Method::PUT, "/archives/") && !query(parts).contains("partNumber")
    }),
    ("an archive is read", |parts| is(parts, &Method::GET, "/archives/")),
    ("a head is written", |parts| is(parts, &Method::PUT, "/heads/")),
    ("a head is read", |parts| is(parts, &Method::GET, "/heads/")),
    ("a snapshot is sent", |parts| is(parts, &Method::PUT, "/snapshot-")),
    ("a snapshot is read", |parts| is(parts, &Method::GET, "/snapshot-")),
];
/// Stages of state files, by their names there.
const STAGES: [&str; 5] = ["initialising", "filled", "ready", "backingUp", "backedUp"];

/// A moment to wait for.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    Stage(&'static str),
    /// Whether the store gets the request.
    Request(&'static str, At, bool),
    Any(Duration),
}

impl Moment {
    pub fn choose(rng: &mut Rng) -> Self {
        match rng.below(10) {
            0..3 => Self::Stage(rng.pick(&STAGES).copied().unwrap_or("ready")),
            3..8 => match rng.pick(&REQUESTS) {
                Some((name, at)) => Self::Request(name, *at, rng.chance(50)),
                None => Self::Any(Duration::ZERO),
            },
            _ => Self::Any(rng.millis(0..1200)),
        }
    }

    /// Waits for it; returns its name if it came. Requests are held until [`S3Proxy::heal`](crate::harness::S3Proxy::heal).
    pub async fn comes(self, ground: &Ground, at: usize) -> Result<Option<String>> {
        let site = ground.site(at)?;
        match self {
            Self::Any(wait) => {
                sleep(wait).await;
                Ok(None)
            }
            Self::Stage(wanted) => {
                let before = stages(ground, at, site);
                let came = within(|| {
                    stages(ground, at, site).iter().any(|now| now.1 == wanted && !before.contains(now))
                });
                Ok(came.await.then(|| format!("stage {wanted}")))
            }
            Self::Request(name, is_it, forwarded) => {
                let before = site.store.failed();
                let answer = if forwarded { S3Answer::HoldAnswer } else { S3Answer::Hold };
                site.store.choose(move |parts| is_it(parts).then_some(answer));
                let came = within(|| site.store.failed() > before).await;
                let how = if forwarded { "answered" } else { "sent" };
                Ok(came.then(|| format!("{name} ({how})")))
            }
        }
    }
}

async fn within(mut is_there: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + PATIENCE;
    while !is_there() {
        if Instant::now() > until {
            return false;
        }
        sleep(LOOK).await;
    }
    true
}

/// Instances of a site, each with the stage of its state file.
pub fn stages(ground: &Ground, at: usize, site: &Site) -> Vec<(String, String, Doing)> {
    let live = ground.live.lock().clone();
    let here = live.into_iter().filter(|(_, live)| live.site == at);
    here.map(|(instance, Live { doing, .. })| {
        let stage = stage(site, &instance).unwrap_or_else(|| "no state".to_owned());
        (instance, stage, doing)
    })
    .collect()
}

fn stage(site: &Site, instance: &str) -> Option<String> {
    let file = site.agent.path(&format!(".spaceport/state/{instance}.json")).ok()?;
    let state: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    match state.get("stage")? {
        Value::String(name) => Some(name.clone()),
        Value::Object(with) => with.keys().next().cloned(),
        _ => None,
    }
}
