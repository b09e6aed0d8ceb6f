//! Backups, what they are restored to, and what unchanged content costs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use content::store::{Choice, Expectation, Format, HeadMeta, PrunePolicy, Store, UploadOptions};
use domain::workspace::{Kind, Phase};
use jiff::Timestamp;
use k8s::resources::conditions::{
    ABORTED, BACKUP_COMPLETE, BACKUP_FAILURE, FORCE_KILLED_TASK, POD_REJECTED, STATE_WIPED,
    WORKSPACE_CONTAINER_RUNNING,
};
use k8s::resources::{Snapshot, SnapshotSpec};
use node::decide::Operation;
use node::helper::Progress;
use proto::contentservice::workspace_initializer::Spec;
use proto::contentservice::{EmptyInitializer, SnapshotInitializer};
use tokio::sync::watch;

use super::scene::{NODE, Scene, backup, condition, entries, fill, set, stopping, workspace};

pub fn empty() -> Spec {
    Spec::Empty(EmptyInitializer::default())
}

fn heads_and_archives(objects: &[String]) -> (usize, usize) {
    let count = |part: &str| objects.iter().filter(|object| object.contains(part)).count();
    (count("/heads/"), count("/archives/"))
}

pub async fn what_was_backed_up_comes_back_on_another_node_entry_by_entry() {
    let store = tempfile::tempdir().unwrap();
    let (first, second) = (Scene::new(store.path()).await, Scene::new(store.path()).await);
    let mut workspace = first.start("ws-1", empty()).await;
    fill(&first.path("ws-1"));
    let before = entries(&first.path("ws-1"));
    assert_eq!(first.stop(&mut workspace).await, [Operation::BackUp]);
    let complete = condition(&workspace, BACKUP_COMPLETE).unwrap();
    assert!(complete.status == "True" && complete.message.contains("archives/"), "{complete:?}");
    assert!(!first.path("ws-1").exists());
    let kept = first.path(".spaceport/kept/jane/ws");
    assert_eq!(entries(&kept), before);
    assert!(!kept.join(".gitpod/ready").exists());
    assert_eq!(heads_and_archives(&Scene::objects(store.path())), (1, 1));
    let restored = second.start("ws-2", backup()).await;
    let mut expected = before;
    expected.retain(|path, _| path.to_str() != Some("leave.excluded"));
    assert_eq!(entries(&second.path("ws-2")), expected);
    assert_eq!(fs::metadata(second.path("ws-2")).unwrap().uid(), 33_333);
    assert!(second.read("ws-2/.gitpod/ready").contains("\"source\":\"from-backup\""));
    let metrics = restored.status.unwrap().initializer_metrics.unwrap();
    assert!(metrics.backup.unwrap().size.unwrap() > 300_000);
}

pub async fn content_that_did_not_change_is_not_stored_again() {
    let store = tempfile::tempdir().unwrap();
    let (first, second) = (Scene::new(store.path()).await, Scene::new(store.path()).await);
    let mut workspace = first.start("ws-1", empty()).await;
    fill(&first.path("ws-1"));
    first.stop(&mut workspace).await;
    // Restored by a download, then unchanged; and from the kept folder, then unchanged.
    for (scene, id, heads) in [(&second, "ws-2", 2), (&second, "ws-3", 3)] {
        let mut workspace = scene.start(id, backup()).await;
        scene.stop(&mut workspace).await;
        let complete = condition(&workspace, BACKUP_COMPLETE).unwrap();
        assert!(complete.message.starts_with("unchanged since"), "{complete:?}");
        assert_eq!(heads_and_archives(&Scene::objects(store.path())), (heads, 1));
    }
    // One byte makes the difference.
    let mut workspace = second.start("ws-4", backup()).await;
    second.write("ws-4/src/a", "another\n");
    second.stop(&mut workspace).await;
    assert_eq!(heads_and_archives(&Scene::objects(store.path())), (4, 2));
    let Some(Choice::Head(head)) = second.store.newest_backup(&Scene::keys()).await.unwrap() else {
        panic!()
    };
    assert!(head.archive().key().path().contains(&head.id().to_string()));
}

pub async fn a_head_of_another_instance_is_never_taken_for_the_own_backup() {
    let id = {
        let store = tempfile::tempdir().unwrap();
        let scene = Scene::new(store.path()).await;
        let mut workspace = scene.start("ws-1", empty()).await;
        scene.stop(&mut workspace).await;
        scene.store.list_heads(&Scene::keys()).await.unwrap()[0]
    };
    let store = tempfile::tempdir().unwrap();
    let scene = Scene::new(store.path()).await;
    let mut workspace = scene.start("ws-1", empty()).await;
    scene.write("ws-1/file", "x");
    // Another instance of this node wrote a head with the same id.
    let key = Scene::keys().archive(id);
    let uploaded = scene.store.upload(&key, b"other".as_slice(), UploadOptions::default()).await.unwrap();
    let proven = scene.store.prove(&key, &Expectation::uploaded(&uploaded)).await.unwrap();
    let (made_at, instance) = (Timestamp::now(), "other".to_owned());
    let meta = HeadMeta { made_at, agent: NODE.to_owned(), instance, previous: None };
    scene.store.write_head(&Scene::keys(), id, proven, meta).await.unwrap();
    scene.stop(&mut workspace).await;
    let failure = condition(&workspace, BACKUP_FAILURE).unwrap();
    assert!(failure.message.contains("was written by agent metal-1 for another backup"), "{failure:?}");
    assert!(condition(&workspace, BACKUP_COMPLETE).is_none());
    assert_eq!(scene.read("ws-1/file"), "x");
}

pub async fn a_restart_on_the_same_node_takes_the_folder_that_was_kept() {
    let store = tempfile::tempdir().unwrap();
    let scene = Scene::new(store.path()).await;
    let mut first = scene.start("ws-1", empty()).await;
    fill(&scene.path("ws-1"));
    let inode = |path: &str| fs::metadata(scene.path(path)).unwrap().ino();
    let before = (inode("ws-1/src/a"), entries(&scene.path("ws-1")));
    scene.stop(&mut first).await;
    // Once into a place where no folder is, once into the folder that the kubelet made.
    for id in ["ws-2", "ws-3"] {
        if id == "ws-3" {
            fs::create_dir(scene.path(id)).unwrap();
        }
        let mut workspace = scene.start(id, backup()).await;
        assert_eq!((inode(&format!("{id}/src/a")), entries(&scene.path(id))), before);
        scene.stop(&mut workspace).await;
        assert!(condition(&workspace, BACKUP_COMPLETE).unwrap().message.starts_with("unchanged"));
    }
    // A newer backup from elsewhere: the kept folder is not the newest any more.
    let elsewhere = Scene::new(store.path()).await;
    let mut workspace = elsewhere.start("ws-4", backup()).await;
    elsewhere.write("ws-4/src/new", "x");
    elsewhere.stop(&mut workspace).await;
    scene.start("ws-5", backup()).await;
    assert_eq!(scene.read("ws-5/src/new"), "x");
}

pub async fn a_snapshot_of_a_running_workspace_starts_another_one() {
    let store = tempfile::tempdir().unwrap();
    let scene = Scene::new(store.path()).await;
    let mut running = scene.start("ws-1", empty()).await;
    running.status.as_mut().unwrap().phase = Phase::Running;
    fill(&scene.path("ws-1"));
    let snapshot = Snapshot::new("ws-1-1732873453123456789", SnapshotSpec::default());
    let name = scene.operations().snapshot_url(&running, &snapshot).unwrap();
    assert_eq!(name, "jane/workspaces/ws/snapshot-1732873453123456789.tar.zst@local");
    let (progress, _) = watch::channel(Progress::default());
    for _ in 0..2 {
        scene.operations().snapshot(&running, &snapshot, &progress).await.unwrap();
    }
    // The workspace sees that it is ready all the time, and its backup is made all the same.
    assert!(scene.path("ws-1/.gitpod/ready").exists());
    let from = SnapshotInitializer { snapshot: name, from_volume_snapshot: false };
    let started = scene.start("ws-2", Spec::Snapshot(from)).await;
    assert_eq!(scene.read("ws-2/src/deep/b"), "two\n");
    assert!(started.status.unwrap().initializer_metrics.unwrap().snapshot.is_some());
    scene.stop(&mut running).await;
    assert_eq!(heads_and_archives(&Scene::objects(store.path())), (1, 1));
}

pub async fn full_tar_is_written_and_restored_where_existing_agents_run() {
    let store = tempfile::tempdir().unwrap();
    let local = Store::open(&content::store::Settings::local(store.path())).await.unwrap();
    let (scene, other) =
        (Scene::over(local.clone(), Format::Tar).await, Scene::over(local, Format::Tar).await);
    let mut workspace = scene.start("ws-1", empty()).await;
    fill(&scene.path("ws-1"));
    let mut before = entries(&scene.path("ws-1"));
    before.retain(|path, _| path.to_str() != Some("leave.excluded"));
    scene.stop(&mut workspace).await;
    assert_eq!(Scene::objects(store.path()), ["jane/workspaces/ws/full.tar"]);
    let written = fs::metadata(store.path().join("jane/workspaces/ws/full.tar")).unwrap().mtime_nsec();
    let mut restored = other.start("ws-2", backup()).await;
    assert_eq!(entries(&other.path("ws-2")), before);
    other.stop(&mut restored).await;
    assert!(condition(&restored, BACKUP_COMPLETE).unwrap().message.starts_with("unchanged"));
    let after = fs::metadata(store.path().join("jane/workspaces/ws/full.tar")).unwrap().mtime_nsec();
    assert_eq!(written, after);
}

pub async fn a_refused_pod_is_wiped_and_begins_anew_and_an_aborted_workspace_leaves_nothing() {
    let store = tempfile::tempdir().unwrap();
    let scene = Scene::new(store.path()).await;
    let mut refused = scene.start("ws-1", empty()).await;
    scene.write("ws-1/file", "x");
    set(&mut refused, POD_REJECTED, true, "NodeAffinity");
    assert_eq!(scene.stop(&mut refused).await, [Operation::Wipe]);
    assert_eq!(condition(&refused, STATE_WIPED).unwrap().status, "True");
    assert_eq!(fs::read_dir(scene.path("ws-1")).unwrap().count(), 0);
    let mut again = workspace("ws-1", empty());
    again.status.as_mut().unwrap().pod_recreated = Some(1);
    assert_eq!(scene.drive(&mut again).await, [Operation::Initialise]);
    scene.write("ws-1/file", "x");
    set(&mut again, ABORTED, true, "");
    stopping(&mut again);
    assert_eq!(scene.drive(&mut again).await, [Operation::Wipe]);
    assert!(!scene.path("ws-1").exists() && condition(&again, BACKUP_COMPLETE).is_none());
    assert_eq!(Scene::objects(store.path()), [""; 0]);
    let mut build = workspace("build-1", empty());
    build.spec.type_ = Kind::ImageBuild;
    scene.drive(&mut build).await;
    assert_eq!(scene.stop(&mut build).await, [Operation::Wipe]);
}

pub async fn superseded_backups_are_pruned_and_the_newest_one_stays() {
    let store = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(store.path()).await;
    scene.settings.pruning = PrunePolicy { keep: 1, age: Duration::ZERO };
    scene.restart().await;
    for number in 1..4 {
        let from = if number == 1 { empty() } else { backup() };
        let mut workspace = scene.start(&format!("ws-{number}"), from).await;
        scene.write(&format!("ws-{number}/file"), &format!("{number}"));
        scene.stop(&mut workspace).await;
        assert_eq!(heads_and_archives(&Scene::objects(store.path())), (1, 1));
    }
    let other = Scene::new(store.path()).await;
    other.start("ws-4", backup()).await;
    assert_eq!(other.read("ws-4/file"), "3");
}

pub async fn the_folder_of_a_container_that_was_killed_is_backed_up_and_never_taken_for_its_backup() {
    let store = tempfile::tempdir().unwrap();
    let scene = Scene::new(store.path()).await;
    let mut workspace = scene.start("ws-1", empty()).await;
    scene.write("ws-1/file", "x");
    stopping(&mut workspace);
    set(&mut workspace, WORKSPACE_CONTAINER_RUNNING, true, "");
    // The agent waits for two seconds, in which it ends or not.
    set(&mut workspace, FORCE_KILLED_TASK, true, "");
    assert_eq!(scene.drive(&mut workspace).await, [Operation::BackUp]);
    assert_eq!(condition(&workspace, BACKUP_COMPLETE).unwrap().status, "True");
    assert_eq!(scene.read("ws-1/file"), "x");
    assert!(!scene.path(".spaceport/kept/jane/ws").exists());
    scene.start("ws-2", backup()).await;
    assert_eq!(scene.read("ws-2/file"), "x");
}
