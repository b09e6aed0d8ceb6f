//! The fence of a member: its apiserver itself refuses what an earlier leader writes.
//!
//! *Flow.* A new leader raises the parameter of each namespace it writes to, then sends dry-run writes that show the epoch
//! just before its own until one is refused, and one that shows its own until it is taken. Only then is there a [`Pass`],
//! and only with a pass a [`Writer`](super::apply::Writer). *Guarantees.* Once a pass is given out, the apiserver that
//! answered refuses every write of an earlier epoch; its policies hold that the parameter only rises. What was decided in
//! one leadership is never sent under the epoch of another: a pass has a client of its own. *Caveats.* Where several
//! apiservers answer behind one address, another one may lag some milliseconds more; nobody can ask each.

mod check;

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;
use tracing::info;

use super::apply::Permit;
use super::client::{FENCE_EXTRA, FENCE_USER};
use super::error::{Error, Result};
use crate::domain::cluster::ClusterSpec;
use crate::domain::epoch::{Epoch, Standing};
use crate::domain::names::{ClusterName, Namespace};

pub use check::check;

/// Name of the parameter in each namespace, and what the names of the policies begin with.
pub const NAME: &str = "spaceport-fence";
/// Key of the epoch in the parameter.
const KEY: &str = "epoch";
/// Name of what is never made: the dry-run writes.
const PROBE: &str = "spaceport-fence-probe";
/// Tries of a raise that others get in the way of.
const TRIES: usize = 5;
/// For the policy to see a raised parameter. It takes milliseconds.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// Between dry-run writes.
const AGAIN: Duration = Duration::from_millis(2);

/// The right to write to a cluster in one leadership; the cluster was raised to it.
#[derive(Clone)]
pub struct Pass {
    pub(super) client: Client,
    pub(super) permit: Permit,
}

/// Every namespace that is written to.
fn namespaces(spec: &ClusterSpec) -> BTreeSet<&Namespace> {
    spec.namespaces.iter().flat_map(|one| [&one.namespace, &one.secrets_namespace]).collect()
}

/// Raises every namespace of a cluster, all at once. `leader` goes out under `epoch`, `reader` under none.
pub(super) async fn raise(spec: &ClusterSpec, leader: &Client, reader: &Client, epoch: &Epoch) -> Result<()> {
    let each = namespaces(spec).into_iter().map(async |namespace| {
        let raise = Raise { cluster: &spec.name, namespace, leader, reader, epoch };
        let begun = Instant::now();
        raise.put().await?;
        let put = Instant::now();
        let taken = raise.confirm().await?;
        info!(
            %namespace,
            %epoch,
            raised_us = (put - begun).as_micros(),
            refused_us = put.elapsed().as_micros(),
            earlier_still_taken = taken,
            "fence raised"
        );
        Ok(())
    });
    futures::future::try_join_all(each).await.map(drop)
}

/// Whether every namespace still holds `epoch`; else what it holds instead.
pub(super) async fn holds(spec: &ClusterSpec, leader: &Client, reader: &Client, epoch: &Epoch) -> Result<()> {
    for namespace in namespaces(spec) {
        let raise = Raise { cluster: &spec.name, namespace, leader, reader, epoch };
        let held = raise.held().await?;
        match held.as_ref().map(|parameter| raise.standing(parameter)).transpose()? {
            Some(Standing::Same) => {}
            _ => return Err(raise.barred(format!("{NAME} of namespace {namespace} was taken back"))),
        }
    }
    Ok(())
}

/// The epoch that a parameter holds.
pub(super) fn held_by(parameter: &ConfigMap) -> Option<Epoch> {
    parameter.data.as_ref()?.get(KEY)?.parse().ok()
}

struct Raise<'a> {
    cluster: &'a ClusterName,
    namespace: &'a Namespace,
    leader: &'a Client,
    reader: &'a Client,
    epoch: &'a Epoch,
}

impl Raise<'_> {
    fn api(&self) -> Api<ConfigMap> {
        Api::namespaced(self.leader.clone(), self.namespace.as_str())
    }

    fn barred(&self, reason: String) -> Error {
        Error::Fenced { cluster: self.cluster.clone(), reason }
    }

    fn failed(&self, verb: &str, error: kube::Error) -> Error {
        Error::from_kube(self.cluster, format!("{verb} ConfigMap {NAME} in {}", self.namespace), error)
    }

    async fn held(&self) -> Result<Option<ConfigMap>> {
        self.api().get_opt(NAME).await.map_err(|error| self.failed("get", error))
    }

    /// Writes the parameter, unless it is there already or must not be written.
    async fn put(&self) -> Result<()> {
        for _ in 0..TRIES {
            let written = match self.held().await? {
                None => self.create().await,
                Some(held) => match self.standing(&held)? {
                    Standing::Same => return Ok(()),
                    _ => self.patch(&held).await,
                },
            };
            match written {
                Ok(()) => return Ok(()),
                // Somebody was faster: what there is now decides.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(self.failed("raise", error)),
            }
        }
        Err(self.barred(format!("{NAME} of namespace {} kept changing", self.namespace)))
    }

    async fn create(&self) -> kube::Result<()> {
        let mut parameter = config_map(NAME, self.epoch.to_string());
        parameter.metadata.labels = Some([("app.kubernetes.io/part-of".into(), "spaceport".into())].into());
        self.api().create(&PostParams::default(), &parameter).await.map(drop)
    }

    async fn patch(&self, held: &ConfigMap) -> kube::Result<()> {
        let patch = json!({
            "metadata": { "resourceVersion": held.metadata.resource_version },
            "data": { KEY: self.epoch.to_string() },
        });
        self.api().patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    /// Ours or an earlier one of ours; anything else is an error that says what to do.
    fn standing(&self, parameter: &ConfigMap) -> Result<Standing> {
        let namespace = self.namespace;
        let text = parameter.data.as_ref().and_then(|data| data.get(KEY)).map_or("", String::as_str);
        let Ok(held) = text.parse::<Epoch>() else {
            let reason = format!(
                "ConfigMap {NAME} of namespace {namespace} holds no epoch; annotate it with spaceport.dev/release and delete it, and it is made anew"
            );
            return Err(self.barred(reason));
        };
        match self.epoch.against(&held) {
            Standing::Foreign => Err(self.barred(format!(
                "namespace {namespace} is held by installation {} of Spaceport; to hand it over, deregister the \
                 cluster there, annotate ConfigMap {NAME} of the namespace with spaceport.dev/release, and delete it",
                held.installation
            ))),
            Standing::Earlier => Err(self.barred(format!(
                "namespace {namespace} has seen the later epoch {held}, and ours is {}; if the etcd of Spaceport was \
                 restored from a backup, open a new incarnation: spaceport cluster incarnation open",
                self.epoch
            ))),
            standing => Ok(standing),
        }
    }

    /// Waits until the policy refuses the epoch before ours and takes ours. Answers how many earlier writes it took.
    async fn confirm(&self) -> Result<usize> {
        let give_up = Instant::now() + SEEN_WITHIN;
        let (before, ours) = (self.epoch.before().to_string(), self.epoch.to_string());
        let mut taken = 0;
        loop {
            let earlier = probe(self.cluster, self.reader, self.namespace, PROBE, Some(&before)).await?;
            let reason = match earlier {
                Verdict::Taken => {
                    taken += 1;
                    "writes of an earlier epoch are still taken: its policies are not in force".to_owned()
                }
                Verdict::Fenced(_) => {
                    match probe(self.cluster, self.reader, self.namespace, PROBE, Some(&ours)).await? {
                        Verdict::Taken => return Ok(taken),
                        Verdict::Fenced(reason) | Verdict::Refused(reason) => reason,
                    }
                }
                Verdict::Refused(reason) => reason,
            };
            if Instant::now() > give_up {
                return Err(self.barred(format!("namespace {}: {reason}", self.namespace)));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// What came of a dry-run write.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Taken,
    /// By a policy of the fence.
    Fenced(String),
    /// By something else.
    Refused(String),
}

/// A dry-run creation of a ConfigMap as user `spaceport`, showing `epoch` or none.
async fn probe(
    cluster: &ClusterName,
    client: &Client,
    namespace: &Namespace,
    name: &str,
    epoch: Option<&str>,
) -> Result<Verdict> {
    let action = || format!("try a write in namespace {namespace}");
    let failed = |reason: String| Error::Unsent { cluster: cluster.clone(), action: action(), reason };
    let body = serde_json::to_vec(&config_map(name, "none".to_owned()));
    let mut request = http::Request::post(format!("/api/v1/namespaces/{namespace}/configmaps?dryRun=All"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .header("impersonate-user", FENCE_USER);
    if let Some(epoch) = epoch {
        request = request.header(FENCE_EXTRA, epoch);
    }
    let request = request.body(body.map_err(|error| failed(error.to_string()))?);
    match client.request::<ConfigMap>(request.map_err(|error| failed(error.to_string()))?).await {
        Ok(_) => Ok(Verdict::Taken),
        Err(error) => match Error::from_kube(cluster, action(), error) {
            Error::Fenced { reason, .. } => Ok(Verdict::Fenced(reason)),
            Error::Refused { code: 400..=499, message, .. } => Ok(Verdict::Refused(message)),
            error => Err(error),
        },
    }
}

fn config_map(name: &str, epoch: String) -> ConfigMap {
    let mut object = ConfigMap { data: Some([(KEY.to_owned(), epoch)].into()), ..ConfigMap::default() };
    object.metadata.name = Some(name.to_owned());
    object
}

/// Whether a refusal is that of a policy of the fence.
pub(super) fn is_refusal(message: &str) -> bool {
    message.contains("ValidatingAdmissionPolicy 'spaceport-fence")
}
