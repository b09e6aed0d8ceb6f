//! Rate limiter of one cluster: calls a second with a burst, and calls in flight.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Calls a second with a burst, and calls in flight.
pub(super) struct Limiter {
    interval: Duration,
    credit: Duration,
    /// When the bucket would be full again, were no call to come.
    full_at: Mutex<Instant>,
    in_flight: Arc<Semaphore>,
}

impl Limiter {
    pub(super) fn new(qps: u32, burst: u32, in_flight: usize) -> Self {
        let interval = Duration::from_secs(1) / qps.max(1);
        Self {
            interval,
            credit: interval * burst.max(1).saturating_sub(1),
            full_at: Mutex::new(Instant::now()),
            in_flight: Arc::new(Semaphore::new(in_flight.max(1))),
        }
    }

    /// Waits for a turn; the call is in flight until the permit is dropped.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // Closed never, so `None` never comes.
        let permit = Arc::clone(&self.in_flight).acquire_owned().await.ok();
        let at = self.reserve(Instant::now());
        tokio::time::sleep_until(at).await;
        permit
    }

    /// Lets no call go before `until`, and those that follow only at the rate.
    pub(super) fn hold(&self, until: Instant) {
        let mut full_at = self.full_at.lock();
        *full_at = (*full_at).max(until + self.credit);
    }

    /// When the next call may go.
    fn reserve(&self, now: Instant) -> Instant {
        let mut full_at = self.full_at.lock();
        let base = (*full_at).max(now);
        *full_at = base + self.interval;
        now.max(base.checked_sub(self.credit).unwrap_or(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_what_follows_keeps_the_rate() {
        let limiter = Limiter::new(10, 3, 100);
        let start = Instant::now();
        let mut waited = Vec::new();
        for _ in 0..5 {
            let _turn = limiter.turn().await;
            waited.push(start.elapsed().as_millis());
        }
        assert_eq!(&waited[..3], &[0, 0, 0]);
        assert!(waited[3] >= 100 && waited[4] >= 200, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_goes_while_calls_are_held_and_no_burst_follows() {
        let limiter = Limiter::new(10, 3, 100);
        let start = Instant::now();
        limiter.hold(start + Duration::from_secs(2));
        limiter.hold(start + Duration::from_secs(1));
        let mut waited = Vec::new();
        for _ in 0..3 {
            let _turn = limiter.turn().await;
            waited.push(start.elapsed().as_millis());
        }
        assert!(waited[0] >= 2000 && waited[1] >= 2100 && waited[2] >= 2200, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_over_the_number_in_flight_waits_for_one_to_end() {
        let limiter = Limiter::new(1000, 1000, 1);
        let first = limiter.turn().await;
        let second = limiter.turn();
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        assert!(second.await.is_some());
    }
}
