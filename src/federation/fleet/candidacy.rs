//! A member as placement sees it: made anew only when something about it changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::cluster::cache::RoomsByShape;
use crate::controller;
use crate::domain::cluster::ClusterSpec;
use crate::domain::health::Health;
use crate::domain::names::Namespace;
use crate::domain::placement::capacity::Room;
use crate::domain::placement::{Candidate, CandidateNamespace, Offer, Rooms, Target};
use crate::domain::workspace::Kind;
use crate::federation::index::Index;
use crate::federation::settings::Settings;

use super::Connected;

const KINDS: [Kind; 3] = [Kind::Regular, Kind::Prebuild, Kind::ImageBuild];

/// The candidate made last, and starts that are under way and not recorded yet.
#[derive(Default)]
pub struct Candidacy {
    last: Mutex<Option<(Basis, Arc<Candidate>)>>,
    under_way: AtomicUsize,
}

/// What a candidate is made of. Values that are swapped as a whole are compared by where they are.
struct Basis {
    spec: Arc<ClusterSpec>,
    settings: Vec<Arc<Settings>>,
    maintenance: Vec<bool>,
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
            && self.settings.len() == other.settings.len()
            && self.settings.iter().zip(&other.settings).all(|(one, other)| Arc::ptr_eq(one, other))
    }
}

/// A start that counts for its cluster until its record does.
pub struct UnderWay(Arc<Connected>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.candidacy.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connected {
    /// Counts a start until the guard is dropped.
    pub fn under_way(self: &Arc<Self>) -> UnderWay {
        self.candidacy.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
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

    fn basis(&self, index: &Index, now: Timestamp) -> Basis {
        let spec = self.spec.load_full();
        let places = spec.namespaces.iter().filter_map(|namespace| self.places.get(&namespace.namespace));
        let settings = places.map(|place| place.settings.load_full()).collect();
        let maintained = |namespace: &Namespace| {
            let maintenance = self.member.maintenance(namespace.as_str());
            maintenance.is_some_and(|maintenance| maintenance.enabled_at(now))
        };
        Basis {
            maintenance: spec.namespaces.iter().map(|spec| maintained(&spec.namespace)).collect(),
            settings,
            health: self.member.health().health(),
            draining: index.is_draining(&spec.name),
            barred: self.gate.barred().or_else(|| self.member.canary().barred()),
            rooms: self.member.capacity().rooms(),
            placed: index.count_on(&spec.name) + self.candidacy.under_way.load(Ordering::Relaxed),
            spec,
        }
    }
}

impl Basis {
    fn candidate(&self) -> Candidate {
        let spec = &self.spec;
        let of_namespaces = spec.namespaces.iter().zip(&self.settings).zip(&self.maintenance);
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
                .map(|((namespace, settings), maintenance)| CandidateNamespace {
                    name: namespace.namespace.clone(),
                    offers: offers(spec, &namespace.namespace, settings, &self.rooms),
                    preferred_class: settings.preferred_class.clone(),
                    maintenance: *maintenance,
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
) -> BTreeMap<crate::domain::names::ClassId, Offer> {
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
