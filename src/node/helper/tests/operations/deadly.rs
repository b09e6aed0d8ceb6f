//! Operations that kill their agent each time, as one does that needs more memory than the machine has.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::process::{Command, ExitCode};

use content::store::{Format, Store};
use domain::workspace::Phase;
use jiff::Timestamp;
use k8s::resources::Workspace;
use k8s::resources::conditions::{BACKUP_FAILURE, CONTENT_READY};
use node::decide::{Next, Operation};
use node::helper::Progress;
use tokio::sync::watch;

use super::backups::empty;
use super::scene::{self, Scene, condition, set, stopping, workspace};

/// Argument that makes this program an agent that is killed as soon as its operation is noted.
pub const AGENT: &str = "agent-that-kills-itself";

fn to_back_up(id: &str) -> Workspace {
    let mut workspace = workspace(id, empty());
    set(&mut workspace, CONTENT_READY, true, "");
    stopping(&mut workspace);
    workspace
}

/// Runs what is next until the state file says that it began, and is killed.
pub fn agent(root: &str, store: &str, id: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&content::store::Settings::local(Path::new(store))).await.unwrap();
        let operations = scene::open(&scene::settings(Path::new(root), Format::Zst), &store).await;
        let workspace = if id == "ws-1" { workspace(id, empty()) } else { to_back_up(id) };
        let Next::Run(operation) = operations.next(&workspace, false, Timestamp::now()).await else {
            panic!("nothing to run");
        };
        let (progress, _) = watch::channel(Progress::default());
        let file = Path::new(root).join(format!(".spaceport/state/{id}.json"));
        let before = fs::read(&file).unwrap_or_default();
        let mut running = pin!(operations.run(operation, &workspace, &progress));
        std::future::poll_fn(|context| {
            if fs::read(&file).is_ok_and(|now| now != before) {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
            }
            running.as_mut().poll(context).map(drop)
        })
        .await;
    });
    // It came to an end before.
    ExitCode::FAILURE
}

fn kill(scene: &Scene, store: &Path, id: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args([AGENT.as_ref(), scene.root.path().as_os_str(), store.as_os_str(), id.as_ref()])
        .status()
        .unwrap();
    assert!(!status.success() && status.code().is_none(), "{status}");
}

pub async fn an_operation_that_kills_its_agent_each_time_is_given_up() {
    let store = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(store.path()).await;
    scene.start("ws-2", empty()).await;
    scene.write("ws-2/file", "of a user");
    for (id, kind) in [("ws-1", CONTENT_READY), ("ws-2", BACKUP_FAILURE)] {
        for number in 0..5 {
            scene.stop_agent();
            kill(&scene, store.path(), id);
            scene.restart().await;
            // An agent that ends in order does not count, whatever it began.
            if number == 2 {
                scene.restart().await;
            }
        }
        let mut workspace = if id == "ws-1" { workspace(id, empty()) } else { to_back_up(id) };
        scene.drive(&mut workspace).await;
        let failed = condition(&workspace, kind).unwrap();
        assert!(failed.message.contains("was killed 5 times while it worked on this"), "{}", failed.message);
        assert_eq!(failed.status == "True", kind == BACKUP_FAILURE);
    }
    assert!(scene.read(".spaceport/state/ws-2.json").contains("backupFailed"));
    assert_eq!(scene.read("ws-2/file"), "of a user");
    // Four are not enough.
    scene.start("ws-3", empty()).await;
    for _ in 0..4 {
        scene.stop_agent();
        kill(&scene, store.path(), "ws-3");
        scene.restart().await;
    }
    let mut third = to_back_up("ws-3");
    assert_eq!(third.status.as_ref().unwrap().phase, Phase::Stopping);
    assert_eq!(scene.drive(&mut third).await, [Operation::BackUp]);
    assert!(condition(&third, BACKUP_FAILURE).is_none());
}
