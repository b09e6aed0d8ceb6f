//! Records which clusters were restored from a backup of their etcd, so that the versions that replicas
//! show never fall.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clusters::observed::Observations;
use crate::periodic::rounds;
use crate::view::index::Index;
use crate::{Error, Result};
use domain::names::ClusterName;
use domain::observed::Observed;
use domain::restore::Restores;
use store::{self, Term};

/// Before another try.
const RETRY: Duration = Duration::from_secs(2);

/// Records clusters that were restored from a backup of their etcd.
pub(crate) struct RestoreDetection {
    index: Arc<Index>,
    observations: Arc<Observations>,
}

impl RestoreDetection {
    pub(crate) fn new(index: Arc<Index>, observations: Arc<Observations>) -> Arc<Self> {
        Arc::new(Self { index, observations })
    }

    /// Records what this replica finds, until the term ends.
    pub(crate) async fn run(&self, term: &Term) {
        let round = || async {
            let mut failed = false;
            for cluster in self.index.unrecorded_rewinds() {
                if let Err(error) = self.record_rewind(term, &cluster).await {
                    tracing::warn!(%cluster, %error, "failed to record the restore of the cluster");
                    failed = true;
                }
            }
            failed.then_some(RETRY)
        };
        rounds(term, self.index.rewinds_found(), Duration::ZERO, round).await;
    }

    async fn record_rewind(&self, term: &Term, cluster: &ClusterName) -> Result<()> {
        let now = Timestamp::now();
        // The canary's version counts from another one on.
        let change = |before: Observed| {
            let rewinds = Restores::after(before.rewinds, now);
            tracing::warn!(%cluster, count = rewinds.count, "recording a restore of the cluster");
            Observed { rewinds: Some(rewinds), canary: None, ..before }
        };
        match self.observations.note(term, cluster, change).await {
            // It goes, and with it what was found.
            Ok(()) | Err(Error::Store(store::Error::ClusterNotFound { .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
