//! How long a change of the index waits while 10,000 workspaces are read and 1,000 subscribers listen. Changes come from one
//! thread and reads from another; the waits beside idle readers tell what is the machine's own.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::unwrap_used, reason = "names of this file are valid")]
#![allow(clippy::print_stdout, reason = "figures are printed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::names::ClusterName;
use domain::record::{Digest, PlacementRecord, RecordState};
use domain::workspace::{Phase, View};
use jiff::Timestamp;
use spaceport_federation::view::events::Filter;
use spaceport_federation::view::index::{ClusterFacts, From, Index, Session};
use tokio::time::Instant;

const WORKSPACES: usize = 10_000;
const CLUSTERS: usize = 5;
const SUBSCRIBERS: usize = 1_000;
const CHANGES: usize = 20_000;
/// Between changes: a busy fleet has hundreds a second.
const PAUSE: Duration = Duration::from_micros(200);
const PAGE: usize = 500;

fn cluster(number: usize) -> ClusterName {
    format!("cluster-{}", number % CLUSTERS).parse().unwrap()
}

fn record(number: usize) -> PlacementRecord {
    PlacementRecord {
        workspace: format!("ws-{number:05}").parse().unwrap(),
        meta: format!("meta-{number:05}").parse().unwrap(),
        owner: format!("owner-{}", number % 500).parse().unwrap(),
        cluster: cluster(number),
        namespace: "workspaces".parse().unwrap(),
        generation: 1,
        digest: Digest(String::new()),
        keying: None,
        placed_at: Timestamp::UNIX_EPOCH,
        state: RecordState::Placed,
        given_up: None,
        ending: None,
        port_of: None,
    }
}

fn view(number: usize, version: u64) -> View {
    let phase = if version.is_multiple_of(2) { Phase::Running } else { Phase::Initializing };
    View { uid: number.to_string(), resource_version: version, phase, ..View::of_record(&record(number)) }
}

fn filled() -> (Arc<Index>, Vec<Session>) {
    let index = Arc::new(Index::new(WORKSPACES * 2));
    let sessions: Vec<Session> =
        (0..CLUSTERS).map(|n| index.connect(&cluster(n), ["workspaces".parse().unwrap()].into())).collect();
    let facts = ClusterFacts { region: "europe".parse().unwrap(), reachable: true, last_answer: None };
    for session in &sessions {
        index.cluster(session, facts.clone());
    }
    for number in 0..WORKSPACES {
        index.record(record(number), 1);
        index.resource(&sessions[number % CLUSTERS], view(number, 1));
    }
    (index, sessions)
}

/// Everything that a client, a scrape or a term's begin reads of all workspaces.
fn read_all(index: &Arc<Index>) {
    let (mut after, mut count) = (String::new(), 0);
    loop {
        let page = index.list(&Filter::default(), &after, PAGE);
        count += page.len();
        match page.last() {
            Some(last) if page.len() == PAGE => after = last.view.id.to_string(),
            _ => break,
        }
    }
    assert_eq!(count, WORKSPACES);
    let nobody = Filter { owner: "nobody".to_owned(), ..Filter::default() };
    assert!(index.list(&nobody, "", PAGE).is_empty());
    assert_eq!(index.phases().len(), CLUSTERS);
    assert_eq!(index.live_records().len(), WORKSPACES);
    assert_eq!(index.residents(&cluster(0)).len(), WORKSPACES / CLUSTERS);
    let mut replay = index.subscribe(Filter::default(), &From::Replay).unwrap();
    futures::executor::block_on(async {
        for _ in 0..WORKSPACES {
            replay.next().await.unwrap();
        }
    });
}

/// How long each change took, sorted, and how often everything was read meanwhile.
fn measure(index: &Arc<Index>, sessions: &[Session], version: u64, reads: bool) -> (Vec<Duration>, usize) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                if reads {
                    read_all(index);
                    count += 1;
                } else {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            count
        });
        let mut took: Vec<Duration> = (0..CHANGES)
            .map(|n| {
                let number = n * 7919 % WORKSPACES;
                // Each workspace changes twice.
                let change = view(number, version + u64::from(n >= WORKSPACES));
                let begun = Instant::now();
                index.resource(&sessions[number % CLUSTERS], change);
                let took = begun.elapsed();
                std::thread::sleep(PAUSE);
                took
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        took.sort_unstable();
        (took, reader.join().unwrap())
    })
}

fn main() {
    let (index, sessions) = filled();
    println!("index: {WORKSPACES} workspaces on {CLUSTERS} clusters, {CHANGES} changes");
    let mut version = 2;
    for subscribers in [0, SUBSCRIBERS] {
        // Each asks for what one of a thousand owners has, as dashboards do.
        let own = |n: usize| Filter { owner: format!("owner-{n}"), ..Filter::default() };
        let all: Vec<_> = (0..subscribers).map(|n| index.subscribe(own(n), &From::Now).unwrap()).collect();
        for reads in [false, true] {
            let (took, count) = measure(&index, &sessions, version, reads);
            version += 10;
            let at = |permille: usize| took[(took.len() - 1) * permille / 1000];
            println!(
                "{subscribers:>5} subscribers, everything read {count:>4} times: a change took p50 {:?}, p99 {:?}, p99.9 {:?}, \
                 max {:?}; {} of {CHANGES} took more than 1 ms",
                at(500),
                at(990),
                at(999),
                at(1000),
                took.iter().filter(|took| **took > Duration::from_millis(1)).count(),
            );
        }
        drop(all);
    }
}
