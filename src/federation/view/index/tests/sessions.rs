use futures::FutureExt as _;

use crate::view::index::tests::*;

fn facts(reachable: bool) -> ClusterFacts {
    ClusterFacts { region: "europe".parse().unwrap(), reachable, last_answer: None }
}

/// With workspaces `a` and `b`, which a first connection to `eu-1` reported.
fn with_two() -> (Arc<Index>, Session) {
    let index = shared(8);
    let session = on(&index, "eu-1");
    index.cluster(&session, facts(true));
    for (workspace, version) in [("a", 1), ("b", 2)] {
        index.record(record(workspace, "eu-1"), version);
        index.resource(&session, view(workspace));
    }
    index.listed(&session, &usual());
    (index, session)
}

fn reconnect(index: &Index) -> Session {
    index.connect(&name("eu-1"), [usual()].into())
}

#[tokio::test]
async fn what_a_new_connection_does_not_list_has_ended_and_what_it_lists_again_is_no_news() {
    let (index, _) = with_two();
    let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    let session = reconnect(&index);
    index.resource(&session, view("a"));
    assert!(
        subscription.next().now_or_never().is_none(),
        "nothing is known of b before the list is complete"
    );
    assert_eq!(index.get(&id("b")).unwrap().view.phase, Phase::Running);
    index.listed(&session, &usual());
    let ended = subscription.next().await.unwrap().seen;
    assert_eq!((ended.view.id.clone(), ended.view.phase), (id("b"), Phase::Stopped));
    assert_eq!(ended.version, status_version(1, u64::MAX));
    assert!(ended.view.message.contains("no connection to cluster eu-1"), "{}", ended.view.message);
    assert!(index.get(&id("b")).is_none() && index.get(&id("a")).is_some());
    assert!(index.ending_of(&id("b")).is_some(), "its record ends with it");
    // Each list after the first compares in the cache of the connection.
    index.listed(&session, &usual());
    assert!(subscription.next().now_or_never().is_none());
}

#[tokio::test]
async fn an_ended_workspace_that_a_restore_brought_back_is_not_reported_as_ended_again_without_a_connection()
{
    let (index, _) = with_two();
    let mut ended = record("a", "eu-1");
    ended.state = RecordState::Ended { at: Timestamp::UNIX_EPOCH, expires: Timestamp::UNIX_EPOCH };
    index.record(ended.clone(), 3);
    index.disconnected(&name("eu-1"), None);
    let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    index.records_are(vec![(ended, 3), (record("b", "eu-1"), 2)], 9);
    assert!(subscription.next().now_or_never().is_none(), "etcd says what it said before");
    assert!(index.get(&id("a")).is_some());
}

#[tokio::test]
async fn an_end_that_was_shown_is_shown_again_to_whoever_subscribed_since_and_to_nobody_else() {
    let (index, session) = with_two();
    let mut before = index.subscribe(Filter::default(), &From::Now).unwrap();
    index.resource(&session, at(9, Phase::Stopped));
    let mut replayed = index.subscribe(Filter::default(), &From::Replay).unwrap();
    // Gone before the replay came to read it.
    index.resource_gone(&session, &usual(), &id("a"), String::new());
    let ends = async |subscription: &mut Subscription| {
        let mut ends = Vec::new();
        while let Some(Ok(event)) = subscription.next().now_or_never() {
            if event.seen.view.phase == Phase::Stopped {
                ends.push((event.seen.view.id.clone(), event.seen.version));
            }
        }
        ends
    };
    let (of_before, of_replay) = (ends(&mut before).await, ends(&mut replayed).await);
    assert_eq!(of_before.len(), 1);
    assert_eq!(of_before, of_replay);
}

#[tokio::test]
async fn reports_of_a_connection_that_was_replaced_or_removed_are_ignored() {
    let (index, old) = with_two();
    let session = reconnect(&index);
    let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    let late = |index: &Index, old: &Session| {
        index.resource(old, at(9, Phase::Stopping));
        index.resource_gone(old, &usual(), &id("a"), String::new());
        index.let_go(old, &usual(), &id("a"));
        index.cluster(old, facts(false));
        index.rewound(old);
        index.unreadable(old, &usual(), &id("a"));
        index.listed(old, &usual());
    };
    late(&index, &old);
    assert!(subscription.next().now_or_never().is_none());
    assert!(index.get(&id("a")).unwrap().reachable && !index.is_rewound(&name("eu-1")));
    index.cluster_gone(&name("eu-1"));
    for session in [&old, &session] {
        late(&index, session);
        assert!(index.get(&id("a")).is_none() && index.strays(&name("eu-1"), Timestamp::MAX).is_empty());
        assert!(!index.inner.read().clusters.contains_key(&name("eu-1")));
    }
    assert!(subscription.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_cluster_without_a_connection_is_unreachable_and_an_end_that_etcd_knows_is_announced() {
    let (index, old) = with_two();
    let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    index.disconnected(&name("eu-1"), Some(Timestamp::UNIX_EPOCH));
    for _ in 0..2 {
        let seen = subscription.next().await.unwrap().seen;
        assert_eq!((seen.reachable, seen.view.phase), (false, Phase::Running));
        assert_eq!(seen.observed_at, Some(Timestamp::UNIX_EPOCH));
    }
    index.cluster(&old, facts(true));
    assert!(!index.get(&id("a")).unwrap().reachable, "a late answer");
    let state = RecordState::Ended { at: Timestamp::UNIX_EPOCH, expires: Timestamp::MAX };
    let ending = Some(Ending { message: "stopped by request".to_owned(), ..Ending::default() });
    let ended = PlacementRecord { state, ending, ..record("b", "eu-1") };
    index.record(ended, 3);
    let seen = subscription.next().await.unwrap().seen;
    assert_eq!((seen.view.id.clone(), seen.view.phase), (id("b"), Phase::Stopped));
    assert_eq!(seen.view.message, "stopped by request");
    // And once only.
    let session = reconnect(&index);
    index.resource(&session, view("a"));
    index.listed(&session, &usual());
    index.cluster(&session, facts(true));
    assert!(subscription.next().await.unwrap().seen.reachable);
    assert!(subscription.next().now_or_never().is_none());
    // Also where the record went before its end was heard of.
    index.disconnected(&name("eu-1"), None);
    assert!(!subscription.next().await.unwrap().seen.reachable);
    index.record_gone(&id("a"), 4);
    let seen = subscription.next().await.unwrap().seen;
    assert_eq!((seen.view.id.clone(), seen.view.phase), (id("a"), Phase::Stopped));
}

#[tokio::test]
async fn a_resource_that_a_new_connection_cannot_read_has_not_ended() {
    let (index, _) = with_two();
    let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    let session = reconnect(&index);
    index.resource(&session, view("a"));
    index.unreadable(&session, &usual(), &id("b"));
    index.listed(&session, &usual());
    assert!(subscription.next().now_or_never().is_none());
    assert_eq!(index.get(&id("b")).unwrap().view.phase, Phase::Running);
}

#[tokio::test]
async fn a_namespace_that_a_new_connection_does_not_serve_is_forgotten_without_an_end() {
    let (index, _) = with_two();
    let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    let session = index.connect(&name("eu-1"), ["other".parse().unwrap()].into());
    index.listed(&session, &"other".parse().unwrap());
    assert!(index.get(&id("a")).is_none() && index.get(&id("b")).is_none());
    assert!(subscription.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_known_version_is_no_news_even_if_the_configuration_shows_it_otherwise() {
    let (index, session) = with_two();
    let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    let longer = |version| View { timeout: "47m0s".to_owned(), ..at(version, Phase::Running) };
    index.resource(&session, longer(1));
    assert!(subscription.next().now_or_never().is_none());
    assert_ne!(index.get(&id("a")).unwrap().view.timeout, "47m0s", "one state a version");
    index.resource(&session, longer(2));
    let seen = subscription.next().await.unwrap().seen;
    assert_eq!((seen.version, seen.view.timeout.as_str()), (status_version(1, 2), "47m0s"));
}

#[test]
fn a_cluster_that_was_set_back_while_it_had_no_connection_is_shown_as_its_list_has_it() {
    use domain::restore::Restores;
    let (index, session) = with_two();
    index.resource(&session, at(90, Phase::Running));
    let session = reconnect(&index);
    index.resource(&session, at(50, Phase::Stopping));
    index.resource(&session, view("b"));
    index.listed(&session, &usual());
    assert_eq!(index.get(&id("a")).unwrap().version, status_version(1, 90), "nobody knows why it fell");
    // The canary finds it after the list.
    index.rewound(&session);
    index.rewinds(&name("eu-1"), Restores { count: 1, last: Timestamp::UNIX_EPOCH });
    index.listed(&session, &usual());
    let seen = index.get(&id("a")).unwrap();
    assert_eq!((seen.version, seen.view.phase), (status_version(2, 50), Phase::Stopping));
}

#[tokio::test]
async fn a_slow_delivery_holds_up_no_other_change_and_no_read() {
    let (index, session) = with_two();
    let mut subscription = index.subscribe(Filter::default(), &From::Now).unwrap();
    let held = index.events().hold_up();
    let (told, done) = std::sync::mpsc::channel();
    let (other, theirs) = (Arc::clone(&index), session.clone());
    let first = std::thread::spawn(move || other.resource(&theirs, at(2, Phase::Stopping)));
    let other = Arc::clone(&index);
    let second = std::thread::spawn(move || {
        // Once the first is in the index, whether it was delivered or not.
        while other.get(&id("a")).is_none_or(|seen| seen.version != status_version(1, 2)) {
            std::thread::yield_now();
        }
        other.record(record("c", "eu-1"), 9);
        told.send(other.record_of(&id("c")).is_some()).unwrap();
    });
    assert_eq!(done.recv_timeout(std::time::Duration::from_secs(10)), Ok(true));
    drop(held);
    first.join().unwrap();
    second.join().unwrap();
    index.events().deliver();
    assert_eq!(next(&mut subscription).await, (status_version(1, 2), Phase::Stopping));
}
