//! Stops in every phase, vanished pods, deleted nodes, and timeouts of the end.

use super::*;

/// Simulates what follows a request to end: the pod is deleted, the node agent backs up.
fn play_out(mut scene: Scene) -> (Scene, bool) {
    let (mut created, mut was_backed_up) = (false, false);
    for _ in 0..12 {
        let decision = scene.step();
        created |= creates(&decision);
        if deletes(&decision).is_some() && !scene.pods.is_empty() {
            scene = scene.deleting_pod();
            continue;
        }
        let status = scene.status();
        if decision.actions.contains(&Action::ReleaseWorkspace) {
            assert!(scene.pods.is_empty() && !created, "a pod is left, or was made for what was to end");
            return (scene, was_backed_up);
        }
        if releases_pod(&decision) {
            scene = scene.no_pod();
        } else if status.phase == Phase::Stopping && status.is_true(conditions::WORKSPACE_CONTAINER_RUNNING) {
            scene = scene.container(terminated(0, "Completed", ""), false);
        } else if status.phase == Phase::Stopping && status.is_true(conditions::CONTENT_READY) {
            scene = scene.is(conditions::BACKUP_COMPLETE);
            was_backed_up = true;
        } else if let Some(at) = decision.next_check {
            scene.now = at;
        }
    }
    panic!("it does not end: {:?}", scene.status());
}

fn each_phase() -> Vec<(&'static str, Scene)> {
    let creating = in_phase(Phase::Creating).container(waiting("ContainerCreating", ""), false);
    let initializing =
        in_phase(Phase::Initializing).pod(PodPhase::Running).container(ContainerState::Running, false);
    vec![
        ("before the first pass", fresh()),
        ("before the pod is seen", made()),
        ("pending", made().pod(PodPhase::Pending)),
        ("creating", creating),
        ("initializing", initializing),
        ("running", running()),
        ("unknown", running().pod(PodPhase::Unknown)),
        ("vanished", running().no_pod()),
    ]
}

#[test]
fn a_stop_in_any_phase_ends_the_workspace_without_a_new_pod() {
    for (what, scene) in each_phase() {
        let (ended, backed_up) = play_out(scene.stop_asked());
        let needs_backup = matches!(what, "running" | "unknown" | "vanished");
        assert_eq!(backed_up, needs_backup, "{what}");
        assert!(!ended.status().is_true(conditions::FAILED), "{what}: {:?}", ended.status());
    }
}

#[test]
fn deleting_the_resource_in_any_phase_ends_the_workspace_with_a_backup() {
    for (what, scene) in each_phase() {
        let (ended, backed_up) = play_out(scene.deleted());
        let needs_backup = matches!(what, "running" | "unknown" | "vanished");
        assert_eq!(backed_up, needs_backup, "{what}");
        let deletes = ended.decide().actions.contains(&Action::DeleteWorkspace);
        assert!(!deletes, "{what}: it is being deleted");
    }
}

#[test]
fn the_grace_period_is_that_of_the_stop_request() {
    for (text, grace) in
        [("30s", Some(30)), ("1s", Some(1)), ("1m1.5s", Some(61)), ("soon", None), ("", None)]
    {
        let reason = conditions::reason::STOP_WORKSPACE_REQUEST;
        let scene = running().condition(conditions::STOPPED_BY_REQUEST, "True", reason, text);
        assert_eq!(deletes(&scene.decide()), Some(grace), "{text:?}");
    }
    assert_eq!(deletes(&running().deleted().decide()), Some(None));
}

#[test]
fn an_aborted_workspace_is_not_backed_up() {
    let scene = running().is(conditions::ABORTED).stop_asked().phase(Phase::Stopping).deleting_pod();
    assert_eq!(scene.then().phase, Phase::Stopped);
}

#[test]
fn a_pod_that_vanishes_fails_the_workspace_which_is_still_backed_up() {
    let mut scene = running().no_pod();
    let decision = scene.step();
    let looks = matches!(&decision.actions[..], [Action::CheckForPod { .. }]);
    assert!(looks, "what is there is asked for before anything is said: {:?}", decision.actions);
    let status = scene.status();
    assert_eq!(status.phase, Phase::Stopping);
    assert_eq!(events(&decision), ["Failed", "Stopping"]);
    assert!(message(&status, conditions::FAILED).contains("vanished from node node-1"));
    assert_eq!(status.condition(conditions::FAILED).unwrap().reason, "PlatformFault");
    assert_eq!(status.condition(conditions::WORKSPACE_CONTAINER_RUNNING).unwrap().status, "False");
    let (_, backed_up) = play_out(scene);
    assert!(backed_up);
}

#[test]
fn a_pod_that_vanishes_before_it_had_content_ends_the_workspace_at_once() {
    let mut scene = in_phase(Phase::Creating).no_pod();
    scene.step();
    assert_eq!(scene.status().phase, Phase::Stopped);
    assert!(message(&scene.status(), conditions::FAILED).contains("vanished"));
}

#[test]
fn a_pod_counts_as_vanished_only_when_the_watch_had_time_to_show_it() {
    let scene = made();
    let decision = scene.decide();
    assert!(decision.status.is_empty());
    assert_eq!(decision.next_check, Some(at(70)));
    let status = scene.at(70).then();
    assert!(status.is_true(conditions::FAILED));
}

#[test]
fn a_lost_node_loses_the_content_and_is_reported() {
    let mut scene = running().node(NodeObservation::Gone);
    let decision = scene.step();
    let status = scene.status();
    assert!(status.is_true(conditions::NODE_DISAPPEARED));
    assert!(message(&status, conditions::BACKUP_FAILURE).starts_with("node disappeared before backup"));
    assert!(message(&status, conditions::FAILED).starts_with("Backup failed: node disappeared"));
    assert!(deletes(&decision).is_some());
    assert_eq!(scene.deleting_pod().then().phase, Phase::Stopped);
}

#[test]
fn a_node_lost_after_the_backup_loses_nothing() {
    let scene = running()
        .stop_asked()
        .phase(Phase::Stopping)
        .deleting_pod()
        .is(conditions::BACKUP_COMPLETE)
        .node(NodeObservation::Gone);
    let status = scene.then();
    assert_eq!(status.phase, Phase::Stopped);
    assert!(!status.is_true(conditions::FAILED));
}

#[test]
fn a_node_lost_before_there_was_content_fails_the_workspace() {
    let status = in_phase(Phase::Creating).node(NodeObservation::Gone).then();
    assert!(message(&status, conditions::FAILED).contains("node node-1 of the workspace disappeared"));
    assert!(status.condition(conditions::BACKUP_FAILURE).is_none());
}

#[test]
fn a_backup_that_does_not_finish_is_given_up_and_the_place_of_the_content_is_reported() {
    let mut scene = running().stop_asked().deleting_pod();
    let decision = scene.step();
    assert_eq!(decision.next_check, Some(at(60 + 55 * 60)));
    scene = scene.at(60 + 55 * 60);
    let decision = scene.step();
    let status = scene.status();
    assert_eq!(status.phase, Phase::Stopped);
    let text = message(&status, conditions::BACKUP_FAILURE);
    assert_eq!(
        text,
        "gave up waiting after 00h55m; the content is still on node node-1 at /var/gitpod/workspaces-mk2/a"
    );
    assert!(message(&status, conditions::FAILED).starts_with("Backup failed: gave up"));
    assert!(message(&status, conditions::TIMEOUT).contains("after backup (00h55m) took longer than 00h55m"));
    assert!(releases_pod(&decision));
}

#[test]
fn maintenance_suspends_the_timeout_of_the_backup() {
    let mut scene = running().stop_asked().deleting_pod();
    scene.step();
    scene = scene.at(60 + 55 * 60).maintenance(10_000);
    let decision = scene.step();
    assert!(decision.status.is_empty());
    assert_eq!(decision.next_check, Some(at(10_000)));
}

#[test]
fn a_pod_that_does_not_terminate_is_deleted_by_force_in_the_end() {
    let mut scene = running().stop_asked().deleting_pod().is(conditions::BACKUP_COMPLETE);
    let decision = scene.step();
    assert_eq!(scene.status().phase, Phase::Stopped);
    assert_eq!(decision.next_check, Some(at(60 + 60 * 60)));
    scene = scene.at(60 + 60 * 60);
    assert_eq!(deletes(&scene.decide()), Some(Some(0)));
}

#[test]
fn a_pod_on_a_node_that_is_gone_is_deleted_by_force_at_once() {
    let gone = running().node(NodeObservation::Gone);
    assert_eq!(deletes(&gone.decide()), Some(Some(0)));
    let being_deleted = running().stop_asked().deleting_pod().node(NodeObservation::Gone);
    assert_eq!(deletes(&being_deleted.decide()), Some(Some(0)));
}

#[test]
fn more_than_one_pod_fails_the_workspace_and_all_are_deleted() {
    let mut scene = running();
    scene.pods.push(Arc::new(new_pod("stray", "pod-2", UID)));
    let decision = scene.step();
    assert!(message(&scene.status(), conditions::FAILED).contains("more than one pod"));
    let deleted = decision.actions.iter().filter(|action| matches!(action, Action::DeletePod { .. }));
    assert_eq!(deleted.count(), 2);
}

#[test]
fn orphaned_pods_are_released_once_they_are_terminating() {
    let mut pod = new_pod("ws-a", "pod-1", UID);
    assert!(decide_orphans(&[Arc::new(pod.clone())]).is_empty());
    pod.deleting_since = Some(at(0));
    assert_eq!(decide_orphans(&[Arc::new(pod)]).len(), 1);
}

fn denied(scene: &Scene, action: impl Fn(&Action) -> bool) -> Denial {
    let actions = scene.decide().actions;
    let action = actions.iter().find(|one| action(one)).expect("the action that is denied");
    action.denied("admission webhook hook.example denied it (403 Forbidden)").unwrap()
}

#[test]
fn a_pod_whose_deletion_is_refused_is_reported_and_its_backup_is_not_given_up_meanwhile() {
    let mut scene = running().stop_asked();
    scene.denial = Some(denied(&scene, |action| matches!(action, Action::DeletePod { .. })));
    let decision = scene.step();
    assert_eq!(events(&decision), ["WriteRefused", "Stopping"]);
    let told = scene.status().condition(conditions::WRITE_REFUSED).cloned().unwrap();
    assert_eq!((told.status.as_str(), told.reason.as_str()), ("True", "PodNotDeleted"));
    let text = "the cluster refuses to delete its pod ws-a: admission webhook hook.example denied it (403 Forbidden)";
    assert_eq!(told.message, text);
    assert_eq!(scene.status().phase, Phase::Stopping);
    assert_eq!(scene.status().pod_stopping_time, None, "its containers run: no backup is waited for");
    let decision = scene.step();
    assert!(decision.status.is_empty() && decision.events.is_empty(), "told once");
    // Long after every limit.
    scene = scene.at(48 * 60 * 60);
    scene.step();
    assert!(!scene.status().is_true(conditions::BACKUP_FAILURE), "nobody could save it yet");
    scene.denial = None;
    let decision = scene.step();
    assert_eq!(deletes(&decision), Some(Some(30)), "it is asked for again");
    assert!(!scene.status().is_true(conditions::WRITE_REFUSED));
    scene = scene.deleting_pod();
    scene.step();
    assert_eq!(scene.status().pod_stopping_time, Some(Time(scene.now)), "the wait for the backup begins");
}

#[test]
fn a_workspace_whose_last_writes_are_refused_says_so_and_ends_once_they_are_taken() {
    let is_release = |action: &Action| matches!(action, Action::ReleasePod { .. });
    let mut scene =
        running().stop_asked().is(conditions::BACKUP_COMPLETE).deleting_pod().phase(Phase::Stopping);
    scene.denial = Some(denied(&scene, is_release));
    scene.step();
    assert_eq!(scene.status().phase, Phase::Stopped, "its content is safe");
    assert!(message(&scene.status(), conditions::WRITE_REFUSED).contains("remove the finalizer"));
    scene.denial = None;
    scene = scene.no_pod();
    scene.denial = Some(denied(&scene, |action| *action == Action::ReleaseWorkspace));
    scene.step();
    let told = scene.status().condition(conditions::WRITE_REFUSED).cloned().unwrap();
    assert_eq!(told.reason, "WorkspaceNotReleased");
    assert!(scene.decide().status.is_empty());
    scene.denial = None;
    let decision = scene.decide();
    assert!(decision.status.is_empty(), "no status is written on the way out");
    assert!(decision.actions.contains(&Action::DeleteWorkspace));
}

#[test]
fn a_finished_task_whose_pod_cannot_be_deleted_has_its_limit_once_it_can() {
    let task = headless(Kind::ImageBuild).container(terminated(0, "Completed", ""), false);
    let mut scene = task.phase(Phase::Running);
    scene.denial = Some(denied(&scene, |action| matches!(action, Action::DeletePod { .. })));
    scene.step();
    assert_eq!(scene.status().phase, Phase::Stopped);
    assert_eq!(scene.status().pod_stopping_time, Some(Time(scene.now)), "nothing sets it later");
}

#[test]
fn a_task_whose_backup_is_given_up_stays_given_up_though_its_pod_cannot_be_deleted() {
    let mut scene = headless(Kind::Prebuild).container(terminated(0, "Completed", ""), false);
    scene.step();
    assert_eq!(scene.status().phase, Phase::Stopping, "the pod stays for the backup");
    scene = scene.at(2 * 60 * 60);
    scene.denial = Some(denied(&scene, |action| matches!(action, Action::DeletePod { .. })));
    scene.step();
    assert_eq!(scene.status().phase, Phase::Stopped);
    assert!(scene.status().is_true(conditions::BACKUP_FAILURE));
    assert!(scene.decide().status.is_empty());
    scene.denial = None;
    assert_eq!(deletes(&scene.decide()), Some(None), "it is asked for again");
}
