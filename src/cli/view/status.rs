use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::{ClusterView, DrainView, age, timestamp};
use crate::table::{Page, Table, plain, sentence, wide};
use proto::spaceport::v1::{ClusterCapacity, ClusterOverview, GetStatusResponse};

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
    /// By names of clusters that are not registered.
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
    /// The page for people: leader, clusters, problems, and drains.
    pub fn page(&self, now: Timestamp) -> Page {
        Page::of([self.head(now), self.clusters(now), self.faults(now), self.drains(now)])
    }

    fn head(&self, now: Timestamp) -> Table {
        let leader = match self.leader.as_str() {
            "" => "nobody: a takeover is under way".to_owned(),
            name => format!("{name} for {}", age(self.leading_since, now)),
        };
        let strays = if self.strays == 0 { String::new() } else { self.strays.to_string() };
        let left =
            self.left.iter().map(|(name, count)| format!("{count} of {name}, which is not registered"));
        Table::of_fields([
            ("leader", leader),
            ("replicas", self.replicas.join(", ")),
            ("workspaces", counted(&self.phases)),
            ("strays", strays),
            ("left", left.collect::<Vec<_>>().join("; ")),
            ("answered by", self.answered_by.clone()),
        ])
    }

    fn clusters(&self, now: Timestamp) -> Table {
        let mut table = Table::new([
            plain("CLUSTER"),
            wide("REGION"),
            plain("HEALTH"),
            plain("INTENT"),
            plain("WORKSPACES"),
            wide("PHASES"),
            plain("NODES"),
            plain("CPU USED"),
            plain("MEM USED"),
            wide("LAST SEEN"),
            sentence("FITS"),
        ]);
        for overview in &self.clusters {
            let (region, health, last_seen, intent) = overview.cluster.summary();
            let capacity = overview.capacity.as_ref().filter(|capacity| capacity.known);
            let of = |show: fn(&CapacityView) -> String| capacity.map(show).unwrap_or_default();
            table.row([
                overview.cluster.name.clone(),
                region.to_owned(),
                health.to_owned(),
                intent,
                overview.phases.values().sum::<u32>().to_string(),
                in_phases(&overview.phases),
                of(|capacity| format!("{}/{}", capacity.usable_nodes, capacity.nodes)),
                of(|capacity| share(capacity.cpu_milli_taken, capacity.cpu_milli)),
                of(|capacity| share(capacity.memory_taken, capacity.memory)),
                age(last_seen, now),
                of(|capacity| {
                    let rooms = capacity.rooms.iter().map(|(class, left)| format!("{left} {class}"));
                    rooms.collect::<Vec<_>>().join(", ")
                }),
            ]);
        }
        table
    }

    fn faults(&self, now: Timestamp) -> Table {
        let mut table = Table::new([plain("CLUSTER"), plain("NOT FINE"), plain("FOR"), sentence("WHY")]);
        for overview in &self.clusters {
            for (kind, since, why) in overview.cluster.faults() {
                table.row([overview.cluster.name.clone(), kind.to_owned(), age(since, now), why]);
            }
        }
        table
    }

    fn drains(&self, now: Timestamp) -> Table {
        let columns = [plain("DRAIN OF"), plain("STATE"), plain("LEFT"), plain("ENDS"), sentence("WHY")];
        let mut table = Table::new(columns);
        for drain in self.clusters.iter().filter_map(|overview| overview.drain.as_ref()) {
            table.row(drain.summary(now));
        }
        table
    }
}

/// Such as `12: 10 running, 2 stopping`.
fn counted(phases: &BTreeMap<String, u32>) -> String {
    let all: u32 = phases.values().sum();
    if all == 0 { "0".to_owned() } else { format!("{all}: {}", in_phases(phases)) }
}

/// Such as `10 running, 2 stopping`.
fn in_phases(phases: &BTreeMap<String, u32>) -> String {
    let each = phases.iter().map(|(phase, count)| format!("{count} {}", phase.to_lowercase()));
    each.collect::<Vec<_>>().join(", ")
}

/// Used share in percent.
fn share(taken: u64, all: u64) -> String {
    format!("{}%", u128::from(taken) * 100 / u128::from(all.max(1)))
}
