//! Heads: which backup of a workspace is the newest. The protocol is in `docs/protocols/content-heads.md`.

use jiff::Timestamp;
use object_store::ObjectStoreExt as _;
use serde::Deserialize;

use super::conditional::Created;

use super::download::DownloadOptions;
use super::error::{Error, NotProven};
use super::head::Head;
use super::listing::timestamp;
use super::names::{BackupId, Format, Key, ObjectName, WorkspaceKeys};
use super::open::{Place, Store};
use super::prove::{Expectation, Proven};

/// Maximum bytes of a head.
const HEAD_MAX: u64 = 64 * 1024;
/// Heads that a listing of backups reads.
const LISTED: usize = 1_000;

/// What a head says in addition to what was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadMeta {
    /// When the backup was made.
    pub made_at: Timestamp,
    /// Who made it.
    pub agent: String,
    /// The instance whose content it is.
    pub instance: String,
    /// The head before.
    pub previous: Option<BackupId>,
}

/// A head whose archive is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenHead {
    id: BackupId,
    head: Head,
    archive: Proven,
}

impl ProvenHead {
    /// Its id.
    pub fn id(&self) -> BackupId {
        self.id
    }

    /// Its content.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Its archive.
    pub fn archive(&self) -> &Proven {
        &self.archive
    }
}

/// A backup in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its head; `None` for `full.tar`.
    pub id: Option<BackupId>,
    /// The object with the content.
    pub key: Key,
    /// Its bytes.
    pub size: u64,
    /// When it was made: as the head says, or when `full.tar` was written.
    pub made_at: Timestamp,
    /// Format of the content.
    pub format: Format,
    /// Who made it; empty for `full.tar`.
    pub agent: String,
}

/// The backups of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backups {
    /// The newest first.
    pub backups: Vec<Backup>,
    /// Heads that cannot be read, for example because a newer version wrote them.
    pub unreadable: Vec<BackupId>,
}

/// The newest backup of a workspace.
#[derive(Debug)]
pub enum Choice {
    /// A head, which is newer than `full.tar`.
    Head(Box<ProvenHead>),
    /// `full.tar` of an existing node agent.
    FullTar {
        /// The backup.
        backup: Backup,
        /// How the archive of the newest head is damaged, if that is newer than `full.tar`.
        unproven: Option<NotProven>,
    },
}

impl Store {
    /// Makes a proven archive the newest backup, by creating a head that must not exist. Returns the head; if an earlier call
    /// wrote the same and its answer was lost, that one.
    pub async fn write_head(
        &self,
        keys: &WorkspaceKeys,
        id: BackupId,
        archive: Proven,
        meta: HeadMeta,
    ) -> Result<ProvenHead, Error> {
        self.check_conditional_create(keys.owner()).await?;
        let key = keys.head(id);
        let Place { bucket, path, at } = self.place(&key)?;
        let inside = keys.all().contains(archive.key());
        if !inside || !matches!(archive.key().object(), Some((_, ObjectName::Archive(_)))) {
            let problem = "its archive must be an archive of the same workspace".to_owned();
            return Err(Error::BadHead { at, problem });
        }
        let head = Head {
            version: Head::VERSION,
            archive: archive.key().path().to_owned(),
            size: archive.size(),
            digest: archive.digest(),
            index: archive.tail(),
            e_tag: archive.e_tag().map(str::to_owned),
            format: Format::Zst,
            made_at: meta.made_at,
            agent: meta.agent,
            instance: Some(meta.instance),
            previous: meta.previous,
            store: self.name().to_owned(),
        };
        let text = serde_json::to_vec(&head)
            .map_err(|error| Error::BadHead { at: at.clone(), problem: error.to_string() })?;
        match self.create_bytes(&bucket, &path, &at, text).await? {
            Created::Ours => Ok(ProvenHead { id, head, archive }),
            Created::Theirs(found) => {
                let agent = serde_json::from_slice::<Head>(&found)
                    .map_or_else(|_| "unknown".to_owned(), |head| head.agent);
                Err(Error::HeadTaken { at, id, agent })
            }
        }
    }

    /// The ids of all heads of a workspace, the newest last.
    pub async fn list_heads(&self, keys: &WorkspaceKeys) -> Result<Vec<BackupId>, Error> {
        let mut ids: Vec<BackupId> = self.heads(keys).await?.into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// The newest head that the store had at a time, by its own clock.
    pub async fn newest_head_at(
        &self,
        keys: &WorkspaceKeys,
        at: Timestamp,
    ) -> Result<Option<BackupId>, Error> {
        let heads = self.heads(keys).await?.into_iter();
        Ok(heads.filter(|(_, written)| *written <= at).map(|(id, _)| id).max())
    }

    /// Reads a head.
    pub async fn read_head(&self, keys: &WorkspaceKeys, id: BackupId) -> Result<Head, Error> {
        let key = keys.head(id);
        let at = self.place(&key)?.at;
        let text = self.download(&key, DownloadOptions::default()).await?.bytes(HEAD_MAX).await?;
        parse(&text).map_err(|problem| Error::BadHead { at, problem })
    }

    /// The head that this agent wrote for this instance, with its archive proven; `None` if nobody wrote it.
    pub async fn own_head(
        &self,
        keys: &WorkspaceKeys,
        id: BackupId,
        instance: &str,
        agent: &str,
    ) -> Result<Option<ProvenHead>, NotProven> {
        let head = match self.read_head(keys, id).await {
            Err(Error::NotFound(_)) => return Ok(None),
            other => other?,
        };
        // Heads of earlier versions name no instance.
        let is_own = head.instance.as_deref().map_or(head.agent == agent, |of| of == instance);
        if !is_own {
            let at = self.place(&keys.head(id))?.at;
            return Err(Error::HeadTaken { at, id, agent: head.agent }.into());
        }
        self.prove_archive(keys, id, head).await.map(Some)
    }

    /// Reads a head and proves its archive.
    pub async fn prove_head(&self, keys: &WorkspaceKeys, id: BackupId) -> Result<ProvenHead, NotProven> {
        let head = self.read_head(keys, id).await?;
        self.prove_archive(keys, id, head).await
    }

    async fn prove_archive(
        &self,
        keys: &WorkspaceKeys,
        id: BackupId,
        head: Head,
    ) -> Result<ProvenHead, NotProven> {
        let archive = self.archive_of(keys, id, &head)?;
        let proven = self.prove(&archive, &Expectation::of_head(&head)).await?;
        Ok(ProvenHead { id, head, archive: proven })
    }

    /// The object that a head names. A path that cannot be one is a damaged head, and not a name that a user gave.
    fn archive_of(&self, keys: &WorkspaceKeys, id: BackupId, head: &Head) -> Result<Key, Error> {
        let problem = match Key::parse(keys.owner(), &head.archive) {
            Ok(archive) if keys.all().contains(&archive) => return Ok(archive),
            Ok(_) => "it names an object outside of its workspace".to_owned(),
            Err(error) => format!("it names no object: {error}"),
        };
        Err(Error::BadHead { at: self.place(&keys.head(id))?.at, problem })
    }

    /// The newest backup of a workspace; `None` if there is none. Of a head and `full.tar` the newer one wins by the clock of the
    /// store. An older `full.tar` wins only if the archive of the head is proven to be damaged: a head that cannot be read, or a
    /// store that fails, is an error. Of two heads the older one never replaces a newer one that is damaged.
    pub async fn newest_backup(&self, keys: &WorkspaceKeys) -> Result<Option<Choice>, Error> {
        let newest = self.heads(keys).await?.into_iter().max_by_key(|(id, _)| *id);
        let full = self.full_tar(keys).await?;
        let Some((id, written)) = newest else {
            return Ok(full.map(|backup| Choice::FullTar { backup, unproven: None }));
        };
        match full {
            Some(backup) if backup.made_at > written => Ok(Some(Choice::FullTar { backup, unproven: None })),
            full => {
                let head = self.read_head(keys, id).await?;
                match (self.prove_archive(keys, id, head).await, full) {
                    (Ok(head), _) => Ok(Some(Choice::Head(Box::new(head)))),
                    (Err(NotProven::Store(error)), _) => Err(*error),
                    (Err(damaged), Some(backup)) => {
                        Ok(Some(Choice::FullTar { backup, unproven: Some(damaged) }))
                    }
                    (Err(damaged), None) => Err(damaged.into()),
                }
            }
        }
    }

    /// The backups of a workspace; of very many heads the newest thousand.
    pub async fn list_backups(&self, keys: &WorkspaceKeys) -> Result<Backups, Error> {
        let ids = self.list_heads(keys).await?;
        let mut unreadable = Vec::new();
        let mut backups: Vec<Backup> = self.full_tar(keys).await?.into_iter().collect();
        for id in ids.into_iter().rev().take(LISTED) {
            let read = self.read_head(keys, id).await;
            match read.and_then(|head| Ok((self.archive_of(keys, id, &head)?, head))) {
                Ok((key, head)) => {
                    let Head { size, made_at, format, agent, .. } = head;
                    backups.push(Backup { id: Some(id), key, size, made_at, format, agent });
                }
                // Pruned since it was listed.
                Err(Error::NotFound(_)) => {}
                Err(Error::BadHead { .. }) => unreadable.push(id),
                Err(error) => return Err(error),
            }
        }
        backups.sort_by_key(|backup| std::cmp::Reverse((backup.made_at, backup.id)));
        Ok(Backups { backups, unreadable })
    }

    /// `full.tar` if it is there. It has no digest; an empty one cannot be a tar.
    pub(super) async fn full_tar(&self, keys: &WorkspaceKeys) -> Result<Option<Backup>, Error> {
        let key = keys.full_tar();
        let Place { bucket, path, at } = self.place(&key)?;
        match self.read(&at, 0, || bucket.objects.head(&path)).await {
            Ok(meta) if meta.size == 0 => Ok(None),
            Ok(meta) => {
                let made_at = timestamp(meta.last_modified);
                let (size, format, agent) = (meta.size, Format::Tar, String::new());
                Ok(Some(Backup { id: None, key, size, made_at, format, agent }))
            }
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The heads of a workspace and when the store wrote them.
    pub(super) async fn heads(&self, keys: &WorkspaceKeys) -> Result<Vec<(BackupId, Timestamp)>, Error> {
        let of = |key: Key| match key.object() {
            Some((_, ObjectName::Head(id))) => Some(id),
            _ => None,
        };
        self.listed(&keys.heads(), of).await
    }
}

fn parse(text: &[u8]) -> Result<Head, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let malformed = |_| "it is no JSON of the documented form".to_owned();
    let Version { version } = serde_json::from_slice(text).map_err(malformed)?;
    if version != Head::VERSION {
        return Err(format!("it has version {version}, and version {} is known", Head::VERSION));
    }
    serde_json::from_slice(text).map_err(malformed)
}
