//! What metrics tell of registered clusters. Somebody scrapes every few seconds, so no more than that is built.

use std::time::Duration;

use jiff::Timestamp;

use super::classes::{Shown, shown};
use crate::domain::canary::Standing;
use crate::domain::condition::Condition;
use crate::domain::drain::Stage;
use crate::domain::health::Health;
use crate::domain::names::{ClusterName, Region};
use crate::federation::Federation;
use crate::federation::fleet::{Connected, last_answer};

/// What is measured of a registered cluster.
#[derive(Debug, Clone)]
pub struct Vitals {
    /// Its name.
    pub cluster: ClusterName,
    /// Its region.
    pub region: Region,
    /// The version of its Kubernetes; empty until it told.
    pub server_version: String,
    /// When it last answered.
    pub last_answer: Option<Timestamp>,
    /// Whether an admin keeps new workspaces away.
    pub cordoned: bool,
    /// How far its drain is.
    pub drain: Option<Stage>,
    /// Its health.
    pub health: Health,
    /// What is right and wrong with it.
    pub conditions: Vec<Condition>,
    /// Live workspaces placed there.
    pub placed: usize,
    /// Workspaces of ours there without a record.
    pub strays: usize,
    /// How long the last small write took until it was seen; of the leader, where all is well.
    pub canary: Option<Duration>,
}

impl Federation {
    /// What is measured of all registered clusters, by name.
    pub fn vitals(&self) -> Vec<Vitals> {
        let (members, offers) = (self.fleet.connected(), self.offers());
        let shown = shown(&offers);
        let mut all: Vec<Vitals> =
            members.iter().map(|connected| self.vitals_of(connected, &shown)).collect();
        all.extend(self.fleet.broken().iter().map(|broken| Vitals {
            cluster: broken.spec.name.clone(),
            region: broken.spec.region.clone(),
            server_version: String::new(),
            last_answer: None,
            cordoned: broken.spec.cordoned,
            drain: self.drains.get(&broken.spec.name).map(|(drain, _)| drain.stage),
            health: Health::Lost,
            conditions: self.conditions_of_broken(broken),
            placed: self.index.count_on(&broken.spec.name),
            strays: 0,
            canary: None,
        }));
        all.sort_by(|a, b| a.cluster.cmp(&b.cluster));
        all
    }

    fn vitals_of(&self, connected: &Connected, shown: &Shown<'_>) -> Vitals {
        let (cluster, report) = (connected.member.name(), connected.member.health().report());
        let spec = connected.spec.load();
        let canary = match connected.member.canary().standing() {
            Standing::Well(round) => Some(round),
            _ => None,
        };
        Vitals {
            region: spec.region.clone(),
            server_version: connected.server_version.load().as_deref().cloned().unwrap_or_default(),
            last_answer: last_answer(&report),
            cordoned: spec.cordoned,
            drain: self.drains.get(cluster).map(|(drain, _)| drain.stage),
            health: report.health,
            conditions: self.conditions_of(connected, &report, shown),
            placed: self.index.count_on(cluster),
            strays: self.index.strays(cluster, Timestamp::now()).len(),
            canary,
            cluster: cluster.clone(),
        }
    }
}
