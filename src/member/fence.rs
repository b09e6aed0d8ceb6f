//! The fence of a member cluster: its apiserver itself rejects the writes of an earlier leader.
//!
//! *Flow.* A new leader raises the parameter of each namespace it writes to. Then it sends dry-run writes with the epoch
//! just before its own until one is rejected, and with its own until one is accepted. Only then is there a [`Pass`], and
//! only with a pass a [`Writer`](crate::apply::Writer). *Guarantees.* Once a pass exists, the apiserver that responded
//! rejects every write of an earlier epoch; its policies allow the parameter only to rise. What was decided in one term is
//! never sent under the epoch of another: each pass has its own client. *Limits.* Where several apiservers are behind one
//! address, another one may lag by some milliseconds; they cannot be asked one by one.

mod parameter;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace as Object};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;
use tracing::info;

use super::apply::Permit;
use super::error::{Error, Result};
use domain::acceptance::NamespaceEnding;
use domain::cluster::ClusterSpec;
use domain::epoch::{Epoch, EpochOrder};
use domain::names::{ClusterName, Namespace};

use parameter::{KEY, config_map};
pub use parameter::{NAME, held_by};
pub use trial::{Fault, PROBE, Trial, Verdict};

/// Why a login that writes without the fence is rejected, and what to do.
pub const NO_RIGHTS: &str = "the login may not write there: without the fence it needs the rights itself, and may \
                                    not only act as user spaceport; bind the roles of clusters/member/rbac.yaml to it, \
                                    or set fence: enforced";
/// Tries of a raise that others get in the way of.
const TRIES: usize = 5;
/// Time for the policy to see a raised parameter. It takes milliseconds.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// Between dry-run writes.
const AGAIN: Duration = Duration::from_millis(2);

/// The right to write to a cluster in one leadership; the cluster was raised to it.
#[derive(Clone)]
pub struct Pass {
    pub(super) client: Client,
    pub(super) permit: Permit,
}

/// Namespaces in which nothing new can be created.
pub type Endings = BTreeMap<Namespace, NamespaceEnding>;

/// The namespaces that a leader writes to.
pub fn namespaces(spec: &ClusterSpec) -> BTreeSet<&Namespace> {
    spec.namespaces.iter().flat_map(|one| [&one.namespace, &one.secrets_namespace]).collect()
}

/// Raises every namespace of a cluster, all at once. `leader` goes out under `epoch`, `reader` under none.
pub(super) async fn raise<'a>(
    spec: &'a ClusterSpec,
    leader: &'a Client,
    reader: &'a Client,
    epoch: &'a Epoch,
) -> Result<Endings> {
    each(spec, reader, |namespace| {
        Box::pin(async move {
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
        })
    })
    .await
}

/// Whether every namespace still holds `epoch`, refuses the one before and accepts this one; else what is wrong.
pub(super) async fn holds<'a>(
    spec: &'a ClusterSpec,
    reader: &'a Client,
    epoch: &'a Epoch,
) -> Result<Endings> {
    each(spec, reader, |namespace| {
        Box::pin(async move {
            let raise = Raise { cluster: &spec.name, namespace, leader: reader, reader, epoch };
            let held = raise.held().await?;
            match held.as_ref().map(|parameter| raise.standing(parameter)).transpose()? {
                Some(EpochOrder::Same) => {}
                _ => return Err(raise.barred(format!("{NAME} of namespace {namespace} was taken back"))),
            }
            match raise.trial().compare(epoch).await? {
                None => Ok(()),
                Some(fault) => Err(raise.faulty(&fault)),
            }
        })
    })
    .await
}

/// Whether every namespace of a cluster without the fence accepts a write of the login itself; else what is wrong.
pub(super) async fn accepts<'a>(spec: &'a ClusterSpec, login: &'a Client) -> Result<Endings> {
    each(spec, login, |namespace| {
        Box::pin(async move {
            let trial = Trial { cluster: &spec.name, client: login, namespace };
            let reason = match trial.create(PROBE, "none", None).await? {
                Verdict::Accepted => return Ok(()),
                Verdict::NotAllowed => NO_RIGHTS.to_owned(),
                Verdict::Fenced(reason) => format!("{reason}; set fence: enforced"),
                Verdict::Refused(rule) => rule.to_string(),
            };
            let reason = format!("namespace {namespace} refuses a write with fence: off: {reason}");
            Err(Error::Fenced { cluster: spec.name.clone(), reason })
        })
    })
    .await
}

/// Does something in every namespace at once. One that is being deleted, or does not exist, is no failure: it must not keep
/// the cluster's other namespaces closed, and stops and finalizers go on there.
async fn each<'a>(
    spec: &'a ClusterSpec,
    reader: &'a Client,
    act: impl Fn(&'a Namespace) -> BoxFuture<'a, Result<()>>,
) -> Result<Endings> {
    let acting = namespaces(spec).into_iter().map(|namespace| (namespace, act(namespace)));
    let each = acting.map(|(namespace, acted)| async move {
        let Err(error) = acted.await else { return Ok(None) };
        if !matches!(error, Error::Refused { .. } | Error::Fenced { .. }) {
            return Err(error);
        }
        match ending(reader, namespace).await {
            Ok(Some(ending)) => Ok(Some((namespace.clone(), ending))),
            Ok(None) | Err(_) => Err(error),
        }
    });
    Ok(futures::future::try_join_all(each).await?.into_iter().flatten().collect())
}

/// Whether a namespace is being deleted, or does not exist.
pub(super) async fn ending(reader: &Client, namespace: &Namespace) -> kube::Result<Option<NamespaceEnding>> {
    let found = Api::<Object>::all(reader.clone()).get_metadata_opt(namespace.as_str()).await?;
    Ok(match found {
        None => Some(NamespaceEnding::Missing),
        Some(found) => found.metadata.deletion_timestamp.map(|_| NamespaceEnding::Terminating),
    })
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

    fn faulty(&self, fault: &Fault) -> Error {
        let (namespace, cluster) = (self.namespace, self.cluster);
        self.barred(format!("namespace {namespace}: {fault}; see `spaceport cluster doctor {cluster}`"))
    }

    fn failed(&self, verb: &str, error: kube::Error) -> Error {
        Error::from_kube(self.cluster, format!("{verb} ConfigMap {NAME} in {}", self.namespace), error)
    }

    async fn held(&self) -> Result<Option<ConfigMap>> {
        self.api().get_opt(NAME).await.map_err(|error| self.failed("get", error))
    }

    /// Writes the parameter, unless it already has this epoch or must not be written.
    async fn put(&self) -> Result<()> {
        for _ in 0..TRIES {
            let written = match self.held().await? {
                None => self.create().await,
                Some(held) => match self.standing(&held)? {
                    EpochOrder::Same => return Ok(()),
                    _ => self.patch(&held).await,
                },
            };
            match written {
                Ok(()) => return Ok(()),
                // Another write came first: the current parameter decides.
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
    fn standing(&self, parameter: &ConfigMap) -> Result<EpochOrder> {
        let namespace = self.namespace;
        let text = parameter.data.as_ref().and_then(|data| data.get(KEY)).map_or("", String::as_str);
        let Ok(held) = text.parse::<Epoch>() else {
            let reason = format!(
                "ConfigMap {NAME} of namespace {namespace} holds no epoch; annotate it with spaceport.dev/release and delete it, and it is created again"
            );
            return Err(self.barred(reason));
        };
        match self.epoch.against(&held) {
            EpochOrder::Foreign => Err(self.barred(format!(
                "namespace {namespace} is held by installation {} of Spaceport; to hand it over, deregister the \
                 cluster there, annotate ConfigMap {NAME} of the namespace with spaceport.dev/release, and delete it",
                held.installation
            ))),
            EpochOrder::Earlier => Err(self.barred(format!(
                "namespace {namespace} has seen the later epoch {held}, and ours is {}; if the etcd of Spaceport was \
                 restored from a backup, open a new incarnation: spaceport cluster incarnation open",
                self.epoch
            ))),
            standing => Ok(standing),
        }
    }

    fn trial(&self) -> Trial<'_> {
        Trial { cluster: self.cluster, client: self.reader, namespace: self.namespace }
    }

    /// Waits until the policy rejects the previous epoch and accepts this one. Returns how many writes of the previous epoch it
    /// accepted.
    async fn confirm(&self) -> Result<usize> {
        let give_up = Instant::now() + SEEN_WITHIN;
        let mut taken = 0;
        loop {
            let Some(fault) = self.trial().compare(self.epoch).await? else { return Ok(taken) };
            taken += usize::from(fault == Fault::EarlierAccepted);
            if fault == Fault::Terminating || Instant::now() > give_up {
                return Err(self.faulty(&fault));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
