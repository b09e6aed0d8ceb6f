//! Metrics of calls: latency, and failures by reason.

use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts};

use domain::names::ClusterName;

/// Bounds in seconds; a call is given up after 10.
const SECONDS: [f64; 11] = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `/readyz`.
    Probe,
    /// Gets and lists.
    Read,
    /// The beginning of a watch.
    Watch,
    /// Everything else.
    Write,
}

const KINDS: [(Kind, &str); 4] =
    [(Kind::Probe, "probe"), (Kind::Read, "read"), (Kind::Watch, "watch"), (Kind::Write, "write")];

/// Why a call fails.
const REASONS: [&str; 8] =
    ["connect", "throttled", "timeout", "broken", "too_long", "unauthorized", "busy", "server_error"];

/// Histograms and counters of the calls of all members. Cloning shares them.
#[derive(Debug, Clone)]
pub struct CallMeters {
    seconds: HistogramVec,
    failed: IntCounterVec,
}

/// Those of one member.
#[derive(Debug, Clone)]
pub struct CallMeter {
    cluster: String,
    seconds: [Histogram; 4],
    failed: IntCounterVec,
}

impl CallMeters {
    /// With no values.
    pub fn new() -> Result<Self, prometheus::Error> {
        let seconds = HistogramOpts::new(
            "spaceport_cluster_call_seconds",
            "Seconds from sending a call to a member cluster's apiserver until its answer began: \
             `probe`, `read`, `watch`, `write`. Logs are not counted.",
        );
        let failed = Opts::new(
            "spaceport_cluster_calls_failed_total",
            "Calls to a member cluster's apiserver that failed: `connect`: no connection could be \
             established; `throttled`: the call waited in the \
             manager's own queue until its deadline; `timeout`; `broken`: the connection broke; `too_long`: the answer exceeded \
             its size limit; `unauthorized` (401); `busy` (429); `server_error` (5xx).",
        );
        Ok(Self {
            seconds: HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["cluster", "kind"])?,
            failed: IntCounterVec::new(failed, &["cluster", "reason"])?,
        })
    }

    /// The metrics of one cluster. Failures start at 0: a series that begins with 1 is no increase to Prometheus.
    pub fn of(&self, cluster: &ClusterName) -> CallMeter {
        for reason in REASONS {
            self.failed.with_label_values(&[cluster.as_str(), reason]);
        }
        CallMeter {
            cluster: cluster.to_string(),
            seconds: KINDS.map(|(_, kind)| self.seconds.with_label_values(&[cluster.as_str(), kind])),
            failed: self.failed.clone(),
        }
    }
}

impl CallMeter {
    /// A call was answered, or is given up.
    pub fn took(&self, kind: Kind, time: Duration) {
        let at = KINDS.iter().position(|(known, _)| *known == kind);
        if let Some(histogram) = at.and_then(|at| self.seconds.get(at)) {
            histogram.observe(time.as_secs_f64());
        }
    }

    /// A call had no good answer; `reason` is one of a few.
    pub fn failed(&self, reason: &'static str) {
        self.failed.with_label_values(&[self.cluster.as_str(), reason]).inc();
    }
}

impl Collector for CallMeters {
    fn desc(&self) -> Vec<&Desc> {
        self.seconds.desc().into_iter().chain(self.failed.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.seconds.collect().into_iter().chain(self.failed.collect()).collect()
    }
}
