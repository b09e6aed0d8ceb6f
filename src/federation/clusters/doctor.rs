//! Checking a cluster live when an admin asks; nothing is changed.

use std::sync::Arc;

use super::login::{self, login_check};
use super::name::Names;
use super::verify::Verification;
use crate::fleet::Fleet;
use crate::fleet::callbacks::Login;
use crate::{Error, Result};
use domain::check::Check;
use domain::cluster::ClusterSpec;
use domain::names::ClusterName;
use domain::secret::Secret;

/// Checks clusters live, registered or not.
pub struct Doctor {
    fleet: Arc<Fleet>,
    verification: Arc<Verification>,
    names: Arc<Names>,
}

impl Doctor {
    pub(crate) fn new(fleet: Arc<Fleet>, verification: Arc<Verification>, names: Arc<Names>) -> Arc<Self> {
        Arc::new(Self { fleet, verification, names })
    }

    /// Looks at a cluster that may be registered or not, and changes nothing.
    pub async fn check(&self, spec: &ClusterSpec, given: Option<Secret<String>>) -> Result<Vec<Check>> {
        spec.validate()?;
        let kubeconfig = login::kubeconfig(&self.fleet, spec, given).await?;
        self.look_at(spec, kubeconfig.expose()).await
    }

    async fn look_at(&self, spec: &ClusterSpec, kubeconfig: &str) -> Result<Vec<Check>> {
        let settings = match self.verification.vet(spec, None) {
            Ok(()) => Check::ok("settings", "the settings of every namespace are complete"),
            Err(error) => Check::failed("settings", error.to_string(), "correct the cluster file"),
        };
        let in_use = self.fleet.get(&spec.name).map(|connected| connected.in_use());
        let login = Login { kubeconfig, uid: in_use.as_ref().map(|known| known.cluster_uid.as_str()) };
        let examined = self.verification.examine(spec, login).await?;
        let mut checks = vec![settings];
        checks.extend(examined.checks);
        let uid = &examined.facts.cluster_uid;
        if let Err(error) = self.verification.registered_once(spec, uid) {
            checks.push(Check::failed("registered-once", error.to_string(), "deregister one of them first"));
        }
        if self.fleet.version(&spec.name).is_none()
            && let Err(error) = self.names.check_free(spec, uid, kubeconfig).await
        {
            checks.push(Check::failed("name", error.to_string(), ""));
        }
        Ok(checks)
    }

    /// Looks at a registered cluster with the login that is kept, and at this replica's watches of it.
    pub async fn check_registered(&self, name: &ClusterName) -> Result<Vec<Check>> {
        let connected = match self.fleet.usable(name) {
            Ok(connected) => connected,
            Err(Error::Unusable { reason, .. }) => {
                let remedy = "run `spaceport cluster update NAME --kubeconfig FILE`, or correct its Secret or its settings";
                return Ok(vec![Check::failed("registration", reason, remedy)]);
            }
            Err(error) => return Err(error),
        };
        let in_use = connected.in_use();
        let text = std::str::from_utf8(in_use.kubeconfig.expose()).map_err(|_| Error::Unusable {
            cluster: name.clone(),
            reason: "its kubeconfig is not UTF-8".to_owned(),
        })?;
        let mut checks = self.look_at(&in_use.spec, text).await?;
        checks.extend(login_check(&self.fleet, name));
        let failing: Vec<String> = connected
            .member
            .watches()
            .into_iter()
            .filter_map(|watch| Some(format!("{}: {}", watch.what, watch.error?)))
            .collect();
        checks.push(if failing.is_empty() {
            Check::ok("watches", "all watches of this replica are established")
        } else {
            Check::failed("watches", failing.join("; "), "check the apiserver and the rights of the login")
        });
        Ok(checks)
    }
}
