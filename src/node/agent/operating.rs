//! One operation of a workspace: it runs to its end, says in the status what it does if that takes long, and is logged and counted.

use std::time::Duration;

use k8s::resources::{Workspace, conditions};
use kube::ResourceExt as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::metrics::Running;
use super::slots::Slot;
use super::work::{Known, Work};
use super::{progress, snapshot};
use crate::decide::{Operation, Report, Update};
use crate::helper::Progress;
use crate::operations;

/// How an operation ended. What is to be written comes as the next step of its workspace.
pub enum Outcome {
    /// Well, or with a failure that the state on disk records.
    Ended,
    /// The node cannot carry it out now.
    Impossible,
}

/// The workspace of an operation.
pub struct Operating<'a> {
    pub work: &'a Work,
    pub known: &'a watch::Receiver<Known>,
    pub workspace: &'a Workspace,
    /// The resource does not exist any more.
    pub is_deleted: bool,
}

impl Operating<'_> {
    /// Runs an operation, and gives the slot back after it.
    pub async fn run(&self, operation: Operation, slot: Slot) -> Outcome {
        if operation.uploads() {
            self.work.meters.waited(slot.waited);
        }
        let (instance, kind, began) = (self.workspace.name_any(), operation.name(), Instant::now());
        let running = self.work.meters.begin(kind);
        debug!(instance, kind, "an operation begins");
        let outcome = self.run_to_its_end(operation).await;
        let took = began.elapsed();
        drop(slot);
        if let (Operation::BackUp, Ok(None)) = (operation, &outcome) {
            self.say_problem().await;
        }
        self.ended(operation, took, outcome, running)
    }

    async fn run_to_its_end(&self, operation: Operation) -> Result<Option<Report>, operations::Error> {
        let (sender, receiver) = watch::channel(Progress::default());
        let run = self.work.operations.run(operation, self.workspace, &sender);
        let says = !self.is_deleted && operation != Operation::Wipe;
        let refuses = operation != Operation::Initialise;
        tokio::select! {
            biased;
            outcome = run => outcome,
            never = progress::follow(self.work, self.workspace, receiver), if says => match never {},
            never = snapshot::refuse_all(self.work, self.known.clone()), if refuses => match never {},
        }
    }

    /// Says why a backup is tried again: until it succeeds or failed for good, no other condition does.
    async fn say_problem(&self) {
        if self.is_deleted {
            return;
        }
        if let Some(problem) = self.work.operations.backup_problem(self.workspace).await {
            let text = format!("the backup failed and is tried again: {problem}");
            progress::say(self.work, self.workspace, &text).await;
        }
    }

    /// Logs and counts the end.
    fn ended(
        &self,
        operation: Operation,
        took: Duration,
        outcome: Result<Option<Report>, operations::Error>,
        running: Running,
    ) -> Outcome {
        let (instance, kind, seconds) = (self.workspace.name_any(), operation.name(), took.as_secs_f64());
        let (type_, class) = (format!("{:?}", self.workspace.spec.type_), &self.workspace.spec.class);
        match operation {
            Operation::Initialise => self.work.meters.initialized(&type_, class, took),
            Operation::BackUp => self.work.meters.finalized(&type_, class, took),
            Operation::Wipe => {}
        }
        let report = match outcome {
            Ok(report) => report,
            Err(error) => {
                error!(instance, kind, %error, "the node cannot carry out an operation; trying again");
                return Outcome::Impossible;
            }
        };
        match report.as_ref().map(failure) {
            None => warn!(instance, kind, seconds, "an operation is to be repeated"),
            Some(Some(reason)) => warn!(instance, kind, seconds, reason, "an operation failed"),
            Some(None) => {
                running.done();
                info!(instance, kind, seconds, "an operation is done");
            }
        }
        Outcome::Ended
    }
}

/// Why the operation failed that a report is about.
fn failure(report: &Report) -> Option<&str> {
    let is_failure = |update: &&Update| match update.kind {
        conditions::BACKUP_FAILURE => update.is_true,
        conditions::CONTENT_READY | conditions::STATE_WIPED => !update.is_true,
        _ => false,
    };
    report.conditions.iter().find(is_failure).map(|update| update.message.as_str())
}
