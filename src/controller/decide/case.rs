//! Observed inputs of one reconcile, and predicates over them.

use jiff::{SignedDuration, Timestamp};

use crate::pod::{self, CONTAINER};
use crate::settings::Settings;
use domain::pod::{ContainerFacts, ContainerState, EventQuery, PodFacts, PodPhase};
use domain::workspace::{Kind, Phase};
use k8s::resources::conditions::{self, reason};
use k8s::resources::{Workspace, WorkspaceStatus};

use super::deadline::has_passed;
use super::observed::Observed;
use super::phase::{Facts, PodState};
use super::predicates::{is_doomed, is_finished, is_refused};
use super::start_problem::{self, StartProblem};

/// How long the pod watch may lag behind the creation of a pod before the pod counts as vanished.
pub(super) const POD_LAG: SignedDuration = SignedDuration::from_secs(10);

/// A workspace with its pods split by owner. Immutable during a reconcile.
pub(super) struct Case<'a> {
    pub observed: &'a Observed<'a>,
    pub settings: &'a Settings,
    pub workspace: &'a Workspace,
    pub now: Timestamp,
    /// Pods that this resource owns, by uid.
    pub own: Vec<&'a PodFacts>,
    /// The one with the expected name, or else the first.
    pub pod: Option<&'a PodFacts>,
    /// Pods of an earlier workspace of the same name.
    pub foreign: Vec<&'a PodFacts>,
    empty: WorkspaceStatus,
}

impl<'a> Case<'a> {
    pub fn of(observed: &'a Observed<'a>, settings: &'a Settings) -> Self {
        let workspace = observed.workspace;
        let uid = workspace.metadata.uid.as_deref().unwrap_or_default();
        let pods = observed.pods.iter().map(AsRef::as_ref);
        let (own, foreign): (Vec<&PodFacts>, Vec<&PodFacts>) = pods.partition(|pod| pod.workspace_uid == uid);
        let name = pod::name(workspace.spec.type_, workspace.metadata.name.as_deref().unwrap_or_default());
        let pod = own.iter().find(|pod| pod.name == name).or(own.first()).copied();
        let empty = WorkspaceStatus::default();
        Self { observed, settings, workspace, now: observed.now, own, pod, foreign, empty }
    }

    pub fn id(&self) -> &str {
        self.workspace.metadata.name.as_deref().unwrap_or_default()
    }

    /// The observed status.
    pub fn status(&self) -> &WorkspaceStatus {
        self.workspace.status.as_ref().unwrap_or(&self.empty)
    }

    /// The observed phase.
    pub fn phase(&self) -> Phase {
        self.status().phase
    }

    pub fn created_at(&self) -> Timestamp {
        self.workspace.metadata.creation_timestamp.as_ref().map_or(self.now, |time| time.0)
    }

    pub fn deleting_since(&self) -> Option<Timestamp> {
        self.workspace.metadata.deletion_timestamp.as_ref().map(|time| time.0)
    }

    pub fn is_headless(&self) -> bool {
        self.workspace.spec.type_ != Kind::Regular
    }

    pub fn in_maintenance(&self) -> bool {
        self.observed.maintenance_until.is_some_and(|until| self.now < until)
    }

    /// Postpones a time to the end of maintenance.
    pub fn suspended(&self, at: Timestamp) -> Timestamp {
        match self.observed.maintenance_until {
            Some(until) if self.in_maintenance() => until.max(self.now),
            _ => at,
        }
    }

    pub fn has_several_pods(&self) -> bool {
        self.own.len() > 1
    }

    /// Whether a pod was created in this attempt.
    pub fn was_made(&self) -> bool {
        let status = self.status();
        status.pod_starts > status.pod_recreated.unwrap_or_default()
    }

    /// Whether a pod must be created; false if the workspace must end.
    pub fn is_to_start(&self) -> bool {
        self.pod.is_none() && !self.was_made() && !is_doomed(self.status(), self.workspace)
    }

    /// Until when the watch may still show a pod that was created and never seen.
    pub fn unseen_until(&self) -> Option<Timestamp> {
        if self.pod.is_some() || !self.was_made() || self.status().runtime.is_some() {
            return None;
        }
        let made = self.status().condition(conditions::DEPLOYED)?.last_transition_time.0;
        made.checked_add(POD_LAG).ok().filter(|until| self.now < *until)
    }

    /// Whether the pod is gone although nothing was ending. The manager's finalizer keeps a pod that is merely deleted, so
    /// its deletion would have been seen.
    pub fn has_vanished(&self) -> bool {
        self.pod.is_none()
            && self.was_made()
            && self.unseen_until().is_none()
            && !matches!(self.phase(), Phase::Stopping | Phase::Stopped)
    }

    pub fn is_deleting(&self) -> bool {
        self.pod.is_some_and(|pod| pod.deleting_since.is_some())
    }

    /// Whether the cluster refuses to delete the pod: its containers run, so the wait for the backup has not begun.
    pub fn is_kept_by_cluster(&self) -> bool {
        self.observed.denial.is_some_and(|denial| denial.reason == reason::POD_NOT_DELETED)
            && self.pod.is_some()
            && !self.is_deleting()
    }

    /// Whether a headless task succeeded. The pod's phase alone says so only once sidecars ended, too.
    pub fn has_succeeded(&self) -> bool {
        let is_done = match self.container().map(|container| &container.state) {
            Some(ContainerState::Terminated(end)) => end.exit_code == 0,
            _ => self.pod.is_some_and(|pod| pod.phase == PodPhase::Succeeded),
        };
        self.is_headless() && is_done
    }

    /// Why the container does not start.
    pub fn start_problem(&self) -> Option<StartProblem<'a>> {
        start_problem::of(self.pod?, self.container())
    }

    /// The container that the user works in. It alone decides readiness, failure and end: templates and webhooks added the
    /// others.
    pub fn container(&self) -> Option<&'a ContainerFacts> {
        self.pod.and_then(|pod| pod.containers.iter().find(|container| container.name == CONTAINER))
    }

    /// Query for the events of the current or last pod; `None` before the first.
    pub fn events_of_pod(&self, starting: bool) -> Option<EventQuery> {
        if let Some(pod) = self.pod {
            return Some(EventQuery {
                pod: pod.name.clone(),
                uid: Some(pod.uid.clone()),
                since: None,
                starting,
            });
        }
        let made = self.was_made().then(|| self.status().condition(conditions::DEPLOYED)).flatten()?;
        let since = Some(made.last_transition_time.0);
        Some(EventQuery { pod: pod::name(self.workspace.spec.type_, self.id()), uid: None, since, starting })
    }

    /// Input of the phase table for the next status.
    pub fn facts(&self, status: &WorkspaceStatus) -> Facts {
        let doomed = is_doomed(status, self.workspace);
        Facts {
            pod: self.pod_state(),
            phase: self.phase(),
            headless: self.is_headless(),
            made: self.was_made(),
            unseen: self.unseen_until().is_some(),
            doomed,
            finished: is_finished(status, self.workspace.spec.type_),
            refused: is_refused(status) && !doomed,
            due: self.is_due(status),
            ever_ready: status.is_true(conditions::EVER_READY),
            content_ready: status.is_true(conditions::CONTENT_READY),
            maintenance: self.in_maintenance(),
        }
    }

    /// Whether the backoff before the next attempt is over.
    fn is_due(&self, status: &WorkspaceStatus) -> bool {
        let gone = status.pod_deletion_time.as_ref();
        gone.is_some_and(|gone| has_passed(self.now, gone.0, self.settings.recreation.backoff))
    }

    pub fn pod_state(&self) -> PodState {
        let Some(pod) = self.pod else { return PodState::Absent };
        if pod.deleting_since.is_some() {
            return PodState::Deleting;
        }
        let container = self.container();
        // While sidecars run or wait, the pod's phase does not show the state of the container.
        match (pod.phase, container.map(|container| &container.state)) {
            (PodPhase::Succeeded | PodPhase::Failed, _) | (_, Some(ContainerState::Terminated(_))) => {
                PodState::Ended
            }
            (PodPhase::Unknown, _) => PodState::Lost,
            (_, Some(ContainerState::Running)) => {
                PodState::Up { ready: container.is_some_and(|container| container.ready) }
            }
            // It has no status, or waits for a restart.
            (PodPhase::Running, _) if container.is_none_or(|one| one.last_termination.is_some()) => {
                PodState::Up { ready: false }
            }
            // The node creates it, or was just assigned the pod and has not reported yet: node agents start with the content
            // then, in parallel to the kubelet.
            (_, own) if own.is_some() || pod.node_name.is_some() => PodState::Creating,
            _ => PodState::Waiting,
        }
    }
}
