//! Sees what happens in the clusters themselves, by watches past all proxies. Of a cluster whose apiserver is frozen or
//! killed it hears later, and may miss how something ended: the history says when that was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, utils::Backoff, watcher};
use kube::{Api, ResourceExt as _};
use parking_lot::Mutex;
use spaceport::cluster::resources::{Workspace, WorkspaceStatus, conditions};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::history::{Content, Resource};
use super::stage::{Stage, now};

/// The observer. Dropping it ends its watches.
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    _watches: JoinSet<()>,
}

struct Seen {
    /// By the resource's own id.
    lives: BTreeMap<String, Resource>,
    /// Pods that ran, by the own id of the resource that owns them.
    pods: BTreeMap<String, BTreeSet<String>>,
    changed: Instant,
}

impl Observer {
    /// Begins to watch every cluster of the stage.
    pub fn begin(stage: &Stage) -> Self {
        let seen = Seen { lives: BTreeMap::new(), pods: BTreeMap::new(), changed: Instant::now() };
        let seen = Arc::new(Mutex::new(seen));
        let mut watches = JoinSet::new();
        for cluster in &stage.clusters {
            let workspaces = Api::namespaced(cluster.client(), &stage.namespace);
            watches.spawn(watch_workspaces(workspaces, cluster.name().to_owned(), Arc::clone(&seen)));
            let pods = Api::namespaced(cluster.client(), &stage.namespace);
            watches.spawn(watch_pods(pods, Arc::clone(&seen)));
        }
        Self { seen, _watches: watches }
    }

    /// Every resource that was seen.
    pub fn resources(&self) -> Vec<Resource> {
        let seen = self.seen.lock();
        let with_pods = |(uid, life): (&String, &Resource)| {
            let pods = seen.pods.get(uid).map(|pods| pods.iter().cloned().collect());
            Resource { pods: pods.unwrap_or_default(), ..life.clone() }
        };
        seen.lives.iter().map(with_pods).collect()
    }

    /// For how long nothing has changed.
    pub fn quiet_for(&self) -> Duration {
        self.seen.lock().changed.elapsed()
    }
}

impl Seen {
    fn is(&mut self, cluster: &str, workspace: &Workspace) {
        let Some(uid) = workspace.uid() else { return };
        let status = workspace.status.as_ref();
        let life = self.lives.entry(uid.clone()).or_insert_with(|| Resource {
            cluster: cluster.to_owned(),
            id: workspace.name_any(),
            meta: workspace.spec.ownership.workspace_id.clone(),
            uid,
            from: now(),
            until: None,
            pods: Vec::new(),
            phase: String::new(),
            version: 0,
            seen_end: false,
            stop_asked: None,
            active: None,
            content: Content::None,
        });
        life.phase = status.map_or_else(String::new, |status| format!("{:?}", status.phase));
        life.version = workspace.resource_version().and_then(|text| text.parse().ok()).unwrap_or(0);
        if let Some(status) = status {
            if status.is_true(conditions::STOPPED_BY_REQUEST) {
                life.stop_asked.get_or_insert_with(now);
            }
            life.active =
                status.last_activity.as_ref().and_then(|at| u64::try_from(at.0.as_millisecond()).ok());
            life.content = content(status);
        }
        self.changed = Instant::now();
    }

    fn is_gone(&mut self, uid: &str, seen_end: bool) {
        if let Some(life) = self.lives.get_mut(uid) {
            life.until.get_or_insert_with(now);
            life.seen_end |= seen_end;
            self.changed = Instant::now();
        }
    }

    /// Whatever of the cluster is not in a list is gone.
    fn are_only(&mut self, cluster: &str, listed: &BTreeSet<String>) {
        let there = self.lives.values().filter(|life| life.cluster == cluster && life.until.is_none());
        let gone: Vec<String> =
            there.filter(|life| !listed.contains(&life.uid)).map(|life| life.uid.clone()).collect();
        for uid in gone {
            self.is_gone(&uid, false);
        }
    }
}

fn content(status: &WorkspaceStatus) -> Content {
    let is = |kind| status.is_true(kind);
    if is(conditions::BACKUP_COMPLETE) {
        Content::Saved
    } else if is(conditions::CONTENT_READY) && !is(conditions::ABORTED) {
        Content::Unsaved
    } else {
        Content::None
    }
}

/// Tries again after a moment, so that little is missed of a cluster that is back.
struct Soon;

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(100))
    }
}

impl Backoff for Soon {
    fn reset(&mut self) {}
}

async fn watch_workspaces(api: Api<Workspace>, cluster: String, seen: Arc<Mutex<Seen>>) {
    let mut events = watcher(api, watcher::Config::default()).backoff(Soon).boxed();
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(workspace)) => seen.lock().is(&cluster, &workspace),
            Ok(watcher::Event::Delete(workspace)) => {
                let mut seen = seen.lock();
                seen.is(&cluster, &workspace);
                seen.is_gone(&workspace.uid().unwrap_or_default(), true);
            }
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(workspace)) => {
                listed.insert(workspace.uid().unwrap_or_default());
                seen.lock().is(&cluster, &workspace);
            }
            Ok(watcher::Event::InitDone) => seen.lock().are_only(&cluster, &listed),
            // As long as its apiserver is away.
            Err(_) => {}
        }
    }
}

async fn watch_pods(api: Api<Pod>, seen: Arc<Mutex<Seen>>) {
    let mut pods = watcher(api, watcher::Config::default()).backoff(Soon).applied_objects().boxed();
    while let Some(pod) = pods.next().await {
        let Ok(pod) = pod else { continue };
        let ran = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        let owner = pod.owner_references().first().map(|owner| owner.uid.clone());
        if let (true, Some(owner), Some(uid)) = (ran, owner, pod.uid()) {
            let mut seen = seen.lock();
            if seen.pods.entry(owner).or_default().insert(uid) {
                seen.changed = Instant::now();
            }
        }
    }
}
