//! [`Member`]: client, caches, watches and health of one member cluster.

mod learned;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

use domain::cluster::{Capacity as NodeCapacity, ClusterSpec, FenceMode};
use domain::epoch::Epoch;
use domain::health::Limits as HealthLimits;
use domain::names::{ClusterName, Namespace};
use domain::placement::one_try;

use crate::acceptance::Acceptance;
use crate::apply::{Permit, Writer};
use crate::cache::{Capacity, NamespaceCache, NodeCache, Observer};
use crate::canary::Canary;
use crate::client::{CallMeters, Clients, Credentials, Identity, Limits, Link};
use crate::error::{Error, Result};
use crate::fence::{self, Pass};
use crate::health::{self, HealthCell};
use crate::logs::Logs;
use crate::maintenance::Maintenance;
use crate::rivals;
use crate::sessions::Sessions;
use crate::tasks::{TaskMeters, TaskName, Tasks};
use crate::watch::{ClusterWatch, NamespaceWatch, Reports, WatchReport, Watches};

/// What is the same for every member.
#[derive(Debug, Clone)]
pub struct MemberOptions {
    /// Limits of its client.
    pub limits: Limits,
    /// When its health changes.
    pub health: HealthLimits,
    /// How often it is probed.
    pub probe_period: Duration,
    /// How long a probe waits.
    pub probe_deadline: Duration,
    /// How often its canary is renewed.
    pub canary_period: Duration,
    /// How long one try to create a Workspace may take, of a start or as a dry run.
    pub try_within: Duration,
    /// Name of the maintenance ConfigMap.
    pub maintenance_name: String,
    /// Where calls are counted, if anywhere.
    pub calls: Option<CallMeters>,
    /// Where restarts of its tasks are counted, if anywhere.
    pub tasks: Option<TaskMeters>,
    /// Bytes of its objects, as text, that its watches keep.
    pub object_bytes: u64,
}

impl Default for MemberOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            health: HealthLimits {
                suspect_after: 3,
                lost_after: Duration::from_secs(40),
                recover_after: Duration::from_secs(30),
                hold_down_max: Duration::from_mins(10),
            },
            probe_period: Duration::from_secs(2),
            probe_deadline: Duration::from_secs(1),
            canary_period: Duration::from_secs(10),
            try_within: one_try(Duration::from_secs(10)),
            maintenance_name: super::maintenance::DEFAULT_NAME.to_owned(),
            calls: None,
            tasks: None,
            object_bytes: 1 << 30,
        }
    }
}

/// One cluster: everything that is held of it and for it, shared with no other.
pub struct Member {
    spec: ClusterSpec,
    options: MemberOptions,
    link: Link,
    login_ends: Mutex<Option<Timestamp>>,
    clients: Clients,
    /// For reads; where the fence is on, nothing can be written with it.
    client: kube::Client,
    logs: Logs,
    health: Arc<HealthCell>,
    nodes: Arc<NodeCache>,
    capacity: Arc<Capacity>,
    namespaces: BTreeMap<Namespace, InNamespace>,
    canary: Arc<Canary>,
    reports: Reports,
    relist: watch::Sender<()>,
    learned: watch::Sender<()>,
    watches: Watches,
}

struct InNamespace {
    cache: Arc<NamespaceCache>,
    maintenance: Arc<Maintenance>,
    acceptance: Arc<Acceptance>,
    secrets_namespace: Namespace,
}

impl Member {
    /// Makes the client and empty caches; nothing is sent before [`Member::spawn`]. `canary_mark`: the version at which a leader
    /// wrote the canary once.
    ///
    /// Must be called within a Tokio runtime: a client has a task of its own.
    pub fn connect(
        spec: ClusterSpec,
        kubeconfig: &str,
        options: MemberOptions,
        observers: &[Arc<dyn Observer>],
        canary_mark: Option<u64>,
    ) -> Result<Self> {
        let credentials = Credentials::parse(&spec.name, kubeconfig)?;
        let link = Link::new(&spec.name, &credentials, &options.limits)?;
        let calls = options.calls.as_ref().map(|calls| calls.of(&spec.name));
        let health = Arc::new(HealthCell::new(options.health).counted(calls));
        let clients = Clients::new(link.clone(), &options.limits, health.clone());
        let client = clients.under(reader(&spec));
        let logs = Logs::new(spec.name.clone(), client.clone(), options.limits.request_timeout);
        let nodes = Arc::new(NodeCache::new(observers.to_vec()));
        let capacity = Arc::new(Capacity::default());
        let learned = watch::Sender::default();
        let namespaces: BTreeMap<_, _> = spec
            .namespaces
            .iter()
            .map(|spec| {
                let namespace = spec.namespace.clone();
                let of = InNamespace {
                    cache: Arc::new(NamespaceCache::new(namespace.clone(), observers.to_vec())),
                    maintenance: Arc::new(Maintenance::new()),
                    acceptance: Arc::new(Acceptance::new(learned.clone())),
                    secrets_namespace: spec.secrets_namespace.clone(),
                };
                (namespace, of)
            })
            .collect();
        let of_namespaces = namespaces.values().map(|namespace| NamespaceWatch {
            cache: Arc::clone(&namespace.cache),
            maintenance: Arc::clone(&namespace.maintenance),
            maintenance_name: options.maintenance_name.clone(),
        });
        let canary = Arc::new(Canary::new(home(&spec)?.clone(), canary_mark));
        let elsewhere = spec.capacity == NodeCapacity::Nodes;
        let within = of_namespaces.collect();
        let everywhere = ClusterWatch { nodes: &nodes, capacity: &capacity, canary: &canary, elsewhere };
        let watches = Watches::new(&spec.name, &client, options.object_bytes, within, everywhere, &learned);
        Ok(Self {
            login_ends: Mutex::new(credentials.expires()),
            reports: watches.reports(),
            relist: watches.relist(),
            learned,
            watches,
            spec,
            options,
            link,
            clients,
            client,
            logs,
            health,
            nodes,
            capacity,
            namespaces,
            canary,
        })
    }

    /// Spawns the tasks that watch and probe the cluster; once for a member.
    pub fn spawn(self: &Arc<Self>, tasks: &Arc<Tasks>) {
        self.watches.spawn(tasks);
        for (name, namespace) in &self.namespaces {
            let (maintenance, stop) = (Arc::clone(&namespace.maintenance), tasks.stop().clone());
            tasks.spawn(TaskName::of("maintenance", name.as_str()), move || {
                let (maintenance, stop) = (Arc::clone(&maintenance), stop.clone());
                async move { maintenance.run(stop).await }
            });
        }
        let (this, stop) = (Arc::clone(self), tasks.stop().clone());
        tasks.spawn(TaskName::one("probe"), move || {
            let (this, stop) = (Arc::clone(&this), stop.clone());
            async move {
                let MemberOptions { probe_period, probe_deadline, .. } = this.options;
                health::run(&this.spec.name, &this.client, &this.health, probe_period, probe_deadline, stop)
                    .await;
            }
        });
    }

    /// Uses another login or address from now on; watches go on and lose nothing.
    pub fn replace_kubeconfig(&self, kubeconfig: &str) -> Result<()> {
        let credentials = Credentials::parse(&self.spec.name, kubeconfig)?;
        self.link.replace(&credentials)?;
        *self.login_ends.lock() = credentials.expires();
        Ok(())
    }

    /// Lists everything again. After a restore, a watch at a version that the cluster has not reached again gets neither events
    /// nor an error.
    pub fn relist(&self) {
        self.caches().for_each(|cache| cache.expect_fall());
        self.canary.forget_versions();
        self.relist.send_replace(());
    }

    /// Its name.
    pub fn name(&self) -> &ClusterName {
        &self.spec.name
    }

    /// What the admin wanted of it when it was connected.
    pub fn spec(&self) -> &ClusterSpec {
        &self.spec
    }

    /// When its login ends, where it names an end.
    pub fn login_ends(&self) -> Option<Timestamp> {
        *self.login_ends.lock()
    }

    /// The client, for reads that nothing here covers.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// What containers wrote.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// Commands in containers, and connections to ports of pods.
    pub fn sessions(&self) -> Sessions {
        Sessions::new(self.spec.name.clone(), self.client.clone(), self.options.limits.request_timeout)
    }

    /// What is known of a namespace.
    pub fn cache(&self, namespace: &str) -> Option<&Arc<NamespaceCache>> {
        self.namespaces.get(namespace).map(|namespace| &namespace.cache)
    }

    /// What is known of all its namespaces.
    pub fn caches(&self) -> impl Iterator<Item = &Arc<NamespaceCache>> {
        self.namespaces.values().map(|namespace| &namespace.cache)
    }

    /// Its nodes.
    pub fn nodes(&self) -> &Arc<NodeCache> {
        &self.nodes
    }

    /// What its nodes have left.
    pub fn capacity(&self) -> &Arc<Capacity> {
        &self.capacity
    }

    /// Whether pods of namespaces that are not its own are counted, too. They are not where capacity is no limit.
    pub fn counts_all_pods(&self) -> bool {
        self.spec.capacity == NodeCapacity::Nodes
    }

    /// Its health.
    pub fn health(&self) -> &Arc<HealthCell> {
        &self.health
    }

    /// Its canary.
    pub fn canary(&self) -> &Arc<Canary> {
        &self.canary
    }

    /// How often its canary is renewed.
    pub fn canary_period(&self) -> Duration {
        self.options.canary_period
    }

    /// How long one try to create a Workspace may take.
    pub fn try_within(&self) -> Duration {
        self.options.try_within
    }

    /// Maintenance of a namespace.
    pub fn maintenance(&self, namespace: &str) -> Option<&Arc<Maintenance>> {
        self.namespaces.get(namespace).map(|namespace| &namespace.maintenance)
    }

    /// Raises the cluster's fence to `epoch`: from then on it refuses what earlier leaders write, and takes what is
    /// written with the pass while `permit` allows it. Repeatable. Where the fence is off it must accept a dry-run write.
    pub async fn raise(&self, epoch: &Epoch, permit: Permit) -> Result<Pass> {
        if !permit() {
            let action = "raise the fence".to_owned();
            return Err(Error::NotLeader { cluster: self.spec.name.clone(), action });
        }
        if self.spec.fence == FenceMode::Off {
            self.end_namespaces(&fence::accepts(&self.spec, &self.client).await?);
            return Ok(Pass { client: self.client.clone(), permit });
        }
        let client = self.clients.under(Identity::Leader(*epoch));
        self.end_namespaces(&fence::raise(&self.spec, &client, &self.client, epoch).await?);
        Ok(Pass { client, permit })
    }

    /// Whether the cluster still is where [`Member::raise`] put it, and accepts writes.
    pub async fn is_raised(&self, epoch: &Epoch) -> Result<()> {
        let endings = match self.spec.fence {
            FenceMode::Off => fence::accepts(&self.spec, &self.client).await?,
            FenceMode::Enforced => fence::holds(&self.spec, &self.client, epoch).await?,
        };
        self.end_namespaces(&endings);
        Ok(())
    }

    /// Writes to a namespace.
    pub fn writer(&self, namespace: &Namespace, pass: &Pass) -> Writer {
        self.writer_with(namespace, pass.client.clone(), Arc::clone(&pass.permit))
    }

    /// One that only reads.
    pub fn idle_writer(&self, namespace: &Namespace) -> Writer {
        self.writer_with(namespace, self.client.clone(), Arc::new(|| false))
    }

    fn writer_with(&self, namespace: &Namespace, client: kube::Client, permit: Permit) -> Writer {
        Writer::new(
            self.spec.name.clone(),
            namespace.clone(),
            client,
            self.options.limits.request_timeout,
            self.options.maintenance_name.clone(),
            permit,
        )
    }

    /// Leader of the managers of existing installations in a namespace; `None` if certainly nobody leads.
    pub async fn other_leader(&self, namespace: &str, now: Timestamp) -> Result<Option<String>> {
        let action = || format!("get Lease {namespace}/{}", rivals::OTHER_LEADER);
        let reading = rivals::possible_leader(&self.client, namespace, now);
        match tokio::time::timeout(self.options.limits.request_timeout, reading).await {
            Ok(leader) => leader.map_err(|error| Error::from_kube(&self.spec.name, action(), error)),
            Err(_) => Err(Error::Ambiguous {
                cluster: self.spec.name.clone(),
                action: action(),
                reason: format!("no answer within {:?}", self.options.limits.request_timeout),
            }),
        }
    }

    /// Why another installation of Spaceport than `us` may be at work in a namespace; `None` if certainly none is.
    pub async fn other_installation(
        &self,
        namespace: &Namespace,
        us: &str,
        now: Timestamp,
    ) -> Result<Option<String>> {
        let action = || format!("look for other installations in namespace {namespace}");
        let reading = rivals::rival(&self.client, namespace.as_str(), us, now);
        match tokio::time::timeout(self.options.limits.request_timeout, reading).await {
            Ok(found) => found.map_err(|error| Error::from_kube(&self.spec.name, action(), error)),
            Err(_) => Err(Error::Ambiguous {
                cluster: self.spec.name.clone(),
                action: action(),
                reason: format!("no answer within {:?}", self.options.limits.request_timeout),
            }),
        }
    }

    /// Whether every watch has listed at least once.
    pub fn is_synced(&self) -> bool {
        self.nodes.is_synced() && self.namespaces.values().all(|namespace| namespace.cache.is_synced())
    }

    /// How its watches are.
    pub fn watches(&self) -> Vec<WatchReport> {
        self.reports.all()
    }
}

/// The namespace that the canary is in: the first.
fn home(spec: &ClusterSpec) -> Result<&Namespace> {
    let first = spec.namespaces.first().map(|first| &first.namespace);
    first.ok_or_else(|| Error::Unsent {
        cluster: spec.name.clone(),
        action: "connect".to_owned(),
        reason: "it has no namespace".to_owned(),
    })
}

/// As whom a cluster is read.
pub fn reader(spec: &ClusterSpec) -> Identity {
    match spec.fence {
        FenceMode::Enforced => Identity::Reader,
        FenceMode::Off => Identity::Login,
    }
}
