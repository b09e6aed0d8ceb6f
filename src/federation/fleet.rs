//! The member clusters of this replica: each with its own client, watches, controllers and tasks, and nothing shared.

mod canary;
mod candidacy;
mod connected;
mod gate;
mod logins;
mod ready;
mod registrations;
mod reload;
pub mod settings;
#[cfg(test)]
pub(crate) mod tests;
mod watcher;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::clusters::observed::Known;
use crate::fleet::settings::{Defaults, Settings};
use crate::leadership::Leading;
use crate::metrics::metering::{Meter, Meters};
use crate::view::index::Index;
use crate::workspaces::settle;
use cluster::cache::Observer;
use cluster::host::Host;
use cluster::tasks::{TaskName, Tasks};
use cluster::{Member, MemberOptions};
use controller::{Controller, OwnerTokens, Parts};
use domain::cluster::ClusterSpec;
use domain::health::Health;
use domain::keyed::Keyed;
use domain::names::{ClusterName, Namespace};
use domain::placement::Candidate;
use domain::secret::Secret;
use store::Registration;

use candidacy::Candidacy;
use watcher::Watcher;

pub use candidacy::InFlight;
pub use connected::{Connected, InUse, Place};
pub(super) use connected::{ago, last_answer};
pub use gate::{Gate, State as GateState};
pub use logins::{Failure, LoginState};
pub use registrations::Broken;

use logins::Logins;
use registrations::Slot;

/// What is the same for every member.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// Client, probes and health.
    pub member: MemberOptions,
    /// The manager's configuration for namespaces.
    pub defaults: Arc<ArcSwap<Defaults>>,
    /// What is counted of workspaces.
    pub meters: Meters,
    /// The cluster that the manager itself runs in, where it knows one.
    pub host: Option<Arc<Host>>,
}

/// All members, by name.
pub struct Fleet {
    slots: RwLock<BTreeMap<ClusterName, Slot>>,
    index: Arc<Index>,
    options: FleetOptions,
    keyed: Arc<ArcSwap<Keyed>>,
    /// This installation's id.
    installation: Arc<str>,
    leading: watch::Receiver<Option<Leading>>,
    settle: settle::Queue,
    logins: Logins,
    /// What was noted of members.
    known: Arc<Known>,
    /// Held while members are connected, go or get another login, or settings change, so that none is connected with
    /// settings of before.
    changing: Mutex<()>,
    changes: watch::Sender<()>,
    /// Whether registrations were listed once.
    listed: watch::Sender<bool>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("members", &self.slots.read().len()).finish_non_exhaustive()
    }
}

impl Fleet {
    /// No member yet. Members are raised and controllers run while `leading` holds a term.
    pub fn new(
        options: FleetOptions,
        index: Arc<Index>,
        (keyed, installation): (Arc<ArcSwap<Keyed>>, Arc<str>),
        leading: watch::Receiver<Option<Leading>>,
        settle: settle::Queue,
        known: Arc<Known>,
    ) -> Arc<Self> {
        Arc::new(Self {
            slots: RwLock::default(),
            logins: Logins::new(options.host.clone()),
            index,
            options,
            keyed,
            installation,
            leading,
            settle,
            known,
            changing: Mutex::default(),
            changes: watch::channel(()).0,
            listed: watch::channel(false).0,
        })
    }

    /// Wakes when a registration was taken, changed or let go.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The manager's configuration for namespaces.
    pub fn defaults(&self) -> Arc<Defaults> {
        self.options.defaults.load_full()
    }

    /// What is counted of workspaces.
    pub fn meters(&self) -> &Meters {
        &self.options.meters
    }

    /// A member in use.
    pub fn get(&self, name: &ClusterName) -> Option<Arc<Connected>> {
        match self.slots.read().get(name) {
            Some(Slot::Connected(connected)) => Some(Arc::clone(connected)),
            _ => None,
        }
    }

    /// All members in use, by name.
    pub fn connected(&self) -> Vec<Arc<Connected>> {
        let slots = self.slots.read();
        slots
            .values()
            .filter_map(|slot| match slot {
                Slot::Connected(connected) => Some(Arc::clone(connected)),
                Slot::Broken(_) | Slot::Removed(_) => None,
            })
            .collect()
    }

    /// All registrations that cannot be used, by name.
    pub fn broken(&self) -> Vec<Arc<Broken>> {
        let slots = self.slots.read();
        slots
            .values()
            .filter_map(|slot| match slot {
                Slot::Broken(broken) => Some(Arc::clone(broken)),
                Slot::Connected(_) | Slot::Removed(_) => None,
            })
            .collect()
    }

    /// Version of a registration, used or not.
    pub fn version(&self, name: &ClusterName) -> Option<i64> {
        self.slots.read().get(name).filter(|slot| !matches!(slot, Slot::Removed(_))).map(Slot::version)
    }

    /// Wakes whoever waits for changes.
    pub(super) fn stir(&self) {
        self.changes.send_replace(());
    }

    /// How long a health probe waits.
    pub fn probe_deadline(&self) -> std::time::Duration {
        self.options.member.probe_deadline
    }

    /// The fleet as placement sees it.
    pub fn candidates(&self) -> Vec<Arc<Candidate>> {
        let now = Timestamp::now();
        self.connected().iter().map(|connected| connected.candidate(&self.index, now)).collect()
    }

    /// Whether a member is in use and well, and its nodes are known.
    pub fn is_available(&self, name: &ClusterName) -> bool {
        self.get(name).is_some_and(|connected| {
            let member = &connected.member;
            member.health().health() == Health::Available && member.capacity().is_known()
        })
    }

    /// Whether a member serves a namespace now; one that was taken out a moment ago does not.
    pub fn serves(&self, cluster: &ClusterName, namespace: &Namespace) -> bool {
        self.get(cluster).is_some_and(|connected| connected.places.contains_key(namespace))
    }

    /// Ends every task.
    pub fn close(&self) {
        self.logins.close();
        for connected in self.connected() {
            connected.tasks.stop().cancel();
        }
    }

    fn tasks_of(&self, name: &ClusterName) -> Arc<Tasks> {
        let (meters, changes) = (self.options.member.tasks.clone(), self.changes.clone());
        Tasks::new(name.clone(), meters, changes, CancellationToken::new())
    }

    fn connect(self: &Arc<Self>, registration: Registration) -> Result<Arc<Connected>, String> {
        let defaults = self.options.defaults.load();
        let spec = registration.spec;
        let name = spec.name.clone();
        let mut settings = BTreeMap::new();
        for namespace in &spec.namespaces {
            let resolved = Settings::resolve(namespace, &defaults).map_err(|problems| {
                problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            })?;
            settings.insert(namespace.namespace.clone(), Arc::new(ArcSwap::from_pointee(resolved)));
        }
        let kubeconfig = registration.kubeconfig.ok_or("its kubeconfig was not read yet")?.into_exposed();
        let text = std::str::from_utf8(&kubeconfig).map_err(|_| "its kubeconfig is not UTF-8".to_owned())?;
        let served = settings.keys().cloned().collect();
        let watcher = Arc::new(Watcher {
            session: self.index.connect(&spec.name, served),
            index: Arc::clone(&self.index),
            settle: self.settle.clone(),
            settings: settings.clone(),
            installation: Arc::clone(&self.installation),
            changes: self.changes.clone(),
            controllers: RwLock::default(),
        });
        let meter = Arc::new(Meter::new(
            spec.name.clone(),
            Arc::clone(&self.installation),
            self.options.meters.clone(),
            self.leading.clone(),
        ));
        let observers: [Arc<dyn Observer>; 2] =
            [Arc::<Watcher>::clone(&watcher), Arc::<Meter>::clone(&meter)];
        let mark = self.known.get(&spec.name).and_then(|observed| observed.canary);
        let member = Member::connect(spec.clone(), text, self.options.member.clone(), &observers, mark)
            .map_err(|error| error.to_string())?;
        let member = Arc::new(member);
        let places = self.places(&spec, &member, &settings)?;
        *watcher.controllers.write() =
            places.iter().map(|(name, place)| (name.clone(), Arc::downgrade(&place.controller))).collect();
        let tasks = self.tasks_of(&name);
        let connected = Arc::new(Connected {
            in_use: ArcSwap::from_pointee(InUse {
                spec: Arc::new(spec),
                api_server: registration.api_server,
                cluster_uid: registration.cluster_uid,
                version: registration.version,
                kubeconfig: Secret::new(kubeconfig),
            }),
            conditions: Mutex::default(),
            member,
            server_version: ArcSwapOption::empty(),
            places,
            watcher,
            meter,
            changes: self.changes.clone(),
            gate: Gate::default(),
            tasks,
            candidacy: Candidacy::default(),
        });
        for (namespace, place) in &connected.places {
            connected.count_shapes(namespace, &place.settings.load());
        }
        self.run(&connected);
        Ok(connected)
    }

    fn places(
        &self,
        spec: &ClusterSpec,
        member: &Arc<Member>,
        settings: &BTreeMap<Namespace, Arc<ArcSwap<Settings>>>,
    ) -> Result<BTreeMap<Namespace, Place>, String> {
        let mut places = BTreeMap::new();
        for namespace in &spec.namespaces {
            let name = &namespace.namespace;
            let (Some(settings), Some(cache), Some(maintenance), Some(acceptance)) = (
                settings.get(name),
                member.cache(name.as_str()),
                member.maintenance(name.as_str()),
                member.acceptance(name.as_str()),
            ) else {
                return Err(format!("namespace {name} is not watched"));
            };
            let controlled = Arc::new(ArcSwap::from_pointee(settings.load().controller.clone()));
            let controller = Controller::new(Parts {
                cache: Arc::clone(cache),
                nodes: Arc::clone(member.nodes()),
                maintenance: Arc::clone(maintenance),
                acceptance: Arc::clone(acceptance),
                capacity: Arc::clone(member.capacity()),
                writer: ArcSwap::from_pointee(member.idle_writer(name)),
                settings: Arc::clone(&controlled),
                tokens: Arc::clone(&self.keyed) as Arc<dyn OwnerTokens>,
                installation: Arc::clone(&self.installation),
            });
            let place = Place {
                secrets_namespace: namespace.secrets_namespace.clone(),
                settings: Arc::clone(settings),
                cache: Arc::clone(cache),
                acceptance: Arc::clone(acceptance),
                controller: Arc::new(controller),
                controlled,
            };
            places.insert(name.clone(), place);
        }
        Ok(places)
    }

    /// Spawns the tasks of a member; they end when it is closed.
    fn run(&self, connected: &Arc<Connected>) {
        let _entered = tracing::info_span!("member", cluster = %connected.member.name()).entered();
        let tasks = &connected.tasks;
        connected.member.spawn(tasks);
        let of = |act: fn(Arc<Connected>) -> BoxFuture<'static, ()>| {
            let connected = Arc::clone(connected);
            move || act(Arc::clone(&connected))
        };
        tasks.spawn(TaskName::one("health"), of(|this| Box::pin(async move { this.follow_health().await })));
        tasks.spawn(TaskName::one("canary"), of(|this| Box::pin(async move { this.keep_canary().await })));
        let (guarded, leading) = (Arc::clone(connected), self.leading.clone());
        tasks.spawn(TaskName::one("fence"), move || {
            let (guarded, leading) = (Arc::clone(&guarded), leading.clone());
            async move { guarded.guard(leading).await }
        });
        for (namespace, place) in &connected.places {
            let (connected, place) = (Arc::clone(connected), place.clone());
            let _entered = tracing::info_span!("controller", %namespace).entered();
            tasks.spawn(TaskName::of("controller", namespace.as_str()), move || {
                let (connected, place) = (Arc::clone(&connected), place.clone());
                async move { connected.control(&place).await }
            });
        }
    }
}
