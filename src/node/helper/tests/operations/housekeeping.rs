//! What housekeeping removes, and what it never does.

use std::collections::BTreeSet;
use std::fs;

use jiff::{SignedDuration, Timestamp};

use super::backups::empty;
use super::scene::{Scene, backup, condition, workspace};
use k8s::resources::conditions::CONTENT_READY;

pub async fn only_what_is_proven_or_nobodys_is_removed() {
    let store = tempfile::tempdir().unwrap();
    let scene = Scene::new(store.path()).await;
    let mut done = scene.start("ws-1", empty()).await;
    scene.write("ws-1/file", "x");
    scene.stop(&mut done).await;
    let mut failed = workspace("ws-2", backup());
    "other".clone_into(&mut failed.spec.ownership.workspace_id);
    scene.drive(&mut failed).await;
    assert_eq!(condition(&failed, CONTENT_READY).unwrap().status, "False");
    scene.start("ws-3", empty()).await;
    scene.write("ws-3/file", "unproven");
    scene.start("ws-4", empty()).await;
    scene.write("ws-5/file", "of nobody known");
    fs::create_dir(scene.path("ws-6")).unwrap();
    for daemon in ["ws-1-daemon", "ws-3-daemon", "ws-4-daemon", "ws-9-daemon"] {
        fs::create_dir(scene.path(daemon)).unwrap();
        fs::write(scene.path(daemon).join("of the agent"), "x").unwrap();
    }
    fs::write(scene.path(".spaceport/state/ws-7.json"), "broken").unwrap();
    let known = BTreeSet::from(["ws-4".parse().unwrap()]);
    let soon = scene.operations().housekeep(&known, Timestamp::now()).await.unwrap();
    assert_eq!((soon.removed, soon.unproven.len()), (0, 0), "{soon:?}");
    let later = Timestamp::now() + SignedDuration::from_hours(2);
    let kept = scene.operations().housekeep(&known, later).await.unwrap();
    assert_eq!((kept.removed, kept.broken.len()), (2, 1), "{kept:?}");
    let mut unproven: Vec<String> = kept.unproven.iter().map(|one| one.instance.to_string()).collect();
    unproven.sort();
    assert_eq!(unproven, ["ws-3", "ws-5"]);
    assert_eq!(scene.read("ws-3/file"), "unproven");
    assert_eq!(scene.read("ws-5/file"), "of nobody known");
    for (path, exists) in [
        (".spaceport/state/ws-1.json", false),
        (".spaceport/state/ws-2.json", false),
        (".spaceport/state/ws-3.json", true),
        (".spaceport/state/ws-4.json", true),
        (".spaceport/state/ws-7.json", true),
        ("ws-1-daemon", false),
        ("ws-3-daemon", true),
        ("ws-4-daemon", true),
        ("ws-9-daemon", false),
        ("ws-6", false),
        (".spaceport/kept/jane/ws/file", true),
    ] {
        assert_eq!(scene.path(path).exists(), exists, "{path}");
    }
    let freed = scene.operations().free(u64::MAX).await.unwrap();
    assert_eq!(freed.folders, 1);
    assert!(!scene.path(".spaceport/kept/jane/ws").exists());
    scene.start("ws-8", backup()).await;
    assert_eq!(scene.read("ws-8/file"), "x");
}
