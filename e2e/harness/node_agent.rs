//! Simulates the node agents of a cluster: initializes content, backs up, wipes, and takes snapshots, only by writing
//! the status.
//!
//! It reacts to events of a watch and writes as existing agents do: read the object, change its part, replace the whole
//! status, and retry on a conflict.

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

pub mod step;

use step::{Ask, Step, due};

/// Concurrent work.
const AT_ONCE: usize = 64;
const RETRY: Duration = Duration::from_millis(200);

/// How long its work takes unless the workspace sets it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Content initialization.
    pub init: Duration,
    /// A backup, a wipe or a snapshot.
    pub backup: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { init: Duration::from_millis(6), backup: Duration::from_millis(6) }
    }
}

/// The agents of one cluster. Dropping it ends them at once.
pub struct NodeAgent {
    tasks: Vec<JoinHandle<()>>,
}

impl NodeAgent {
    /// Starts to watch every namespace with a client that may read and write workspaces and snapshots. Waits for kinds
    /// that are not installed yet.
    pub fn start(client: &Client, pace: Pace) -> Self {
        let resources = [resource("Workspace", "workspaces"), resource("Snapshot", "snapshots")];
        let tasks = resources.map(|resource| {
            let agent = Arc::new(Agent { client: client.clone(), resource, pace, busy: Mutex::default() });
            tokio::spawn(agent.watch())
        });
        Self { tasks: tasks.into() }
    }
}

impl Drop for NodeAgent {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Steps in progress by object: the watch repeats events meanwhile.
type Busy = HashSet<(String, Step)>;

struct Agent {
    client: Client,
    resource: ApiResource,
    pace: Pace,
    busy: Mutex<Busy>,
}

impl Agent {
    async fn watch(self: Arc<Self>) {
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &self.resource);
        let mut events = watcher::watcher(api, watcher::Config::default()).default_backoff().boxed();
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        let mut work = JoinSet::new();
        while let Some(event) = events.next().await {
            while work.try_join_next().is_some() {}
            let Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) = event else {
                continue;
            };
            let Some(step) = due(&object) else { continue };
            let ask = self.ask(&object, step).await;
            let key = (object.uid().unwrap_or_default(), step);
            if ask.hangs() || !self.busy.lock().insert(key.clone()) {
                continue;
            }
            let (agent, slots) = (Arc::clone(&self), Arc::clone(&slots));
            work.spawn(async move {
                sleep(ask.delay(agent.pace)).await;
                let _slot = slots.acquire_owned().await;
                agent.carry_out(&object, step, ask.fails()).await;
                agent.busy.lock().remove(&key);
            });
        }
    }

    /// What a test requests; for a snapshot, on its workspace.
    async fn ask(&self, object: &DynamicObject, step: Step) -> Ask {
        let workspace = object.data.pointer("/spec/workspaceID").and_then(serde_json::Value::as_str);
        let (Step::Snapshot, Some(name)) = (step, workspace) else { return Ask::of(object, step) };
        let namespace = object.namespace().unwrap_or_default();
        let workspaces = resource("Workspace", "workspaces");
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &namespace, &workspaces);
        api.get(name).await.map_or_else(|_| Ask::default(), |workspace| Ask::of(&workspace, step))
    }

    /// Writes until the step is not due any more, across conflicts and outages.
    async fn carry_out(&self, object: &DynamicObject, step: Step, fails: bool) {
        loop {
            match self.write(object, step, fails).await {
                Ok(()) => return,
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(kube::Error::Api(status)) if status.code == 404 => return,
                Err(error) => {
                    eprintln!("node agent: {step:?} of {}: {error}", object.name_any());
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn write(&self, object: &DynamicObject, step: Step, fails: bool) -> Result<(), kube::Error> {
        let namespace = object.namespace().unwrap_or_default();
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &namespace, &self.resource);
        loop {
            let mut fresh = api.get(&object.name_any()).await?;
            if fresh.uid() != object.uid() || due(&fresh) != Some(step) {
                return Ok(());
            }
            let finished = step::perform(step, &mut fresh, fails, jiff::Timestamp::now());
            api.replace_status(&object.name_any(), &PostParams::default(), &fresh).await?;
            if finished {
                return Ok(());
            }
        }
    }
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: "workspace.gitpod.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "workspace.gitpod.io/v1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}
