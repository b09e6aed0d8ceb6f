//! Views of messages for programs (`-o json`, `-o yaml`): camelCase, enums by name, secrets only on request.

use jiff::Timestamp;

pub use backup::{BackupView, BackupsView, NewestBackup};
pub use checks::{CheckView, InstalledView};
pub use cluster::ClusterView;
pub use content::ContentView;
pub use diff::DiffView;
pub use drain::DrainView;
pub use ended::EndedView;
pub use forgotten::ForgottenView;
pub use handled::HandledView;
pub use leader::{LeaderView, OpeningView};
pub use placement::{DecisionView, ForecastView};
pub use status::StatusPage;
pub use workspace::{SnapshotView, StartedView, WorkspaceView, phase_name};

mod backup;
mod checks;
mod cluster;
mod content;
mod diff;
mod drain;
mod ended;
mod forgotten;
mod handled;
mod leader;
mod placement;
mod status;
mod workspace;

/// A message's time.
fn timestamp(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok())
}

/// Time since then in at most two units; empty if there is no time.
fn age(time: Option<Timestamp>, now: Timestamp) -> String {
    let Some(time) = time else { return String::new() };
    let seconds = now.duration_since(time).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A time in seconds, and its distance from now.
fn moment(time: Option<Timestamp>, now: Timestamp) -> String {
    let Some(time) = time else { return String::new() };
    let distance = if time > now {
        format!("in {}", age(Some(now), time))
    } else {
        format!("{} ago", age(Some(time), now))
    };
    format!("{time:.0} ({distance})")
}

/// A text from a server; if it is a time, in whole seconds.
fn in_seconds(text: &str) -> String {
    text.parse::<Timestamp>().map_or_else(|_| text.to_owned(), |time| format!("{time:.0}"))
}

/// A number and a noun, such as `1 workspace`.
pub fn counted(count: impl TryInto<u64>, thing: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// The protocol encodes absence as an empty text.
fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_at_most_two_units_and_is_never_negative() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let ago = |seconds: i64| age(Timestamp::from_second(1_000_000 - seconds).ok(), now);
        assert_eq!(
            [ago(42), ago(61), ago(3_700), ago(90_000), ago(-5)],
            ["42s", "1m1s", "1h1m", "1d1h", "0s"]
        );
        assert_eq!(age(None, now), "");
    }

    #[test]
    fn a_moment_has_whole_seconds_and_its_distance() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let at = |nanosecond: i128| Timestamp::from_nanosecond(1_000_000_000_000_000 + nanosecond).ok();
        assert_eq!(moment(at(-61_000_000_001), now), "1970-01-12T13:45:38Z (1m1s ago)");
        assert_eq!(moment(at(90_500_000_000), now), "1970-01-12T13:48:10Z (in 1m30s)");
        assert_eq!(moment(None, now), "");
        assert_eq!(in_seconds("2026-01-02T03:04:05.678901234Z"), "2026-01-02T03:04:05Z");
        assert_eq!(in_seconds("yesterday"), "yesterday");
    }
}
