//! Invariants while the pod watch lags and status writes are lost.

use proptest::prelude::*;

use super::*;

/// Something that happens between two reconciles.
#[derive(Debug, Clone, Copy)]
enum Happening {
    WatchCatchesUp,
    TimePasses { seconds: i64 },
    PodRuns,
    PodRefused,
    PodRemovedByForce,
    Wiped,
    StopAsked,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        6 => Just(WatchCatchesUp),
        6 => prop_oneof![Just(1_i64), Just(5), Just(60)].prop_map(|seconds| TimePasses { seconds }),
        2 => Just(PodRuns),
        4 => Just(PodRefused),
        1 => Just(PodRemovedByForce),
        4 => Just(Wiped),
        1 => Just(StopAsked),
    ]
}

/// A cluster whose pods are seen late: `scene.pods` is what the watch showed last.
struct Play {
    scene: Scene,
    real: Vec<Arc<PodFacts>>,
    pods_made: u32,
    stop_asked: bool,
}

impl Play {
    fn new() -> Self {
        Self { scene: fresh(), real: Vec::new(), pods_made: 0, stop_asked: false }
    }

    fn edit(&mut self, edit: impl Fn(&mut PodFacts)) {
        for pod in &mut self.real {
            edit(Arc::make_mut(pod));
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::WatchCatchesUp => self.scene.pods.clone_from(&self.real),
            Happening::TimePasses { seconds } => {
                self.scene.now += jiff::SignedDuration::from_secs(seconds);
            }
            Happening::PodRuns => self.edit(|pod| {
                if pod.phase == PodPhase::Pending {
                    pod.phase = PodPhase::Running;
                }
            }),
            Happening::PodRefused => self.edit(|pod| {
                if pod.phase == PodPhase::Pending {
                    pod.phase = PodPhase::Failed;
                    "OutOfpods".clone_into(&mut pod.reason);
                }
            }),
            Happening::PodRemovedByForce => self.real.clear(),
            Happening::Wiped if self.scene.status().is_true(conditions::POD_REJECTED) => {
                self.scene.write_condition(conditions::STATE_WIPED, "True", "Unknown", "");
            }
            Happening::Wiped => {}
            Happening::StopAsked => {
                self.stop_asked = true;
                let reason = conditions::reason::STOP_WORKSPACE_REQUEST;
                self.scene.write_condition(conditions::STOPPED_BY_REQUEST, "True", reason, "1s");
            }
        }
    }

    /// Whether the status counts a pod of this attempt.
    fn is_noted(&self) -> bool {
        let status = self.scene.status();
        status.pod_starts > status.pod_recreated.unwrap_or_default()
    }

    /// One reconcile; with `is_lost`, its status write meets a conflict.
    fn reconcile(&mut self, is_lost: bool) {
        let decision = self.scene.decide();
        for action in &decision.actions {
            match action {
                Action::CreatePod(pod) => {
                    assert!(!self.stop_asked, "a pod for a workspace that is to end");
                    assert!(!self.is_noted(), "a pod while the status counts one");
                    assert_eq!(pod.metadata.name.as_deref(), Some("ws-a"), "the name makes two of them one");
                    if !self.real.is_empty() {
                        // The name is taken: the reconcile ends here, and nothing is written.
                        return;
                    }
                    self.pods_made += 1;
                    let uid = format!("pod-{}", self.pods_made);
                    self.real = vec![Arc::new(new_pod("ws-a", &uid, UID))];
                }
                Action::DeletePod { uid, .. } => {
                    let now = self.scene.now;
                    self.edit(|pod| {
                        if pod.uid == *uid {
                            pod.deleting_since = pod.deleting_since.or(Some(now));
                        }
                    });
                }
                Action::ReleasePod { uid, .. } => self.edit(|pod| {
                    if pod.uid == *uid {
                        pod.has_finalizer = false;
                    }
                }),
                _ => {}
            }
        }
        self.real.retain(|pod| pod.deleting_since.is_none() || pod.has_finalizer);
        if !is_lost {
            decision.status.apply_to(self.scene.status_mut());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn however_late_the_watch_is_no_pod_is_asked_for_while_one_may_exist(
        happenings in prop::collection::vec(happening(), 0..60),
    ) {
        let mut play = Play::new();
        for happening in happenings {
            play.happen(happening);
            let before = play.pods_made;
            let may_exist = !play.real.is_empty();
            let asks = creates(&play.scene.decide());
            prop_assert!(!(asks && may_exist), "{:?} {:?}", play.scene.status(), play.real);
            play.reconcile(false);
            prop_assert_eq!(play.pods_made - before, u32::from(asks));
            let attempts = play.scene.status().pod_recreated.unwrap_or_default();
            prop_assert!(i64::from(play.pods_made) <= i64::from(attempts) + 1);
        }
    }

    #[test]
    fn where_the_note_of_a_pod_is_lost_it_is_asked_for_by_the_same_name(
        happenings in prop::collection::vec((happening(), any::<bool>()), 0..60),
    ) {
        let mut play = Play::new();
        for (happening, is_lost) in happenings {
            play.happen(happening);
            play.reconcile(is_lost);
        }
    }
}

#[test]
fn a_refused_pod_is_recreated_once_its_deletion_was_seen() {
    let mut play = Play::new();
    play.reconcile(false);
    play.reconcile(true);
    assert_eq!(play.pods_made, 1, "the watch has shown none yet");
    let steps = [
        Happening::PodRefused,
        Happening::WatchCatchesUp,
        Happening::Wiped,
        Happening::WatchCatchesUp,
        Happening::TimePasses { seconds: 60 },
        Happening::WatchCatchesUp,
        Happening::WatchCatchesUp,
        Happening::WatchCatchesUp,
    ];
    for step in steps {
        play.happen(step);
        play.reconcile(false);
    }
    assert_eq!((play.pods_made, play.scene.status().pod_recreated), (2, Some(1)));
}
