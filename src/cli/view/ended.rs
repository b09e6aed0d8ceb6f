use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::workspace::conditions;
use super::{NewestBackup, age, phase_name, text, timestamp};
use crate::table::Table;
use proto::spaceport::v1::EndedWorkspace;
use proto::wsman::WorkspacePhase;

/// An ended workspace. Fields shared with [`WorkspaceView`](super::WorkspaceView) have the same names.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndedView {
    id: String,
    pub meta_id: String,
    pub owner: String,
    phase: &'static str,
    last_phase: &'static str,
    message: String,
    cluster: String,
    namespace: String,
    placed_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    id_taken_until: Option<Timestamp>,
    conditions: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_failed: Option<String>,
    #[serde(skip_serializing_if = "NewestBackup::is_unknown")]
    newest_backup: NewestBackup,
}

impl From<EndedWorkspace> for EndedView {
    fn from(ended: EndedWorkspace) -> Self {
        Self {
            phase: phase_name(WorkspacePhase::Stopped.into()),
            last_phase: phase_name(ended.last_phase),
            placed_at: timestamp(ended.placed_at.as_ref()),
            ended_at: timestamp(ended.ended_at.as_ref()),
            id_taken_until: timestamp(ended.id_taken_until.as_ref()),
            conditions: conditions(&ended.conditions.unwrap_or_default()),
            backup_failed: text(&ended.backup_failed),
            newest_backup: NewestBackup::NotAsked,
            id: ended.id,
            meta_id: ended.meta_id,
            owner: ended.owner,
            message: ended.message,
            cluster: ended.cluster,
            namespace: ended.namespace,
        }
    }
}

impl EndedView {
    /// That it has ended, and when.
    pub fn sentence(&self) -> String {
        let at = self.ended_at.map(|at| format!(" ({at:.0})")).unwrap_or_default();
        format!("workspace {} has already ended{at}", self.id)
    }

    /// Adds what a start from the backup would restore.
    #[must_use]
    pub fn with_backup(self, newest_backup: NewestBackup) -> Self {
        Self { newest_backup, ..self }
    }

    /// All recorded fields.
    pub fn details(&self, now: Timestamp) -> Table {
        let conditions = self.conditions.iter().map(|(key, value)| format!("{key}={value}"));
        let time = |time: Option<Timestamp>| time.map(|time| format!("{time:.0}")).unwrap_or_default();
        let ended = match self.ended_at {
            Some(at) => format!("{at:.0} ({} ago)", age(Some(at), now)),
            None => String::new(),
        };
        Table::of_fields([
            ("id", self.id.clone()),
            ("meta id", self.meta_id.clone()),
            ("owner", self.owner.clone()),
            ("phase", self.phase.to_owned()),
            ("last phase", self.last_phase.to_owned()),
            ("message", self.message.clone()),
            ("cluster", self.cluster.clone()),
            ("namespace", self.namespace.clone()),
            ("placed", time(self.placed_at)),
            ("ended", ended),
            ("id taken until", time(self.id_taken_until)),
            ("conditions", conditions.collect::<Vec<_>>().join(", ")),
            ("backup failed", self.backup_failed.clone().unwrap_or_default()),
            ("newest backup", self.newest_backup.sentence(now)),
        ])
    }
}
