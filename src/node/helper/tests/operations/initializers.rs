//! Each initializer through the operations, and what its failure says.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use domain::workspace::Kind;
use jiff::SignedDuration;
use k8s::resources::conditions::{
    ABORTED, BACKUP_COMPLETE, BACKUP_FAILURE, CONTENT_READY, POD_REJECTED, STATE_WIPED,
};
use node::decide::Operation;
use proto::contentservice::file_download_initializer::FileInfo;
use proto::contentservice::workspace_initializer::Spec;
use proto::contentservice::{
    CloneTargetMode, CompositeInitializer, FileDownloadInitializer, GitAuthMethod, GitConfig, GitInitializer,
    PrebuildInitializer, SnapshotInitializer, WorkspaceInitializer,
};

use super::super::git_server::{GitServer, PASSWORD, USER, commit};
use super::backups::empty;
use super::scene::{Scene, backup, condition, set, workspace};

/// Answers every request with `text`.
fn web(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 2048]);
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
            let _ = stream.write_all((head + text).as_bytes());
        }
    });
    url
}

fn git(server: &GitServer) -> GitInitializer {
    GitInitializer { remote_uri: server.address("a"), checkout_location: "repo".into(), ..Default::default() }
}

fn download(url: &str) -> Spec {
    let file = FileInfo { url: format!("{url}/a"), file_path: "file".into(), digest: String::new() };
    Spec::Download(FileDownloadInitializer { files: vec![file], target_location: "below".into() })
}

pub async fn a_repository_and_files_come_from_their_servers_and_the_status_at_the_end_is_reported() {
    let store = tempfile::tempdir().unwrap();
    let (scene, server, url) = (Scene::new(store.path()).await, GitServer::start(), web("downloaded\n"));
    commit(&server.repository("a"), &[("tracked", "1\n")], "main");
    let children = [Spec::Git(git(&server)), download(&url)];
    let initializer = children.map(|spec| WorkspaceInitializer { spec: Some(spec) }).to_vec();
    let mut workspace = scene.start("ws-1", Spec::Composite(CompositeInitializer { initializer })).await;
    assert_eq!(
        (scene.read("ws-1/repo/tracked"), scene.read("ws-1/below/file")),
        ("1\n".into(), "downloaded\n".into())
    );
    let metrics = workspace.status.clone().unwrap().initializer_metrics.unwrap();
    assert!(metrics.git.is_some() && metrics.file_download.is_some() && metrics.composite.is_some());
    scene.write("ws-1/repo/tracked", "2\n");
    scene.write("ws-1/repo/new", "x");
    scene.stop(&mut workspace).await;
    let status = workspace.status.as_ref().unwrap().git.as_ref().unwrap();
    assert_eq!((status.branch.as_deref(), status.total_untracked_files), (Some("main"), Some(1)));
    assert_eq!(status.uncommited_files, ["tracked"]);
    assert_eq!(condition(&workspace, BACKUP_COMPLETE).unwrap().status, "True");
    scene.start("ws-2", backup()).await;
    assert_eq!(scene.read("ws-2/repo/tracked"), "2\n");
}

pub async fn a_prebuild_leaves_a_snapshot_and_logs_and_starts_a_workspace_that_falls_back_to_git() {
    let store = tempfile::tempdir().unwrap();
    let (scene, server) = (Scene::new(store.path()).await, GitServer::start());
    let working = server.repository("a");
    commit(&working, &[("tracked", "1\n")], "main");
    let mut prebuild = workspace("pre-1", Spec::Git(git(&server)));
    prebuild.spec.type_ = Kind::Prebuild;
    scene.drive(&mut prebuild).await;
    scene.write("pre-1/repo/built/output", "new");
    scene.write("pre-1/.gitpod/prebuild-log-0", "compiling\n");
    scene.stop(&mut prebuild).await;
    let name = prebuild.status.as_ref().unwrap().snapshot.clone().unwrap();
    assert_eq!(condition(&prebuild, BACKUP_COMPLETE).unwrap().status, "True");
    let log = store.path().join("jane/workspaces/ws/instances/pre-1/logs/0");
    assert_eq!(fs::read_to_string(log).unwrap(), "compiling\n");
    assert!(!scene.path("pre-1").exists());
    let from = |snapshot: String| {
        let prebuild = Some(SnapshotInitializer { snapshot, from_volume_snapshot: false });
        Spec::Prebuild(PrebuildInitializer { prebuild, git: vec![git(&server)] })
    };
    let started = scene.start("ws-2", from(name.clone())).await;
    assert_eq!(scene.read("ws-2/repo/built/output"), "new");
    assert!(scene.read("ws-2/.gitpod/ready").contains("from-prebuild"));
    assert!(started.status.unwrap().initializer_metrics.unwrap().prebuild.is_some());
    commit(&working, &[("tracked", "2\n")], "main");
    let gone = name.replace("/snapshot-", "/snapshot-1");
    let fallback = scene.start("ws-3", from(gone)).await;
    assert!(scene.read("ws-3/repo/tracked") == "2\n" && !scene.path("ws-3/repo/built").exists());
    assert!(fallback.status.unwrap().initializer_metrics.unwrap().git.is_some());
}

/// Answers the first request with a login, and no other one.
fn once() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/planted-one-time", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 2048]);
            let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
            let (status, text) = if is_first {
                ("200 OK", format!("{USER}:{PASSWORD}"))
            } else {
                ("404 Not Found", String::new())
            };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
            let _ = stream.write_all((head + &text).as_bytes());
        }
    });
    (url, asked)
}

pub async fn a_login_that_is_answered_once_serves_all_repositories_of_a_workspace_and_is_in_no_file() {
    let store = tempfile::tempdir().unwrap();
    let (scene, server, (url, asked)) = (Scene::new(store.path()).await, GitServer::start(), once());
    let children = ["private/a", "private/b"].map(|name| {
        commit(&server.repository(name), &[("tracked", name)], "main");
        let config = GitConfig {
            authentication: GitAuthMethod::BasicAuthOts.into(),
            auth_ots: url.clone(),
            ..GitConfig::default()
        };
        let git = GitInitializer {
            remote_uri: server.address(name),
            checkout_location: name.replace('/', "-"),
            config: Some(config),
            ..GitInitializer::default()
        };
        WorkspaceInitializer { spec: Some(Spec::Git(git)) }
    });
    scene.start("ws-1", Spec::Composite(CompositeInitializer { initializer: children.to_vec() })).await;
    assert_eq!(scene.read("ws-1/private-a/tracked"), "private/a");
    assert_eq!(scene.read("ws-1/private-b/tracked"), "private/b");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let mut left = vec![scene.path("")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let content = fs::read(&path).unwrap();
        for secret in [PASSWORD, "planted-one-time"] {
            let is_there = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_there, "{} has {secret}", path.display());
        }
    }
}

pub async fn a_failure_is_one_sentence_with_its_owner_and_leaves_an_empty_folder() {
    let store = tempfile::tempdir().unwrap();
    let (scene, server) = (Scene::new(store.path()).await, GitServer::start());
    commit(&server.repository("a"), &[("tracked", "1\n")], "main");
    let missing = GitInitializer {
        clone_taget: "none".into(),
        target_mode: CloneTargetMode::RemoteBranch.into(),
        ..git(&server)
    };
    let foreign = SnapshotInitializer {
        snapshot: "joe/workspaces/ws/full.tar@local".into(),
        from_volume_snapshot: false,
    };
    let reference = GitInitializer { remote_uri: "extracted-secret/none".into(), ..git(&server) };
    for (id, spec, texts) in [
        ("ws-1", Spec::Git(missing), ["none", "fault of the user"]),
        ("ws-2", backup(), ["workspace ws of owner jane has no backup", "fault of the platform"]),
        ("ws-3", Spec::Snapshot(foreign), ["is no snapshot", "fault of the user"]),
        ("ws-4", Spec::Git(reference), ["refers to the key none", "fault of the platform"]),
    ] {
        let mut workspace = workspace(id, spec);
        assert_eq!(scene.drive(&mut workspace).await, [Operation::Initialise]);
        let ready = condition(&workspace, CONTENT_READY).unwrap();
        assert_eq!(ready.status, "False");
        for text in texts {
            assert!(ready.message.contains(text), "{}", ready.message);
        }
        let left = fs::read_dir(scene.path(id)).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{id}");
    }
}

pub async fn content_without_a_state_file_is_set_aside_and_a_broken_one_changes_nothing() {
    let store = tempfile::tempdir().unwrap();
    let scene = Scene::new(store.path()).await;
    scene.write("ws-1/found", "x");
    scene.start("ws-1", empty()).await;
    assert!(!scene.path("ws-1/found").exists());
    assert_eq!(scene.read(".spaceport/aside/ws-1.0/found"), "x");
    scene.write("ws-2/found", "x");
    fs::write(scene.path(".spaceport/state/ws-2.json"), "{\"version\":1,").unwrap();
    let mut broken = workspace("ws-2", empty());
    assert_eq!(scene.drive(&mut broken).await, []);
    assert!(condition(&broken, CONTENT_READY).unwrap().message.contains("ws-2.json"));
    assert_eq!(scene.read("ws-2/found"), "x");
    // Nobody knows whose content an aborted workspace without a state file would lose.
    for (number, condition) in [(4, ABORTED), (5, POD_REJECTED)] {
        let id = format!("ws-{number}");
        scene.write(&format!("{id}/found"), "x");
        let mut unwanted = workspace(&id, empty());
        set(&mut unwanted, condition, true, "");
        assert_eq!(scene.stop(&mut unwanted).await, [Operation::Wipe]);
        assert!(!scene.path(&format!("{id}/found")).exists());
        assert_eq!(scene.read(&format!(".spaceport/aside/{id}.0/found")), "x");
    }
    let mut daemon = workspace("ws-3-daemon", empty());
    assert_eq!(scene.drive(&mut daemon).await, []);
    assert!(condition(&daemon, CONTENT_READY).unwrap().message.contains("-daemon"));
}

pub async fn content_of_another_resource_with_the_same_instance_id_is_set_aside() {
    let store = tempfile::tempdir().unwrap();
    let scene = Scene::new(store.path()).await;
    let of = |owner: &str, uid: &str| {
        let mut workspace = workspace("ws-1", empty());
        owner.clone_into(&mut workspace.spec.ownership.owner);
        workspace.metadata.uid = Some(uid.to_owned());
        workspace
    };
    let mut first = of("jane", "u1");
    scene.drive(&mut first).await;
    scene.write("ws-1/file", "of jane");
    // It begins anew, and a snapshot or a backup of it has nothing of the other one.
    let mut second = of("joe", "u2");
    assert_eq!(scene.drive(&mut second).await, [Operation::Initialise]);
    assert_eq!(condition(&second, CONTENT_READY).unwrap().status, "True");
    assert!(!scene.path("ws-1/file").exists());
    assert_eq!(scene.read(".spaceport/aside/ws-1.0/file"), "of jane");
    assert!(scene.read(".spaceport/aside/ws-1.json.0").contains("u1"));
    // The older resource is not served any more, even if it is heard of late.
    first.metadata.creation_timestamp.as_mut().unwrap().0 -= SignedDuration::from_secs(1);
    assert_eq!(scene.stop(&mut first).await, []);
    // A wipe takes only what is its own.
    scene.write("ws-1/file", "of joe");
    let mut third = of("jane", "u3");
    set(&mut third, POD_REJECTED, true, "NodeAffinity");
    assert_eq!(scene.stop(&mut third).await, [Operation::Wipe]);
    assert_eq!(condition(&third, STATE_WIPED).unwrap().status, "True");
    assert_eq!(scene.read(".spaceport/aside/ws-1.1/file"), "of joe");
    // Not taken over from a workspace that runs.
    let mut fourth = of("joe", "u4");
    set(&mut fourth, CONTENT_READY, true, "");
    assert_eq!(scene.stop(&mut fourth).await, []);
    assert_eq!(condition(&fourth, BACKUP_FAILURE).unwrap().status, "True");
    assert_eq!(Scene::objects(store.path()), [""; 0]);
}
