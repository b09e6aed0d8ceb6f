use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::{ClusterView, DrainView, age, timestamp};
use crate::cli::table::Table;
use crate::proto::spaceport::v1::{ClusterCapacity, ClusterOverview, GetStatusResponse};

/// The whole installation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusPage {
    answered_by: String,
    leader: String,
    leading_since: Option<Timestamp>,
    replicas: Vec<String>,
    phases: BTreeMap<String, u32>,
    strays: u32,
    /// By names that are not registered.
    left: BTreeMap<String, u32>,
    clusters: Vec<Overview>,
}

#[derive(Debug, Serialize)]
struct Overview {
    #[serde(flatten)]
    cluster: ClusterView,
    #[serde(rename = "capacityLeft")]
    capacity: Option<CapacityView>,
    phases: BTreeMap<String, u32>,
    drain: Option<DrainView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CapacityView {
    known: bool,
    nodes: u32,
    usable_nodes: u32,
    cpu_milli: u64,
    cpu_milli_taken: u64,
    memory: u64,
    memory_taken: u64,
    pods: u64,
    pods_taken: u64,
    waiting: u32,
    rooms: BTreeMap<String, u64>,
}

impl From<GetStatusResponse> for StatusPage {
    fn from(status: GetStatusResponse) -> Self {
        Self {
            leading_since: timestamp(status.leading_since.as_ref()),
            answered_by: status.answered_by,
            leader: status.leader,
            replicas: status.replicas.into_iter().map(|replica| replica.name).collect(),
            phases: status.phases,
            strays: status.strays,
            left: status.left,
            clusters: status.clusters.into_iter().map(Overview::from).collect(),
        }
    }
}

impl From<ClusterOverview> for Overview {
    fn from(overview: ClusterOverview) -> Self {
        Self {
            cluster: overview.cluster.unwrap_or_default().into(),
            capacity: overview.capacity.map(CapacityView::from),
            phases: overview.phases,
            drain: overview.drain.map(DrainView::from),
        }
    }
}

impl From<ClusterCapacity> for CapacityView {
    fn from(capacity: ClusterCapacity) -> Self {
        Self {
            known: capacity.known,
            nodes: capacity.nodes,
            usable_nodes: capacity.usable_nodes,
            cpu_milli: capacity.cpu_milli,
            cpu_milli_taken: capacity.cpu_milli_taken,
            memory: capacity.memory,
            memory_taken: capacity.memory_taken,
            pods: capacity.pods,
            pods_taken: capacity.pods_taken,
            waiting: capacity.waiting,
            rooms: capacity.rooms,
        }
    }
}

impl StatusPage {
    /// The page for people: who leads, the clusters, what is wrong, and the drains.
    pub fn page(&self, now: Timestamp) -> String {
        let leader = match self.leader.as_str() {
            "" => "nobody: a takeover is under way".to_owned(),
            name => format!("{name} for {}", age(self.leading_since, now)),
        };
        let strays = if self.strays == 0 { String::new() } else { self.strays.to_string() };
        let left =
            self.left.iter().map(|(name, count)| format!("{count} of {name}, which is not registered"));
        let head = Table::of_fields([
            ("leader", leader),
            ("replicas", self.replicas.join(", ")),
            ("workspaces", counted(&self.phases)),
            ("strays", strays),
            ("left", left.collect::<Vec<_>>().join("; ")),
            ("answered by", self.answered_by.clone()),
        ]);
        let mut page = head.to_string();
        for (table, rows) in [self.clusters(now), self.faults(now), self.drains(now)] {
            if rows > 0 {
                page.push('\n');
                page.push_str(&table.to_string());
            }
        }
        page
    }

    fn clusters(&self, now: Timestamp) -> (Table, usize) {
        let titles = [
            "CLUSTER",
            "REGION",
            "HEALTH",
            "INTENT",
            "WORKSPACES",
            "NODES",
            "CPU",
            "MEMORY",
            "ROOM FOR",
            "LAST SEEN",
        ];
        let mut table = Table::new(titles);
        for overview in &self.clusters {
            let (region, health, last_seen, intent) = overview.cluster.summary();
            let capacity = overview.capacity.as_ref().filter(|capacity| capacity.known);
            let of = |show: fn(&CapacityView) -> String| capacity.map(show).unwrap_or_default();
            table.row([
                overview.cluster.name.clone(),
                region.to_owned(),
                health.to_owned(),
                intent,
                counted(&overview.phases),
                of(|capacity| format!("{}/{}", capacity.usable_nodes, capacity.nodes)),
                of(|capacity| share(capacity.cpu_milli_taken, capacity.cpu_milli)),
                of(|capacity| share(capacity.memory_taken, capacity.memory)),
                of(|capacity| {
                    let rooms = capacity.rooms.iter().map(|(class, left)| format!("{left} {class}"));
                    rooms.collect::<Vec<_>>().join(", ")
                }),
                age(last_seen, now),
            ]);
        }
        (table, self.clusters.len())
    }

    fn faults(&self, now: Timestamp) -> (Table, usize) {
        let (mut table, mut rows) = (Table::new(["CLUSTER", "NOT FINE", "FOR", "WHY"]), 0);
        for overview in &self.clusters {
            for (kind, since, why) in overview.cluster.faults() {
                table.row([overview.cluster.name.clone(), kind.to_owned(), age(since, now), why]);
                rows += 1;
            }
        }
        (table, rows)
    }

    fn drains(&self, now: Timestamp) -> (Table, usize) {
        let (mut table, mut rows) = (Table::new(["DRAIN OF", "STATE", "LEFT", "ENDS", "WHY"]), 0);
        for drain in self.clusters.iter().filter_map(|overview| overview.drain.as_ref()) {
            table.row(drain.summary(now));
            rows += 1;
        }
        (table, rows)
    }
}

/// Such as `12: 10 running, 2 stopping`.
fn counted(phases: &BTreeMap<String, u32>) -> String {
    let all: u32 = phases.values().sum();
    let each: Vec<String> =
        phases.iter().map(|(phase, count)| format!("{count} {}", phase.to_lowercase())).collect();
    if each.is_empty() { "0".to_owned() } else { format!("{all}: {}", each.join(", ")) }
}

/// What is taken of it, in hundredths.
fn share(taken: u64, all: u64) -> String {
    let hundredths = u128::from(taken) * 100 / u128::from(all.max(1));
    format!("{hundredths} % taken")
}
