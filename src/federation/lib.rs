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

use domain::ending::Ended;
use domain::keyed::Keyed;
use domain::names::WorkspaceId;
use store::{Installation, Progress, Sealer, Store};

use self::clusters::{drain, observed, registry};
use self::fleet::Fleet;
use self::leadership::Leadership;
use self::locks::{Locks, Registry};
use self::view::events::{Event, Filter};
use self::view::index::{Expired, From, Index, Seen, Subscription};
use self::workspaces::{explain, settle};

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
    options: Options,
    /// Who leads.
    pub leadership: Arc<Leadership>,
    index: Arc<Index>,
    fleet: Arc<Fleet>,
    /// Counts workspaces.
    pub meters: Meters,
    locks: Locks,
    registry: Registry,
    /// Held while a cluster is registered, so that none is registered twice under two addresses.
    registering: tokio::sync::Mutex<()>,
    /// One permit a watcher of clusters.
    watchers: Arc<tokio::sync::Semaphore>,
    placements: watch::Sender<Option<Progress>>,
    /// How far registrations were followed.
    registrations: watch::Sender<Option<Progress>>,
    drains: drain::Drains,
    settle: settle::Queue,
    decisions: explain::Decisions,
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
        let settle = settle::Queue::default();
        let installation: Arc<str> = installation.id.to_string().into();
        let (identity, follows) = ((Arc::clone(&keyed), Arc::clone(&installation)), leadership.terms());
        let known = Arc::<observed::Known>::default();
        let callbacks = Arc::new(wiring::FleetCallbacks {
            installation: Arc::clone(&installation),
            meters: meters.clone(),
            terms: leadership.terms(),
            queue: settle.clone(),
            known: Arc::clone(&known),
        });
        let fleet = Fleet::new(fleet, Arc::clone(&index), identity, follows, callbacks);
        let drains = drain::Drains::new(Arc::clone(&index));
        Arc::new(Self {
            store,
            sealer,
            installation,
            keyed,
            options,
            leadership,
            index,
            fleet,
            meters,
            locks: Locks::default(),
            registry: Registry::default(),
            registering: tokio::sync::Mutex::default(),
            watchers: Arc::new(tokio::sync::Semaphore::new(registry::MOST_WATCHERS)),
            placements: watch::channel(None).0,
            registrations: watch::channel(None).0,
            drains,
            closing: CancellationToken::new(),
            settle,
            decisions: explain::Decisions::default(),
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

    /// The first `limit` workspaces asked for whose id comes after the one given, sorted by id.
    pub fn list(&self, filter: &Filter, after: &str, limit: usize) -> Vec<Seen> {
        self.index.list(filter, after, limit)
    }

    /// One workspace.
    pub fn describe(&self, id: &WorkspaceId) -> Result<Seen> {
        self.index.get(id).ok_or_else(|| Error::NoWorkspace(id.clone()))
    }

    /// A workspace that is over, for as long as its id is taken.
    pub fn describe_ended(&self, id: &WorkspaceId) -> Result<Ended> {
        if let Some(ended) = self.index.ended(id) {
            return Ok(ended);
        }
        match self.index.record_of(id) {
            Some(_) => Err(Error::Precondition { id: id.clone(), reason: "it has not ended yet".to_owned() }),
            None => Err(Error::NoWorkspace(id.clone())),
        }
    }

    /// Whose a workspace is, as its record says.
    pub fn owner_of(&self, id: &WorkspaceId) -> Option<String> {
        self.place_of(id).map(|(owner, _)| owner)
    }

    /// Whose a workspace is, and its cluster, as its record says.
    pub fn place_of(&self, id: &WorkspaceId) -> Option<(String, String)> {
        self.index.record_of(id).map(|(record, _)| (record.owner.to_string(), record.cluster.to_string()))
    }

    /// Changes of workspaces.
    pub fn subscribe(&self, filter: Filter, from: &From) -> Result<Subscription, Expired> {
        self.index.subscribe(filter, from)
    }

    /// The token with which a subscriber goes on after an event.
    pub fn resume_token(&self, event: &Event) -> String {
        self.index.token(event)
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
