//! Whether a cluster answers, and whether it may be a member.

mod verify;

use std::time::Duration;

use tokio::sync::watch;

use crate::domain::health::{Health, Limits};

use super::client::Signals;

pub use verify::{Facts, verify};

/// How a cluster is.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthReport {
    /// The state.
    pub health: Health,
    /// Why, in one sentence; empty where it is available.
    pub reason: String,
    /// How long the state has lasted.
    pub lasted: Duration,
    /// How long ago the cluster last answered.
    pub last_answer: Option<Duration>,
}

/// A cluster's health, shared. Every answered call counts; only probes count misses.
pub struct HealthCell {}

impl HealthCell {
    /// A cluster that is watched from now on.
    pub fn new(limits: Limits) -> Self {
        let _ = limits;
        Self {}
    }
    /// How the cluster is now.
    pub fn report(&self) -> HealthReport {
        todo!()
    }
    /// The state, and its changes.
    pub fn subscribe(&self) -> watch::Receiver<Health> {
        todo!()
    }
}

impl Signals for HealthCell {
    fn answered(&self) {}
    fn missed(&self, _reason: &str) {}
}
