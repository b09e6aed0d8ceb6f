//! What the operations of a node have to keep to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use content::store::{Format, PrunePolicy};

use crate::quota::Backend;

/// Settings of the operations of a node.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `workspaceHostPath`.
    pub host_path: PathBuf,
    /// Name of the node; heads hold it.
    pub node: String,
    /// Format of backups.
    pub format: Format,
    /// How storage is limited.
    pub quota: Backend,
    /// What backups leave out.
    pub excludes: Excludes,
    /// Longest times.
    pub deadlines: Deadlines,
    /// Of backups that fail.
    pub retry: Retry,
    /// Which superseded backups stay.
    pub pruning: PrunePolicy,
}

/// Patterns of what backups leave out, as in `.gitignore`.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    /// For all workspaces.
    pub all: Vec<String>,
    /// By class, in addition.
    pub classes: BTreeMap<String, Vec<String>>,
}

impl Excludes {
    /// Of a class.
    pub fn of(&self, class: &str) -> Vec<String> {
        self.all.iter().chain(self.classes.get(class).into_iter().flatten()).cloned().collect()
    }
}

/// Longest times.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Of an initialisation.
    pub initialize: Duration,
    /// Of one try of a backup.
    pub backup: Duration,
    /// Of a snapshot.
    pub snapshot: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let hour = Duration::from_hours(1);
        Self { initialize: hour, backup: hour, snapshot: hour }
    }
}

/// Of backups that fail.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Backoff after the first try; it doubles each time.
    pub first: Duration,
    /// Maximum backoff.
    pub most: Duration,
    /// From the first try that failed until the backup failed for good; anew once more of the archive reached the store.
    pub give_up: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { first: Duration::from_secs(5), most: Duration::from_mins(2), give_up: Duration::from_mins(30) }
    }
}

impl Retry {
    /// Backoff after so many tries.
    pub fn after(&self, tries: u32) -> Duration {
        let doublings = tries.saturating_sub(1).min(20);
        self.first.saturating_mul(1 << doublings).min(self.most)
    }
}
