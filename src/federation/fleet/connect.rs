//! Connecting a registered cluster: its client, caches, controllers and tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::callbacks::{Callbacks, MemberObserver};
use super::candidacy::Candidacy;
use super::connected::{Connected, InUse, Place};
use super::gate::Gate;
use super::settings::{Defaults, Settings};
use super::watcher::{Obstacles, Watcher};
use crate::leadership::Leading;
use crate::view::index::Index;
use controller::{Controller, OwnerTokens, Parts};
use domain::cluster::ClusterSpec;
use domain::names::{ClusterName, Namespace};
use domain::secret::Secret;
use domain::signing::SigningKeys;
use host::Host;
use member::cache::Observer;
use member::tasks::{TaskName, Tasks};
use member::{Member, MemberOptions};
use store::Registration;

/// What is the same for every member.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// Client, probes and health.
    pub member: MemberOptions,
    /// The manager's configuration for namespaces.
    pub defaults: Arc<ArcSwap<Defaults>>,
    /// The cluster that the manager itself runs in, where it knows one.
    pub host: Option<Arc<Host>>,
}

/// Connects member clusters.
pub(super) struct Connector {
    pub(super) options: FleetOptions,
    pub(super) index: Arc<Index>,
    pub(super) keyed: Arc<ArcSwap<SigningKeys>>,
    /// This installation's id.
    pub(super) installation: Arc<str>,
    pub(super) leading: watch::Receiver<Option<Leading>>,
    pub(super) callbacks: Arc<dyn Callbacks>,
    /// Wakes who waits for changes of the fleet.
    pub(super) changes: watch::Sender<()>,
}

impl Connector {
    pub(super) fn tasks_of(&self, name: &ClusterName) -> Arc<Tasks> {
        let (meters, changes) = (self.options.member.tasks.clone(), self.changes.clone());
        Tasks::new(name.clone(), meters, changes, CancellationToken::new())
    }

    pub(super) fn connect(&self, registration: Registration) -> Result<Arc<Connected>, String> {
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
            callbacks: Arc::clone(&self.callbacks),
            settings: settings.clone(),
            installation: Arc::clone(&self.installation),
            changes: self.changes.clone(),
            controllers: RwLock::default(),
        });
        let observer = self.callbacks.observer(&spec.name);
        let observers: [Arc<dyn Observer>; 2] =
            [Arc::<Watcher>::clone(&watcher), Arc::<dyn MemberObserver>::clone(&observer)];
        let mark = self.callbacks.noted_canary(&spec.name);
        let member = Member::connect(spec.clone(), text, self.options.member.clone(), &observers, mark)
            .map_err(|error| error.to_string())?;
        let member = Arc::new(member);
        let places = self.places(&spec, &member, &settings, &watcher)?;
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
            observer,
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
        watcher: &Arc<Watcher>,
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
                obstacles: Arc::new(Obstacles { watcher: Arc::clone(watcher), namespace: name.clone() }),
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
