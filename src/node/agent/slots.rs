//! How many operations run at a time. Who waits longest is next, and a workspace waits for one operation at a time, so no
//! workspace holds up the others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::OperationLimits;

/// Turns of operations.
#[derive(Debug, Clone)]
pub struct Slots {
    all: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
}

/// One operation's turn; it ends when this is dropped.
#[derive(Debug)]
pub struct Slot {
    _any: OwnedSemaphorePermit,
    _upload: Option<OwnedSemaphorePermit>,
    /// How long it was waited for.
    pub waited: Duration,
}

impl Slots {
    /// As many as the configuration says.
    pub fn new(limits: OperationLimits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.concurrent)),
            uploads: Arc::new(Semaphore::new(limits.uploads)),
        }
    }

    /// Waits for a turn; `None` at the shutdown.
    pub async fn take(&self, uploads: bool, stop: &CancellationToken) -> Option<Slot> {
        let since = Instant::now();
        // First that of uploads: an upload that waits takes no turn from initializations.
        let upload = match uploads {
            true => Some(turn(&self.uploads, stop).await?),
            false => None,
        };
        let any = turn(&self.all, stop).await?;
        Some(Slot { _any: any, _upload: upload, waited: since.elapsed() })
    }
}

async fn turn(of: &Arc<Semaphore>, stop: &CancellationToken) -> Option<OwnedSemaphorePermit> {
    // The semaphore is never closed.
    stop.run_until_cancelled(Arc::clone(of).acquire_owned()).await?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OperationLimits = OperationLimits { concurrent: 2, uploads: 1 };

    #[tokio::test]
    async fn uploads_that_wait_leave_room_for_initializations() {
        let (slots, stop) = (Slots::new(LIMITS), CancellationToken::new());
        let first = slots.take(true, &stop).await.unwrap();
        let (other, token) = (slots.clone(), stop.clone());
        let second = tokio::spawn(async move { other.take(true, &token).await.is_some() });
        tokio::task::yield_now().await;
        let initialization = slots.take(false, &stop).await.unwrap();
        assert!(!second.is_finished());
        drop((first, initialization));
        assert!(second.await.unwrap());
    }

    #[tokio::test]
    async fn the_shutdown_ends_the_wait() {
        let (slots, stop) = (Slots::new(LIMITS), CancellationToken::new());
        let _held = [slots.take(false, &stop).await.unwrap(), slots.take(false, &stop).await.unwrap()];
        stop.cancel();
        assert!(slots.take(false, &stop).await.is_none());
    }
}
