//! Debounce delay: grows with the latency of status writes, from about 100 ms on a quiet cluster to seconds on a busy one.
//!
//! A fixed delay fails on a busy cluster: each extra write makes the cluster slower, so that the next change comes later
//! than the delay, and the write that was to be spared is made after all. 1,000 starts at once took 26 to 36 s that way.

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// The delay is the time that so many status writes take.
const WRITES: u32 = 5;
/// Bound of the delay: people look at the status.
const LONGEST: Duration = Duration::from_secs(10);
/// A latency that was measured longer ago says nothing of the cluster.
const FRESH: Duration = Duration::from_secs(10);

/// Latency of the status writes of a namespace, from when the reconcile was due.
#[derive(Debug, Default)]
pub(super) struct DebounceDelay {
    /// Moving mean (weight 1/4 for the last write), and the time of the last write.
    mean: Mutex<Option<(Duration, Instant)>>,
}

impl DebounceDelay {
    pub fn observe(&self, latency: Duration) {
        let now = Instant::now();
        let mut mean = self.mean.lock();
        let before = mean.filter(|(_, at)| now.duration_since(*at) < FRESH);
        *mean = Some((before.map_or(latency, |(before, _)| (before * 3 + latency) / 4), now));
    }

    /// The delay now, where it is `least` on a quiet cluster.
    pub fn get(&self, least: Duration) -> Duration {
        let mean = self.mean.lock().filter(|(_, at)| at.elapsed() < FRESH);
        least.max(mean.map_or(Duration::ZERO, |(mean, _)| (mean * WRITES).min(LONGEST)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(100);

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[tokio::test(start_paused = true)]
    async fn the_delay_is_five_writes_within_bounds() {
        let delay = DebounceDelay::default();
        assert_eq!(delay.get(LEAST), LEAST, "nothing is known");
        delay.observe(millis(8));
        assert_eq!(delay.get(LEAST), LEAST);
        for _ in 0..40 {
            delay.observe(millis(400));
        }
        let busy = delay.get(LEAST);
        assert!(busy > millis(1990) && busy <= millis(2000), "{busy:?}");
        for _ in 0..40 {
            delay.observe(millis(9000));
        }
        assert_eq!(delay.get(LEAST), LONGEST);
        assert_eq!(delay.get(LONGEST * 2), LONGEST * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_latency_does_not_count() {
        let delay = DebounceDelay::default();
        delay.observe(millis(1000));
        tokio::time::advance(FRESH / 2).await;
        delay.observe(millis(200));
        assert_eq!(delay.get(LEAST), millis(4000));
        tokio::time::advance(FRESH).await;
        assert_eq!(delay.get(LEAST), LEAST);
        delay.observe(millis(200));
        assert_eq!(delay.get(LEAST), millis(1000), "as if it were the first");
    }
}
