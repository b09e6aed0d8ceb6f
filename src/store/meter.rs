//! Metrics of etcd: latencies and failures.

use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};

use super::{Error, Result};

/// Buckets in seconds: a write of a healthy etcd takes milliseconds, and requests time out after seconds.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A read, or a request that may be repeated.
    Read,
    /// A transaction.
    Write,
    /// A renewal of this replica's candidacy.
    Renew,
}

impl Asked {
    fn label(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Renew => "renew",
        }
    }
}

/// Histograms and counters of requests. Cloning shares them.
#[derive(Debug, Clone)]
pub struct EtcdMeter {
    seconds: HistogramVec,
    failed: IntCounterVec,
}

impl EtcdMeter {
    /// Empty metrics.
    pub fn new() -> Result<Self, prometheus::Error> {
        let seconds = HistogramOpts::new(
            "spaceport_etcd_request_seconds",
            "Seconds that requests to etcd took, including retries at other etcd members, successful \
             or not: `read`, `write`, and `renew` of this replica's candidacy.",
        );
        let failed = Opts::new(
            "spaceport_etcd_requests_failed_total",
            "Requests to etcd that failed: `unavailable`: no answer, and nothing changed; \
             `ambiguous`: no answer to a write that may have been applied; `refused`: etcd rejected \
             it.",
        );
        let failed = IntCounterVec::new(failed, &["kind", "outcome"])?;
        // Initialized to 0: for Prometheus, a series that begins with 1 has no increase.
        for asked in [Asked::Read, Asked::Write, Asked::Renew] {
            for outcome in ["unavailable", "ambiguous", "refused"] {
                failed.with_label_values(&[asked.label(), outcome]);
            }
        }
        Ok(Self { seconds: HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["kind"])?, failed })
    }

    /// Counts a finished request.
    pub(super) fn took<T>(&self, asked: Asked, time: Duration, outcome: &Result<T>) {
        let failure = match outcome {
            Err(Error::Unavailable { .. }) => Some("unavailable"),
            Err(Error::Ambiguous { .. }) => Some("ambiguous"),
            Err(Error::Refused { .. }) => Some("refused"),
            _ => None,
        };
        self.note(asked, time, failure);
    }

    /// Counts a finished renewal.
    pub(super) fn renewed(&self, time: Duration, is_answered: bool) {
        self.note(Asked::Renew, time, (!is_answered).then_some("unavailable"));
    }

    fn note(&self, asked: Asked, time: Duration, failure: Option<&str>) {
        let kind = asked.label();
        self.seconds.with_label_values(&[kind]).observe(time.as_secs_f64());
        if let Some(outcome) = failure {
            self.failed.with_label_values(&[kind, outcome]).inc();
        }
    }
}

impl Collector for EtcdMeter {
    fn desc(&self) -> Vec<&Desc> {
        self.seconds.desc().into_iter().chain(self.failed.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.seconds.collect().into_iter().chain(self.failed.collect()).collect()
    }
}
