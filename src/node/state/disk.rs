//! Reading and writing the files: complete or not at all, on the disk before the call returns.

use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::names::WorkspaceId;
use jiff::Timestamp;
use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;

use super::begun::Agents;
use super::error::Error;
use super::layout::Layout;
use super::record::State;

/// Bytes of a state file.
pub const STATE_MAX: u64 = 1024 * 1024;
/// Bytes of the journal of an upload: 10,000 parts.
const JOURNAL_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of the reserve: some state files.
const RESERVE: usize = 256 * 1024;
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
    only: Arc<Only>,
    /// A call whose future is dropped still ends; the next call of that instance waits for it.
    locks: Arc<Vec<Arc<Mutex<()>>>>,
}

/// Held as long as the agent runs.
#[derive(Debug)]
struct Only {
    /// By the kernel.
    _lock: File,
    agents: Agents,
    ended: PathBuf,
}

impl Drop for Only {
    /// An agent that is killed does not come here.
    fn drop(&mut self) {
        // Without it, what the agent did not complete counts as if it had killed the agent.
        let _ = fs::write(&self.ended, self.agents.own.to_string());
    }
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
            layout.volumes(),
            layout.trash(),
            layout.aside(),
        ];
        for folder in folders {
            fs::create_dir_all(&folder).map_err(Error::io("make folder", &folder))?;
        }
        let own = layout.own();
        fs::set_permissions(&own, Permissions::from_mode(0o700)).map_err(Error::io("protect", &own))?;
        keep_reserve(&layout);
        let path = layout.own().join("lock");
        let lock = File::create(&path).map_err(Error::io("open", &path))?;
        let taken = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
        taken.map_err(|_| Error::InUse(own.clone()))?;
        let ended = own.join("ended");
        let before = fs::read_to_string(&ended).ok().and_then(|text| text.parse().ok());
        let agents = Agents { own: Timestamp::now(), ended: before };
        Ok(Self {
            layout,
            only: Arc::new(Only { _lock: lock, agents, ended }),
            locks: Arc::new((0..LOCKS).map(|_| Arc::default()).collect()),
        })
    }

    /// Where everything is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// This agent, and the one before.
    pub fn agents(&self) -> Agents {
        self.only.agents
    }

    /// Runs file work on a thread that may block, after all earlier work of the same name (an instance, or a kept folder), even if the
    /// futures of that were dropped.
    pub async fn blocking<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Layout) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or(0);
        let lock = self.locks.get(at).cloned().unwrap_or_default();
        let guard = lock.lock_owned().await;
        let layout = self.layout.clone();
        let work = move || {
            let done = work(&layout);
            drop(guard);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }

    /// What is known of an instance.
    pub async fn read(&self, instance: &WorkspaceId) -> Known {
        let path = self.layout.state(instance);
        match self.load_at_most::<State>(instance, path.clone(), STATE_MAX).await {
            Ok(Some(state)) if state.origin.instance != *instance => {
                let problem = format!("it is of instance {}", state.origin.instance);
                Known::Broken(Error::Broken { path, problem }.to_string())
            }
            Ok(Some(state)) => Known::State(Box::new(state)),
            Ok(None) => Known::Nothing,
            Err(error) => Known::Broken(error.to_string()),
        }
    }

    /// Keeps the state of an instance.
    pub async fn write(&self, state: &State) -> Result<(), Error> {
        let path = self.layout.state(&state.origin.instance);
        self.save(&state.origin.instance, path, state).await
    }

    /// Keeps a file of an instance.
    pub async fn save(
        &self,
        instance: &WorkspaceId,
        path: PathBuf,
        content: &impl Serialize,
    ) -> Result<(), Error> {
        let failed = Error::io("write", path.clone());
        let encoded = match serde_json::to_vec(content) {
            Ok(encoded) => encoded,
            Err(error) => return Err(failed(error.into())),
        };
        let write = move |layout: &Layout| match replace(&path, &encoded) {
            Err(error) if is_full(&error) => {
                // For this it is there.
                fs::remove_file(reserve(layout)).and_then(|()| replace(&path, &encoded)).map_err(|_| error)
            }
            other => other,
        };
        self.blocking(instance.as_str(), write).await.map_err(failed)
    }

    /// Reads a file of an instance; `None` if there is none.
    pub async fn load<T: DeserializeOwned + Send + 'static>(
        &self,
        instance: &WorkspaceId,
        path: PathBuf,
    ) -> Result<Option<T>, Error> {
        self.load_at_most(instance, path, JOURNAL_MAX).await
    }

    async fn load_at_most<T: DeserializeOwned + Send + 'static>(
        &self,
        instance: &WorkspaceId,
        path: PathBuf,
        most: u64,
    ) -> Result<Option<T>, Error> {
        let from = path.clone();
        let read = self.blocking(instance.as_str(), move |_| Ok(read_file(&from, most))).await;
        read.map_err(Error::io("read", path))?
    }

    /// Removes a file of an instance; one that is not there is removed.
    pub async fn remove(&self, instance: &WorkspaceId, path: PathBuf) -> Result<(), Error> {
        let from = path.clone();
        let removed = self.blocking(instance.as_str(), move |_| remove_file(&from));
        removed.await.map_err(Error::io("remove", path))
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Space that is given back when the disk is full of content, so that a failure or a deletion can still be recorded.
fn reserve(layout: &Layout) -> PathBuf {
    layout.own().join("reserve")
}

/// Makes the reserve if it is not there. On a full disk there is none.
pub fn keep_reserve(layout: &Layout) {
    let path = reserve(layout);
    if !path.exists() && fs::write(&path, vec![b'.'; RESERVE]).is_err() {
        let _ = fs::remove_file(path);
    }
}

/// Removes a file; one that is not there is removed.
pub fn remove_file(path: &Path) -> io::Result<()> {
    unless_missing(fs::remove_file(path))
}

/// Of work that has nothing to do where its file or folder is not there.
pub fn unless_missing(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Writes a small file of the agent, for work inside of [`Disk::blocking`].
pub fn write_file(path: &Path, content: &impl Serialize) -> io::Result<()> {
    replace(path, &serde_json::to_vec(content)?)
}

/// Replaces a file: a temporary one beside it, written to the disk, renamed, and the folder written to the disk.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
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

/// Reads a file of at most so many bytes and of the known version, for work inside of [`Disk::blocking`].
pub fn read_file<T: DeserializeOwned>(path: &Path, most: u64) -> Result<Option<T>, Error> {
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
    let value: Value =
        serde_json::from_slice(&text).map_err(|error| broken(format!("it is no JSON: {error}")))?;
    match value.get("version").and_then(Value::as_u64) {
        Some(1) => {}
        Some(other) => return Err(broken(format!("it has version {other}, and version 1 is known"))),
        None => return Err(broken("it has no version".to_owned())),
    }
    serde_json::from_value(value).map(Some).map_err(|error| broken(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Origin, Stage};

    fn state(instance: &str, stage: Stage) -> State {
        State::new(Origin::sample(instance), stage)
    }

    #[tokio::test]
    async fn a_file_is_the_last_whole_state_and_what_is_none_is_reported_and_stays() {
        let root = tempfile::tempdir().unwrap();
        let disk = Disk::open(Layout::new(root.path())).unwrap();
        let id: WorkspaceId = "ws-1".parse().unwrap();
        assert_eq!(disk.read(&id).await, Known::Nothing);
        let ready = state("ws-1", Stage::Ready);
        disk.write(&state("ws-1", Stage::Initialising)).await.unwrap();
        disk.write(&ready).await.unwrap();
        assert_eq!(disk.read(&id).await, Known::State(Box::new(ready.clone())));
        let path = disk.layout().state(&id);
        let whole = fs::read_to_string(&path).unwrap();
        // Killed while a new file was written.
        fs::write(path.with_extension("json.tmp"), &whole[..9]).unwrap();
        assert_eq!(disk.read(&id).await, Known::State(Box::new(ready)));
        let other = serde_json::to_string(&state("ws-2", Stage::Ready)).unwrap();
        let newer = whole.replace("\"version\":1", "\"version\":2");
        for (text, problem) in [
            (&whole[..whole.len() / 2], "it is no JSON"),
            (&newer, "it has version 2, and version 1 is known"),
            (&other, "it is of instance ws-2"),
            ("{}", "it has no version"),
            (&" ".repeat(2 << 20), "it has more than"),
        ] {
            fs::write(&path, text).unwrap();
            let Known::Broken(why) = disk.read(&id).await else { panic!("{problem}") };
            assert!(why.contains(problem) && why.contains("ws-1.json"), "{why}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[tokio::test]
    async fn work_whose_future_was_dropped_ends_before_the_next_work_of_that_instance_begins() {
        let root = tempfile::tempdir().unwrap();
        let disk = Disk::open(Layout::new(root.path())).unwrap();
        let id: WorkspaceId = "ws-1".parse().unwrap();
        let (begun, on_begin) = std::sync::mpsc::channel();
        let (go, on_go) = std::sync::mpsc::channel();
        let late = disk.blocking("ws-1", move |layout| {
            begun.send(()).unwrap();
            on_go.recv().unwrap();
            write_file(&layout.state(&"ws-1".parse().unwrap()), &state("ws-1", Stage::Initialising))
        });
        // Polled once, and dropped.
        assert!(tokio::time::timeout(std::time::Duration::ZERO, late).await.is_err());
        on_begin.recv().unwrap();
        let ready = state("ws-1", Stage::Ready);
        let (wrote, ()) = tokio::join!(disk.write(&ready), async { go.send(()).unwrap() });
        wrote.unwrap();
        assert_eq!(disk.read(&id).await, Known::State(Box::new(ready)));
    }

    #[test]
    fn one_agent_works_in_a_folder() {
        let root = tempfile::tempdir().unwrap();
        let first = Disk::open(Layout::new(root.path())).unwrap();
        assert!(matches!(Disk::open(Layout::new(root.path())), Err(Error::InUse(_))));
        let agents = first.agents();
        assert_eq!(agents.ended, None);
        drop(first);
        let second = Disk::open(Layout::new(root.path())).unwrap();
        assert_eq!(second.agents().ended, Some(agents.own));
    }
}
