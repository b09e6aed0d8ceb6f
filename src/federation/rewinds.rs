//! Records which clusters were set back, so that all replicas show versions that never fall.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::{Federation, Result};
use crate::domain::names::ClusterName;
use crate::domain::rewind::Rewinds;
use crate::store::{self, ClusterEntry, Term};

/// Key of it in a cluster's status.
const KEY: &str = "rewinds";
/// Before another try.
const RETRY: Duration = Duration::from_secs(2);

impl Federation {
    /// Records what this replica finds, until the term ends.
    pub(super) async fn record_rewinds(&self, term: &Term) {
        let recording = async {
            loop {
                let (clusters, mut changes) = self.index.unrecorded_rewinds();
                let mut failed = false;
                for cluster in clusters {
                    if let Err(error) = self.record_rewind(term, &cluster).await {
                        tracing::warn!(%cluster, %error, "cannot record that the cluster was set back");
                        failed = true;
                    }
                }
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(RETRY), if failed => {}
                }
            }
        };
        tokio::select! {
            () = recording => {}
            () = term.ended() => {}
        }
    }

    async fn record_rewind(&self, term: &Term, cluster: &ClusterName) -> Result<()> {
        let before = self.store.statuses().await?.get(cluster).and_then(rewinds);
        let rewinds = Rewinds::after(before, Timestamp::now());
        match self.store.put_status(term, cluster, &json!({ KEY: rewinds })).await {
            Ok(()) => {
                tracing::warn!(%cluster, count = rewinds.count, "recorded that the cluster was set back");
            }
            // It goes, and with it what was found.
            Err(store::Error::ClusterNotFound { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        self.take_rewinds(cluster, rewinds);
        Ok(())
    }

    /// Shows the cluster's states under the new number, once everything there was listed anew.
    fn take_rewinds(&self, cluster: &ClusterName, rewinds: Rewinds) {
        if self.index.rewinds(cluster, rewinds)
            && let Some(connected) = self.fleet.get(cluster)
        {
            connected.member.relist();
        }
    }

    /// Takes what was recorded as observed of a cluster.
    pub(super) fn observed(&self, entry: &ClusterEntry) {
        if let ClusterEntry::Status { cluster, status } = entry
            && let Some(rewinds) = rewinds(status)
        {
            self.take_rewinds(cluster, rewinds);
        }
    }
}

fn rewinds(status: &serde_json::Value) -> Option<Rewinds> {
    serde_json::from_value(status.get(KEY)?.clone()).ok()
}
