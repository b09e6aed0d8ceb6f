//! Backoff of reconciles that fail: 250 ms, doubled with each failure in a row up to 30 s, with jitter.

use std::collections::HashMap;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use parking_lot::Mutex;
use tokio::time::Duration;

use domain::backoff::jittered;

const DELAYS: ExponentialBuilder = jittered(Duration::from_millis(250), Duration::from_secs(30));
/// Failures in a row from which on a workspace counts as failing: some seconds of them.
const FAILING: u32 = 5;

/// Failures in a row of the workspaces of a namespace, by name. Workspaces without failures have no entry.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: Mutex<HashMap<String, (u32, ExponentialBackoff)>>,
}

impl Backoff {
    /// Counts a failure and returns the delay before the retry: between half and all of the backoff.
    pub fn failed(&self, name: &str) -> Duration {
        let mut all = self.failures.lock();
        let (failures, delays) = all.entry(name.to_owned()).or_insert_with(|| (0, DELAYS.build()));
        *failures = failures.saturating_add(1);
        delays.next().unwrap_or_default()
    }

    /// Failures in a row of a workspace.
    pub fn failures(&self, name: &str) -> u32 {
        self.failures.lock().get(name).map_or(0, |(failures, _)| *failures)
    }

    /// Number of workspaces that failed at least [`FAILING`] times in a row.
    pub fn failing(&self) -> usize {
        self.failures.lock().values().filter(|(failures, _)| *failures >= FAILING).count()
    }

    /// Resets the backoff after a success, or because the workspace is gone.
    pub fn reset(&self, name: &str) {
        self.failures.lock().remove(name);
    }

    /// Resets the backoff of all workspaces.
    pub fn clear(&self) {
        self.failures.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_up_to_thirty_seconds_and_is_reset_by_a_success() {
        let backoff = Backoff::default();
        let first = Duration::from_millis(250);
        let mut bound = first;
        for _ in 0..12 {
            let wait = backoff.failed("a");
            assert!(wait >= bound / 2 && wait <= bound, "{wait:?} of {bound:?}");
            bound = (bound * 2).min(Duration::from_secs(30));
        }
        assert_eq!(backoff.failing(), 1);
        backoff.reset("a");
        assert_eq!(backoff.failing(), 0);
        assert!(backoff.failed("a") <= first);
    }
}
