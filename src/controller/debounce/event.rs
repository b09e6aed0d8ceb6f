//! Holds back events of steps that may be over at once: an event is written only if its step lasts.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

use super::super::decide::Note;

/// How long a step must last on a quiet cluster to get an event.
pub(super) const DELAY: Duration = Duration::from_secs(2);

/// The event that is held back, and when it is due, by the name of the workspace.
#[derive(Debug, Default)]
pub(super) struct EventDebounce {
    held: Mutex<HashMap<String, (Note, Instant)>>,
}

impl EventDebounce {
    /// Removes the events of passing steps from `notes` and adds one that is due. The last passing step is held back for
    /// `delay`, unless other events come with it: they supersede it. Returns the rest of the delay of an event that is held.
    pub fn filter(&self, name: &str, notes: &mut Vec<Note>, delay: Duration) -> Option<Duration> {
        let now = Instant::now();
        let mut held = self.held.lock();
        if !notes.is_empty() {
            held.remove(name);
            let passing = notes.iter().rfind(|note| note.passing).cloned();
            notes.retain(|note| !note.passing);
            if let Some(note) = passing.filter(|_| notes.is_empty()) {
                held.insert(name.to_owned(), (note, now + delay));
            }
        }
        let due = held.get(name)?.1;
        if due > now {
            return Some(due.duration_since(now));
        }
        notes.extend(held.remove(name).map(|(note, _)| note));
        None
    }

    pub fn forget(&self, name: &str) {
        self.held.lock().remove(name);
    }

    pub fn clear(&self) {
        self.held.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_gets_an_event_if_it_lasts_and_none_if_another_event_follows() {
        let debounce = EventDebounce::default();
        let note = |reason, passing| Note { reason, warning: false, message: String::new(), passing };
        let reasons = |notes: &[Note]| notes.iter().map(|note| note.reason).collect::<Vec<_>>();
        let mut notes = vec![note("Creating", true)];
        assert_eq!(debounce.filter("a", &mut notes, DELAY), Some(DELAY));
        assert!(notes.is_empty());
        tokio::time::advance(DELAY / 2).await;
        notes = vec![note("Initializing", true)];
        assert_eq!(debounce.filter("a", &mut notes, DELAY), Some(DELAY), "the next step has its own delay");
        tokio::time::advance(DELAY).await;
        assert_eq!(debounce.filter("a", &mut notes, DELAY), None);
        assert_eq!(reasons(&notes), ["Initializing"]);
        notes = vec![note("Creating", true)];
        debounce.filter("a", &mut notes, DELAY);
        notes = vec![note("Running", false)];
        assert_eq!(debounce.filter("a", &mut notes, DELAY), None);
        assert_eq!(reasons(&notes), ["Running"]);
        notes.clear();
        tokio::time::advance(DELAY).await;
        assert_eq!(debounce.filter("a", &mut notes, DELAY), None);
        assert!(notes.is_empty(), "a superseded event is never written");
    }
}
