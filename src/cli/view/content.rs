use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{NewestBackup, moment, timestamp};
use domain::duration::GoDuration;
use domain::text::bytes;
use proto::spaceport::v1::{ContentReport, DescribeContentResponse};
use proto::wsman::{InitializerMetric, InitializerMetrics};

/// What is known of the content of a live workspace.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContentView {
    /// Bytes of the files that the initialization made.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initialization: Option<ReportView>,
    initializers: Vec<InitializerView>,
    /// The backup of this instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<ReportView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ReportView>,
    /// What a start from the backup would restore.
    #[serde(skip_serializing_if = "NewestBackup::is_unknown")]
    newest_backup: NewestBackup,
}

#[derive(Debug, Serialize)]
struct ReportView {
    succeeded: bool,
    at: Option<Timestamp>,
    message: String,
}

#[derive(Debug, Serialize)]
struct InitializerView {
    kind: &'static str,
    duration: String,
    bytes: u64,
}

impl From<ContentReport> for ReportView {
    fn from(report: ContentReport) -> Self {
        Self { succeeded: report.succeeded, at: timestamp(report.at.as_ref()), message: report.message }
    }
}

impl ContentView {
    /// From the parts of the API that say something of content.
    pub fn new(
        metrics: Option<&InitializerMetrics>,
        reports: DescribeContentResponse,
        newest_backup: NewestBackup,
    ) -> Self {
        let initializers = metrics.map(initializers).unwrap_or_default();
        // The composite has the sum of its parts.
        let composite = initializers.iter().find(|part| part.kind == "composite").map(|part| part.bytes);
        let sum = || initializers.iter().map(|part| part.bytes).fold(0, u64::saturating_add);
        let size = (!initializers.is_empty()).then(|| composite.unwrap_or_else(sum));
        Self {
            size,
            initialization: reports.initialization.map(ReportView::from),
            initializers,
            backup: reports.backup.map(ReportView::from),
            progress: reports.progress.map(ReportView::from),
            newest_backup,
        }
    }

    /// For people.
    pub fn fields(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let report = |report: &Option<ReportView>, done: &str| {
            report.as_ref().map(|report| report.sentence(done, now)).unwrap_or_default()
        };
        let parts = self.initializers.iter();
        let parts = parts.map(|part| format!("{}: {} in {}", part.kind, bytes(part.bytes), part.duration));
        let progress = self.progress.as_ref().map(|progress| progress.message.clone());
        vec![
            ("content", report(&self.initialization, "initialized")),
            ("content size", self.size.map(bytes).unwrap_or_default()),
            ("initializers", parts.collect::<Vec<_>>().join(", ")),
            ("progress", progress.unwrap_or_default()),
            ("backup", report(&self.backup, "complete")),
            ("newest backup", self.newest_backup.sentence(now)),
        ]
    }
}

impl ReportView {
    fn sentence(&self, done: &str, now: Timestamp) -> String {
        let what = if self.succeeded { done } else { "failed" };
        let message = if self.message.is_empty() { String::new() } else { format!(": {}", self.message) };
        format!("{what} {}{message}", moment(self.at, now))
    }
}

fn initializers(all: &InitializerMetrics) -> Vec<InitializerView> {
    let kinds = [
        ("git", &all.git),
        ("fileDownload", &all.file_download),
        ("snapshot", &all.snapshot),
        ("backup", &all.backup),
        ("prebuild", &all.prebuild),
        ("composite", &all.composite),
    ];
    let view = |kind, metric: &InitializerMetric| {
        let took = metric.duration.and_then(|took| Duration::try_from(took).ok()).unwrap_or_default();
        InitializerView { kind, duration: rounded(took), bytes: metric.size }
    };
    kinds.into_iter().filter_map(|(kind, metric)| Some(view(kind, metric.as_ref()?))).collect()
}

/// In milliseconds below a second, in tenths of a second above.
fn rounded(took: Duration) -> String {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let millis = if millis < 1000 { millis } else { millis / 100 * 100 };
    GoDuration::from(Duration::from_millis(millis)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_composite_is_not_counted_twice() {
        let metric = |size| Some(InitializerMetric { duration: None, size });
        let size = |metrics: &InitializerMetrics| {
            ContentView::new(Some(metrics), DescribeContentResponse::default(), NewestBackup::None).size
        };
        let parts = InitializerMetrics { git: metric(3), file_download: metric(4), ..Default::default() };
        assert_eq!(size(&parts), Some(7));
        assert_eq!(size(&InitializerMetrics { composite: metric(7), ..parts }), Some(7));
        let huge = InitializerMetrics { git: metric(u64::MAX), backup: metric(9), ..Default::default() };
        assert_eq!(size(&huge), Some(u64::MAX));
        assert_eq!(size(&InitializerMetrics::default()), None);
    }

    #[test]
    fn durations_are_as_exact_as_a_person_needs() {
        let text = |millis: u64| rounded(Duration::from_micros(millis * 1000 + 7));
        assert_eq!([text(0), text(42), text(1234), text(61_999)], ["0s", "42ms", "1.2s", "1m1.9s"]);
    }
}
