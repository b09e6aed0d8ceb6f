//! A member as placement sees it: made anew only when something about it changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::fleet::settings::Settings;
use crate::view::index::Index;
use cluster::cache::{Reservation, RoomsByShape};
use domain::cluster::{Capacity, ClusterSpec};
use domain::health::Health;
use domain::names::{Namespace, WorkspaceId};
use domain::placement::capacity::Room;
use domain::placement::{Candidate, CandidateNamespace, Offer, Rooms, Target};
use domain::workspace::Kind;

use crate::fleet::Connected;

const KINDS: [Kind; 3] = [Kind::Regular, Kind::Prebuild, Kind::ImageBuild];

/// The candidate made last, and starts that are in flight and not recorded yet.
#[derive(Default)]
pub struct Candidacy {
    last: Mutex<Option<(Basis, Arc<Candidate>)>>,
    in_flight: AtomicUsize,
}

/// What a candidate is made of. Values that are swapped as a whole are compared by where they are.
struct Basis {
    spec: Arc<ClusterSpec>,
    settings: Vec<Arc<Settings>>,
    maintenance: Vec<bool>,
    closed: Vec<Option<String>>,
    health: Health,
    draining: bool,
    barred: Option<String>,
    rooms: Arc<RoomsByShape>,
    placed: usize,
}

impl PartialEq for Basis {
    fn eq(&self, other: &Self) -> bool {
        self.placed == other.placed
            && self.health == other.health
            && self.draining == other.draining
            && self.barred == other.barred
            && Arc::ptr_eq(&self.spec, &other.spec)
            && Arc::ptr_eq(&self.rooms, &other.rooms)
            && self.maintenance == other.maintenance
            && self.closed == other.closed
            && self.settings.len() == other.settings.len()
            && self.settings.iter().zip(&other.settings).all(|(one, other)| Arc::ptr_eq(one, other))
    }
}

/// A start in flight: it counts for its cluster, and holds capacity there, until its placement record does. Dropping it gives
/// both back.
#[must_use]
pub struct InFlight {
    reservation: Reservation,
    _counted: Counted,
}

/// Counts a start that is not recorded yet.
struct Counted(Arc<Connected>);

impl Counted {
    fn new(connected: &Arc<Connected>) -> Self {
        connected.candidacy.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connected))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.candidacy.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InFlight {
    /// The record is written and in the index: the index counts it from now on, and it holds the capacity.
    pub fn recorded(self) {
        self.reservation.keep();
    }
}

impl Connected {
    /// Admits a start for which the cluster has capacity, or whose capacity is no limit.
    pub fn admit(self: &Arc<Self>, target: &Target, workspace: &WorkspaceId, kind: Kind) -> Option<InFlight> {
        let must = self.spec().capacity == Capacity::Nodes;
        let (namespace, class) = (&target.namespace, target.class.as_str());
        let reservation = self.member.capacity().reserve(namespace, workspace.as_str(), class, kind, must)?;
        Some(InFlight { reservation, _counted: Counted::new(self) })
    }

    pub(super) fn candidate(&self, index: &Index, now: Timestamp) -> Arc<Candidate> {
        let basis = self.basis(index, now);
        let mut last = self.candidacy.last.lock();
        if let Some((known, candidate)) = &*last
            && *known == basis
        {
            return Arc::clone(candidate);
        }
        let candidate = Arc::new(basis.candidate());
        *last = Some((basis, Arc::clone(&candidate)));
        candidate
    }

    /// Tells what pods of the classes of a namespace ask for.
    pub(super) fn count_shapes(&self, namespace: &Namespace, settings: &Settings) {
        let shapes = settings.classes.keys().flat_map(|class| {
            KINDS.into_iter().filter_map(|kind| {
                Some((class.clone(), kind, controller::shape(&settings.controller, class, kind)?))
            })
        });
        self.member.capacity().set_shapes(namespace, shapes);
    }

    /// Why a namespace accepts no workspaces now: what its answers say, or a watch that would not show what is made there.
    fn closed(&self, namespace: &Namespace) -> Option<String> {
        let learned = self.places.get(namespace).and_then(|place| place.acceptance.closed());
        learned.or_else(|| {
            let error = self.member.workspace_watch_error(namespace)?;
            Some(format!("the watch on workspaces fails: {error}"))
        })
    }

    fn basis(&self, index: &Index, now: Timestamp) -> Basis {
        let spec = self.spec();
        let places = spec.namespaces.iter().filter_map(|namespace| self.places.get(&namespace.namespace));
        let settings = places.map(|place| place.settings.load_full()).collect();
        let maintained = |namespace: &Namespace| {
            let maintenance = self.member.maintenance(namespace.as_str());
            maintenance.is_some_and(|maintenance| maintenance.enabled_at(now))
        };
        Basis {
            maintenance: spec.namespaces.iter().map(|spec| maintained(&spec.namespace)).collect(),
            closed: spec.namespaces.iter().map(|spec| self.closed(&spec.namespace)).collect(),
            settings,
            health: self.member.health().health(),
            draining: index.is_draining(&spec.name),
            barred: self.gate.barred().or_else(|| self.member.canary().barred()),
            rooms: self.member.capacity().rooms(),
            placed: index.count_on(&spec.name) + self.candidacy.in_flight.load(Ordering::Relaxed),
            spec,
        }
    }
}

impl Basis {
    fn candidate(&self) -> Candidate {
        let spec = &self.spec;
        let of_namespaces =
            spec.namespaces.iter().zip(&self.settings).zip(&self.maintenance).zip(&self.closed);
        Candidate {
            name: spec.name.clone(),
            region: spec.region.clone(),
            labels: spec.labels.clone(),
            weight: spec.weight.min(spec.max_weight),
            capacity: spec.capacity,
            cordoned: spec.cordoned,
            draining: self.draining,
            barred: self.barred.clone(),
            health: self.health,
            constraints: spec.admission_constraints.clone(),
            namespaces: of_namespaces
                .map(|(((namespace, settings), maintenance), closed)| CandidateNamespace {
                    name: namespace.namespace.clone(),
                    offers: offers(spec, &namespace.namespace, settings, &self.rooms),
                    preferred_class: settings.preferred_class.clone(),
                    maintenance: *maintenance,
                    closed: closed.clone(),
                })
                .collect(),
            placed: self.placed,
        }
    }
}

fn offers(
    spec: &ClusterSpec,
    namespace: &Namespace,
    settings: &Settings,
    rooms: &RoomsByShape,
) -> BTreeMap<domain::names::ClassId, Offer> {
    let mut offers = BTreeMap::new();
    for class in settings.classes.values() {
        let room = |kind| {
            let key = (namespace.clone(), class.id.to_string(), kind);
            rooms.get(&key).cloned().unwrap_or(Room::Unknown)
        };
        let target = Arc::new(Target {
            cluster: spec.name.clone(),
            region: spec.region.clone(),
            namespace: namespace.clone(),
            class: class.id.clone(),
        });
        offers.insert(class.id.clone(), Offer { target, rooms: Rooms(KINDS.map(room)) });
    }
    offers
}
