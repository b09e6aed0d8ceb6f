//! Stores that fail: content stays, and the condition says why and where.

use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use content::store::{Format, RetryPolicy, Store};
use domain::workspace::Phase;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s::resources::conditions::{BACKUP_COMPLETE, BACKUP_FAILURE, CONTENT_READY};
use node::decide::{Next, Operation};
use node::helper::Progress;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

use super::backups::empty;
use super::scene::{Scene, backup, condition, fill, set, stopping};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Denied,
    Full,
    /// So many writes fail, each after 200 ms.
    Late(usize),
    /// Nothing can be listed.
    Unlisted,
    /// The object is shorter than what was sent, and the answer says that all is well.
    Truncated,
}

/// A store in memory whose writes of archives fail.
#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    fault: Mutex<Fault>,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fault = *self.fault.lock();
        let payload = match fault {
            _ if !path.as_ref().contains("/archives/") => payload,
            Fault::None | Fault::Unlisted => payload,
            Fault::Denied => {
                return Err(Error::PermissionDenied { path: path.to_string(), source: "403".into() });
            }
            Fault::Full => return Err(Error::Generic { store: "faulty", source: "no space left".into() }),
            Fault::Late(left) => {
                *self.fault.lock() = if left > 1 { Fault::Late(left - 1) } else { Fault::None };
                tokio::time::sleep(Duration::from_millis(200)).await;
                return Err(Error::Generic { store: "faulty", source: "no answer".into() });
            }
            Fault::Truncated => {
                let bytes = Bytes::from(payload);
                bytes.slice(..bytes.len() / 2).into()
            }
        };
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if *self.fault.lock() == Fault::Unlisted {
            let error = Error::Generic { store: "faulty", source: "no answer".into() };
            return futures::stream::once(async { Err(error) }).boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A node over a store that is told how to fail. It sends each object twice.
async fn faulty() -> (Scene, Arc<Faulty>) {
    let faulty = Arc::new(Faulty { inner: InMemory::new(), fault: Mutex::new(Fault::None) });
    let hasty = RetryPolicy {
        attempts: 2,
        denied: 2,
        first: Duration::from_millis(1),
        most: Duration::from_millis(2),
        ..RetryPolicy::default()
    };
    let store = Store::over(faulty.clone(), Arc::new(InMemory::new())).with_retry(hasty);
    (Scene::over(store, Format::Zst).await, faulty)
}

pub async fn the_time_until_giving_up_counts_from_the_first_failure_on() {
    let (scene, faulty) = faulty().await;
    let mut workspace = scene.start("ws-1", empty()).await;
    // The first try alone takes longer than that time.
    *faulty.fault.lock() = Fault::Late(2);
    assert!(scene.settings.retry.give_up < Duration::from_millis(2 * 200));
    scene.stop(&mut workspace).await;
    assert_eq!(*faulty.fault.lock(), Fault::None);
    let failure = condition(&workspace, BACKUP_FAILURE);
    assert_eq!(condition(&workspace, BACKUP_COMPLETE).unwrap().status, "True", "{failure:?}");
}

pub async fn a_store_that_denies_truncates_or_is_full_costs_no_content() {
    let (scene, faulty) = faulty().await;
    for (id, fault, texts) in [
        ("ws-1", Fault::Denied, ["denies access", "fault of the configuration"]),
        ("ws-2", Fault::Truncated, ["bytes instead of", "fault of the platform"]),
        ("ws-3", Fault::Full, ["no space left", "fault of the platform"]),
    ] {
        let mut workspace = scene.start(id, empty()).await;
        fill(&scene.path(id));
        *faulty.fault.lock() = fault;
        scene.stop(&mut workspace).await;
        assert!(condition(&workspace, BACKUP_COMPLETE).is_none());
        let failure = condition(&workspace, BACKUP_FAILURE).unwrap().message;
        for text in texts.into_iter().chain([&*format!("node metal-1 in {}", scene.path(id).display())]) {
            assert!(failure.contains(text), "{failure}");
        }
        assert_eq!(scene.read(&format!("{id}/src/deep/b")), "two\n");
        assert_eq!(scene.store.list_heads(&Scene::keys()).await.unwrap(), []);
    }
    // A fault that passes costs nothing.
    *faulty.fault.lock() = Fault::Full;
    let mut workspace = scene.start("ws-4", empty()).await;
    fill(&scene.path("ws-4"));
    let mend = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        *faulty.fault.lock() = Fault::None;
    };
    tokio::join!(scene.stop(&mut workspace), mend);
    assert_eq!(condition(&workspace, BACKUP_COMPLETE).unwrap().status, "True");
    scene.start("ws-5", backup()).await;
    assert_eq!(scene.read("ws-5/src/deep/b"), "two\n");
}

pub async fn a_folder_without_a_usable_state_file_replaces_no_backup_and_stays() {
    let store = tempfile::tempdir().unwrap();
    let scene = Scene::new(store.path()).await;
    let mut first = scene.start("ws-1", empty()).await;
    fill(&scene.path("ws-1"));
    scene.stop(&mut first).await;
    let before = Scene::objects(store.path());
    // Lost with a folder of another's files, lost with the empty folder that the kubelet made, and broken.
    for (id, file, broken) in
        [("ws-2", Some("file"), None), ("ws-3", None, None), ("ws-4", Some("file"), Some("{"))]
    {
        let mut workspace = scene.start(id, backup()).await;
        std::fs::remove_dir_all(scene.path(id)).unwrap();
        std::fs::create_dir(scene.path(id)).unwrap();
        if let Some(file) = file {
            std::fs::write(scene.path(id).join(file), "x").unwrap();
        }
        let state = scene.path(&format!(".spaceport/state/{id}.json"));
        match broken {
            Some(text) => std::fs::write(&state, text).unwrap(),
            None => std::fs::remove_file(&state).unwrap(),
        }
        assert_eq!(scene.stop(&mut workspace).await, []);
        let failure = condition(&workspace, BACKUP_FAILURE).unwrap();
        let folder = scene.path(id).display().to_string();
        assert!(failure.status == "True" && failure.message.contains(&folder), "{failure:?}");
        assert_eq!(scene.path(id).join("file").exists(), file.is_some());
        assert_eq!(Scene::objects(store.path()), before);
    }
    scene.start("ws-5", backup()).await;
    assert_eq!(scene.read("ws-5/src/deep/b"), "two\n");
}

pub async fn content_is_backed_up_after_the_controller_gave_up_and_after_the_resource_is_gone() {
    let store = tempfile::tempdir().unwrap();
    let scene = Scene::new(store.path()).await;
    for (id, from, is_deleted) in [("ws-1", empty(), false), ("ws-2", backup(), true)] {
        let mut workspace = scene.start(id, from).await;
        scene.write(&format!("{id}/file"), id);
        stopping(&mut workspace);
        workspace.status.as_mut().unwrap().phase = Phase::Stopped;
        set(&mut workspace, BACKUP_FAILURE, true, "gave up waiting");
        let next = async || scene.operations().next(&workspace, is_deleted, Timestamp::now()).await;
        assert_eq!(next().await, Next::Run(Operation::BackUp));
        let (progress, _) = tokio::sync::watch::channel(Progress::default());
        scene.operations().run(Operation::BackUp, &workspace, &progress).await.unwrap();
        // Nothing more is written.
        assert_eq!(next().await, Next::Nothing);
    }
    let other = Scene::new(store.path()).await;
    other.start("ws-3", backup()).await;
    assert_eq!(other.read("ws-3/file"), "ws-2");
}

/// A file system of its own, as small as this.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(path: &std::path::Path) -> Self {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(path).status();
        assert!(status.unwrap().success());
        Self(path.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

pub async fn a_full_disk_is_reported_and_costs_neither_a_backup_nor_other_workspaces() {
    let store = tempfile::tempdir().unwrap();
    let large = Scene::new(store.path()).await;
    let mut workspace = large.start("ws-1", empty()).await;
    let mut random = vec![0; 12 << 20];
    fastrand::Rng::with_seed(7).fill(&mut random);
    std::fs::write(large.path("ws-1/large"), &random).unwrap();
    large.stop(&mut workspace).await;
    let root = tempfile::tempdir().unwrap();
    let _small = Small::mount(root.path());
    let scene = Scene::on(root, large.store.clone(), Format::Zst).await;
    let mut too_large = super::scene::workspace("ws-2", backup());
    scene.drive(&mut too_large).await;
    let ready = condition(&too_large, CONTENT_READY).unwrap();
    assert!(ready.message.contains("the disk of the node is full"), "{ready:?}");
    assert!(ready.message.contains("fault of the platform"), "{ready:?}");
    // Filled to the last byte by its user.
    let mut other = scene.start("ws-3", empty()).await;
    let mut file = std::fs::File::create(scene.path("ws-3/file")).unwrap();
    while file.write_all(&random[..4096]).is_ok() {}
    let size = file.metadata().unwrap().len();
    assert!(size > 1 << 20);
    scene.stop(&mut other).await;
    let complete = condition(&other, BACKUP_COMPLETE);
    assert!(complete.is_some(), "{:?}", condition(&other, BACKUP_FAILURE));
    large.start("ws-4", backup()).await;
    assert_eq!(std::fs::metadata(large.path("ws-4/file")).unwrap().len(), size);
}

/// Its own number would be below that of the head, which was written by an instance of a later generation.
pub async fn a_backup_finds_its_place_if_the_heads_could_not_be_listed_when_its_content_was_made() {
    let (scene, store) = faulty().await;
    let mut moved = super::scene::workspace("ws-1", empty());
    moved.metadata.annotations =
        Some([(k8s::resources::names::GENERATION.to_owned(), "7".to_owned())].into());
    scene.drive(&mut moved).await;
    scene.write("ws-1/file", "old");
    scene.stop(&mut moved).await;
    *store.fault.lock() = Fault::Unlisted;
    let mut next = scene.start("ws-2", empty()).await;
    assert!(scene.read(".spaceport/state/ws-2.json").contains("unlisted"));
    scene.write("ws-2/file", "new");
    // As long as nothing can be listed, the content waits.
    stopping(&mut next);
    let (progress, _) = tokio::sync::watch::channel(Progress::default());
    let tried = scene.operations().run(Operation::BackUp, &next, &progress).await.unwrap();
    assert_eq!(tried, None);
    assert_eq!(scene.read("ws-2/file"), "new");
    *store.fault.lock() = Fault::None;
    scene.drive(&mut next).await;
    assert!(condition(&next, BACKUP_COMPLETE).is_some(), "{:?}", condition(&next, BACKUP_FAILURE));
    let heads = scene.store.list_heads(&Scene::keys()).await.unwrap();
    assert_eq!(heads.iter().map(|head| head.generation).collect::<Vec<_>>(), [7, 7]);
    scene.operations().free(u64::MAX).await.unwrap();
    scene.start("ws-3", backup()).await;
    assert_eq!(scene.read("ws-3/file"), "new");
}
