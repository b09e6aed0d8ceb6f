//! What workspaces are now, read when somebody scrapes. Only the leader shows it, so that sums over replicas are right.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntGaugeVec, Opts};

use super::{PREFIX, type_label};
use crate::cluster::resources::WorkspaceType;
use crate::federation::fleet::Connected;
use crate::federation::{Federation, Lead};

/// Timeouts of their own that have a label value; users choose them freely, so that rarer ones are counted together.
const TIMEOUTS_TOLD: usize = 50;

/// Gauges of workspaces.
pub struct WorkspaceGauges {
    federation: Arc<Federation>,
    gauges: WorkspaceMetricSet,
}

/// The same without workspaces: what there is, and nothing of how it is.
pub struct WorkspaceMetricSet {
    phases: IntGaugeVec,
    timeouts: IntGaugeVec,
    utilization: GaugeVec,
    activity: IntGaugeVec,
    maintenance: IntGaugeVec,
}

impl WorkspaceMetricSet {
    /// With no values.
    pub fn new() -> Result<Self, prometheus::Error> {
        let ours = |name: &str, help: &str| Opts::new(name, help).namespace(PREFIX);
        let settings = "wsman_workspace_timeout_settings_total";
        Ok(Self {
            phases: IntGaugeVec::new(
                ours("workspace_phase_total", "Workspaces now."),
                &["cluster", "phase", "type", "class"],
            )?,
            timeouts: IntGaugeVec::new(
                Opts::new(settings, "Workspaces with a timeout of their own."),
                &["cluster", "timeout"],
            )?,
            utilization: GaugeVec::new(
                ours(
                    "workspace_node_utilization",
                    "What workspaces request of a node: `cpu` in cores, `memory` in bytes.",
                ),
                &["cluster", "node", "resource", "type"],
            )?,
            activity: IntGaugeVec::new(
                ours("workspace_activity_total", "Regular workspaces by whether a user was ever active."),
                &["cluster", "active"],
            )?,
            maintenance: IntGaugeVec::new(
                ours("maintenance_enabled", "1 where a namespace is under maintenance; of every replica."),
                &["cluster"],
            )?,
        })
    }
}

impl WorkspaceGauges {
    /// Gauges of `federation`.
    pub fn new(federation: Arc<Federation>) -> Result<Self, prometheus::Error> {
        Ok(Self { federation, gauges: WorkspaceMetricSet::new()? })
    }

    fn read(&self) {
        self.gauges.phases.reset();
        self.gauges.timeouts.reset();
        self.gauges.utilization.reset();
        self.gauges.activity.reset();
        self.gauges.maintenance.reset();
        let leads = *self.federation.lead().borrow() == Lead::Us;
        for connected in self.federation.fleet().connected() {
            self.read_maintenance(&connected);
            if leads {
                self.read_workspaces(&connected);
            }
        }
    }

    fn read_maintenance(&self, connected: &Connected) {
        let now = Timestamp::now();
        let maintained = |name: &str| connected.member.maintenance(name).is_some_and(|m| m.enabled_at(now));
        let any = connected.places().keys().any(|namespace| maintained(namespace.as_str()));
        self.gauges.maintenance.with_label_values(&[connected.member.name().as_str()]).set(i64::from(any));
    }

    fn read_workspaces(&self, connected: &Connected) {
        let cluster = connected.member.name().as_str();
        let mut requested: BTreeMap<(String, &str), (u64, u64)> = BTreeMap::new();
        for node in connected.member.nodes().nodes() {
            if let Some(workload) = node.workload {
                requested.insert((node.name.clone(), workload), (0, 0));
            }
        }
        let mut timeouts: BTreeMap<String, i64> = BTreeMap::new();
        let mut kinds: BTreeSet<(&str, String)> = BTreeSet::new();
        for active in ["true", "false"] {
            self.gauges.activity.with_label_values(&[cluster, active]).set(0);
        }
        connected.meter.for_each(|namespace, known| {
            let (phase, kind) = (format!("{:?}", known.phase), type_label(known.kind));
            if kinds.insert((kind, known.class.clone())) {
                self.federation.meters().begin(connected.member.name(), known.kind, &known.class);
            }
            self.gauges
                .phases
                .with_label_values(&[cluster, phase.as_str(), kind, known.class.as_str()])
                .inc();
            if let Some(timeout) = &known.timeout {
                *timeouts.entry(timeout.clone()).or_default() += 1;
            }
            if known.kind == WorkspaceType::Regular {
                let active = if known.active { "true" } else { "false" };
                self.gauges.activity.with_label_values(&[cluster, active]).inc();
            }
            let Some(name) = &known.node else { return };
            let settings = connected.places().get(namespace).map(|place| place.settings.load());
            let class = settings.as_ref().and_then(|settings| settings.classes.get(known.class.as_str()));
            let workload = connected.member.nodes().get(name).and_then(|node| node.workload);
            let sum = requested.entry((name.clone(), workload.unwrap_or_default())).or_default();
            if let Some(class) = class {
                sum.0 += class.requests.cpu.milli();
                sum.1 += class.requests.memory.value();
            }
        });
        for ((node, workload), (milli, bytes)) in &requested {
            #[allow(clippy::cast_precision_loss, reason = "a gauge is a double")]
            for (resource, amount) in [("cpu", *milli as f64 / 1000.0), ("memory", *bytes as f64)] {
                let labels = [cluster, node.as_str(), resource, workload];
                self.gauges.utilization.with_label_values(&labels).set(amount);
            }
        }
        for (timeout, count) in told(timeouts) {
            self.gauges.timeouts.with_label_values(&[cluster, timeout.as_str()]).set(count);
        }
    }
}

/// The most frequent ones, and the rest as `other`.
fn told(timeouts: BTreeMap<String, i64>) -> Vec<(String, i64)> {
    let mut all: Vec<(String, i64)> = timeouts.into_iter().collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rest: i64 = all.iter().skip(TIMEOUTS_TOLD).map(|(_, count)| count).sum();
    all.truncate(TIMEOUTS_TOLD);
    all.extend((rest > 0).then(|| ("other".to_owned(), rest)));
    all
}

impl Collector for WorkspaceGauges {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        self.gauges.collect()
    }
}

impl Collector for WorkspaceMetricSet {
    fn desc(&self) -> Vec<&Desc> {
        let whole = [&self.phases, &self.timeouts, &self.activity, &self.maintenance];
        whole.into_iter().flat_map(Collector::desc).chain(self.utilization.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let whole = [&self.phases, &self.timeouts, &self.activity, &self.maintenance];
        whole.into_iter().flat_map(Collector::collect).chain(self.utilization.collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_that_users_make_up_do_not_make_labels_without_end() {
        let many = (0..60).map(|minutes| (format!("{minutes}m"), if minutes == 59 { 7 } else { 1 }));
        let told = told(many.collect());
        assert_eq!(told.len(), TIMEOUTS_TOLD + 1);
        assert_eq!((&told[0], &told[TIMEOUTS_TOLD]), (&("59m".to_owned(), 7), &("other".to_owned(), 10)));
    }
}
