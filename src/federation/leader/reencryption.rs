//! Sealing anew what old keys sealed, so that they can leave the configuration.

use std::time::Duration;

use crate::Federation;
use store::Term;

/// Between looks. The first comes with the term, and a new configuration comes with a new process, so this is for what was
/// in the way the last time, such as a change at the same moment.
const PERIOD: Duration = Duration::from_mins(10);

impl Federation {
    /// Seals anew what another key than the first of the configuration sealed, until the term ends.
    pub(crate) async fn seal_anew(&self, term: &Term) {
        loop {
            match self.store.seal_anew(term, &self.sealer).await {
                Ok(outcomes) => {
                    for outcome in outcomes {
                        match outcome {
                            Ok(key) => tracing::info!(key, "sealed anew with the first sealing key"),
                            Err(error) => tracing::warn!(%error, "its old sealing key must stay configured"),
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot look for what old keys sealed now"),
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = term.ended() => return,
            }
        }
    }
}
