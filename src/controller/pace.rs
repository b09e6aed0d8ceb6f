//! How soon a status is written once its pass is due: a moment on a quiet cluster, seconds on a busy one.
//!
//! What may wait waits longer there. Each write more makes a busy cluster busier, so that what follows comes later still, and
//! what was to be spared is written after all: 1,000 starts at once took 26 to 36 s that way, by chance.

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// What may wait does so for as long as so many writes take.
const WRITES: u32 = 5;
/// At most so long: people look at what waits.
const LONGEST: Duration = Duration::from_secs(10);
/// A pace says nothing of a cluster that nothing was written to for so long.
const FRESH: Duration = Duration::from_secs(10);

/// The pace of a namespace.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// A mean that the last few writes decide, and when the last one was.
    mean: Mutex<Option<(Duration, Instant)>>,
}

impl Pace {
    /// A status was written so long after its pass was due.
    pub fn note(&self, took: Duration) {
        let now = Instant::now();
        let mut mean = self.mean.lock();
        let before = mean.filter(|(_, at)| now.duration_since(*at) < FRESH);
        *mean = Some((before.map_or(took, |(before, _)| (before * 3 + took) / 4), now));
    }

    /// How long what may wait does so, that waits for `least` on a quiet cluster.
    pub fn patience(&self, least: Duration) -> Duration {
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
    async fn what_may_wait_waits_as_long_as_five_writes_take_within_bounds() {
        let pace = Pace::default();
        assert_eq!(pace.patience(LEAST), LEAST, "nothing is known");
        pace.note(millis(8));
        assert_eq!(pace.patience(LEAST), LEAST);
        for _ in 0..40 {
            pace.note(millis(400));
        }
        let patience = pace.patience(LEAST);
        assert!(patience > millis(1990) && patience <= millis(2000), "{patience:?}");
        for _ in 0..40 {
            pace.note(millis(9000));
        }
        assert_eq!(pace.patience(LEAST), LONGEST);
        assert_eq!(pace.patience(LONGEST * 2), LONGEST * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pace_of_long_ago_counts_no_more() {
        let pace = Pace::default();
        pace.note(millis(1000));
        tokio::time::advance(FRESH / 2).await;
        pace.note(millis(200));
        assert_eq!(pace.patience(LEAST), millis(4000));
        tokio::time::advance(FRESH).await;
        assert_eq!(pace.patience(LEAST), LEAST);
        pace.note(millis(200));
        assert_eq!(pace.patience(LEAST), millis(1000), "as if it were the first");
    }
}
