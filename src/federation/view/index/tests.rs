mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::view::events::Filter;
use crate::view::tests::{record, view};
use domain::ending::Ending;
use domain::names::{ClusterName, Namespace, WorkspaceId};
use domain::record::{PlacementRecord, RecordState, status_version};
use domain::workspace::{Phase, View};

fn at(version: u64, phase: Phase) -> View {
    View { resource_version: version, phase, ..view("a") }
}

fn name(text: &str) -> ClusterName {
    text.parse().unwrap()
}

/// The namespace of views and records.
fn usual() -> Namespace {
    "workspaces".parse().unwrap()
}

/// The connection to a cluster.
fn on(index: &Index, cluster: &str) -> Session {
    index.session_of(&name(cluster)).unwrap_or_else(|| index.connect(&name(cluster), [usual()].into()))
}

fn id(text: &str) -> WorkspaceId {
    text.parse().unwrap()
}

async fn next(subscription: &mut Subscription) -> (u64, Phase) {
    let event = subscription.next().await.unwrap();
    (event.seen.version, event.seen.view.phase)
}

#[tokio::test]
async fn a_resource_counts_only_where_its_record_says() {
    let index = shared(8);
    let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    index.resource(&on(&index, "us-1"), at(9, Phase::Running));
    assert!(index.get(&id("a")).is_none());
    index.record(record("a", "eu-1"), 1);
    assert!(index.get(&id("a")).is_none());
    assert_eq!(index.strays(&name("us-1"), Timestamp::UNIX_EPOCH), [id("a")]);
    index.resource(&on(&index, "eu-1"), at(5, Phase::Pending));
    assert_eq!(index.get(&id("a")).unwrap().view.phase, Phase::Pending);
    assert_eq!(next(&mut subscription).await, (status_version(1, 5), Phase::Pending));
}

#[test]
fn a_resource_of_ours_is_a_stray_until_a_record_names_its_place() {
    let index = shared(8);
    let strays = || index.strays(&name("eu-1"), Timestamp::UNIX_EPOCH);
    index.resource(&on(&index, "eu-1"), View { ours: false, ..view("b") });
    assert!(strays().is_empty(), "another manager's");
    index.resource(&on(&index, "eu-1"), view("a"));
    assert_eq!(strays(), [id("a")]);
    index.record(record("a", "us-1"), 1);
    assert_eq!(strays(), [id("a")]);
    index.record(record("a", "eu-1"), 2);
    assert!(strays().is_empty());
    index.record(record("a", "us-1"), 3);
    assert_eq!(strays(), [id("a")]);
    index.resource_gone(&on(&index, "eu-1"), &usual(), &id("a"), String::new());
    assert!(strays().is_empty());
}

#[tokio::test]
async fn the_same_id_in_another_namespace_is_a_stray_and_hides_nothing() {
    let index = shared(8);
    let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    let second: Namespace = "second".parse().unwrap();
    let other = View { namespace: second.clone(), ..at(9, Phase::Pending) };
    index.record(record("a", "eu-1"), 1);
    index.resource(&on(&index, "eu-1"), other.clone());
    assert!(index.get(&id("a")).is_none());
    index.resource(&on(&index, "eu-1"), at(5, Phase::Running));
    index.resource(&on(&index, "eu-1"), View { resource_version: 10, ..other });
    assert_eq!(index.get(&id("a")).unwrap().view.phase, Phase::Running);
    assert_eq!(index.list(&Filter::default(), "", 9).len(), 1);
    assert_eq!(index.strays(&name("eu-1"), Timestamp::UNIX_EPOCH), [id("a")]);
    index.resource_gone(&on(&index, "eu-1"), &second, &id("a"), String::new());
    assert!(index.strays(&name("eu-1"), Timestamp::UNIX_EPOCH).is_empty());
    assert_eq!(index.get(&id("a")).unwrap().view.phase, Phase::Running);
    assert_eq!(next(&mut subscription).await, (status_version(1, 5), Phase::Running));
    index.resource_gone(&on(&index, "eu-1"), &usual(), &id("a"), String::new());
    assert_eq!(next(&mut subscription).await.1, Phase::Stopped);
}

#[test]
fn another_starts_resource_under_a_records_name_is_a_stray_and_is_not_shown() {
    let index = shared(8);
    index.record(record("a", "eu-1"), 1);
    index.resource(&on(&index, "eu-1"), View { digest: "f".repeat(64), ..view("a") });
    assert!(index.get(&id("a")).is_none());
    assert_eq!(index.strays(&name("eu-1"), Timestamp::UNIX_EPOCH), [id("a")]);
}

#[tokio::test]
async fn a_record_that_moves_to_its_clusters_other_name_is_news_with_the_resource_there() {
    let index = shared(8);
    let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    index.record(record("a", "old"), 1);
    index.resource(&on(&index, "eu-1"), view("a"));
    assert_eq!(index.strays(&name("eu-1"), Timestamp::UNIX_EPOCH), [id("a")]);
    index.record(record("a", "eu-1"), 2);
    assert!(index.strays(&name("eu-1"), Timestamp::UNIX_EPOCH).is_empty());
    assert_eq!(next(&mut subscription).await, (status_version(1, 1), Phase::Running));
    assert_eq!(index.get(&id("a")).unwrap().cluster, name("eu-1"));
}

#[test]
fn a_stray_that_was_made_a_moment_ago_may_only_be_ahead_of_its_record() {
    let index = shared(8);
    let made = Timestamp::UNIX_EPOCH;
    index.resource(&on(&index, "eu-1"), View { created_at: Some(made), ..view("a") });
    assert!(index.strays(&name("eu-1"), made).is_empty());
    assert_eq!(index.strays(&name("eu-1"), made + jiff::SignedDuration::from_secs(10)), [id("a")]);
}

#[test]
fn a_stale_state_is_dropped_and_a_recreated_resource_is_not_stale() {
    let index = shared(8);
    index.record(record("a", "eu-1"), 1);
    index.resource(&on(&index, "eu-1"), at(9, Phase::Running));
    index.resource(&on(&index, "eu-1"), at(8, Phase::Creating));
    assert_eq!(index.get(&id("a")).unwrap().view.phase, Phase::Running);
    index.resource(&on(&index, "eu-1"), View { uid: "other".into(), ..at(7, Phase::Pending) });
    assert_eq!(index.get(&id("a")).unwrap().view.phase, Phase::Pending);
}

#[tokio::test]
async fn the_end_is_shown_once_even_where_the_resource_is_already_gone() {
    let index = shared(8);
    for workspace in ["a", "b"] {
        index.record(record(workspace, "eu-1"), 1);
        index.resource(&on(&index, "eu-1"), view(workspace));
    }
    let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    index.resource_gone(&on(&index, "eu-1"), &usual(), &id("a"), String::new());
    assert_eq!(next(&mut subscription).await, (status_version(1, u64::MAX), Phase::Stopped));
    index.resource(&on(&index, "eu-1"), View { resource_version: 2, phase: Phase::Stopped, ..view("b") });
    assert_eq!(next(&mut subscription).await, (status_version(1, 2), Phase::Stopped));
    index.resource_gone(&on(&index, "eu-1"), &usual(), &id("b"), String::new());
    index.events().close();
    assert!(subscription.next().await.is_err(), "the end of b was shown already");
}

#[tokio::test]
async fn heartbeats_are_not_published() {
    let index = shared(8);
    index.record(record("a", "eu-1"), 1);
    index.resource(&on(&index, "eu-1"), at(1, Phase::Running));
    let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    index.resource(
        &on(&index, "eu-1"),
        View { last_activity: Some(Timestamp::UNIX_EPOCH), ..at(2, Phase::Running) },
    );
    index.resource(&on(&index, "eu-1"), at(3, Phase::Stopping));
    assert_eq!(next(&mut subscription).await, (status_version(1, 3), Phase::Stopping));
}

#[tokio::test]
async fn a_lost_cluster_makes_its_workspaces_unreachable_and_tells_subscribers() {
    let index = shared(8);
    let facts = |reachable| ClusterFacts {
        region: "europe".parse().unwrap(),
        reachable,
        last_answer: Some(Timestamp::UNIX_EPOCH),
    };
    index.cluster(&on(&index, "eu-1"), facts(true));
    index.record(record("a", "eu-1"), 1);
    index.resource(&on(&index, "eu-1"), at(1, Phase::Running));
    let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    index.cluster(&on(&index, "eu-1"), facts(false));
    let event = subscription.next().await.unwrap();
    assert!(!event.seen.reachable);
    assert_eq!(event.seen.view.phase, Phase::Running);
    assert_eq!(event.seen.observed_at, Some(Timestamp::UNIX_EPOCH));
}

/// An empty one.
fn shared(buffer: usize) -> Arc<Index> {
    Arc::new(Index::new(buffer))
}

#[tokio::test]
async fn a_replay_of_more_than_a_buffer_holds_is_whole_and_in_order_whatever_changes_meanwhile() {
    let index = shared(4);
    for n in 0..1000 {
        let id = format!("ws-{n:04}");
        index.record(record(&id, "eu-1"), 1);
        index.resource(&on(&index, "eu-1"), view(&id));
    }
    let mut subscription = index.subscribe(Filter::default(), &From::Replay).unwrap();
    let (mut seen, mut last) = (std::collections::BTreeSet::new(), 0);
    for _ in 0..10 {
        let event = subscription.next().await.unwrap();
        assert!(event.sequence > last);
        last = event.sequence;
        seen.insert(event.seen.view.id.to_string());
    }
    // One that was given, one that was not, and one that goes.
    index.resource(
        &on(&index, "eu-1"),
        View { resource_version: 5, phase: Phase::Stopping, ..view("ws-0001") },
    );
    index.resource(
        &on(&index, "eu-1"),
        View { resource_version: 5, phase: Phase::Stopping, ..view("ws-0900") },
    );
    index.resource_gone(&on(&index, "eu-1"), &usual(), &id("ws-0901"), String::new());
    for _ in 0..988 {
        let event = subscription.next().await.unwrap();
        assert!(event.sequence > last);
        last = event.sequence;
        assert!(seen.insert(event.seen.view.id.to_string()), "{} came twice", event.seen.view.id);
    }
    assert!(!seen.contains("ws-0900") && !seen.contains("ws-0901"), "they changed, and come as they are now");
    let mut after = Vec::new();
    for _ in 0..3 {
        let event = subscription.next().await.unwrap();
        after.push((event.seen.view.id.to_string(), event.seen.view.phase));
    }
    let expected = [("ws-0001", Phase::Stopping), ("ws-0900", Phase::Stopping), ("ws-0901", Phase::Stopped)];
    assert_eq!(after, expected.map(|(id, phase)| (id.to_owned(), phase)));
    assert!(futures::FutureExt::now_or_never(subscription.next()).is_none());
}

#[tokio::test]
async fn a_replay_ends_where_nothing_of_it_is_wanted() {
    let index = shared(4);
    for n in 0..10_000 {
        let id = format!("ws-{n}");
        index.record(record(&id, "eu-1"), 1);
        index.resource(&on(&index, "eu-1"), view(&id));
    }
    let filter = Filter { owner: "nobody".to_owned(), ..Filter::default() };
    let mut subscription = index.subscribe(filter, &From::Replay).unwrap();
    index.events().close();
    assert_eq!(subscription.next().await.unwrap_err(), crate::view::events::Ended::Closed);
}

#[tokio::test]
async fn a_token_resumes_after_its_event_with_what_changed_and_ended_since() {
    let index = shared(8);
    for workspace in ["a", "b", "c"] {
        index.record(record(workspace, "eu-1"), 1);
        index.resource(&on(&index, "eu-1"), view(workspace));
    }
    let mut subscription = index.subscribe(Filter::default(), &From::Replay).unwrap();
    let mut last = None;
    for _ in 0..3 {
        last = Some(subscription.next().await.unwrap());
    }
    let token = index.token(&last.unwrap());
    index.resource(&on(&index, "eu-1"), View { resource_version: 5, phase: Phase::Stopping, ..view("b") });
    index.resource_gone(&on(&index, "eu-1"), &usual(), &id("c"), String::new());
    let mut resumed = index.subscribe(Filter::default(), &From::Token(token)).unwrap();
    assert_eq!(next(&mut resumed).await, (status_version(1, 5), Phase::Stopping));
    assert_eq!(next(&mut resumed).await.1, Phase::Stopped);
    assert_eq!(index.subscribe(Filter::default(), &From::Token("other.3".into())).unwrap_err(), Expired);
    assert_eq!(index.subscribe(Filter::default(), &From::Token("x".into())).unwrap_err(), Expired);
}

#[test]
fn records_count_by_cluster_and_meta_while_they_live() {
    let index = shared(8);
    index.record(record("a", "eu-1"), 1);
    assert_eq!(index.count_on(&name("eu-1")), 1);
    assert_eq!(index.live_of_meta("meta-a"), Some(id("a")));
    let ended = RecordState::Ended { at: Timestamp::UNIX_EPOCH, expires: Timestamp::UNIX_EPOCH };
    index.record(PlacementRecord { state: ended, ..record("a", "eu-1") }, 2);
    index.record(record("a", "eu-1"), 1);
    assert_eq!(index.count_on(&name("eu-1")), 0);
    assert_eq!(index.live_of_meta("meta-a"), None);
    index.records_are(vec![(record("b", "us-1"), 7)], 7);
    assert!(index.record_of(&id("a")).is_none());
    assert_eq!(index.placed_on(&name("us-1")), [id("b")]);
}

#[tokio::test]
async fn what_is_given_up_is_told_as_stopped_above_all_before_and_never_shown_again() {
    let index = shared(8);
    let record = record("a", "eu-1");
    index.record(record.clone(), 1);
    index.resource(&on(&index, "eu-1"), at(7, Phase::Running));
    let token = format!("{}.{}", index.instance, index.inner.read().sequence);
    let subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    index.cluster_gone(&name("eu-1"));
    let given_up = record.given_up("eu-1 burned down".to_owned(), 1, Timestamp::UNIX_EPOCH, Timestamp::MAX);
    index.record(given_up.clone(), 2);
    index.record(given_up.clone(), 2);
    for mut subscription in [subscription, index.subscribe(Filter::default(), &From::Token(token)).unwrap()] {
        let told = subscription.next().await.unwrap().seen;
        assert_eq!((told.view.phase, told.view.message.as_str()), (Phase::Stopped, "eu-1 burned down"));
        assert_eq!((told.view.owner.as_str(), told.version), ("jane", status_version(2, u64::MAX)));
        assert!(futures::FutureExt::now_or_never(subscription.next()).is_none(), "told twice");
    }
    assert_eq!((index.count_on(&name("eu-1")), index.live_of_meta("meta-a")), (0, None));
    // It comes back after all.
    index.resource(&on(&index, "eu-1"), at(8, Phase::Running));
    assert!(index.get(&id("a")).is_none());
    assert_eq!(index.strays(&name("eu-1"), Timestamp::UNIX_EPOCH), [id("a")]);
    // To a replica that starts it is no news.
    let index = shared(8);
    let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    index.records_are(vec![(given_up, 2)], 2);
    assert!(futures::FutureExt::now_or_never(subscription.next()).is_none());
}

#[tokio::test]
async fn versions_never_fall_when_a_cluster_is_set_back_whichever_is_heard_of_first() {
    use domain::restore::Restores;
    let once = Restores { count: 1, last: Timestamp::UNIX_EPOCH };
    for recorded_first in [false, true] {
        let index = shared(16);
        let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
        index.record(record("a", "eu-1"), 1);
        index.resource(&on(&index, "eu-1"), at(90, Phase::Running));
        let mut other = view("b");
        other.resource_version = 30;
        index.record(record("b", "eu-1"), 2);
        index.resource(&on(&index, "eu-1"), other);
        if recorded_first {
            index.rewinds(&name("eu-1"), once);
            assert_eq!(index.get(&id("a")).unwrap().version, status_version(1, 90), "not listed since");
        }
        index.rewound(&on(&index, "eu-1"));
        index.rewound(&on(&index, "eu-1"));
        index.resource(&on(&index, "eu-1"), at(50, Phase::Pending));
        index.listed(&on(&index, "eu-1"), &usual());
        if !recorded_first {
            assert_eq!(index.unrecorded_rewinds(), [name("eu-1")]);
            assert_eq!(
                index.get(&id("a")).unwrap().version,
                status_version(1, 90),
                "it waits for the record"
            );
            index.rewinds(&name("eu-1"), once);
            // Whoever takes the record has everything listed again.
            index.listed(&on(&index, "eu-1"), &usual());
        }
        assert!(index.unrecorded_rewinds().is_empty());
        let seen = index.get(&id("a")).unwrap();
        assert_eq!((seen.version, seen.view.phase), (status_version(2, 50), Phase::Pending));
        assert_eq!(
            index.get(&id("b")).unwrap().version,
            status_version(2, 30),
            "all of the cluster count on"
        );
        // States in between may be merged.
        let mut last = BTreeMap::new();
        while let Some(Ok(event)) = futures::FutureExt::now_or_never(subscription.next()) {
            let before = last.insert(event.seen.view.id.clone(), event.seen.version);
            assert!(before.is_none_or(|before| before < event.seen.version));
        }
        assert_eq!(last[&id("a")], seen.version);
    }
}

#[test]
fn a_list_of_one_namespace_says_nothing_of_the_states_in_another_one_of_a_restored_cluster() {
    use domain::restore::Restores;
    let index = shared(16);
    let other: Namespace = "other".parse().unwrap();
    index.record(record("a", "eu-1"), 1);
    index.resource(&on(&index, "eu-1"), at(90, Phase::Running));
    let elsewhere = |resource_version| View { resource_version, namespace: other.clone(), ..view("b") };
    index.record(PlacementRecord { namespace: other.clone(), ..record("b", "eu-1") }, 2);
    index.resource(&on(&index, "eu-1"), elsewhere(80));
    index.rewound(&on(&index, "eu-1"));
    index.rewinds(&name("eu-1"), Restores { count: 1, last: Timestamp::UNIX_EPOCH });
    index.resource(&on(&index, "eu-1"), at(50, Phase::Running));
    index.listed(&on(&index, "eu-1"), &usual());
    assert_eq!(index.get(&id("b")).unwrap().version, status_version(1, 80), "it is not listed yet");
    index.resource(&on(&index, "eu-1"), elsewhere(40));
    index.listed(&on(&index, "eu-1"), &other);
    assert_eq!(index.get(&id("b")).unwrap().version, status_version(2, 40));
}

#[tokio::test]
async fn an_obstacle_is_shown_under_the_same_version_until_it_is_over_and_with_no_other_connection() {
    let index = shared(8);
    index.record(record("a", "eu-1"), 1);
    let session = on(&index, "eu-1");
    index.resource(&session, at(5, Phase::Creating));
    let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    let shown = || index.get(&id("a")).unwrap().obstacle;
    index.obstacle(&session, &usual(), &id("a"), Some("denied"));
    let event = subscription.next().await.unwrap();
    assert_eq!(event.seen.obstacle.as_deref(), Some("denied"));
    assert_eq!(event.seen.version, status_version(1, 5));
    index.obstacle(&session, &usual(), &id("a"), None);
    assert_eq!((subscription.next().await.unwrap().seen.obstacle, shown()), (None, None));
    index.obstacle(&session, &usual(), &id("a"), Some("denied"));
    assert!(shown().is_some());
    let other = index.connect(&name("eu-1"), [usual()].into());
    assert_eq!(shown(), None, "its controller is gone");
    index.obstacle(&session, &usual(), &id("a"), Some("late"));
    assert_eq!(shown(), None);
    index.obstacle(&other, &usual(), &id("a"), Some("denied"));
    index.resource_gone(&other, &usual(), &id("a"), "over".to_owned());
    index.resource(&other, at(9, Phase::Creating));
    assert_eq!(shown(), None, "another resource of the name");
}
