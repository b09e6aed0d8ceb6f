//! What the fleet looks like, read from the index when somebody scrapes. Labels are bounded by clusters, classes and what
//! the code itself names.
//!
//! Every replica tells what it sees; what only the leader can tell, the leader tells alone.

mod clusters;
mod drains;
mod replica;

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};

use super::{Federation, Lead};

use clusters::ClusterGauges;
use drains::DrainGauges;
use replica::ReplicaMetrics;

type Result<T> = std::result::Result<T, prometheus::Error>;

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
        let leads = *self.federation.lead().borrow() == Lead::Us;
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

fn gauge(name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
    GaugeVec::new(Opts::new(name, help).namespace("spaceport"), labels)
}

#[allow(clippy::cast_precision_loss, reason = "a gauge is a double")]
fn count(of: usize) -> f64 {
    of as f64
}

#[allow(clippy::cast_precision_loss, reason = "a gauge is a double")]
fn amount(of: u64) -> f64 {
    of as f64
}

fn one_if(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}
