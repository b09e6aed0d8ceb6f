//! Pods that their node refused.

use super::*;

fn refused() -> Scene {
    in_phase(Phase::Pending).refused_pod("OutOfcpu", "Pod was rejected: not enough cpu")
}

/// Simulates one refusal: the pod is deleted, wiped and gone, and the backoff is over. The next pod is not created yet.
fn play_refusal(mut scene: Scene) -> Scene {
    scene = scene.refused_pod("OutOfcpu", "Pod was rejected: not enough cpu");
    let decision = scene.step();
    assert!(deletes(&decision).is_some());
    scene = scene.deleting_pod();
    scene.step();
    assert_eq!(scene.status().phase, Phase::Stopping);
    scene = scene.is(conditions::STATE_WIPED);
    let decision = scene.step();
    assert!(releases_pod(&decision));
    scene = scene.no_pod();
    if let Some(at) = scene.step().next_check {
        scene.now = at;
    }
    scene
}

#[test]
fn every_refusal_reason_is_recognized() {
    for (reason, text) in [
        ("NodeAffinity", "Predicate NodeAffinity failed"),
        ("OutOfcpu", ""),
        ("OutOfmemory", ""),
        ("OutOfpods", ""),
        ("OutOfephemeral-storage", ""),
        ("UnexpectedAdmissionError", "device"),
        ("NodeShutdown", "shutting down"),
        ("Whatever", "Pod was rejected: something new"),
    ] {
        let status = in_phase(Phase::Pending).refused_pod(reason, text).then();
        assert!(status.is_true(conditions::POD_REJECTED), "{reason}");
        assert!(!status.is_true(conditions::FAILED), "{reason} is not the end yet");
        assert_eq!(status.phase, Phase::Stopping);
    }
}

#[test]
fn a_refusal_is_reported_though_the_pod_is_terminating_and_its_content_is_ready() {
    let status = refused().ready_content().deleting_pod().then();
    assert!(status.is_true(conditions::POD_REJECTED) && !status.is_true(conditions::FAILED));
    assert_eq!(status.phase, Phase::Stopping);
}

#[test]
fn a_workspace_that_ran_is_not_recreated() {
    let status = running().refused_pod("NodeShutdown", "going down").then();
    assert!(!status.is_true(conditions::POD_REJECTED));
    assert_eq!(message(&status, conditions::FAILED), "NodeShutdown: going down");
}

#[test]
fn the_pod_is_recreated_after_the_backoff_and_conditions_set_by_people_are_kept() {
    let mut scene = refused().is(conditions::FIRST_USER_ACTIVITY).is(conditions::CLOSED);
    scene.status_mut().last_activity = Some(Time(at(30)));
    scene = play_refusal(scene);
    let before = scene.status();
    assert_eq!(before.phase, Phase::Stopping, "never Stopped: it is not over");
    let decision = scene.step();
    assert_eq!(events(&decision), ["Recreating"]);
    let status = scene.status();
    assert_eq!((status.phase, status.pod_recreated, status.pod_starts), (Phase::Pending, Some(1), 1));
    assert_eq!(message(&status, conditions::POD_REJECTED), "Recreating pod... (1 retry)");
    for kept in [conditions::FIRST_USER_ACTIVITY, conditions::CLOSED] {
        assert!(status.is_true(kept));
    }
    assert_eq!(status.last_activity, Some(Time(at(30))));
    assert_eq!(status.owner_token, before.owner_token);
    for gone in [conditions::DEPLOYED, conditions::STATE_WIPED] {
        assert!(status.condition(gone).is_none());
    }
    assert!(status.runtime.is_none() && status.pod_stopping_time.is_none());
    assert!(!creates(&decision), "not before that is written");
    assert!(creates(&scene.step()));
    assert_eq!(scene.status().pod_starts, 2);
    assert!(!creates(&scene.step()));
}

#[test]
fn the_pod_is_not_recreated_before_the_backoff_is_over() {
    let mut scene = play_refusal(refused());
    scene.now = at(60);
    let decision = scene.decide();
    assert!(decision.status.is_empty());
    assert_eq!(decision.next_check.unwrap().duration_since(at(60)).as_millis(), 500);
}

#[test]
fn the_workspace_fails_after_the_last_allowed_recreation() {
    let mut scene = refused();
    for attempt in 1..=3 {
        scene = play_refusal(scene);
        scene.step();
        assert_eq!(scene.status().pod_recreated, Some(attempt));
        assert!(creates(&scene.step()));
        scene = scene.pod(PodPhase::Pending);
    }
    scene = play_refusal(scene);
    let status = scene.status();
    assert_eq!(status.phase, Phase::Stopped);
    assert!(message(&status, conditions::FAILED).contains("made again 3 times"));
    assert!(!creates(&scene.decide()));
    assert!(scene.decide().actions.contains(&Action::DeleteWorkspace));
}

#[test]
fn a_stop_during_the_backoff_ends_the_workspace() {
    type Scenes = [(&'static str, fn() -> Scene); 4];
    let stops: Scenes = [
        ("with the refused pod", || refused()),
        ("while it is deleted", || {
            let mut scene = refused();
            scene.step();
            scene.deleting_pod()
        }),
        ("while it waits", || {
            let mut scene = play_refusal(refused());
            scene.now = at(60);
            scene
        }),
        ("before the next pod", || {
            let mut scene = play_refusal(refused());
            scene.step();
            scene
        }),
    ];
    for (what, scene) in stops {
        let mut scene = scene().stop_asked();
        let mut is_over = false;
        for _ in 0..8 {
            let decision = scene.step();
            assert!(!creates(&decision), "{what}");
            is_over |= decision.actions.contains(&Action::ReleaseWorkspace);
            if is_over {
                break;
            }
            if deletes(&decision).is_some() {
                scene = scene.deleting_pod();
            } else if releases_pod(&decision) {
                scene = scene.no_pod();
            } else if scene.status().phase == Phase::Stopping {
                scene = scene.is(conditions::STATE_WIPED);
            }
        }
        let status = scene.status();
        assert!(is_over && scene.pods.is_empty(), "{what}: {status:?}");
        assert!(!status.is_true(conditions::FAILED), "{what}");
    }
}

#[test]
fn a_wipe_that_does_not_finish_fails_the_workspace() {
    let mut scene = refused();
    scene.step();
    scene = scene.deleting_pod();
    scene.step();
    scene = scene.at(60 + 55 * 60);
    scene.step();
    let status = scene.status();
    assert_eq!(status.condition(conditions::STATE_WIPED).unwrap().status, "False");
    assert!(message(&status, conditions::FAILED).starts_with("Wiping workspace state failed: gave up"));
    assert_eq!(status.phase, Phase::Stopped);
}

#[test]
fn a_refused_pod_whose_node_is_gone_is_recreated_on_another_node() {
    let mut scene = refused();
    scene.step();
    scene = scene.deleting_pod().node(NodeObservation::Gone);
    assert!(releases_pod(&scene.step()));
    scene = scene.no_pod().node(NodeObservation::Unknown);
    scene.now = at(120);
    scene.step();
    assert_eq!(scene.status().phase, Phase::Pending);
    assert!(!scene.status().is_true(conditions::FAILED));
}
