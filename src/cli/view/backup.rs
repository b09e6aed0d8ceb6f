use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{moment, text, timestamp};
use crate::table::{Table, note, plain, sentence, wide};
use domain::text::bytes;
use proto::spaceport::v1::{WorkspaceBackup, WorkspaceBackupKind};

/// One backup or snapshot of a workspace.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupView {
    kind: &'static str,
    /// Whether a start from the backup of the workspace restores this one.
    newest: bool,
    made_at: Option<Timestamp>,
    size: u64,
    format: String,
    /// For `workspace start --from-backup=NAME` and `--from-snapshot NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl From<WorkspaceBackup> for BackupView {
    fn from(backup: WorkspaceBackup) -> Self {
        let kind = backup.kind();
        let of_head = |number: u64| (kind == WorkspaceBackupKind::Head).then_some(number);
        Self {
            kind: match kind {
                WorkspaceBackupKind::Head => "backup",
                WorkspaceBackupKind::FullTar => "full.tar",
                WorkspaceBackupKind::Snapshot => "snapshot",
                WorkspaceBackupKind::Unspecified => "unknown",
            },
            newest: backup.newest,
            made_at: timestamp(backup.made_at.as_ref()),
            size: backup.size,
            generation: of_head(backup.generation),
            sequence: of_head(backup.sequence),
            name: text(&backup.snapshot),
            instance: text(&backup.instance_id),
            node: text(&backup.agent),
            problem: text(&backup.problem),
            format: backup.format,
        }
    }
}

impl BackupView {
    /// When it was made, and how large it is.
    fn sentence(&self, now: Timestamp) -> String {
        let made = match moment(self.made_at, now) {
            time if time.is_empty() => "at an unknown time".to_owned(),
            time => time,
        };
        let name = self.name.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
        let problem = self.problem.as_ref().map(|problem| format!("; {problem}")).unwrap_or_default();
        format!("{made}, {}{name}{problem}", bytes(self.size))
    }
}

/// All backups and snapshots of one workspace, in the order of the server.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupsView {
    pub owner: String,
    pub meta_id: String,
    pub backups: Vec<BackupView>,
}

impl BackupsView {
    /// One row each.
    pub fn table(&self, now: Timestamp) -> Table {
        let mut table = Table::new([
            plain("MADE"),
            plain("KIND"),
            plain("SIZE"),
            plain("FORMAT"),
            wide("INSTANCE"),
            wide("NODE"),
            sentence("NAME"),
            note("PROBLEM"),
        ]);
        for backup in &self.backups {
            let newest = if backup.newest { " (newest)" } else { "" };
            table.row([
                moment(backup.made_at, now),
                format!("{}{newest}", backup.kind),
                bytes(backup.size),
                backup.format.clone(),
                backup.instance.clone().unwrap_or_default(),
                backup.node.clone().unwrap_or_default(),
                backup.name.clone().unwrap_or_default(),
                backup.problem.clone().unwrap_or_default(),
            ]);
        }
        table
    }
}

/// What is known of the newest backup of a workspace.
#[derive(Debug)]
pub enum NewestBackup {
    /// The server has no store to ask.
    NotAsked,
    /// The store does not answer, or not as it should.
    NotKnown(String),
    /// There is none.
    None,
    Is(Box<BackupView>),
}

impl NewestBackup {
    /// Whether nothing is known of it.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::NotAsked)
    }

    /// In words; empty if nothing is known.
    pub fn sentence(&self, now: Timestamp) -> String {
        match self {
            Self::NotAsked => String::new(),
            Self::NotKnown(why) => format!("not known: {why}"),
            Self::None => "none".to_owned(),
            Self::Is(backup) => backup.sentence(now),
        }
    }
}

impl Serialize for NewestBackup {
    /// The backup, `null`, or `{problem}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Problem<'a> {
            problem: &'a str,
        }
        match self {
            Self::NotAsked | Self::None => serializer.serialize_none(),
            Self::NotKnown(problem) => Problem { problem }.serialize(serializer),
            Self::Is(backup) => backup.serialize(serializer),
        }
    }
}
