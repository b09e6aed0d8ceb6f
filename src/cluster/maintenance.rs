//! Maintenance of one namespace, kept in a ConfigMap there.

use jiff::Timestamp;
use tokio::sync::watch;

/// Name of the ConfigMap where the configuration names none.
pub const DEFAULT_NAME: &str = "ws-manager-mk2-maintenance-mode";
/// Key in the ConfigMap.
pub const KEY: &str = "config.json";

/// Content that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{KEY} of the maintenance ConfigMap {0}")]
pub struct Unreadable(pub String);

/// Until when maintenance is on, by the text of [`KEY`].
pub fn parse(text: &str) -> Result<Option<Timestamp>, Unreadable> {
    let _ = text;
    todo!()
}

/// Maintenance of one namespace as last read.
pub struct Maintenance {}

impl Maintenance {
    /// Off, until told otherwise.
    pub fn new() -> Self {
        Self {}
    }
    /// Whether it is on.
    pub fn enabled_at(&self, now: Timestamp) -> bool {
        let _ = now;
        todo!()
    }
    /// Until when it is on; may lie in the past.
    pub fn until(&self) -> Option<Timestamp> {
        todo!()
    }
    /// Why the content last seen could not be read, and the last good state holds.
    pub fn problem(&self) -> Option<String> {
        todo!()
    }
    /// Whether it is on; changes also when it ends by itself (while [`Member::run`](super::Member::run) runs).
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        todo!()
    }
}
