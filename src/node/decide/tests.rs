//! The table of `docs/content.md`, and what holds whatever the facts are.

use domain::workspace::{Kind, Phase};
use jiff::{SignedDuration, Timestamp};
use k8s::resources::conditions::{
    ABORTED, BACKUP_COMPLETE, BACKUP_FAILURE, CONTENT_READY, EVER_READY, FORCE_KILLED_TASK, POD_REJECTED,
    STATE_WIPED, WORKSPACE_CONTAINER_RUNNING,
};
use k8s::resources::{Runtime, Workspace, WorkspaceSpec, WorkspaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use proptest::prelude::*;

use super::*;
use crate::state::{Content, Done, Origin, PendingBackup};
use content::initializer::Fault;
use content::store::BackupId;

const NODE: &str = "metal-1";

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

fn seconds(count: i64) -> Timestamp {
    now() + SignedDuration::from_secs(count)
}

fn condition(kind: &str, is_true: bool) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: if is_true { "True" } else { "False" }.to_owned(),
        reason: "Unknown".to_owned(),
        message: String::new(),
        last_transition_time: Time(now()),
        observed_generation: None,
    }
}

/// A workspace on this node.
#[derive(Debug)]
struct Scene {
    workspace: Workspace,
    known: Known,
    is_deleted: bool,
    now: Timestamp,
}

impl Scene {
    fn new(phase: Phase) -> Self {
        let mut workspace = Workspace::new("ws-1", WorkspaceSpec::default());
        let runtime = Runtime { node_name: Some(NODE.to_owned()), ..Runtime::default() };
        workspace.status =
            Some(WorkspaceStatus { phase, runtime: Some(Box::new(runtime)), ..WorkspaceStatus::default() });
        Self { workspace, known: Known::Nothing, is_deleted: false, now: now() }
    }

    fn with(mut self, kind: &str, is_true: bool) -> Self {
        self.status().conditions.push(condition(kind, is_true));
        self
    }

    fn at(mut self, stage: Stage) -> Self {
        self.known = Known::State(Box::new(state(stage, 0)));
        self
    }

    fn of(mut self, kind: Kind) -> Self {
        self.workspace.spec.type_ = kind;
        self
    }

    fn status(&mut self) -> &mut WorkspaceStatus {
        self.workspace.status.as_mut().unwrap()
    }

    fn next(&self) -> Next {
        decide(&Facts {
            workspace: &self.workspace,
            is_deleted: self.is_deleted,
            node: NODE,
            known: &self.known,
            folder: Path::new("/w/ws-1"),
            snapshot: Some("o@bucket"),
            now: self.now,
        })
    }

    fn written(&self) -> Report {
        match self.next() {
            Next::Write(report) => *report,
            other => panic!("{other:?}"),
        }
    }
}

fn state(stage: Stage, attempt: i32) -> State {
    let origin = Origin { attempt, created: now(), ..Origin::sample("ws-1") };
    State { content: Some(Content::default()), ..State::new(origin, stage) }
}

fn pending(next_try: Option<Timestamp>) -> Stage {
    let id = BackupId::first(1);
    Stage::BackingUp(Box::new(PendingBackup {
        id,
        began: now(),
        restless: false,
        tries: 1,
        first_failed: None,
        sent: 0,
        next_try,
        problem: None,
        git: None,
    }))
}

fn backed_up(settled: bool) -> Stage {
    Stage::BackedUp(Box::new(Done {
        object: "workspaces/ws/archives/x".to_owned(),
        size: 7,
        digest: None,
        head: None,
        unchanged: false,
        snapshot: None,
        git: None,
        at: now(),
        at_rest: true,
        settled,
    }))
}

fn not_initialised() -> Stage {
    Stage::NotInitialised { fault: Fault::User, message: "no such branch".to_owned() }
}

#[test]
fn content_is_made_once_and_what_was_made_is_only_reported() {
    for phase in [Phase::Creating, Phase::Initializing] {
        let run = Next::Run(Operation::Initialise);
        assert_eq!(Scene::new(phase).next(), run);
        assert_eq!(Scene::new(phase).at(Stage::Initialising).next(), run);
        assert_eq!(Scene::new(phase).at(Stage::Filled).next(), run);
        let report = Scene::new(phase).at(Stage::Ready).written();
        assert_eq!((report.conditions[0].kind, report.conditions[0].is_true), (CONTENT_READY, true));
        let report = Scene::new(phase).at(not_initialised()).written();
        assert_eq!((report.conditions[0].is_true, &*report.conditions[0].message), (false, "no such branch"));
        for is_true in [true, false] {
            assert_eq!(Scene::new(phase).with(CONTENT_READY, is_true).next(), Next::Nothing);
        }
    }
    assert_eq!(Scene::new(Phase::Pending).next(), Next::Nothing);
}

#[test]
fn other_nodes_and_broken_state_files_get_nothing_done() {
    let mut other = Scene::new(Phase::Creating);
    other.status().runtime = None;
    assert_eq!(other.next(), Next::Nothing);
    let mut broken = Scene::new(Phase::Creating);
    broken.known = Known::Broken("state/ws-1.json: it is no JSON".to_owned());
    let report = broken.written();
    assert!(!report.conditions[0].is_true && report.conditions[0].message.contains("ws-1.json"));
}

#[test]
fn a_backup_waits_for_the_end_of_the_container() {
    let ready = || Scene::new(Phase::Stopping).with(CONTENT_READY, true).at(Stage::Ready);
    assert_eq!(ready().with(WORKSPACE_CONTAINER_RUNNING, false).next(), Next::Run(Operation::BackUp));
    let mut running = ready().with(WORKSPACE_CONTAINER_RUNNING, true);
    assert_eq!(running.next(), Next::Nothing);
    running.status().pod_stopping_time = Some(Time(now()));
    assert_eq!(running.next(), Next::WaitUntil(seconds(300)));
    running.now = seconds(300);
    assert_eq!(running.next(), Next::ForceKill);
    let mut killed = running.with(FORCE_KILLED_TASK, true);
    killed.now = seconds(1);
    assert_eq!(killed.next(), Next::WaitUntil(seconds(2)));
    killed.now = seconds(2);
    assert_eq!(killed.next(), Next::Run(Operation::BackUp));
}

#[test]
fn a_failed_try_waits_for_its_backoff_and_the_end_is_reported() {
    let stopping = |stage| Scene::new(Phase::Stopping).with(CONTENT_READY, true).at(stage);
    assert_eq!(stopping(pending(Some(seconds(9)))).next(), Next::WaitUntil(seconds(9)));
    assert_eq!(stopping(pending(Some(seconds(-1)))).next(), Next::Run(Operation::BackUp));
    assert_eq!(stopping(pending(None)).next(), Next::Run(Operation::BackUp));
    assert_eq!(stopping(backed_up(false)).next(), Next::Run(Operation::BackUp));
    assert_eq!(stopping(backed_up(true)).written().conditions[0].kind, BACKUP_COMPLETE);
    let failed = Stage::BackupFailed { message: "the content stays".to_owned() };
    assert_eq!(stopping(failed).written().conditions[0].kind, BACKUP_FAILURE);
    assert_eq!(stopping(Stage::Ready).with(BACKUP_COMPLETE, true).next(), Next::Nothing);
}

#[test]
fn a_backup_goes_on_after_the_controller_gave_up_and_after_the_resource_is_gone() {
    let ended = |phase: Phase, is_deleted: bool, stage: Stage| {
        let scene = Scene::new(phase).with(CONTENT_READY, true).with(BACKUP_FAILURE, true).at(stage);
        Scene { is_deleted, ..scene }
    };
    for (phase, is_deleted) in
        [(Phase::Stopping, false), (Phase::Stopped, false), (Phase::Stopped, true), (Phase::Stopping, true)]
    {
        let next = |stage| ended(phase, is_deleted, stage).next();
        assert_eq!(next(Stage::Ready), Next::Run(Operation::BackUp));
        assert_eq!(next(pending(None)), Next::Run(Operation::BackUp));
        assert_eq!(next(pending(Some(seconds(9)))), Next::WaitUntil(seconds(9)));
        assert_eq!(next(backed_up(false)), Next::Run(Operation::BackUp));
        // The status says something else already.
        assert_eq!(next(backed_up(true)), Next::Nothing);
        assert_eq!(next(Stage::BackupFailed { message: String::new() }), Next::Nothing);
        // Nobody is left who takes the name of a prebuild's result.
        let prebuild = ended(phase, is_deleted, Stage::Ready).of(Kind::Prebuild).next();
        assert_eq!(matches!(prebuild, Next::Run(Operation::BackUp)), is_deleted, "{prebuild:?}");
    }
    // Its finalizer was removed: the container may still write.
    for stage in [Stage::Ready, pending(None)] {
        let running = ended(Phase::Running, true, stage).with(WORKSPACE_CONTAINER_RUNNING, true);
        assert_eq!(running.next(), Next::AskPod);
    }
    let done = ended(Phase::Running, true, backed_up(true)).with(WORKSPACE_CONTAINER_RUNNING, true);
    assert_eq!(done.next(), Next::Nothing);
}

#[test]
fn a_prebuild_names_its_result_before_it_is_stored_and_an_image_build_stores_nothing() {
    let mut prebuild =
        Scene::new(Phase::Stopping).of(Kind::Prebuild).with(CONTENT_READY, true).at(Stage::Ready);
    assert_eq!(prebuild.written().snapshot.as_deref(), Some("o@bucket"));
    prebuild.status().snapshot = Some("o@bucket".to_owned());
    assert_eq!(prebuild.next(), Next::Run(Operation::BackUp));
    let build = Scene::new(Phase::Stopping).of(Kind::ImageBuild).with(CONTENT_READY, true).at(Stage::Ready);
    assert_eq!(build.next(), Next::Run(Operation::Wipe));
}

#[test]
fn content_that_was_complete_before_a_stop_is_reported_and_backed_up() {
    assert_eq!(Scene::new(Phase::Stopping).at(Stage::Filled).next(), Next::Run(Operation::Initialise));
    assert_eq!(Scene::new(Phase::Stopping).at(Stage::Ready).written().conditions[0].kind, CONTENT_READY);
    assert_eq!(Scene::new(Phase::Stopping).at(Stage::Initialising).next(), Next::Run(Operation::Wipe));
    assert_eq!(Scene::new(Phase::Stopping).next(), Next::Nothing);
}

#[test]
fn a_folder_without_a_usable_state_file_is_never_taken_for_content() {
    let mut stopping = Scene::new(Phase::Stopping).with(CONTENT_READY, true);
    let broken = Known::Broken("state/ws-1.json: it is no JSON".to_owned());
    let earlier = Known::State(Box::new(state(Stage::Ready, 0)));
    for (known, attempt, why) in
        [(Known::Nothing, 0, "no state file"), (broken, 0, "it is no JSON"), (earlier, 1, "no state file")]
    {
        stopping.known = known;
        stopping.status().pod_recreated = Some(attempt);
        let failure = stopping.written().conditions.remove(0);
        assert_eq!((failure.kind, failure.is_true), (BACKUP_FAILURE, true));
        for part in ["/w/ws-1", NODE, why, "look into the folder"] {
            assert!(failure.message.contains(part), "{}", failure.message);
        }
    }
}

#[test]
fn a_refused_pod_is_wiped_and_its_next_attempt_begins_anew() {
    let refused = || Scene::new(Phase::Stopping).with(POD_REJECTED, true);
    assert_eq!(refused().at(Stage::Ready).next(), Next::Run(Operation::Wipe));
    assert_eq!(refused().next(), Next::Run(Operation::Wipe));
    assert_eq!(refused().at(Stage::Wiped).written().conditions[0].kind, STATE_WIPED);
    assert_eq!(refused().at(Stage::Wiped).with(STATE_WIPED, true).next(), Next::Nothing);
    let mut again = Scene::new(Phase::Creating).at(Stage::Wiped);
    again.status().pod_recreated = Some(1);
    assert_eq!(again.next(), Next::Run(Operation::Initialise));
    // A status from before the state on disk.
    again.known = Known::State(Box::new(state(Stage::Initialising, 2)));
    assert_eq!(again.next(), Next::Nothing);
}

#[test]
fn an_aborted_workspace_is_wiped_unless_its_backup_ended_before() {
    let aborted = || Scene::new(Phase::Stopping).with(CONTENT_READY, true).with(ABORTED, true);
    assert_eq!(aborted().at(Stage::Ready).next(), Next::Run(Operation::Wipe));
    assert_eq!(aborted().at(Stage::Wiped).next(), Next::Nothing);
    assert_eq!(aborted().at(backed_up(true)).next(), Next::Nothing);
    // The message of the failure names the folder, which is the only copy.
    let failed = Stage::BackupFailed { message: "the content stays".to_owned() };
    assert_eq!(aborted().at(failed.clone()).with(BACKUP_FAILURE, true).next(), Next::Nothing);
    let refused = aborted().with(POD_REJECTED, true).at(failed);
    assert_eq!(refused.next(), Next::Run(Operation::Wipe));
    let mut gone = Scene::new(Phase::Running).with(CONTENT_READY, true).with(ABORTED, true).at(Stage::Ready);
    gone.is_deleted = true;
    assert_eq!(gone.next(), Next::Run(Operation::Wipe));
}

const CONDITIONS: [&str; 9] = [
    CONTENT_READY,
    EVER_READY,
    BACKUP_COMPLETE,
    BACKUP_FAILURE,
    ABORTED,
    POD_REJECTED,
    STATE_WIPED,
    WORKSPACE_CONTAINER_RUNNING,
    FORCE_KILLED_TASK,
];

prop_compose! {
    fn facts()(
        phase in prop::sample::select(vec![
            Phase::Unknown, Phase::Pending, Phase::Creating, Phase::Initializing, Phase::Running, Phase::Stopping,
            Phase::Stopped,
        ]),
        stage in prop::option::of(prop::sample::select(vec![
            Stage::Initialising, Stage::Filled, Stage::Ready, not_initialised(), pending(None), pending(Some(seconds(5))),
            backed_up(false), backed_up(true), Stage::BackupFailed { message: String::new() }, Stage::Wiping,
            Stage::Wiped, Stage::NotWiped { message: String::new() },
        ])),
        is_broken in prop::bool::weighted(0.1),
        conditions in prop::collection::vec(prop::option::of(any::<bool>()), CONDITIONS.len()),
        kind in prop::sample::select(vec![Kind::Regular, Kind::Prebuild, Kind::ImageBuild]),
        (attempt, recreated) in (0..3_i32, 0..3_i32),
        stopping in prop::option::of(-600..600_i64),
        is_deleted in any::<bool>(),
    ) -> Scene {
        let mut facts = Scene::new(phase).of(kind);
        for (kind, is_true) in CONDITIONS.iter().zip(conditions) {
            facts = match is_true {
                Some(is_true) => facts.with(kind, is_true),
                None => facts,
            };
        }
        facts.known = match stage {
            _ if is_broken => Known::Broken("broken".to_owned()),
            Some(stage) => Known::State(Box::new(state(stage, attempt))),
            None => Known::Nothing,
        };
        facts.is_deleted = is_deleted;
        facts.status().pod_recreated = Some(recreated);
        facts.status().pod_stopping_time = stopping.map(|at| Time(seconds(at)));
        facts
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn content_that_was_ready_is_never_made_again_and_nothing_unproven_is_wiped_unasked(facts in facts()) {
        let status = facts.workspace.status.as_ref().unwrap();
        let recreated = status.pod_recreated.unwrap_or(0);
        let of_this_attempt = match &facts.known {
            Known::State(state) if state.origin.attempt == recreated => Some(&state.stage),
            _ => None,
        };
        let is_broken = matches!(facts.known, Known::Broken(_));
        let was_used = status.is_true(EVER_READY) || status.condition(CONTENT_READY).is_some();
        let is_unwanted = status.is_true(POD_REJECTED)
            || status.is_true(ABORTED)
            || facts.workspace.spec.type_ == Kind::ImageBuild;
        match facts.next() {
            Next::Run(Operation::Initialise) => {
                prop_assert!(matches!(of_this_attempt, None | Some(Stage::Initialising | Stage::Filled)));
                prop_assert!(!is_broken && (!was_used || of_this_attempt == Some(&Stage::Filled)));
            }
            Next::Run(Operation::Wipe) => {
                prop_assert!(!is_broken);
                let is_nobodys = matches!(of_this_attempt, Some(Stage::Initialising | Stage::Wiping))
                    || (facts.is_deleted && !was_used);
                prop_assert!(is_unwanted || is_nobodys);
            }
            Next::Run(Operation::BackUp) => {
                let is_over = matches!(
                    of_this_attempt,
                    None | Some(Stage::Initialising | Stage::NotInitialised { .. } | Stage::Wiping | Stage::Wiped)
                );
                prop_assert!(!is_over);
                let is_settling = matches!(of_this_attempt, Some(Stage::BackedUp(_)));
                prop_assert!(is_settling || status.is_true(CONTENT_READY));
            }
            Next::Write(report) => {
                prop_assert_eq!(report.attempt, recreated);
                for update in &report.conditions {
                    if update.kind == BACKUP_COMPLETE {
                        prop_assert!(matches!(of_this_attempt, Some(Stage::BackedUp(done)) if done.settled));
                    }
                    // What is written is not written again.
                    prop_assert!(status.condition(update.kind).is_none() || update.kind != CONTENT_READY);
                }
            }
            Next::Nothing | Next::WaitUntil(_) | Next::AskPod | Next::ForceKill => {}
        }
    }

    #[test]
    fn nothing_is_run_while_the_container_may_change_the_content(facts in facts()) {
        let status = facts.workspace.status.as_ref().unwrap();
        let is_running = status.is_true(WORKSPACE_CONTAINER_RUNNING) && !status.is_true(FORCE_KILLED_TASK);
        if is_running {
            let is_settling = matches!(&facts.known, Known::State(state) if matches!(state.stage, Stage::BackedUp(_)));
            let next = facts.next();
            prop_assert!(is_settling || next != Next::Run(Operation::BackUp), "{:?}", next);
            prop_assert!(facts.is_deleted || next != Next::Run(Operation::Wipe), "{:?}", next);
        }
    }

    #[test]
    fn what_a_user_made_is_backed_up_whatever_else_is_said(
        mut facts in facts(),
        stage in prop::sample::select(vec![Stage::Ready, pending(None), pending(Some(seconds(5)))]),
        phase in prop::sample::select(vec![Phase::Stopping, Phase::Stopped]),
    ) {
        if facts.workspace.spec.type_ == Kind::ImageBuild {
            facts.workspace.spec.type_ = Kind::Regular;
        }
        let attempt = facts.status().pod_recreated.unwrap_or(0);
        facts.known = Known::State(Box::new(state(stage, attempt)));
        facts.status().phase = phase;
        let others = [CONTENT_READY, POD_REJECTED, ABORTED, BACKUP_COMPLETE, WORKSPACE_CONTAINER_RUNNING];
        facts.status().conditions.retain(|condition| !others.contains(&&*condition.type_));
        let facts = facts.with(CONTENT_READY, true);
        let next = facts.next();
        let goes_on = match &next {
            Next::Run(Operation::BackUp) | Next::WaitUntil(_) => true,
            Next::Write(report) => report.snapshot.is_some() && !facts.is_deleted,
            _ => false,
        };
        prop_assert!(goes_on, "{:?}", next);
    }
}
