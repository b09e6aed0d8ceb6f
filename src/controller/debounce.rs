//! Debounce of what a reconcile writes: a status update or an event that the next reconcile is likely to replace waits for
//! it. Both delays grow with the time that status writes take.

mod delay;
mod event;
mod status;

use tokio::time::{Duration, Instant};

use super::decide::Note;
use delay::DebounceDelay;
use event::EventDebounce;
use status::StatusDebounce;

/// Debounce of status updates and events of a namespace.
#[derive(Debug, Default)]
pub(super) struct Debounce {
    delay: DebounceDelay,
    status: StatusDebounce,
    events: EventDebounce,
}

impl Debounce {
    /// How much longer a status update that may wait does so; `None` if it is due.
    pub fn status(&self, name: &str) -> Option<Duration> {
        self.status.wait(name, self.delay.get(status::DELAY))
    }

    /// The status in the cluster is as decided: the next update starts its own delay.
    pub fn status_is_current(&self, name: &str) {
        self.status.reset(name);
    }

    /// A status was written by a reconcile that was due at this time.
    pub fn status_written(&self, due: Instant) {
        self.delay.observe(due.elapsed());
    }

    /// Reduces `events` to those that are to be written now. Returns when to check for one that is held back.
    pub fn events(&self, name: &str, events: &mut Vec<Note>) -> Option<Duration> {
        self.events.filter(name, events, self.delay.get(event::DELAY))
    }

    /// Removes what is known of a workspace that is gone.
    pub fn forget(&self, name: &str) {
        self.status.reset(name);
        self.events.forget(name);
    }

    /// Removes what is known of all workspaces.
    pub fn clear(&self) {
        self.status.clear();
        self.events.clear();
    }
}
