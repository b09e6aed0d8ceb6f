//! Records a workspace that exists and has no record.

use std::sync::Arc;

use super::taken::{self, Taken};
use crate::locks::{PATIENCE, RegistryLock};
use crate::view::index::Index;
use crate::workspaces::hosts::Hosts;
use crate::workspaces::records::Records;
use crate::{Error, Result};
use domain::names::WorkspaceId;
use domain::record::PlacementRecord;
use store::{Claim, Term};

/// Records workspaces whose ids are free.
pub(crate) struct Claims {
    records: Arc<Records>,
    index: Arc<Index>,
    hosts: Arc<Hosts>,
    registry: Arc<RegistryLock>,
}

impl Claims {
    pub(crate) fn new(
        records: Arc<Records>,
        index: Arc<Index>,
        hosts: Arc<Hosts>,
        registry: Arc<RegistryLock>,
    ) -> Arc<Self> {
        Arc::new(Self { records, index, hosts, registry })
    }

    /// What live workspaces have now.
    pub(super) fn taken(&self) -> Taken<'_> {
        Taken::of(&self.index, &self.hosts)
    }

    /// The record of a workspace that was given up, and its version.
    pub(super) fn given_up(&self, id: &WorkspaceId) -> Option<(PlacementRecord, i64)> {
        self.records.get(id).filter(|(record, _)| record.given_up.is_some())
    }

    /// Records a workspace that is there, where neither of its ids is taken; `given_up`: version of a record that does not
    /// count any more.
    pub(super) async fn claim(
        &self,
        term: &Term,
        record: &PlacementRecord,
        given_up: Option<i64>,
    ) -> Result<()> {
        let record = &PlacementRecord { port_of: Some(self.hosts.port_of(&record.meta)), ..record.clone() };
        let refused = |reason: String| Err(Error::Precondition { id: record.workspace.clone(), reason });
        if let Err(taken) = self.hosts.check_unnoted(record) {
            return refused(taken.to_string());
        }
        let registry = self.registry.read(PATIENCE).await?;
        let claim = match given_up {
            None => self.records.claim(term, record).await?,
            Some(version) => self.records.claim_over(term, record, version).await?,
        };
        drop(registry);
        let why = taken::why(&claim, &record.workspace, &record.meta);
        match claim {
            Claim::Claimed { version } => self.records.show(record.clone(), version),
            Claim::IdTaken(found, version) => {
                let same = found.is_live()
                    && (&found.cluster, &found.namespace, &found.digest)
                        == (&record.cluster, &record.namespace, &record.digest);
                self.records.show(*found, version);
                // An earlier try of this, whose answer was lost.
                if same {
                    return Ok(());
                }
            }
            Claim::MetaTaken { .. } | Claim::HostTaken { .. } | Claim::FolderTaken { .. } => {}
        }
        why.map_or(Ok(()), refused)
    }
}
