//! Ends: kept for subscribers that resume, and told of workspaces whose cluster does not return.

use std::sync::Arc;

use super::{Index, Inner, Seen, key_of};
use crate::domain::record::{PlacementRecord, status_version};
use crate::domain::workspace::{Phase, View};
use crate::federation::events::Event;

/// How many ends are remembered for subscribers that resume.
const ENDS_KEPT: usize = 10_000;

impl Index {
    /// Tells subscribers that a workspace was given up, above all versions that were told of it. Its cluster is not
    /// registered any more, so its record is all that is known of it here.
    pub(super) fn announce_given_up(&self, inner: &mut Inner, record: &PlacementRecord) {
        let key = key_of(record);
        // On a replica that has not heard yet that the cluster was taken out.
        let last = inner.resources.get(&key).map(|resource| View::clone(&resource.view));
        let last = last.unwrap_or_else(|| View::of_record(record));
        let message = record.given_up.clone().unwrap_or_default();
        let view = View { phase: Phase::Stopped, message, ..last };
        let seen = inner.seen(&key.1, Arc::new(view.into()), status_version(record.generation, u64::MAX));
        let event = inner.ended(seen);
        self.events.publish(&event);
    }
}

impl Inner {
    /// The event of an end, kept.
    pub(super) fn ended(&mut self, seen: Seen) -> Event {
        self.sequence += 1;
        let event = Event { sequence: self.sequence, seen };
        if self.ends.len() == ENDS_KEPT
            && let Some(oldest) = self.ends.pop_front()
        {
            self.resumable_from = oldest.sequence;
        }
        self.ends.push_back(event.clone());
        event
    }
}
