//! One test for each row of `docs/phases.md`.

use super::super::phase::{Facts, PodState, row};
use super::*;

fn facts() -> Facts {
    Facts {
        pod: PodState::Absent,
        phase: Phase::Pending,
        headless: false,
        made: true,
        unseen: false,
        doomed: false,
        finished: false,
        refused: false,
        due: false,
        ever_ready: false,
        content_ready: false,
        maintenance: false,
    }
}

fn check(facts: &Facts, expected: Row, phase: Phase) {
    assert_eq!(row(facts), expected, "{facts:?}");
    assert_eq!(expected.phase(facts.phase), phase);
}

#[test]
fn a_stopped_workspace_stays_stopped() {
    for pod in [PodState::Absent, PodState::Deleting, PodState::Up { ready: true }, PodState::Ended] {
        check(&Facts { pod, phase: Phase::Stopped, ..facts() }, Row::Over, Phase::Stopped);
    }
}

#[test]
fn a_workspace_that_must_end_before_it_had_a_pod_is_stopped() {
    let facts = Facts { made: false, doomed: true, ..facts() };
    check(&facts, Row::NeverStarted, Phase::Stopped);
}

#[test]
fn a_workspace_without_a_pod_yet_is_pending() {
    check(&Facts { made: false, phase: Phase::Unknown, ..facts() }, Row::ToStart, Phase::Pending);
}

#[test]
fn a_pod_that_was_just_created_may_not_be_seen_yet() {
    check(&Facts { unseen: true, ..facts() }, Row::NotSeenYet, Phase::Pending);
}

#[test]
fn a_refused_pod_that_is_wiped_and_gone_is_recreated_after_the_backoff() {
    let facts = Facts { phase: Phase::Stopping, refused: true, finished: true, due: true, ..facts() };
    check(&facts, Row::Again, Phase::Pending);
}

#[test]
fn a_refused_pod_is_stopping_until_it_is_wiped_and_gone_and_the_backoff_is_over() {
    let facts = Facts { phase: Phase::Stopping, refused: true, finished: true, due: true, ..facts() };
    for facts in [
        Facts { due: false, ..facts },
        Facts { finished: false, ..facts },
        Facts { pod: PodState::Deleting, ..facts },
        Facts { pod: PodState::Ended, phase: Phase::Creating, ..facts },
    ] {
        check(&facts, Row::Refused, Phase::Stopping);
    }
}

#[test]
fn a_headless_task_that_ends_under_maintenance_keeps_its_phase() {
    let facts =
        Facts { pod: PodState::Ended, headless: true, maintenance: true, phase: Phase::Running, ..facts() };
    check(&facts, Row::Held, Phase::Running);
    check(&Facts { doomed: true, ..facts }, Row::TaskEnded, Phase::Stopping);
    check(&Facts { phase: Phase::Stopping, ..facts }, Row::TaskEnded, Phase::Stopping);
}

#[test]
fn a_workspace_is_stopped_when_its_pod_is_gone_and_its_content_needs_nothing_more() {
    for pod in [PodState::Absent, PodState::Deleting] {
        for phase in [Phase::Stopping, Phase::Running] {
            check(&Facts { pod, phase, finished: true, ..facts() }, Row::Finished, Phase::Stopped);
        }
    }
}

#[test]
fn a_headless_workspace_is_stopped_when_its_content_needs_nothing_more() {
    let facts = Facts { pod: PodState::Ended, headless: true, finished: true, ..facts() };
    check(&facts, Row::TaskFinished, Phase::Stopped);
}

#[test]
fn a_workspace_whose_pod_vanished_is_stopping_for_its_backup() {
    check(&Facts { phase: Phase::Running, ..facts() }, Row::Vanished, Phase::Stopping);
}

#[test]
fn a_workspace_whose_pod_is_being_deleted_is_stopping() {
    check(&Facts { pod: PodState::Deleting, phase: Phase::Running, ..facts() }, Row::Ending, Phase::Stopping);
}

#[test]
fn a_headless_task_that_ended_is_stopping_while_its_pod_stays() {
    let facts = Facts { pod: PodState::Ended, headless: true, phase: Phase::Running, ..facts() };
    check(&facts, Row::TaskEnded, Phase::Stopping);
}

#[test]
fn a_workspace_that_must_end_is_stopping_at_once() {
    for pod in [PodState::Waiting, PodState::Creating, PodState::Up { ready: true }, PodState::Lost] {
        check(&Facts { pod, doomed: true, ..facts() }, Row::Doomed, Phase::Stopping);
    }
    let ended = Facts { pod: PodState::Ended, doomed: true, finished: true, ..facts() };
    check(&ended, Row::Doomed, Phase::Stopping);
}

#[test]
fn a_pending_pod_whose_containers_are_being_created_is_creating() {
    check(&Facts { pod: PodState::Creating, ..facts() }, Row::Creating, Phase::Creating);
    for reason in ["ContainerCreating", "ImagePullBackOff", "ErrImagePull"] {
        let scene = made().pod(PodPhase::Pending).container(waiting(reason, ""), false);
        assert_eq!(scene.then().phase, Phase::Creating, "{reason}");
    }
}

#[test]
fn a_pending_pod_is_pending() {
    check(&Facts { pod: PodState::Waiting, ..facts() }, Row::Pending, Phase::Pending);
}

#[test]
fn a_pod_that_has_a_node_is_creating_before_the_kubelet_reports_it() {
    let mut scene = made().pod(PodPhase::Pending).with_pod(|pod| pod.node_name = Some("node-1".to_owned()));
    let decision = scene.step();
    assert_eq!(scene.status().phase, Phase::Creating);
    assert!(!decision.may_wait, "the node agent begins with it");
    let runtime = scene.status().runtime.unwrap();
    assert_eq!(runtime.node_name.as_deref(), Some("node-1"));
}

#[test]
fn initializing_is_debounced_only_if_the_node_agent_saw_creating() {
    let mut scene = made().pod(PodPhase::Running).container(ContainerState::Running, true);
    scene = scene.with_pod(|pod| pod.node_name = Some("node-1".to_owned()));
    assert!(!scene.step().may_wait);
    let mut scene = made().pod(PodPhase::Pending).with_pod(|pod| pod.node_name = Some("node-1".to_owned()));
    scene.step();
    scene = scene.pod(PodPhase::Running).container(ContainerState::Running, true);
    scene = scene.with_pod(|pod| pod.node_name = Some("node-1".to_owned()));
    assert!(scene.step().may_wait);
    assert_eq!(scene.status().phase, Phase::Initializing);
}

#[test]
fn a_workspace_that_was_ready_is_running_whether_ready_or_not() {
    let facts = Facts { pod: PodState::Up { ready: false }, ever_ready: true, ..facts() };
    check(&facts, Row::StillRunning, Phase::Running);
}

#[test]
fn a_running_pod_with_content_and_a_ready_container_is_running() {
    let facts = Facts { pod: PodState::Up { ready: true }, content_ready: true, ..facts() };
    check(&facts, Row::Ready, Phase::Running);
}

#[test]
fn a_running_pod_without_content_or_not_ready_is_initializing() {
    let facts = Facts { pod: PodState::Up { ready: true }, ..facts() };
    check(&facts, Row::Initializing, Phase::Initializing);
    let facts = Facts { pod: PodState::Up { ready: false }, content_ready: true, ..facts };
    check(&facts, Row::Initializing, Phase::Initializing);
}

#[test]
fn a_pod_whose_state_is_unknown_is_unknown() {
    for pod in [PodState::Lost, PodState::Ended] {
        check(&Facts { pod, phase: Phase::Running, ..facts() }, Row::Lost, Phase::Unknown);
    }
}

#[test]
fn the_page_has_every_row_in_the_order_of_the_table() {
    let page = include_str!("../../../../docs/phases.md");
    let (_, after) = page.split_once("## The table").unwrap();
    let (table, _) = after.split_once("The words of the table").unwrap();
    let rows: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(rows, Row::ALL.map(|row| format!("{row:?}")));
}

#[test]
fn an_ordinary_workspace_takes_few_writes_and_events() {
    let mut scene = fresh();
    let (mut writes, mut waiting_writes, mut told, mut calls) = (0, 0, Vec::new(), 0);
    let mut pass = |scene: &mut Scene| {
        let decision = scene.step();
        writes += usize::from(!decision.status.is_empty() && !decision.may_wait);
        waiting_writes += usize::from(decision.may_wait);
        told.extend(decision.events.iter().filter(|note| !note.passing).map(|note| note.reason));
        calls += decision.actions.len();
        (decision, scene.step())
    };
    pass(&mut scene);
    scene = scene.pod(PodPhase::Pending);
    pass(&mut scene);
    scene = scene.with_pod(|pod| pod.node_name = Some("node-1".to_owned()));
    scene = scene.container(waiting("ContainerCreating", ""), false);
    pass(&mut scene);
    scene = scene.pod(PodPhase::Running).container(ContainerState::Running, false);
    pass(&mut scene);
    scene = scene.ready_content().container(ContainerState::Running, true);
    pass(&mut scene);
    scene = scene.stop_asked();
    pass(&mut scene);
    scene = scene.deleting_pod();
    pass(&mut scene);
    scene = scene.container(terminated(0, "Completed", ""), false);
    pass(&mut scene);
    scene = scene.is(conditions::BACKUP_COMPLETE);
    pass(&mut scene);
    assert_eq!(scene.status().phase, Phase::Stopped);
    scene = scene.no_pod();
    pass(&mut scene);
    assert_eq!(told, ["Running", "Stopping"], "Creating and Initializing where they last");
    assert_eq!(writes, 3, "creating, running, container gone");
    assert_eq!(waiting_writes, 4, "made, initializing, stopping, stopped: where they last");
    assert_eq!(calls, 5, "create, delete and release the pod, release and delete the workspace");
    assert!(!scene.status().is_true(conditions::FAILED));
}

#[test]
fn the_reconcile_that_sees_the_backup_stops_the_workspace_and_releases_the_pod() {
    let mut scene =
        running().stop_asked().deleting_pod().phase(Phase::Stopping).is(conditions::BACKUP_COMPLETE);
    let decision = scene.step();
    assert_eq!(scene.status().phase, Phase::Stopped);
    assert!(releases_pod(&decision));
}

#[test]
fn a_finished_headless_pod_is_deleted_after_its_backup() {
    let mut scene =
        headless(Kind::Prebuild).pod(PodPhase::Succeeded).container(terminated(0, "Completed", ""), false);
    let decision = scene.step();
    assert_eq!(scene.status().phase, Phase::Stopping);
    assert_eq!(deletes(&decision), None);
    scene = scene.is(conditions::BACKUP_COMPLETE);
    let decision = scene.step();
    assert_eq!(scene.status().phase, Phase::Stopped);
    assert_eq!(deletes(&decision), Some(None));
    assert!(releases_pod(&decision));
    assert!(!scene.status().is_true(conditions::FAILED));
}

#[test]
fn an_image_build_needs_no_backup() {
    let scene =
        headless(Kind::ImageBuild).pod(PodPhase::Succeeded).container(terminated(0, "Completed", ""), false);
    assert_eq!(scene.then().phase, Phase::Stopped);
}

#[test]
fn a_headless_pod_that_succeeds_at_once_counts_as_ever_ready() {
    let scene = in_phase(Phase::Creating).kind(Kind::Prebuild).ready_content().pod(PodPhase::Succeeded);
    assert!(scene.then().is_true(conditions::EVER_READY));
}

#[test]
fn secrets_are_deleted_when_the_workspace_first_runs_if_it_has_any() {
    let starting = |initializer: &[u8]| {
        let mut scene = in_phase(Phase::Initializing)
            .ready_content()
            .pod(PodPhase::Running)
            .container(ContainerState::Running, true);
        scene.workspace.spec.initializer.0.0.extend_from_slice(initializer);
        scene
    };
    assert!(!starting(b"").step().drop_secrets);
    let mut scene = starting(b"extracted-secret/initializer.git");
    assert!(scene.step().drop_secrets);
    assert!(!scene.step().drop_secrets);
}

#[test]
fn a_finished_workspace_is_released_and_deleted_with_its_secrets() {
    let mut scene = made().phase(Phase::Stopped).no_pod();
    assert_eq!(scene.decide().actions, [Action::ReleaseWorkspace, Action::DeleteWorkspace]);
    let ended = running().stop_asked().phase(Phase::Stopping).is(conditions::BACKUP_COMPLETE).no_pod();
    let ended = ended.condition(conditions::WORKSPACE_CONTAINER_RUNNING, "False", "Unknown", "");
    let decision = ended.decide();
    assert_eq!(decision.actions, [Action::ReleaseWorkspace, Action::DeleteWorkspace]);
    assert!(decision.status.is_empty(), "that it goes says that it is over");
    let mut held = ended;
    held.workspace.metadata.finalizers.get_or_insert_default().push("other/x".to_owned());
    assert_eq!(held.step().status.phase, Some(Phase::Stopped), "unless it stays");
    assert_eq!(held.decide().actions, [Action::ReleaseWorkspace, Action::DeleteWorkspace]);
    scene.workspace.spec.user_env_vars = vec![
        serde_json::from_value(serde_json::json!(
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "a-env", "key": "k"}}}
        ))
        .unwrap(),
    ];
    let secrets = Action::DeleteSecrets(SecretsToDelete { env: true, tokens: false });
    assert_eq!(scene.decide().actions, [secrets.clone(), Action::ReleaseWorkspace, Action::DeleteWorkspace]);
    assert_eq!(scene.deleted().decide().actions, [secrets, Action::ReleaseWorkspace]);
}

#[test]
fn transition_times_change_with_the_status_of_a_condition_only() {
    let mut scene = running();
    scene.step();
    let before = scene.status().condition(conditions::WORKSPACE_CONTAINER_RUNNING).cloned().unwrap();
    assert_eq!(before.observed_generation, Some(1));
    scene = scene.at(500).with_pod(|pod| pod.containers.clear());
    scene.step();
    let after = scene.status().condition(conditions::WORKSPACE_CONTAINER_RUNNING).cloned().unwrap();
    assert_eq!(after.last_transition_time.0, at(500));
    assert!(scene.status().conditions.iter().all(|condition| !condition.reason.is_empty()));
}
