//! All metrics of the node agent.

use node::agent::Meters;
use prometheus::Registry;
use prometheus::core::Collector;
use runtime::connections::ConnectionMeters;
use runtime::process::ProcessMetrics;
use runtime::readiness::Readiness;

use crate::manager::metrics::{Metric, described};

/// A registry of all metrics.
pub(super) fn registry(
    meters: &Meters,
    readiness: &Readiness,
    connections: &ConnectionMeters,
) -> anyhow::Result<Registry> {
    let registry = Registry::new();
    let all: [Box<dyn Collector>; 3] = [
        Box::new(meters.clone()),
        Box::new(ProcessMetrics::new(readiness.clone())?),
        Box::new(connections.clone()),
    ];
    for collector in all {
        registry.register(collector)?;
    }
    Ok(registry)
}

/// The metrics that only the agent has, by name.
pub fn catalogue() -> anyhow::Result<Vec<Metric>> {
    described(&[Box::new(Meters::new()?)])
}
