//! Member clusters: how each is, what it has left, and what is placed there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use prometheus::GaugeVec;
use prometheus::core::Collector;

use super::gauge::{Result, amount, count, gauge, one_if};
use crate::clusters::capacity::{capacity_of, left};
use crate::clusters::cluster_metrics::Vitals;
use crate::clusters::notes::Notes;
use crate::fleet::{Connected, Fleet, Place};
use crate::metrics::metering::Meters;
use crate::view::index::Index;
use domain::condition::State;
use domain::drain::Stage;
use domain::health::Health;
use domain::names::ClassId;
use domain::placement::{PlacementRequest, place};

const HEALTHS: [Health; 4] = [Health::Connecting, Health::Available, Health::Suspect, Health::Lost];
const WORKSPACES: &str = "Workspaces of a cluster by phase: `Unknown`, `Pending`, `Imagebuild`, `Creating`, \
             `Initializing`, `Running`, `Stopping`, `Stopped`.";
const CONDITIONS: &str = "1 for each condition of a cluster that is true, 0 where it is false or unknown: \
             `Available`, `Writable`, `CanarySeen`, `NamespacesActive`, `WorkspacesAccepted`, \
             `PodsAccepted`, `Synced`, `HistoryIntact`, `LoginLasts`, `MaintenanceRead`, \
             `ClassesAgree`, `NoStrays`, `TasksRunning`; `LoginCurrent` only if its kubeconfig is in \
             a Secret; `Usable` only of a registration that cannot be used.";
const INTENTS: [&str; 4] = ["Active", "Cordoned", "Draining", "Drained"];

/// What is measured of clusters.
#[derive(Clone)]
pub(crate) struct ClusterSources {
    pub(crate) index: Arc<Index>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) meters: Meters,
    pub(crate) notes: Arc<Notes>,
}

/// Gauges of clusters.
pub(super) struct ClusterGauges {
    info: GaugeVec,
    health: GaugeVec,
    conditions: GaugeVec,
    intent: GaugeVec,
    last_answer: GaugeVec,
    login_end: GaugeVec,
    rewinds: GaugeVec,
    canary: GaugeVec,
    workspaces: GaugeVec,
    placed: GaugeVec,
    strays: GaugeVec,
    nodes: GaugeVec,
    allocatable: GaugeVec,
    taken: GaugeVec,
    room: GaugeVec,
    placeable: GaugeVec,
    failing: GaugeVec,
    queued: GaugeVec,
}

impl ClusterGauges {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            info: gauge(
                "cluster_info",
                "1, with the region of a cluster and the version of its Kubernetes.",
                &["cluster", "region", "version"],
            )?,
            health: gauge(
                "cluster_health",
                "1 for the current health of a cluster: `Connecting`, `Available`, `Suspect`, `Lost`.",
                &["cluster", "health"],
            )?,
            conditions: gauge("cluster_condition", CONDITIONS, &["cluster", "condition"])?,
            intent: gauge(
                "cluster_intent",
                "1 for the intent that an admin set for a cluster: `Active`, `Cordoned`, `Draining`, \
             `Drained`.",
                &["cluster", "intent"],
            )?,
            last_answer: gauge(
                "cluster_last_answer_seconds",
                "Seconds since a cluster last answered; absent until its first answer.",
                &["cluster"],
            )?,
            login_end: gauge(
                "cluster_login_end_timestamp_seconds",
                "When the login for a cluster expires, in seconds since 1970; absent if it does not \
             expire.",
                &["cluster"],
            )?,
            rewinds: gauge(
                "cluster_rewinds",
                "How often a restore of a cluster from a backup was detected since the cluster was \
             registered.",
                &["cluster"],
            )?,
            canary: gauge(
                "cluster_canary_seconds",
                "Seconds from the last write to the canary Lease until a watch delivered it; of the \
             leader.",
                &["cluster"],
            )?,
            workspaces: gauge("workspaces", WORKSPACES, &["cluster", "phase"])?,
            placed: gauge(
                "placements_live",
                "Live placement records, including those under names of deregistered clusters.",
                &["cluster"],
            )?,
            strays: gauge(
                "strays",
                "Workspaces of this installation without a placement record (orphans), older than 10 s.",
                &["cluster"],
            )?,
            nodes: gauge(
                "cluster_nodes",
                "Nodes of a cluster: `true` those that are ready and not cordoned, `false` the others.",
                &["cluster", "usable"],
            )?,
            allocatable: gauge(
                "cluster_allocatable",
                "Allocatable resources of the usable nodes of a cluster: `cpu` in cores, `memory` in \
             bytes, `pods`.",
                &["cluster", "resource"],
            )?,
            taken: gauge(
                "cluster_taken",
                "Requests and reservations on the usable nodes of a cluster: `cpu` in cores, `memory` in \
             bytes, `pods`.",
                &["cluster", "resource"],
            )?,
            room: gauge(
                "cluster_room",
                "How many more regular workspaces of a class fit on the nodes of a cluster if no other \
             class is started; if namespaces differ, the largest number. Absent until nodes and pods \
             were listed.",
                &["cluster", "class"],
            )?,
            placeable: gauge(
                "placeable_clusters",
                "Clusters that would accept a regular workspace now from a caller without permissions; \
             of the leader.",
                &["class"],
            )?,
            failing: gauge(
                "reconcile_failing",
                "Workspaces whose reconciliation failed five times in a row or more; of the leader.",
                &["cluster"],
            )?,
            queued: gauge(
                "reconcile_waiting",
                "Workspaces that wait to be reconciled; of the leader.",
                &["cluster"],
            )?,
        })
    }

    pub(super) fn all(&self) -> Vec<&dyn Collector> {
        self.gauges().into_iter().map(|gauges| -> &dyn Collector { gauges }).collect()
    }

    fn gauges(&self) -> [&GaugeVec; 18] {
        [
            &self.info,
            &self.health,
            &self.conditions,
            &self.intent,
            &self.last_answer,
            &self.login_end,
            &self.rewinds,
            &self.canary,
            &self.workspaces,
            &self.placed,
            &self.strays,
            &self.nodes,
            &self.allocatable,
            &self.taken,
            &self.room,
            &self.placeable,
            &self.failing,
            &self.queued,
        ]
    }

    pub(super) fn read(&self, of: &ClusterSources, clusters: &[Vitals], leads: bool) {
        self.gauges().into_iter().for_each(GaugeVec::reset);
        for (cluster, phases) in of.index.phases() {
            for (phase, many) in phases {
                self.workspaces
                    .with_label_values(&[cluster.as_str(), &format!("{phase:?}")])
                    .set(count(many));
            }
        }
        let now = Timestamp::now();
        for cluster in clusters {
            self.show(of, cluster, now);
        }
        for (name, many) in left(&of.fleet, &of.index) {
            self.placed.with_label_values(&[name.as_str()]).set(count(many));
        }
        for connected in of.fleet.connected() {
            self.show_member(of, &connected, leads);
        }
        if leads {
            for (class, clusters) in placeable(of) {
                self.placeable.with_label_values(&[class.as_str()]).set(count(clusters));
            }
        }
    }

    fn show(&self, of: &ClusterSources, cluster: &Vitals, now: Timestamp) {
        let name = cluster.spec.name.as_str();
        let labels = [name, cluster.spec.region.as_str(), cluster.server_version.as_str()];
        self.info.with_label_values(&labels).set(1.0);
        for health in HEALTHS {
            let holds = one_if(cluster.health == health);
            self.health.with_label_values(&[name, &format!("{health:?}")]).set(holds);
        }
        for condition in &cluster.conditions {
            let gauge = self.conditions.with_label_values(&[name, condition.kind]);
            gauge.set(one_if(condition.state == State::True));
        }
        for intent in INTENTS {
            self.intent.with_label_values(&[name, intent]).set(one_if(intent == intended(cluster)));
        }
        if let Some(answer) = cluster.last_answer {
            let ago = now.duration_since(answer).as_secs_f64().max(0.0);
            self.last_answer.with_label_values(&[name]).set(ago);
        }
        if let Some(round) = cluster.canary {
            self.canary.with_label_values(&[name]).set(round.as_secs_f64());
        }
        self.placed.with_label_values(&[name]).set(count(cluster.placed));
        self.strays.with_label_values(&[name]).set(count(cluster.strays));
        let rewinds = of.notes.rewinds_of(&cluster.spec.name);
        self.rewinds.with_label_values(&[name]).set(f64::from(rewinds));
    }

    fn show_member(&self, of: &ClusterSources, connected: &Connected, leads: bool) {
        let member = &connected.member;
        let name = member.name().as_str();
        if let Some(ends) = member.login_ends() {
            self.login_end.with_label_values(&[name]).set(ends.as_duration().as_secs_f64());
        }
        if let Some(capacity) = capacity_of(&of.fleet, member.name()).filter(|capacity| capacity.known) {
            let unusable = capacity.nodes.saturating_sub(capacity.usable);
            for (usable, nodes) in [("true", capacity.usable), ("false", unusable)] {
                self.nodes.with_label_values(&[name, usable]).set(count(nodes));
            }
            for (gauge, of) in [(&self.allocatable, capacity.allocatable), (&self.taken, capacity.taken)] {
                gauge.with_label_values(&[name, "cpu"]).set(amount(of.cpu) / 1000.0);
                gauge.with_label_values(&[name, "memory"]).set(amount(of.memory));
                gauge.with_label_values(&[name, "pods"]).set(amount(of.pods));
            }
            for (class, room) in &capacity.rooms {
                self.room.with_label_values(&[name, class]).set(amount(*room));
            }
        }
        if leads {
            of.meters.begin_cluster(member.name());
            let at_work = connected.places().values().map(Place::at_work);
            let (failing, queued) = at_work.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
            self.failing.with_label_values(&[name]).set(count(failing));
            self.queued.with_label_values(&[name]).set(count(queued));
        }
    }
}

fn intended(cluster: &Vitals) -> &'static str {
    match cluster.drain {
        Some(Stage::Draining | Stage::Paused) => "Draining",
        Some(Stage::Drained) => "Drained",
        Some(Stage::Cancelled) | None if cluster.spec.cordoned => "Cordoned",
        Some(Stage::Cancelled) | None => "Active",
    }
}

/// For each class how many clusters would take a workspace of it: placement itself is asked.
fn placeable(of: &ClusterSources) -> BTreeMap<ClassId, usize> {
    let candidates = of.fleet.candidates();
    let namespaces = candidates.iter().flat_map(|candidate| &candidate.namespaces);
    let classes: BTreeSet<ClassId> =
        namespaces.flat_map(|namespace| namespace.offers.keys().cloned()).collect();
    let takers = |class: ClassId| {
        let request = PlacementRequest { class: Some(class.clone()), ..PlacementRequest::default() };
        (class, place(&request, &candidates).ranked.len())
    };
    classes.into_iter().map(takers).collect()
}
