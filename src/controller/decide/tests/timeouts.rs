//! Timeouts of a workspace: the exact time, and the text.

use super::*;

const HOUR: i64 = 3600;

/// Checks that a second before the deadline only the next check is scheduled, and that the workspace ends at the deadline.
fn check(scene: &Scene, deadline: i64, text: &str) {
    let before = scene.clone().at(deadline - 1);
    let decision = before.decide();
    assert_eq!(decision.next_check, Some(at(deadline)), "{text}");
    assert!(!before.then().is_true(conditions::TIMEOUT), "{text}");
    let mut there = scene.clone().at(deadline);
    let decision = there.step();
    assert_eq!(message(&there.status(), conditions::TIMEOUT), text);
    assert!(events(&decision).contains(&"TimedOut"));
    let timeout = there.status().condition(conditions::TIMEOUT).cloned().unwrap();
    assert_eq!(timeout.reason, conditions::reason::TIMED_OUT);
    assert_eq!(there.status().phase, Phase::Stopping, "{text}");
    assert!(deletes(&decision).is_some(), "{text}");
}

fn active_at(seconds: i64) -> Scene {
    let mut scene = running();
    scene.status_mut().last_activity = Some(Time(at(seconds)));
    scene
}

fn with_timeout(mut scene: Scene, field: &str, value: &str) -> Scene {
    scene.workspace.spec.timeout = Some(serde_json::from_value(serde_json::json!({ field: value })).unwrap());
    scene
}

#[test]
fn pending() {
    let text = "workspace timed out after initialization (00h30m) took longer than 00h30m";
    check(&made().pod(PodPhase::Pending), 1800, text);
}

#[test]
fn creating() {
    let scene = in_phase(Phase::Creating).container(waiting("ContainerCreating", ""), false);
    let text = "workspace timed out after creating containers (00h45m) took longer than 00h45m";
    check(&scene, 45 * 60, text);
}

#[test]
fn initializing() {
    let scene =
        in_phase(Phase::Initializing).pod(PodPhase::Running).container(ContainerState::Running, false);
    check(&scene, 45 * 60, "workspace timed out after startup (00h45m) took longer than 00h45m");
}

#[test]
fn a_workspace_that_nobody_opened() {
    let text = "workspace timed out after period of inactivity (00h45m) took longer than 00h45m";
    check(&running(), 45 * 60, text);
}

#[test]
fn the_maximum_lifetime_comes_first_and_can_be_set() {
    let text = "workspace timed out after maximum lifetime (36h00m) took longer than 36h00m";
    check(&active_at(36 * HOUR - 60), 36 * HOUR, text);
    let text = "workspace timed out after maximum lifetime (02h00m) took longer than 02h00m";
    check(&with_timeout(active_at(2 * HOUR - 60), "maximumLifetime", "2h"), 2 * HOUR, text);
}

#[test]
fn headless() {
    let scene = with_timeout(super::headless(Kind::Prebuild), "time", "1m");
    let text = "workspace timed out after running the headless workspace (01h30m) took longer than 01h30m";
    check(&scene, 90 * 60, text);
}

#[test]
fn inactivity() {
    let text = "workspace timed out after period of inactivity (01h00m) took longer than 01h00m";
    check(&active_at(1000), 1000 + HOUR, text);
    let text = "workspace timed out after period of inactivity (03h00m) took longer than 03h00m";
    check(&with_timeout(active_at(1000), "time", "180m"), 1000 + 3 * HOUR, text);
}

#[test]
fn closed() {
    let closed = || active_at(1000).is(conditions::CLOSED);
    let text = "workspace timed out after after being closed (00h01m) took longer than 00h01m";
    check(&closed(), 1060, text);
    let text = "workspace timed out after after being closed (00h10m) took longer than 00h10m";
    check(&with_timeout(closed(), "closed", "10m"), 1600, text);
    let text = "workspace timed out after period of inactivity (01h00m) took longer than 01h00m";
    check(&with_timeout(closed(), "closed", "0"), 1000 + HOUR, text);
}

#[test]
fn a_timeout_that_does_not_parse_leaves_the_configured_one() {
    let text = "workspace timed out after period of inactivity (01h00m) took longer than 01h00m";
    check(&with_timeout(active_at(0), "time", "5"), HOUR, text);
}

#[test]
fn unknown_since_the_pods_state_is_unknown() {
    let mut scene = active_at(1000).pod(PodPhase::Unknown).at(1100);
    scene.step();
    assert_eq!(scene.status().phase, Phase::Unknown);
    let text = "workspace timed out after being interrupted (00h05m) took longer than 00h05m";
    check(&scene, 1100 + 300, text);
    scene = scene.pod(PodPhase::Running).container(ContainerState::Running, true).at(1200);
    scene.step();
    assert_eq!(scene.status().phase, Phase::Running);
    scene = scene.pod(PodPhase::Unknown).at(1390);
    let decision = scene.step();
    assert_eq!(decision.next_check, Some(at(1690)), "the clock starts anew");
}

#[test]
fn maintenance_suspends_them_until_it_ends() {
    let scene = active_at(0).at(2 * HOUR).maintenance(3 * HOUR);
    let decision = scene.decide();
    assert!(!scene.clone().then().is_true(conditions::TIMEOUT));
    assert_eq!(decision.next_check, Some(at(3 * HOUR)));
    assert!(scene.at(3 * HOUR).then().is_true(conditions::TIMEOUT));
}

#[test]
fn a_workspace_that_timed_out_checks_no_other_timeout() {
    let mut scene = active_at(0).at(HOUR);
    scene.step();
    let first = scene.status();
    scene = scene.at(40 * HOUR);
    scene.status_mut().pod_stopping_time = Some(Time(at(40 * HOUR)));
    scene.step();
    assert_eq!(message(&scene.status(), conditions::TIMEOUT), message(&first, conditions::TIMEOUT));
}

#[test]
fn a_pending_workspace_without_a_pod_stops_when_it_times_out() {
    let mut scene = fresh().at(1800);
    let decision = scene.step();
    assert!(!creates(&decision));
    assert_eq!(scene.status().phase, Phase::Stopped);
}

#[test]
fn a_zero_limit_means_at_once() {
    let mut scene = running();
    scene.settings.timeouts.max_lifetime = Duration::ZERO;
    assert!(scene.then().is_true(conditions::TIMEOUT));
}

#[test]
fn a_workspace_that_times_out_while_it_starts_reports_the_last_event_of_its_pod() {
    let mut scene = made().pod(PodPhase::Pending).at(1800);
    assert!(scene.decide().query.unwrap().starting);
    let (reason, message_of) = ("FailedMount".to_owned(), "no such volume".to_owned());
    scene.pod_event = Some(PodEvent { reason, message: message_of, warning: true, at: None });
    let told = "workspace timed out after initialization (00h30m) took longer than 00h30m \
                (last event of its pod: FailedMount: no such volume)";
    assert_eq!(message(&scene.clone().then(), conditions::TIMEOUT), told);
    // The reason for the wait is the failure, and that has the event.
    let waits = scene.container(waiting("ImagePullBackOff", "Back-off pulling image"), false).at(45 * 60);
    let status = waits.phase(Phase::Creating).then();
    assert!(
        message(&status, conditions::FAILED)
            .ends_with("(last event of its pod: FailedMount: no such volume)")
    );
    assert!(message(&status, conditions::TIMEOUT).ends_with("took longer than 00h45m"));
    assert_eq!(active_at(0).at(HOUR).decide().query, None, "nobody uses it, and its pod is well");
}
