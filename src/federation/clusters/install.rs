//! Prepares a cluster to be a member, with an admin's kubeconfig that is used once and stored nowhere.

use std::sync::Arc;

use jiff::Timestamp;

use crate::fleet::Fleet;
use crate::leadership::Leadership;
use crate::{Error, Result};
use domain::install::{Installed, Plan};
use domain::names::ClusterName;
use domain::secret::Secret;
use member::client::{Credentials, Identity, Limits, connect};
use onboarding::install::{apply, login};

use crate::clusters::verify::Unheard;

/// Refuses a login that has ended, before the apiserver answers 401 without saying why.
fn still_lasts(name: &ClusterName, credentials: &Credentials) -> Result<()> {
    match credentials.expires().filter(|end| *end <= Timestamp::now()) {
        None => Ok(()),
        Some(end) => Err(member::Error::Kubeconfig {
            cluster: name.clone(),
            field: "users[].user".to_owned(),
            rule: format!("is a login that ended at {end}: log in again"),
        }
        .into()),
    }
}

/// Prepares clusters to be members.
pub struct Installer {
    leadership: Arc<Leadership>,
    fleet: Arc<Fleet>,
}

impl Installer {
    pub(crate) fn new(leadership: Arc<Leadership>, fleet: Arc<Fleet>) -> Arc<Self> {
        Arc::new(Self { leadership, fleet })
    }

    /// Applies the manifests and answers what became of each object, and a kubeconfig of the manager's own login where
    /// the plan asks for one. Idempotent; after an error the call may be repeated.
    pub async fn install(
        &self,
        plan: &Plan,
        kubeconfig: &Secret<String>,
    ) -> Result<(Vec<Installed>, Option<Secret<String>>)> {
        let term = self.leadership.term()?;
        // In errors and logs only: the cluster has no name yet.
        let name: ClusterName = "cluster-to-install".parse().map_err(|_| Error::NotLeader)?;
        let credentials = Credentials::parse(&name, kubeconfig.expose())?;
        still_lasts(&name, &credentials)?;
        let client = connect(&name, &credentials, &Limits::default(), Identity::Login, Arc::new(Unheard))?;
        let host_path = &self.fleet.defaults().manager.workspace_host_path;
        let installed = apply(&name, &client, plan, host_path, &|| term.is_valid()).await?;
        tracing::info!(server = credentials.server(), objects = installed.len(), plan.dry_run, "installed");
        let login = if plan.with_login { Some(login(&name, &client, &credentials).await?) } else { None };
        Ok((installed, login))
    }
}
