//! What metrics show of registered clusters. It is read on every scrape, so it builds no more than that.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clusters::classes::{Shown, shown};
use crate::clusters::view::Views;
use crate::fleet::{Connected, last_answer};
use domain::canary::CanaryState;
use domain::cluster::ClusterSpec;
use domain::condition::Condition;
use domain::drain::Stage;
use domain::health::Health;

/// What is measured of a registered cluster.
#[derive(Debug, Clone)]
pub struct Vitals {
    /// What the admin wants.
    pub spec: Arc<ClusterSpec>,
    /// The version of its Kubernetes; empty until it was read.
    pub server_version: String,
    /// When it last answered.
    pub last_answer: Option<Timestamp>,
    /// How far its drain is.
    pub drain: Option<Stage>,
    /// Its health.
    pub health: Health,
    /// What is right and wrong with it.
    pub conditions: Vec<Condition>,
    /// Live workspaces placed there.
    pub placed: usize,
    /// Orphans there.
    pub strays: usize,
    /// How long the last small write took until it was seen; of the leader, where all is well.
    pub canary: Option<Duration>,
}

impl Views {
    /// What is measured of all registered clusters, by name.
    pub fn vitals(&self) -> Vec<Vitals> {
        let (members, offers) = (self.fleet.connected(), self.classes.offers());
        let shown = shown(&offers);
        let mut all: Vec<Vitals> =
            members.iter().map(|connected| self.vitals_of(connected, &shown)).collect();
        all.extend(self.fleet.broken().iter().map(|broken| Vitals {
            spec: Arc::new(broken.spec.clone()),
            server_version: String::new(),
            last_answer: None,
            drain: self.drains.get(&broken.spec.name).map(|(drain, _)| drain.stage),
            health: Health::Lost,
            conditions: self.conditions_of_broken(broken),
            placed: self.index.count_on(&broken.spec.name),
            strays: 0,
            canary: None,
        }));
        all.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        all
    }

    fn vitals_of(&self, connected: &Connected, shown: &Shown<'_>) -> Vitals {
        let (spec, report) = (connected.spec(), connected.member.health().report());
        let canary = match connected.member.canary().standing() {
            CanaryState::Healthy(round) => Some(round),
            _ => None,
        };
        Vitals {
            server_version: connected.server_version.load().as_deref().cloned().unwrap_or_default(),
            last_answer: last_answer(&report),
            drain: self.drains.get(&spec.name).map(|(drain, _)| drain.stage),
            health: report.health,
            conditions: self.conditions_of(connected, &report, shown),
            placed: self.index.count_on(&spec.name),
            strays: self.index.strays(&spec.name, Timestamp::now()).len(),
            canary,
            spec,
        }
    }
}
