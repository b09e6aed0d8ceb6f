//! Bad histories, one per guarantee, each made by one change to a good one.

use k8s::resources::{Workspace, WorkspaceSpec, conditions};

use super::admin::LATE;
use super::*;
use crate::chaos::audit;
use crate::chaos::history::{Act, AdminCall, Content};
use crate::chaos::lifetimes::Lifetimes;

fn start(id: &str, meta: &str, at: u64, cluster: &str) -> Call {
    Call {
        id: id.to_owned(),
        asked: Asked::Start { meta: meta.to_owned(), content: "a".to_owned() },
        sent: at,
        answered: at + 10,
        outcome: Outcome::Started(Answer { cluster: cluster.to_owned(), access: format!("token of {id}") }),
    }
}

fn stop(id: &str, at: u64) -> Call {
    let (asked, outcome) = (Asked::Stop, Outcome::Stopped);
    Call { id: id.to_owned(), asked, sent: at, answered: at + 10, outcome }
}

fn mark(id: &str, at: u64) -> Call {
    let (asked, outcome) = (Asked::Activity, Outcome::Marked);
    Call { id: id.to_owned(), asked, sent: at, answered: at + 10, outcome }
}

fn refused(id: &str, meta: &str, at: u64) -> Call {
    Call { outcome: Outcome::Failed("AlreadyExists: it has ended".to_owned()), ..start(id, meta, at, "") }
}

fn act(cluster: &str, act: Act, at: u64) -> AdminCall {
    AdminCall { cluster: cluster.to_owned(), act, sent: at, answered: at + 10, acknowledged: true }
}

fn life(id: &str, meta: &str, cluster: &str, from: u64, until: Option<u64>) -> Resource {
    Resource {
        cluster: cluster.to_owned(),
        id: id.to_owned(),
        meta: meta.to_owned(),
        uid: format!("uid of {id} on {cluster}"),
        from,
        until,
        pods: vec![format!("pod of {id}")],
        phase: if until.is_some() { "Stopping" } else { "Running" }.to_owned(),
        version: 7,
        seen_end: until.is_some(),
        stop_asked: until.map(|until| until - 100),
        active: None,
        content: if until.is_some() { Content::Saved } else { Content::Unsaved },
    }
}

fn record(id: &str, cluster: &str, state: Recorded) -> Record {
    Record { id: id.to_owned(), cluster: cluster.to_owned(), state }
}

fn seen(id: &str, version: u64, phase: &str, cluster: &str) -> Seen {
    Seen { id: id.to_owned(), version, phase: phase.to_owned(), cluster: cluster.to_owned() }
}

fn write(received: u64, revision: u64, accepted: bool) -> Write {
    Write {
        received,
        answered: received + 5,
        namespace: "ws".to_owned(),
        what: "create workspaces/w".to_owned(),
        epoch: (1, revision),
        accepted,
        probe: false,
    }
}

/// `runs` was started twice with one response, `over` was stopped, and `next` has the long-lived id of `over`; a start
/// of `never` failed. A new leader took over, and the old one was rejected. `ap` was cordoned for a while and drained
/// later, which stopped `drained`; a repeated start of it was rejected. `runs` was active.
fn good() -> History {
    let failed = Call { outcome: Outcome::Failed("UNAVAILABLE".to_owned()), ..start("never", "n", 50, "eu") };
    let received = vec![
        seen("over", 1, "Running", "us"),
        seen("runs", 2, "Creating", "eu"),
        seen("runs", 3, "Running", "eu"),
        seen("over", 4, "Stopped", "us"),
        seen("next", 5, "Running", "eu"),
        seen("drained", 6, "Stopped", "ap"),
    ];
    let raise =
        Write { probe: true, what: "patch configmaps/spaceport-fence".to_owned(), ..write(40, 20, true) };
    History {
        calls: vec![
            start("runs", "m", 10, "eu"),
            start("runs", "m", 30, "eu"),
            start("over", "x", 10, "us"),
            stop("over", 100),
            start("next", "x", 5000, "eu"),
            failed,
            start("drained", "d", 2500, "ap"),
            refused("drained", "d", 7000),
            mark("runs", 3010),
        ],
        admin: vec![
            act("ap", Act::Cordon, 1000),
            act("ap", Act::Uncordon, 2000),
            act("ap", Act::Drain, 3000),
            act("ap", Act::CancelDrain, 6000),
        ],
        resources: vec![
            Resource { active: Some(3000), ..life("runs", "m", "eu", 15, None) },
            life("over", "x", "us", 15, Some(4000)),
            life("next", "x", "eu", 5005, None),
            life("drained", "d", "ap", 2510, Some(4000)),
        ],
        subscribers: BTreeMap::from([("first".to_owned(), received)]),
        ended: BTreeSet::new(),
        records: vec![
            record("runs", "eu", Recorded::Confirmed),
            record("over", "us", Recorded::Ended),
            record("next", "eu", Recorded::Placed),
            record("never", "us", Recorded::Placed),
            record("drained", "ap", Recorded::Ended),
        ],
        writes: BTreeMap::from([(
            "eu".to_owned(),
            vec![write(10, 10, true), raise, write(45, 10, true), write(50, 20, true), write(60, 10, false)],
        )]),
    }
}

fn after(change: impl FnOnce(&mut History)) -> Vec<Violation> {
    let mut history = good();
    change(&mut history);
    check(&history)
}

/// Asserts that exactly one kind of violation is found.
fn only(found: &[Violation], kind: fn(String) -> Violation) {
    let kinds: BTreeSet<_> =
        found.iter().map(std::mem::discriminant).map(|kind| format!("{kind:?}")).collect();
    let wanted = format!("{:?}", std::mem::discriminant(&kind(String::new())));
    assert_eq!(kinds, BTreeSet::from([wanted]), "{found:?}");
}

fn received(history: &mut History) -> &mut Vec<Seen> {
    history.subscribers.entry("first".to_owned()).or_default()
}

#[test]
fn a_good_history_has_no_violations() {
    assert_eq!(check(&good()), []);
}

#[test]
fn an_acknowledged_start_that_never_existed_is_lost() {
    only(&after(|history| history.calls.push(start("gone", "g", 20, "eu"))), Violation::Lost);
}

/// A line of an audit log.
fn line(verb: &str, at: u64, object: &serde_json::Value) -> String {
    let time = |at: u64| jiff::Timestamp::from_millisecond(i64::try_from(at).unwrap()).unwrap().to_string();
    let line = serde_json::json!({
        "stage": "ResponseComplete", "verb": verb, "requestURI": "/apis",
        "objectRef": { "resource": "workspaces", "namespace": "ws", "name": "brief" },
        "responseStatus": { "code": 200 },
        "requestReceivedTimestamp": time(at), "stageTimestamp": time(at + 5), "responseObject": object,
    });
    format!("{line}\n")
}

/// Seen with `--seed 4711`: a workspace lived for 2 s right after its apiserver was back, before any watch was.
#[test]
fn a_workspace_that_lived_for_2_s_right_after_its_apiserver_was_back_is_no_lost_start() {
    let state = |version: u64, status: serde_json::Value, deleted: bool| {
        let mut object = serde_json::to_value(Workspace::new("brief", WorkspaceSpec::default())).unwrap();
        object["metadata"]["uid"] = "uid of brief".into();
        object["metadata"]["resourceVersion"] = version.to_string().into();
        object["status"] = status;
        if deleted {
            object["metadata"]["deletionTimestamp"] = "1970-01-01T00:00:05Z".into();
        } else {
            object["metadata"]["finalizers"] = serde_json::json!(["gitpod.io/finalizer"]);
        }
        object
    };
    let is = |kinds: &[&str]| {
        let one = |kind: &&str| {
            serde_json::json!({ "type": kind, "status": "True", "reason": "", "message": "",
                "lastTransitionTime": "1970-01-01T00:00:05Z" })
        };
        serde_json::json!({ "phase": "Stopped", "podStarts": 0, "conditions": kinds.iter().map(one).collect::<Vec<_>>() })
    };
    let kept = [conditions::STOPPED_BY_REQUEST, conditions::CONTENT_READY, conditions::BACKUP_COMPLETE];
    let log = line("create", 3205, &state(1, is(&[]), false))
        + &line("patch", 3300, &state(2, is(&[conditions::CONTENT_READY]), false))
        + &line("patch", 4000, &state(3, is(&kept[..2]), false))
        + &line("patch", 5200, &state(4, is(&kept), true));
    let seen = |log: &str| {
        let mut lifetimes = Lifetimes::default();
        for event in audit::events(log, &["ws"]).unwrap() {
            lifetimes.take("ap", &event).unwrap();
        }
        after(|history| {
            // Sent just before the drain of `ap`.
            history.calls.push(start("brief", "b", 2900, "ap"));
            history.resources.extend(lifetimes.resources());
            history.records.push(record("brief", "ap", Recorded::Ended));
        })
    };
    assert_eq!(seen(&log), []);
    only(&seen(""), Violation::Lost);
}

#[test]
fn an_acknowledged_start_that_ended_by_itself_does_not_run() {
    let ended = after(|history| {
        history.resources[0] = Resource { stop_asked: None, ..life("runs", "m", "eu", 15, Some(900)) };
        history.calls.retain(|call| call.asked != Asked::Activity);
        history.records[0].state = Recorded::Ended;
        received(history).push(seen("runs", 9, "Stopped", "eu"));
    });
    only(&ended, Violation::NotRunning);
}

#[test]
fn a_second_life_or_a_second_pod_is_more_than_once() {
    let twice = after(|history| {
        let mut again = life("over", "x", "us", 4100, Some(4500));
        again.uid = "another".to_owned();
        history.resources.push(again);
    });
    only(&twice, Violation::MoreThanOnce);
    let pods = after(|history| history.resources[0].pods.push("another".to_owned()));
    only(&pods, Violation::MoreThanOnce);
}

#[test]
fn an_id_on_two_clusters_is_found_whenever_it_was_there() {
    let twice = after(|history| history.resources.push(life("over", "x", "eu", 4100, Some(4200))));
    only(&twice, Violation::TwoClusters);
}

#[test]
fn a_long_lived_id_that_lives_twice_is_found_however_short_that_is() {
    let twice = |from| after(|history| history.resources[2].from = from);
    only(&twice(2000), Violation::MetaTwice);
    only(&twice(3999), Violation::MetaTwice);
    assert_eq!(twice(4000), []);
}

#[test]
fn an_acknowledged_stop_whose_workspace_is_there_is_forgotten() {
    only(&after(|history| history.calls.push(stop("runs", 60))), Violation::ForgottenStop);
}

#[test]
fn a_repeated_call_with_another_answer_and_another_request_under_the_id_are_found() {
    let answers = after(|history| {
        let mut again = start("runs", "m", 70, "eu");
        again.outcome = Outcome::Started(Answer { cluster: "eu".to_owned(), access: "another".to_owned() });
        history.calls.push(again);
    });
    only(&answers, Violation::TwoAnswers);
    let requests = after(|history| {
        let mut other = start("runs", "m", 70, "eu");
        other.asked = Asked::Start { meta: "m".to_owned(), content: "b".to_owned() };
        history.calls.push(other);
    });
    only(&requests, Violation::TwoRequests);
}

#[test]
fn a_record_that_says_otherwise_than_the_cluster_is_found() {
    let gone = after(|history| history.records[3].state = Recorded::Confirmed);
    only(&gone, Violation::WrongRecord);
    let ended = after(|history| history.records[0].state = Recorded::Ended);
    only(&ended, Violation::WrongRecord);
    let elsewhere = after(|history| "us".clone_into(&mut history.records[2].cluster));
    only(&elsewhere, Violation::WrongRecord);
    let none = after(|history| drop(history.records.remove(0)));
    only(&none, Violation::WrongRecord);
}

#[test]
fn a_version_that_falls_is_found() {
    only(&after(|history| received(history)[2].version = 1), Violation::VersionFell);
}

#[test]
fn a_last_state_that_is_wrong_is_found() {
    let stale = after(|history| {
        received(history).remove(3);
    });
    only(&stale, Violation::NotTrue);
    let missing = after(|history| received(history).retain(|update| update.id != "runs"));
    only(&missing, Violation::NotTrue);
    let elsewhere = after(|history| "us".clone_into(&mut received(history)[4].cluster));
    only(&elsewhere, Violation::NotTrue);
    let invented = after(|history| received(history).push(seen("ghost", 1, "Running", "eu")));
    only(&invented, Violation::NotTrue);
}

#[test]
fn a_stream_that_broke_owes_no_last_state_and_its_versions_still_never_fall() {
    let broken = |change: fn(&mut Vec<Seen>)| {
        after(|history| {
            history.ended.insert("first".to_owned());
            change(received(history));
        })
    };
    assert_eq!(broken(|seen| seen.truncate(2)), []);
    only(&broken(|seen| seen[2].version = 1), Violation::VersionFell);
}

#[test]
fn a_write_of_an_earlier_epoch_is_found_once_the_later_one_has_written_and_not_before() {
    let writes = |write: Write| {
        after(|history| {
            history.writes.entry("eu".to_owned()).or_default().push(write);
        })
    };
    only(&writes(write(61, 10, true)), Violation::Stale);
    assert_eq!(writes(write(49, 10, true)), []);
    assert_eq!(writes(Write { probe: true, ..write(61, 10, true) }), []);
    assert_eq!(writes(Write { namespace: "other".to_owned(), ..write(61, 10, true) }), []);
}

/// A start of `late`: when it was sent, and where it was placed.
fn late(sent: u64, cluster: &str) -> Vec<Violation> {
    after(|history| {
        history.calls.push(start("late", "l", sent, cluster));
        history.resources.push(life("late", "l", cluster, sent + 5, None));
        history.records.push(record("late", cluster, Recorded::Confirmed));
        received(history).push(seen("late", 9, "Running", cluster));
    })
}

#[test]
fn a_start_on_a_closed_cluster_is_found_and_not_one_from_before_or_after_or_elsewhere() {
    only(&late(1500, "ap"), Violation::Misplaced);
    only(&late(4500, "ap"), Violation::Misplaced);
    assert_eq!(late(1500, "us"), []);
    assert_eq!(late(1005, "ap"), [], "the cordon was not acknowledged yet");
    assert_eq!(late(2500, "ap"), [], "it was open again");
    let earlier = after(|history| {
        let failed = Outcome::Failed("Unavailable".to_owned());
        history.calls.push(Call { outcome: failed, ..start("late", "l", 900, "ap") });
        history.calls.push(start("late", "l", 1500, "ap"));
        history.resources.push(life("late", "l", "ap", 1505, None));
        history.records.push(record("late", "ap", Recorded::Confirmed));
        received(history).push(seen("late", 9, "Running", "ap"));
    });
    assert_eq!(earlier, [], "it may have been placed before the cordon");
}

#[test]
fn a_start_without_an_answer_that_came_about_on_a_closed_cluster_is_found() {
    let found = after(|history| {
        let failed = Outcome::Failed("Unavailable".to_owned());
        history.calls.push(Call { outcome: failed, ..start("late", "l", 1500, "ap") });
        history.resources.push(life("late", "l", "ap", 1600, None));
        history.records.push(record("late", "ap", Recorded::Confirmed));
        received(history).push(seen("late", 9, "Running", "ap"));
    });
    only(&found, Violation::Misplaced);
}

#[test]
fn a_cluster_that_an_unanswered_call_may_have_opened_counts_as_open() {
    let at = |sent| {
        after(|history| {
            history.admin.insert(0, AdminCall { acknowledged: false, ..act("us", Act::Uncordon, 100) });
            history.admin.push(act("us", Act::Cordon, 10_000));
            history.calls.push(start("late", "l", sent, "us"));
            history.resources.push(life("late", "l", "us", sent + 5, None));
            history.records.push(record("late", "us", Recorded::Confirmed));
            received(history).push(seen("late", 9, "Running", "us"));
        })
    };
    assert_eq!(at(11_000), []);
    only(&at(100 + LATE), Violation::Misplaced);
}

#[test]
fn an_end_that_nobody_asked_for_is_found_and_a_drain_answers_for_its_own_cluster_and_time_alone() {
    let without = |keep: fn(&AdminCall) -> bool| {
        let mut found = after(|history| history.admin.retain(keep));
        // It does not run either.
        found.retain(|violation| !matches!(violation, Violation::NotRunning(_)));
        found
    };
    only(&without(|call| call.act != Act::Drain), Violation::StoppedByNobody);
    let later = after(|history| history.admin[2].sent = 3950);
    only(
        &later.into_iter().filter(|v| !matches!(v, Violation::NotRunning(_))).collect::<Vec<_>>(),
        Violation::StoppedByNobody,
    );
    let unseen = after(|history| {
        let life = &mut history.resources[3];
        (life.stop_asked, life.seen_end) = (None, false);
    });
    assert_eq!(unseen, [], "what was not logged may have been the drain");
}

#[test]
fn an_end_without_a_backup_is_found_whoever_stopped_it() {
    let lost = |which: usize| after(|history| history.resources[which].content = Content::Unsaved);
    only(&lost(1), Violation::LostContent);
    only(&lost(3), Violation::LostContent);
    let unseen = after(|history| {
        let life = &mut history.resources[3];
        (life.content, life.seen_end) = (Content::Unsaved, false);
    });
    assert_eq!(unseen, [], "its last state was not logged");
}

#[test]
fn acknowledged_activity_that_is_not_known_is_found() {
    only(&after(|history| history.resources[0].active = None), Violation::LostActivity);
    only(&after(|history| history.calls.push(mark("runs", 9000))), Violation::LostActivity);
    let overtaken = after(|history| {
        let failed = Outcome::Failed("DeadlineExceeded".to_owned());
        history.calls.push(Call { outcome: failed, ..mark("runs", 3500) });
        history.calls.push(mark("runs", 9000 + LATE));
    });
    only(&overtaken, Violation::LostActivity);
    let late = after(|history| {
        let failed = Outcome::Failed("DeadlineExceeded".to_owned());
        history.calls.push(Call { outcome: failed, ..mark("runs", 3500) });
        history.calls.push(mark("runs", 9000));
        history.resources[0].active = Some(3000);
    });
    assert_eq!(late, [], "the one without an answer came last");
}

#[test]
fn a_repeated_start_that_is_refused_while_it_runs_is_found() {
    only(&after(|history| history.calls.push(refused("runs", "m", 70))), Violation::RepeatRefused);
    let other = after(|history| {
        let mut other = refused("runs", "m", 70);
        other.asked = Asked::Start { meta: "m".to_owned(), content: "b".to_owned() };
        history.calls.push(other);
    });
    assert_eq!(other, [], "it was another request");
}
