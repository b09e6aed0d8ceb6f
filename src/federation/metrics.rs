//! What the fleet looks like, read from the index when somebody scrapes. Labels are bounded by clusters and phases.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntGauge, IntGaugeVec, Opts};

use super::{Federation, Lead};
use crate::domain::condition::State;
use crate::domain::health::Health;

/// Gauges of the fleet.
pub struct FleetMetrics {
    federation: Arc<Federation>,
    workspaces: IntGaugeVec,
    placed: IntGaugeVec,
    strays: IntGaugeVec,
    health: IntGaugeVec,
    conditions: IntGaugeVec,
    canary: GaugeVec,
    leading: IntGauge,
    subscribers: IntGauge,
}

impl FleetMetrics {
    /// Gauges of `federation`.
    pub fn new(federation: Arc<Federation>) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(name, help).namespace("spaceport");
        Ok(Self {
            federation,
            workspaces: IntGaugeVec::new(
                opts("workspaces", "Workspaces seen, by cluster and phase."),
                &["cluster", "phase"],
            )?,
            placed: IntGaugeVec::new(opts("placements_live", "Live placement records."), &["cluster"])?,
            strays: IntGaugeVec::new(opts("strays", "Workspaces of ours without a record."), &["cluster"])?,
            health: IntGaugeVec::new(
                opts("cluster_health", "1 for the health that a cluster has."),
                &["cluster", "health"],
            )?,
            conditions: IntGaugeVec::new(
                opts(
                    "cluster_condition",
                    "1 for each condition of a cluster that holds, 0 where it does not or is unknown.",
                ),
                &["cluster", "condition"],
            )?,
            canary: GaugeVec::new(
                opts(
                    "cluster_canary_seconds",
                    "From the sending of the last small write until a watch showed it; of the leader.",
                ),
                &["cluster"],
            )?,
            leading: IntGauge::with_opts(opts("leading", "Whether this replica leads."))?,
            subscribers: IntGauge::with_opts(opts("subscribers", "Subscribers of this replica."))?,
        })
    }

    fn read(&self) {
        self.workspaces.reset();
        self.placed.reset();
        self.strays.reset();
        self.health.reset();
        self.conditions.reset();
        self.canary.reset();
        for (cluster, phases) in self.federation.index().phases() {
            for (phase, count) in phases {
                let labels = [cluster.as_str(), &format!("{phase:?}")];
                self.workspaces.with_label_values(&labels).set(whole(count));
            }
        }
        for cluster in self.federation.vitals() {
            let name = cluster.cluster.as_str();
            self.placed.with_label_values(&[name]).set(whole(cluster.placed));
            self.strays.with_label_values(&[name]).set(whole(cluster.strays));
            if let Some(round) = cluster.canary {
                self.canary.with_label_values(&[name]).set(round.as_secs_f64());
            }
            for health in [Health::Connecting, Health::Available, Health::Suspect, Health::Lost] {
                let label = format!("{health:?}");
                self.health
                    .with_label_values(&[name, label.as_str()])
                    .set(i64::from(cluster.health == health));
            }
            for condition in &cluster.conditions {
                let gauge = self.conditions.with_label_values(&[name, condition.kind]);
                gauge.set(i64::from(condition.state == State::True));
            }
        }
        for (name, count) in self.federation.left() {
            self.placed.with_label_values(&[name.as_str()]).set(whole(count));
        }
        self.leading.set(i64::from(*self.federation.lead().borrow() == Lead::Us));
        let subscribers = self.federation.index().events().subscribers();
        self.subscribers.set(whole(subscribers));
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Collector for FleetMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let vectors = [&self.workspaces, &self.placed, &self.strays, &self.health, &self.conditions];
        let mut descriptions: Vec<&Desc> = vectors.iter().flat_map(|gauges| gauges.desc()).collect();
        descriptions.extend(self.canary.desc());
        descriptions.extend(self.leading.desc());
        descriptions.extend(self.subscribers.desc());
        descriptions
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        let vectors = [&self.workspaces, &self.placed, &self.strays, &self.health, &self.conditions];
        let mut families: Vec<MetricFamily> = vectors.iter().flat_map(|gauges| gauges.collect()).collect();
        families.extend(self.canary.collect());
        families.extend(self.leading.collect());
        families.extend(self.subscribers.collect());
        families
    }
}
