//! Subscriptions: the current state and then every change, without a gap.
//!
//! *Flow.* The current state is read from the index in chunks as the subscriber takes them, in the order of
//! last changes. A workspace that changes meanwhile is skipped there: its latest state is in the
//! subscriber's buffer, or about to be delivered to it. *Limits.* One chunk, and the buffer.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use super::state::{Index, Inner, LOOK};
use crate::view::events::{self, Ended, Event, Filter};

/// Events read from the index at a time.
const CHUNK: usize = 64;

/// A resume token that this replica cannot honour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired;

/// Where a subscription begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// Only what comes.
    Now,
    /// The current state of everything asked for, then what comes.
    Replay,
    /// What changed since the token was given, then what comes.
    Token(String),
}

/// One subscriber's end; dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    replay: Option<Replay>,
    live: events::Subscription,
}

/// The part of the state at the beginning that was not given yet.
#[derive(Debug)]
struct Replay {
    index: Arc<Index>,
    filter: Filter,
    /// Sequence number up to which everything was read.
    after: u64,
    /// Sequence number of the last change before the subscription.
    until: u64,
    /// Ends of before the subscription, of which no resource is left.
    ends: VecDeque<Event>,
    chunk: VecDeque<Event>,
}

impl Subscription {
    /// The next change, waited for without a limit. After the end of the subscription what is buffered comes first.
    pub async fn next(&mut self) -> Result<Event, Ended> {
        while let Some(replay) = &mut self.replay {
            match replay.next() {
                Some(event) => return Ok(event),
                None if replay.is_read() => self.replay = None,
                // Much was read and nothing matched: yields to other tasks.
                None => tokio::task::yield_now().await,
            }
        }
        self.live.next().await
    }
}

impl Replay {
    /// The next event in the order of sequence numbers. None: at the end, or nothing was found in one look.
    fn next(&mut self) -> Option<Event> {
        if self.chunk.is_empty() && !self.is_read() {
            let index = Arc::clone(&self.index);
            self.read(&index.inner.read());
        }
        let of_end = self.ends.front().map(|end| end.sequence);
        let of_chunk = self.chunk.front().map(|event| event.sequence);
        match (of_end, of_chunk) {
            (Some(end), Some(event)) if end < event => self.ends.pop_front(),
            (_, Some(_)) => self.chunk.pop_front(),
            // What is read later may have a lower number, unless nothing is.
            (Some(_), None) if self.is_read() => self.ends.pop_front(),
            (_, None) => None,
        }
    }

    fn is_read(&self) -> bool {
        self.after >= self.until
    }

    fn read(&mut self, inner: &Inner) {
        let rest = inner.by_sequence.range((Bound::Excluded(self.after), Bound::Included(self.until)));
        for (sequence, key) in rest.take(LOOK) {
            self.after = *sequence;
            if inner.resources.get(key).is_some_and(|resource| self.filter.matches(&resource.view))
                && let Some(seen) = inner.visible(key)
            {
                self.chunk.push_back(Event { sequence: *sequence, seen });
                if self.chunk.len() == CHUNK {
                    return;
                }
            }
        }
        if inner
            .by_sequence
            .range((Bound::Excluded(self.after), Bound::Included(self.until)))
            .next()
            .is_none()
        {
            self.after = self.until;
        }
    }
}

impl Index {
    /// Subscribes without a gap between the state at the beginning and what comes after.
    pub fn subscribe(self: &Arc<Self>, filter: Filter, from: &From) -> Result<Subscription, Expired> {
        // Held over both, so that nothing is published between them. What was published before may not be delivered yet, and
        // is no part of what comes.
        let inner = self.inner.read();
        let sequence = inner.sequence;
        let (after, ends) = match from {
            From::Now => {
                return Ok(Subscription { replay: None, live: self.events.subscribe(filter, sequence) });
            }
            From::Replay => (0, VecDeque::new()),
            From::Token(token) => {
                let sequence = self.sequence_of(token).ok_or(Expired)?;
                if sequence < inner.resumable_from || sequence > inner.sequence {
                    return Err(Expired);
                }
                let ends = inner.ends_since(sequence).filter(|end| filter.matches(&end.seen.view));
                let ends = ends.cloned().collect();
                (sequence, ends)
            }
        };
        let replay = Replay {
            index: Arc::clone(self),
            filter: filter.clone(),
            after,
            until: inner.sequence.max(after),
            ends,
            chunk: VecDeque::new(),
        };
        Ok(Subscription { replay: Some(replay), live: self.events.subscribe(filter, sequence) })
    }

    /// The token with which a subscriber that has seen `event` resumes.
    pub fn token(&self, event: &Event) -> String {
        format!("{}.{}", self.instance, event.sequence)
    }

    fn sequence_of(&self, token: &str) -> Option<u64> {
        let (instance, sequence) = token.split_once('.')?;
        (instance == self.instance).then(|| sequence.parse().ok())?
    }
}
