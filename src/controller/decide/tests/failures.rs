//! What counts as a failure, and its message.

use super::*;

/// The failure after one reconcile, as fault and text.
fn failure(scene: Scene) -> Option<(String, String)> {
    let status = scene.then();
    let failed = status.condition(conditions::FAILED)?;
    Some((failed.reason.trim_end_matches("Fault").to_owned(), failed.message.clone()))
}

fn check(scene: Scene, fault: &str, text: &str) {
    assert_eq!(failure(scene), Some((fault.to_owned(), text.to_owned())));
}

fn ended(exit_code: i32, reason: &str, message: &str) -> Scene {
    running().pod(PodPhase::Running).container(terminated(exit_code, reason, message), false)
}

#[test]
fn content_that_cannot_be_initialized() {
    let reason = conditions::reason::INITIALIZATION_FAILURE;
    let scene =
        |text| in_phase(Phase::Initializing).condition(conditions::CONTENT_READY, "False", reason, text);
    check(scene("no repo"), "User", "Content initialization failed: no repo");
    check(scene(""), "User", "Content initialization failed for an unknown reason");
}

#[test]
fn a_backup_that_fails() {
    let scene =
        running().deleting_pod().condition(conditions::BACKUP_FAILURE, "True", "BackupFailed", "full");
    check(scene, "Platform", "Backup failed: full");
}

#[test]
fn state_that_cannot_be_wiped() {
    let scene = made()
        .is(conditions::POD_REJECTED)
        .refused_pod("OutOfcpu", "no cpu")
        .deleting_pod()
        .condition(conditions::STATE_WIPED, "False", "Unknown", "busy");
    check(scene, "Platform", "Wiping workspace state failed: busy");
}

#[test]
fn an_eviction_is_the_users_fault_if_the_workspace_exceeded_its_limit() {
    let evicted = |text: &str| running().refused_pod("Evicted", text);
    let own = "Pod ephemeral local storage usage exceeds the total limit of containers 5Gi.";
    check(evicted(own), "User", &format!("Evicted: {own}"));
    let pressure = "The node was low on resource: memory.";
    check(evicted(pressure), "Platform", &format!("Evicted: {pressure}"));
}

#[test]
fn disruptions_are_explained() {
    let disrupted = |reason: &str| {
        running().deleting_pod().with_pod(|pod| pod.disruption = Some((reason.to_owned(), "why".to_owned())))
    };
    for (reason, text) in [
        ("PreemptionByScheduler", "Preempted: a pod of higher priority took its place: why"),
        ("EvictionByEvictionAPI", "Evicted: the node is being drained: why"),
        ("DeletionByTaintManager", "Evicted: the node has a taint that the workspace does not tolerate: why"),
    ] {
        check(disrupted(reason), "Platform", text);
    }
    assert_eq!(failure(disrupted("PreemptionByScheduler").stop_asked()), None, "it was to end anyway");
}

#[test]
fn a_pod_deleted_by_hand_stops_the_workspace_gracefully() {
    let status = running().deleting_pod().then();
    assert_eq!(status.phase, Phase::Stopping);
    assert!(!status.is_true(conditions::FAILED));
}

#[test]
fn out_of_memory_is_explained() {
    check(
        ended(137, "OOMKilled", ""),
        "User",
        "container workspace ran out of memory (OOMKilled, exit code 137)",
    );
}

#[test]
fn an_image_pull_that_fails_is_retried_and_the_reason_is_shown() {
    let text = "failed to pull: connection refused";
    let mut scene = in_phase(Phase::Creating).container(waiting("ErrImagePull", text), false);
    scene.step();
    let status = scene.status();
    assert_eq!(status.phase, Phase::Creating);
    assert!(!status.is_true(conditions::FAILED));
    assert_eq!(message(&status, conditions::WORKSPACE_CONTAINER_RUNNING), text);
    scene = scene.container(waiting("ImagePullBackOff", "Back-off pulling image"), false);
    assert!(scene.decide().status.is_empty(), "one failing pull is told once");
    check(scene.at(45 * 60), "Platform", "cannot pull image: failed to pull: connection refused");
    let missing = in_phase(Phase::Creating).container(waiting("ErrImagePull", "x: not found"), false);
    check(missing.at(45 * 60), "User", "cannot pull image: x: not found");
}

#[test]
fn the_reason_of_a_failed_pull_is_removed_when_a_retry_succeeds() {
    let mut scene = in_phase(Phase::Creating).container(waiting("ErrImagePull", "x"), false);
    scene.step();
    scene = scene.container(waiting("ContainerCreating", ""), false);
    assert_eq!(message(&scene.then(), conditions::WORKSPACE_CONTAINER_RUNNING), "");
}

#[test]
fn an_image_name_that_is_not_valid_is_fatal_at_once() {
    let scene = in_phase(Phase::Creating).container(waiting("InvalidImageName", "x/"), false);
    check(scene, "User", "the image name is not valid: x/");
}

#[test]
fn the_termination_message_is_the_failure() {
    let log = "{\"message\":\"first\"}\nnoise\n{\"message\":\"last\",\"error\":\"boom\"}";
    check(ended(1, "Error", log), "User", "last: boom");
    check(ended(1, "Error", "plain words"), "User", "plain words");
}

#[test]
fn a_headless_task_may_fail_without_failing_the_workspace() {
    let scene = headless(Kind::Prebuild)
        .pod(PodPhase::Failed)
        .container(terminated(1, "Error", "headless task failed: exit 1"), false);
    let status = scene.then();
    assert!(!status.is_true(conditions::FAILED));
    assert_eq!(message(&status, conditions::HEADLESS_TASK_FAILED), "headless task failed: exit 1");
}

#[test]
fn exit_codes_without_a_message() {
    check(ended(2, "Error", ""), "User", "container workspace ran with an error: exit code 2");
    check(ended(137, "Error", ""), "Platform", "the workspace's pod ended unexpectedly (exit code 137)");
    assert_eq!(failure(ended(2, "Error", "").deleting_pod()), None);
    let text = "container workspace completed; a workspace's container is not supposed to end";
    check(ended(0, "Completed", ""), "User", text);
    let text = "container workspace terminated for an unknown reason: (StartError) ";
    check(ended(255, "StartError", ""), "Platform", text);
    let done = headless(Kind::Prebuild).container(terminated(0, "Completed", ""), false);
    assert_eq!(failure(done), None);
}

#[test]
fn a_container_with_unknown_status_does_not_fail_on_a_healthy_node() {
    let lost = || ended(137, "ContainerStatusUnknown", "The container could not be located");
    let node = |tainted| NodeObservation::Present { tainted, readiness: Readiness::Ready };
    assert_eq!(failure(lost().node(node(false))), None);
    let tainted = lost().node(node(true));
    check(tainted, "Platform", "The container could not be located");
}

#[test]
fn a_regular_pod_that_ends_without_a_message_fails() {
    let scene = ended(137, "Error", "").pod(PodPhase::Failed);
    check(scene, "Platform", "the workspace's pod ended unexpectedly (exit code 137)");
}

#[test]
fn the_first_failure_is_kept() {
    let mut scene = ended(2, "Error", "");
    scene.step();
    let first = scene.status().condition(conditions::FAILED).cloned();
    scene = scene.at(90).condition(conditions::BACKUP_FAILURE, "True", "BackupFailed", "full");
    let decision = scene.step();
    assert_eq!(scene.status().condition(conditions::FAILED).cloned(), first);
    assert!(!events(&decision).contains(&"Failed"));
}

#[test]
fn an_unschedulable_pod_shows_the_reason() {
    let mut scene = made().pod(PodPhase::Pending);
    scene.edit_pod(|pod| pod.unschedulable = Some("0/3 nodes are available".to_owned()));
    let status = scene.clone().then();
    assert_eq!(status.phase, Phase::Pending);
    assert_eq!(message(&status, conditions::WORKSPACE_CONTAINER_RUNNING), "0/3 nodes are available");
    check(scene.at(1800), "Platform", "the pod cannot be scheduled: 0/3 nodes are available");
}

fn told(mut scene: Scene, reason: &str, message: &str) -> Scene {
    let (reason, message) = (reason.to_owned(), message.to_owned());
    scene.pod_event = Some(PodEvent { reason, message, warning: true, at: None });
    scene
}

#[test]
fn a_new_failure_queries_the_events_of_its_pod_and_reports_the_last_one_once() {
    let scene = ended(1, "Error", "");
    let query = scene.decide().query.unwrap();
    assert_eq!((query.pod.as_str(), query.uid.as_deref(), query.starting), ("ws-a", Some("pod-1"), false));
    let mut told = told(scene, "FailedPostStartHook", "no such file");
    assert_eq!(told.step().query, None, "the answer is there");
    let text = "container workspace ran with an error: exit code 1 \
                (last event of its pod: FailedPostStartHook: no such file)";
    assert_eq!(message(&told.status(), conditions::FAILED), text);
    told.pod_event = None;
    assert_eq!(told.decide().query, None, "it failed before");
    assert_eq!(running().decide().query, None);
}

#[test]
fn an_event_with_the_text_of_the_failure_is_not_repeated() {
    let scene = running().refused_pod("Evicted", "The node was low on resource: memory.").ready_content();
    let status = told(scene, "Evicted", "The node was low on resource: memory.").then();
    assert_eq!(message(&status, conditions::FAILED), "Evicted: The node was low on resource: memory.");
}

#[test]
fn for_a_vanished_pod_the_events_since_its_creation_are_queried() {
    let query = running().no_pod().decide().query.unwrap();
    assert_eq!((query.pod.as_str(), query.uid, query.since), ("ws-a", None, Some(at(60))));
    let mut no_pod = fresh();
    no_pod.workspace.spec.class = "unknown".to_owned();
    let decision = no_pod.step();
    assert!(no_pod.status().is_true(conditions::FAILED) && decision.query.is_none(), "there never was one");
}
