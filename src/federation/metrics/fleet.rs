//! What the fleet looks like, read from the index when somebody scrapes. Labels are bounded by clusters, classes and what
//! the code itself names.
//!
//! Every replica tells what it sees; what only the leader can tell, the leader tells alone.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use crate::{Federation, Lead};

use crate::metrics::clusters::ClusterGauges;
use crate::metrics::drains::DrainGauges;
use crate::metrics::gauge::Result;
use crate::metrics::replica::ReplicaMetrics;

/// Metrics of the fleet.
pub struct FleetMetrics {
    federation: Arc<Federation>,
    metrics: FleetMetricSet,
}

/// The same without a fleet: what there is, and nothing of how it is.
pub struct FleetMetricSet {
    replica: ReplicaMetrics,
    clusters: ClusterGauges,
    drains: DrainGauges,
}

impl FleetMetrics {
    /// Metrics of `federation`.
    pub fn new(federation: Arc<Federation>) -> Result<Self> {
        Ok(Self { federation, metrics: FleetMetricSet::new()? })
    }

    fn read(&self) {
        let leads = *self.federation.leadership.lead().borrow() == Lead::Us;
        self.metrics.replica.read(&self.federation, leads);
        let vitals = self.federation.vitals();
        self.metrics.clusters.read(&self.federation, &vitals, leads);
        self.metrics.drains.read(&self.federation, &vitals);
    }
}

impl FleetMetricSet {
    /// With no values.
    pub fn new() -> Result<Self> {
        Ok(Self {
            replica: ReplicaMetrics::new()?,
            clusters: ClusterGauges::new()?,
            drains: DrainGauges::new()?,
        })
    }

    fn all(&self) -> impl Iterator<Item = &dyn Collector> {
        self.replica.all().into_iter().chain(self.clusters.all()).chain(self.drains.all())
    }
}

impl Collector for FleetMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.metrics.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        self.metrics.collect()
    }
}

impl Collector for FleetMetricSet {
    fn desc(&self) -> Vec<&Desc> {
        self.all().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.all().flat_map(Collector::collect).collect()
    }
}
