//! The first reconcile: URL, token, pod.

use super::*;

#[test]
fn the_first_reconcile_creates_the_pod_and_writes_everything_at_once() {
    let mut scene = fresh();
    scene.workspace.metadata.annotations =
        Some([(names::GENERATION.to_owned(), "3".to_owned())].into_iter().collect());
    let decision = scene.step();
    assert!(creates(&decision));
    assert_eq!(events(&decision), ["Creating"]);
    let patch = decision.status.to_patch();
    assert_eq!(patch["status"]["url"], "https://meta-1.ws.example.com");
    assert_eq!(patch["status"]["ownerToken"], "token-a-3");
    assert_eq!(patch["status"]["podStarts"], 1);
    assert_eq!(patch["status"]["phase"], "Pending");
    assert!(scene.step().status.is_empty());
    assert!(!creates(&scene.decide()));
}

#[test]
fn an_existing_token_or_url_is_kept() {
    let mut scene = fresh();
    scene.status_mut().url = Some("https://other".to_owned());
    scene.status_mut().owner_token = Some(resources::OwnerToken("old".to_owned()));
    let status = scene.then();
    assert_eq!(status.url.as_deref(), Some("https://other"));
    assert_eq!(status.owner_token.unwrap().0, "old");
}

#[test]
fn an_existing_pod_counts_as_created() {
    // The process ended between creating the pod and writing the status.
    let mut scene = fresh().pod(PodPhase::Pending);
    let decision = scene.step();
    assert!(!creates(&decision));
    assert_eq!(scene.status().pod_starts, 1);
    assert!(scene.status().is_true(conditions::DEPLOYED));
}

#[test]
fn no_pod_is_created_while_an_earlier_workspace_of_the_name_has_one() {
    let mut scene = fresh();
    scene.pods = vec![Arc::new(new_pod("ws-a", "pod-0", "uid-0"))];
    let decision = scene.step();
    assert!(decision.actions.is_empty());
    assert_eq!(scene.status().phase, Phase::Pending);
    scene.edit_pod(|pod| pod.deleting_since = Some(at(0)));
    assert!(releases_pod(&scene.decide()), "nobody else would release it");
    scene = scene.no_pod();
    assert!(creates(&scene.decide()));
}

#[test]
fn a_workspace_without_a_valid_pod_fails_once_and_ends() {
    let check = |spoil: fn(&mut Scene), text: &str| {
        let mut scene = fresh();
        spoil(&mut scene);
        let decision = scene.step();
        assert!(!creates(&decision));
        let status = scene.status();
        assert_eq!(status.phase, Phase::Stopped);
        let failed = status.condition(conditions::FAILED).unwrap();
        assert_eq!(failed.reason, "ConfigurationFault");
        assert!(failed.message.contains(text), "{}", failed.message);
        assert!(scene.decide().actions.ends_with(&[Action::ReleaseWorkspace, Action::DeleteWorkspace]));
    };
    check(|scene| scene.workspace.spec.class = "huge".to_owned(), "\"huge\" is not configured");
    check(|scene| scene.workspace.spec.initializer.0.0 = vec![255], "initializer");
    check(|scene| scene.settings.registry_facade_host = None, "no registry facade");
    check(|scene| scene.workspace.metadata.name = Some("a.b".to_owned()), "workspace id");
}

#[test]
fn a_pod_that_the_cluster_rejects_as_invalid_fails_the_workspace() {
    let mut scene = fresh();
    scene.refusal = Some(Refusal { message: "spec.hostname: too long".to_owned(), is_final: true });
    let decision = scene.step();
    assert!(!creates(&decision));
    assert_eq!(scene.status().phase, Phase::Stopped);
    assert!(message(&scene.status(), conditions::FAILED).contains("too long"));
}

#[test]
fn a_pod_that_the_cluster_rejects_for_now_shows_the_reason() {
    let mut scene = fresh();
    scene.refusal = Some(Refusal { message: "exceeded quota".to_owned(), is_final: false });
    scene.step();
    let status = scene.status();
    assert_eq!((status.phase, status.pod_starts), (Phase::Pending, 0));
    assert!(message(&status, conditions::WORKSPACE_CONTAINER_RUNNING).contains("exceeded quota"));
    scene.refusal = None;
    assert!(creates(&scene.decide()));
    let status = scene.at(1800).then();
    assert!(message(&status, conditions::FAILED).contains("exceeded quota"));
}
