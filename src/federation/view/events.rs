//! Delivers changes of workspaces to subscribers.
//!
//! *Flow.* Published events wait in order until the publisher delivers them, outside of the index's lock,
//! so that many subscribers delay no other change. Each subscriber has a bounded buffer with one place a
//! workspace: a newer state replaces an older one that was not fetched yet, as in Kubernetes watches; the
//! end of a workspace is never replaced. Events leave the buffer in the order of their sequence numbers, so
//! that a subscriber that resumes from one has seen all before it. Filters apply before buffering.
//! *Limits.* A subscriber with more changed workspaces than its buffer has places is ended with
//! [`Ended::Lagged`].

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::view::seen::Seen;
use domain::names::WorkspaceId;
use domain::workspace::{Phase, View};

/// Which workspaces a client asks for; empty parts match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Owner.
    pub owner: String,
    /// Long-lived id.
    pub meta: String,
    /// Annotations that must all be there with these values.
    pub annotations: BTreeMap<String, String>,
    /// The owners whose workspaces the client may see; none: everybody's.
    pub owners: Option<Arc<BTreeSet<String>>>,
}

impl Filter {
    /// Whether the workspace is asked for.
    pub fn matches(&self, view: &View) -> bool {
        (self.owner.is_empty() || self.owner == view.owner)
            && (self.meta.is_empty() || self.meta == view.meta)
            && self.owners.as_ref().is_none_or(|owners| owners.contains(&view.owner))
            && self.annotations.iter().all(|(key, value)| view.annotations.get(key) == Some(value))
    }
}

/// A published state, with the sequence number that a resume token is made of.
#[derive(Debug, Clone)]
pub struct Event {
    /// Grows by one with each change that this replica publishes.
    pub sequence: u64,
    /// The state.
    pub seen: Seen,
}

/// Why a subscription ended from our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// More workspaces changed than the buffer has places.
    Lagged,
    /// The server shuts down.
    Closed,
}

/// Events that may wait to be delivered by another thread; with more, whoever published one helps and waits.
const BACKLOG: usize = 1024;

/// All subscribers of a replica.
#[derive(Debug, Default)]
pub struct Events {
    /// Replaced as a whole, so that an event is delivered without the lock.
    subscribers: Mutex<Arc<HashMap<Uuid, Arc<Subscriber>>>>,
    /// Published, and not delivered yet.
    waiting: Mutex<VecDeque<Published>>,
    /// Held by the one thread that delivers.
    delivering: Mutex<()>,
    capacity: usize,
    lagged: AtomicU64,
}

/// An event on its way.
#[derive(Debug)]
struct Published {
    event: Event,
    /// Whoever subscribed before this sequence number has the state already.
    shown_at: u64,
}

#[derive(Debug)]
struct Subscriber {
    filter: Filter,
    /// Sequence number of the last change that is no part of what it gets.
    after: u64,
    buffer: Mutex<Buffer>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Buffer {
    /// By sequence number.
    events: BTreeMap<u64, Event>,
    /// The last event of a workspace, by its sequence number.
    latest: HashMap<WorkspaceId, u64>,
    ended: Option<Ended>,
}

impl Events {
    /// `capacity`: places in a subscriber's buffer.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Places in a subscriber's buffer.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Places taken in the fullest buffer.
    pub fn longest(&self) -> usize {
        let subscribers = self.all();
        subscribers.values().map(|subscriber| subscriber.buffer.lock().events.len()).max().unwrap_or(0)
    }

    /// Subscriptions that were ended because their buffers were full.
    pub fn lagged(&self) -> u64 {
        self.lagged.load(Ordering::Relaxed)
    }

    /// Number of subscribers.
    pub fn subscribers(&self) -> usize {
        self.subscribers.lock().len()
    }

    /// Adds a subscriber to what is published after a sequence number.
    pub fn subscribe(self: &Arc<Self>, filter: Filter, after: u64) -> Subscription {
        let (buffer, wake) = (Mutex::default(), Notify::new());
        let subscriber = Arc::new(Subscriber { filter, after, buffer, wake });
        let id = Uuid::new_v4();
        Arc::make_mut(&mut *self.subscribers.lock()).insert(id, Arc::clone(&subscriber));
        Subscription { id, subscriber, events: Arc::clone(self) }
    }

    /// Takes a change for every subscriber that asks for it; [`Events::deliver`] brings it there. Call it with the lock of what
    /// changed held, so that the order is that of the changes.
    pub fn publish(&self, event: Event) {
        self.waiting.lock().push_back(Published { event, shown_at: 0 });
    }

    /// The same for a state that was published before, at a sequence number, and cannot be read any more: for the
    /// subscribers that came after it and may not have read it.
    pub fn publish_again(&self, event: Event, shown_at: u64) {
        self.waiting.lock().push_back(Published { event, shown_at });
    }

    /// Delivers what was published, unless another thread does so: that one then delivers this, too. Call it without any
    /// lock.
    pub fn deliver(&self) {
        loop {
            let turn = if self.waiting.lock().len() < BACKLOG {
                self.delivering.try_lock()
            } else {
                Some(self.delivering.lock())
            };
            let Some(turn) = turn else { return };
            while let Some(published) = self.next() {
                self.give(&published);
            }
            drop(turn);
            // What came between the last look and the end of our turn would be delivered by nobody.
            if self.waiting.lock().is_empty() {
                return;
            }
        }
    }

    fn next(&self) -> Option<Published> {
        self.waiting.lock().pop_front()
    }

    fn give(&self, Published { event, shown_at }: &Published) {
        for subscriber in self.all().values() {
            let is_new = event.sequence > subscriber.after && *shown_at <= subscriber.after;
            if is_new && subscriber.filter.matches(&event.seen.view) {
                if subscriber.buffer.lock().push(event.clone(), self.capacity).is_err() {
                    self.lagged.fetch_add(1, Ordering::Relaxed);
                }
                subscriber.wake.notify_one();
            }
        }
    }

    fn all(&self) -> Arc<HashMap<Uuid, Arc<Subscriber>>> {
        Arc::clone(&self.subscribers.lock())
    }

    /// Ends every subscription, once what is buffered was fetched.
    pub fn close(&self) {
        for subscriber in self.all().values() {
            subscriber.buffer.lock().ended.get_or_insert(Ended::Closed);
            subscriber.wake.notify_one();
        }
    }
}

impl Buffer {
    /// Fails where this event ended the subscription.
    fn push(&mut self, event: Event, capacity: usize) -> Result<(), Ended> {
        if self.ended.is_some() {
            return Ok(());
        }
        let id = event.seen.view.id.clone();
        if let Some(last) = self.latest.get(&id)
            && self.events.get(last).is_some_and(|last| last.seen.view.phase != Phase::Stopped)
        {
            self.events.remove(last);
        }
        if self.events.len() >= capacity {
            self.ended = Some(Ended::Lagged);
            return Err(Ended::Lagged);
        }
        self.latest.insert(id, event.sequence);
        self.events.insert(event.sequence, event);
        Ok(())
    }

    fn pop(&mut self) -> Option<Event> {
        let (sequence, event) = self.events.pop_first()?;
        if self.latest.get(&event.seen.view.id) == Some(&sequence) {
            self.latest.remove(&event.seen.view.id);
        }
        Some(event)
    }
}

/// One subscriber's end; dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    id: Uuid,
    subscriber: Arc<Subscriber>,
    events: Arc<Events>,
}

impl Subscription {
    /// The next change, waited for without a limit. After the end of the subscription what is buffered comes first.
    pub async fn next(&mut self) -> Result<Event, Ended> {
        loop {
            {
                let mut buffer = self.subscriber.buffer.lock();
                if let Some(event) = buffer.pop() {
                    return Ok(event);
                }
                if let Some(ended) = buffer.ended {
                    return Err(ended);
                }
            }
            self.subscriber.wake.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        Arc::make_mut(&mut *self.events.subscribers.lock()).remove(&self.id);
    }
}

#[cfg(test)]
impl Events {
    /// Nothing is delivered while this is held.
    pub(crate) fn hold_up(&self) -> parking_lot::MutexGuard<'_, ()> {
        self.delivering.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::{seen, view};

    fn event(sequence: u64, id: &str, phase: Phase) -> Event {
        let mut view = view(id);
        view.phase = phase;
        view.resource_version = sequence;
        Event { sequence, seen: seen(view) }
    }

    fn publish(events: &Events, event: Event) {
        events.publish(event);
        events.deliver();
    }

    #[tokio::test]
    async fn a_newer_state_replaces_an_older_one_but_never_the_end_and_all_come_in_their_order() {
        let events = Arc::new(Events::new(8));
        let mut subscription = events.subscribe(Filter::default(), 0);
        publish(&events, event(1, "a", Phase::Pending));
        publish(&events, event(2, "b", Phase::Pending));
        publish(&events, event(3, "a", Phase::Stopped));
        publish(&events, event(4, "a", Phase::Pending));
        let mut got = Vec::new();
        for _ in 0..3 {
            let event = subscription.next().await.unwrap();
            got.push((event.sequence, event.seen.view.phase));
        }
        assert_eq!(got, [(2, Phase::Pending), (3, Phase::Stopped), (4, Phase::Pending)]);
    }

    #[tokio::test]
    async fn a_subscriber_with_more_changed_workspaces_than_places_is_told_that_it_lagged() {
        let events = Arc::new(Events::new(2));
        let mut subscription = events.subscribe(Filter::default(), 0);
        for (sequence, id) in [(1, "a"), (2, "b"), (3, "a")] {
            publish(&events, event(sequence, id, Phase::Running));
        }
        assert_eq!((events.longest(), events.lagged()), (2, 0));
        for (sequence, id) in [(4, "c"), (5, "d")] {
            publish(&events, event(sequence, id, Phase::Running));
        }
        assert_eq!(events.lagged(), 1, "it is ended once");
        assert_eq!(subscription.next().await.unwrap().sequence, 2);
        assert_eq!(subscription.next().await.unwrap().sequence, 3);
        assert_eq!(subscription.next().await.unwrap_err(), Ended::Lagged);
    }

    #[tokio::test]
    async fn traffic_that_a_filter_does_not_want_takes_no_place() {
        let events = Arc::new(Events::new(1));
        let filter = Filter { meta: "meta-b".to_owned(), ..Filter::default() };
        let mut subscription = events.subscribe(filter, 0);
        for (sequence, id) in [(1, "a"), (2, "c"), (3, "b")] {
            publish(&events, event(sequence, id, Phase::Running));
        }
        assert_eq!(subscription.next().await.unwrap().sequence, 3);
    }

    #[test]
    fn what_others_own_is_not_asked_for_by_whoever_may_not_see_it() {
        let view = view("a");
        let of = |owners: &[&str]| Filter {
            owners: Some(Arc::new(owners.iter().map(|owner| (*owner).to_owned()).collect())),
            ..Filter::default()
        };
        assert!(Filter::default().matches(&view) && of(&[&view.owner]).matches(&view));
        assert!(!of(&["somebody-else"]).matches(&view) && !of(&[]).matches(&view));
        let asked = Filter { owner: view.owner.clone(), ..of(&["somebody-else"]) };
        assert!(!asked.matches(&view), "asking for an owner gives no right");
    }

    #[tokio::test]
    async fn a_dropped_subscription_is_forgotten() {
        let events = Arc::new(Events::new(1));
        let subscription = events.subscribe(Filter::default(), 0);
        assert_eq!(events.subscribers(), 1);
        drop(subscription);
        assert_eq!(events.subscribers(), 0);
    }
}
