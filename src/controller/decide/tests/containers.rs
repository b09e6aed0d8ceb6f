//! Pods with sidecars and init containers, and containers that do not start.

use proptest::prelude::*;

use super::*;

fn failure(scene: Scene) -> Option<(String, String)> {
    let status = scene.then();
    let failed = status.condition(conditions::FAILED)?;
    Some((failed.reason.trim_end_matches("Fault").to_owned(), failed.message.clone()))
}

fn creating() -> Scene {
    in_phase(Phase::Creating).on_node(Readiness::Ready)
}

fn done() -> ContainerState {
    terminated(0, "Completed", "")
}

#[test]
fn a_ready_sidecar_does_not_make_the_workspace_ready() {
    let pull = || waiting("ErrImagePull", "x: not found");
    for phase in [PodPhase::Pending, PodPhase::Running] {
        let scene = creating()
            .ready_content()
            .container(pull(), false)
            .sidecar(ContainerState::Running, true)
            .pod(phase);
        let status = scene.then();
        assert_eq!(status.phase, Phase::Creating, "{phase:?}");
        assert_eq!(message(&status, conditions::WORKSPACE_CONTAINER_RUNNING), "x: not found");
        assert!(!status.is_true(conditions::EVER_READY));
    }
}

#[test]
fn a_sidecar_that_cannot_start_does_not_block_the_workspace() {
    let scene = in_phase(Phase::Initializing)
        .ready_content()
        .pod(PodPhase::Pending)
        .container(ContainerState::Running, true)
        .sidecar(waiting("ImagePullBackOff", "no such mesh"), false);
    let status = scene.then();
    assert_eq!(status.phase, Phase::Running);
    assert!(!status.is_true(conditions::FAILED));
}

#[test]
fn a_sidecar_that_ends_does_not_stop_the_workspace() {
    for end in [terminated(1, "Error", "mesh: no route"), terminated(137, "OOMKilled", ""), done()] {
        let status = running().sidecar(end, false).then();
        assert_eq!(status.phase, Phase::Running);
        assert!(!status.is_true(conditions::FAILED), "{}", message(&status, conditions::FAILED));
    }
}

#[test]
fn a_task_ends_with_its_container_though_a_sidecar_runs_on() {
    let task = || headless(Kind::Prebuild).container(done(), false);
    let mut scene = task().sidecar(ContainerState::Running, true);
    scene.step();
    assert_eq!(scene.status().phase, Phase::Stopping);
    assert!(!scene.status().is_true(conditions::WORKSPACE_CONTAINER_RUNNING), "the backup waits for that");
    scene = scene.is(conditions::BACKUP_COMPLETE);
    let decision = scene.step();
    assert_eq!((scene.status().phase, deletes(&decision)), (Phase::Stopped, Some(None)));
    assert!(!scene.status().is_true(conditions::FAILED));
    // A sidecar that fails fails the pod as a whole.
    let failed = task().sidecar(terminated(1, "Error", "mesh"), false).pod(PodPhase::Failed).then();
    assert!(!failed.is_true(conditions::FAILED) && !failed.is_true(conditions::HEADLESS_TASK_FAILED));
}

#[test]
fn a_workspace_ends_with_its_container_though_a_sidecar_runs_on() {
    let ended = |state| running().container(state, false).sidecar(ContainerState::Running, true);
    let text = "container workspace ran with an error: exit code 2";
    assert_eq!(failure(ended(terminated(2, "Error", ""))), Some(("User".to_owned(), text.to_owned())));
    let mut scene = ended(done());
    let decision = scene.step();
    assert_eq!(scene.status().phase, Phase::Stopping);
    assert_eq!(deletes(&decision), Some(None), "else the sidecar runs on for ever");
}

#[test]
fn an_init_container_that_fails_is_named_whatever_kind_the_workspace_is() {
    for kind in [Kind::Regular, Kind::Prebuild] {
        let scene = creating()
            .kind(kind)
            .with_pod(|pod| pod.name = pod::name(kind, "a"))
            .container(waiting("PodInitializing", ""), false)
            .init_container("first", done())
            .init_container("istio-init", terminated(3, "Error", "iptables: no permission"))
            .pod(PodPhase::Failed);
        let text = "init container istio-init failed (Error, exit code 3): iptables: no permission";
        assert_eq!(failure(scene), Some(("Platform".to_owned(), text.to_owned())));
    }
}

#[test]
fn a_pod_that_runs_init_containers_is_creating_and_not_unschedulable() {
    let scene = creating().container(waiting("PodInitializing", ""), false);
    let scene = scene.init_container("istio-proxy", ContainerState::Running);
    let status = scene.then();
    assert_eq!(status.phase, Phase::Creating);
    assert_eq!(message(&status, conditions::WORKSPACE_CONTAINER_RUNNING), "");
}

#[test]
fn an_init_container_that_cannot_start_is_named_and_fails_the_workspace_in_time() {
    let blocked = |reason: &str| {
        creating()
            .container(waiting("PodInitializing", ""), false)
            .init_container("proxy", waiting(reason, "back-off 40s"))
    };
    let mut scene = blocked("CrashLoopBackOff");
    scene.step();
    let text = "init container proxy: CrashLoopBackOff: back-off 40s";
    assert_eq!(message(&scene.status(), conditions::WORKSPACE_CONTAINER_RUNNING), text);
    let text = format!("the container cannot be started: {text}");
    assert_eq!(failure(scene.at(60 + 5 * 60)), Some(("Platform".to_owned(), text)));
    let text = "init container proxy: the image name is not valid: back-off 40s";
    assert_eq!(failure(blocked("InvalidImageName")), Some(("Platform".to_owned(), text.to_owned())));
}

#[test]
fn a_container_that_cannot_be_started_shows_the_reason_and_fails_after_its_own_timeout() {
    let cases = [
        ("CreateContainerError", "Platform"),
        ("CreateContainerConfigError", "Configuration"),
        ("RunContainerError", "Platform"),
        ("PostStartHookError", "Platform"),
        ("SomethingOfANewKubelet", "Platform"),
    ];
    for (reason, fault) in cases {
        let mut scene = creating().container(waiting(reason, "try 1"), false);
        let decision = scene.step();
        let status = scene.status();
        assert_eq!(status.phase, Phase::Creating, "{reason}");
        let running = status.condition(conditions::WORKSPACE_CONTAINER_RUNNING).unwrap();
        assert_eq!(running.reason, conditions::reason::CONTAINER_NOT_STARTED);
        assert_eq!(running.message, format!("{reason}: try 1"));
        assert!(status.is_true(conditions::CONTAINER_START_FAILING));
        assert_eq!(decision.next_check, Some(at(60 + 5 * 60)));
        scene = scene.at(60 + 299).container(waiting(reason, "try 2"), false);
        assert!(scene.decide().status.is_empty(), "the first text stays");
        scene = scene.at(60 + 300);
        scene.step();
        let failed = scene.status().condition(conditions::FAILED).cloned().unwrap();
        assert_eq!(failed.reason, format!("{fault}Fault"));
        assert_eq!(failed.message, format!("the container cannot be started: {reason}: try 1"));
        let text = "workspace timed out after starting the container (00h05m) took longer than 00h05m";
        assert_eq!(message(&scene.status(), conditions::TIMEOUT), text);
    }
}

#[test]
fn the_start_timeout_of_a_container_runs_only_while_its_start_fails() {
    let mut scene = creating().at(600).container(waiting("ContainerCreating", ""), false);
    scene.step();
    scene = scene.container(waiting("CreateContainerConfigError", "secret \"x\" not found"), false);
    scene.step();
    scene =
        scene.at(600 + 200).container(waiting("CreateContainerError", "context deadline exceeded"), false);
    scene.step();
    let text = "CreateContainerError: context deadline exceeded";
    assert_eq!(
        message(&scene.status(), conditions::WORKSPACE_CONTAINER_RUNNING),
        text,
        "another reason is told"
    );
    assert_eq!(failure(scene.clone().at(600 + 300)).map(|(fault, _)| fault).as_deref(), Some("Platform"));
    scene = scene.at(600 + 299).pod(PodPhase::Running).container(ContainerState::Running, false);
    scene.step();
    assert!(!scene.status().is_true(conditions::CONTAINER_START_FAILING));
    assert_eq!(failure(scene.at(1000)), None, "it was started in the end");
}

#[test]
fn a_container_that_can_never_start_fails_at_once() {
    for (reason, fault, text) in [
        ("InvalidImageName", "User", "the image name is not valid: x"),
        ("SignatureValidationFailed", "User", "the image's signature is not accepted: x"),
        (
            "ErrImageNeverPull",
            "Configuration",
            "the image is not on the node, and the pod must not pull it: x",
        ),
    ] {
        let scene = creating().container(waiting(reason, "x"), false);
        assert_eq!(failure(scene), Some((fault.to_owned(), text.to_owned())), "{reason}");
    }
}

#[test]
fn a_pod_without_the_workspaces_container_fails_at_once_and_names_those_it_has() {
    let renamed =
        |scene: Scene| scene.with_pod(|pod| pod.only_others = vec!["main".to_owned(), "mesh".to_owned()]);
    let mut scene = renamed(made().pod(PodPhase::Pending));
    let decision = scene.step();
    let text = "its pod ws-a has no container workspace, but main, mesh: a mutating webhook or policy of the cluster renamed \
                or removed it";
    assert_eq!(message(&scene.status(), conditions::FAILED), text);
    assert!(deletes(&decision).is_some());
    assert_eq!(failure(renamed(creating())).map(|(fault, _)| fault).as_deref(), Some("Configuration"));
    assert_eq!(failure(renamed(running())), None, "it was ready under another manager");
    assert_eq!(failure(renamed(creating().stop_asked())), None, "it ends already");
}

#[test]
fn an_unavailable_registry_is_retried_like_any_pull() {
    for reason in ["RegistryUnavailable", "ImageInspectError"] {
        let mut scene = creating().container(waiting(reason, "no route"), false);
        scene.step();
        let running = scene.status().condition(conditions::WORKSPACE_CONTAINER_RUNNING).cloned().unwrap();
        assert_eq!(running.reason, conditions::reason::IMAGE_PULL_FAILING, "{reason}");
        assert_eq!(failure(scene.clone().at(10 * 60)), None);
        let text = "cannot pull image: no route";
        assert_eq!(failure(scene.at(45 * 60)), Some(("Platform".to_owned(), text.to_owned())));
    }
}

#[test]
fn a_node_that_does_not_answer_is_reported_and_changes_no_phase() {
    let mut scene = running().on_node(Readiness::Ready);
    scene.step();
    assert!(scene.status().condition(conditions::NODE_NOT_READY).is_none(), "absent until it happens");
    for (readiness, reason, text) in [
        (Readiness::Unreachable, "Unreachable", "node node-1 does not answer"),
        (Readiness::NotReady, "NotReady", "node node-1 is not ready"),
    ] {
        scene = scene.on_node(readiness);
        scene.step();
        let told = scene.status().condition(conditions::NODE_NOT_READY).cloned().unwrap();
        assert_eq!(
            (told.status.as_str(), told.reason.as_str(), told.message.as_str()),
            ("True", reason, text)
        );
        assert_eq!(scene.status().phase, Phase::Running);
        assert!(scene.decide().status.is_empty(), "told once");
    }
    scene = scene.on_node(Readiness::Ready);
    scene.step();
    assert!(!scene.status().is_true(conditions::NODE_NOT_READY));
}

#[test]
fn an_earlier_pod_of_the_name_is_reported_with_its_finalizers() {
    let mut scene = fresh();
    let earlier = PodFacts { held_by: vec!["example.com/x".to_owned()], ..new_pod("ws-a", "pod-0", "uid-0") };
    scene.pods = vec![Arc::new(earlier)];
    let decision = scene.step();
    assert!(!creates(&decision));
    let told = scene.status().condition(conditions::WORKSPACE_CONTAINER_RUNNING).cloned().unwrap();
    assert_eq!(told.reason, conditions::reason::POD_NOT_CREATED);
    let text =
        "pod ws-a of an earlier workspace of this name is still there, held by finalizer example.com/x";
    assert_eq!(told.message, text);
    scene = scene.no_pod();
    assert!(creates(&scene.step()));
    assert_eq!(message(&scene.status(), conditions::WORKSPACE_CONTAINER_RUNNING), "");
}

/// A stopped workspace whose pod has been held by a foreign finalizer for an hour.
fn held() -> Scene {
    let mut scene =
        running().on_node(Readiness::Ready).stop_asked().deleting_pod().is(conditions::BACKUP_COMPLETE);
    scene.edit_pod(|pod| {
        pod.held_by = vec!["example.com/x".to_owned()];
        pod.all_terminated = true;
    });
    scene.step();
    assert_eq!(scene.status().phase, Phase::Stopped);
    scene.edit_pod(|pod| pod.has_finalizer = false);
    scene
}

fn goes(scene: &Scene) -> bool {
    scene.decide().actions.contains(&Action::DeleteWorkspace)
}

#[test]
fn a_foreign_finalizer_of_the_pod_is_reported_once() {
    let mut scene = held();
    let text = "its pod ws-a is held by finalizer example.com/x";
    assert_eq!(message(&scene.status(), conditions::POD_HELD), text);
    let decision = scene.step();
    assert!(decision.events.is_empty() && decision.status.is_empty());
    assert_eq!(decision.next_check, Some(at(60 + 60 * 60)), "when it is left behind");
    scene = scene.no_pod();
    scene.step();
    assert!(!scene.status().is_true(conditions::POD_HELD));
    assert!(goes(&scene), "it was released in the end");
}

#[test]
fn a_pod_held_by_foreign_finalizers_is_left_behind_once_nothing_can_be_lost() {
    let late = held().at(60 + 60 * 60);
    assert!(!goes(&held()), "it may go yet");
    assert!(goes(&late));
    assert!(late.decide().actions.contains(&Action::ReleaseWorkspace));
    assert!(!goes(&late.clone().with_pod(|pod| pod.all_terminated = false)), "a container may run");
    assert!(!goes(&late.clone().with_pod(|pod| pod.has_finalizer = true)), "ours is on it");
    assert!(!goes(&late.clone().maintenance(2 * 60 * 60)));
    let unproven = late.condition(conditions::BACKUP_COMPLETE, "False", "Unknown", "");
    assert!(!goes(&unproven));
    let failed = unproven.condition(conditions::BACKUP_FAILURE, "True", "BackupFailed", "disk");
    assert!(!goes(&failed), "the content is on the node alone");
    assert!(goes(&failed.clone().is(conditions::ABORTED)), "nobody wants it");
    assert!(goes(&failed.condition(conditions::CONTENT_READY, "False", "Unknown", "")), "there is none");
}

#[test]
fn a_refused_pod_held_by_foreign_finalizers_is_reported_and_fails_the_workspace_in_the_end() {
    let mut scene = made().refused_pod("OutOfcpu", "no cpu");
    scene.edit_pod(|pod| pod.held_by = vec!["example.com/x".to_owned()]);
    scene.step();
    scene = scene.deleting_pod().is(conditions::STATE_WIPED);
    assert!(releases_pod(&scene.step()));
    scene.edit_pod(|pod| pod.has_finalizer = false);
    assert_eq!(
        message(&scene.status(), conditions::POD_HELD),
        "its pod ws-a is held by finalizer example.com/x"
    );
    assert_eq!(scene.decide().next_check, Some(at(60 + 60 * 60)));
    scene = scene.at(60 + 60 * 60);
    scene.step();
    let text = "no other pod can be made: the refused pod ws-a stays, held by finalizer example.com/x";
    assert_eq!(message(&scene.status(), conditions::FAILED), text);
    assert_eq!(scene.status().phase, Phase::Stopped);
    assert!(!goes(&scene), "a container may run");
    assert!(goes(&scene.with_pod(|pod| pod.all_terminated = true)));
}

fn state() -> impl Strategy<Value = ContainerState> {
    const REASONS: [&str; 6] = [
        "",
        "ContainerCreating",
        "PodInitializing",
        "ErrImagePull",
        "CreateContainerError",
        "InvalidImageName",
    ];
    prop_oneof![
        Just(ContainerState::Running),
        prop::sample::select(&REASONS[..]).prop_map(|reason| waiting(reason, "mesh")),
        (prop_oneof![Just(0), Just(1), Just(137)], prop::bool::ANY).prop_map(|(code, oom)| terminated(
            code,
            if oom { "OOMKilled" } else { "Error" },
            "mesh"
        )),
    ]
}

fn sidecar() -> impl Strategy<Value = ContainerFacts> {
    (state(), prop::bool::ANY, prop::option::of(Just(1))).prop_map(|(state, ready, ended)| ContainerFacts {
        last_termination: ended.map(|exit_code| Termination {
            exit_code,
            reason: "Error".to_owned(),
            message: "mesh".to_owned(),
        }),
        ..other("mesh", state, ready)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Beside one that keeps running, so that the pod's phase says nothing of the workspace's container.
    #[test]
    fn nothing_that_a_sidecar_does_changes_a_decision(
        own in prop::option::of(state()),
        ready in prop::bool::ANY,
        is_headless in prop::bool::ANY,
        has_content in prop::bool::ANY,
        was_ready in prop::bool::ANY,
        phase in prop_oneof![Just(PodPhase::Pending), Just(PodPhase::Running)],
        sidecars in prop::collection::vec(sidecar(), 1..4),
        first in prop::bool::ANY,
    ) {
        let kind = if is_headless { Kind::Prebuild } else { Kind::Regular };
        let mut scene = creating().kind(kind).with_pod(|pod| pod.name = pod::name(kind, "a")).pod(phase);
        if has_content {
            scene = scene.ready_content();
        }
        if was_ready {
            scene = scene.phase(Phase::Running).is(conditions::EVER_READY);
        }
        if let Some(own) = own {
            scene = scene.container(own, ready);
        }
        let alone = scene.decide();
        scene.edit_pod(|pod| {
            let at = if first { 0 } else { pod.containers.len() };
            pod.containers.splice(at..at, sidecars);
        });
        prop_assert_eq!(scene.decide(), alone);
    }
}
