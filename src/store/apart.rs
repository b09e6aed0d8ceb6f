//! The election on a thread and a runtime of its own, with its own connection to etcd.
//!
//! *Why.* A renewal that is late costs the leadership, and on the main runtime it shares threads with everything that
//! requests and clusters cause. *Guarantee.* Nothing that the main runtime does delays a renewal, neither blocked workers nor
//! a blocking pool that is full. *The other side.* A leader whose main runtime hangs for good must not lead for ever: the
//! main runtime beats ([`Pulse`]), and when it has not for `stalled_after`, the term is ended, the lease given back, and no
//! other is taken before the next beat.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    runtime::Builder,
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, warn};

use super::{Election, backoff::Backoff};

/// Beats in one `stalled_after`, so that one that is late is no stall.
const BEATS: u32 = 8;

/// Why the election ended though nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum Fallen {
    /// There is no thread for it.
    #[error("failed to start the thread that renews the lease")]
    Start(#[source] std::io::Error),
    /// Its thread panicked.
    #[error("the thread that renews the lease ended")]
    Ended,
}

/// When the main runtime last ran.
#[derive(Debug)]
pub(super) struct Pulse {
    base: Instant,
    /// Nanoseconds since `base`.
    last: AtomicU64,
    stalled_after: Duration,
}

impl Pulse {
    pub(super) fn new(stalled_after: Duration) -> Self {
        Self { base: Instant::now(), last: AtomicU64::new(0), stalled_after }
    }

    fn beat(&self) {
        let now = u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Release);
    }

    /// When it counts as stalled unless it beats before.
    fn stalls_at(&self) -> Instant {
        self.base + Duration::from_nanos(self.last.load(Ordering::Acquire)) + self.stalled_after
    }

    /// Returns when it has not beaten for too long.
    pub(super) async fn stalled(&self) {
        while Instant::now() < self.stalls_at() {
            sleep_until(self.stalls_at()).await;
        }
    }

    /// Returns once it beats again.
    pub(super) async fn beats(&self) {
        while Instant::now() >= self.stalls_at() {
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Election {
    /// Campaigns, leads, and campaigns again on a thread of its own, until `shutdown`; then it lets another replica lead at
    /// once. What writes under the term should be done before `shutdown`.
    ///
    /// The future itself is the pulse of the runtime that polls it. Dropped, it ends the thread as a kill would: nothing is
    /// given back.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Fallen> {
        let pulse = Arc::new(Pulse::new(self.stalled_after()));
        let (killed, seen) = (CancellationToken::new(), Arc::clone(&pulse));
        let _kill = killed.clone().drop_guard();
        let (done, mut ended) = oneshot::channel();
        let span = Span::current();
        let work = move || {
            let outcome = Builder::new_current_thread().enable_all().build().map(|runtime| {
                let campaigning = self.campaign_apart(&shutdown, &seen).instrument(span);
                runtime.block_on(killed.run_until_cancelled(campaigning));
                // A name that is still being looked up is waited for no longer.
                runtime.shutdown_background();
            });
            // Whoever asked may be gone.
            let _ = done.send(outcome);
        };
        thread::Builder::new().name("lease".to_owned()).spawn(work).map_err(Fallen::Start)?;
        let every = pulse.stalled_after / BEATS;
        loop {
            tokio::select! {
                ended = &mut ended => return match ended {
                    Ok(outcome) => outcome.map_err(Fallen::Start),
                    Err(_) => Err(Fallen::Ended),
                },
                () = sleep(every) => pulse.beat(),
            }
        }
    }

    async fn campaign_apart(self, shutdown: &CancellationToken, pulse: &Pulse) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(3));
        loop {
            match self.connect_apart().await {
                Ok(apart) => return apart.campaigns(shutdown, pulse).await,
                Err(error) => warn!(%error, "cannot connect to etcd for the election, trying again"),
            }
            if shutdown.run_until_cancelled(sleep(backoff.pause())).await.is_none() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_pulse_stalls_when_it_does_not_beat_and_beats_again() {
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
