//! Looking at a cluster live: before it is registered, before it is reached in another way, and when an admin asks.

use std::sync::Arc;
use std::time::Duration;

use crate::fleet::callbacks::Login;
use crate::fleet::settings::{Defaults, Settings};
use crate::{Error, Federation, Result};
use cluster::client::{Credentials, Limits, Signals, connect};
use cluster::pod_policy::{PROBE, Sample};
use cluster::probe::{self, Examined, Question};
use domain::check::Check;
use domain::cluster::ClusterSpec;
use domain::names::ClusterName;
use domain::secret::Secret;
use domain::workspace::Kind;

/// For all checks of a cluster.
pub(super) const VERIFY_WITHIN: Duration = Duration::from_secs(10);

/// A client made only to verify tells nobody.
pub(super) struct Unheard;

impl Signals for Unheard {
    fn answered(&self) {}
    fn missed(&self, _reason: &str) {}
}

/// Looks at a cluster with a client of its own, so that a member in use notices nothing.
pub(crate) async fn examine(
    spec: &ClusterSpec,
    login: Login<'_>,
    installation: &str,
    samples: &[Sample],
    probe_deadline: Duration,
) -> Result<Examined> {
    let credentials = Credentials::parse(&spec.name, login.kubeconfig)?;
    let identity = cluster::reader(spec);
    let client = connect(&spec.name, &credentials, &Limits::default(), identity, Arc::new(Unheard))?;
    let question = Question {
        spec,
        installation,
        samples,
        login_ends: credentials.expires(),
        uid: login.uid,
        probe_deadline,
        within: VERIFY_WITHIN,
    };
    Ok(probe::examine(&client, &question).await)
}

/// A pod of each class and type of workspace, in each namespace whose settings are complete.
fn samples(spec: &ClusterSpec, defaults: &Defaults) -> Vec<Sample> {
    let mut samples = Vec::new();
    for namespace in &spec.namespaces {
        let Ok(settings) = Settings::resolve(namespace, defaults) else { continue };
        for class in settings.classes.keys() {
            for kind in [Kind::Regular, Kind::Prebuild, Kind::ImageBuild] {
                let pod = controller::sample(&settings.controller, class, kind, PROBE);
                let (namespace, class) = (namespace.namespace.clone(), class.clone());
                samples.extend(pod.map(|pod| Sample { namespace, class, kind, pod }));
            }
        }
    }
    samples
}

impl Federation {
    /// As [`examine`], in the name of this installation.
    pub(super) async fn examine(&self, spec: &ClusterSpec, login: Login<'_>) -> Result<Examined> {
        let installation = &*self.installation;
        let samples = samples(spec, &self.fleet.defaults());
        examine(spec, login, installation, &samples, self.fleet.probe_deadline()).await
    }

    /// Looks at a cluster that may be registered or not, and changes nothing.
    pub async fn doctor(&self, spec: &ClusterSpec, given: Option<Secret<String>>) -> Result<Vec<Check>> {
        spec.validate()?;
        let kubeconfig = self.kubeconfig(spec, given).await?;
        self.look_at(spec, kubeconfig.expose()).await
    }

    async fn look_at(&self, spec: &ClusterSpec, kubeconfig: &str) -> Result<Vec<Check>> {
        let settings = match self.vet(spec, None) {
            Ok(()) => Check::ok("settings", "every namespace's settings are complete"),
            Err(error) => Check::failed("settings", error.to_string(), "correct the cluster file"),
        };
        let in_use = self.fleet.get(&spec.name).map(|connected| connected.in_use());
        let login = Login { kubeconfig, uid: in_use.as_ref().map(|known| known.cluster_uid.as_str()) };
        let examined = self.examine(spec, login).await?;
        let mut checks = vec![settings];
        checks.extend(examined.checks);
        let uid = &examined.facts.cluster_uid;
        if let Err(error) = self.registered_once(spec, uid) {
            checks.push(Check::failed("registered-once", error.to_string(), "deregister one of them first"));
        }
        if self.fleet.version(&spec.name).is_none()
            && let Err(error) = self.name_is_free(spec, uid, kubeconfig).await
        {
            checks.push(Check::failed("name", error.to_string(), ""));
        }
        Ok(checks)
    }

    /// Looks at a registered cluster with the login that is kept, and at this replica's watches of it.
    pub async fn doctor_registered(&self, name: &ClusterName) -> Result<Vec<Check>> {
        let Some(connected) = self.fleet.get(name) else {
            let reason = self.cluster(name)?.reason;
            let remedy = "run `spaceport cluster update NAME --kubeconfig FILE`, or correct its Secret or its settings";
            return Ok(vec![Check::failed("registration", reason, remedy)]);
        };
        let in_use = connected.in_use();
        let text = std::str::from_utf8(in_use.kubeconfig.expose()).map_err(|_| Error::Unusable {
            cluster: name.clone(),
            reason: "its kubeconfig is not UTF-8".to_owned(),
        })?;
        let mut checks = self.look_at(&in_use.spec, text).await?;
        checks.extend(self.login_check(name));
        let failing: Vec<String> = connected
            .member
            .watches()
            .into_iter()
            .filter_map(|watch| Some(format!("{}: {}", watch.what, watch.error?)))
            .collect();
        checks.push(if failing.is_empty() {
            Check::ok("watches", "all of this replica's watches are under way")
        } else {
            Check::failed("watches", failing.join("; "), "look at the apiserver and at the login's rights")
        });
        Ok(checks)
    }
}
