//! Helpers to make gauges and to convert numbers for them.

use prometheus::{GaugeVec, Opts};

pub(super) type Result<T> = std::result::Result<T, prometheus::Error>;

pub(super) fn gauge(name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
    GaugeVec::new(Opts::new(name, help).namespace("spaceport"), labels)
}

#[allow(clippy::cast_precision_loss, reason = "a gauge is a double")]
pub(super) fn count(of: usize) -> f64 {
    of as f64
}

#[allow(clippy::cast_precision_loss, reason = "a gauge is a double")]
pub(super) fn amount(of: u64) -> f64 {
    of as f64
}

pub(super) fn one_if(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}
