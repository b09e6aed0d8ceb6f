//! Records the address that the kubeconfig in a cluster's Secret names now, so that no other cluster is
//! registered under it.

use std::sync::Arc;
use std::time::Duration;

use crate::Result;
use crate::clusters::records::ClusterRecords;
use crate::fleet::{Connected, Fleet, LoginState};
use crate::periodic::rounds;
use domain::cluster::ClusterSpec;
use store::{NewCluster, Term, normal_address};

/// Before another try.
const RETRY: Duration = Duration::from_secs(10);

/// Records the addresses of clusters whose kubeconfig is in a Secret.
pub(crate) struct Addresses {
    fleet: Arc<Fleet>,
    records: Arc<ClusterRecords>,
}

impl Addresses {
    pub(crate) fn new(fleet: Arc<Fleet>, records: Arc<ClusterRecords>) -> Arc<Self> {
        Arc::new(Self { fleet, records })
    }

    /// Records addresses until the term ends.
    pub(crate) async fn run(&self, term: &Term) {
        let round = || async {
            let mut failed = false;
            for connected in self.fleet.connected() {
                if let Err(error) = self.record_address(term, &connected).await {
                    let cluster = connected.member.name();
                    tracing::warn!(%cluster, %error, "the cluster's new address is in use, and cannot be recorded");
                    failed = true;
                }
            }
            failed.then_some(RETRY)
        };
        rounds(term, self.fleet.changes(), Duration::ZERO, round).await;
    }

    async fn record_address(&self, term: &Term, connected: &Connected) -> Result<()> {
        let name = connected.member.name();
        let Some(LoginState::InUse { server, .. }) = self.fleet.login(name) else { return Ok(()) };
        let known = connected.in_use();
        if known.spec.kubeconfig_secret.is_none() {
            return Ok(());
        }
        if normal_address(name, &server)? == known.api_server {
            return Ok(());
        }
        let new = NewCluster {
            spec: ClusterSpec::clone(&known.spec),
            api_server: server,
            kubeconfig: None,
            cluster_uid: known.cluster_uid.clone(),
        };
        self.records.replace(term, known.version, &new).await?;
        tracing::info!(cluster = %name, "its new address was recorded");
        Ok(())
    }
}
