//! Kubernetes events about member clusters, in the host cluster, for admins.
//!
//! *Flow.* On every change, and every [`LOOK`], the leader compares the clusters with what it saw before;
//! differences go into a queue, and from there to the host cluster. *Guarantees.* Nothing waits for an
//! event to be written. What is wrong when a term begins is reported in that term; what recovered between
//! two terms is not, nor what is still queued when a term ends. *Limits.* [`MOST`] events wait; when more
//! come, the oldest are dropped and counted. One write at a time, and [`PAUSE`] after each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clusters::drain::Drains;
use crate::clusters::drain::known::KnownDrains;
use crate::clusters::view::{ClusterView, Views};
use crate::fleet::Fleet;
use domain::backoff::doubling;
use domain::cluster_events::{ClusterNotice, ClusterSnapshot, events, login};
use domain::drain::Stage;
use domain::names::ClusterName;
use host::Events;
use store::Term;

/// News that may wait to be written.
const MOST: usize = 256;
/// After each write.
const PAUSE: Duration = Duration::from_millis(250);
/// Debounce: changes within this time are compared together.
const GATHER: Duration = Duration::from_millis(250);
/// Between comparisons without a change: some conditions change by time alone, such as the end of a login.
const LOOK: Duration = Duration::from_secs(10);
/// Backoff of a write that failed.
const BACKOFF: ExponentialBuilder = doubling(Duration::from_secs(1), Duration::from_secs(30));

type Looks = BTreeMap<ClusterName, ClusterSnapshot>;

/// Events about clusters, in the host cluster.
pub(crate) struct ClusterEvents {
    fleet: Arc<Fleet>,
    known: Arc<KnownDrains>,
    drains: Arc<Drains>,
    views: Arc<Views>,
    /// Events that were dropped because too many waited.
    dropped: AtomicU64,
}

impl ClusterEvents {
    pub(crate) fn new(
        fleet: Arc<Fleet>,
        known: Arc<KnownDrains>,
        drains: Arc<Drains>,
        views: Arc<Views>,
    ) -> Arc<Self> {
        Arc::new(Self { fleet, known, drains, views, dropped: AtomicU64::new(0) })
    }

    /// Events that were dropped because too many came at once.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Tells the host, where there is one, until the term ends.
    pub(super) async fn run(&self, term: &Term) {
        let Some(host) = self.fleet.host() else { return };
        let queue = Queue::default();
        tokio::select! {
            () = self.look_for_news(&queue) => {}
            () = write(&queue, Events::new(Arc::clone(host)), term) => {}
            () = term.ended() => {}
        }
    }

    async fn look_for_news(&self, queue: &Queue) {
        self.fleet.listed().await;
        let (mut fleet, mut drains) = (self.fleet.changes(), self.known.changes());
        let mut before: Looks = self.looks().into_iter().map(|(name, look)| (name, look.healthy())).collect();
        loop {
            fleet.borrow_and_update();
            drains.borrow_and_update();
            let now = self.looks();
            let over = queue.put(differences(&before, &now), Timestamp::now());
            self.dropped.fetch_add(over, Ordering::Relaxed);
            before = now;
            tokio::select! {
                changed = fleet.changed() => if changed.is_err() { return },
                changed = drains.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK) => {}
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    fn looks(&self) -> Looks {
        self.views.all().into_iter().map(|view| (view.spec.name.clone(), self.look(view))).collect()
    }

    fn look(&self, view: ClusterView) -> ClusterSnapshot {
        let blocked = match view.drain {
            Some(Stage::Draining) => self.drains.get(&view.spec.name, false).map(|drain| drain.blocked),
            _ => Ok(String::new()),
        };
        ClusterSnapshot {
            health: view.health,
            fault: view.reason,
            cordoned: view.spec.cordoned,
            drain: view.drain,
            blocked: blocked.unwrap_or_default(),
            login: login(&view.conditions),
        }
    }
}

fn differences(before: &Looks, now: &Looks) -> Vec<ClusterNotice> {
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    let names = now.keys().chain(gone);
    names.flat_map(|name| events(name, before.get(name), now.get(name))).collect()
}

/// News on their way to the host, each with when it was seen.
#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<(ClusterNotice, Timestamp)>>,
    filled: Notify,
}

impl Queue {
    /// How many were dropped.
    fn put(&self, news: Vec<ClusterNotice>, at: Timestamp) -> u64 {
        let mut waiting = self.waiting.lock();
        for news in news {
            tracing::info!(cluster = %news.cluster, reason = news.reason, message = news.message, "cluster event");
            waiting.push_back((news, at));
        }
        let over = waiting.len().saturating_sub(MOST);
        if over > 0 {
            waiting.drain(..over);
            tracing::warn!(
                count = over,
                "cluster event queue full; dropped the oldest events: the host cluster accepts them too slowly"
            );
        }
        drop(waiting);
        self.filled.notify_one();
        over.try_into().unwrap_or(u64::MAX)
    }

    async fn next(&self) -> (ClusterNotice, Timestamp) {
        loop {
            let first = self.waiting.lock().pop_front();
            if let Some(first) = first {
                return first;
            }
            self.filled.notified().await;
        }
    }
}

async fn write(queue: &Queue, mut events: Events, term: &Term) {
    loop {
        let (news, at) = queue.next().await;
        for pause in BACKOFF.build().take_while(|_| term.is_valid()) {
            let Err(error) = events.write(&news, at).await else { break };
            let is_refused = error.code().is_some_and(|code| code < 500 && code != 429);
            let reason = news.reason;
            if is_refused {
                tracing::warn!(%error, reason, "dropped a cluster event: the host cluster rejected it");
                break;
            }
            tracing::debug!(%error, reason, again_in = ?pause, "failed to write a cluster event to the host cluster");
            tokio::time::sleep(pause).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(n: usize) -> ClusterNotice {
        let cluster = "eu".parse().unwrap();
        ClusterNotice { cluster, reason: "ClusterSuspect", message: n.to_string(), warning: true }
    }

    #[tokio::test]
    async fn where_too_many_wait_the_oldest_are_left_out() {
        let queue = Queue::default();
        assert_eq!(queue.put((0..MOST + 3).map(piece).collect(), Timestamp::UNIX_EPOCH), 3);
        let (first, _) = queue.next().await;
        assert_eq!(first.message, "3");
        assert_eq!(queue.waiting.lock().len(), MOST - 1);
    }
}
