use k8s_openapi::api::core::v1::PodSpec;
use serde_json::json;

use super::*;

fn spec(value: serde_json::Value) -> PodSpec {
    serde_json::from_value(value).unwrap()
}

#[test]
fn requests_are_counted_as_the_scheduler_does() {
    let requests = |cpu: &str, memory: &str| json!({ "requests": { "cpu": cpu, "memory": memory } });
    let pod = json!({
        "containers": [
            { "name": "a", "resources": requests("500m", "1Gi") },
            { "name": "b", "resources": { "limits": { "cpu": "1" } } },
        ],
        "initContainers": [
            { "name": "sidecar", "restartPolicy": "Always", "resources": requests("100m", "0") },
            { "name": "init", "resources": requests("3", "0") },
        ],
        "overhead": { "cpu": "10m" },
    });
    // The init container beside the sidecar is the peak; a limit without a request is a request.
    let expected = Resources { cpu: 3110, memory: 1 << 30, storage: 0, pods: 1 };
    let seen: SeenPodSpec = serde_json::from_value(pod.clone()).unwrap();
    assert_eq!(pod_requests(&seen), expected);
    assert_eq!(pod_requests(&(&spec(pod)).into()), expected, "as of a template");
}

#[test]
fn a_node_is_read_with_the_taints_that_keep_pods_away() {
    let listed: K8sNode = serde_json::from_value(json!({
        "metadata": { "name": "n", "labels": { "a": "b" } },
        "spec": { "unschedulable": true, "taints": [
            { "key": "x", "effect": "NoSchedule" }, { "key": "y", "effect": "PreferNoSchedule" } ] },
        "status": { "allocatable": { "cpu": "3900m", "memory": "2Ki", "pods": "110" },
            "conditions": [{ "type": "Ready", "status": "True" }] },
    }))
    .unwrap();
    let read = node(&listed);
    assert!(read.ready && read.cordoned && read.taints.len() == 1 && read.labels["a"] == "b");
    assert_eq!(read.allocatable, Resources { cpu: 3900, memory: 2048, storage: 0, pods: 110 });
}
