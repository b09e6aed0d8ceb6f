//! Invariants on every path: a workspace goes through random events of a cluster in random order.

use proptest::prelude::*;

use super::*;

/// Something that happens around a workspace.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Scheduled,
    ContainerCreating,
    PullFails,
    StartFails,
    SidecarChanges { runs: bool },
    SidecarFailsThePod,
    NodeSilent { silent: bool },
    HeldByOthers,
    Started,
    ContainerReady,
    ContainerEnds { exit_code: i32 },
    PodRefused,
    PodEvicted,
    PodLost,
    PodDeletedByHand,
    PodRemovedByForce,
    PodGoes,
    ContentReady,
    ContentFails,
    BackupDone,
    BackupFails,
    Wiped,
    NodeGone,
    StopAsked,
    Aborted,
    ResourceDeleted,
    Active,
    Closed,
    MaintenanceBegins,
    ClusterDenies { denies: bool },
    TimePasses { seconds: i64 },
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        8 => Just(Scheduled),
        8 => Just(ContainerCreating),
        2 => Just(PullFails),
        1 => Just(StartFails),
        2 => prop::bool::ANY.prop_map(|runs| SidecarChanges { runs }),
        1 => Just(SidecarFailsThePod),
        2 => prop::bool::ANY.prop_map(|silent| NodeSilent { silent }),
        1 => Just(HeldByOthers),
        8 => Just(Started),
        8 => Just(ContainerReady),
        2 => prop_oneof![Just(0), Just(1), Just(137)].prop_map(|exit_code| ContainerEnds { exit_code }),
        3 => Just(PodRefused),
        1 => Just(PodEvicted),
        1 => Just(PodLost),
        1 => Just(PodDeletedByHand),
        1 => Just(PodRemovedByForce),
        8 => Just(PodGoes),
        8 => Just(ContentReady),
        1 => Just(ContentFails),
        4 => Just(BackupDone),
        1 => Just(BackupFails),
        4 => Just(Wiped),
        1 => Just(NodeGone),
        1 => Just(StopAsked),
        1 => Just(Aborted),
        1 => Just(ResourceDeleted),
        3 => Just(Active),
        1 => Just(Closed),
        1 => Just(MaintenanceBegins),
        2 => prop::bool::ANY.prop_map(|denies| ClusterDenies { denies }),
        4 => prop_oneof![Just(1_i64), Just(60), Just(3600)].prop_map(|seconds| TimePasses { seconds }),
    ]
}

/// A cluster with one workspace in it.
struct Play {
    scene: Scene,
    pods_made: i32,
    stop_asked: bool,
    lowest_activity: Option<Time>,
    /// Whether the cluster refuses the deletion of pods, and other writes of an end.
    denies: bool,
}

impl Play {
    fn new(kind: Kind) -> Self {
        Self {
            scene: fresh().kind(kind),
            pods_made: 0,
            stop_asked: false,
            lowest_activity: None,
            denies: false,
        }
    }

    fn alive(&mut self, edit: impl FnOnce(&mut PodFacts)) {
        if !self.scene.pods.is_empty() {
            self.scene.edit_pod(|pod| {
                if !matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed) {
                    edit(pod);
                }
            });
        }
    }

    /// The state of the workspace's container; others stay as they are.
    fn container(pod: &mut PodFacts, state: ContainerState, ready: bool) {
        pod.containers.retain(|container| container.name != "workspace");
        pod.containers.push(other("workspace", state, ready));
    }

    #[allow(clippy::too_many_lines, reason = "one line a happening")]
    fn happen(&mut self, what: Happening) {
        let now = self.scene.now;
        match what {
            Happening::Scheduled => self.alive(|pod| pod.node_name = Some("node-1".to_owned())),
            Happening::ContainerCreating => self.alive(|pod| {
                if pod.phase == PodPhase::Pending {
                    Self::container(pod, waiting("ContainerCreating", ""), false);
                }
            }),
            Happening::PullFails => self.alive(|pod| {
                if pod.phase == PodPhase::Pending {
                    Self::container(pod, waiting("ErrImagePull", "no route"), false);
                }
            }),
            Happening::StartFails => self.alive(|pod| {
                if pod.phase == PodPhase::Pending {
                    Self::container(pod, waiting("CreateContainerError", "no disk"), false);
                }
            }),
            Happening::SidecarChanges { runs } => self.alive(|pod| {
                let state = if runs { ContainerState::Running } else { terminated(1, "Error", "mesh") };
                pod.containers.retain(|container| container.name == "workspace");
                pod.containers.push(other("mesh", state, runs));
            }),
            // All containers ended by then.
            Happening::SidecarFailsThePod => self.alive(|pod| {
                let ended = |one: &ContainerFacts| matches!(one.state, ContainerState::Terminated(_));
                if !pod.containers.is_empty() && pod.containers.iter().all(ended) {
                    pod.phase = PodPhase::Failed;
                }
            }),
            Happening::NodeSilent { silent } if self.scene.node != NodeObservation::Gone => {
                let readiness = if silent { Readiness::Unreachable } else { Readiness::Ready };
                self.scene.node = NodeObservation::Present { tainted: silent, readiness };
            }
            Happening::HeldByOthers => {
                if !self.scene.pods.is_empty() {
                    self.scene.edit_pod(|pod| pod.held_by = vec!["example.com/x".to_owned()]);
                }
            }
            Happening::Started => self.alive(|pod| {
                pod.phase = PodPhase::Running;
                Self::container(pod, ContainerState::Running, false);
            }),
            Happening::ContainerReady => self.alive(|pod| {
                pod.containers.iter_mut().for_each(|container| {
                    container.ready = container.state == ContainerState::Running;
                });
            }),
            Happening::ContainerEnds { exit_code } => self.alive(|pod| {
                let reason = if exit_code == 0 { "Completed" } else { "Error" };
                Self::container(pod, terminated(exit_code, reason, ""), false);
                pod.phase = if exit_code == 0 { PodPhase::Succeeded } else { PodPhase::Failed };
            }),
            Happening::PodRefused => self.alive(|pod| {
                if pod.phase == PodPhase::Pending {
                    pod.phase = PodPhase::Failed;
                    "OutOfpods".clone_into(&mut pod.reason);
                    pod.containers.clear();
                    pod.all_terminated = true;
                    "Pod was rejected".clone_into(&mut pod.message);
                }
            }),
            Happening::PodEvicted => self.alive(|pod| {
                pod.phase = PodPhase::Failed;
                "Evicted".clone_into(&mut pod.reason);
            }),
            Happening::PodLost => self.alive(|pod| pod.phase = PodPhase::Unknown),
            Happening::PodDeletedByHand if !self.scene.pods.is_empty() => {
                self.scene.edit_pod(|pod| pod.deleting_since = pod.deleting_since.or(Some(now)));
            }
            Happening::PodRemovedByForce => self.scene.pods.clear(),
            Happening::PodGoes => {
                self.scene.pods.retain(|pod| pod.deleting_since.is_none() || is_held(pod));
                if self.scene.pods.iter().any(|pod| pod.deleting_since.is_some()) {
                    self.scene.edit_pod(end);
                }
            }
            Happening::NodeGone => self.scene.node = NodeObservation::Gone,
            Happening::MaintenanceBegins => {
                self.scene.maintenance_until = Some(now + jiff::SignedDuration::from_secs(600));
            }
            Happening::ClusterDenies { denies } => self.denies = denies,
            Happening::TimePasses { seconds } => {
                self.scene.now = now + jiff::SignedDuration::from_secs(seconds);
            }
            Happening::ResourceDeleted => {
                self.stop_asked = true;
                self.scene.workspace.metadata.deletion_timestamp.get_or_insert(Time(now));
            }
            other => self.written(other),
        }
    }

    /// What other writers write in the status.
    fn written(&mut self, what: Happening) {
        let has_content = self.scene.status().is_true(conditions::CONTENT_READY);
        let stopping = self.scene.status().phase == Phase::Stopping;
        let refused = self.scene.status().is_true(conditions::POD_REJECTED);
        let set =
            |scene: &mut Scene, kind, status, reason, text| scene.write_condition(kind, status, reason, text);
        match what {
            Happening::ContentReady if !stopping && !self.scene.pods.is_empty() => {
                let reason = conditions::reason::INITIALIZATION_SUCCESS;
                set(&mut self.scene, conditions::CONTENT_READY, "True", reason, "");
            }
            Happening::ContentFails if !has_content && !self.scene.pods.is_empty() => {
                let reason = conditions::reason::INITIALIZATION_FAILURE;
                set(&mut self.scene, conditions::CONTENT_READY, "False", reason, "");
            }
            Happening::BackupDone if stopping && has_content && !refused => {
                set(&mut self.scene, conditions::BACKUP_COMPLETE, "True", "BackupComplete", "");
            }
            Happening::BackupFails if stopping && has_content && !refused => {
                set(&mut self.scene, conditions::BACKUP_FAILURE, "True", "BackupFailed", "disk");
            }
            Happening::Wiped if stopping && refused => {
                set(&mut self.scene, conditions::STATE_WIPED, "True", "Unknown", "");
            }
            Happening::StopAsked | Happening::Aborted => {
                self.stop_asked = true;
                let reason = conditions::reason::STOP_WORKSPACE_REQUEST;
                if matches!(what, Happening::Aborted) {
                    set(&mut self.scene, conditions::ABORTED, "True", reason, "");
                }
                set(&mut self.scene, conditions::STOPPED_BY_REQUEST, "True", reason, "1s");
            }
            Happening::Active => {
                let now = Time(self.scene.now);
                self.lowest_activity = Some(now.clone());
                self.scene.status_mut().last_activity = Some(now);
            }
            Happening::Closed => set(&mut self.scene, conditions::CLOSED, "True", "MarkActiveRequest", ""),
            _ => {}
        }
    }

    /// One reconcile, whose invariants are checked and whose actions are executed.
    fn reconcile(&mut self) -> Decision {
        let before = self.scene.status();
        let denied = self.deny();
        let decision = self.scene.step();
        let after = self.scene.status();
        if self.scene.denial.is_some() {
            let (then, now) = (&before.pod_stopping_time, &after.pod_stopping_time);
            let is_kept = self.scene.pods.iter().any(|pod| pod.deleting_since.is_none());
            assert!(!is_kept || after.phase == Phase::Stopped || then == now || then.is_some());
            assert!(after.is_true(conditions::WRITE_REFUSED), "nobody learns of it");
        }
        assert!(before.phase != Phase::Stopped || after.phase == Phase::Stopped, "Stopped is the end");
        assert_eq!(after.last_activity, self.lowest_activity, "a user's activity was lost");
        for kind in
            [conditions::STOPPED_BY_REQUEST, conditions::CLOSED, conditions::FAILED, conditions::TIMEOUT]
        {
            assert!(!before.is_true(kind) || after.is_true(kind), "{kind} was lost");
        }
        if creates(&decision) {
            assert!(self.scene.pods.is_empty(), "a second pod");
            assert!(!self.stop_asked, "a pod for a workspace that is to end");
            assert_eq!(after.pod_starts, self.pods_made + 1, "a pod was made without being counted");
            assert!(self.pods_made == after.pod_recreated.unwrap_or_default(), "more pods than attempts");
        }
        self.is_settled(&decision);
        self.carry_out(&denied.unwrap_or_else(|| decision.actions.clone()));
        decision
    }

    /// Denies the first action that can be denied, if the cluster does so; the actions before it.
    fn deny(&mut self) -> Option<Vec<Action>> {
        self.scene.denial = None;
        let actions = self.scene.decide().actions;
        let at = actions.iter().position(|action| self.denies && action.denied("no").is_some())?;
        self.scene.denial = actions[at].denied("no");
        Some(actions[..at].to_vec())
    }

    /// Deciding again changes nothing, but for the pod of a new attempt.
    fn is_settled(&self, decision: &Decision) {
        let again = self.scene.decide();
        let new_attempt = decision.status.pod_recreated.is_some();
        assert!(new_attempt || again.status.is_empty(), "not settled: {:?}", again.status);
        assert!(new_attempt || again.events.is_empty(), "told twice: {:?}", again.events);
        assert!(!creates(&again) || new_attempt, "a pod made twice");
    }

    fn carry_out(&mut self, actions: &[Action]) {
        let now = self.scene.now;
        for action in actions {
            match action {
                Action::CreatePod(pod) => {
                    self.pods_made += 1;
                    let name = pod.metadata.name.as_deref().unwrap_or_default();
                    let uid = format!("pod-{}", self.pods_made);
                    self.scene.pods = vec![Arc::new(new_pod(name, &uid, UID))];
                    self.scene.node = NodeObservation::Unknown;
                }
                Action::DeletePod { grace, .. } => {
                    self.scene.edit_pod(|pod| pod.deleting_since = pod.deleting_since.or(Some(now)));
                    if *grace == Some(0) {
                        self.scene.pods.retain(|pod| is_held(pod));
                    }
                }
                Action::ReleasePod { .. } => self.scene.edit_pod(|pod| pod.has_finalizer = false),
                _ => {}
            }
        }
    }

    /// Nothing in its pod can be lost, and nothing runs.
    fn may_be_left(&self, pod: &PodFacts) -> bool {
        let status = self.scene.status();
        let is = |kinds: &[&str]| kinds.iter().any(|kind| status.is_true(kind));
        let is_over =
            pod.all_terminated || pod.node_name.is_none() || self.scene.node == NodeObservation::Gone;
        let is_safe = if status.is_true(conditions::POD_REJECTED) {
            is(&[conditions::STATE_WIPED, conditions::NODE_DISAPPEARED])
        } else {
            self.scene.workspace.spec.type_ == Kind::ImageBuild
                || is(&[conditions::BACKUP_COMPLETE, conditions::ABORTED])
                || !is(&[conditions::CONTENT_READY])
        };
        is_over && is_safe
    }

    /// Its pod is gone, or may be left behind with foreign finalizers.
    fn is_rightly_over(&self) {
        for pod in &self.scene.pods {
            assert!(!pod.has_finalizer && !pod.held_by.is_empty(), "its pod is left: {pod:?}");
            assert!(self.may_be_left(pod), "left too early: {pod:?} {:?}", self.scene.status());
        }
    }

    /// Foreign finalizers hold its pod, which must not be left behind.
    fn is_rightly_held(&self) -> bool {
        let held = |pod: &Arc<PodFacts>| {
            pod.deleting_since.is_some()
                && !pod.has_finalizer
                && !pod.held_by.is_empty()
                && !self.may_be_left(pod)
        };
        self.scene.status().phase == Phase::Stopped && self.scene.pods.iter().any(held)
    }

    /// From here on only time passes, and pods are gone once released.
    fn run_out(&mut self) {
        self.denies = false;
        for _ in 0..40 {
            let pods = self.scene.pods.len();
            let decision = self.reconcile();
            if decision.actions.contains(&Action::ReleaseWorkspace) {
                self.is_rightly_over();
                return;
            }
            self.scene.pods.retain(|pod| pod.deleting_since.is_none() || is_held(pod));
            // Pods held by foreign finalizers are deleted by force repeatedly.
            let is_idle = decision.actions.iter().all(|action| matches!(action, Action::DeletePod { .. }));
            if self.scene.pods.len() == pods && decision.status.is_empty() && is_idle {
                let Some(at) = decision.next_check else {
                    assert!(self.is_rightly_held(), "it waits for nothing: {:?}", self.scene.status());
                    self.scene.pods.clear();
                    continue;
                };
                assert!(at > self.scene.now, "it waits for the past");
                self.scene.now = at;
            }
        }
        panic!("it does not end: {:?} {:?}", self.scene.status(), self.scene.pods);
    }
}

fn is_held(pod: &PodFacts) -> bool {
    pod.has_finalizer || !pod.held_by.is_empty()
}

/// The kubelet reports that every container ended.
fn end(pod: &mut PodFacts) {
    for container in &mut pod.containers {
        if !matches!(container.state, ContainerState::Terminated(_)) {
            container.state = terminated(0, "Completed", "");
        }
        container.ready = false;
    }
    pod.all_terminated = true;
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Regular),
        1 => Just(Kind::Prebuild),
        1 => Just(Kind::ImageBuild),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_pass_keeps_the_rules_and_a_stop_leads_to_the_end(
        kind in kind(),
        happenings in prop::collection::vec(happening(), 0..40),
    ) {
        let mut play = Play::new(kind);
        for happening in happenings {
            play.happen(happening);
            play.reconcile();
        }
        play.happen(Happening::StopAsked);
        play.run_out();
    }

    #[test]
    fn several_things_may_happen_between_two_passes(
        kind in kind(),
        happenings in prop::collection::vec(prop::collection::vec(happening(), 1..5), 0..15),
    ) {
        let mut play = Play::new(kind);
        for group in happenings {
            for happening in group {
                play.happen(happening);
            }
            play.reconcile();
        }
        play.happen(Happening::StopAsked);
        play.run_out();
    }

    #[test]
    fn left_alone_every_workspace_ends_at_a_limit_of_time(
        kind in kind(),
        happenings in prop::collection::vec(happening(), 0..20),
    ) {
        let mut play = Play::new(kind);
        for happening in happenings {
            play.happen(happening);
            play.reconcile();
        }
        play.run_out();
    }
}
