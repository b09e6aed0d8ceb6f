//! The registry of member clusters.

mod ages;
mod classes;
mod install;
mod learned;
mod login;
mod name;
mod update;
mod verify;
mod view;
mod vitals;
mod watch;

use std::time::Duration;

use jiff::Timestamp;

use crate::{Error, Federation, Result};
use cluster::client::Credentials;
use domain::cluster::{ClusterSpec, DefaultNamespaces, SpecChange, differences};
use domain::names::ClusterName;
use domain::secret::Secret;
use store::Term;

use crate::fleet::callbacks::Login;
use crate::fleet::settings::{self, Settings};
use crate::locks::{PATIENCE, turn};
pub(crate) use verify::examine;

pub use update::{NewLogin, Update};
pub use view::ClusterView;
pub(crate) use view::told_by_the_leader;
pub use vitals::Vitals;
pub(crate) use watch::MOST_WATCHERS;
pub use watch::{ClusterEvent, ClusterWatch, TooMany};

/// For this replica to see its own write.
pub(crate) const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// Tries of a change that others get in the way of.
const TRIES: usize = 5;
/// How long a registration waits for another one, which verifies a cluster meanwhile.
const REGISTERED_WITHIN: Duration = Duration::from_mins(1);

/// What is kept of a kubeconfig: nothing of one that is in a Secret.
fn kept(spec: &ClusterSpec, kubeconfig: &str) -> Option<Secret<Vec<u8>>> {
    spec.kubeconfig_secret.is_none().then(|| Secret::new(kubeconfig.as_bytes().to_vec()))
}

/// Since when a cluster is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// By this call.
    Now,
    /// It was, with the same specification and kubeconfig.
    Before,
}

impl Federation {
    /// Namespaces of clusters that name none, by the configuration in force.
    pub fn default_namespaces(&self) -> DefaultNamespaces {
        self.fleet.defaults().namespaces.clone()
    }

    /// Verifies a cluster live and adds it. Its kubeconfig is given, or in the Secret that the specification names. One that
    /// is registered like this already stays as it is.
    pub async fn register(
        &self,
        spec: ClusterSpec,
        given: Option<Secret<String>>,
    ) -> Result<(ClusterView, Registered)> {
        let term = self.leadership.term()?;
        spec.validate()?;
        if self.fleet.version(&spec.name).is_some() {
            return Ok((self.registered_before(&spec, given.as_ref())?, Registered::Before));
        }
        self.vet(&spec, None)?;
        let _alone =
            turn("waiting for another registration", REGISTERED_WITHIN, self.registering.lock()).await?;
        let kubeconfig = self.kubeconfig(&spec, given).await?;
        let login = Login { kubeconfig: kubeconfig.expose(), uid: None };
        let examined = self.examine(&spec, login).await?;
        if !examined.is_fit() {
            return Err(Error::Unfit { cluster: spec.name, checks: examined.checks });
        }
        self.registered_once(&spec, &examined.facts.cluster_uid)?;
        self.name_is_free(&spec, &examined.facts.cluster_uid, kubeconfig.expose()).await?;
        let name = spec.name.clone();
        let new = update::new_cluster(&spec, kubeconfig.expose(), examined.facts.cluster_uid)?;
        let version = self.store.create_cluster(&term, &self.sealer, &new).await?;
        tracing::info!(cluster = %name, "registered");
        self.await_version(&name, version).await?;
        // Verified a moment ago, it answers as a rule at once; the caller then sees it as it will be.
        self.await_fleet(|| {
            self.fleet.is_available(&name)
                && self.fleet.get(&name).is_none_or(|connected| !connected.gate.is_pending())
        })
        .await;
        Ok((self.cluster(&name)?, Registered::Now))
    }

    /// The cluster of the name, where specification and kubeconfig are those that it is registered with.
    fn registered_before(&self, spec: &ClusterSpec, given: Option<&Secret<String>>) -> Result<ClusterView> {
        let present = self.cluster(&spec.name)?;
        let mut fields = differences(&present.spec, spec);
        if let Some(given) = given
            && !self.is_login_of(&spec.name, given.expose())?
        {
            fields.push("kubeconfig".to_owned());
        }
        if fields.is_empty() {
            return Ok(present);
        }
        Err(Error::RegisteredOtherwise { cluster: spec.name.clone(), fields })
    }

    /// Whether a kubeconfig is the one that a registration has, however it is written.
    fn is_login_of(&self, name: &ClusterName, given: &str) -> Result<bool> {
        let given = Credentials::parse(name, given)?;
        let kept = self.fleet.kubeconfig(name);
        let kept = kept.as_ref().and_then(|kept| std::str::from_utf8(kept.expose()).ok());
        let kept = kept.and_then(|kept| Credentials::parse(name, kept).ok());
        Ok(kept.is_some_and(|kept| kept.is_same(&given)))
    }

    /// The same cluster may be registered twice only where no namespace would be served twice.
    fn registered_once(&self, spec: &ClusterSpec, uid: &str) -> Result<()> {
        for other in self.fleet.connected() {
            let theirs = other.in_use();
            if uid.is_empty() || theirs.cluster_uid != uid || theirs.spec.name == spec.name {
                continue;
            }
            let shared = spec.namespaces.iter().find(|one| other.places().contains_key(&one.namespace));
            if let Some(shared) = shared {
                return Err(Error::SameCluster {
                    cluster: spec.name.clone(),
                    other: theirs.spec.name.clone(),
                    namespace: shared.namespace.clone(),
                });
            }
        }
        Ok(())
    }

    /// Workspaces must be able to start in every namespace that is new or differs from `before`, and the settings of the others
    /// must resolve, before anything is written.
    fn vet(&self, spec: &ClusterSpec, before: Option<&ClusterSpec>) -> Result<()> {
        let defaults = self.fleet.defaults();
        let is_kept = |namespace| before.is_some_and(|before| before.namespaces.contains(namespace));
        let problems_of = |namespace| {
            if is_kept(namespace) {
                Settings::resolve(namespace, &defaults).err().unwrap_or_default()
            } else {
                settings::vet::vet(namespace, &defaults)
            }
        };
        let problems: Vec<String> =
            spec.namespaces.iter().flat_map(problems_of).map(|problem| problem.to_string()).collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Invalid { field: "spec.namespaces".into(), rule: problems.join("; ") })
    }

    /// Takes a cluster out. Without `force` only where no live workspace is placed there.
    pub async fn deregister(&self, name: &ClusterName, force: bool) -> Result<()> {
        let term = self.leadership.term()?;
        let _alone = self.registry.write(PATIENCE).await?;
        let version = self.fleet.version(name).ok_or_else(|| Error::NoCluster(name.clone()))?;
        let mut workspaces = self.index.placed_on(name);
        if !workspaces.is_empty() && !force {
            workspaces.sort();
            return Err(Error::NotEmpty { cluster: name.clone(), workspaces });
        }
        if workspaces.is_empty() {
            self.store.delete_cluster(&term, name, version).await?;
        } else {
            self.store.leave_cluster(&term, name, version, Timestamp::now()).await?;
        }
        self.fleet.remove(name, version);
        tracing::info!(cluster = %name, left = workspaces.len(), force, "deregistered");
        Ok(())
    }

    /// Forgets which clusters names stood for that no live record has any more.
    pub(crate) async fn sweep_departures(&self, term: &Term) -> Result<()> {
        for name in self.store.departures().await?.into_keys() {
            let _alone = self.registry.write(PATIENCE).await?;
            if self.index.count_on(&name) == 0 && self.fleet.version(&name).is_none() {
                self.store.forget_departure(term, &name).await?;
            }
        }
        Ok(())
    }

    /// Keeps new workspaces away, or lets them in again.
    pub async fn set_cordoned(&self, name: &ClusterName, cordoned: bool) -> Result<ClusterView> {
        if !cordoned {
            self.end_drain_for_uncordon(name).await?;
        }
        self.change_cluster(name, &SpecChange { cordoned: Some(cordoned), ..SpecChange::default() }).await
    }

    /// Changes what the admin wants of a cluster, decided on anew where others get in the way. A change that changes
    /// nothing is not written.
    pub async fn change_cluster(&self, name: &ClusterName, change: &SpecChange) -> Result<ClusterView> {
        for _ in 0..TRIES {
            let term = self.leadership.term()?;
            let view = self.cluster(name)?;
            let spec = change.apply(&view.spec);
            if spec == *view.spec {
                return Ok(view);
            }
            spec.validate()?;
            match self.store.update_cluster(&term, view.version, &spec).await {
                Ok(version) => {
                    // A cordon that is acknowledged is in force, however late the mirror is.
                    self.fleet.put_written(spec, version, None);
                    return self.await_version(name, version).await;
                }
                // Someone else changed it and this replica will hear of it.
                Err(store::Error::Conflict { .. }) => {
                    self.await_change(name, view.version).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Contended { what: format!("cluster {name}") })
    }

    /// Waits until this replica's own fleet shows what was just written, so that the next call sees it.
    async fn await_version(&self, name: &ClusterName, version: i64) -> Result<ClusterView> {
        let seen = || self.fleet.version(name).is_some_and(|seen| seen >= version);
        self.await_fleet(seen).await;
        self.cluster(name)
    }

    async fn await_change(&self, name: &ClusterName, version: i64) {
        self.await_fleet(|| self.fleet.version(name).is_none_or(|seen| seen != version)).await;
    }

    async fn await_fleet(&self, done: impl Fn() -> bool) {
        let mut changes = self.fleet.changes();
        let waiting = async {
            loop {
                changes.borrow_and_update();
                if done() || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(SEEN_WITHIN, waiting).await.is_err() {
            tracing::warn!("the registry's change was written, and is not seen to work yet");
        }
    }
}
