//! Since when the status update of each workspace waits.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// Delay of a status update that may wait, on a quiet cluster.
pub(super) const DELAY: Duration = Duration::from_millis(100);

/// Start of the delay by the name of the workspace.
#[derive(Debug, Default)]
pub(super) struct StatusDebounce {
    since: Mutex<HashMap<String, Instant>>,
}

impl StatusDebounce {
    /// How much longer an update waits whose delay began with the first call since the last reset; `None` if it is due.
    pub fn wait(&self, name: &str, delay: Duration) -> Option<Duration> {
        let now = Instant::now();
        let since = *self.since.lock().entry(name.to_owned()).or_insert(now);
        Some((since + delay).saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    pub fn reset(&self, name: &str) {
        self.since.lock().remove(name);
    }

    pub fn clear(&self) {
        self.since.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_update_waits_once_until_it_is_written() {
        let debounce = StatusDebounce::default();
        assert_eq!(debounce.wait("a", DELAY), Some(DELAY));
        tokio::time::advance(DELAY / 2).await;
        assert_eq!(debounce.wait("a", DELAY), Some(DELAY / 2), "counted from the first call");
        tokio::time::advance(DELAY / 2).await;
        assert_eq!(debounce.wait("a", DELAY), None);
        debounce.reset("a");
        assert_eq!(debounce.wait("a", DELAY), Some(DELAY));
    }
}
