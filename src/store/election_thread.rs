//! Runs the election on its own thread and runtime, with its own connection to etcd.
//!
//! *Why.* A late renewal ends the term, and on the main runtime it would share threads with all requests and clusters.
//! *Guarantee.* Neither blocked workers nor a full blocking pool of the main runtime delay a renewal. *Liveness.* A leader whose
//! main runtime hangs must not lead forever: the main runtime sends a heartbeat ([`Pulse`]). If none arrives for
//! `stalled_after`, the thread ends the term and revokes the lease, and campaigns again only after the next heartbeat.

use std::{sync::Arc, thread};

use backon::Retryable as _;
use tokio::{runtime::Builder, sync::oneshot, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, warn};

use super::{Election, heartbeat::Pulse, leader::CAMPAIGN_BACKOFF};

/// Heartbeats within one `stalled_after`, so that a single late one is no stall.
const BEATS: u32 = 8;

/// Why the election ended without a shutdown.
#[derive(Debug, thiserror::Error)]
pub enum ElectionThreadError {
    /// The thread could not be started.
    #[error("failed to start the thread that renews the lease")]
    Start(#[source] std::io::Error),
    /// Its thread panicked.
    #[error("the thread that renews the lease ended")]
    Ended,
}

impl Election {
    /// Campaigns, leads, and campaigns again on its own thread, until `shutdown`; then it revokes the lease, so that another
    /// replica can lead at once. Writes under the term should be done before `shutdown`.
    ///
    /// The future sends the heartbeat of the runtime that polls it. Dropping it ends the thread without revoking the lease.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ElectionThreadError> {
        let pulse = Arc::new(Pulse::new(self.stalled_after()));
        let (killed, seen) = (CancellationToken::new(), Arc::clone(&pulse));
        let _kill = killed.clone().drop_guard();
        let (done, mut ended) = oneshot::channel();
        let span = Span::current();
        let work = move || {
            let outcome = Builder::new_current_thread().enable_all().build().map(|runtime| {
                let campaigning = self.campaign_apart(&shutdown, &seen).instrument(span);
                runtime.block_on(killed.run_until_cancelled(campaigning));
                // Do not wait for a pending DNS lookup.
                runtime.shutdown_background();
            });
            // The receiver may be gone.
            let _ = done.send(outcome);
        };
        thread::Builder::new().name("lease".to_owned()).spawn(work).map_err(ElectionThreadError::Start)?;
        let every = pulse.stalled_after / BEATS;
        loop {
            tokio::select! {
                ended = &mut ended => return match ended {
                    Ok(outcome) => outcome.map_err(ElectionThreadError::Start),
                    Err(_) => Err(ElectionThreadError::Ended),
                },
                () = sleep(every) => pulse.beat(),
            }
        }
    }

    async fn campaign_apart(self, shutdown: &CancellationToken, pulse: &Pulse) {
        let connect = || self.with_own_connection();
        let connected = connect
            .retry(CAMPAIGN_BACKOFF)
            .notify(|error, _| warn!(%error, "failed to connect to etcd for the election, retrying"));
        if let Some(Ok(apart)) = shutdown.run_until_cancelled(connected).await {
            apart.campaigns(shutdown, pulse).await;
        }
    }
}
