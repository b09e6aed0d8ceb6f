//! Re-encrypting stored secrets after a key rotation, so that old keys can leave the configuration.

use std::sync::Arc;
use std::time::Duration;

use store::{Sealer, Store, Term};

/// Between looks. The first comes with the term, and a new configuration comes with a new process, so this is for what was
/// in the way the last time, such as a change at the same moment.
const PERIOD: Duration = Duration::from_mins(10);

/// Encrypts stored secrets again after a key rotation.
pub(crate) struct Reencryption {
    store: Store,
    sealer: Arc<Sealer>,
}

impl Reencryption {
    pub(crate) fn new(store: Store, sealer: Arc<Sealer>) -> Arc<Self> {
        Arc::new(Self { store, sealer })
    }

    /// Re-encrypts what another key than the first of the configuration encrypted, until the term ends.
    pub(super) async fn run(&self, term: &Term) {
        loop {
            match self.store.reseal(term, &self.sealer).await {
                Ok(outcomes) => {
                    for outcome in outcomes {
                        match outcome {
                            Ok(key) => tracing::info!(key, "re-encrypted with the first sealing key"),
                            Err(error) => tracing::warn!(%error, "its old sealing key must stay configured"),
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "failed to list what old sealing keys encrypted"),
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = term.ended() => return,
            }
        }
    }
}
