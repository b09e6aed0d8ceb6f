//! Reads a workspace again, from its apiserver and from etcd, under its lock.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use crate::fleet::{Connected, Place};
use crate::locks::{Locks, PATIENCE};
use crate::workspaces::diff::Comparison;
use crate::workspaces::records::Records;
use crate::{Error, Result};
use domain::diff::Row;
use domain::names::WorkspaceId;
use k8s::resources::Workspace;
use member::apply::Writer;
use store::Term;

/// A resource and how it compares with its record.
pub(super) struct Site {
    pub(super) row: Row,
    pub(super) workspace: Workspace,
    pub(super) writer: Writer,
    pub(super) place: Place,
}

/// Reads workspaces again under their locks.
pub(crate) struct Sites {
    locks: Arc<Locks>,
    records: Arc<Records>,
    comparison: Arc<Comparison>,
}

impl Sites {
    pub(crate) fn new(locks: Arc<Locks>, records: Arc<Records>, comparison: Arc<Comparison>) -> Arc<Self> {
        Arc::new(Self { locks, records, comparison })
    }

    /// A resource and what is recorded of it, both as they are now, for whoever holds the workspace's lock.
    pub(super) async fn look_again(
        &self,
        term: &Term,
        connected: &Connected,
        row: &Row,
    ) -> Result<(WorkspaceId, OwnedMutexGuard<()>, Site)> {
        let id: WorkspaceId = row.workspace.parse().map_err(|_| Error::Invalid {
            field: "workspaces".into(),
            rule: format!("{} is no workspace id", row.workspace),
        })?;
        let turn = self.locks.lock(&id, PATIENCE).await?;
        let place = connected.place(&row.namespace)?;
        let pass = connected.gate.pass(connected.member.name(), term).await?;
        let writer = connected.member.writer(&row.namespace, &pass);
        // Of this very leader's etcd: nothing is done about what may have a record.
        if let Some(item) = self.records.read(&id).await? {
            self.records.show(item.value, item.version);
        }
        let gone =
            || Error::Precondition { id: id.clone(), reason: "has no resource there any more".to_owned() };
        let workspace = writer.get_workspace(id.as_str()).await?.ok_or_else(gone)?;
        let row = self.comparison.row_of(connected, &BTreeSet::new(), &id, &workspace).ok_or_else(gone)?;
        Ok((id, turn, Site { row, workspace, writer, place }))
    }
}
