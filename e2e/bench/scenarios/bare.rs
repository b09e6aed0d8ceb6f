//! Cost of the resources alone: the calls that any manager of them must make from a start until a workspace runs, made
//! by a program without decisions, records, caches or clients.

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use k8s::{protobuf, resources::Workspace};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::Request,
    runtime::{WatchStreamExt as _, watcher},
};
use member::watch::PAGE;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, timeout};

use crate::{stage::FLOOR, work::Bench};
use e2e::harness::spaceport::NAMESPACE;

const PATIENCE: Duration = Duration::from_secs(30);

/// The calls for one workspace, copied from another one that runs.
pub struct BareCalls {
    workspaces: Api<Workspace>,
    pods: Api<Pod>,
    workspace: Workspace,
    pod: Pod,
    status: Value,
}

impl Bench {
    /// Prepares the calls for a workspace and a pod of this name, in the floor's namespace.
    pub async fn bare_calls(&self, like: &str, name: &str) -> Result<BareCalls> {
        let client = self.stage.cluster(0)?.client();
        let model: Workspace = Api::namespaced(client.clone(), NAMESPACE).get(like).await?;
        let metadata = json!({ "name": name, "labels": model.metadata.labels, "annotations": model.metadata.annotations });
        let workspace = json!({ "metadata": metadata, "spec": model.spec });
        Ok(BareCalls {
            workspaces: Api::namespaced(client.clone(), FLOOR),
            pods: Api::namespaced(client, FLOOR),
            workspace: serde_json::from_value(workspace)?,
            pod: self.pod_named(name)?,
            status: serde_json::to_value(&model.status)?,
        })
    }

    /// Deletes the objects that the calls created.
    pub async fn clear_bare_calls(&self, names: &[String]) -> Result<()> {
        let client = self.stage.cluster(0)?.client();
        let workspaces: Api<Workspace> = Api::namespaced(client, FLOOR);
        for name in names {
            workspaces.delete(name, &DeleteParams::default()).await?;
        }
        self.delete_pods(names).await.map(drop)
    }

    /// Lists all workspaces and all their pods, in pages like the manager's. Returns how long that took.
    pub async fn bare_lists(&self) -> Result<Duration> {
        let client = self.stage.cluster(0)?.client();
        // Open the connection first, as for the other calls.
        client.apiserver_version().await?;
        let begun = Instant::now();
        let workspaces = list(client.clone(), Workspace::url_path(&(), Some(NAMESPACE)));
        let pods = list(protobuf::of_pods(client), Pod::url_path(&(), Some(NAMESPACE)));
        tokio::try_join!(workspaces, pods)?;
        Ok(begun.elapsed())
    }
}

/// Parses only the continue token of each page.
async fn list(client: Client, path: String) -> Result<()> {
    #[derive(Deserialize)]
    struct Page {
        metadata: ListMeta,
    }
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page: Page = client.request(Request::new(&path).list(&params)?).await?;
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}

impl BareCalls {
    /// Makes the calls: create the workspace and its pod; write the status when the pod has a node, upon which the node
    /// agent begins; write it again when pod and content are ready. Returns how long that took.
    pub async fn run(self) -> Result<Duration> {
        let name = self.workspace.metadata.name.clone().unwrap_or_default();
        let (mut workspaces, mut pods) = (changes(&self.workspaces, &name), changes(&self.pods, &name));
        listed(&mut workspaces).await?;
        listed(&mut pods).await?;
        // Open the connection first, as a manager has.
        self.workspaces.get_opt(&name).await?;
        let begun = Instant::now();
        self.workspaces.create(&PostParams::default(), &self.workspace).await?;
        self.pods.create(&PostParams::default(), &self.pod).await?;
        let is_bound = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        let bound = until(&mut pods, is_bound).await?;
        let node = bound.spec.and_then(|spec| spec.node_name);
        let mut status = self.status.clone();
        let all = conditions(&status).to_vec();
        status["phase"] = json!("Creating");
        status["runtime"] = json!({ "nodeName": node, "podName": name });
        status["conditions"] = all.iter().filter(|one| one["type"] == "Deployed").cloned().collect();
        self.write(&name, &status).await?;
        let is_ready = |workspace: &Workspace| {
            workspace.status.as_ref().is_some_and(|status| status.is_true("ContentReady"))
        };
        let is_running =
            |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
        tokio::try_join!(until(&mut workspaces, is_ready), until(&mut pods, is_running))?;
        status["phase"] = json!("Running");
        status["runtime"] = self.status["runtime"].clone();
        status["conditions"] = all.into();
        self.write(&name, &status).await?;
        Ok(begun.elapsed())
    }

    async fn write(&self, name: &str, status: &Value) -> Result<()> {
        let patch = Patch::Merge(json!({ "status": status }));
        self.workspaces.patch_status(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }
}

type Changes<K> = BoxStream<'static, watcher::Result<watcher::Event<K>>>;

/// Watches one object.
fn changes<K>(api: &Api<K>, name: &str) -> Changes<K>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    // A list that comes over the watch ends when the watch is established.
    let config = watcher::Config::default().fields(&format!("metadata.name={name}")).streaming_lists();
    watcher(api.clone(), config).default_backoff().boxed()
}

async fn listed<K: Send>(changes: &mut Changes<K>) -> Result<()> {
    while !matches!(next(changes).await?, watcher::Event::InitDone) {}
    Ok(())
}

async fn until<K: Send>(changes: &mut Changes<K>, wanted: impl Fn(&K) -> bool) -> Result<K> {
    loop {
        if let watcher::Event::Apply(object) | watcher::Event::InitApply(object) = next(changes).await?
            && wanted(&object)
        {
            return Ok(object);
        }
    }
}

async fn next<K: Send>(changes: &mut Changes<K>) -> Result<watcher::Event<K>> {
    let next = timeout(PATIENCE, changes.try_next()).await.context("nothing changed for too long")?;
    next?.context("a watch ended")
}

fn conditions(status: &Value) -> &[Value] {
    status["conditions"].as_array().map_or(&[], Vec::as_slice)
}
