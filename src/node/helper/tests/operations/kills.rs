//! Operations that are dropped between their steps, and run again.

use std::fs;
use std::future::Future;
use std::os::unix::fs::chown;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;

use content::store::Choice;
use domain::workspace::Phase;
use jiff::Timestamp;
use k8s::resources::Workspace;
use k8s::resources::conditions::{BACKUP_COMPLETE, CONTENT_READY};
use node::decide::Next;
use node::helper::Progress;
use tokio::sync::watch;

use super::super::stage::USER;
use super::backups::empty;
use super::scene::{Scene, apply, backup, condition, entries, fill, stopping, workspace};

/// When an operation is dropped.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// After so many polls.
    Polls(usize),
    /// Once this text is in the state file, before it is polled again.
    State(&'static str),
    /// Once this exists on the node.
    Node(&'static str),
    /// Once an object is in this folder of the workspace's.
    Store(&'static str),
    Never,
}

impl Moment {
    fn has_come(self, polls: usize, node: &Path, store: &Path) -> bool {
        let exists = |path: &Path| fs::symlink_metadata(path).is_ok();
        match self {
            Self::Polls(most) => polls >= most,
            Self::State(text) => fs::read_dir(node.join(".spaceport/state"))
                .unwrap()
                .flatten()
                .any(|entry| fs::read_to_string(entry.path()).is_ok_and(|state| state.contains(text))),
            Self::Node(path) => exists(&node.join(path)),
            Self::Store(folder) => exists(&store.join("jane/workspaces/ws").join(folder)),
            Self::Never => false,
        }
    }
}

/// Runs what is next, and drops it at a moment. True if it came to its end before.
async fn killed(scene: &mut Scene, store: &Path, workspace: &mut Workspace, moment: Moment) -> bool {
    let Next::Run(operation) = scene.operations().next(workspace, false, Timestamp::now()).await else {
        panic!("nothing to run")
    };
    let (progress, _) = watch::channel(Progress::default());
    let has_ended = {
        let mut running = pin!(scene.operations().run(operation, workspace, &progress));
        let mut polls = 0;
        std::future::poll_fn(|context| {
            if moment.has_come(polls, scene.root.path(), store) {
                return Poll::Ready(false);
            }
            polls += 1;
            let polled = running.as_mut().poll(context);
            if matches!(moment, Moment::Polls(most) if polls >= most) {
                context.waker().wake_by_ref();
            }
            polled.map(|ended| {
                ended.unwrap();
                true
            })
        })
        .await
    };
    // The agent that was killed wrote nothing; the one that comes next does.
    scene.restart().await;
    has_ended
}

/// Numbers of polls that lie closer together at the beginning.
fn polls() -> impl Iterator<Item = Moment> {
    std::iter::successors(Some(1), |polls: &usize| Some(polls + 1 + polls / 2)).take(9).map(Moment::Polls)
}

pub async fn a_backup_that_is_killed_anywhere_ends_with_one_proven_head_and_nothing_lost() {
    let steps = [
        Moment::State("backingUp"),
        Moment::State("uploadId"),
        Moment::State("\"whole\":{"),
        Moment::Store("archives"),
        Moment::Store("heads"),
        Moment::State("backedUp"),
        Moment::Node(".spaceport/kept/jane/ws"),
        Moment::State("\"settled\":true"),
    ];
    let mut kills = 0;
    for moment in steps.into_iter().chain(polls()) {
        let store = tempfile::tempdir().unwrap();
        let mut scene = Scene::new(store.path()).await;
        let mut running = scene.start("ws-1", empty()).await;
        fill(&scene.path("ws-1"));
        // An upload of three parts.
        let mut large = vec![0; 11 << 20];
        fastrand::Rng::with_seed(7).fill(&mut large);
        fs::write(scene.path("ws-1/large"), large).unwrap();
        chown(scene.path("ws-1/large"), Some(USER), Some(USER)).unwrap();
        let mut before = entries(&scene.path("ws-1"));
        before.retain(|path, _| path != Path::new("leave.excluded"));
        stopping(&mut running);
        kills += usize::from(!killed(&mut scene, store.path(), &mut running, moment).await);
        scene.drive(&mut running).await;
        let complete = condition(&running, BACKUP_COMPLETE);
        assert!(complete.is_some_and(|complete| complete.status == "True"), "{moment:?}: {running:?}");
        let Some(Choice::Head(head)) = scene.store.newest_backup(&Scene::keys()).await.unwrap() else {
            panic!()
        };
        assert_eq!(scene.store.list_heads(&Scene::keys()).await.unwrap(), [head.id()], "{moment:?}");
        assert_eq!(fs::read_dir(store.path().join(".uploads")).unwrap().count(), 0, "{moment:?}");
        let other = Scene::new(store.path()).await;
        other.start("ws-2", backup()).await;
        assert_eq!(entries(&other.path("ws-2")), before, "{moment:?}");
    }
    assert!(kills >= steps.len(), "only {kills} kills");
}

pub async fn an_initialisation_that_is_killed_anywhere_ends_with_the_whole_content() {
    let store = tempfile::tempdir().unwrap();
    let origin = Scene::new(store.path()).await;
    let mut first = origin.start("ws-1", empty()).await;
    fill(&origin.path("ws-1"));
    let mut before = entries(&origin.path("ws-1"));
    before.retain(|path, _| path != Path::new("leave.excluded"));
    origin.stop(&mut first).await;
    let steps = [
        Moment::State("initialising"),
        Moment::Node("ws-3"),
        Moment::Node("ws-3/src"),
        Moment::Node(".spaceport/state/ws-3.tree"),
        Moment::State("filled"),
        Moment::Node("ws-3/.gitpod/ready"),
        Moment::State("\"stage\":\"ready\""),
    ];
    // Once by a download, once from the folder that is kept.
    for is_kept in [false, true] {
        let mut kills = 0;
        for moment in steps.into_iter().chain(polls()) {
            let mut scene = Scene::new(store.path()).await;
            if is_kept {
                let mut kept = scene.start("ws-2", backup()).await;
                scene.stop(&mut kept).await;
                fs::remove_file(scene.path(".spaceport/state/ws-2.json")).unwrap();
            }
            let mut workspace = workspace("ws-3", backup());
            kills += usize::from(!killed(&mut scene, store.path(), &mut workspace, moment).await);
            // What programs of the workspace may have written once they saw the ready file stays.
            let was_visible = scene.path("ws-3/.gitpod/ready").exists();
            if was_visible {
                fs::write(scene.path("ws-3/mine"), "x").unwrap();
            }
            scene.drive(&mut workspace).await;
            assert_eq!(condition(&workspace, CONTENT_READY).unwrap().status, "True", "{moment:?}");
            let mut found = entries(&scene.path("ws-3"));
            assert_eq!(found.remove(Path::new("mine")).is_some(), was_visible, "{moment:?}, {is_kept}");
            assert_eq!(found, before, "{moment:?}, {is_kept}");
        }
        assert!(kills >= steps.len(), "only {kills} kills");
    }
}

pub async fn what_was_done_and_not_written_is_written_by_the_next_agent_without_doing_it_again() {
    let store = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(store.path()).await;
    let mut workspace = workspace("ws-1", empty());
    assert!(killed(&mut scene, store.path(), &mut workspace, Moment::Never).await);
    assert_eq!(scene.drive(&mut workspace).await, []);
    assert_eq!(condition(&workspace, CONTENT_READY).unwrap().status, "True");
    workspace.status.as_mut().unwrap().phase = Phase::Running;
    scene.write("ws-1/file", "x");
    stopping(&mut workspace);
    assert!(killed(&mut scene, store.path(), &mut workspace, Moment::Never).await);
    let written = match scene.operations().next(&workspace, false, Timestamp::now()).await {
        Next::Write(report) => *report,
        other => panic!("{other:?}"),
    };
    apply(&mut workspace, written);
    assert_eq!(scene.drive(&mut workspace).await, []);
    assert_eq!(condition(&workspace, BACKUP_COMPLETE).unwrap().status, "True");
}
