//! For apiservers that cannot select Workspaces by node: those of this node are listed once, others are found by their pods,
//! and each is watched by its name until it is deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use k8s::resources::names::GROUP;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use tokio::task::{Id, JoinSet};

use super::source::{Change, Closed, PAGE, Source, settings};
use crate::agent::api::Kind;

/// Between tries of the first list.
const RETRY: Duration = Duration::from_secs(1);

/// Reports the Workspaces of this node.
pub(super) async fn follow(source: &Source) -> Result<(), Closed> {
    let mut watched = Watched::default();
    for object in list(source).await {
        watched.add(source, object.name_any());
        source.report(Change::Is(Kind::Workspace, Box::new(object))).await?;
    }
    let names = watched.names.values().cloned().collect();
    source.report(Change::All(Kind::Workspace, source.namespace.clone(), names)).await?;
    let api: Api<Pod> = Api::namespaced(source.cluster.client.clone(), source.namespace.as_str());
    let own = settings().fields(&format!("spec.nodeName={}", source.cluster.node));
    let mut pods = watcher(api, own).default_backoff().boxed();
    loop {
        tokio::select! {
            Some(event) = pods.next() => match event {
                Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                    if let Some(name) = workspace_of(&pod) {
                        watched.add(source, name);
                    }
                }
                Ok(watcher::Event::InitDone) => source.recovered("watch pods"),
                Ok(_) => {}
                Err(error) => source.watch_failed("watch pods", &error),
            },
            Some(ended) = watched.tasks.join_next_with_id() => watched.remove(ended)?,
            else => return Ok(()),
        }
    }
}

/// All Workspaces of this node. Repeats until there is an answer.
async fn list(source: &Source) -> Vec<DynamicObject> {
    const WHAT: &str = "list Workspaces";
    loop {
        match pages(source).await {
            Ok(own) => {
                source.recovered(WHAT);
                return own;
            }
            Err(error) => source.call_failed(WHAT, &error),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn pages(source: &Source) -> Result<Vec<DynamicObject>, kube::Error> {
    let api = source.cluster.objects(Kind::Workspace, source.namespace.as_str());
    let (mut own, mut page) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let list = api.list(&page).await?;
        own.extend(list.items.into_iter().filter(|one| source.is_own(Kind::Workspace, one)));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(own),
        }
    }
}

/// The Workspace that a pod belongs to.
fn workspace_of(pod: &Pod) -> Option<String> {
    let owners = pod.metadata.owner_references.as_deref()?;
    let owner =
        owners.iter().find(|owner| owner.kind == "Workspace" && owner.api_version.starts_with(GROUP))?;
    Some(owner.name.clone())
}

/// Watches of single Workspaces: as many as the node has pods.
#[derive(Default)]
struct Watched {
    tasks: JoinSet<Result<(), Closed>>,
    names: BTreeMap<Id, String>,
}

impl Watched {
    fn add(&mut self, source: &Source, name: String) {
        if self.names.values().any(|known| *known == name) {
            return;
        }
        let task = self.tasks.spawn(one(source.clone(), name.clone()));
        self.names.insert(task.id(), name);
    }

    fn remove(
        &mut self,
        ended: Result<(Id, Result<(), Closed>), tokio::task::JoinError>,
    ) -> Result<(), Closed> {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        self.names.remove(&id);
        ended.map_or(Ok(()), |(_, outcome)| outcome)
    }
}

/// One Workspace, until it is deleted.
async fn one(source: Source, name: String) -> Result<(), Closed> {
    let api = source.cluster.objects(Kind::Workspace, source.namespace.as_str());
    let mut events =
        watcher(api, settings().fields(&format!("metadata.name={name}"))).default_backoff().boxed();
    let (mut last, mut is_listed) = (None, false);
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => is_listed = false,
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                is_listed = true;
                if source.is_own(Kind::Workspace, &object) {
                    last = Some(Box::new(object.clone()));
                    source.report(Change::Is(Kind::Workspace, Box::new(object))).await?;
                } else if let Some(gone) = last.take() {
                    source.report(Change::Gone(Kind::Workspace, gone)).await?;
                }
            }
            Ok(watcher::Event::InitDone) if is_listed => source.recovered("watch a Workspace"),
            Ok(watcher::Event::InitDone | watcher::Event::Delete(_)) => {
                if let Some(gone) = last.take() {
                    source.report(Change::Gone(Kind::Workspace, gone)).await?;
                }
                return Ok(());
            }
            Err(error) => source.watch_failed("watch a Workspace", &error),
        }
    }
    Ok(())
}
