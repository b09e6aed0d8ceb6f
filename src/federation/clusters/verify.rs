//! Checks a cluster live before it is registered or changed, and when an admin requests it.

use std::sync::Arc;
use std::time::Duration;

use crate::fleet::Fleet;
use crate::fleet::callbacks::Login;
use crate::fleet::settings::vet::vet;
use crate::fleet::settings::{Defaults, Settings};
use crate::{Error, Result};
use domain::cluster::ClusterSpec;
use domain::workspace::Kind;
use member::client::{Credentials, Limits, Signals, connect};
use onboarding::checks::{self, Examined, Question};
use onboarding::pod_policy::{PROBE, Sample};

/// For all checks of a cluster.
pub(super) const VERIFY_WITHIN: Duration = Duration::from_secs(10);

/// A client made only to verify reports to nobody.
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
    let identity = member::reader(spec);
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
    Ok(checks::examine(&client, &question).await)
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

/// Checks clusters before they are registered or changed.
pub(crate) struct Verification {
    fleet: Arc<Fleet>,
    /// This installation's id.
    installation: Arc<str>,
}

impl Verification {
    pub(crate) fn new(fleet: Arc<Fleet>, installation: Arc<str>) -> Arc<Self> {
        Arc::new(Self { fleet, installation })
    }

    /// As [`examine`], in the name of this installation.
    pub(super) async fn examine(&self, spec: &ClusterSpec, login: Login<'_>) -> Result<Examined> {
        let installation = &*self.installation;
        let samples = samples(spec, &self.fleet.defaults());
        examine(spec, login, installation, &samples, self.fleet.probe_deadline()).await
    }

    /// Workspaces must be able to start in every namespace that is new or differs from `before`, and the settings of the others
    /// must resolve, before anything is written.
    pub(super) fn vet(&self, spec: &ClusterSpec, before: Option<&ClusterSpec>) -> Result<()> {
        let defaults = self.fleet.defaults();
        let is_kept = |namespace| before.is_some_and(|before| before.namespaces.contains(namespace));
        let problems_of = |namespace| {
            if is_kept(namespace) {
                Settings::resolve(namespace, &defaults).err().unwrap_or_default()
            } else {
                vet(namespace, &defaults)
            }
        };
        let problems: Vec<String> =
            spec.namespaces.iter().flat_map(problems_of).map(|problem| problem.to_string()).collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Invalid { field: "spec.namespaces".into(), rule: problems.join("; ") })
    }

    /// The same cluster may be registered twice only where no namespace would be served twice.
    pub(super) fn registered_once(&self, spec: &ClusterSpec, uid: &str) -> Result<()> {
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
}
