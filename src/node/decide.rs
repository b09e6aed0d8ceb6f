//! Pure: what a workspace needs next, from its resource, the state on disk and the time.
//!
//! The state on disk decides what is done; the conditions only report it. So after a restart nothing is done twice, and what was done
//! and not written is written. `docs/content.md` has the table of phases.

mod container;
mod report;
#[cfg(test)]
mod tests;

use std::path::Path;

use domain::workspace::{Kind, Phase};
use jiff::Timestamp;
use k8s::resources::conditions::{
    ABORTED, BACKUP_COMPLETE, BACKUP_FAILURE, CONTENT_READY, EVER_READY, FORCE_KILLED_TASK, POD_REJECTED,
    STATE_WIPED, WORKSPACE_CONTAINER_RUNNING,
};
use k8s::resources::{Workspace, WorkspaceStatus};

use crate::state::{Known, Stage, State};
use container::Container;
pub use report::{Report, Update, report};

/// What is known of a workspace.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The resource.
    pub workspace: &'a Workspace,
    /// The resource is gone; `workspace` is its last state.
    pub is_deleted: bool,
    /// This node.
    pub node: &'a str,
    /// The state on disk.
    pub known: &'a Known,
    /// Where the content is, or would be.
    pub folder: &'a Path,
    /// Name of the snapshot that a prebuild will leave.
    pub snapshot: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Nothing until the resource changes.
    Nothing,
    /// Decide again then.
    WaitUntil(Timestamp),
    /// Write this to the status.
    Write(Box<Report>),
    /// Find out whether the pod is gone, because nobody writes its conditions any more, and decide again with them as they are.
    AskPod,
    /// Kill the container, then write the condition `ForceKilledTask`.
    ForceKill,
    /// Run this.
    Run(Operation),
}

/// Work on the content of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Makes the content.
    Initialise,
    /// Backs it up, and puts the folder where it stays.
    BackUp,
    /// Deletes it without a backup.
    Wipe,
}

impl Operation {
    /// The value of label `kind`, also for logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initialise => "initialize",
            Self::BackUp => "backup",
            Self::Wipe => "wipe",
        }
    }

    /// Whether it may send an archive.
    pub const fn uploads(self) -> bool {
        matches!(self, Self::BackUp)
    }
}

/// Decides.
pub fn decide(facts: &Facts<'_>) -> Next {
    let fallback = WorkspaceStatus::default();
    let status = facts.workspace.status.as_ref().unwrap_or(&fallback);
    let here = status.runtime.as_ref().and_then(|runtime| runtime.node_name.as_deref());
    if here != Some(facts.node) {
        return Next::Nothing;
    }
    let attempt = status.pod_recreated.unwrap_or(0);
    let stage = match facts.known {
        Known::Nothing => Seen::Nothing,
        Known::Broken(problem) => Seen::Broken(problem),
        // The status is older than what is on the disk.
        Known::State(state) if state.origin.attempt > attempt => return Next::Nothing,
        // The pod was refused, so nobody has used that content. The next one begins anew.
        Known::State(state) if state.origin.attempt < attempt => Seen::Nothing,
        Known::State(state) => Seen::State(state),
    };
    let case = Case { facts, status, attempt, seen: stage };
    if facts.is_deleted {
        return case.deleted();
    }
    match status.phase {
        Phase::Creating | Phase::Initializing => case.starting(),
        Phase::Running => case.running(),
        Phase::Stopping => case.stopping(),
        Phase::Stopped => case.unwanted().unwrap_or_else(|| case.go_on()),
        Phase::Unknown | Phase::Pending | Phase::Imagebuild => Next::Nothing,
    }
}

/// The state on disk of the current attempt.
#[derive(Clone, Copy)]
enum Seen<'a> {
    Nothing,
    Broken(&'a str),
    State(&'a State),
}

impl<'a> Seen<'a> {
    fn stage(self) -> Option<&'a Stage> {
        match self {
            Self::State(state) => Some(&state.stage),
            Self::Nothing | Self::Broken(_) => None,
        }
    }
}

fn written(report: Report) -> Next {
    Next::Write(Box::new(report))
}

struct Case<'a> {
    facts: &'a Facts<'a>,
    status: &'a WorkspaceStatus,
    attempt: i32,
    seen: Seen<'a>,
}

impl Case<'_> {
    fn has(&self, condition: &str) -> bool {
        self.status.condition(condition).is_some()
    }

    fn is(&self, condition: &str) -> bool {
        self.status.is_true(condition)
    }

    /// What the state on disk says, if it says anything.
    fn tell(&self) -> Next {
        match self.seen {
            Seen::State(state) => report(state).map_or(Next::Nothing, written),
            Seen::Nothing | Seen::Broken(_) => Next::Nothing,
        }
    }

    fn starting(&self) -> Next {
        // A workspace that was ever ready has content of a user.
        if self.has(CONTENT_READY) || self.is(EVER_READY) {
            return Next::Nothing;
        }
        match self.seen {
            Seen::Nothing => Next::Run(Operation::Initialise),
            Seen::Broken(problem) => written(Report::not_initialised(self.attempt, problem)),
            Seen::State(state) => match state.stage {
                Stage::Initialising | Stage::Filled => Next::Run(Operation::Initialise),
                Stage::Ready | Stage::NotInitialised { .. } => self.tell(),
                // The phase is older than what is on the disk.
                _ => Next::Nothing,
            },
        }
    }

    fn running(&self) -> Next {
        match self.seen.stage() {
            Some(Stage::Ready) if !self.has(CONTENT_READY) => self.tell(),
            _ => Next::Nothing,
        }
    }

    fn stopping(&self) -> Next {
        if let Some(next) = self.unwanted() {
            return next;
        }
        if self.is(BACKUP_COMPLETE) || self.is(BACKUP_FAILURE) {
            return self.go_on();
        }
        if !self.is(CONTENT_READY) {
            return self.never_ready();
        }
        match self.seen {
            Seen::State(state) => self.back_up(state),
            // That a folder exists proves nothing: the kubelet makes empty ones, and an earlier content may be in it.
            Seen::Nothing => self.when_gone(|| self.unknown("it has no state file")),
            Seen::Broken(problem) => self.when_gone(|| self.unknown(problem)),
        }
    }

    /// What is deleted without a backup; `None` if the content is wanted.
    fn unwanted(&self) -> Option<Next> {
        let is_rejected = self.is(POD_REJECTED);
        if !is_rejected && !self.is(ABORTED) && self.facts.workspace.spec.type_ != Kind::ImageBuild {
            return None;
        }
        if self.has(STATE_WIPED) {
            return Some(Next::Nothing);
        }
        Some(match self.seen {
            Seen::Broken(problem) if is_rejected => written(Report::not_wiped(self.attempt, problem)),
            Seen::State(State { stage: Stage::Wiped | Stage::NotWiped { .. }, .. }) if is_rejected => {
                self.tell()
            }
            // Its backup is proven, or it failed, and the folder that was reported is the only copy.
            Seen::State(State { stage: Stage::BackedUp(_) | Stage::BackupFailed { .. }, .. })
                if !is_rejected =>
            {
                Next::Nothing
            }
            Seen::Broken(_) | Seen::State(State { stage: Stage::Wiped | Stage::NotWiped { .. }, .. }) => {
                Next::Nothing
            }
            Seen::Nothing | Seen::State(_) => self.when_gone(|| Next::Run(Operation::Wipe)),
        })
    }

    /// A workspace that ends before its content was reported as ready.
    fn never_ready(&self) -> Next {
        match self.seen.stage() {
            // Its programs may have seen the content, so it is reported, and then backed up.
            Some(Stage::Filled) => Next::Run(Operation::Initialise),
            Some(Stage::Ready | Stage::NotInitialised { .. }) if !self.has(CONTENT_READY) => self.tell(),
            Some(Stage::Initialising) => self.when_gone(|| Next::Run(Operation::Wipe)),
            _ => Next::Nothing,
        }
    }

    fn back_up(&self, state: &State) -> Next {
        match &state.stage {
            Stage::Ready | Stage::Filled => self.when_gone(|| self.run_backup()),
            Stage::BackingUp(pending) => match pending.next_try {
                Some(at) if at > self.facts.now => Next::WaitUntil(at),
                _ => self.when_gone(|| self.run_backup()),
            },
            Stage::BackedUp(done) if !done.settled => Next::Run(Operation::BackUp),
            Stage::BackedUp(_) | Stage::BackupFailed { .. } => self.tell(),
            Stage::Initialising | Stage::NotInitialised { .. } => {
                self.lost("its state file says that its content was never complete")
            }
            Stage::Wiping | Stage::Wiped | Stage::NotWiped { .. } => self.lost("its content was deleted"),
        }
    }

    /// A backup that cannot be made.
    fn lost(&self, why: &str) -> Next {
        written(Report::not_backed_up(self.attempt, why))
    }

    /// Content of which nobody knows whose it is and whether it is complete: as a backup it could replace the last good one.
    fn unknown(&self, why: &str) -> Next {
        let (folder, node) = (self.facts.folder.display(), self.facts.node);
        self.lost(&format!(
            "nobody knows whose content is in {folder} on node {node}, so none is backed up: {why} (fault of the platform); \
             look into the folder, and save what is of use before you remove it"
        ))
    }

    /// The name of a prebuild's result is in the status before it is in the store.
    fn run_backup(&self) -> Next {
        let named = self.status.snapshot.as_deref();
        let is_told = self.facts.workspace.spec.type_ == Kind::Prebuild && !self.facts.is_deleted;
        match self.facts.snapshot.filter(|_| is_told) {
            Some(name) if named != Some(name) => written(Report::snapshot(self.attempt, name)),
            _ => Next::Run(Operation::BackUp),
        }
    }

    /// After a report, or when nobody waits for one: the controller may have given up, and the resource may be gone. What a user made
    /// is backed up all the same, and the folder goes where it stays. What the status says then remains.
    fn go_on(&self) -> Next {
        match self.seen {
            Seen::State(state) => match &state.stage {
                Stage::Filled | Stage::Ready | Stage::BackingUp(_)
                    if self.is(CONTENT_READY) && !self.is(BACKUP_COMPLETE) =>
                {
                    self.back_up(state)
                }
                Stage::BackedUp(done) if !done.settled => Next::Run(Operation::BackUp),
                _ => Next::Nothing,
            },
            Seen::Nothing | Seen::Broken(_) => Next::Nothing,
        }
    }

    /// The resource is gone; its last state is known.
    fn deleted(&self) -> Next {
        let was_used = self.has(CONTENT_READY) || self.is(EVER_READY);
        // Its finalizer was removed.
        let may_change = self.is(WORKSPACE_CONTAINER_RUNNING) && !self.is(FORCE_KILLED_TASK);
        match self.seen.stage() {
            Some(Stage::Initialising | Stage::Wiping) => Next::Run(Operation::Wipe),
            Some(Stage::Filled | Stage::Ready) if !was_used => Next::Run(Operation::Wipe),
            Some(Stage::Filled | Stage::Ready | Stage::BackingUp(_)) => match self.unwanted() {
                Some(Next::Run(operation)) => Next::Run(operation),
                Some(_) => Next::Nothing,
                None if may_change && self.go_on() != Next::Nothing => Next::AskPod,
                None => self.go_on(),
            },
            _ => self.go_on(),
        }
    }

    /// Once no container can change the content any more.
    fn when_gone(&self, next: impl FnOnce() -> Next) -> Next {
        match Container::of(self.status, self.facts.is_deleted, self.facts.now) {
            Container::Gone => next(),
            Container::Running(Some(until)) => Next::WaitUntil(until),
            Container::Running(None) => Next::Nothing,
            Container::Stuck => Next::ForceKill,
        }
    }
}
