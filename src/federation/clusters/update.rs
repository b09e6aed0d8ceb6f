//! Changes a registered cluster: its specification, and its login.

use std::sync::Arc;

use super::applied::{AppliedChanges, SEEN_WITHIN, TRIES};
use super::login::read_secret;
use super::records::ClusterRecords;
use super::verify::Verification;
use super::view::ClusterView;
use crate::fleet::Fleet;
use crate::leadership::Leadership;
use crate::locks::{PATIENCE, RegistryLock};
use crate::view::index::Index;
use crate::{Error, Result};
use domain::check::Check;
use domain::cluster::{Capacity, ClusterSpec, SpecChange};
use domain::names::{ClusterName, Namespace};
use domain::secret::Secret;
use domain::secret_ref::SecretRef;
use member::client::Credentials;
use store::{self, NewCluster};

use crate::fleet::callbacks::Login;

/// A change that is asked for.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// The version it was decided on; absent: whatever is.
    pub version: Option<i64>,
    /// What shall be different.
    pub change: SpecChange,
    /// Another login of the same cluster.
    pub login: Option<NewLogin>,
}

/// Another login of a cluster.
#[derive(Debug, Clone)]
pub enum NewLogin {
    /// A kubeconfig to keep.
    Given(Secret<String>),
    /// A Secret of the manager's own cluster that holds a kubeconfig.
    Named(SecretRef),
}

impl NewLogin {
    fn reference(&self) -> Option<&SecretRef> {
        match self {
            Self::Given(_) => None,
            Self::Named(reference) => Some(reference),
        }
    }
}

/// Changes registered clusters.
pub struct Updates {
    leadership: Arc<Leadership>,
    records: Arc<ClusterRecords>,
    fleet: Arc<Fleet>,
    index: Arc<Index>,
    registry: Arc<RegistryLock>,
    verification: Arc<Verification>,
    applied: Arc<AppliedChanges>,
}

impl Updates {
    pub(crate) fn new(
        leadership: Arc<Leadership>,
        records: Arc<ClusterRecords>,
        fleet: Arc<Fleet>,
        index: Arc<Index>,
        registry: Arc<RegistryLock>,
        verification: Arc<Verification>,
        applied: Arc<AppliedChanges>,
    ) -> Arc<Self> {
        Arc::new(Self { leadership, records, fleet, index, registry, verification, applied })
    }

    /// Changes a cluster at once or not at all. Without a version it is retried after a concurrent change.
    ///
    /// A new kubeconfig and new namespaces are verified live before anything is stored. Answers the checks, where there
    /// were any.
    pub async fn update(&self, name: &ClusterName, update: &Update) -> Result<(ClusterView, Vec<Check>)> {
        if update.change.is_empty() && update.login.is_none() {
            let rule = "must name a field to change, where no kubeconfig is given".to_owned();
            return Err(Error::Invalid { field: "update_mask".into(), rule });
        }
        for _ in 0..TRIES {
            let before = self.present(name, update.version).await?;
            match self.try_update(&before, update).await {
                // A concurrent change, which this replica will see.
                Err(Error::Store(store::Error::Conflict { .. })) => {
                    self.applied.await_change(name, before.version).await;
                }
                outcome => return outcome,
            }
        }
        Err(Error::Contended { what: format!("cluster {name}") })
    }

    /// Changes what the admin wants of a cluster, retried after concurrent changes. A change that changes
    /// nothing is not written.
    pub async fn change(&self, name: &ClusterName, change: &SpecChange) -> Result<ClusterView> {
        for _ in 0..TRIES {
            let term = self.leadership.term()?;
            let view = self.applied.cluster(name)?;
            let spec = change.apply(&view.spec);
            if spec == *view.spec {
                return Ok(view);
            }
            spec.validate()?;
            match self.records.update(&term, view.version, &spec).await {
                Ok(version) => {
                    // A cordon that is acknowledged is in force, however late the mirror is.
                    self.fleet.put_written(spec, version, None);
                    return self.applied.await_version(name, version).await;
                }
                // A concurrent change, which this replica will see.
                Err(store::Error::Conflict { .. }) => {
                    self.applied.await_change(name, view.version).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Contended { what: format!("cluster {name}") })
    }

    /// The cluster as it is, at the version that the caller saw where it names one.
    async fn present(&self, name: &ClusterName, version: Option<i64>) -> Result<ClusterView> {
        let Some(expected) = version else { return self.applied.cluster(name) };
        // The caller may have seen it at a replica that is ahead of this one.
        let seen = self.applied.await_fleet(|| self.fleet.version(name).is_none_or(|seen| seen >= expected));
        if tokio::time::timeout(SEEN_WITHIN, seen).await.is_err() {
            tracing::warn!(cluster = %name, expected, "a version that was never seen");
        }
        let view = self.applied.cluster(name)?;
        if view.version != expected {
            return Err(Error::Changed { cluster: name.clone(), expected, found: view.version });
        }
        Ok(view)
    }

    async fn try_update(&self, before: &ClusterView, update: &Update) -> Result<(ClusterView, Vec<Check>)> {
        let term = self.leadership.term()?;
        let mut spec = update.change.apply(&before.spec);
        if let Some(login) = &update.login {
            spec.kubeconfig_secret = login.reference().cloned();
        }
        spec.validate()?;
        self.verification.vet(&spec, Some(&before.spec))?;
        let name = &spec.name;
        let moves = spec.kubeconfig_secret != before.spec.kubeconfig_secret;
        let new = self.new_login(name, update.login.as_ref(), moves).await?;
        let new = new.as_ref().map(Secret::expose).map(String::as_str);
        if new.is_none() && spec == *before.spec {
            return Ok((before.clone(), Vec::new()));
        }
        let removed = removed(&before.spec, &spec);
        self.are_empty(name, &removed)?;
        let (checks, uid) = match new {
            Some(kubeconfig) => self.verify_way(before, &spec, kubeconfig).await?,
            None => (self.verify_places(before, &spec).await?, String::new()),
        };
        // From the last look at what is placed there until this replica places nothing there any more.
        let _alone = if removed.is_empty() { None } else { Some(self.registry.write(PATIENCE).await?) };
        self.are_empty(name, &removed)?;
        let login = new.map(|kubeconfig| new_cluster(&spec, kubeconfig, uid)).transpose()?;
        let version = match &login {
            None => self.records.update(&term, before.version, &spec).await?,
            Some(login) => self.records.replace(&term, before.version, login).await?,
        };
        tracing::info!(cluster = %name, login = login.is_some(), "updated");
        if !removed.is_empty() {
            // As the mirror will in a moment; until then nothing may be placed.
            self.fleet.put_written(spec.clone(), version, login);
        }
        Ok((self.applied.await_version(name, version).await?, checks))
    }

    /// The kubeconfig to verify. The one that is in use already is none, unless it `moves`.
    async fn new_login(
        &self,
        name: &ClusterName,
        login: Option<&NewLogin>,
        moves: bool,
    ) -> Result<Option<Secret<String>>> {
        let text = match login {
            None => return Ok(None),
            Some(NewLogin::Given(text)) => text.clone(),
            Some(NewLogin::Named(reference)) => read_secret(&self.fleet, name, reference).await?,
        };
        let in_use = self.fleet.get(name).is_some_and(|connected| {
            connected.in_use().kubeconfig.expose().as_slice() == text.expose().as_bytes()
        });
        Ok(Some(text).filter(|_| moves || !in_use))
    }

    /// Whether another kubeconfig leads to the same cluster, and does there; the checks and the cluster's uid.
    async fn verify_way(
        &self,
        before: &ClusterView,
        spec: &ClusterSpec,
        kubeconfig: &str,
    ) -> Result<(Vec<Check>, String)> {
        let server = Credentials::parse(&spec.name, kubeconfig)?.server().to_owned();
        let known = self.fleet.cluster_uid(&spec.name).await;
        let examined = self.verification.examine(spec, Login { kubeconfig, uid: known.as_deref() }).await?;
        let mut checks = examined.checks;
        if known.is_none() && server != before.api_server {
            let detail = "the address changed, and it is not known whether it is the same cluster";
            let remedy = "update the kubeconfig once under the old address first, with a login that may get namespaces";
            checks.push(Check::failed("identity", detail, remedy));
        }
        if checks.iter().any(Check::is_failed) {
            return Err(Error::Unfit { cluster: spec.name.clone(), checks });
        }
        let uid = Some(examined.facts.cluster_uid).filter(|uid| !uid.is_empty()).or(known);
        Ok((checks, uid.unwrap_or_default()))
    }

    /// New namespaces, a fence that is switched on or off, and a capacity that becomes a limit are checked as at
    /// registration, with the login that is in use.
    async fn verify_places(&self, before: &ClusterView, spec: &ClusterSpec) -> Result<Vec<Check>> {
        let is_new = spec.namespaces.iter().any(|namespace| {
            !before.spec.namespaces.iter().any(|old| {
                (&old.namespace, &old.secrets_namespace)
                    == (&namespace.namespace, &namespace.secrets_namespace)
            })
        });
        let is_new = is_new
            || before.spec.fence != spec.fence
            // From now on pods of the whole cluster are read.
            || before.spec.capacity == Capacity::Unlimited && spec.capacity == Capacity::Nodes;
        let Some(connected) = self.fleet.get(&spec.name).filter(|_| is_new) else { return Ok(Vec::new()) };
        let known = connected.in_use();
        let kubeconfig = std::str::from_utf8(known.kubeconfig.expose()).unwrap_or_default();
        let uid = known.cluster_uid.as_str();
        let examined = self.verification.examine(spec, Login { kubeconfig, uid: Some(uid) }).await?;
        if !examined.is_fit() {
            return Err(Error::Unfit { cluster: spec.name.clone(), checks: examined.checks });
        }
        self.verification.registered_once(spec, uid)?;
        Ok(examined.checks)
    }

    /// Refuses to remove a namespace, or its secrets, while workspaces are placed there.
    fn are_empty(&self, cluster: &ClusterName, namespaces: &[Namespace]) -> Result<()> {
        let of = |namespace: &Namespace| self.index.placed_in(cluster, namespace);
        let mut workspaces: Vec<_> = namespaces.iter().flat_map(of).collect();
        if workspaces.is_empty() {
            return Ok(());
        }
        workspaces.sort();
        Err(Error::NotEmpty { cluster: cluster.clone(), workspaces })
    }
}

/// What is kept of a kubeconfig: nothing of one that is in a Secret.
fn kept(spec: &ClusterSpec, kubeconfig: &str) -> Option<Secret<Vec<u8>>> {
    spec.kubeconfig_secret.is_none().then(|| Secret::new(kubeconfig.as_bytes().to_vec()))
}

pub(super) fn new_cluster(spec: &ClusterSpec, kubeconfig: &str, cluster_uid: String) -> Result<NewCluster> {
    let credentials = Credentials::parse(&spec.name, kubeconfig)?;
    Ok(NewCluster {
        api_server: store::normal_address(&spec.name, credentials.server())?,
        spec: spec.clone(),
        kubeconfig: kept(spec, kubeconfig),
        cluster_uid,
    })
}

/// Namespaces that are named no more, or with another secrets namespace.
fn removed(before: &ClusterSpec, after: &ClusterSpec) -> Vec<Namespace> {
    let stays = |old: &&domain::cluster::NamespaceSpec| {
        after
            .namespaces
            .iter()
            .any(|new| (&new.namespace, &new.secrets_namespace) == (&old.namespace, &old.secrets_namespace))
    };
    before.namespaces.iter().filter(|old| !stays(old)).map(|old| old.namespace.clone()).collect()
}
