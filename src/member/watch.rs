//! The watches of a member cluster: workspaces, pods and the maintenance ConfigMap of each namespace, nodes, and the pods
//! of others that take capacity.
//!
//! Each watch is a task that lists, follows, and starts again with a growing backoff. A broken watch says nothing about
//! the health of the cluster: only silence of everything does.

mod backoff;
mod follow;
mod pulse;
mod sinks;
mod stock;

use std::fmt::Write as _;
use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use kube::runtime::watcher::Config;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use domain::names::{ClusterName, Namespace};

use crate::cache::{Capacity, NamespaceCache, NodeCache, Source};
use crate::canary::{self, Canary};
use crate::maintenance::Maintenance;
use crate::tasks::{TaskName, Tasks};
use k8s::fast_decode::LazyObject;
use k8s::protobuf;
use k8s::resources::names::{MANAGED_BY, MANAGER};
use k8s::resources::{SeenPod, Workspace};

pub use crate::pages::PAGE;
pub use backoff::Backoff;
use follow::{Followed, Sink, follow};
use pulse::{Pulse, tapped};
pub use pulse::{Reports, WatchReport};
use stock::Stock;

/// What is watched in one namespace.
pub struct NamespaceWatch {
    /// Takes workspaces and pods.
    pub cache: Arc<NamespaceCache>,
    /// Takes the ConfigMap.
    pub maintenance: Arc<Maintenance>,
    /// Name of the ConfigMap.
    pub maintenance_name: String,
}

/// What is watched in all of a cluster, and where it goes.
pub struct ClusterWatch<'a> {
    /// Takes nodes.
    pub nodes: &'a Arc<NodeCache>,
    /// Takes what nodes have and pods request.
    pub capacity: &'a Arc<Capacity>,
    /// Takes the canary's Lease.
    pub canary: &'a Arc<Canary>,
    /// Whether pods of other namespaces count, too.
    pub elsewhere: bool,
}

type Task = Arc<dyn Fn(CancellationToken) -> BoxFuture<'static, ()> + Send + Sync>;

/// The watches of one member.
pub struct Watches {
    cluster: ClusterName,
    client: kube::Client,
    tasks: Vec<Task>,
    /// One for each task.
    pulses: Vec<Arc<Pulse>>,
    stock: Arc<Stock>,
    relist: watch::Sender<()>,
    failures: watch::Sender<()>,
}

impl Watches {
    /// Watches that are not running yet. Of all their objects `most` bytes are kept, as text; `failures` is notified when one
    /// fails or recovers.
    pub fn new(
        cluster: &ClusterName,
        client: &kube::Client,
        most: u64,
        namespaces: Vec<NamespaceWatch>,
        ClusterWatch { nodes, capacity, canary, elsewhere }: ClusterWatch<'_>,
        failures: &watch::Sender<()>,
    ) -> Self {
        let mut watches = Self {
            cluster: cluster.clone(),
            client: client.clone(),
            tasks: Vec::new(),
            pulses: Vec::new(),
            stock: Stock::new(most),
            relist: watch::Sender::default(),
            failures: failures.clone(),
        };
        // Of pods that others run only those on a node and not over: what they take is all that matters.
        let mut others_elsewhere = "status.phase!=Succeeded,status.phase!=Failed,spec.nodeName!=".to_owned();
        let in_namespace = others_elsewhere.clone();
        for namespace in namespaces {
            let name = namespace.cache.namespace().clone();
            let _ = write!(others_elsewhere, ",metadata.namespace!={name}");
            watches.add_namespace(namespace, capacity);
            let others = config().fields(&in_namespace).labels(&format!("{MANAGED_BY}!={MANAGER}"));
            watches.add_others(format!("other pods in {name}"), pods_within(&name), others, capacity);
        }
        if elsewhere {
            let pods = |client| Api::all(protobuf::of_pods(client));
            let config = config().fields(&others_elsewhere);
            watches.add_others("pods elsewhere".to_owned(), pods, config, capacity);
        }
        let named = config().fields(&format!("metadata.name={}", canary::NAME));
        let (home, canary) = (canary.namespace().clone(), Arc::clone(canary));
        watches.add(format!("canary in {home}"), within::<Lease>(&home), named, move || {
            sinks::CanaryOf(Arc::clone(&canary))
        });
        let (nodes, capacity) = (Arc::clone(nodes), Arc::clone(capacity));
        watches.add("nodes".to_owned(), Api::<LazyObject<Node>>::all, config(), move || {
            sinks::Nodes(Arc::clone(&nodes), Arc::clone(&capacity))
        });
        watches
    }

    /// How each watch is; valid also apart from the watches.
    pub fn reports(&self) -> Reports {
        Reports(self.pulses.clone())
    }

    /// Makes every watch list everything again, without waiting for known versions.
    pub fn relist(&self) -> watch::Sender<()> {
        self.relist.clone()
    }

    /// Spawns all watches as tasks of the member cluster. One that panics is restarted and does not affect the others.
    pub fn spawn(&self, tasks: &Arc<Tasks>) {
        for (pulse, task) in self.pulses.iter().zip(&self.tasks) {
            let (task, stop) = (Arc::clone(task), tasks.stop().clone());
            tasks.spawn(TaskName::of("watch", pulse.what()), move || task(stop.clone()));
        }
    }

    fn add_others(
        &mut self,
        what: String,
        api: impl Fn(kube::Client) -> Api<LazyObject<SeenPod>> + Send + Sync + 'static,
        config: Config,
        capacity: &Arc<Capacity>,
    ) {
        let (capacity, source) = (Arc::clone(capacity), Source::Pods(what.clone()));
        capacity.wait_for(source.clone());
        self.add(what, api, config, move || sinks::Others {
            capacity: Arc::clone(&capacity),
            source: source.clone(),
        });
    }

    fn add_namespace(&mut self, watch: NamespaceWatch, capacity: &Arc<Capacity>) {
        let NamespaceWatch { cache, maintenance, maintenance_name } = watch;
        let namespace = cache.namespace().clone();
        let pods = Arc::clone(&cache);
        let (of_workspaces, of_pods) = (Arc::clone(capacity), Arc::clone(capacity));
        capacity.wait_for(sinks::Workspaces::source(&namespace));
        capacity.wait_for(sinks::Pods::source(&namespace));
        self.add(workspaces_in(&namespace), within::<Workspace>(&namespace), config(), move || {
            sinks::Workspaces::new(Arc::clone(&cache), Arc::clone(&of_workspaces))
        });
        let ours = config().labels(&format!("{MANAGED_BY}={MANAGER}"));
        self.add(format!("pods in {namespace}"), pods_within(&namespace), ours, move || {
            sinks::Pods::new(Arc::clone(&pods), Arc::clone(&of_pods))
        });
        let named = config().fields(&format!("metadata.name={maintenance_name}"));
        self.add(format!("maintenance in {namespace}"), within::<ConfigMap>(&namespace), named, move || {
            sinks::MaintenanceOf::new(Arc::clone(&maintenance))
        });
    }

    fn add<K, S>(
        &mut self,
        what: String,
        api: impl Fn(kube::Client) -> Api<LazyObject<K>> + Send + Sync + 'static,
        config: Config,
        sink: impl Fn() -> S + Send + Sync + 'static,
    ) where
        K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
        K::DynamicType: Default + Clone + Send + Sync,
        S: Sink<Object = K>,
    {
        let pulse = Arc::new(Pulse::new(what).notifying(self.failures.clone()));
        self.pulses.push(Arc::clone(&pulse));
        let (cluster, client, relist) = (self.cluster.clone(), self.client.clone(), self.relist.clone());
        let stock = Arc::clone(&self.stock);
        self.tasks.push(Arc::new(move |shutdown| {
            let api = api(tapped(&client, &pulse));
            let of =
                Followed { cluster: cluster.clone(), pulse: Arc::clone(&pulse), stock: Arc::clone(&stock) };
            Box::pin(follow(of, api, config.clone(), sink(), relist.subscribe(), shutdown))
        }));
    }
}

fn within<K>(
    namespace: &Namespace,
) -> impl Fn(kube::Client) -> Api<LazyObject<K>> + Send + Sync + 'static + use<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + serde::de::DeserializeOwned,
{
    let namespace = namespace.to_string();
    move |client| Api::namespaced(client, &namespace)
}

fn pods_within(
    namespace: &Namespace,
) -> impl Fn(kube::Client) -> Api<LazyObject<SeenPod>> + Send + Sync + 'static + use<> {
    let within = within(namespace);
    move |client| within(protobuf::of_pods(client))
}

fn config() -> Config {
    Config::default().page_size(PAGE)
}

/// What the watch on the workspaces of a namespace is called.
pub(crate) fn workspaces_in(namespace: &Namespace) -> String {
    format!("workspaces in {namespace}")
}

#[cfg(test)]
mod tests;
