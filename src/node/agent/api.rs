//! The apiserver: every call has a deadline, and the status of an object is changed by reading it, changing the agent's part and
//! patching that for the version that was read.
//!
//! Objects are read untyped and patched by their parts, so that fields of other writers and of later versions stay.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use domain::backoff::jittered;
use domain::names::Namespace;
use k8s::resources::{Snapshot, Workspace};
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod, Secret};
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::Error;
use crate::config::Config;

/// Of one call.
const CALL: Duration = Duration::from_secs(10);
/// Of a change with all its attempts. What is not written then is tried again later.
const CHANGE: Duration = Duration::from_mins(1);
/// Between the attempts of a change.
const BACKOFF: ExponentialBuilder = jittered(Duration::from_millis(20), Duration::from_secs(5));

/// Which custom resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A Workspace.
    Workspace,
    /// A Snapshot.
    Snapshot,
}

impl Kind {
    /// For the client.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::Workspace => ApiResource::erase::<Workspace>(&()),
            Self::Snapshot => ApiResource::erase::<Snapshot>(&()),
        }
    }

    /// Where an object says which node it is for.
    pub const fn node_path(self) -> &'static str {
        match self {
            Self::Workspace => "/status/runtime/nodeName",
            Self::Snapshot => "/spec/nodeName",
        }
    }

    /// The selectable field with the same content.
    pub const fn node_field(self) -> &'static str {
        match self {
            Self::Workspace => "status.runtime.nodeName",
            Self::Snapshot => "spec.nodeName",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Workspace => "Workspace",
            Self::Snapshot => "Snapshot",
        })
    }
}

/// An object as it was seen.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid: another object of that name is another object.
    pub uid: &'a str,
}

impl std::fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// What the apiserver says of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodSeen {
    /// Its containers may run.
    Runs,
    /// All its containers ended.
    Ended,
    /// It is not there, or another one has its name.
    Gone,
}

impl PodSeen {
    /// From the pod that has a name: is it the one of the resource with this uid, on this node?
    fn of(pod: Option<&Pod>, owner: Option<&str>, node: &str) -> Self {
        let owned = |pod: &&Pod| {
            let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
            owners.is_empty() || owners.iter().any(|of| Some(of.uid.as_str()) == owner)
        };
        let here = |pod: &&Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(node));
        let Some(pod) = pod.filter(owned).filter(here) else { return Self::Gone };
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref());
        let has_ended = |all: &[ContainerStatus]| {
            let ended =
                |one: &ContainerStatus| one.state.as_ref().is_some_and(|state| state.terminated.is_some());
            !all.is_empty() && all.iter().all(ended)
        };
        // A container that ended may be started again, until the pod is over.
        let is_over = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let is_over = matches!(is_over, Some("Succeeded" | "Failed"));
        if is_over && statuses.is_some_and(has_ended) { Self::Ended } else { Self::Runs }
    }
}

/// The apiserver, and the node that this agent is for.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// Name of the node.
    pub node: String,
}

impl Cluster {
    /// Reads the login and prepares connections; none is opened yet.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        let (login, settings) = match &config.kubeconfig {
            None => (
                "the service account of the pod".to_owned(),
                kube::Config::incluster().map_err(|e| e.to_string()),
            ),
            Some(path) => (path.display().to_string(), from_file(path).await),
        };
        let fails = |reason: String| Error::Login { login: login.clone(), reason };
        let mut settings = settings.map_err(fails)?;
        settings.connect_timeout = Some(CALL);
        // Calls are repeated by their callers, which know until when.
        settings.default_retry = false;
        let client = Client::try_from(settings).map_err(|error| fails(error.to_string()))?;
        Ok(Self { client, node: config.node.clone() })
    }

    /// A custom resource of one namespace.
    pub fn objects(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    /// A custom resource, if it exists.
    pub async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<DynamicObject>, Error> {
        let action = || format!("get {kind} {namespace}/{name}");
        call(action, self.objects(kind, namespace).get_opt(name)).await
    }

    /// Changes the status of an object of this node: `change` returns a merge patch of the status, or nothing where nothing is to
    /// be changed. Repeats after conflicts and outages, for a minute. Returns the object, and whether it was changed.
    pub async fn change_status(
        &self,
        seen: Seen<'_>,
        change: impl Fn(&DynamicObject) -> Result<Option<Value>, Error>,
    ) -> Result<(DynamicObject, bool), Error> {
        let until = Instant::now() + CHANGE;
        let mut delays = BACKOFF.build();
        loop {
            let outcome = timeout_at(until, self.try_change(seen, &change)).await;
            let error = match outcome {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => error,
                Err(_) => return Err(Error::late(format!("change the status of {seen}"), CHANGE)),
            };
            let delay = delays.next().unwrap_or_default();
            if !error.is_passing() || Instant::now() + delay >= until {
                return Err(error);
            }
            tokio::time::sleep(delay).await;
        }
    }

    async fn try_change(
        &self,
        seen: Seen<'_>,
        change: impl Fn(&DynamicObject) -> Result<Option<Value>, Error>,
    ) -> Result<(DynamicObject, bool), Error> {
        let gone = |why| Error::Gone { what: seen.to_string(), why };
        let object =
            self.get(seen.kind, seen.namespace, seen.name).await?.ok_or_else(|| gone("it was deleted"))?;
        if object.uid().as_deref() != Some(seen.uid) {
            return Err(gone("another one has its name"));
        }
        if node_of(seen.kind, &object) != Some(self.node.as_str()) {
            return Err(gone("it is on another node"));
        }
        let Some(status) = change(&object)? else { return Ok((object, false)) };
        let patch = json!({ "metadata": { "resourceVersion": object.resource_version() }, "status": status });
        let api = self.objects(seen.kind, seen.namespace);
        let action = || format!("patch the status of {seen}");
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        Ok((call(action, api.patch_status(seen.name, &params, &patch)).await?, true))
    }

    /// The Node object.
    pub async fn node(&self) -> Result<Node, Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        call(|| format!("get node {}", self.node), api.get(&self.node)).await
    }

    /// Sets labels of the node; `None` removes one.
    pub async fn label(&self, labels: &[(String, Option<&str>)]) -> Result<(), Error> {
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let patch = json!({ "metadata": { "labels": labels } });
        let api: Api<Node> = Api::all(self.client.clone());
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        call(|| format!("label node {}", self.node), api.patch_metadata(&self.node, &params, &patch)).await?;
        Ok(())
    }

    /// A Secret, if it exists.
    pub async fn secret(&self, namespace: &Namespace, name: &str) -> Result<Option<Secret>, Error> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace.as_str());
        call(|| format!("get Secret {namespace}/{name}"), api.get_opt(name)).await
    }

    /// What became of the pod of a Workspace with this uid.
    pub async fn pod(&self, namespace: &str, name: &str, owner: Option<&str>) -> Result<PodSeen, Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pod = call(|| format!("get pod {namespace}/{name}"), api.get_opt(name)).await?;
        Ok(PodSeen::of(pod.as_ref(), owner, &self.node))
    }

    /// Makes the kubelet kill the containers of a pod on this node, one second after it is asked to. A pod that is gone is fine.
    pub async fn kill_pod(&self, namespace: &str, name: &str) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let Some(pod) = call(|| format!("get pod {namespace}/{name}"), api.get_opt(name)).await? else {
            return Ok(());
        };
        if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) != Some(self.node.as_str()) {
            return Err(Error::Gone {
                what: format!("pod {namespace}/{name}"),
                why: "it is on another node",
            });
        }
        let same = Preconditions { uid: pod.uid(), ..Preconditions::default() };
        let params = DeleteParams::default().grace_period(1).preconditions(same);
        match call(|| format!("kill pod {namespace}/{name}"), api.delete(name, &params)).await {
            Err(error) if error.is_code(404) => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }
}

/// Which node an object is for.
pub fn node_of(kind: Kind, object: &DynamicObject) -> Option<&str> {
    object.data.pointer(kind.node_path()).and_then(Value::as_str)
}

async fn from_file(path: &std::path::Path) -> Result<kube::Config, String> {
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| error.to_string())?;
    let options = KubeConfigOptions::default();
    kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| error.to_string())
}

async fn call<T>(
    action: impl Fn() -> String,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match timeout(CALL, answer).await {
        Ok(answer) => answer.map_err(|error| Error::of_call(action(), &error)),
        Err(_) => Err(Error::late(action(), CALL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_gone_once_it_or_its_resource_is_another_one_and_over_once_all_containers_ended() {
        let pod = |phase: &str, state: &str, owner: &str, node: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": { "name": "ws-1", "ownerReferences": [
                    { "apiVersion": "v1", "kind": "Workspace", "name": "1", "uid": owner }
                ] },
                "spec": { "nodeName": node, "containers": [] },
                "status": { "phase": phase, "containerStatuses": [
                    { "name": "workspace", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": { state: {"exitCode": 0} } }
                ] }
            }))
            .unwrap()
        };
        let seen = |pod: Pod| PodSeen::of(Some(&pod), Some("u1"), "metal-1");
        assert_eq!(seen(pod("Running", "running", "u1", "metal-1")), PodSeen::Runs);
        assert_eq!(seen(pod("Running", "terminated", "u1", "metal-1")), PodSeen::Runs);
        assert_eq!(seen(pod("Failed", "terminated", "u1", "metal-1")), PodSeen::Ended);
        // The kubelet may say so before it has seen the container end.
        assert_eq!(seen(pod("Failed", "running", "u1", "metal-1")), PodSeen::Runs);
        assert_eq!(seen(pod("Running", "running", "u2", "metal-1")), PodSeen::Gone);
        assert_eq!(seen(pod("Running", "running", "u1", "metal-2")), PodSeen::Gone);
        assert_eq!(PodSeen::of(None, Some("u1"), "metal-1"), PodSeen::Gone);
    }
}
