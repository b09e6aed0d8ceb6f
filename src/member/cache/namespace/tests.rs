use parking_lot::Mutex;

use super::state::DELETIONS;
use super::*;
use k8s::resources::{Runtime, WorkspaceSpec, WorkspaceStatus};

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Observer for Log {
    fn workspace(&self, _: &Namespace, workspace: &Arc<Workspace>) {
        let version = workspace.metadata.resource_version.as_deref().unwrap();
        self.0.lock().push(format!("{}@{version}", workspace.metadata.name.as_deref().unwrap()));
    }

    fn workspace_gone(&self, _: &Namespace, last: &Arc<Workspace>) {
        self.0.lock().push(format!("-{}", last.metadata.name.as_deref().unwrap()));
    }

    fn workspace_unreadable(&self, _: &Namespace, workspace: &str) {
        self.0.lock().push(format!("{workspace} is there"));
    }

    fn pods_changed(&self, _: &Namespace, workspace: &str) {
        self.0.lock().push(format!("pods of {workspace}"));
    }

    fn rewound(&self, _: &Namespace) {
        self.0.lock().push("restored".to_owned());
    }

    fn synced(&self, _: &Namespace) {
        self.0.lock().push("synced".to_owned());
    }
}

fn workspace(name: &str, version: u64) -> Workspace {
    let mut workspace = Workspace::new(name, WorkspaceSpec::default());
    workspace.metadata.resource_version = Some(version.to_string());
    workspace.metadata.uid = Some(format!("uid-{name}"));
    workspace.metadata.managed_fields = Some(Vec::new());
    workspace
}

fn on(node: &str, mut workspace: Workspace) -> Workspace {
    let runtime = Runtime { node_name: Some(node.to_owned()), ..Runtime::default() };
    workspace.status =
        Some(WorkspaceStatus { runtime: Some(Box::new(runtime)), ..WorkspaceStatus::default() });
    workspace
}

fn pod(name: &str, workspace: &str) -> PodFacts {
    PodFacts {
        name: name.to_owned(),
        uid: String::new(),
        resource_version: "1".to_owned(),
        workspace: workspace.to_owned(),
        workspace_uid: String::new(),
        phase: domain::pod::PodPhase::Pending,
        reason: String::new(),
        message: String::new(),
        node_name: None,
        pod_ip: None,
        host_ip: None,
        deleting_since: None,
        has_finalizer: true,
        held_by: Vec::new(),
        unschedulable: None,
        disruption: None,
        only_others: Vec::new(),
        containers: Vec::new(),
        init_containers: Vec::new(),
        all_terminated: false,
    }
}

fn cache() -> (Arc<Log>, NamespaceCache) {
    let log = Arc::new(Log::default());
    (Arc::clone(&log), NamespaceCache::new("ws".parse().unwrap(), vec![log]))
}

fn list(cache: &NamespaceCache, objects: &[(&str, u64)]) {
    cache.begin_workspaces();
    for (name, version) in objects {
        cache.put_workspace(workspace(name, *version));
    }
    cache.end_workspaces();
}

fn told(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.0.lock())
}

#[test]
fn what_vanished_while_nobody_watched_is_told_as_gone_after_the_next_list() {
    let (log, cache) = cache();
    list(&cache, &[("a", 1), ("b", 2)]);
    list(&cache, &[("b", 2), ("c", 5)]);
    assert_eq!(told(&log), ["a@1", "b@2", "c@5", "-a"]);
    assert_eq!(cache.names(), ["b", "c"]);
}

#[test]
fn synced_is_told_once_workspaces_and_pods_are_both_listed() {
    let (log, cache) = cache();
    list(&cache, &[]);
    assert!(!cache.is_synced());
    cache.begin_pods();
    cache.end_pods();
    assert!(cache.is_synced());
    assert_eq!(told(&log), ["synced"]);
}

#[test]
fn an_older_version_never_replaces_a_newer_one() {
    let (log, cache) = cache();
    list(&cache, &[("a", 10)]);
    assert!(cache.offer(workspace("a", 12)));
    cache.put_workspace(workspace("a", 11));
    assert!(!cache.offer(workspace("a", 12)));
    cache.put_workspace(workspace("a", 13));
    assert_eq!(told(&log), ["a@10", "a@12", "a@13"]);
}

#[test]
fn the_answer_of_a_write_does_not_bring_back_what_was_seen_deleted() {
    let (_, cache) = cache();
    list(&cache, &[("a", 10)]);
    cache.remove_workspace("a", 20);
    assert!(!cache.offer(workspace("a", 15)));
    assert!(cache.offer(workspace("b", 21)));
}

#[test]
fn what_was_made_during_a_list_is_not_told_as_gone_at_its_end() {
    let (log, cache) = cache();
    cache.begin_workspaces();
    cache.put_workspace(workspace("a", 1));
    assert!(cache.offer(workspace("new", 9)));
    cache.end_workspaces();
    assert_eq!(told(&log), ["a@1", "new@9"]);
}

#[test]
fn a_list_of_a_cluster_restored_from_a_backup_is_believed() {
    let (log, cache) = cache();
    list(&cache, &[("a", 100), ("b", 101)]);
    list(&cache, &[("a", 50)]);
    assert_eq!(told(&log), ["a@100", "b@101", "restored", "a@50", "-b"]);
    assert!(cache.offer(workspace("c", 60)), "versions count from the backup's on");
}

#[test]
fn a_restore_that_raised_versions_is_seen_by_a_generation_that_fell() {
    let (log, cache) = cache();
    let of = |version, generation| {
        let mut workspace = workspace("a", version);
        workspace.metadata.generation = Some(generation);
        workspace
    };
    cache.put_workspace(of(10, 3));
    cache.begin_workspaces();
    cache.put_workspace(of(1_000_010, 2));
    cache.end_workspaces();
    assert_eq!(told(&log), ["a@10", "restored", "a@1000010"]);
}

#[test]
fn an_object_that_cannot_be_read_keeps_its_last_state() {
    let (_, cache) = cache();
    list(&cache, &[("a", 1)]);
    cache.begin_workspaces();
    cache.keep_workspace("a");
    cache.end_workspaces();
    assert_eq!(cache.names(), ["a"]);
}

#[test]
fn an_object_that_is_there_and_not_read_counts_as_deleted_no_more_and_observers_hear_of_it() {
    let (log, cache) = cache();
    cache.delete_workspace("a", 1);
    assert!(cache.was_deleted("a"));
    cache.begin_workspaces();
    cache.keep_workspace("a");
    cache.keep_workspace("b");
    cache.end_workspaces();
    assert!(!cache.was_deleted("a"));
    assert_eq!(told(&log), ["a is there", "b is there"]);
}

#[test]
fn workspaces_are_found_by_their_node_and_kept_without_managed_fields() {
    let (_, cache) = cache();
    cache.put_workspace(on("n1", workspace("a", 1)));
    cache.put_workspace(on("n1", workspace("b", 2)));
    cache.put_workspace(on("n2", workspace("a", 3)));
    assert_eq!(cache.on_node("n1"), ["b"]);
    assert_eq!(cache.on_node("n2"), ["a"]);
    cache.remove_workspace("a", 4);
    assert!(cache.on_node("n2").is_empty());
    assert!(cache.get("b").unwrap().metadata.managed_fields.is_none());
}

#[test]
fn pods_are_found_by_their_workspace_and_only_changes_are_told() {
    let (log, cache) = cache();
    cache.put_pod(pod("ws-a", "a"));
    cache.put_pod(pod("ws-a", "a"));
    cache.put_pod(pod("ws-b", "b"));
    assert_eq!(cache.pods_of("a").len(), 1);
    cache.begin_pods();
    cache.put_pod(pod("ws-b", "b"));
    cache.end_pods();
    assert!(cache.pods_of("a").is_empty());
    assert_eq!(told(&log), ["pods of a", "pods of b", "pods of a"]);
}

#[test]
fn an_observer_that_writes_back_is_told_in_order_and_does_not_hang() {
    struct Writes(std::sync::OnceLock<Arc<NamespaceCache>>, Mutex<Vec<String>>);
    impl Observer for Writes {
        fn workspace(&self, _: &Namespace, seen: &Arc<Workspace>) {
            let version = super::version(seen);
            self.1.lock().push(version.to_string());
            if version < 3 {
                self.0.get().unwrap().offer(workspace("a", version + 1));
            }
        }
    }
    let observer = Arc::new(Writes(std::sync::OnceLock::new(), Mutex::default()));
    let cache = Arc::new(NamespaceCache::new("ws".parse().unwrap(), vec![observer.clone()]));
    assert!(observer.0.set(Arc::clone(&cache)).is_ok());
    cache.put_workspace(workspace("a", 1));
    assert_eq!(*observer.1.lock(), ["1", "2", "3"]);
}

#[test]
fn only_what_the_cluster_called_deleted_counts_as_that_and_until_something_is_told_of_the_name() {
    let (_, cache) = cache();
    list(&cache, &[("a", 1), ("b", 2), ("c", 3), ("d", 4)]);
    for name in ["a", "b", "c"] {
        cache.delete_workspace(name, 5);
        assert!(cache.was_deleted(name) && cache.get(name).is_none(), "{name}");
    }
    cache.remove_workspace("d", 6);
    assert!(!cache.was_deleted("d"), "it was handed to another manager");
    cache.put_workspace(workspace("a", 7));
    cache.delete_workspace("a", 6);
    assert!(!cache.was_deleted("a") && cache.get("a").is_some(), "the news is older");
    cache.remove_workspace("b", 8);
    assert!(!cache.was_deleted("b"), "another manager made it again");
    cache.keep_workspace("c");
    assert!(!cache.was_deleted("c"), "it is there and cannot be read");
}

#[test]
fn deletions_are_forgotten_with_a_list_a_creation_and_a_term_and_are_never_too_many() {
    let (_, cache) = cache();
    list(&cache, &[]);
    let delete = || {
        cache.delete_workspace("a", 50);
        assert!(cache.was_deleted("a"));
    };
    cache.delete_workspace("a", 5);
    assert!(cache.was_deleted("a"));
    assert!(cache.offer(workspace("a", 6)) && !cache.was_deleted("a"));
    cache.delete_workspace("a", 7);
    cache.await_creation("a");
    assert!(!cache.was_deleted("a"));
    cache.delete_workspace("a", 8);
    assert!(!cache.was_deleted("a"), "one of the name may have been made since");
    cache.put_workspace(workspace("a", 9));
    cache.delete_workspace("a", 10);
    assert!(cache.was_deleted("a"));
    cache.forget_deletions();
    assert!(!cache.was_deleted("a"));
    delete();
    list(&cache, &[]);
    assert!(!cache.was_deleted("a"));
    for n in 0..=DELETIONS {
        cache.delete_workspace(&format!("ws-{n}"), 9);
    }
    assert!(!cache.was_deleted("ws-0") && cache.was_deleted(&format!("ws-{DELETIONS}")));
}

#[test]
fn a_pod_that_others_hold_is_left_once_its_workspace_is_gone() {
    let cache = NamespaceCache::new("ws".parse().unwrap(), Vec::new());
    let held = |name: &str, workspace: &str| PodFacts {
        deleting_since: Some(jiff::Timestamp::UNIX_EPOCH),
        held_by: vec!["example.com/x".to_owned()],
        ..pod(name, workspace)
    };
    cache.put_pod(held("ws-b", "b"));
    cache.put_pod(held("ws-a", "a"));
    cache.put_pod(PodFacts { deleting_since: None, ..held("ws-c", "c") });
    cache.put_pod(PodFacts { held_by: Vec::new(), ..held("ws-d", "d") });
    let left = || cache.pods_left().iter().map(|pod| pod.name.clone()).collect::<Vec<_>>();
    assert_eq!(left(), ["ws-a", "ws-b"]);
    cache.put_workspace(workspace("a", 1));
    assert_eq!(left(), ["ws-b"]);
}

#[test]
fn after_a_recorded_restore_nothing_is_complete_before_workspaces_and_pods_were_listed_again() {
    let (log, cache) = cache();
    let list_pods = || {
        cache.begin_pods();
        cache.end_pods();
    };
    let list_workspaces = |version| {
        cache.begin_workspaces();
        cache.put_workspace(workspace("a", version));
        cache.end_workspaces();
    };
    list_workspaces(52);
    list_pods();
    for pods_first in [true, false] {
        log.0.lock().clear();
        cache.expect_fall();
        if pods_first {
            list_pods();
            assert_eq!(*log.0.lock(), [""; 0], "the workspaces are those of before");
            list_workspaces(52);
        } else {
            list_workspaces(18);
            assert!(!log.0.lock().contains(&"synced".to_owned()), "the pods are those of before");
            list_pods();
        }
        // Also where the restored cluster gave the version that was known to another state.
        let expected = if pods_first { ["a@52", "synced"] } else { ["a@18", "synced"] };
        assert_eq!(*log.0.lock(), expected);
    }
}

#[test]
fn a_list_that_began_before_a_restore_was_recorded_is_not_the_one_that_shows_it() {
    let (log, cache) = cache();
    for name in ["first", "second"] {
        cache.begin_workspaces();
        cache.put_workspace(workspace("a", if name == "first" { 52 } else { 18 }));
        cache.begin_pods();
        cache.expect_fall();
        log.0.lock().clear();
        cache.end_workspaces();
        cache.end_pods();
        assert_eq!(*log.0.lock(), [""; 0], "{name}: these are states of before");
        cache.begin_workspaces();
        cache.put_workspace(workspace("a", 18));
        cache.end_workspaces();
        cache.begin_pods();
        cache.end_pods();
        assert_eq!(*log.0.lock(), ["a@18", "synced"], "{name}");
    }
}
