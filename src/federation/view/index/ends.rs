//! Ends of workspaces: kept for subscribers that resume, and published for workspaces that are given up.

use std::sync::Arc;

use super::state::{Index, Inner, Resource, key_of};
use crate::view::events::Event;
use crate::view::seen::Seen;
use domain::ended::Ended;
use domain::ending::Ending;
use domain::names::WorkspaceId;
use domain::record::{PlacementRecord, status_version};
use domain::workspace::{Phase, View};

/// How many ends are remembered for subscribers that resume.
const ENDS_KEPT: usize = 10_000;

/// Whether the state published last was already the end.
pub(super) fn last_was_the_end(seen: &Seen, version: u64, generation: u32) -> bool {
    seen.view.phase == Phase::Stopped && version != status_version(generation, u64::MAX)
}

impl Index {
    /// Notifies subscribers that a workspace was given up, above all versions that were shown of it. Its cluster is not
    /// registered any more, so its record is all that is known of it here.
    pub(super) fn announce_given_up(&self, inner: &mut Inner, record: &PlacementRecord) {
        let key = key_of(record);
        // On a replica that has not seen yet that the cluster was deregistered.
        let last = inner.resources.get(&key).map(|resource| View::clone(&resource.view));
        let last = last.unwrap_or_else(|| View::of_record(record));
        let message = record.given_up.clone().unwrap_or_default();
        let view = View { phase: Phase::Stopped, message, ..last };
        let seen = inner.seen(&key.1, Arc::new(view.into()), status_version(record.generation, u64::MAX));
        let event = inner.ended(seen);
        self.events.publish(event);
    }
}

impl Index {
    /// How a workspace ended whose record has not ended yet, as this replica saw it.
    pub fn ending_of(&self, id: &WorkspaceId) -> Option<Ending> {
        self.inner.read().endings.get(id).cloned()
    }

    /// A workspace that is over, for as long as its id is taken; `None` where it is live, or none is known.
    pub fn ended(&self, id: &WorkspaceId) -> Option<Ended> {
        Ended::of(&self.inner.read().records.get(id)?.0)
    }
}

impl Inner {
    /// Ends that were announced after a sequence number, in their order.
    pub(super) fn ends_since(&self, sequence: u64) -> impl Iterator<Item = &Event> {
        let from = self.ends.partition_point(|end| end.sequence <= sequence);
        self.ends.range(from..)
    }

    /// Keeps how a workspace ended until its record says so. There are as many as live records at most.
    pub(super) fn note_ending(&mut self, id: &WorkspaceId, last: &Resource, message: &str) {
        if self.records.get(id).is_some_and(|(record, _)| record.is_live()) {
            let ending = Ending::of(&last.view, last.reached, message);
            self.endings.insert(id.clone(), ending);
        }
    }

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
