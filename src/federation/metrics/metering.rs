//! Metrics of workspaces, under the names that existing dashboards read, with the additional label
//! `cluster`.
//!
//! A [`Meter`] watches the workspaces of one member cluster on every replica, and counts while this replica
//! leads: each event is counted once, and a new leader knows the state before it. Not counted: what
//! happened while no replica ran, and workspaces of another manager or installation, until they are adopted
//! here.

pub(super) mod transitions;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts};
use tokio::sync::watch;

use crate::fleet::callbacks::MemberObserver;
use crate::leadership::Leading;
use domain::diff::Keeper;
use domain::names::{ClusterName, Namespace};
use domain::placement::Rejection;
use domain::workspace::Kind;
use k8s::convert::keeper;
use k8s::resources::Workspace;
use member::cache::Observer;

use self::transitions::{Event, Known};

/// What all names begin with.
pub(super) const PREFIX: &str = "gitpod_ws_manager_mk2";
/// Bounds of the histograms of phases, in seconds.
const SECONDS: [f64; 10] = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Counters and histograms, shared by all members.
#[derive(Debug, Clone)]
pub struct Meters {
    starts: IntCounterVec,
    startup: HistogramVec,
    pending: HistogramVec,
    creating: HistogramVec,
    start_failures: IntCounterVec,
    failures: IntCounterVec,
    stops: IntCounterVec,
    recreations: IntCounterVec,
    backups: IntCounterVec,
    backup_failures: IntCounterVec,
    restores: IntCounterVec,
    restore_failures: IntCounterVec,
    start_call: Histogram,
    unplaced: IntCounter,
    rejections: IntCounterVec,
}

impl Meters {
    /// Counters at zero.
    pub fn new() -> Result<Self, prometheus::Error> {
        const LABELS: [&str; 3] = ["cluster", "type", "class"];
        let counter = |name: &str, help: &str, more: &[&str]| {
            let labels: Vec<&str> = LABELS.iter().chain(more).copied().collect();
            IntCounterVec::new(Opts::new(name, help).namespace(PREFIX), &labels)
        };
        let seconds = |name: &str, help: &str| {
            let opts = HistogramOpts::new(name, help).namespace(PREFIX).buckets(SECONDS.to_vec());
            HistogramVec::new(opts, &LABELS)
        };
        let calls = HistogramOpts::new("wsman_start_workspace", "Milliseconds that StartWorkspace took.");
        let milliseconds = (0..10_u32).map(|step| f64::from(step * 500)).collect();
        Ok(Self {
            starts: counter("workspace_starts_total", "Workspaces created.", &[])?,
            startup: seconds("workspace_startup_seconds", "Seconds from creation to running.")?,
            pending: seconds(
                "workspace_pending_seconds",
                "Seconds in phase Pending, counted from when the workspace is first seen, even if its \
             status never shows that phase.",
            )?,
            creating: seconds("workspace_creating_seconds", "Seconds in phase Creating.")?,
            start_failures: counter(
                "workspace_starts_failure_total",
                "Workspaces that stopped before they ran although nobody stopped them.",
                &[],
            )?,
            failures: counter("workspace_failure_total", "Workspaces that failed.", &[])?,
            stops: counter(
                "workspace_stops_total",
                "Workspaces that stopped: `start-failure`, `out-of-space`, `failed`, `aborted`, `timeout`, `tab-closed`, \
                 `regular-stop`.",
                &["reason"],
            )?,
            recreations: counter("workspace_recreations_total", "Pods that were recreated.", &["attempt"])?,
            backups: counter("workspace_backups_total", "Backups that ended, successful or not.", &[])?,
            backup_failures: counter("workspace_backups_failure_total", "Backups that failed.", &[])?,
            restores: counter(
                "workspace_restores_total",
                "Initializations of content that ended, successful or not.",
                &[],
            )?,
            restore_failures: counter(
                "workspace_restores_failure_total",
                "Initializations of content that failed.",
                &[],
            )?,
            start_call: Histogram::with_opts(calls.buckets(milliseconds))?,
            unplaced: IntCounter::new(
                "spaceport_starts_unplaced_total",
                "Starts that no cluster accepted; of the leader.",
            )?,
            rejections: IntCounterVec::new(
                Opts::new(
                    "spaceport_start_rejections_total",
                    "Why each cluster rejected a start that no cluster accepted: `unhealthy`, `barred` \
             (accepts no writes), `cordoned`, `draining`, `weight`, `pinned` (another cluster was \
             requested), `region`, `label`, `permission`, `namespace`, `class`, `maintenance`, \
             `closed` (accepts no workspaces now), `unknown` (not listed yet), `capacity`; and \
             `refused` (the cluster rejected the write), also if another cluster then accepted the \
             start. Of the leader.",
                ),
                &["cluster", "reason"],
            )?,
        })
    }

    /// What is alerted on is exported as 0 before it happens: a series that begins with 1 is no increase to Prometheus.
    pub(super) fn begin(&self, cluster: &ClusterName, kind: Kind, class: &str) {
        for failures in [&self.start_failures, &self.backup_failures, &self.restore_failures] {
            failures.with_label_values(&[cluster.as_str(), type_label(kind), class]);
        }
    }

    /// As [`Meters::begin`], of clusters.
    pub(crate) fn begin_cluster(&self, cluster: &ClusterName) {
        self.rejections.with_label_values(&[cluster.as_str(), "refused"]);
    }

    /// A start found no cluster. What refused it when asked is counted by itself.
    pub(crate) fn unplaced(&self, rejected: &[(ClusterName, Rejection)]) {
        self.unplaced.inc();
        for (cluster, why) in rejected.iter().filter(|(_, why)| !matches!(why, Rejection::Refused(_))) {
            self.rejected(cluster, why);
        }
    }

    /// A cluster did not take a start.
    pub(crate) fn rejected(&self, cluster: &ClusterName, why: &Rejection) {
        self.rejections.with_label_values(&[cluster.as_str(), why.category()]).inc();
    }

    fn all(&self) -> [&dyn Collector; 15] {
        [
            &self.starts,
            &self.startup,
            &self.pending,
            &self.creating,
            &self.start_failures,
            &self.failures,
            &self.stops,
            &self.recreations,
            &self.backups,
            &self.backup_failures,
            &self.restores,
            &self.restore_failures,
            &self.start_call,
            &self.unplaced,
            &self.rejections,
        ]
    }

    /// A workspace was made.
    pub(crate) fn started(&self, cluster: &ClusterName, kind: Kind, class: &str) {
        self.starts.with_label_values(&[cluster.as_str(), type_label(kind), class]).inc();
    }

    /// How long a call of StartWorkspace took.
    pub fn start_took(&self, took: std::time::Duration) {
        self.start_call.observe(took.as_secs_f64() * 1000.0);
    }

    fn count(&self, cluster: &ClusterName, known: &Known, event: Event) {
        let labels = [cluster.as_str(), type_label(known.kind), known.class.as_str()];
        let with = |more| [labels[0], labels[1], labels[2], more];
        match event {
            Event::Ready { seconds } => self.startup.with_label_values(&labels).observe(seconds),
            Event::WasPending { seconds } => self.pending.with_label_values(&labels).observe(seconds),
            Event::WasCreating { seconds } => self.creating.with_label_values(&labels).observe(seconds),
            Event::StartFailed => self.start_failures.with_label_values(&labels).inc(),
            Event::Failed => self.failures.with_label_values(&labels).inc(),
            Event::Stopped { reason } => self.stops.with_label_values(&with(reason)).inc(),
            Event::Recreated { attempt } => {
                self.recreations.with_label_values(&with(&attempt.to_string())).inc();
            }
            Event::BackedUp => self.backups.with_label_values(&labels).inc(),
            Event::BackupFailed => self.backup_failures.with_label_values(&labels).inc(),
            Event::Restored => self.restores.with_label_values(&labels).inc(),
            Event::RestoreFailed => self.restore_failures.with_label_values(&labels).inc(),
        }
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

/// Watches the workspaces of one member.
pub struct Meter {
    cluster: ClusterName,
    /// This installation's id.
    installation: Arc<str>,
    meters: Meters,
    term: watch::Receiver<Option<Leading>>,
    /// By namespace and name; a workspace that is gone is forgotten.
    known: Mutex<HashMap<(Namespace, String), Known>>,
}

impl Meter {
    pub(crate) fn new(
        cluster: ClusterName,
        installation: Arc<str>,
        meters: Meters,
        term: watch::Receiver<Option<Leading>>,
    ) -> Self {
        Self { cluster, installation, meters, term, known: Mutex::default() }
    }

    fn leads(&self) -> bool {
        self.term.borrow().as_ref().is_some_and(|leading| leading.term.is_valid())
    }

    fn count(&self, known: &Known, events: Vec<Event>) {
        if self.leads() {
            for event in events {
                self.meters.count(&self.cluster, known, event);
            }
        }
    }

    pub(super) fn for_each(&self, mut look: impl FnMut(&Namespace, &Known)) {
        for ((namespace, _), known) in &*self.known.lock() {
            look(namespace, known);
        }
    }
}

impl MemberObserver for Meter {}

impl Observer for Meter {
    fn workspace(&self, namespace: &Namespace, workspace: &Arc<Workspace>) {
        let Some(name) = workspace.metadata.name.clone() else { return };
        let (key, now) = ((namespace.clone(), name), Timestamp::now());
        let mut all = self.known.lock();
        if keeper(&workspace.metadata, &self.installation) != Keeper::Us {
            all.remove(&key);
            return;
        }
        let known = all.entry(key).or_insert_with(|| Known::first(workspace, now));
        let events = known.step(workspace, now);
        self.count(known, events);
    }

    fn workspace_gone(&self, namespace: &Namespace, last: &Arc<Workspace>) {
        let Some(name) = last.metadata.name.clone() else { return };
        if let Some(known) = self.known.lock().remove(&(namespace.clone(), name)) {
            let events = known.gone(last);
            self.count(&known, events);
        }
    }
}

pub(super) fn type_label(kind: Kind) -> &'static str {
    match kind {
        Kind::Regular => "Regular",
        Kind::Prebuild => "Prebuild",
        Kind::ImageBuild => "ImageBuild",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s::resources::names;

    #[test]
    fn what_others_look_after_is_not_counted_until_it_is_taken_over() {
        let (_leads, term) = watch::channel(None);
        let meter = Meter::new("eu".parse().unwrap(), "us".into(), Meters::new().unwrap(), term);
        let namespace = "ws".parse().unwrap();
        let show = |manager: &str, installation: Option<&str>| {
            let mut workspace = Workspace::new("a", k8s::resources::WorkspaceSpec::default());
            let pair = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
            workspace.metadata.labels = Some(pair(names::MANAGED_BY, manager));
            workspace.metadata.annotations = installation.map(|id| pair(names::INSTALLATION, id));
            meter.workspace(&namespace, &Arc::new(workspace));
            let mut counted = 0;
            meter.for_each(|_, _| counted += 1);
            counted
        };
        assert_eq!(show(names::MANAGER, Some("them")), 0);
        assert_eq!(show("another", None), 0);
        assert_eq!(show(names::MANAGER, Some("us")), 1);
        assert_eq!(show(names::MANAGER, None), 1);
        // It goes to another installation.
        assert_eq!(show(names::MANAGER, Some("them")), 0);
    }

    #[test]
    fn everything_that_is_counted_is_served_under_the_name_that_dashboards_know() {
        let (meters, registry) = (Meters::new().unwrap(), prometheus::Registry::new());
        registry.register(Box::new(meters.clone())).unwrap();
        let workspace = Workspace::new("ws", k8s::resources::WorkspaceSpec::default());
        let known = Known::first(&workspace, Timestamp::UNIX_EPOCH);
        let cluster: ClusterName = "eu".parse().unwrap();
        meters.started(&cluster, Kind::Regular, "small");
        meters.start_took(std::time::Duration::from_millis(7));
        meters.unplaced(&[(cluster.clone(), Rejection::Cordoned)]);
        let seconds = 1.0;
        for event in [
            Event::Ready { seconds },
            Event::WasPending { seconds },
            Event::WasCreating { seconds },
            Event::StartFailed,
            Event::Failed,
            Event::Stopped { reason: "failed" },
            Event::Recreated { attempt: 2 },
            Event::BackedUp,
            Event::BackupFailed,
            Event::Restored,
            Event::RestoreFailed,
        ] {
            meters.count(&cluster, &known, event);
        }
        let served: Vec<(String, Vec<String>)> = registry
            .gather()
            .iter()
            .map(|family| {
                let labels = family.get_metric()[0].get_label();
                let names = labels.iter().map(|label| label.name().to_owned()).collect();
                (family.name().replace(PREFIX, "P"), names)
            })
            .collect();
        let of = |name: &str, more: &[&str]| {
            let mut labels: Vec<String> =
                ["class", "cluster", "type"].iter().chain(more).map(|label| (*label).to_owned()).collect();
            labels.sort();
            (format!("P_workspace_{name}"), labels)
        };
        let expected = [
            of("backups_failure_total", &[]),
            of("backups_total", &[]),
            of("creating_seconds", &[]),
            of("failure_total", &[]),
            of("pending_seconds", &[]),
            of("recreations_total", &["attempt"]),
            of("restores_failure_total", &[]),
            of("restores_total", &[]),
            of("starts_failure_total", &[]),
            of("starts_total", &[]),
            of("startup_seconds", &[]),
            of("stops_total", &["reason"]),
            (
                "spaceport_start_rejections_total".to_owned(),
                ["cluster", "reason"].map(str::to_owned).to_vec(),
            ),
            ("spaceport_starts_unplaced_total".to_owned(), Vec::new()),
            ("wsman_start_workspace".to_owned(), Vec::new()),
        ];
        assert_eq!(served, expected);
    }
}
