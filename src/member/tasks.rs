//! Supervises the tasks of one member cluster.
//!
//! A task runs until the member cluster is closed. One that panics or ends earlier is restarted with a growing backoff;
//! it is counted, and reported as failing until it has run for a while. It does not affect the others.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures::FutureExt as _;
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, Opts};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use domain::backoff::doubling;
use domain::names::ClusterName;

/// Backoff of restarts.
const BACKOFF: ExponentialBuilder = doubling(Duration::from_secs(1), Duration::from_mins(1));
/// A restarted task that has run for so long does not count as failing any more.
const STEADY: Duration = Duration::from_secs(30);

/// Counts restarts over all members. Cloning shares them.
#[derive(Debug, Clone)]
pub struct TaskMeters(IntCounterVec);

impl TaskMeters {
    /// With no values.
    pub fn new() -> Result<Self, prometheus::Error> {
        let restarts = Opts::new(
            "spaceport_cluster_task_restarts_total",
            "Restarts of a member cluster's tasks that panicked or ended unexpectedly: `watch`, \
             `probe`, `maintenance`, `health`, `fence`, `canary`, `controller`, `login`.",
        );
        Ok(Self(IntCounterVec::new(restarts, &["cluster", "task"])?))
    }
}

impl Collector for TaskMeters {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.collect()
    }
}

/// What a task does, and of what where there are several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskName {
    /// A bounded category.
    pub kind: &'static str,
    /// Such as a namespace; may be empty.
    pub of: String,
}

impl TaskName {
    /// The only one of a kind.
    pub fn one(kind: &'static str) -> Self {
        Self { kind, of: String::new() }
    }

    /// One of several.
    pub fn of(kind: &'static str, of: &str) -> Self {
        Self { kind, of: of.to_owned() }
    }
}

impl std::fmt::Display for TaskName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, of } = self;
        if of.is_empty() { f.write_str(kind) } else { write!(f, "{kind} ({of})") }
    }
}

/// The tasks of one member.
pub struct Tasks {
    cluster: ClusterName,
    meters: Option<TaskMeters>,
    /// Tasks that failed and have not run steadily since, and how often in a row.
    failing: Mutex<BTreeMap<TaskName, u32>>,
    /// Notified when a task begins or ceases to fail.
    changes: watch::Sender<()>,
    stop: CancellationToken,
}

impl Tasks {
    /// No task yet. Those that are spawned are to end when `stop` is cancelled.
    pub fn new(
        cluster: ClusterName,
        meters: Option<TaskMeters>,
        changes: watch::Sender<()>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self { cluster, meters, failing: Mutex::default(), changes, stop })
    }

    /// Cancelled when the member is closed.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Tasks that failed and have not run steadily since, and how often each failed in a row.
    pub fn failing(&self) -> Vec<(TaskName, u32)> {
        self.failing.lock().iter().map(|(name, times)| (name.clone(), *times)).collect()
    }

    /// Runs a task until the member is closed, however often that takes a restart.
    pub fn spawn<F>(self: &Arc<Self>, name: TaskName, run: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send,
    {
        if let Some(TaskMeters(restarts)) = &self.meters {
            // Told as 0 first: a series that begins with 1 is no increase to Prometheus.
            restarts.with_label_values(&[self.cluster.as_str(), name.kind]);
        }
        let this = Arc::clone(self);
        tokio::spawn(async move { this.supervise(&name, run).await }.in_current_span());
    }

    async fn supervise<F>(&self, name: &TaskName, run: impl Fn() -> F)
    where
        F: Future<Output = ()>,
    {
        let mut delays = BACKOFF.build();
        loop {
            let once = AssertUnwindSafe(async { run().await }).catch_unwind();
            let ended = self.watched(name, &mut delays, once).await;
            if self.stop.is_cancelled() {
                break;
            }
            let how = if ended.is_err() { "panicked" } else { "ended by itself" };
            let (cluster, backoff) = (&self.cluster, delays.next().unwrap_or_default());
            tracing::error!(%cluster, task = %name, restart_in = ?backoff, "a task of the cluster {how}");
            self.failed(name);
            tokio::select! {
                () = sleep(backoff) => {}
                () = self.stop.cancelled() => break,
            }
        }
        self.failing.lock().remove(name);
    }

    /// Forgets earlier failures once the task has run steadily.
    async fn watched<T>(
        &self,
        name: &TaskName,
        delays: &mut ExponentialBackoff,
        once: impl Future<Output = T>,
    ) -> T {
        let mut once = std::pin::pin!(once);
        tokio::select! {
            ended = &mut once => return ended,
            () = sleep(STEADY) => {}
        }
        *delays = BACKOFF.build();
        if self.failing.lock().remove(name).is_some() {
            self.changes.send_replace(());
        }
        once.await
    }

    fn failed(&self, name: &TaskName) {
        if let Some(TaskMeters(restarts)) = &self.meters {
            restarts.with_label_values(&[self.cluster.as_str(), name.kind]).inc();
        }
        *self.failing.lock().entry(name.clone()).or_default() += 1;
        self.changes.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn tasks() -> (Arc<Tasks>, TaskMeters) {
        let meters = TaskMeters::new().unwrap();
        let tasks = Tasks::new(
            "eu-1".parse().unwrap(),
            Some(meters.clone()),
            watch::Sender::default(),
            CancellationToken::new(),
        );
        (tasks, meters)
    }

    fn restarts(meters: &TaskMeters, task: &str) -> u64 {
        meters.0.with_label_values(&["eu-1", task]).get()
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_restarted_counted_and_reported_until_it_runs_steadily() {
        let (tasks, meters) = tasks();
        let mut changes = tasks.changes.subscribe();
        let (stop, runs) = (tasks.stop().clone(), Arc::new(AtomicU32::new(0)));
        let count = Arc::clone(&runs);
        tasks.spawn(TaskName::one("fence"), move || {
            let (stop, run) = (stop.clone(), count.fetch_add(1, Ordering::Relaxed));
            async move {
                tokio::task::yield_now().await;
                assert!(run >= 2, "a test's panic");
                stop.cancelled().await;
            }
        });
        tasks.spawn(TaskName::of("controller", "ws"), {
            let stop = tasks.stop().clone();
            move || stop.clone().cancelled_owned()
        });
        assert_eq!(restarts(&meters, "fence"), 0, "told before anything happens");
        changes.changed().await.unwrap();
        assert_eq!(tasks.failing(), [(TaskName::one("fence"), 1)]);
        changes.changed().await.unwrap();
        assert_eq!(tasks.failing(), [(TaskName::one("fence"), 2)]);
        changes.changed().await.unwrap();
        assert_eq!(tasks.failing(), [], "it has run for a while");
        assert_eq!((restarts(&meters, "fence"), runs.load(Ordering::Relaxed)), (2, 3));
        assert_eq!(restarts(&meters, "controller"), 0, "others are not disturbed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_by_itself_is_restarted_and_one_that_is_stopped_is_not() {
        let (tasks, meters) = tasks();
        let mut changes = tasks.changes.subscribe();
        let runs = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&runs);
        tasks.spawn(TaskName::one("canary"), move || {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::ready(())
        });
        changes.changed().await.unwrap();
        changes.changed().await.unwrap();
        let TaskName { kind, .. } = &tasks.failing()[0].0;
        assert_eq!((*kind, restarts(&meters, "canary")), ("canary", 2));
        tasks.stop().cancel();
        sleep(Duration::from_mins(2)).await;
        assert_eq!((runs.load(Ordering::Relaxed), tasks.failing().len()), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_backoff_grows_to_its_longest_while_a_task_fails() {
        let (tasks, meters) = tasks();
        tasks.spawn(TaskName::one("probe"), || async { panic!("a test's panic") });
        sleep(Duration::from_secs(62)).await;
        // At 0, 1, 3, 7, 15 and 31 s.
        assert_eq!(restarts(&meters, "probe"), 6);
        sleep(Duration::from_mins(10)).await;
        assert_eq!(restarts(&meters, "probe"), 16);
    }
}
