//! Operations that are dropped after any of their awaits, and run again.

use std::fs;
use std::future::Future;
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

/// Runs a future until it was polled so often. `None` if it was dropped then.
async fn polled<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => {
                // The next poll ends it; nothing else may wake this task.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Runs what is next, and drops it after so many polls. True if it came to its end.
async fn killed(scene: &mut Scene, workspace: &mut Workspace, times: usize) -> bool {
    let Next::Run(operation) = scene.operations().next(workspace, false, Timestamp::now()).await else {
        panic!("nothing to run")
    };
    let (progress, _) = watch::channel(Progress::default());
    let ended = polled(times, scene.operations().run(operation, workspace, &progress)).await;
    // The agent that was killed wrote nothing; the one that comes next does.
    scene.restart().await;
    ended.is_some()
}

/// Numbers of polls that lie closer together at the beginning.
fn moments() -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |times: &usize| Some(times + 1 + times / 4))
}

pub async fn a_backup_that_is_killed_anywhere_ends_with_one_proven_head_and_nothing_lost() {
    let (mut kills, mut resumed) = (0, 0);
    for times in moments() {
        let store = tempfile::tempdir().unwrap();
        let mut scene = Scene::new(store.path()).await;
        let mut running = scene.start("ws-1", empty()).await;
        fill(&scene.path("ws-1"));
        // An upload of three parts.
        let mut large = vec![0; 11 << 20];
        fastrand::Rng::with_seed(7).fill(&mut large);
        fs::write(scene.path("ws-1/large"), large).unwrap();
        std::os::unix::fs::chown(scene.path("ws-1/large"), Some(USER), Some(USER)).unwrap();
        let mut before = entries(&scene.path("ws-1"));
        before.retain(|path, _| path.to_str() != Some("leave.excluded"));
        stopping(&mut running);
        let has_ended = killed(&mut scene, &mut running, times).await;
        resumed += usize::from(scene.path(".spaceport/state/ws-1.upload").exists());
        scene.drive(&mut running).await;
        assert_eq!(condition(&running, BACKUP_COMPLETE).unwrap().status, "True", "after {times} polls");
        let Some(Choice::Head(head)) = scene.store.newest_backup(&Scene::keys()).await.unwrap() else {
            panic!()
        };
        assert_eq!(scene.store.list_heads(&Scene::keys()).await.unwrap(), [head.id()], "after {times} polls");
        let other = Scene::new(store.path()).await;
        other.start("ws-2", backup()).await;
        assert_eq!(entries(&other.path("ws-2")), before, "after {times} polls");
        if has_ended {
            println!("{kills} kills, {resumed} of them in an upload that was resumed");
            assert!(kills > 10 && resumed > 1, "only {kills} kills, {resumed} in an upload");
            assert!(fs::read_dir(store.path().join(".uploads")).unwrap().next().is_none());
            return;
        }
        kills += 1;
    }
}

pub async fn an_initialisation_that_is_killed_anywhere_ends_with_the_whole_content() {
    let store = tempfile::tempdir().unwrap();
    let origin = Scene::new(store.path()).await;
    let mut first = origin.start("ws-1", empty()).await;
    fill(&origin.path("ws-1"));
    let mut before = entries(&origin.path("ws-1"));
    before.retain(|path, _| path.to_str() != Some("leave.excluded"));
    origin.stop(&mut first).await;
    // Once by a download, once from the folder that is kept.
    for is_kept in [false, true] {
        for (kills, times) in moments().enumerate() {
            let mut scene = Scene::new(store.path()).await;
            if is_kept {
                let mut kept = scene.start("ws-2", backup()).await;
                scene.stop(&mut kept).await;
            }
            let mut workspace = workspace("ws-3", backup());
            let has_ended = killed(&mut scene, &mut workspace, times).await;
            // What programs of the workspace may have written once they saw the ready file stays.
            let was_visible = scene.path("ws-3/.gitpod/ready").exists();
            if was_visible {
                scene.write("ws-3/src/mine", "x");
            }
            scene.drive(&mut workspace).await;
            assert_eq!(condition(&workspace, CONTENT_READY).unwrap().status, "True", "after {times} polls");
            let mut found = entries(&scene.path("ws-3"));
            assert_eq!(
                found.remove(std::path::Path::new("src/mine")).is_some(),
                was_visible,
                "after {times} polls"
            );
            if was_visible {
                // Its folder has a new time.
                found.remove(std::path::Path::new("src"));
                let mut expected = before.clone();
                expected.remove(std::path::Path::new("src"));
                assert_eq!(found, expected, "after {times} polls");
            } else {
                assert_eq!(found, before, "after {times} polls");
            }
            if has_ended {
                assert!(kills > 5, "only {kills} kills");
                break;
            }
        }
    }
}

pub async fn what_was_done_and_not_written_is_written_by_the_next_agent_without_doing_it_again() {
    let store = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(store.path()).await;
    let mut workspace = workspace("ws-1", empty());
    assert!(killed(&mut scene, &mut workspace, usize::MAX).await);
    assert_eq!(scene.drive(&mut workspace).await, []);
    assert_eq!(condition(&workspace, CONTENT_READY).unwrap().status, "True");
    workspace.status.as_mut().unwrap().phase = Phase::Running;
    scene.write("ws-1/file", "x");
    stopping(&mut workspace);
    assert!(killed(&mut scene, &mut workspace, usize::MAX).await);
    let written = match scene.operations().next(&workspace, false, Timestamp::now()).await {
        Next::Write(report) => *report,
        other => panic!("{other:?}"),
    };
    apply(&mut workspace, written);
    assert_eq!(scene.drive(&mut workspace).await, []);
    assert_eq!(condition(&workspace, BACKUP_COMPLETE).unwrap().status, "True");
}
