//! Registering a member cluster.

use std::sync::Arc;
use std::time::Duration;

use super::applied::AppliedChanges;
use super::login;
use super::name::Names;
use super::records::ClusterRecords;
use super::update::new_cluster;
use super::verify::Verification;
use super::view::ClusterView;
use crate::fleet::Fleet;
use crate::fleet::callbacks::Login;
use crate::leadership::Leadership;
use crate::locks::turn;
use crate::{Error, Result};
use domain::cluster::{ClusterSpec, differences};
use domain::names::ClusterName;
use domain::secret::Secret;
use member::client::Credentials;

/// How long a registration waits for another one, which verifies a cluster meanwhile.
const REGISTERED_WITHIN: Duration = Duration::from_mins(1);

/// Since when a cluster is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// By this call.
    Now,
    /// It was, with the same specification and kubeconfig.
    Before,
}

/// Registers member clusters.
pub struct Registration {
    leadership: Arc<Leadership>,
    records: Arc<ClusterRecords>,
    fleet: Arc<Fleet>,
    verification: Arc<Verification>,
    names: Arc<Names>,
    applied: Arc<AppliedChanges>,
    /// Held while a cluster is registered, so that none is registered twice under two addresses.
    registering: tokio::sync::Mutex<()>,
}

impl Registration {
    pub(crate) fn new(
        leadership: Arc<Leadership>,
        records: Arc<ClusterRecords>,
        fleet: Arc<Fleet>,
        verification: Arc<Verification>,
        names: Arc<Names>,
        applied: Arc<AppliedChanges>,
    ) -> Arc<Self> {
        Arc::new(Self {
            leadership,
            records,
            fleet,
            verification,
            names,
            applied,
            registering: tokio::sync::Mutex::default(),
        })
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
        self.verification.vet(&spec, None)?;
        let _alone =
            turn("waiting for another registration", REGISTERED_WITHIN, self.registering.lock()).await?;
        let kubeconfig = login::kubeconfig(&self.fleet, &spec, given).await?;
        let login = Login { kubeconfig: kubeconfig.expose(), uid: None };
        let examined = self.verification.examine(&spec, login).await?;
        if !examined.is_fit() {
            return Err(Error::Unfit { cluster: spec.name, checks: examined.checks });
        }
        self.verification.registered_once(&spec, &examined.facts.cluster_uid)?;
        self.names.check_free(&spec, &examined.facts.cluster_uid, kubeconfig.expose()).await?;
        let name = spec.name.clone();
        let new = new_cluster(&spec, kubeconfig.expose(), examined.facts.cluster_uid)?;
        let version = self.records.create(&term, &new).await?;
        tracing::info!(cluster = %name, "registered");
        self.applied.await_version(&name, version).await?;
        // Verified a moment ago, it answers as a rule at once; the caller then sees it as it will be.
        self.applied
            .await_fleet(|| {
                self.fleet.is_available(&name)
                    && self.fleet.get(&name).is_none_or(|connected| !connected.gate.is_pending())
            })
            .await;
        Ok((self.applied.cluster(&name)?, Registered::Now))
    }

    /// The cluster of the name, where specification and kubeconfig are those that it is registered with.
    fn registered_before(&self, spec: &ClusterSpec, given: Option<&Secret<String>>) -> Result<ClusterView> {
        let present = self.applied.cluster(&spec.name)?;
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
}
