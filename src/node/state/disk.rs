//! Reading and writing the files: complete or not at all, on the disk before the call returns.

use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::names::WorkspaceId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;

use super::error::Error;
use super::layout::Layout;
use super::record::State;

/// Bytes of a state file.
const STATE_MAX: u64 = 1024 * 1024;
/// Bytes of the journal of an upload: 10,000 parts.
const JOURNAL_MAX: u64 = 16 * 1024 * 1024;
/// Locks, each for the instances whose ids fall on it.
const LOCKS: usize = 64;

/// What is known of an instance.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// It has no state file.
    Nothing,
    /// Its state.
    State(Box<State>),
    /// Its state file cannot be used; the sentence says why. Nothing of it is deleted.
    Broken(String),
}

/// The files of a node.
#[derive(Debug, Clone)]
pub struct Disk {
    layout: Layout,
    /// A call whose future is dropped still ends; the next call of that instance waits for it.
    locks: Arc<Vec<Arc<Mutex<()>>>>,
}

impl Disk {
    /// Makes the folders of the agent, which only root may enter.
    pub fn open(layout: Layout) -> Result<Self, Error> {
        let folders = [
            layout.own(),
            layout.states(),
            layout.snapshots(),
            layout.kept_records(),
            layout.all_kept(),
            layout.trash(),
            layout.aside(),
        ];
        for folder in folders {
            fs::create_dir_all(&folder).map_err(Error::io("make folder", &folder))?;
        }
        let own = layout.own();
        fs::set_permissions(&own, Permissions::from_mode(0o700)).map_err(Error::io("protect", own))?;
        Ok(Self { layout, locks: Arc::new((0..LOCKS).map(|_| Arc::default()).collect()) })
    }

    /// Where everything is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Runs file work of an instance on a thread that may block, after all earlier work of that instance, even if its futures were
    /// dropped.
    pub async fn blocking<T: Send + 'static>(
        &self,
        instance: &WorkspaceId,
        work: impl FnOnce(&Layout) -> T + Send + 'static,
    ) -> io::Result<T> {
        let mut hasher = DefaultHasher::new();
        instance.as_str().hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or(0);
        let lock = self.locks.get(at).cloned().unwrap_or_default();
        let guard = lock.lock_owned().await;
        let layout = self.layout.clone();
        let work = move || {
            let done = work(&layout);
            drop(guard);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
    }

    /// What is known of an instance.
    pub async fn read(&self, instance: &WorkspaceId) -> Known {
        let id = instance.clone();
        let read = self.blocking(instance, move |layout| {
            let path = layout.state(&id);
            let state: Option<State> = load(&path, STATE_MAX)?;
            match state {
                Some(state) if state.origin.instance != id => {
                    let problem = format!("it is of instance {}", state.origin.instance);
                    Err(Error::Broken { path, problem })
                }
                other => Ok(other),
            }
        });
        match read.await {
            Ok(Ok(Some(state))) => Known::State(Box::new(state)),
            Ok(Ok(None)) => Known::Nothing,
            Ok(Err(error)) => Known::Broken(error.to_string()),
            Err(error) => Known::Broken(error.to_string()),
        }
    }

    /// Keeps the state of an instance.
    pub async fn write(&self, state: &State) -> Result<(), Error> {
        let path = self.layout.state(&state.origin.instance);
        self.save(&state.origin.instance, path, state).await
    }

    /// Moves a broken state file away, so that a new one can be written. It stays on the disk.
    pub async fn set_aside(&self, instance: &WorkspaceId) -> Result<(), Error> {
        let id = instance.clone();
        let moved = self.blocking(instance, move |layout| {
            let (from, to) = (layout.state(&id), layout.states().join(format!("{id}.broken")));
            fs::rename(&from, to).map_err(Error::io("move", from))
        });
        moved.await.map_err(Error::io("move", self.layout.state(instance)))?
    }

    /// Keeps a file of an instance.
    pub async fn save(
        &self,
        instance: &WorkspaceId,
        path: PathBuf,
        content: &impl Serialize,
    ) -> Result<(), Error> {
        let encoded = serde_json::to_vec(content)
            .map_err(|error| Error::Broken { path: path.clone(), problem: error.to_string() })?;
        let to = path.clone();
        let written = self.blocking(instance, move |_| replace(&to, &encoded));
        written.await.and_then(|written| written).map_err(Error::io("write", path))
    }

    /// Reads a file of an instance; `None` if there is none.
    pub async fn load<T: DeserializeOwned + Send + 'static>(
        &self,
        instance: &WorkspaceId,
        path: PathBuf,
    ) -> Result<Option<T>, Error> {
        let from = path.clone();
        let read = self.blocking(instance, move |_| load(&from, JOURNAL_MAX));
        read.await.map_err(Error::io("read", path))?
    }

    /// Removes a file of an instance; one that is not there is removed.
    pub async fn remove(&self, instance: &WorkspaceId, path: PathBuf) -> Result<(), Error> {
        let from = path.clone();
        let removed = self.blocking(instance, move |_| remove(&from));
        removed.await.and_then(|removed| removed).map_err(Error::io("remove", path))
    }
}

/// Replaces a file: a temporary one beside it, written to the disk, renamed, and the folder written to the disk.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("it has no folder"))?;
    fs::create_dir_all(folder)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Reads a file of a known version.
fn load<T: DeserializeOwned>(path: &Path, most: u64) -> Result<Option<T>, Error> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open", path))?,
    };
    let mut text = Vec::new();
    file.take(most + 1).read_to_end(&mut text).map_err(Error::io("read", path))?;
    let broken = |problem: String| Error::Broken { path: path.to_path_buf(), problem };
    if text.len() as u64 > most {
        return Err(broken(format!("it has more than {most} bytes")));
    }
    let value: Value = serde_json::from_slice(&text).map_err(|error| broken(format!("it is no JSON: {error}")))?;
    match value.get("version").and_then(Value::as_u64) {
        Some(1) => {}
        Some(other) => return Err(broken(format!("it has version {other}, and version 1 is known"))),
        None => return Err(broken("it has no version".to_owned())),
    }
    serde_json::from_value(value).map(Some).map_err(|error| broken(error.to_string()))
}
