//! Activity of one watch, bookmarks included, which the watch library does not report.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// A watch is begun at most this often, however often the apiserver ends it.
const PACE: Duration = Duration::from_secs(1);
/// Pages of one list, far more than a real one has.
const PAGES: u64 = 100_000;
/// Objects that cannot be read and are named.
const NAMED: usize = 20;
/// A cluster that sends too much is said to do so for this long at least: it answers meanwhile, which clears other errors.
const FLOODED: Duration = Duration::from_mins(2);

/// State of one watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchReport {
    /// What is watched, such as `workspaces in ws-a`.
    pub what: String,
    /// Time since it received anything, bookmarks included.
    pub last_heard: Option<Duration>,
    /// Its last error, if it has received nothing since.
    pub error: Option<String>,
    /// Objects that exist and cannot be decoded.
    pub unreadable: Vec<String>,
    /// Restarts after a failure.
    pub restarts: u64,
}

/// Reports of all watches of a cluster.
#[derive(Clone)]
pub struct Reports(pub(super) Vec<Arc<Pulse>>);

impl Reports {
    /// One report for each watch.
    pub fn all(&self) -> Vec<WatchReport> {
        self.0.iter().map(|pulse| pulse.report()).collect()
    }

    /// The last error of the watch of this name, if it has received nothing since.
    pub fn error_of(&self, what: &str) -> Option<String> {
        self.0.iter().find(|pulse| pulse.what() == what)?.error()
    }
}

/// What is known of one watch.
pub(super) struct Pulse {
    what: String,
    state: Mutex<State>,
    changes: Option<watch::Sender<()>>,
}

#[derive(Default)]
struct State {
    last_heard: Option<Instant>,
    last_begun: Option<Instant>,
    error: Option<String>,
    /// It sent too much.
    flooded: Option<(Instant, String)>,
    /// Pages of the list under way.
    pages: u64,
    unreadable: BTreeSet<String>,
    restarts: u64,
}

impl Pulse {
    pub(super) fn new(what: String) -> Self {
        Self { what, state: Mutex::default(), changes: None }
    }

    /// Notifies when the watch fails or recovers.
    pub(super) fn notifying(self, changes: watch::Sender<()>) -> Self {
        Self { changes: Some(changes), ..self }
    }

    /// What it last failed with, where it received nothing since.
    pub(super) fn error(&self) -> Option<String> {
        let state = self.state.lock();
        state.flood().or_else(|| state.error.clone())
    }

    fn notify(&self) {
        if let Some(changes) = &self.changes {
            changes.send_replace(());
        }
    }

    pub(super) fn what(&self) -> &str {
        &self.what
    }

    pub(super) fn report(&self) -> WatchReport {
        let state = self.state.lock();
        WatchReport {
            what: self.what.clone(),
            last_heard: state.last_heard.map(|at| at.elapsed()),
            error: state.flood().or_else(|| state.error.clone()),
            unreadable: state.unreadable.iter().cloned().collect(),
            restarts: state.restarts,
        }
    }

    pub(super) fn failed(&self, error: String) {
        let mut state = self.state.lock();
        let is_news = state.error.replace(error).is_none();
        state.restarts += 1;
        drop(state);
        if is_news {
            self.notify();
        }
    }

    /// It failed because too much was sent.
    pub(super) fn flooded(&self, error: String) {
        self.state.lock().flooded = Some((Instant::now(), error.clone()));
        self.failed(error);
    }

    /// Everything was listed: whatever was too much is not any more.
    pub(super) fn listed(&self) {
        self.state.lock().flooded = None;
    }

    /// Returns whether it was not known. Only the first of very many are named.
    pub(super) fn unreadable(&self, name: &str) -> bool {
        let mut state = self.state.lock();
        state.unreadable.len() < NAMED && state.unreadable.insert(name.chars().take(253).collect())
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
        let recovered = state.error.take().is_some();
        drop(state);
        if recovered {
            self.notify();
        }
    }

    /// One more page of a list is asked for, the first or a later one; whether the list may go on.
    fn page(&self, is_first: bool) -> bool {
        let mut state = self.state.lock();
        state.pages = if is_first { 1 } else { state.pages + 1 };
        state.pages <= PAGES
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

impl State {
    fn flood(&self) -> Option<String> {
        let (at, error) = self.flooded.as_ref()?;
        (at.elapsed() < FLOODED).then(|| error.clone())
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
    } else if !pulse.page(!request.uri().query().is_some_and(|query| query.contains("continue="))) {
        return Err(kube::Error::Service(format!("the list has more than {PAGES} pages").into()));
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
