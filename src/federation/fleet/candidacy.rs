//! A member cluster as placement sees it: made again only when something about it changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::settings::Settings;
use domain::cluster::ClusterSpec;
use domain::health::Health;
use domain::names::Namespace;
use domain::placement::capacity::Available;
use domain::placement::{AvailableByKind, Candidate, CandidateNamespace, Offer, Target};
use domain::workspace::Kind;
use member::cache::{Reservation, RoomsByShape};

pub(super) const KINDS: [Kind; 3] = [Kind::Regular, Kind::Prebuild, Kind::ImageBuild];

/// The candidate made last, and starts that are in flight and not recorded yet.
#[derive(Default)]
pub struct Candidacy {
    last: Mutex<Option<(Basis, Arc<Candidate>)>>,
    in_flight: Arc<AtomicUsize>,
}

/// What a candidate is made of. Values that are swapped as a whole are compared by where they are.
pub(super) struct Basis {
    pub(super) spec: Arc<ClusterSpec>,
    pub(super) settings: Vec<Arc<Settings>>,
    pub(super) maintenance: Vec<bool>,
    pub(super) closed: Vec<Option<String>>,
    pub(super) last_choice: Vec<Option<String>>,
    pub(super) health: Health,
    pub(super) draining: bool,
    pub(super) barred: Option<String>,
    pub(super) rooms: Arc<RoomsByShape>,
    pub(super) placed: usize,
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
            && self.last_choice == other.last_choice
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
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Candidacy {
    /// Counts a start in flight that holds capacity.
    pub(super) fn count(&self, reservation: Reservation) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { reservation, _counted: Counted(Arc::clone(&self.in_flight)) }
    }

    /// Starts in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The candidate made of `basis`: the last one where it was made of the same.
    pub(super) fn of(&self, basis: Basis) -> Arc<Candidate> {
        let mut last = self.last.lock();
        if let Some((known, candidate)) = &*last
            && *known == basis
        {
            return Arc::clone(candidate);
        }
        let candidate = Arc::new(basis.candidate());
        *last = Some((basis, Arc::clone(&candidate)));
        candidate
    }
}

impl InFlight {
    /// The record is written and in the index: the index counts it from now on, and it holds the capacity.
    pub fn recorded(self) {
        self.reservation.keep();
    }
}

impl Basis {
    fn candidate(&self) -> Candidate {
        let spec = &self.spec;
        let learned = self.closed.iter().zip(&self.last_choice);
        let of_namespaces = spec.namespaces.iter().zip(&self.settings).zip(&self.maintenance).zip(learned);
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
                .map(|(((namespace, settings), maintenance), (closed, last_choice))| CandidateNamespace {
                    name: namespace.namespace.clone(),
                    offers: offers(spec, &namespace.namespace, settings, &self.rooms),
                    preferred_class: settings.preferred_class.clone(),
                    maintenance: *maintenance,
                    closed: closed.clone(),
                    last_choice: last_choice.clone(),
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
            rooms.get(&key).cloned().unwrap_or(Available::Unknown)
        };
        let target = Arc::new(Target {
            cluster: spec.name.clone(),
            region: spec.region.clone(),
            namespace: namespace.clone(),
            class: class.id.clone(),
        });
        offers.insert(class.id.clone(), Offer { target, rooms: AvailableByKind(KINDS.map(room)) });
    }
    offers
}
