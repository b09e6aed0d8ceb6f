//! The signs of life of one watch, bookmarks included, which the watch library keeps to itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::WatchReport;

/// A watch is begun at most this often, however often the apiserver ends it.
const PACE: Duration = Duration::from_secs(1);

/// What is known of one watch.
pub(super) struct Pulse {
    what: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_heard: Option<Instant>,
    last_begun: Option<Instant>,
    error: Option<String>,
    unreadable: BTreeSet<String>,
    restarts: u64,
}

impl Pulse {
    pub(super) fn new(what: String) -> Self {
        Self { what, state: Mutex::default() }
    }

    pub(super) fn what(&self) -> &str {
        &self.what
    }

    pub(super) fn report(&self) -> WatchReport {
        let state = self.state.lock();
        WatchReport {
            what: self.what.clone(),
            last_heard: state.last_heard.map(|at| at.elapsed()),
            error: state.error.clone(),
            unreadable: state.unreadable.iter().cloned().collect(),
            restarts: state.restarts,
        }
    }

    pub(super) fn failed(&self, error: String) {
        let mut state = self.state.lock();
        state.error = Some(error);
        state.restarts += 1;
    }

    /// Whether this is news.
    pub(super) fn unreadable(&self, name: &str) -> bool {
        self.state.lock().unreadable.insert(name.to_owned())
    }

    pub(super) fn readable(&self, name: &str) {
        self.state.lock().unreadable.remove(name);
    }

    pub(super) fn forget_unreadable(&self) {
        self.state.lock().unreadable.clear();
    }

    fn heard(&self) {
        let mut state = self.state.lock();
        state.last_heard = Some(Instant::now());
        state.error = None;
    }

    /// When the next watch may begin.
    fn turn(&self) -> Instant {
        let mut state = self.state.lock();
        let now = Instant::now();
        let turn = state.last_begun.map_or(now, |last| now.max(last + PACE));
        state.last_begun = Some(turn);
        turn
    }
}

/// The same client, telling `pulse` of everything it receives.
pub(super) fn tapped(client: &kube::Client, pulse: &Arc<Pulse>) -> kube::Client {
    let (client, pulse) = (client.clone(), Arc::clone(pulse));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, pulse) = (client.clone(), Arc::clone(&pulse));
        send(client, pulse, request)
    });
    kube::Client::new(service, "default")
}

async fn send(
    client: kube::Client,
    pulse: Arc<Pulse>,
    request: Request<Body>,
) -> kube::Result<Response<impl hyper::body::Body<Data = bytes::Bytes, Error = kube::Error> + Send + 'static>>
{
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    if is_watch {
        tokio::time::sleep_until(pulse.turn()).await;
    }
    let answer = client.send(request).await?;
    if answer.status().is_success() {
        pulse.heard();
    }
    Ok(answer.map(|body| {
        body.map_frame(move |frame| {
            pulse.heard();
            frame
        })
    }))
}
