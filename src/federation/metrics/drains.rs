//! Drains that keep new workspaces away.

use std::collections::BTreeMap;

use prometheus::GaugeVec;
use prometheus::core::Collector;

use super::gauge::{Result, count, gauge, one_if};
use crate::clusters::cluster_metrics::Vitals;
use crate::clusters::drain::{DrainView, Drains};
use domain::drain::{Fate, Stage};

/// Every fate, so that one without workspaces is exported as 0.
const FATES: [&str; 5] = ["Finishes", "LeftAlone", "Due", "NoRoom", "Stopping"];

/// Gauges of drains.
pub(super) struct DrainGauges {
    stage: GaugeVec,
    workspaces: GaugeVec,
    unsaved: GaugeVec,
    blocked: GaugeVec,
}

impl DrainGauges {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            stage: gauge(
                "drain_stage",
                "1 for the stage of a drain: `Draining`, `Paused`, `Drained` until it is cancelled.",
                &["cluster", "stage"],
            )?,
            workspaces: gauge(
                "drain_workspaces",
                "Workspaces that are left in a cluster with a drain, by what the drain does with them: \
             `Finishes`, `LeftAlone`, `Due`, `NoRoom`, `Stopping`.",
                &["cluster", "fate"],
            )?,
            unsaved: gauge(
                "drain_unsaved",
                "Workspaces that ended without a backup during a drain and that no admin accepted.",
                &["cluster"],
            )?,
            blocked: gauge(
                "drain_blocked",
                "1 if a drain is blocked until an admin acts, otherwise 0.",
                &["cluster"],
            )?,
        })
    }

    pub(super) fn all(&self) -> Vec<&dyn Collector> {
        vec![&self.stage, &self.workspaces, &self.unsaved, &self.blocked]
    }

    pub(super) fn read(&self, drains: &Drains, clusters: &[Vitals]) {
        for gauges in [&self.stage, &self.workspaces, &self.unsaved, &self.blocked] {
            gauges.reset();
        }
        for cluster in clusters {
            let name = &cluster.spec.name;
            if cluster.drain.is_some_and(|stage| stage != Stage::Cancelled)
                && let Ok(view) = drains.get(name, false)
            {
                self.show(name.as_str(), &view);
            }
        }
    }

    fn show(&self, cluster: &str, view: &DrainView) {
        for stage in [Stage::Draining, Stage::Paused, Stage::Drained] {
            let holds = one_if(view.drain.stage == stage);
            self.stage.with_label_values(&[cluster, &format!("{stage:?}")]).set(holds);
        }
        let mut fates: BTreeMap<&str, usize> = BTreeMap::new();
        for fate in &view.fates {
            *fates.entry(named(*fate)).or_default() += 1;
        }
        for fate in FATES {
            let left = fates.get(fate).copied().unwrap_or_default();
            self.workspaces.with_label_values(&[cluster, fate]).set(count(left));
        }
        self.unsaved.with_label_values(&[cluster]).set(count(view.drain.held()));
        self.blocked.with_label_values(&[cluster]).set(one_if(!view.blocked.is_empty()));
    }
}

fn named(fate: Fate) -> &'static str {
    match fate {
        Fate::Finishes => "Finishes",
        Fate::LeftAlone(_) => "LeftAlone",
        Fate::Due => "Due",
        Fate::NoRoom => "NoRoom",
        Fate::Stopping => "Stopping",
    }
}
