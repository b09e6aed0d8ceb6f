//! Gauges of the fleet, read from the index on every scrape. Labels are bounded by clusters, classes and
//! constants.
//!
//! Every replica exports what it sees; what only the leader knows, only the leader exports.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::clusters::{ClusterGauges, ClusterSources};
use super::drains::DrainGauges;
use super::gauge::Result;
use super::replica::{ReplicaMetrics, ReplicaSources};
use crate::clusters::drain::Drains;
use crate::clusters::view::Views;
use crate::leadership::{Lead, Leadership};

/// What is measured.
#[derive(Clone)]
pub struct FleetSources {
    pub(crate) leadership: Arc<Leadership>,
    pub(crate) views: Arc<Views>,
    pub(crate) drains: Arc<Drains>,
    pub(crate) replica: ReplicaSources,
    pub(crate) clusters: ClusterSources,
}

/// Metrics of the fleet.
pub struct FleetMetrics {
    sources: FleetSources,
    metrics: FleetMetricSet,
}

/// The same without a fleet: what there is, and nothing of how it is.
pub struct FleetMetricSet {
    replica: ReplicaMetrics,
    clusters: ClusterGauges,
    drains: DrainGauges,
}

impl FleetMetrics {
    /// Metrics of `sources`.
    pub fn new(sources: FleetSources) -> Result<Self> {
        Ok(Self { sources, metrics: FleetMetricSet::new()? })
    }

    fn read(&self) {
        let of = &self.sources;
        let leads = *of.leadership.lead().borrow() == Lead::Us;
        self.metrics.replica.read(&of.replica, leads);
        let vitals = of.views.vitals();
        self.metrics.clusters.read(&of.clusters, &vitals, leads);
        self.metrics.drains.read(&of.drains, &vitals);
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
