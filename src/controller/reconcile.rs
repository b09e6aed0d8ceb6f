//! Reconciles workspaces: observe, decide, apply, report.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info_span, warn};

use domain::acceptance::Change;
use domain::diff::Keeper;
use domain::pod::PodEvent;
use k8s::convert;
use k8s::resources::Workspace;
use member::apply::{Patched, Writer};

use super::apply::{self, Outcome};
use super::backoff::Backoff;
use super::controller::Controller;
use super::decide::{
    Action, Decision, Denial, Note, Observed, Refusal, SecretsToDelete, decide, decide_orphans,
};
use super::error::Error;
use super::observe::{self, Seen};
use super::queue::Queue;
use super::recent_actions::REPEAT_AFTER;
use super::report;
use super::settings::Settings;

/// Retry delay after a write conflict. Usually the watch shows the other writer's change earlier, which queues the workspace.
const CONFLICT_WAIT: Duration = Duration::from_secs(2);

impl Controller {
    /// Reconciles until `shutdown`, and returns when running reconciles have ended, so that none continues in another term.
    /// The caller leads, `writer` may write, and the cache is synced. Must not be called twice at a time.
    pub async fn run(self: Arc<Self>, writer: Writer, shutdown: CancellationToken) {
        self.parts.writer.store(Arc::new(writer));
        let mut maintenance = self.parts.maintenance.subscribe();
        let mut running = JoinSet::new();
        self.queue.open();
        self.enqueue_all();
        loop {
            let may_start = running.len() < self.parts.settings.load().concurrency.max(1);
            tokio::select! {
                () = shutdown.cancelled() => break,
                Ok(()) = maintenance.changed() => self.enqueue_all(),
                Some(ended) = running.join_next(), if !running.is_empty() => {
                    if let Err(error) = ended {
                        error!(%error, "a reconcile panicked and is repeated");
                    }
                }
                (name, due) = self.queue.next(), if may_start => {
                    let span = info_span!("workspace", id = &*name);
                    running.spawn(self.clone().run_once(name, due).instrument(span));
                }
            }
        }
        self.queue.close();
        while running.join_next().await.is_some() {}
        self.backoff.clear();
        self.recent.clear();
        self.debounce.clear();
        self.obstacles.clear(&*self.parts.obstacles);
    }

    /// Reconciles one workspace within the deadline, and queues it for its next reconcile.
    async fn run_once(self: Arc<Self>, name: Arc<str>, due: Instant) {
        let guard = QueueGuard { queue: &self.queue, backoff: &self.backoff, name: &name };
        let deadline = self.parts.settings.load().pass_deadline;
        let ended = tokio::time::timeout(deadline, self.reconcile(&name, due)).await;
        let passed = match ended.unwrap_or(Err(Error::Deadline(deadline))) {
            Ok(passed) => {
                self.backoff.reset(&name);
                passed
            }
            Err(error) => {
                self.obstacles.failed(&name, &error, &*self.parts.obstacles);
                let wait = self.backoff.failed(&name);
                warn!(%error, ?wait, "reconcile failed");
                Passed::after(wait)
            }
        };
        if let Some(wait) = passed.wait {
            self.queue.add_after(&name, wait);
        }
        // The epilogue may overlap with the next reconcile.
        drop(guard);
        if let Some(epilogue) = passed.epilogue {
            self.end(epilogue).await;
        }
    }

    /// Observe, decide, apply, report.
    async fn reconcile(&self, name: &str, due: Instant) -> Result<Passed, Error> {
        let (settings, now) = (self.parts.settings.load_full(), Timestamp::now());
        let seen = observe::observe(&self.parts, name);
        let is_owned = |workspace: &&Arc<Workspace>| {
            convert::keeper(&workspace.metadata, &self.parts.installation) == Keeper::Us
        };
        let Some(workspace) = seen.workspace.as_ref().filter(is_owned) else {
            self.release_orphans(name, &seen).await?;
            return Ok(Passed::default());
        };
        let mut input = Input { seen: &seen, workspace, settings: &settings, now, pod_event: None };
        let mut decision = self.decide(&mut input).await;
        let applied = self.apply(&settings, workspace, &decision.actions).await?;
        if let Some(refusal) = applied.refusal {
            return self.report_refusal(&input, refusal).await;
        }
        if let Some(denial) = applied.denial {
            return self.report_denial(&input, denial).await;
        }
        if applied.is_stale {
            return Ok(Passed::after(CONFLICT_WAIT));
        }
        let next =
            decision.next_check.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        let next = next.into_iter().chain(applied.repeat_after).min();
        if decision.may_wait
            && !applied.is_pod_unseen
            && let Some(held) = self.debounce.status(name)
        {
            return Ok(Passed::after(next.map_or(held, |next| next.min(held))));
        }
        if !self.report(workspace, &decision).await? {
            return Ok(Passed::after(CONFLICT_WAIT));
        }
        if !decision.status.is_empty() {
            self.debounce.status_written(due);
        }
        let held_event = self.debounce.events(name, &mut decision.events);
        let wait = next.into_iter().chain(held_event).min();
        let is_quiet = decision.events.is_empty() && !decision.drop_secrets;
        let epilogue = (!is_quiet).then(|| Epilogue::of(workspace, &mut decision, now));
        Ok(Passed { wait, epilogue })
    }

    /// Decides; with the last event of the pod, if a first decision asks for it.
    async fn decide(&self, input: &mut Input<'_>) -> Decision {
        let decision = self.decide_on(&input.observed(), input.settings);
        let Some(query) = &decision.query else { return decision };
        input.pod_event = self.failure_events.find(&self.parts.writer.load_full(), query).await;
        if input.pod_event.is_some() { self.decide_on(&input.observed(), input.settings) } else { decision }
    }

    fn decide_on(&self, observed: &Observed<'_>, settings: &Settings) -> Decision {
        decide(observed, settings, &*self.parts.tokens)
    }

    /// Reports that the cluster rejects the pod, which is retried or fails the workspace.
    async fn report_refusal(&self, input: &Input<'_>, refusal: Refusal) -> Result<Passed, Error> {
        let observed = Observed { refusal: Some(&refusal), ..input.observed() };
        let mut decision = self.decide_on(&observed, input.settings);
        self.report(input.workspace, &decision).await?;
        if !refusal.is_final {
            return Err(Error::PodRejected(refusal.message));
        }
        let epilogue = Epilogue::of(input.workspace, &mut decision, input.now);
        Ok(Passed { wait: Some(Duration::ZERO), epilogue: Some(epilogue) })
    }

    /// Reports that the cluster refuses a write, with what else is new; the write is retried.
    async fn report_denial(&self, input: &Input<'_>, denial: Denial) -> Result<Passed, Error> {
        let observed = Observed { denial: Some(&denial), ..input.observed() };
        let mut decision = self.decide_on(&observed, input.settings);
        if !self.report(input.workspace, &decision).await? {
            return Ok(Passed::after(CONFLICT_WAIT));
        }
        self.end(Epilogue::of(input.workspace, &mut decision, input.now)).await;
        Err(Error::Denied(denial.message))
    }

    async fn apply(
        &self,
        settings: &Settings,
        workspace: &Workspace,
        actions: &[Action],
    ) -> Result<Applied, Error> {
        let mut applied = Applied::default();
        for action in actions {
            if self.recent.contains(workspace, action) {
                applied.repeat_after = Some(REPEAT_AFTER);
                applied.is_pod_unseen |= matches!(action, Action::CreatePod(_));
                continue;
            }
            let failures = self.backoff.failures(workspace.metadata.name.as_deref().unwrap_or_default());
            match apply::apply(&self.parts, settings, workspace, action, failures).await? {
                Outcome::Done => self.recent.add(workspace, action),
                Outcome::Stale => {
                    applied.is_stale = true;
                    break;
                }
                Outcome::Refused(refusal) => {
                    applied.refusal = Some(refusal);
                    break;
                }
                Outcome::Denied(denial) => {
                    applied.denial = Some(denial);
                    break;
                }
            }
        }
        Ok(applied)
    }

    /// Writes the status update; `false` on a conflict with another writer.
    async fn report(&self, workspace: &Workspace, decision: &Decision) -> Result<bool, Error> {
        let name = workspace.metadata.name.as_deref().unwrap_or_default();
        if !decision.status.is_empty() {
            let written = report::status(&self.parts.writer.load_full(), workspace, &decision.status).await;
            self.parts.acceptance.changed(Change::Status, name, written.as_ref());
            if let Err(error) = &written {
                self.note_unwritten(workspace, error).await;
            }
            match written? {
                Patched::Done(written) => {
                    self.parts.cache.offer(written);
                }
                Patched::NotFound => debug!("the workspace was deleted while its status was written"),
                Patched::Conflict => return Ok(false),
            }
        }
        self.debounce.status_is_current(name);
        self.obstacles.over(name, &*self.parts.obstacles);
        Ok(true)
    }

    /// Writes an event for a status that the cluster refuses, once: the status itself cannot say so.
    async fn note_unwritten(&self, workspace: &Workspace, error: &member::Error) {
        let name = workspace.metadata.name.as_deref().unwrap_or_default();
        if self.backoff.failures(name) == 0 && apply::is_denial(error, 0) {
            let message = format!("the cluster refuses to write its status: {}", error.cause());
            let note = Note { reason: "StatusNotWritten", warning: true, message, passing: false };
            report::events(&self.parts.writer.load_full(), workspace, &[note], Timestamp::now()).await;
        }
    }

    /// Writes events, and deletes the Secrets of a workspace that runs and no longer needs them. Failures are only logged.
    async fn end(&self, epilogue: Epilogue) {
        let Epilogue { workspace, events, drop_secrets, now } = epilogue;
        let writer = &*self.parts.writer.load_full();
        report::events(writer, &workspace, &events, now).await;
        if drop_secrets {
            let (settings, secrets) = (self.parts.settings.load(), SecretsToDelete::of(&workspace));
            if let Err(error) = apply::delete_secrets(writer, &settings, &workspace, secrets).await {
                warn!(%error, "failed to delete the workspace's Secrets; they are deleted when it ends");
            }
        }
    }

    /// Removes the finalizer from terminating pods of a workspace that is gone.
    async fn release_orphans(&self, name: &str, seen: &Seen) -> Result<(), Error> {
        if seen.workspace.is_some() {
            return Ok(());
        }
        self.backoff.reset(name);
        self.recent.forget(name);
        self.debounce.forget(name);
        self.obstacles.over(name, &*self.parts.obstacles);
        for action in decide_orphans(&seen.pods) {
            if let Action::ReleasePod { name, uid } = &action {
                self.parts.writer.load_full().remove_pod_finalizer(name, uid).await?;
            }
        }
        Ok(())
    }
}

/// What one reconcile decides on.
struct Input<'a> {
    seen: &'a Seen,
    workspace: &'a Arc<Workspace>,
    settings: &'a Settings,
    now: Timestamp,
    /// The last event of the pod, once it was read.
    pod_event: Option<PodEvent>,
}

impl Input<'_> {
    fn observed(&self) -> Observed<'_> {
        let pod_event = self.pod_event.as_ref();
        Observed { pod_event, ..self.seen.observed(self.workspace, self.now) }
    }
}

/// Result of a reconcile that succeeded.
#[derive(Default)]
struct Passed {
    /// Delay of the next reconcile if nothing changes.
    wait: Option<Duration>,
    epilogue: Option<Epilogue>,
}

impl Passed {
    fn after(wait: Duration) -> Self {
        Self { wait: Some(wait), epilogue: None }
    }
}

/// Work that is left when the next reconcile may begin.
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

/// Result of the actions of a reconcile.
#[derive(Default)]
struct Applied {
    refusal: Option<Refusal>,
    denial: Option<Denial>,
    is_stale: bool,
    /// Whether the pod was created a moment ago, and the watch has not shown it yet.
    is_pod_unseen: bool,
    /// When to check that the watch shows the effect of a recent action.
    repeat_after: Option<Duration>,
}

/// Ends the work on a key of the queue when dropped. After a panic the key is queued again, as after a failure.
struct QueueGuard<'a> {
    queue: &'a Queue,
    backoff: &'a Backoff,
    name: &'a str,
}

impl Drop for QueueGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.queue.add_after(self.name, self.backoff.failed(self.name));
        }
        self.queue.done(self.name);
    }
}
