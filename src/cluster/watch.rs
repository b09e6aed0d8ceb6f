//! The watches of a member: workspaces, pods and the maintenance ConfigMap of each namespace, the nodes, and what other
//! pods take of them.
//!
//! Each watch is a task of its own that lists, follows, and begins again with a growing pause. A watch that breaks says
//! nothing about the cluster: only silence of everything does.

mod backoff;
mod follow;
mod lenient;
mod pulse;
mod sinks;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use kube::runtime::watcher::Config;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::domain::names::{ClusterName, Namespace};

use super::cache::{Capacity, NamespaceCache, NodeCache, Source};
use super::canary::{self, Canary};
use super::maintenance::Maintenance;
use super::protobuf;
use super::resources::names::{MANAGED_BY, MANAGER};
use super::resources::{SeenPod, Workspace};

pub(in crate::cluster) use backoff::Backoff;
use follow::{Sink, follow};
use lenient::Lenient;
use pulse::{Pulse, tapped};

/// Objects a page of a list. Lists are consistent reads: a list that may be older than what was seen would report as
/// gone what is there. From Kubernetes 1.34 on they are served from the apiserver's cache and streamed all the same.
pub const PAGE: u32 = 500;
/// A watch task that ends before its time is begun anew after this.
const REBIRTH: Duration = Duration::from_secs(1);

/// How one watch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchReport {
    /// What is watched, such as `workspaces in ws-a`.
    pub what: String,
    /// How long ago it received anything, bookmarks included.
    pub last_heard: Option<Duration>,
    /// What it last failed with, where it has received nothing since.
    pub error: Option<String>,
    /// Objects that are there and cannot be read.
    pub unreadable: Vec<String>,
    /// Times it began again after a failure.
    pub restarts: u64,
}

/// What is watched in one namespace.
pub struct NamespaceWatch {
    /// Takes workspaces and pods.
    pub cache: Arc<NamespaceCache>,
    /// Takes the ConfigMap.
    pub maintenance: Arc<Maintenance>,
    /// Name of the ConfigMap.
    pub maintenance_name: String,
}

type Task = Box<dyn Fn(CancellationToken) -> BoxFuture<'static, ()> + Send + Sync>;

/// The watches of one member.
pub struct Watches {
    cluster: ClusterName,
    client: kube::Client,
    tasks: Vec<Task>,
    pulses: Vec<Arc<Pulse>>,
    relist: watch::Sender<()>,
}

impl Watches {
    /// Watches that are not running yet.
    pub fn new(
        cluster: &ClusterName,
        client: &kube::Client,
        namespaces: Vec<NamespaceWatch>,
        nodes: &Arc<NodeCache>,
        capacity: &Arc<Capacity>,
        canary: &Arc<Canary>,
    ) -> Self {
        let mut watches = Self {
            cluster: cluster.clone(),
            client: client.clone(),
            tasks: Vec::new(),
            pulses: Vec::new(),
            relist: watch::Sender::default(),
        };
        // Of pods that others run only those on a node and not over: what they take is all that matters.
        let mut elsewhere = "status.phase!=Succeeded,status.phase!=Failed,spec.nodeName!=".to_owned();
        let in_namespace = elsewhere.clone();
        for namespace in namespaces {
            let name = namespace.cache.namespace().clone();
            let _ = write!(elsewhere, ",metadata.namespace!={name}");
            watches.add_namespace(namespace, capacity);
            let others = config().fields(&in_namespace).labels(&format!("{MANAGED_BY}!={MANAGER}"));
            watches.add_others(format!("other pods in {name}"), pods_within(&name), others, capacity);
        }
        let pods = |client| Api::all(protobuf::of_pods(client));
        watches.add_others("pods elsewhere".to_owned(), pods, config().fields(&elsewhere), capacity);
        let named = config().fields(&format!("metadata.name={}", canary::NAME));
        let (home, canary) = (canary.namespace().clone(), Arc::clone(canary));
        watches.add(format!("canary in {home}"), within::<Lease>(&home), named, move || {
            sinks::CanaryOf(Arc::clone(&canary))
        });
        let (nodes, capacity) = (Arc::clone(nodes), Arc::clone(capacity));
        watches.add("nodes".to_owned(), Api::<Lenient<Node>>::all, config(), move || {
            sinks::Nodes(Arc::clone(&nodes), Arc::clone(&capacity))
        });
        watches
    }

    /// How each watch is; valid also after [`Watches::run`] took the watches.
    pub fn reports(&self) -> Reports {
        Reports(self.pulses.clone())
    }

    /// Makes every watch list everything anew, and wait for nothing that it knew; valid also after [`Watches::run`].
    pub fn relist(&self) -> watch::Sender<()> {
        self.relist.clone()
    }

    /// Watches until `shutdown`. A watch that fails, even by a panic, is begun anew and disturbs no other.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut running = JoinSet::new();
        for task in self.tasks {
            let (cluster, shutdown) = (self.cluster.clone(), shutdown.clone());
            running.spawn(async move {
                while !shutdown.is_cancelled() {
                    let ended = tokio::spawn(task(shutdown.clone())).await;
                    if let Err(error) = ended {
                        tracing::error!(%cluster, %error, "a watch task failed and is begun anew");
                    }
                    let _ = tokio::time::timeout(REBIRTH, shutdown.cancelled()).await;
                }
            });
        }
        while running.join_next().await.is_some() {}
    }

    fn add_others(
        &mut self,
        what: String,
        api: impl Fn(kube::Client) -> Api<Lenient<SeenPod>> + Send + Sync + 'static,
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
        self.add(
            format!("workspaces in {namespace}"),
            within::<Workspace>(&namespace),
            config(),
            move || sinks::Workspaces::new(Arc::clone(&cache), Arc::clone(&of_workspaces)),
        );
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
        api: impl Fn(kube::Client) -> Api<Lenient<K>> + Send + Sync + 'static,
        config: Config,
        sink: impl Fn() -> S + Send + Sync + 'static,
    ) where
        K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
        K::DynamicType: Default + Clone + Send + Sync,
        S: Sink<Object = K>,
    {
        let pulse = Arc::new(Pulse::new(what));
        self.pulses.push(Arc::clone(&pulse));
        let (cluster, client, relist) = (self.cluster.clone(), self.client.clone(), self.relist.clone());
        self.tasks.push(Box::new(move |shutdown| {
            let pulse = Arc::clone(&pulse);
            let api = api(tapped(&client, &pulse));
            Box::pin(follow(
                cluster.clone(),
                api,
                config.clone(),
                sink(),
                pulse,
                relist.subscribe(),
                shutdown,
            ))
        }));
    }
}

fn within<K>(
    namespace: &Namespace,
) -> impl Fn(kube::Client) -> Api<Lenient<K>> + Send + Sync + 'static + use<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + serde::de::DeserializeOwned,
{
    let namespace = namespace.to_string();
    move |client| Api::namespaced(client, &namespace)
}

fn pods_within(
    namespace: &Namespace,
) -> impl Fn(kube::Client) -> Api<Lenient<SeenPod>> + Send + Sync + 'static + use<> {
    let within = within(namespace);
    move |client| within(protobuf::of_pods(client))
}

fn config() -> Config {
    Config::default().page_size(PAGE)
}

/// How the watches are, while they run elsewhere.
#[derive(Clone)]
pub struct Reports(Vec<Arc<Pulse>>);

impl Reports {
    /// One report a watch.
    pub fn all(&self) -> Vec<WatchReport> {
        self.0.iter().map(|pulse| pulse.report()).collect()
    }
}

#[cfg(test)]
mod tests;
