//! The controller of one namespace of one cluster: makes pods of workspaces, and tells what becomes of them.
//!
//! A pass over a workspace is four steps: *observe* (what is in memory), *decide* (pure, [`decide`]), *apply* (IO) and
//! *report* (IO: one status patch; and when the workspace is free again, events). Passes are made when something changed, and at the one moment that the
//! last pass named; nothing is polled. Two passes over one workspace are never made at a time.
//!
//! Guarantees: a second pod is never made while a first may exist, because its name is the workspace's and it is made
//! only while the status counts none; a status is written only for the version that was decided on, with all of its
//! conditions, so that nothing of another writer is lost.

mod apply;
mod decide;
mod evidence;
mod memo;
mod observe;
mod observer;
mod pace;
mod pod;
mod queue;
mod report;
mod settings;
mod templates;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info_span, warn};

use domain::diff::Keeper;
use k8s::convert;
use k8s::resources::Workspace;
use member::acceptance::Acceptance;
use member::apply::{Patched, Writer};
use member::cache::{Capacity, NamespaceCache, NodeCache};
use member::maintenance::Maintenance;

use apply::Outcome;
use decide::{Action, Decision, Note, Observed, Refusal, SecretsToDelete, decide, decide_orphans};
use evidence::Evidence;
use memo::{HOLD, Memos, REPEAT_AFTER, WORTH_TELLING};
use observe::Seen;
use pace::Pace;
use queue::Queue;

pub use pod::{CONTAINER, planned as planned_pod, problems as pod_problems, sample, sample_workspace, shape};
pub use settings::{ClassSettings, OwnerTokens, Recreation, Settings, Timeouts};
pub use templates::{PodTemplates, TemplateError, TemplateFolder, parse_template};

/// Why a pass did not come to its end. It is made again after a wait that grows.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] member::Error),
    /// A pod of this name was there, and went before it was known whose.
    #[error("a pod {pod} existed a moment ago")]
    NameTaken {
        /// Its name.
        pod: String,
    },
    /// The cluster does not take the pod for now.
    #[error("the cluster does not take the pod: {0}")]
    NotTaken(String),
    /// The pass took too long.
    #[error("the pass was not over after {0:?}")]
    Deadline(Duration),
}

/// A status that was not taken because another writer was first: its change must be seen, and is a reason to look.
/// Only if it is not seen for this long, look anyway.
const CONFLICT_WAIT: Duration = Duration::from_secs(2);

/// What a controller works with.
pub struct Parts {
    /// Workspaces and pods of the namespace.
    pub cache: Arc<NamespaceCache>,
    /// Nodes of the cluster.
    pub nodes: Arc<NodeCache>,
    /// Maintenance of the namespace.
    pub maintenance: Arc<Maintenance>,
    /// Learns which pods the namespace accepts.
    pub acceptance: Arc<Acceptance>,
    /// Learns what admitted pods request.
    pub capacity: Arc<Capacity>,
    /// Writes to the namespace in the present leadership; changed only while the controller does not run.
    pub writer: ArcSwap<Writer>,
    /// What the configuration says.
    pub settings: Arc<ArcSwap<Settings>>,
    /// Gives owner tokens.
    pub tokens: Arc<dyn OwnerTokens>,
    /// This installation's id: workspaces of others are left alone.
    pub installation: Arc<str>,
}

/// The controller of one namespace.
pub struct Controller {
    parts: Parts,
    queue: Queue,
    memos: Memos,
    pace: Pace,
    evidence: Evidence,
}

impl Controller {
    /// A controller that does nothing until [`Controller::run`].
    pub fn new(parts: Parts) -> Self {
        let (queue, memos, pace) = (Queue::default(), Memos::default(), Pace::default());
        Self { parts, queue, memos, pace, evidence: Evidence::default() }
    }

    /// A workspace or its pod changed. Cheap; ignored unless the controller runs.
    pub fn enqueue(&self, name: &str) {
        self.queue.add(name);
    }

    /// Workspaces that could not be brought on, several times in a row.
    pub fn failing(&self) -> usize {
        self.memos.failing()
    }

    /// Workspaces whose turn has come.
    pub fn waiting(&self) -> usize {
        self.queue.due()
    }

    /// Everything may have changed, as settings do.
    pub fn enqueue_all(&self) {
        for name in self.parts.cache.names() {
            self.queue.add(&name);
        }
    }

    /// Works until `shutdown`, and ends when the passes under way have ended, so that none goes on in another leadership.
    /// To be called when this process leads, `writer` may write, and the cache is complete; never twice at a time.
    pub async fn run(self: Arc<Self>, writer: Writer, shutdown: CancellationToken) {
        self.parts.writer.store(Arc::new(writer));
        let mut maintenance = self.parts.maintenance.subscribe();
        let mut passes = JoinSet::new();
        self.queue.open();
        self.enqueue_all();
        loop {
            let room = passes.len() < self.parts.settings.load().concurrency.max(1);
            tokio::select! {
                () = shutdown.cancelled() => break,
                Ok(()) = maintenance.changed() => self.enqueue_all(),
                Some(ended) = passes.join_next(), if !passes.is_empty() => {
                    if let Err(error) = ended {
                        error!(%error, "a reconcile panicked and is repeated");
                    }
                }
                (name, due) = self.queue.next(), if room => {
                    let span = info_span!("workspace", id = &*name);
                    passes.spawn(self.clone().pass(name, due).instrument(span));
                }
            }
        }
        self.queue.close();
        while passes.join_next().await.is_some() {}
        self.memos.clear();
    }

    /// One pass with its deadline, and when the next one is due.
    async fn pass(self: Arc<Self>, name: Arc<str>, due: Instant) {
        let given_back = GiveBack { queue: &self.queue, memos: &self.memos, name: &name };
        let deadline = self.parts.settings.load().pass_deadline;
        let ended = tokio::time::timeout(deadline, self.reconcile(&name, due)).await;
        let passed = match ended.unwrap_or(Err(Error::Deadline(deadline))) {
            Ok(passed) => {
                self.memos.succeeded(&name);
                passed
            }
            Err(error) => {
                let wait = self.memos.failed(&name);
                warn!(%error, ?wait, "a pass failed");
                Passed::look_after(wait)
            }
        };
        if let Some(wait) = passed.wait {
            self.queue.add_after(&name, wait);
        }
        // Nothing waits for what is left.
        drop(given_back);
        if let Some(epilogue) = passed.epilogue {
            self.end(epilogue).await;
        }
    }

    /// Observe, decide, apply, report.
    async fn reconcile(&self, name: &str, due: Instant) -> Result<Passed, Error> {
        let (settings, now) = (self.parts.settings.load_full(), Timestamp::now());
        let seen = observe::observe(&self.parts, name);
        let is_ours = |workspace: &&Arc<Workspace>| {
            convert::keeper(&workspace.metadata, &self.parts.installation) == Keeper::Us
        };
        let Some(workspace) = seen.workspace.as_ref().filter(is_ours) else {
            self.release_orphans(name, &seen).await?;
            return Ok(Passed::default());
        };
        let mut decision = decide(&seen.observed(workspace, now, None), &settings, &*self.parts.tokens);
        if let Some(query) = &decision.query
            && let Some(event) = self.evidence.find(&self.parts.writer.load_full(), query).await
        {
            let observed = Observed { pod_event: Some(&event), ..seen.observed(workspace, now, None) };
            decision = decide(&observed, &settings, &*self.parts.tokens);
        }
        let mut applied = self.apply(&settings, workspace, &decision.actions).await?;
        if let Some(refusal) = applied.refusal.take() {
            let observed = seen.observed(workspace, now, Some(&refusal));
            decision = decide(&observed, &settings, &*self.parts.tokens);
            self.report(workspace, &decision).await?;
            if !refusal.is_final {
                return Err(Error::NotTaken(refusal.message));
            }
            let (wait, epilogue) = (Some(Duration::ZERO), Some(Epilogue::of(workspace, &mut decision, now)));
            return Ok(Passed { wait, epilogue });
        }
        if applied.is_stale {
            return Ok(Passed::look_after(CONFLICT_WAIT));
        }
        let next =
            decision.look_again.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        let next = next.into_iter().chain(applied.repeat_after).min();
        if decision.may_wait
            && !applied.is_pod_unseen
            && let Some(held) = self.memos.hold(name, self.pace.patience(HOLD))
        {
            return Ok(Passed::look_after(next.map_or(held, |next| next.min(held))));
        }
        if !self.report(workspace, &decision).await? {
            return Ok(Passed::look_after(CONFLICT_WAIT));
        }
        if !decision.status.is_empty() {
            self.pace.note(due.elapsed());
        }
        let untold = self.memos.sift(name, &mut decision.events, self.pace.patience(WORTH_TELLING));
        let wait = next.into_iter().chain(untold).min();
        let is_quiet = decision.events.is_empty() && !decision.drop_secrets;
        let epilogue = (!is_quiet).then(|| Epilogue::of(workspace, &mut decision, now));
        Ok(Passed { wait, epilogue })
    }

    async fn apply(
        &self,
        settings: &Settings,
        workspace: &Workspace,
        actions: &[Action],
    ) -> Result<Applied, Error> {
        let mut applied = Applied::default();
        for action in actions {
            if self.memos.was_just_done(workspace, action) {
                applied.repeat_after = Some(REPEAT_AFTER);
                applied.is_pod_unseen |= matches!(action, Action::CreatePod(_));
                continue;
            }
            match apply::apply(&self.parts, settings, workspace, action).await? {
                Outcome::Done => self.memos.note_done(workspace, action),
                Outcome::Stale => {
                    applied.is_stale = true;
                    break;
                }
                Outcome::Refused(refusal) => {
                    applied.refusal = Some(refusal);
                    break;
                }
            }
        }
        Ok(applied)
    }

    /// Writes what was decided; `false` where another writer was first.
    async fn report(&self, workspace: &Workspace, decision: &Decision) -> Result<bool, Error> {
        if !decision.status.is_empty() {
            match report::status(&self.parts.writer.load_full(), workspace, &decision.status).await? {
                Patched::Done(written) => {
                    self.parts.cache.offer(written);
                }
                Patched::NotFound => debug!("the workspace went while its status was written"),
                Patched::Conflict => return Ok(false),
            }
        }
        self.memos.written(workspace.metadata.name.as_deref().unwrap_or_default());
        Ok(true)
    }

    /// What nothing waits for: events, and secrets that a workspace that runs needs no more.
    async fn end(&self, epilogue: Epilogue) {
        let Epilogue { workspace, events, drop_secrets, now } = epilogue;
        let writer = &*self.parts.writer.load_full();
        report::events(writer, &workspace, &events, now).await;
        if drop_secrets {
            let (settings, secrets) = (self.parts.settings.load(), SecretsToDelete::of(&workspace));
            if let Err(error) = apply::delete_secrets(writer, &settings, &workspace, secrets).await {
                warn!(%error, "secrets stay until the workspace ends");
            }
        }
    }

    /// Pods of a workspace that is gone can only be released.
    async fn release_orphans(&self, name: &str, seen: &Seen) -> Result<(), Error> {
        if seen.workspace.is_some() {
            return Ok(());
        }
        self.memos.forget(name);
        for action in decide_orphans(&seen.pods) {
            if let Action::ReleasePod { name, uid } = &action {
                self.parts.writer.load_full().remove_pod_finalizer(name, uid).await?;
            }
        }
        Ok(())
    }
}

/// What came of a pass.
#[derive(Default)]
struct Passed {
    /// How long to wait before looking again, if nothing changes.
    wait: Option<Duration>,
    epilogue: Option<Epilogue>,
}

impl Passed {
    fn look_after(wait: Duration) -> Self {
        Self { wait: Some(wait), epilogue: None }
    }
}

/// What is left to do when the next pass may begin.
struct Epilogue {
    workspace: Arc<Workspace>,
    events: Vec<Note>,
    drop_secrets: bool,
    now: Timestamp,
}

impl Epilogue {
    fn of(workspace: &Arc<Workspace>, decision: &mut Decision, now: Timestamp) -> Self {
        let events = std::mem::take(&mut decision.events);
        Self { workspace: Arc::clone(workspace), events, drop_secrets: decision.drop_secrets, now }
    }
}

/// What came of the actions of a pass.
#[derive(Default)]
struct Applied {
    refusal: Option<Refusal>,
    is_stale: bool,
    /// Whether the pod was made before, and is not seen.
    is_pod_unseen: bool,
    /// When to look whether something that was just done has shown.
    repeat_after: Option<Duration>,
}

/// Gives a key back to the queue, whatever ends the pass. One that panicked is made again, as one that failed.
struct GiveBack<'a> {
    queue: &'a Queue,
    memos: &'a Memos,
    name: &'a str,
}

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.queue.add_after(self.name, self.memos.failed(self.name));
        }
        self.queue.done(self.name);
    }
}
