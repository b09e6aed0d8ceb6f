//! Gauges of workspaces, read on every scrape. Only the leader exports them, so that sums over replicas are
//! right.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntGaugeVec, Opts};

use crate::fleet::{Connected, Fleet};
use crate::leadership::{Lead, Leadership};
use crate::metrics::metering::transitions::Known;
use crate::metrics::metering::{Meter, Meters, PREFIX, type_label};
use domain::names::Namespace;
use domain::pod::NodeFacts;
use domain::workspace::{Kind, Phase};

/// Timeouts of their own that have a label value; users choose them freely, so that rarer ones are counted together.
const TIMEOUTS_TOLD: usize = 50;

/// Gauges of workspaces.
pub struct WorkspaceGauges {
    leadership: Arc<Leadership>,
    fleet: Arc<Fleet>,
    meters: Meters,
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
                ours("workspace_phase_total", "Current workspaces by phase."),
                &["cluster", "phase", "type", "class"],
            )?,
            timeouts: IntGaugeVec::new(
                Opts::new(settings, "Workspaces with a timeout of their own."),
                &["cluster", "timeout"],
            )?,
            utilization: GaugeVec::new(
                ours(
                    "workspace_node_utilization",
                    "Requests of workspaces on a node: `cpu` in cores, `memory` in bytes.",
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
    /// Gauges of the workspaces of `fleet`.
    pub fn new(
        leadership: Arc<Leadership>,
        fleet: Arc<Fleet>,
        meters: Meters,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self { leadership, fleet, meters, gauges: WorkspaceMetricSet::new()? })
    }

    fn read(&self) {
        self.gauges.phases.reset();
        self.gauges.timeouts.reset();
        self.gauges.utilization.reset();
        self.gauges.activity.reset();
        self.gauges.maintenance.reset();
        let leads = *self.leadership.lead().borrow() == Lead::Us;
        for connected in self.fleet.connected() {
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
        let mut counts = Counts::new(connected);
        let observer: &dyn Any = &*connected.observer;
        if let Some(meter) = observer.downcast_ref::<Meter>() {
            meter.for_each(|namespace, known| counts.take(namespace, known));
        }
        for (phase, kind, class, count) in counts.phases {
            self.meters.begin(connected.member.name(), kind, &class);
            let labels = [cluster, &format!("{phase:?}"), type_label(kind), class.as_str()];
            self.gauges.phases.with_label_values(&labels).set(count);
        }
        for (active, count) in [("true", counts.active), ("false", counts.inactive)] {
            self.gauges.activity.with_label_values(&[cluster, active]).set(count);
        }
        for (node, (workload, milli, bytes)) in counts.requested {
            #[allow(clippy::cast_precision_loss, reason = "a gauge is a double")]
            for (resource, amount) in [("cpu", milli as f64 / 1000.0), ("memory", bytes as f64)] {
                let labels = [cluster, node.as_str(), resource, workload];
                self.gauges.utilization.with_label_values(&labels).set(amount);
            }
        }
        for (timeout, count) in told(counts.timeouts) {
            self.gauges.timeouts.with_label_values(&[cluster, timeout.as_str()]).set(count);
        }
    }
}

/// What is counted while the meter's lock is held: nothing is copied but what is new.
struct Counts<'a> {
    connected: &'a Connected,
    /// By phase, type and class: a handful, found sooner by looking than by hashing.
    phases: Vec<(Phase, Kind, String, i64)>,
    active: i64,
    inactive: i64,
    timeouts: HashMap<String, i64>,
    /// Of a node: what it is for, and what is requested of it in thousandths of a core and bytes.
    requested: HashMap<String, (&'static str, u64, u64)>,
}

impl<'a> Counts<'a> {
    fn new(connected: &'a Connected) -> Self {
        let of = |node: &Arc<NodeFacts>| Some((node.name.clone(), (node.workload?, 0, 0)));
        Self {
            connected,
            phases: Vec::new(),
            active: 0,
            inactive: 0,
            timeouts: HashMap::new(),
            requested: connected.member.nodes().nodes().iter().filter_map(of).collect(),
        }
    }

    fn take(&mut self, namespace: &Namespace, known: &Known) {
        let alike = self.phases.iter_mut().find(|(phase, kind, class, _)| {
            (*phase, *kind) == (known.phase, known.kind) && *class == known.class
        });
        match alike {
            Some((.., count)) => *count += 1,
            None => self.phases.push((known.phase, known.kind, known.class.clone(), 1)),
        }
        if let Some(timeout) = &known.timeout {
            *self.timeouts.entry(timeout.clone()).or_default() += 1;
        }
        if known.kind == Kind::Regular {
            *(if known.active { &mut self.active } else { &mut self.inactive }) += 1;
        }
        let Some(name) = &known.node else { return };
        if !self.requested.contains_key(name) {
            let workload = self.connected.member.nodes().get(name).and_then(|node| node.workload);
            self.requested.insert(name.clone(), (workload.unwrap_or_default(), 0, 0));
        }
        let settings = self.connected.places().get(namespace).map(|place| place.settings.load());
        let class = settings.as_ref().and_then(|settings| settings.classes.get(known.class.as_str()));
        if let (Some(class), Some((_, milli, bytes))) = (class, self.requested.get_mut(name)) {
            *milli += class.requests.cpu.milli();
            *bytes += class.requests.memory.value();
        }
    }
}

/// The most frequent ones, and the rest as `other`.
fn told(timeouts: HashMap<String, i64>) -> Vec<(String, i64)> {
    let mut all: Vec<(String, i64)> = timeouts.into_iter().collect();
    all.sort_by(|(one, of_one), (other, of_other)| of_other.cmp(of_one).then_with(|| one.cmp(other)));
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
