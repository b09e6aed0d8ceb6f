//! The fleet as placement sees it, and starts that are admitted to a member cluster.

use std::sync::Arc;

use jiff::Timestamp;

use super::candidacy::{Basis, InFlight, KINDS};
use super::connected::Connected;
use super::members::Fleet;
use super::settings::Settings;
use crate::view::index::Index;
use domain::cluster::Capacity;
use domain::names::{Namespace, WorkspaceId};
use domain::placement::{Candidate, Target};
use domain::workspace::Kind;

impl Fleet {
    /// The fleet as placement sees it.
    pub fn candidates(&self) -> Vec<Arc<Candidate>> {
        let now = Timestamp::now();
        self.connected().iter().map(|connected| connected.candidate(&self.index, now)).collect()
    }
}

impl Connected {
    /// Admits a start for which the cluster has capacity, or whose capacity is no limit.
    pub fn admit(self: &Arc<Self>, target: &Target, workspace: &WorkspaceId, kind: Kind) -> Option<InFlight> {
        let must = self.spec().capacity == Capacity::Nodes;
        let (namespace, class) = (&target.namespace, target.class.as_str());
        let reservation = self.member.capacity().reserve(namespace, workspace.as_str(), class, kind, must)?;
        Some(self.candidacy.count(reservation))
    }

    pub(super) fn candidate(&self, index: &Index, now: Timestamp) -> Arc<Candidate> {
        self.candidacy.of(self.basis(index, now))
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

    fn last_choice(&self, namespace: &Namespace) -> Option<String> {
        self.places.get(namespace)?.acceptance.last_choice()
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
            last_choice: spec.namespaces.iter().map(|spec| self.last_choice(&spec.namespace)).collect(),
            settings,
            health: self.member.health().health(),
            draining: index.is_draining(&spec.name),
            barred: self.gate.barred().or_else(|| self.member.canary().barred()),
            rooms: self.member.capacity().rooms(),
            placed: index.count_on(&spec.name) + self.candidacy.in_flight(),
            spec,
        }
    }
}
