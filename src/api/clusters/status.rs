//! `Status`: the whole installation on one page.

use std::collections::BTreeMap;

use super::service::Clusters;
use super::{convert, drain};
use crate::convert::{number, phase, timestamp};
use federation::Lead;
use federation::clusters::capacity::CapacityOverview;
use federation::clusters::status::{ClusterOverview, Phases};
use proto::spaceport::v1;

impl Clusters {
    pub(super) async fn overview(&self) -> v1::GetStatusResponse {
        let federation = &self.federation;
        let overview = Box::pin(federation.clusters.overviews.read()).await;
        let us = federation.leadership.replica().name.clone();
        let leader = match &*federation.leadership.lead().borrow() {
            Lead::Us => us.clone(),
            Lead::Other { replica, .. } => replica.clone(),
            Lead::Nobody => String::new(),
        };
        let replicas = overview.standing.replicas.into_iter();
        let mut all = Phases::new();
        for (phase, count) in overview.clusters.iter().flat_map(|cluster| &cluster.phases) {
            *all.entry(*phase).or_default() += count;
        }
        v1::GetStatusResponse {
            answered_by: us,
            leading_since: federation.leadership.epoch().and_then(|(_, since)| since).map(timestamp),
            leader,
            replicas: replicas.map(|(name, address, epoch)| v1::Replica { name, address, epoch }).collect(),
            clusters: overview.clusters.iter().map(cluster).collect(),
            phases: phases(&all),
            strays: number(overview.strays),
            left: overview.left.iter().map(|(name, count)| (name.to_string(), number(*count))).collect(),
        }
    }
}

fn cluster(overview: &ClusterOverview) -> v1::ClusterOverview {
    v1::ClusterOverview {
        cluster: Some(convert::view(&overview.cluster)),
        capacity: overview.capacity.as_ref().map(capacity),
        phases: phases(&overview.phases),
        drain: overview.drain.as_ref().map(drain::drain),
    }
}

fn capacity(capacity: &CapacityOverview) -> v1::ClusterCapacity {
    let CapacityOverview { known, nodes, usable, allocatable, taken, waiting, rooms } = capacity;
    v1::ClusterCapacity {
        known: *known,
        nodes: number(*nodes),
        usable_nodes: number(*usable),
        cpu_milli: allocatable.cpu,
        cpu_milli_taken: taken.cpu,
        memory: allocatable.memory,
        memory_taken: taken.memory,
        pods: allocatable.pods,
        pods_taken: taken.pods,
        waiting: number(*waiting),
        rooms: rooms.clone(),
    }
}

fn phases(phases: &Phases) -> BTreeMap<String, u32> {
    let mut named = BTreeMap::new();
    for (of, count) in phases {
        // Several internal phases are one phase to clients.
        *named.entry(phase(*of).as_str_name().to_owned()).or_default() += number(*count);
    }
    named
}
