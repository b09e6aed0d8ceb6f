use serde_json::json;

use super::*;

fn pod(owner: &serde_json::Value) -> SeenPod {
    serde_json::from_value(json!({
        "metadata": {"name": "ws-a", "uid": "p", "resourceVersion": "5", "ownerReferences": [owner],
            "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["gitpod.io/finalizer"]},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Pending", "podIP": "",
            "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"},
                {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "m"}],
            "containerStatuses": [
                {"name": "workspace", "ready": false, "image": "", "imageID": "", "restartCount": 0,
                 "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}},
                 "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}},
                {"name": "side", "ready": true, "image": "", "imageID": "", "restartCount": 0, "state": {}}]}
    }))
    .unwrap()
}

#[test]
fn a_pod_is_one_of_ours_by_its_controlling_owner_alone() {
    let owner = |group: &str, kind: &str, controller: bool| json!({"apiVersion": format!("{group}/v1"), "kind": kind, "name": "a", "uid": "w", "controller": controller});
    assert!(pod_facts(&pod(&owner("workspace.gitpod.io", "Workspace", true))).is_some());
    assert!(pod_facts(&pod(&owner("workspace.gitpod.io", "Workspace", false))).is_none());
    assert!(pod_facts(&pod(&owner("workspace.gitpod.io", "Snapshot", true))).is_none());
    assert!(pod_facts(&pod(&owner("example.org", "Workspace", true))).is_none());
}

#[test]
fn a_pods_facts_are_what_its_object_says() {
    let owner = json!({"apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace", "name": "a", "uid": "w",
        "controller": true});
    let facts = pod_facts(&pod(&owner)).unwrap();
    assert_eq!((facts.workspace.as_str(), facts.workspace_uid.as_str()), ("a", "w"));
    assert_eq!(facts.phase, PodPhase::Pending);
    assert_eq!(facts.pod_ip, None);
    assert!(facts.has_finalizer && facts.deleting_since.is_some());
    assert_eq!(facts.unschedulable.as_deref(), Some("0/3 nodes"));
    assert_eq!(facts.disruption, Some(("EvictionByEvictionAPI".to_owned(), "m".to_owned())));
    let [workspace, side] = facts.containers.as_slice() else { panic!("two containers") };
    let waiting =
        ContainerState::Waiting { reason: "ErrImagePull".to_owned(), message: "no such image".to_owned() };
    assert_eq!(workspace.state, waiting);
    assert_eq!(workspace.last_termination.as_ref().unwrap().exit_code, 137);
    assert_eq!(side.state, ContainerState::Waiting { reason: String::new(), message: String::new() });
}

#[test]
fn containers_of_other_kinds_are_not_taken_for_the_pods_own() {
    let status = |name: &str, state: serde_json::Value| json!({"name": name, "ready": true, "image": "", "imageID": "", "restartCount": 0, "state": state});
    let (runs, ended) = (json!({"running": {}}), json!({"terminated": {"exitCode": 0}}));
    let facts = |containers: serde_json::Value, init: &serde_json::Value, ephemeral: &serde_json::Value| {
        let owner = json!({"apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace", "name": "a", "uid": "w",
            "controller": true});
        let pod = json!({
            "metadata": {"name": "ws-a", "ownerReferences": [owner], "finalizers": ["gitpod.io/finalizer", "a.b/c"]},
            "spec": {"containers": [{}, {}], "initContainers": [{"restartPolicy": "Always"}]},
            "status": {"containerStatuses": containers, "initContainerStatuses": [status("proxy", init.clone())],
                "ephemeralContainerStatuses": [status("debugger", ephemeral.clone())]}});
        pod_facts(&serde_json::from_value(pod).unwrap()).unwrap()
    };
    let both = json!([status("workspace", ended.clone()), status("mesh", ended.clone())]);
    let all = facts(both.clone(), &ended, &ended);
    assert_eq!(all.containers.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["workspace", "mesh"]);
    assert_eq!(all.init_containers.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["proxy"]);
    assert_eq!((all.has_finalizer, all.held_by), (true, vec!["a.b/c".to_owned()]));
    assert!(all.all_terminated);
    let never_ran = json!({"waiting": {"reason": "PodInitializing"}});
    assert!(facts(both.clone(), &never_ran, &ended).all_terminated);
    assert!(!facts(both.clone(), &runs, &ended).all_terminated);
    assert!(!facts(both, &ended, &runs).all_terminated);
    assert!(
        !facts(json!([status("workspace", ended.clone())]), &ended, &ended).all_terminated,
        "one has no status"
    );
    let refused = |phase: &str| {
        let owner = json!({"apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace", "name": "a", "uid": "w",
            "controller": true});
        let mut pod = pod(&owner);
        pod.status.as_mut().unwrap().phase = Some(phase.to_owned());
        pod.status.as_mut().unwrap().container_statuses = None;
        pod_facts(&pod).unwrap().all_terminated
    };
    assert!(refused("Failed") && !refused("Pending") && !refused("Running"));
    let one_runs = json!([status("workspace", ended.clone()), status("mesh", runs)]);
    assert!(!facts(one_runs, &ended, &ended).all_terminated);
}

#[test]
fn a_nodes_facts_are_its_taints_and_readiness() {
    let node = |spec: serde_json::Value, ready: &str| {
        let node = json!({"metadata": {"name": "n1"}, "spec": spec,
            "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        node_facts(&serde_json::from_value(node).unwrap())
    };
    assert_eq!(
        node(json!({}), "True"),
        NodeFacts { name: "n1".into(), tainted: false, ready: true, unreachable: false, workload: None }
    );
    assert!(!node(json!({}), "False").unreachable, "its kubelet says so itself");
    let unreachable = json!({"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]});
    assert!(node(unreachable, "False").unreachable);
    let tainted = json!({"taints": [{"key": "a", "effect": "NoSchedule"}]});
    assert_eq!(
        node(tainted, "Unknown"),
        NodeFacts { name: "n1".into(), tainted: true, ready: false, unreachable: true, workload: None }
    );
}

#[test]
fn a_pod_names_its_containers_where_none_is_the_workspaces() {
    let others = |containers: serde_json::Value| {
        let owner = json!({"apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace", "name": "a", "uid": "w",
            "controller": true});
        let pod = json!({"metadata": {"name": "ws-a", "ownerReferences": [owner]}, "spec": {"containers": containers}});
        pod_facts(&serde_json::from_value(pod).unwrap()).unwrap().only_others
    };
    assert_eq!(others(json!([{"name": "main"}, {"name": "mesh"}])), ["main", "mesh"]);
    assert!(others(json!([{"name": "mesh"}, {"name": "workspace"}])).is_empty());
    assert!(others(json!([])).is_empty());
}
