//! Raising the fence of member clusters: in each term of this replica.
//!
//! Members are raised all at once and each by itself, so that a dead one delays no other. A raise that failed is retried
//! while the term lasts, and a raised fence is read again every [`LOOK`]. What needs a member that is just being raised
//! waits for it, and for it alone.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tokio::sync::watch;

use super::connected::Connected;
use super::gate::{Opened, State};
use crate::leadership::Leading;
use domain::backoff::doubling;
use domain::epoch::Epoch;
use member::fence::Pass;

/// For one try to raise a member.
const RAISE_WITHIN: Duration = Duration::from_secs(10);
/// Backoff of failed tries.
const BACKOFF: ExponentialBuilder = doubling(Duration::from_millis(200), Duration::from_secs(10));
/// Between reads of a raised fence.
const LOOK: Duration = Duration::from_secs(30);

/// Closes the gate when its task ends, by a panic too: nothing is written through a gate that nobody keeps.
struct Closing<'a>(&'a Connected);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.tell_gate(State::Standby);
    }
}

impl Connected {
    /// Raises the member in each leadership, and keeps its gate.
    pub(super) async fn guard(&self, mut leading: watch::Receiver<Option<Leading>>) {
        let _closing = Closing(self);
        loop {
            let current = leading.borrow_and_update().clone();
            let changed = async {
                // A term that ended is followed by another value, or none, a moment later.
                leading.changed().await.is_ok()
            };
            let goes_on = tokio::select! {
                goes_on = changed => goes_on,
                () = self.tasks.stop().cancelled() => false,
                () = self.keep_raised(current.as_ref()) => true,
            };
            self.tell_gate(State::Standby);
            if !goes_on {
                return;
            }
        }
    }

    /// Ends with the term; without one, never.
    async fn keep_raised(&self, leading: Option<&Leading>) {
        let Some(leading) = leading else { return std::future::pending().await };
        let (epoch, term) = (leading.epoch(), &leading.term);
        self.gate.set(State::Raising(epoch));
        let raised = || self.raise(leading);
        let failed = |error: &member::Error, again_in| {
            tracing::warn!(%epoch, %error, ?again_in, "the fence is not raised");
            self.tell_gate(State::Barred(epoch, error.cause()));
        };
        let raising = async {
            while let Ok(pass) = raised.retry(BACKOFF).notify(failed).await {
                self.tell_gate(State::Open(Opened { term: term.clone(), epoch, pass }));
                let error = self.until_taken_back(&epoch).await;
                tracing::warn!(%epoch, %error, "the fence must be raised again");
                self.tell_gate(State::Barred(epoch, error.cause()));
            }
        };
        tokio::select! {
            () = raising => {}
            () = term.ended() => {
                // Until the end of the term is seen here, too.
                self.tell_gate(State::Standby);
                std::future::pending::<()>().await;
            }
        }
    }

    async fn raise(&self, leading: &Leading) -> member::Result<Pass> {
        let (permit, epoch) = (leading.term.clone(), leading.epoch());
        let raise = self.member.raise(&epoch, std::sync::Arc::new(move || permit.is_valid()));
        tokio::time::timeout(RAISE_WITHIN, raise).await.unwrap_or_else(|_| {
            let action = "raise the fence".to_owned();
            let reason = format!("no answer within {RAISE_WITHIN:?}");
            Err(member::Error::Ambiguous { cluster: self.member.name().clone(), action, reason })
        })
    }

    /// Only a cluster that answers can say that it is not raised any more.
    async fn until_taken_back(&self, epoch: &Epoch) -> member::Error {
        loop {
            tokio::time::sleep(LOOK).await;
            match self.member.is_raised(epoch).await {
                Err(error @ member::Error::Fenced { .. }) => return error,
                Err(error) => tracing::debug!(%error, "failed to check whether the fence is raised"),
                Ok(()) => {}
            }
        }
    }

    fn tell_gate(&self, state: State) {
        self.gate.set(state);
        self.changes.send_replace(());
    }
}
