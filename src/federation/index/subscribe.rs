//! Beginning a subscription: the backlog and what comes after, with nothing between them.

use super::Index;
use crate::federation::events::{Event, Filter, Subscription};

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

impl Index {
    /// Subscribes without a gap between the state at the beginning and what comes after.
    pub fn subscribe(&self, filter: Filter, from: &From) -> Result<Subscription, Expired> {
        // Held over the backlog and the subscription, so that nothing is published between them.
        let inner = self.inner.write();
        let since = match from {
            From::Now => return Ok(self.events.subscribe(filter, Vec::new())),
            From::Replay => None,
            From::Token(token) => {
                let sequence = self.sequence_of(token).ok_or(Expired)?;
                if sequence < inner.resumable_from || sequence > inner.sequence {
                    return Err(Expired);
                }
                Some(sequence)
            }
        };
        let mut backlog: Vec<Event> = inner
            .resources
            .iter()
            .filter(|(_, resource)| since.is_none_or(|since| resource.sequence > since))
            .filter(|(_, resource)| filter.matches(&resource.view))
            .filter_map(|(key, resource)| {
                Some(Event { sequence: resource.sequence, seen: inner.visible(key)? })
            })
            .collect();
        if let Some(since) = since {
            let ends = inner.ends.iter().filter(|end| end.sequence > since);
            backlog.extend(ends.filter(|end| filter.matches(&end.seen.view)).cloned());
        }
        backlog.sort_by_key(|event| event.sequence);
        Ok(self.events.subscribe(filter, backlog))
    }

    /// The token with which a subscriber that has seen `event` goes on.
    pub fn token(&self, event: &Event) -> String {
        format!("{}.{}", self.instance, event.sequence)
    }

    fn sequence_of(&self, token: &str) -> Option<u64> {
        let (instance, sequence) = token.split_once('.')?;
        (instance == self.instance).then(|| sequence.parse().ok())?
    }
}
