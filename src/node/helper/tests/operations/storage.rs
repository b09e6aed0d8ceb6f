//! Storage that is limited: by btrfs on a loop device, and by measuring.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use content::store::{Format, Store};
use domain::names::WorkspaceId;
use jiff::{SignedDuration, Timestamp};
use k8s::resources::Workspace;
use k8s::resources::conditions::{ABORTED, BACKUP_COMPLETE, CONTENT_READY};
use node::quota::Backend;
use proto::contentservice::workspace_initializer::Spec;

use super::backups::empty;
use super::scene::{Scene, backup, condition, entries, set, workspace};

const MIB: u64 = 1 << 20;
const QUOTA: u64 = 20 * MIB;
const USER: u32 = 33_333;

/// A btrfs file system of its own.
struct Disk {
    root: PathBuf,
    _folder: tempfile::TempDir,
}

impl Disk {
    /// `None`: this machine has none, which is printed.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (image, root) = (folder.path().join("image"), folder.path().join("root"));
        fs::File::create(&image).unwrap().set_len(1 << 30).unwrap();
        fs::create_dir(&root).unwrap();
        let script = "mkfs.btrfs -q \"$0\" && mount -o loop \"$0\" \"$1\" && mount --make-shared \"$1\" && \
            { btrfs quota enable --simple \"$1\" 2>/dev/null || btrfs quota enable \"$1\"; }";
        let made = Command::new("sh").args(["-c", script]).args([&image, &root]).output().unwrap();
        if made.status.success() {
            return Some(Self { root, _folder: folder });
        }
        let why = String::from_utf8_lossy(&made.stderr).into_owned();
        let is_required = std::env::var_os("REQUIRE_REAL_NODE").is_some_and(|value| value == "1");
        assert!(!is_required, "no btrfs: {why}");
        println!("skipped: no btrfs on a loop device here: {why}");
        None
    }

    fn btrfs(&self, args: &[&str]) -> String {
        let output = Command::new("btrfs").args(args).arg(&self.root).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Subvolumes that nobody deleted.
    fn subvolumes(&self) -> usize {
        self.btrfs(&["subvolume", "list"]).lines().count()
    }

    async fn scene(&self, store: &Path) -> Scene {
        let store = Store::open(&content::store::Settings::local(store)).await.unwrap();
        let root = tempfile::Builder::new().prefix("node").tempdir_in(&self.root).unwrap();
        Scene::limited(root, store, Format::Zst, Backend::BtrfsQgroup).await
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-R", "-l"]).arg(&self.root).status();
    }
}

/// As the workspace's user.
fn as_user(folder: &Path, script: &str) -> Output {
    Command::new("sh").args(["-c", script]).current_dir(folder).uid(USER).gid(USER).output().unwrap()
}

/// Writes until the file system refuses it.
fn fill(folder: &Path) {
    let full = as_user(folder, "dd if=/dev/urandom of=big bs=64k count=1000");
    let said = String::from_utf8_lossy(&full.stderr);
    assert!(!full.status.success() && said.contains("Disk quota exceeded"), "{said}");
    sync(folder);
}

/// What is written is counted once it is on the disk.
fn sync(folder: &Path) {
    assert!(Command::new("sync").arg("-f").arg(folder).status().unwrap().success());
}

fn limited(id: &str, spec: Spec, quota: u64) -> Workspace {
    let mut workspace = workspace(id, spec);
    workspace.spec.storage_quota = Some(i64::try_from(quota).unwrap());
    workspace
}

async fn start(scene: &Scene, id: &str, spec: Spec) -> Workspace {
    let mut workspace = limited(id, spec, QUOTA);
    scene.drive(&mut workspace).await;
    let ready = condition(&workspace, CONTENT_READY).unwrap();
    assert_eq!((&*ready.status, &*ready.message), ("True", ""));
    workspace
}

async fn is_full(scene: &Scene, workspace: &Workspace) -> bool {
    let usage = scene.operations().usage(workspace).await.unwrap().unwrap();
    assert_eq!(usage.limit, workspace.spec.storage_quota.unwrap().unsigned_abs());
    usage.is_full()
}

pub async fn a_full_workspace_is_backed_up_and_comes_back_at_its_quota_here_and_elsewhere() {
    let (Some(disk), Some(other), store) = (Disk::mount(), Disk::mount(), tempfile::tempdir().unwrap())
    else {
        return;
    };
    let mut scene = disk.scene(store.path()).await;
    scene.operations().check_quota().await.unwrap();
    // The kubelet was first.
    fs::create_dir(scene.path("ws-1")).unwrap();
    let mut first = start(&scene, "ws-1", empty()).await;
    assert!(!is_full(&scene, &first).await);
    fill(&scene.path("ws-1"));
    assert!(is_full(&scene, &first).await);
    let written = entries(&scene.path("ws-1"));

    // The node starts again, and its mounts are gone.
    assert!(Command::new("umount").arg(scene.path("ws-1")).status().unwrap().success());
    assert!(!scene.path("ws-1/big").exists());
    scene.restart().await;
    assert_eq!(entries(&scene.path("ws-1")), written);
    scene.stop(&mut first).await;
    assert_eq!(condition(&first, BACKUP_COMPLETE).unwrap().status, "True");
    assert!(!scene.path("ws-1").exists() && scene.path(".spaceport/kept/jane/ws/big").exists());

    // The folder that stayed, again where the kubelet was first.
    fs::create_dir(scene.path("ws-2")).unwrap();
    let mut second = start(&scene, "ws-2", backup()).await;
    assert_eq!(entries(&scene.path("ws-2")), written);
    assert!(is_full(&scene, &second).await);
    assert!(!as_user(&scene.path("ws-2"), "dd if=/dev/urandom of=more bs=64k count=9").status.success());
    assert!(as_user(&scene.path("ws-2"), "rm -f more").status.success());
    scene.stop(&mut second).await;

    let elsewhere = other.scene(store.path()).await;
    let third = start(&elsewhere, "ws-3", backup()).await;
    assert_eq!(entries(&elsewhere.path("ws-3")), written);
    let refused = as_user(&elsewhere.path("ws-3"), "dd if=/dev/urandom of=more bs=64k count=99 && sync -f .");
    assert!(!refused.status.success(), "the limit is hard again");
    let freed = as_user(
        &elsewhere.path("ws-3"),
        "rm -f big more && sync -f . && dd if=/dev/urandom of=more bs=64k count=9",
    );
    assert!(freed.status.success(), "{}", String::from_utf8_lossy(&freed.stderr));
    assert!(!is_full(&elsewhere, &third).await);
}

pub async fn a_backup_that_is_larger_than_the_quota_of_its_class_comes_back_and_takes_no_more() {
    let (Some(disk), store) = (Disk::mount(), tempfile::tempdir().unwrap()) else { return };
    // Where nothing was limited.
    let unlimited = Scene::new(store.path()).await;
    let mut large = start(&unlimited, "ws-1", empty()).await;
    let wrote = as_user(&unlimited.path("ws-1"), "dd if=/dev/urandom of=big bs=1M count=40");
    assert!(wrote.status.success());
    unlimited.stop(&mut large).await;
    let scene = disk.scene(store.path()).await;
    let restored = start(&scene, "ws-2", backup()).await;
    assert_eq!(fs::metadata(scene.path("ws-2/big")).unwrap().len(), 40 * MIB);
    sync(&scene.path("ws-2"));
    assert!(is_full(&scene, &restored).await);
    assert!(!as_user(&scene.path("ws-2"), "dd if=/dev/urandom of=more bs=1M count=1").status.success());
}

pub async fn subvolumes_go_with_their_workspaces_also_those_that_a_user_made() {
    let (Some(disk), store) = (Disk::mount(), tempfile::tempdir().unwrap()) else { return };
    let scene = disk.scene(store.path()).await;
    let mut aborted = start(&scene, "ws-1", empty()).await;
    let script = "mkdir -p a/b/c && echo x > a/b/c/x && btrfs subvolume create a/b/own && mkdir -p a/b/own/d/e && \
        echo y > a/b/own/d/e/y && btrfs subvolume create a/b/own/d/inner && echo z > a/b/own/d/inner/z";
    let made = as_user(&scene.path("ws-1"), script);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(disk.subvolumes(), 3);
    set(&mut aborted, ABORTED, true, "");
    scene.stop(&mut aborted).await;
    assert!(!scene.path("ws-1").exists());
    let known: BTreeSet<WorkspaceId> = BTreeSet::from(["ws-1".parse().unwrap()]);
    let later = Timestamp::now() + SignedDuration::from_hours(2);
    scene.operations().housekeep(&known, later).await.unwrap();
    assert_eq!(fs::read_dir(scene.path(".spaceport/trash")).unwrap().count(), 0);
    assert_eq!(disk.subvolumes(), 0);
    // The kernel deletes in the background; then the group can go.
    disk.btrfs(&["subvolume", "sync"]);
    disk.btrfs(&["filesystem", "sync"]);
    scene.operations().housekeep(&known, later).await.unwrap();
    let groups = disk.btrfs(&["qgroup", "show", "--raw"]);
    assert!(!groups.contains("100/"), "{groups}");
}

pub async fn a_folder_that_is_not_on_btrfs_is_refused_and_never_used_without_a_limit() {
    let (root, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    if fs::metadata(root.path()).unwrap().ino() == 256 {
        println!("skipped: this machine's temporary folder is on btrfs");
        return;
    }
    let store = Store::open(&content::store::Settings::local(store.path())).await.unwrap();
    let scene = Scene::limited(root, store, Format::Zst, Backend::BtrfsQgroup).await;
    let why = scene.operations().check_quota().await.unwrap_err();
    assert!(why.contains("is not on btrfs: mount a btrfs file system there"), "{why}");
    let mut workspace = limited("ws-1", empty(), QUOTA);
    scene.drive(&mut workspace).await;
    let ready = condition(&workspace, CONTENT_READY).unwrap();
    assert_eq!(ready.status, "False");
    assert!(ready.message.contains("fault of the platform"), "{}", ready.message);
}

pub async fn what_is_measured_is_reported_and_stops_no_write() {
    let store = tempfile::tempdir().unwrap();
    let store = Store::open(&content::store::Settings::local(store.path())).await.unwrap();
    let scene = Scene::limited(tempfile::tempdir().unwrap(), store, Format::Zst, Backend::Measured).await;
    scene.operations().check_quota().await.unwrap();
    let workspace = start(&scene, "ws-1", empty()).await;
    assert!(!is_full(&scene, &workspace).await);
    let wrote = as_user(&scene.path("ws-1"), "dd if=/dev/urandom of=big bs=1M count=21 && ln big again");
    assert!(wrote.status.success());
    assert!(is_full(&scene, &workspace).await);
    assert!(as_user(&scene.path("ws-1"), "rm big again").status.success());
    assert!(!is_full(&scene, &workspace).await);
    let none = limited("ws-1", empty(), 0);
    assert_eq!(scene.operations().usage(&none).await.unwrap(), None, "its class has no limit");
}
