//! Pods in protobuf and in JSON.

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use k8s::protobuf;
use k8s::resources::SeenPod;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::story::story;

/// A pod with all fields that are read, and some that are not.
fn pod(owner: &ObjectMeta) -> serde_json::Value {
    let asks = json!({"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}});
    json!({
        "metadata": {
            "name": "full", "labels": {"app": "full"}, "annotations": {"note": "\"quoted\"\n"},
            "finalizers": ["example.com/held"],
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": owner.name, "uid": owner.uid, "controller": true}]
        },
        "spec": {
            // No scheduler binds it, and no kubelet changes it.
            "schedulerName": "nobody", "automountServiceAccountToken": false,
            "volumes": [{"name": "empty", "emptyDir": {}}],
            "resources": {"requests": {"cpu": "2", "memory": "4Gi"}},
            "initContainers": [
                {"name": "sidecar", "image": "i", "restartPolicy": "Always", "resources": asks},
                {"name": "init", "image": "i"}],
            "containers": [{"name": "main", "image": "i", "env": [{"name": "A", "value": "b"}], "resources": asks}]
        }
    })
}

fn status() -> serde_json::Value {
    json!({"status": {
        "phase": "Running", "reason": "Odd", "message": "it is odd", "podIP": "10.0.0.1", "hostIP": "10.0.0.2",
        "podIPs": [{"ip": "10.0.0.1"}], "hostIPs": [{"ip": "10.0.0.2"}],
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"},
            {"type": "DisruptionTarget", "status": "True"}],
        "containerStatuses": [
            {"name": "main", "ready": true, "restartCount": 3, "image": "i", "imageID": "",
                "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": -1, "reason": "Error", "message": "it crashed"}}},
            {"name": "second", "ready": false, "restartCount": 0, "image": "i", "imageID": "",
                "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}],
        "initContainerStatuses": [
            {"name": "init", "ready": false, "restartCount": 0, "image": "i", "imageID": "",
                "state": {"terminated": {"exitCode": 1, "reason": "Error", "message": "it failed"}}}],
        "ephemeralContainerStatuses": [
            {"name": "debugger", "ready": false, "restartCount": 0, "image": "i", "imageID": "",
                "state": {"running": {}}}]
    }})
}

/// Without fields that are not compared.
fn bare(mut pod: SeenPod) -> SeenPod {
    pod.metadata.managed_fields = None;
    pod.metadata.generation = None;
    pod
}

#[test]
fn a_pod_in_protobuf_is_the_pod_in_json_listed_watched_and_deleted() -> Result<()> {
    story("protobuf", 1, &["eu-1"], async |story| {
        let client = story.cluster("eu-1")?.client();
        let json: Api<SeenPod> = Api::namespaced(client.clone(), &story.namespace);
        let protobuf: Api<SeenPod> = Api::namespaced(protobuf::of_pods(client.clone()), &story.namespace);
        let pods: Api<Pod> = Api::namespaced(client.clone(), &story.namespace);
        let owners: Api<ConfigMap> = Api::namespaced(client, &story.namespace);
        let owner = serde_json::from_value(json!({"metadata": {"name": "owner"}}))?;
        let owner = owners.create(&PostParams::default(), &owner).await?.metadata;
        pods.create(&PostParams::default(), &serde_json::from_value(pod(&owner))?).await?;
        pods.patch_status("full", &PatchParams::default(), &Patch::Merge(status())).await?;
        pods.delete("full", &kube::api::DeleteParams::default()).await?;

        let expected = bare(json.get("full").await?);
        ensure!(expected.metadata.deletion_timestamp.is_some(), "its finalizer keeps it");
        let read = bare(protobuf.get("full").await?);
        ensure!(read == expected, "read: {read:?}\nexpected: {expected:?}");
        let list = protobuf.list(&ListParams::default()).await?;
        let listed = list.items.into_iter().next().map(bare);
        ensure!(listed.as_ref() == Some(&expected), "listed: {listed:?}\nexpected: {expected:?}");

        // All events from before its creation until its removal.
        let params = WatchParams::default().timeout(60).disable_bookmarks();
        let mut events = std::pin::pin!(protobuf.watch(&params, "0").await?);
        let first = events.try_next().await?.context("the watch ended")?;
        let WatchEvent::Added(first) = first else { anyhow::bail!("{first:?}") };
        ensure!(bare(first.clone()) == expected, "watched: {first:?}\nexpected: {expected:?}");
        let free = json!({"metadata": {"finalizers": null}});
        pods.patch("full", &PatchParams::default(), &Patch::Merge(free)).await?;
        loop {
            match events.try_next().await?.context("the watch ended")? {
                WatchEvent::Deleted(gone) => {
                    break ensure!(gone.metadata.uid == expected.metadata.uid, "{gone:?}");
                }
                WatchEvent::Modified(_) => {}
                other => anyhow::bail!("{other:?}"),
            }
        }
        let refused = protobuf.get("full").await;
        ensure!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 404), "{refused:?}");
        Ok(())
    })
}
