//! Metrics of the process itself.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, IntGaugeVec, Opts};

use super::readiness::Readiness;

/// Metrics of readiness and of the build.
pub struct ProcessMetrics {
    readiness: Readiness,
    ready: IntGauge,
    degraded: IntGauge,
    build: IntGaugeVec,
}

impl ProcessMetrics {
    /// Metrics that read `readiness` at each scrape.
    pub fn new(readiness: Readiness) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(name, help).namespace("spaceport");
        let build =
            IntGaugeVec::new(opts("build_info", "1, with the version of the program."), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            readiness,
            ready: IntGauge::with_opts(opts(
                "ready",
                "1 if `/readyz` reports that the replica is ready, otherwise 0.",
            ))?,
            degraded: IntGauge::with_opts(opts(
                "degraded",
                "Problems that do not make the replica unready: the entries under `degraded` of `/readyz`.",
            ))?,
            build,
        })
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.ready.desc().into_iter().chain(self.degraded.desc()).chain(self.build.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let report = self.readiness.report();
        self.ready.set(i64::from(report.ready));
        self.degraded.set(i64::try_from(report.degraded.len()).unwrap_or(i64::MAX));
        let families = self.ready.collect().into_iter().chain(self.degraded.collect());
        families.chain(self.build.collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scrape_reads_the_state_of_readiness() {
        let readiness = Readiness::default();
        let metrics = ProcessMetrics::new(readiness.clone()).unwrap();
        let values = || -> Vec<f64> {
            let families = metrics.collect();
            families.iter().map(|family| family.get_metric()[0].get_gauge().get_value()).collect()
        };
        assert_eq!(values(), [0.0, 0.0, 1.0]);
        readiness.gate("api").release();
        readiness.degrade("configuration", "it has problems");
        assert_eq!(values(), [1.0, 1.0, 1.0]);
        readiness.recover("configuration");
        assert_eq!(values(), [1.0, 0.0, 1.0]);
    }
}
