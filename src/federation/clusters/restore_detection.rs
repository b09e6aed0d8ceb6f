//! Records which clusters were set back, so that all replicas show versions that never fall.

use std::time::Duration;

use jiff::Timestamp;

use crate::periodic::rounds;
use crate::{Error, Federation, Result};
use domain::names::ClusterName;
use domain::observed::Observed;
use domain::rewind::Rewinds;
use store::{self, Term};

/// Before another try.
const RETRY: Duration = Duration::from_secs(2);

impl Federation {
    /// How often a cluster was set back, as far as is recorded.
    pub(crate) fn rewinds_of(&self, cluster: &ClusterName) -> u32 {
        self.known.get(cluster).and_then(|observed| observed.rewinds).map_or(0, |rewinds| rewinds.count)
    }

    /// Records what this replica finds, until the term ends.
    pub(crate) async fn record_rewinds(&self, term: &Term) {
        let round = || async {
            let mut failed = false;
            for cluster in self.index.unrecorded_rewinds() {
                if let Err(error) = self.record_rewind(term, &cluster).await {
                    tracing::warn!(%cluster, %error, "cannot record that the cluster was set back");
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
            let rewinds = Rewinds::after(before.rewinds, now);
            tracing::warn!(%cluster, count = rewinds.count, "recording that the cluster was set back");
            Observed { rewinds: Some(rewinds), canary: None, ..before }
        };
        match self.note(term, cluster, change).await {
            // It goes, and with it what was found.
            Ok(()) | Err(Error::Store(store::Error::ClusterNotFound { .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Shows the cluster's states under the new number, once each namespace was listed again.
    pub(crate) fn take_rewinds(&self, cluster: &ClusterName, rewinds: Rewinds) {
        if self.index.rewinds(cluster, rewinds)
            && let Some(connected) = self.fleet.get(cluster)
        {
            connected.member.relist();
        }
    }
}
