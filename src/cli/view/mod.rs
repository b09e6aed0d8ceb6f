//! The messages as programs read them (`-o json`, `-o yaml`): camelCase, enums by name, no secrets unless asked for.

use jiff::Timestamp;

pub use checks::{CheckView, InstalledView};
pub use cluster::ClusterView;
pub use diff::DiffView;
pub use drain::DrainView;
pub use forgotten::ForgottenView;
pub use handled::HandledView;
pub use leader::{LeaderView, OpeningView};
pub use status::StatusPage;
pub use workspace::{StartedView, WorkspaceView, phase_name};

mod checks;
mod cluster;
mod diff;
mod drain;
mod forgotten;
mod handled;
mod leader;
mod status;
mod workspace;

/// A message's time.
pub fn timestamp(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok())
}

/// How long ago that was, in at most two units; nothing where there is no time.
pub fn age(time: Option<Timestamp>, now: Timestamp) -> String {
    let Some(time) = time else { return String::new() };
    let seconds = now.duration_since(time).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// An optional text: empty is how the protocol writes absence.
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
}
