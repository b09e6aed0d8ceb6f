//! All metrics: the registry behind `/metrics`, and the catalogue that documentation, dashboards and alerts are checked
//! against.

use std::sync::Arc;

use anyhow::Context as _;
use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};

use federation::fleet::Fleet;
use federation::{Federation, FleetMetricSet, FleetMetrics, Meters, WorkspaceGauges, WorkspaceMetricSet};
use member::client::CallMeters;
use member::tasks::TaskMeters;
use runtime::audit::AuditMeters;
use runtime::connections::ConnectionMeters;
use runtime::process::ProcessMetrics;
use runtime::readiness::Readiness;
use store::EtcdMeter;

/// One metric.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Metric {
    /// Full name; for a histogram without `_bucket`, `_sum` and `_count`.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its labels, sorted.
    pub labels: Vec<String>,
    /// Help text.
    pub help: String,
}

/// Owners of metrics.
pub(super) struct Sources<'a> {
    pub federation: &'a Arc<Federation>,
    pub limits: &'a api::Limits,
    pub calls: &'a api::Calls,
    pub members: &'a CallMeters,
    pub tasks: &'a TaskMeters,
    pub readiness: &'a Readiness,
    pub connections: &'a ConnectionMeters,
    pub refusals: &'a api::Refusals,
    pub audited: &'a AuditMeters,
}

/// A registry of all metrics.
pub(super) fn registry(of: &Sources<'_>) -> anyhow::Result<Registry> {
    let registry = Registry::new();
    let all: [Box<dyn Collector>; 12] = [
        Box::new(FleetMetrics::new(of.federation.measured.clone())?),
        Box::new(workspace_gauges(of.federation)?),
        Box::new(RegisteredClusters::new(&of.federation.fleet, of.federation.meters.clone())),
        Box::new(of.limits.counters().clone()),
        Box::new(of.calls.clone()),
        Box::new(RegisteredClusters::new(&of.federation.fleet, of.members.clone())),
        Box::new(RegisteredClusters::new(&of.federation.fleet, of.tasks.clone())),
        Box::new(of.federation.store.meter().clone()),
        Box::new(ProcessMetrics::new(of.readiness.clone())?),
        Box::new(of.connections.clone()),
        Box::new(of.refusals.clone()),
        Box::new(of.audited.clone()),
    ];
    for collector in all {
        registry.register(collector)?;
    }
    Ok(registry)
}

fn workspace_gauges(of: &Federation) -> prometheus::Result<WorkspaceGauges> {
    WorkspaceGauges::new(Arc::clone(&of.leadership), Arc::clone(&of.fleet), of.meters.clone())
}

/// Hides the counters of clusters that are not registered. The values stay: a cluster of the same name continues them.
struct RegisteredClusters<C> {
    fleet: Arc<Fleet>,
    counters: C,
}

impl<C: Collector> RegisteredClusters<C> {
    fn new(fleet: &Arc<Fleet>, counters: C) -> Self {
        Self { fleet: Arc::clone(fleet), counters }
    }
}

impl<C: Collector> Collector for RegisteredClusters<C> {
    fn desc(&self) -> Vec<&Desc> {
        self.counters.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let fleet = &self.fleet;
        let registered = |name: &str| name.parse().is_ok_and(|name| fleet.version(&name).is_some());
        let mut families = self.counters.collect();
        for family in &mut families {
            family.mut_metric().retain(|metric| {
                let cluster = metric.get_label().iter().find(|label| label.name() == "cluster");
                cluster.is_none_or(|label| registered(label.value()))
            });
        }
        families.retain(|family| !family.get_metric().is_empty());
        families
    }
}

/// Every metric, by name.
pub fn catalogue() -> anyhow::Result<Vec<Metric>> {
    let all: [Box<dyn Collector>; 12] = [
        Box::new(FleetMetricSet::new()?),
        Box::new(WorkspaceMetricSet::new()?),
        Box::new(Meters::new()?),
        Box::new(api::LimitCounters::new()?),
        Box::new(api::Calls::new()?),
        Box::new(CallMeters::new()?),
        Box::new(TaskMeters::new()?),
        Box::new(EtcdMeter::new()?),
        Box::new(ProcessMetrics::new(Readiness::default())?),
        Box::new(ConnectionMeters::new()?),
        Box::new(api::Refusals::new()?),
        Box::new(AuditMeters::new()?),
    ];
    described(&all)
}

/// The metrics of collectors, by name.
pub fn described(all: &[Box<dyn Collector>]) -> anyhow::Result<Vec<Metric>> {
    let mut metrics = Vec::new();
    for collector in all {
        let families = collector.collect();
        for description in collector.desc() {
            let family = families.iter().find(|family| family.name() == description.fq_name);
            let family = family.with_context(|| format!("{} has no family", description.fq_name))?;
            let mut labels = description.variable_labels.clone();
            labels.sort();
            metrics.push(Metric {
                name: description.fq_name.clone(),
                kind: kind(family.get_field_type()),
                labels,
                help: description.help.clone(),
            });
        }
    }
    metrics.sort();
    Ok(metrics)
}

fn kind(of: MetricType) -> &'static str {
    match of {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "untyped",
    }
}
