//! Changes of workspaces on their way to subscribers.
//!
//! Publishing never waits. Each subscriber has a bounded buffer with one place a workspace: a newer state takes the
//! place of an older one that was not fetched yet, as Kubernetes merges them, except that the end of a workspace is
//! never replaced. Filters are applied before buffering. A subscriber with more changed workspaces than its buffer has
//! places is ended with [`Lagged`]: it knows that it missed something.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::index::Seen;
use crate::domain::names::WorkspaceId;
use crate::domain::workspace::{Phase, View};

/// Which workspaces a client asks for; empty parts match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Owner.
    pub owner: String,
    /// Long-lived id.
    pub meta: String,
    /// Annotations that must all be there with these values.
    pub annotations: BTreeMap<String, String>,
}

impl Filter {
    /// Whether the workspace is asked for.
    pub fn matches(&self, view: &View) -> bool {
        (self.owner.is_empty() || self.owner == view.owner)
            && (self.meta.is_empty() || self.meta == view.meta)
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

/// All subscribers of a replica.
#[derive(Debug, Default)]
pub struct Events {
    subscribers: Mutex<HashMap<Uuid, Arc<Subscriber>>>,
    capacity: usize,
    lagged: AtomicU64,
}

#[derive(Debug)]
struct Subscriber {
    filter: Filter,
    buffer: Mutex<Buffer>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Buffer {
    /// Places in the order they were taken.
    order: VecDeque<u64>,
    /// What is in each place.
    events: HashMap<u64, Event>,
    /// The place whose event a newer one may replace, by workspace.
    latest: HashMap<WorkspaceId, u64>,
    next_place: u64,
    ended: Option<Ended>,
}

impl Events {
    /// `capacity`: places in a subscriber's buffer.
    pub fn new(capacity: usize) -> Self {
        Self { subscribers: Mutex::default(), capacity, lagged: AtomicU64::new(0) }
    }

    /// Places in a subscriber's buffer.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Places taken in the fullest buffer.
    pub fn longest(&self) -> usize {
        let subscribers = self.subscribers.lock();
        subscribers.values().map(|subscriber| subscriber.buffer.lock().order.len()).max().unwrap_or(0)
    }

    /// Subscriptions that were ended because their buffers were full.
    pub fn lagged(&self) -> u64 {
        self.lagged.load(Ordering::Relaxed)
    }

    /// Number of subscribers.
    pub fn subscribers(&self) -> usize {
        self.subscribers.lock().len()
    }

    /// Adds a subscriber that is first given `backlog`, whatever its size. The caller holds off publishing meanwhile.
    pub fn subscribe(self: &Arc<Self>, filter: Filter, backlog: Vec<Event>) -> Subscription {
        let subscriber = Arc::new(Subscriber { filter, buffer: Mutex::default(), wake: Notify::new() });
        for event in backlog {
            // Where nothing is too much, nothing ends it.
            let _ = subscriber.buffer.lock().push(event, usize::MAX);
        }
        let id = Uuid::new_v4();
        self.subscribers.lock().insert(id, Arc::clone(&subscriber));
        Subscription { id, subscriber, events: Arc::clone(self) }
    }

    /// Gives a change to every subscriber that asks for it.
    pub fn publish(&self, event: &Event) {
        for subscriber in self.subscribers.lock().values() {
            if subscriber.filter.matches(&event.seen.view) {
                if subscriber.buffer.lock().push(event.clone(), self.capacity).is_err() {
                    self.lagged.fetch_add(1, Ordering::Relaxed);
                }
                subscriber.wake.notify_one();
            }
        }
    }

    /// Ends every subscription, once what is buffered was fetched.
    pub fn close(&self) {
        for subscriber in self.subscribers.lock().values() {
            subscriber.buffer.lock().ended.get_or_insert(Ended::Closed);
            subscriber.wake.notify_one();
        }
    }
}

impl Buffer {
    /// An error tells that this event ended the subscription.
    fn push(&mut self, event: Event, capacity: usize) -> Result<(), Ended> {
        if self.ended.is_some() {
            return Ok(());
        }
        let id = event.seen.view.id.clone();
        if let Some(at) = self.latest.get(&id)
            && let Some(waiting) = self.events.get_mut(at)
            && waiting.seen.view.phase != Phase::Stopped
        {
            *waiting = event;
            return Ok(());
        }
        if self.order.len() >= capacity {
            self.ended = Some(Ended::Lagged);
            return Err(Ended::Lagged);
        }
        let place = self.next_place;
        self.next_place += 1;
        self.latest.insert(id, place);
        self.order.push_back(place);
        self.events.insert(place, event);
        Ok(())
    }

    fn pop(&mut self) -> Option<Event> {
        let place = self.order.pop_front()?;
        let event = self.events.remove(&place)?;
        if self.latest.get(&event.seen.view.id) == Some(&place) {
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
        self.events.subscribers.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::federation::index::tests::{seen, view};

    fn event(sequence: u64, id: &str, phase: Phase) -> Event {
        let mut view = view(id);
        view.phase = phase;
        view.resource_version = sequence;
        Event { sequence, seen: seen(view) }
    }

    #[tokio::test]
    async fn a_newer_state_takes_the_place_of_an_older_one_but_never_of_the_end() {
        let events = Arc::new(Events::new(8));
        let mut subscription = events.subscribe(Filter::default(), Vec::new());
        events.publish(&event(1, "a", Phase::Pending));
        events.publish(&event(2, "b", Phase::Pending));
        events.publish(&event(3, "a", Phase::Stopped));
        events.publish(&event(4, "a", Phase::Pending));
        let mut got = Vec::new();
        for _ in 0..3 {
            let event = subscription.next().await.unwrap();
            got.push((event.sequence, event.seen.view.phase));
        }
        assert_eq!(got, [(3, Phase::Stopped), (2, Phase::Pending), (4, Phase::Pending)]);
    }

    #[tokio::test]
    async fn a_subscriber_with_more_changed_workspaces_than_places_is_told_that_it_lagged() {
        let events = Arc::new(Events::new(2));
        let mut subscription = events.subscribe(Filter::default(), Vec::new());
        for (sequence, id) in [(1, "a"), (2, "b"), (3, "a")] {
            events.publish(&event(sequence, id, Phase::Running));
        }
        assert_eq!((events.longest(), events.lagged()), (2, 0));
        for (sequence, id) in [(4, "c"), (5, "d")] {
            events.publish(&event(sequence, id, Phase::Running));
        }
        assert_eq!(events.lagged(), 1, "it is ended once");
        assert_eq!(subscription.next().await.unwrap().sequence, 3);
        assert_eq!(subscription.next().await.unwrap().sequence, 2);
        assert_eq!(subscription.next().await.unwrap_err(), Ended::Lagged);
    }

    #[tokio::test]
    async fn traffic_that_a_filter_does_not_want_takes_no_place() {
        let events = Arc::new(Events::new(1));
        let filter = Filter { meta: "meta-b".to_owned(), ..Filter::default() };
        let mut subscription = events.subscribe(filter, Vec::new());
        for (sequence, id) in [(1, "a"), (2, "c"), (3, "b")] {
            events.publish(&event(sequence, id, Phase::Running));
        }
        assert_eq!(subscription.next().await.unwrap().sequence, 3);
    }

    #[tokio::test]
    async fn a_dropped_subscription_is_forgotten() {
        let events = Arc::new(Events::new(1));
        let subscription = events.subscribe(Filter::default(), Vec::new());
        assert_eq!(events.subscribers(), 1);
        drop(subscription);
        assert_eq!(events.subscribers(), 0);
    }
}
