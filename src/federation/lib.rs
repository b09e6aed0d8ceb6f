//! Use cases over the whole fleet: start, stop, observe, register; the index and its subscribers.
//!
//! The way of a start: placement by a pure function over a snapshot of the fleet, the record in etcd, then the cluster.
//! What is shown comes from the [`index`]; what is changed goes through the leader's [`Term`] and the owning member.

pub mod clusters;
pub mod error;
pub mod fleet;
mod leader;
pub mod leadership;
mod locks;
mod metrics;
mod periodic;
mod reason;
pub mod view;
mod wiring;
pub mod workspaces;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use domain::keyed::Keyed;
use store::{Installation, Progress, Sealer, Store};

use self::clusters::{drain, observed, registry};
use self::fleet::Fleet;
use self::leadership::Leadership;
use self::locks::{Locks, RegistryLock};
use self::view::index::Index;
use self::workspaces::adopt::claims::Claims;
use self::workspaces::adopt::relocate::Relocation;
use self::workspaces::adopt::site::Sites;
use self::workspaces::adopt::{Adopting, Discarding};
use self::workspaces::builders::Builders;
use self::workspaces::changes::Changes;
use self::workspaces::decisions::Decisions;
use self::workspaces::diff::Comparison;
use self::workspaces::explain::Explanations;
use self::workspaces::forget::GivingUp;
use self::workspaces::hosts::Hosts;
use self::workspaces::logs::Logs;
use self::workspaces::orphan_secrets::OrphanSecrets;
use self::workspaces::ownership::Ownership;
use self::workspaces::queries::Queries;
use self::workspaces::records::Records;
use self::workspaces::settle::Settling;
use self::workspaces::settle::queue::Queue;
use self::workspaces::snapshots::Snapshots;
use self::workspaces::start::Starts;
use self::workspaces::start::create::Creation;
use self::workspaces::start::placing::Placing;
use self::workspaces::start::repeat::Repeats;

/// Errors of the rooms behind this one, which the API maps to status codes too.
pub use cluster::Error as ClusterError;
pub use clusters::incarnation::Standing;
pub use error::{Error, Result};
pub use fleet::FleetOptions;
pub use fleet::settings::vet::vet;
pub use fleet::settings::{Defaults, Problem};
pub use leadership::{Lead, ReplicaName};
pub use metrics::fleet::{FleetMetricSet, FleetMetrics};
pub use metrics::metering::{Meters, WorkspaceGauges, WorkspaceMetricSet};
pub use store::Error as StoreError;
pub use workspaces::start::Started;

/// Limits of the use cases.
#[derive(Debug, Clone)]
pub struct Options {
    /// For placing one workspace, all clusters tried included.
    pub placement_deadline: Duration,
    /// How long an ended workspace's id stays taken.
    pub tombstone_life: Duration,
    /// How old a secret without a workspace gets before it is swept.
    pub leftover_age: Duration,
    /// Image builder of namespaces whose cluster file names none: host and port.
    pub image_builder: Option<String>,
}

/// The federation: one per process, shared by all requests.
pub struct Federation {
    store: Store,
    sealer: Sealer,
    /// This installation's id.
    installation: Arc<str>,
    keyed: Arc<ArcSwap<Keyed>>,
    /// Who leads.
    pub leadership: Arc<Leadership>,
    index: Arc<Index>,
    fleet: Arc<Fleet>,
    /// Counts workspaces.
    pub meters: Meters,
    locks: Arc<Locks>,
    registry: Arc<RegistryLock>,
    /// Held while a cluster is registered, so that none is registered twice under two addresses.
    registering: tokio::sync::Mutex<()>,
    /// One permit a watcher of clusters.
    watchers: Arc<tokio::sync::Semaphore>,
    placements: watch::Sender<Option<Progress>>,
    /// How far registrations were followed.
    registrations: watch::Sender<Option<Progress>>,
    drains: drain::Drains,
    queue: Queue,
    decisions: Arc<Decisions>,
    /// Changes of placed workspaces.
    pub changes: Arc<Changes>,
    settling: Arc<Settling>,
    orphan_secrets: Arc<OrphanSecrets>,
    /// Reads of workspaces.
    pub queries: Arc<Queries>,
    /// Starts workspaces.
    pub starts: Arc<Starts>,
    /// Takes snapshots.
    pub snapshots: Arc<Snapshots>,
    /// Logs of workspaces.
    pub logs: Arc<Logs>,
    /// Image builders.
    pub builders: Arc<Builders>,
    /// Explains and forecasts placements.
    pub explanations: Arc<Explanations>,
    /// Compares clusters with the placement records.
    pub comparison: Arc<Comparison>,
    /// Adopts workspaces.
    pub adopting: Arc<Adopting>,
    /// Discards resources without a record.
    pub discarding: Arc<Discarding>,
    /// Gives workspaces up.
    pub giving_up: Arc<GivingUp>,
    /// News that were not told.
    news_dropped: AtomicU64,
    /// What was noted of clusters.
    known: Arc<observed::Known>,
    /// Held while a note is changed.
    noting: tokio::sync::Mutex<()>,
    closing: CancellationToken,
}

impl std::fmt::Debug for Federation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Federation").field("us", self.leadership.replica()).finish_non_exhaustive()
    }
}

impl Federation {
    /// Ties the parts together; nothing runs yet.
    pub fn new(
        store: Store,
        sealer: Sealer,
        installation: Installation,
        us: ReplicaName,
        options: Options,
        (fleet, meters): (FleetOptions, Meters),
        subscriber_buffer: usize,
    ) -> Arc<Self> {
        let index = Arc::new(Index::new(subscriber_buffer));
        let keyed = Arc::new(ArcSwap::from_pointee(installation.keyed()));
        let leadership = Leadership::new(us, installation.id, installation.incarnation);
        let queue = Queue::default();
        let installation: Arc<str> = installation.id.to_string().into();
        let (identity, follows) = ((Arc::clone(&keyed), Arc::clone(&installation)), leadership.terms());
        let known = Arc::<observed::Known>::default();
        let callbacks = Arc::new(wiring::FleetCallbacks {
            installation: Arc::clone(&installation),
            meters: meters.clone(),
            terms: leadership.terms(),
            queue: queue.clone(),
            known: Arc::clone(&known),
        });
        let fleet = Fleet::new(fleet, Arc::clone(&index), identity, follows, callbacks);
        let drains = drain::Drains::new(Arc::clone(&index));
        let (locks, registry) = (Arc::<Locks>::default(), Arc::<RegistryLock>::default());
        let records = Records::new(store.clone(), index.clone(), fleet.clone(), options.tombstone_life);
        let ownership = Ownership::new(installation.clone());
        let changes = Changes::new(
            leadership.clone(),
            locks.clone(),
            records.clone(),
            fleet.clone(),
            ownership.clone(),
        );
        let settling = Settling::new(
            records.clone(),
            index.clone(),
            fleet.clone(),
            locks.clone(),
            queue.clone(),
            ownership.clone(),
            changes.clone(),
        );
        let orphan_secrets = OrphanSecrets::new(
            fleet.clone(),
            index.clone(),
            locks.clone(),
            installation.clone(),
            options.leftover_age,
        );
        let queries = Queries::new(index.clone());
        let decisions = Decisions::new(store.clone());
        let hosts = Hosts::new(fleet.clone(), index.clone());
        let placing =
            Placing::new(fleet.clone(), index.clone(), registry.clone(), decisions.clone(), meters.clone());
        let creation = Creation::new(
            fleet.clone(),
            queue.clone(),
            meters.clone(),
            keyed.clone(),
            installation.clone(),
            options.placement_deadline,
        );
        let repeats = Repeats::new(
            fleet.clone(),
            index.clone(),
            records.clone(),
            ownership.clone(),
            creation.clone(),
            keyed.clone(),
        );
        let starts = Starts::new(
            leadership.clone(),
            locks.clone(),
            records.clone(),
            hosts.clone(),
            placing,
            creation,
            repeats,
        );
        let snapshots = Snapshots::new(leadership.clone(), records.clone(), queries.clone(), fleet.clone());
        let logs = Logs::new(queries.clone(), fleet.clone());
        let builders = Builders::new(fleet.clone(), options.image_builder.clone());
        let explanations =
            Explanations::new(leadership.clone(), store.clone(), decisions.clone(), fleet.clone());
        let comparison = Comparison::new(fleet.clone(), index.clone(), store.clone(), installation.clone());
        let sites = Sites::new(locks.clone(), records.clone(), comparison.clone());
        let claims = Claims::new(records.clone(), index.clone(), hosts, registry.clone());
        let relocation = Relocation::new(
            records.clone(),
            comparison.clone(),
            locks.clone(),
            registry.clone(),
            queue.clone(),
        );
        let adopting = Adopting::new(
            leadership.clone(),
            fleet.clone(),
            comparison.clone(),
            sites.clone(),
            claims,
            relocation,
            queue.clone(),
        );
        let discarding = Discarding::new(leadership.clone(), fleet.clone(), comparison.clone(), sites);
        let giving_up = GivingUp::new(
            leadership.clone(),
            fleet.clone(),
            store.clone(),
            index.clone(),
            locks.clone(),
            records,
        );
        Arc::new(Self {
            store,
            sealer,
            installation,
            keyed,
            leadership,
            index,
            fleet,
            meters,
            locks,
            registry,
            registering: tokio::sync::Mutex::default(),
            watchers: Arc::new(tokio::sync::Semaphore::new(registry::MOST_WATCHERS)),
            placements: watch::channel(None).0,
            registrations: watch::channel(None).0,
            drains,
            closing: CancellationToken::new(),
            queue,
            decisions,
            changes,
            settling,
            orphan_secrets,
            queries,
            starts,
            snapshots,
            logs,
            builders,
            explanations,
            comparison,
            adopting,
            discarding,
            giving_up,
            news_dropped: AtomicU64::new(0),
            known,
            noting: tokio::sync::Mutex::default(),
        })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The index.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// The member clusters.
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// Waits until every placement record was listed once.
    pub async fn placements_known(&self) {
        let mut placements = self.placements.subscribe();
        let progress = placements.wait_for(Option::is_some).await.map(|progress| progress.clone());
        if let Ok(Some(mut progress)) = progress {
            progress.caught_up(1).await;
        }
    }

    /// Waits until every member was listed once, at most so long: one that does not answer must not hold up the others.
    pub async fn members_known(&self, within: Duration) {
        if tokio::time::timeout(within, self.fleet.synced()).await.is_err() {
            tracing::warn!(
                "some clusters were not listed yet; their workspaces are not shown until they are"
            );
        }
    }

    /// Cancelled when the shutdown begins.
    pub fn closed(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Ends subscriptions and members; the shutdown has begun.
    pub fn close(&self) {
        self.closing.cancel();
        self.index.events().close();
        self.fleet.close();
    }
}
