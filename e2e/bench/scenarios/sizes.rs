//! Sizes of each scale.

use clap::ValueEnum;
use tokio::time::Duration;

/// Scale of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scale {
    /// Under a minute a scenario: bursts of 50, at most 200 live.
    Small,
    /// What the goals are checked with: bursts of 1,000, at most 5,000 live.
    Medium,
    /// Everything: bursts of 1,000, at most 10,000 live.
    Full,
}

/// The sizes of a scale; docs/benchmarks.md has the same as a table.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Workspaces started one at a time.
    pub one: usize,
    /// Subscribers, and starts that they receive.
    pub subscribers: (usize, usize),
    /// Starts of a burst, and how often it runs, each time followed by its floor.
    pub burst: (usize, usize),
    /// The same over several clusters.
    pub burst_over_several: (usize, usize),
    /// Live workspaces on one cluster, increasing.
    pub live: &'static [usize],
    /// Numbers of live workspaces at which idling is measured; 0 always is.
    pub idle: &'static [usize],
    /// Numbers of live workspaces at which idling is measured over several clusters.
    pub idle_over_several: &'static [usize],
    /// Numbers of live workspaces at which a leader ends; it always ends with none live, too.
    pub takeover: &'static [usize],
    /// How long idling is measured.
    pub window: Duration,
    /// Starts of the process at each size, and takeovers.
    pub repeats: usize,
    /// How long heartbeats are sent.
    pub heartbeats: Duration,
    /// Rounds with and without a bad cluster, and starts of each.
    pub bad_cluster: (usize, usize),
    /// Whether to wait until a silent cluster is lost and available again, more than a minute.
    pub recovery: bool,
    /// Timeout of all scenarios of a group together.
    pub limit: Duration,
}

impl Scale {
    pub fn sizes(self) -> Sizes {
        match self {
            Self::Small => Sizes {
                one: 20,
                subscribers: (100, 50),
                burst: (50, 3),
                burst_over_several: (50, 3),
                live: &[50, 200],
                idle: &[200],
                idle_over_several: &[50],
                takeover: &[50],
                window: Duration::from_secs(5),
                repeats: 1,
                heartbeats: Duration::from_secs(10),
                bad_cluster: (2, 14),
                recovery: false,
                limit: Duration::from_mins(10),
            },
            Self::Medium => Sizes {
                one: 50,
                subscribers: (1000, 200),
                burst: (1000, 3),
                burst_over_several: (500, 2),
                live: &[1000, 5000],
                idle: &[1000, 5000],
                idle_over_several: &[1000],
                takeover: &[1000],
                window: Duration::from_secs(10),
                repeats: 3,
                heartbeats: Duration::from_secs(30),
                bad_cluster: (3, 70),
                recovery: true,
                limit: Duration::from_mins(30),
            },
            Self::Full => Sizes {
                burst_over_several: (1000, 3),
                live: &[1000, 5000, 10_000],
                idle: &[1000, 10_000],
                idle_over_several: &[1000, 10_000],
                takeover: &[1000, 5000],
                window: Duration::from_secs(20),
                heartbeats: Duration::from_mins(5),
                bad_cluster: (6, 105),
                limit: Duration::from_mins(90),
                ..Self::Medium.sizes()
            },
        }
    }
}
