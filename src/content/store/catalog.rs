//! What of a workspace can be restored, page by page: heads, `full.tar` and snapshots. Only the heads of one page are read, and
//! no archive is: the catalog compares what heads say with what the store lists.

use std::cmp::Reverse;
use std::collections::HashMap;

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use object_store::ObjectMeta;

use super::error::Error;
use super::head::Head;
use super::listing::OBJECTS_MAX;
use super::names::{BackupId, Format, Key, ObjectName, WorkspaceKeys};
use super::open::Store;

/// Heads that are read at a time.
const READS: usize = 16;

/// The place of an entry in the catalog, which is its order: heads, the newest first; `full.tar`; snapshots, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// A head.
    Head(Reverse<BackupId>),
    /// `full.tar`.
    FullTar,
    /// A snapshot: its nanoseconds since 1970, and its name.
    Snapshot(Reverse<u64>, String),
}

impl Entry {
    /// The name below the workspace.
    pub fn name(&self) -> String {
        match self {
            Self::Head(Reverse(id)) => format!("heads/{id}"),
            Self::FullTar => "full.tar".to_owned(),
            Self::Snapshot(_, name) => name.clone(),
        }
    }

    /// The entry of a name below the workspace; `None` if it is none.
    pub fn parse(name: &str) -> Option<Self> {
        match ObjectName::parse(name)? {
            ObjectName::Head(id) => Some(Self::Head(Reverse(id))),
            ObjectName::FullTar => Some(Self::FullTar),
            ObjectName::Snapshot(nanos) => Some(Self::Snapshot(Reverse(nanos), name.to_owned())),
            ObjectName::Archive(_) | ObjectName::Instance => None,
        }
    }
}

/// One entry with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// What it is.
    pub entry: Entry,
    /// The object with the content; `None` if the head cannot be read.
    pub key: Option<Key>,
    /// Its bytes.
    pub size: u64,
    /// When it was made.
    pub made_at: Option<Timestamp>,
    /// Format of the content: `zst`, `tar` or `tar.gz`.
    pub format: &'static str,
    /// The instance whose content it is, if that is recorded.
    pub instance: Option<String>,
    /// The node agent that wrote it, if that is recorded.
    pub agent: Option<String>,
    /// Whether a start from the backup restores this one.
    pub newest: bool,
    /// Why it cannot be restored, if that is known.
    pub problem: Option<String>,
}

/// A page of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Its entries. One that was deleted meanwhile is missing.
    pub listed: Vec<Listed>,
    /// The last entry of this page, if there are more.
    pub next: Option<Entry>,
}

/// The objects of a workspace, as the store lists them.
struct Objects {
    heads: Vec<(BackupId, Timestamp)>,
    archives: HashMap<String, u64>,
    full_tar: Option<(u64, Timestamp)>,
    snapshots: Vec<(u64, String, u64)>,
}

impl Store {
    /// The entries after `after`, at most `size`.
    pub async fn catalog(
        &self,
        keys: &WorkspaceKeys,
        after: Option<&Entry>,
        size: usize,
    ) -> Result<Page, Error> {
        let objects = self.objects(keys).await?;
        let newest = objects.newest();
        let mut entries = objects.entries();
        entries.sort_unstable();
        entries.retain(|entry| after.is_none_or(|after| entry > after));
        let more = entries.len() > size;
        entries.truncate(size);
        let next = entries.last().filter(|_| more).cloned();
        let (objects, newest) = (&objects, newest.as_ref());
        let reads = futures::stream::iter(entries).map(|entry| async move {
            let is_newest = newest == Some(&entry);
            let listed = self.listed_entry(keys, objects, entry).await?;
            Ok::<_, Error>(listed.map(|listed| Listed { newest: is_newest, ..listed }))
        });
        let listed: Vec<Option<Listed>> = reads.buffered(READS).try_collect().await?;
        Ok(Page { listed: listed.into_iter().flatten().collect(), next })
    }

    async fn objects(&self, keys: &WorkspaceKeys) -> Result<Objects, Error> {
        let archive = |meta: &ObjectMeta, key: Key| match key.object()? {
            (_, ObjectName::Archive(_)) => Some((key.path().to_owned(), meta.size)),
            _ => None,
        };
        let snapshot = |meta: &ObjectMeta, key: Key| match key.object()? {
            (_, ObjectName::Snapshot(nanos)) => Some((nanos, key.name()?.to_owned(), meta.size)),
            _ => None,
        };
        let full_tar = async {
            let backup = self.full_tar(keys).await?;
            Ok(backup.map(|backup| (backup.size, backup.made_at)))
        };
        let (all, below) = (keys.all(), keys.archives());
        let archives = self.found(&below, None, OBJECTS_MAX, archive);
        // Stores list in the order of names: the objects of instances, of which there may be many, come before.
        let snapshots = self.found(&all, Some("snapshot"), OBJECTS_MAX, snapshot);
        let (heads, archives, snapshots, full_tar) =
            tokio::try_join!(self.heads(keys), archives, snapshots, full_tar)?;
        Ok(Objects { heads, archives: archives.into_iter().collect(), full_tar, snapshots })
    }

    /// One entry; `None` if it was deleted meanwhile.
    async fn listed_entry(
        &self,
        keys: &WorkspaceKeys,
        objects: &Objects,
        entry: Entry,
    ) -> Result<Option<Listed>, Error> {
        let blank = Listed {
            key: None,
            size: 0,
            made_at: None,
            format: "",
            instance: None,
            agent: None,
            newest: false,
            problem: None,
            entry: entry.clone(),
        };
        Ok(match entry {
            Entry::Head(Reverse(id)) => match self.read_head(keys, id).await {
                Ok(head) => Some(of_head(keys, objects, head, blank)),
                Err(Error::NotFound(_)) => None,
                Err(error @ (Error::BadHead { .. } | Error::Corrupted { .. })) => {
                    Some(Listed { problem: Some(error.to_string()), ..blank })
                }
                Err(error) => return Err(error),
            },
            Entry::FullTar => objects.full_tar.map(|(size, at)| Listed {
                key: Some(keys.full_tar()),
                size,
                made_at: Some(at),
                format: "tar",
                ..blank
            }),
            Entry::Snapshot(Reverse(nanos), name) => {
                let found = objects.snapshots.iter().find(|(_, known, _)| *known == name);
                let size = found.map_or(0, |(_, _, size)| *size);
                let key = keys.named(&name)?;
                let made_at = Timestamp::from_nanosecond(i128::from(nanos)).ok();
                let format = ["tar.zst", "tar.gz"].into_iter().find(|end| name.ends_with(end));
                let format = format.map_or("tar", |end| if end == "tar.zst" { "zst" } else { end });
                let problem = (size == 0).then(|| "the object is empty".to_owned());
                Some(Listed { key: Some(key), size, made_at, format, problem, ..blank })
            }
        })
    }
}

/// What a head says, compared with the archives that the store lists.
fn of_head(keys: &WorkspaceKeys, objects: &Objects, head: Head, blank: Listed) -> Listed {
    let key = Key::parse(keys.owner(), &head.archive).ok().filter(|key| keys.all().contains(key));
    let problem = match (&key, objects.archives.get(&head.archive)) {
        (None, _) => Some("the head names an object outside of its workspace".to_owned()),
        (_, None) => Some("its archive is not in the store".to_owned()),
        (_, Some(found)) if *found != head.size => {
            Some(format!("its archive has {found} bytes instead of {}", head.size))
        }
        _ => None,
    };
    let format = match head.format {
        Format::Tar => "tar",
        Format::Zst => "zst",
    };
    let Head { size, made_at, agent, instance, .. } = head;
    Listed { key, size, made_at: Some(made_at), format, instance, agent: Some(agent), problem, ..blank }
}

impl Objects {
    /// Of the greatest head and `full.tar` the newer one by the clock of the store, as [`Store::newest_backup`] chooses it.
    fn newest(&self) -> Option<Entry> {
        let head = self.heads.iter().max_by_key(|(id, _)| *id);
        match (head, self.full_tar) {
            (None, full) => full.map(|_| Entry::FullTar),
            (Some((_, written)), Some((_, at))) if at > *written => Some(Entry::FullTar),
            (Some((id, _)), _) => Some(Entry::Head(Reverse(*id))),
        }
    }

    fn entries(&self) -> Vec<Entry> {
        let heads = self.heads.iter().map(|(id, _)| Entry::Head(Reverse(*id)));
        let full = self.full_tar.iter().map(|_| Entry::FullTar);
        let snapshots =
            self.snapshots.iter().map(|(nanos, name, _)| Entry::Snapshot(Reverse(*nanos), name.clone()));
        heads.chain(full).chain(snapshots).collect()
    }
}
