//! Metrics of the agent: those that dashboards of existing agents read, and its own.

use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts};

/// What is counted. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Meters {
    initialize: HistogramVec,
    finalize: HistogramVec,
    waiting: Histogram,
    running: IntGaugeVec,
    ended: IntCounterVec,
    /// Workspaces of this node.
    pub workspaces: IntGauge,
    /// Bytes that are free.
    pub free: IntGauge,
    /// Whether free space is below the minimum.
    pub full: IntGauge,
    /// Workspaces whose content is kept without a proven backup.
    pub unproven: IntGauge,
    /// Folders that were deleted.
    pub removed: IntCounterVec,
}

/// Kinds of operations, the values of label `kind`.
pub const KINDS: [&str; 4] = ["initialize", "backup", "snapshot", "wipe"];
/// Why a folder was deleted, the values of label `reason`.
pub const REMOVED: [&str; 2] = ["space", "leftover"];

impl Meters {
    /// With no values but zeroes of failures.
    pub fn new() -> Result<Self, prometheus::Error> {
        // As the histograms of the manager.
        let buckets = || prometheus::exponential_buckets(2.0, 2.0, 10);
        let seconds = |name: &str, help: &str| -> Result<HistogramVec, prometheus::Error> {
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets()?), &["type", "class"])
        };
        let waiting = HistogramOpts::new(
            "concurrent_backup_waiting_seconds_mk2",
            "Seconds that backups and snapshots waited for one of `node.operations.maxUploads`.",
        );
        let ended = IntCounterVec::new(
            Opts::new(
                "spaceport_node_operations_total",
                "Operations that ended: `initialize`, `backup`, `snapshot`, `wipe`; with outcome `done` or `failed`.",
            ),
            &["kind", "outcome"],
        )?;
        for kind in KINDS {
            for outcome in ["done", "failed"] {
                ended.with_label_values(&[kind, outcome]);
            }
        }
        let removed = IntCounterVec::new(
            Opts::new(
                "spaceport_node_folders_removed_total",
                "Folders of the node that were deleted: `space`: kept after a proven backup, and the disk guard needed \
                 the space; `leftover`: found by housekeeping.",
            ),
            &["reason"],
        )?;
        for reason in REMOVED {
            removed.with_label_values(&[reason]);
        }
        Ok(Self {
            initialize: seconds(
                "gitpod_ws_daemon_workspace_initialize_seconds",
                "Seconds that initializations of content took.",
            )?,
            finalize: seconds(
                "gitpod_ws_daemon_workspace_finalize_seconds",
                "Seconds that backups took, retries of an upload included.",
            )?,
            waiting: Histogram::with_opts(waiting.buckets(buckets()?))?,
            running: IntGaugeVec::new(
                Opts::new(
                    "spaceport_node_operations",
                    "Operations that run now: `initialize`, `backup`, `snapshot`, `wipe`.",
                ),
                &["kind"],
            )?,
            ended,
            workspaces: IntGauge::new(
                "spaceport_node_workspaces",
                "Workspaces whose content is on this node.",
            )?,
            free: IntGauge::new(
                "spaceport_node_free_bytes",
                "Free bytes of the file system with the content of workspaces.",
            )?,
            full: IntGauge::new(
                "spaceport_node_full",
                "1 while that is less than `node.diskGuard.minFree`, and the node takes no new workspaces.",
            )?,
            unproven: IntGauge::new(
                "spaceport_node_unproven",
                "Workspaces that are over and whose content is kept on this node, because no backup of it is proven.",
            )?,
            removed,
        })
    }

    /// An operation begins. Dropping the guard ends it as failed.
    pub fn begin(&self, kind: &'static str) -> Running {
        self.running.with_label_values(&[kind]).inc();
        Running { meters: self.clone(), kind, is_done: false }
    }

    /// An upload waited so long for its turn.
    pub fn waited(&self, time: Duration) {
        self.waiting.observe(time.as_secs_f64());
    }

    /// An initialization took so long.
    pub fn initialized(&self, type_: &str, class: &str, time: Duration) {
        self.initialize.with_label_values(&[type_, class]).observe(time.as_secs_f64());
    }

    /// A backup took so long.
    pub fn finalized(&self, type_: &str, class: &str, time: Duration) {
        self.finalize.with_label_values(&[type_, class]).observe(time.as_secs_f64());
    }

    fn all(&self) -> [&dyn Collector; 10] {
        [
            &self.initialize,
            &self.finalize,
            &self.waiting,
            &self.running,
            &self.ended,
            &self.workspaces,
            &self.free,
            &self.full,
            &self.unproven,
            &self.removed,
        ]
    }
}

impl Collector for Meters {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}

/// An operation that runs.
#[derive(Debug)]
pub struct Running {
    meters: Meters,
    kind: &'static str,
    is_done: bool,
}

impl Running {
    /// It ended well.
    pub fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.meters.running.with_label_values(&[self.kind]).dec();
        let outcome = if self.is_done { "done" } else { "failed" };
        self.meters.ended.with_label_values(&[self.kind, outcome]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(meters: &Meters, name: &str, labels: &[&str]) -> f64 {
        let families = meters.collect();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let metric = family.get_metric().iter().find(|metric| {
            labels.iter().all(|label| metric.get_label().iter().any(|pair| pair.value() == *label))
        });
        let metric = metric.unwrap();
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    }

    #[test]
    fn an_operation_that_is_dropped_counts_as_failed() {
        let meters = Meters::new().unwrap();
        let backup = meters.begin("backup");
        assert_eq!(value(&meters, "spaceport_node_operations", &["backup"]), 1.0);
        drop(backup);
        meters.begin("wipe").done();
        assert_eq!(value(&meters, "spaceport_node_operations", &["backup"]), 0.0);
        assert_eq!(value(&meters, "spaceport_node_operations_total", &["backup", "failed"]), 1.0);
        assert_eq!(value(&meters, "spaceport_node_operations_total", &["wipe", "done"]), 1.0);
        assert_eq!(value(&meters, "spaceport_node_operations_total", &["wipe", "failed"]), 0.0);
    }
}
