//! Heartbeat of the main runtime: shows the thread of the election that the main runtime has not stalled.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until};

/// The last heartbeat of the main runtime.
#[derive(Debug)]
pub(super) struct Pulse {
    base: Instant,
    /// Nanoseconds since `base`.
    last: AtomicU64,
    pub(super) stalled_after: Duration,
}

impl Pulse {
    pub(super) fn new(stalled_after: Duration) -> Self {
        Self { base: Instant::now(), last: AtomicU64::new(0), stalled_after }
    }

    pub(super) fn beat(&self) {
        let now = u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Release);
    }

    /// When the runtime counts as stalled, unless a heartbeat arrives before.
    fn stalls_at(&self) -> Instant {
        self.base + Duration::from_nanos(self.last.load(Ordering::Acquire)) + self.stalled_after
    }

    /// Returns when the runtime has stalled.
    pub(super) async fn stalled(&self) {
        while Instant::now() < self.stalls_at() {
            sleep_until(self.stalls_at()).await;
        }
    }

    /// Returns at the next heartbeat.
    pub(super) async fn beats(&self) {
        while Instant::now() >= self.stalls_at() {
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_missing_heartbeat_is_a_stall_until_the_next_one() {
        let pulse = Pulse::new(10 * SECOND);
        tokio::time::advance(9 * SECOND).await;
        pulse.beat();
        let beaten = Instant::now();
        pulse.stalled().await;
        assert!(beaten.elapsed() >= 10 * SECOND && beaten.elapsed() < 11 * SECOND, "{:?}", beaten.elapsed());
        pulse.beat();
        pulse.beats().await;
        assert!(tokio::time::timeout(9 * SECOND, pulse.stalled()).await.is_err());
    }
}
