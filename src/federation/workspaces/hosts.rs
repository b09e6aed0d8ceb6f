//! Hosts of the URLs of workspaces. The templates of every cluster must be able to name a workspace, and no
//! two live workspaces may share a URL.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::fleet::Fleet;
use crate::fleet::settings::Settings;
use crate::view::index::Index;
use crate::{Error, Result};
use domain::names::{MetaId, Region};
use domain::record::PlacementRecord;
use domain::workspace::Start;

/// Meta ids that one workspace's URL may be the port of; templates that make more of them do not occur.
const OWNERS: usize = 16;

/// Hosts of the URLs of workspaces.
pub struct Hosts {
    fleet: Arc<Fleet>,
    index: Arc<Index>,
}

impl Hosts {
    pub(crate) fn new(fleet: Arc<Fleet>, index: Arc<Index>) -> Arc<Self> {
        Arc::new(Self { fleet, index })
    }

    /// Refuses a start whose URL, or that of one of its ports, cannot exist in one of the clusters: which start is accepted
    /// must not depend on where it is placed.
    pub(crate) fn check_urls(&self, start: &Start) -> Result<()> {
        let ports: Vec<u16> = start.ports.iter().map(|port| port.port).collect();
        for settings in self.all_settings() {
            settings.check_urls(start.id.as_str(), start.meta.as_str(), &ports)?;
        }
        Ok(())
    }

    /// Meta ids that have a port whose URL is that of `meta` in one of the clusters.
    pub(crate) fn port_of(&self, meta: &MetaId) -> Vec<MetaId> {
        if !meta.as_str().bytes().any(|byte| byte.is_ascii_digit()) {
            return Vec::new();
        }
        let owners: BTreeSet<MetaId> =
            self.all_settings().iter().flat_map(|settings| settings.port_of(meta)).collect();
        owners.into_iter().take(OWNERS).collect()
    }

    /// Refuses a record beside a live one that was made before hosts were noted, where the two would have one URL.
    pub(crate) fn check_unnoted(&self, record: &PlacementRecord) -> Result<()> {
        for (workspace, meta) in self.index.unnoted() {
            if workspace != record.workspace && self.port_of(&meta).contains(&record.meta) {
                return Err(Error::HostTaken { meta: record.meta.clone(), workspace });
            }
        }
        Ok(())
    }

    /// Regions that no registered cluster is in, each once.
    pub fn unknown_regions(&self, asked: &[Region]) -> BTreeSet<Region> {
        if asked.is_empty() {
            return BTreeSet::new();
        }
        let mut known: BTreeSet<Region> =
            self.fleet.connected().iter().map(|member| member.region()).collect();
        known.extend(self.fleet.broken().iter().map(|broken| broken.spec.region.clone()));
        asked.iter().filter(|region| !known.contains(*region)).cloned().collect()
    }

    fn all_settings(&self) -> Vec<Arc<Settings>> {
        let members = self.fleet.connected();
        members
            .iter()
            .flat_map(|member| member.places().values().map(|place| place.settings.load_full()))
            .collect()
    }
}
