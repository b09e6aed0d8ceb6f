use super::*;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_failed_start_closes_a_namespace_only_if_the_leaders_dry_run_fails_too() {
    let mut learned = Acceptance::default();
    learned.workspace_failed(at(1), "no answer within 3s".to_owned());
    assert_eq!((learned.closed(at(2)), learned.is_unexplained()), (None, true));
    assert_eq!(learned.workspaces_fail(), Some("no answer within 3s"));
    learned.canary_failed(at(3), "no answer within 3s".to_owned());
    assert!(learned.closed(at(4)).unwrap().contains("no answer within 3s"));
    assert!(!learned.is_unexplained());
    learned.canary_accepted();
    assert_eq!((learned.closed(at(4)), learned.workspaces_fail()), (None, None));
}

#[test]
fn without_dry_runs_a_start_is_tried_after_a_backoff_that_doubles_up_to_five_minutes() {
    let mut learned = Acceptance::default();
    learned.canary_blind();
    let mut now = 0;
    for pause in [30, 60, 120, 240, 300, 300] {
        learned.workspace_failed(at(now), "webhook".to_owned());
        assert!(learned.closed(at(now + pause - 1)).is_some(), "{pause}");
        assert_eq!(learned.closed(at(now + pause)), None, "{pause}");
        now += pause;
    }
    learned.workspace_accepted();
    assert_eq!(learned.closed(at(now)), None);
}

#[test]
fn rejected_pods_do_not_close_the_namespace_and_are_forgotten_after_ten_minutes() {
    let mut learned = Acceptance::default();
    learned.pod_rejected(at(0), "exceeded quota: q".to_owned());
    assert_eq!(learned.closed(at(1)), None);
    assert_eq!(learned.pods_rejected(at(599)), Some("exceeded quota: q"));
    assert_eq!(learned.pods_rejected(at(600)), None);
    learned.pod_rejected(at(700), "exceeded quota: q".to_owned());
    learned.pod_accepted();
    assert_eq!(learned.pods_rejected(at(701)), None);
}

#[test]
fn a_terminating_namespace_is_closed() {
    let mut learned = Acceptance::default();
    learned.ends(Some(NamespaceEnding::Terminating));
    learned.workspace_accepted();
    assert!(learned.closed(at(9999)).unwrap().contains("being deleted"));
    learned.ends(None);
    assert_eq!(learned.closed(at(9999)), None);
}

#[test]
fn changes_that_fail_for_one_workspace_close_nothing_and_for_two_they_do_until_one_succeeds() {
    for change in Change::ALL {
        let mut learned = Acceptance::default();
        for now in [1, 3, 7] {
            learned.change_failed(change, at(now), "a", "webhook x denied it".to_owned());
        }
        assert_eq!((learned.closed(at(8)), learned.is_unexplained()), (None, true));
        assert_eq!(learned.changes_fail(change, at(8)), Some("webhook x denied it"));
        learned.change_tried(change);
        assert!(!learned.is_unexplained());
        learned.change_failed(change, at(9), "b", "webhook x denied it".to_owned());
        assert!(learned.closed(at(10)).unwrap().ends_with("fails: webhook x denied it"));
        learned.changed(change);
        assert_eq!((learned.closed(at(10)), learned.changes_fail(change, at(10))), (None, None));
    }
}

#[test]
fn changes_that_nobody_tries_any_more_do_not_close_a_namespace_for_ever() {
    let mut learned = Acceptance::default();
    learned.change_failed(Change::Status, at(0), "a", "denied".to_owned());
    learned.change_failed(Change::Status, at(60), "b", "denied".to_owned());
    assert!(learned.closed(at(119)).is_some());
    assert_eq!(learned.closed(at(120)), None, "of two within two minutes one is left");
    assert_eq!(learned.changes_fail(Change::Status, at(180)), None);
    learned.change_failed(Change::Status, at(200), "c", "denied".to_owned());
    assert_eq!(learned.closed(at(200)), None, "what was long ago does not count");
}

#[test]
fn a_success_of_one_kind_of_change_says_nothing_of_the_other() {
    let mut learned = Acceptance::default();
    for name in ["a", "b"] {
        learned.change_failed(Change::Object, at(1), name, "denied".to_owned());
    }
    learned.changed(Change::Status);
    assert!(learned.closed(at(2)).unwrap().starts_with("changing workspaces fails"));
}

fn start<'a>(workspace: &'a str, owner: &'a str) -> RejectedStart<'a> {
    RejectedStart { workspace, owner, is_only_owner: false }
}

fn reject(learned: &mut Acceptance, now: u64, start: RejectedStart<'_>) {
    learned.start_rejected(at(now), start, format!("policy p denied {}", start.workspace));
}

#[test]
fn three_rejected_starts_of_two_owners_make_a_namespace_the_last_choice_for_a_minute() {
    let mut learned = Acceptance::default();
    for (now, workspace, owner) in [(0, "a", "jane"), (1, "b", "joe"), (1, "b", "joe")] {
        reject(&mut learned, now, start(workspace, owner));
        assert_eq!(learned.last_choice(at(now)), None, "a repeated start counts once");
    }
    reject(&mut learned, 2, start("c", "jane"));
    assert!(learned.last_choice(at(61)).unwrap().ends_with("policy p denied c"));
    assert_eq!(learned.closed(at(3)), None);
    assert_eq!(learned.last_choice(at(62)), None);
    reject(&mut learned, 70, start("d", "jane"));
    assert!(learned.last_choice(at(71)).unwrap().ends_with("policy p denied d"), "it is still in a row");
    learned.start_accepted();
    assert_eq!(learned.last_choice(at(71)), None);
    reject(&mut learned, 72, start("e", "joe"));
    assert_eq!(learned.last_choice(at(72)), None);
}

#[test]
fn one_owner_among_several_cannot_make_a_namespace_the_last_choice() {
    let mut learned = Acceptance::default();
    for workspace in ["a", "b", "c", "d"] {
        reject(&mut learned, 1, start(workspace, "jane"));
    }
    assert_eq!(learned.last_choice(at(1)), None);
    reject(&mut learned, 2, RejectedStart { is_only_owner: true, ..start("e", "jane") });
    assert!(learned.last_choice(at(2)).is_some(), "nobody else has workspaces");
}

#[test]
fn rejections_long_apart_are_not_in_a_row() {
    let mut learned = Acceptance::default();
    for (now, workspace, owner) in [(0, "a", "jane"), (599, "b", "joe"), (1199, "c", "jane")] {
        reject(&mut learned, now, start(workspace, owner));
    }
    assert_eq!(learned.last_choice(at(1199)), None);
}

#[test]
fn a_pod_without_an_answer_keeps_starts_away_until_the_leader_dry_ran_its_own() {
    let mut learned = Acceptance::default();
    learned.pod_rejected(at(0), "exceeded quota: q".to_owned());
    learned.pod_unanswered(at(1), "no answer".to_owned());
    assert_eq!(learned.pods_rejected(at(1)), Some("no answer"), "the newest reason");
    assert!(learned.is_unexplained() && learned.are_pods_silent());
    assert_eq!(learned.closed(at(2)).as_deref(), Some("pods get no answer: no answer"));
    assert_eq!(learned.closed(at(11)), None, "the leader's own never came");

    learned.pod_unanswered(at(12), "no answer".to_owned());
    learned.own_pod_accepted();
    assert_eq!(
        (learned.closed(at(12)), learned.is_unexplained()),
        (None, false),
        "it was that pod's own content"
    );
    assert_eq!(learned.pods_rejected(at(12)), Some("no answer"), "starts still dry-run theirs");

    learned.pod_unanswered(at(13), "no answer".to_owned());
    learned.own_pod_unanswered(at(14), "webhook h could not be called".to_owned());
    assert!(learned.closed(at(43)).unwrap().contains("webhook h"));
    learned.pod_rejected(at(15), "PodSecurity".to_owned());
    assert!(learned.closed(at(16)).is_some(), "a rule before the webhook says nothing of it");
    learned.own_pod_accepted();
    assert_eq!((learned.closed(at(17)), learned.pods_rejected(at(17))), (None, None));
}

#[test]
fn pods_that_cannot_be_dry_run_keep_starts_away_for_a_backoff() {
    let mut learned = Acceptance::default();
    learned.pod_unanswered(at(0), "no answer".to_owned());
    learned.own_pod_blind();
    assert!(!learned.is_unexplained());
    assert!(learned.closed(at(29)).is_some());
    assert_eq!(learned.closed(at(30)), None);
    learned.pod_accepted();
    assert_eq!((learned.closed(at(0)), learned.pods_rejected(at(0))), (None, None));
}

#[test]
fn failing_secrets_are_part_of_the_dry_run_until_a_start_or_the_canary_is_accepted() {
    let mut learned = Acceptance::default();
    learned.secrets_failed(at(0), "webhook s could not be called".to_owned());
    assert!(learned.do_secrets_fail() && learned.is_unexplained());
    assert_eq!(learned.workspaces_fail(), Some("webhook s could not be called"));
    learned.canary_failed(at(1), "webhook s could not be called".to_owned());
    assert!(learned.do_secrets_fail() && learned.closed(at(2)).is_some());
    learned.canary_accepted();
    assert!(!learned.do_secrets_fail() && learned.closed(at(2)).is_none());
}

#[test]
fn a_doubted_namespace_is_to_be_read() {
    let mut learned = Acceptance::default();
    learned.doubt();
    assert_eq!((learned.is_unexplained(), learned.closed(at(0))), (true, None));
    learned.ends(None);
    assert!(!learned.is_unexplained());
}
