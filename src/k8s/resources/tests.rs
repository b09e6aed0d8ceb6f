use anyhow::Result;
use serde_json::{Value, json};

use super::*;
use domain::workspace::Kind;

#[test]
fn a_minimal_workspace_parses() -> Result<()> {
    let workspace: Workspace = serde_json::from_value(minimal())?;
    assert_eq!(workspace.spec.type_, Kind::Regular);
    assert_eq!(workspace.status, None);
    let status: WorkspaceStatus = serde_json::from_value(json!({ "podStarts": 0 }))?;
    assert_eq!(status, WorkspaceStatus::default());
    Ok(())
}

#[test]
fn a_minimal_workspace_serialises_without_empty_fields() -> Result<()> {
    let workspace: Workspace = serde_json::from_value(minimal())?;
    assert_eq!(serde_json::to_value(workspace)?, minimal());
    Ok(())
}

#[test]
fn a_workspace_with_every_field_comes_back_unchanged() -> Result<()> {
    let workspace: Workspace = serde_json::from_value(full())?;
    assert_eq!(serde_json::to_value(workspace)?, full());
    Ok(())
}

#[test]
fn the_full_example_has_every_field_of_the_schema() -> Result<()> {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == "Workspace");
    let crd = serde_json::to_value(crd)?;
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut missing = Vec::new();
    compare("", schema, &full(), &mut missing);
    assert_eq!(missing, Vec::<String>::new());
    Ok(())
}

/// Lists the fields of a schema that a value has not got.
fn compare(path: &str, schema: &Value, value: &Value, missing: &mut Vec<String>) {
    let value = if schema["type"] == "array" { &value[0] } else { value };
    let schema = if schema["type"] == "array" { &schema["items"] } else { schema };
    // Kubernetes' own types are not ours to show in full.
    if path.ends_with(".valueFrom") || path == ".metadata" {
        return;
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if value[name].is_null() {
            missing.push(path);
        } else {
            compare(&path, field, &value[name], missing);
        }
    }
}

#[test]
fn a_snapshot_comes_back_unchanged() -> Result<()> {
    let text = json!({
        "apiVersion": "workspace.gitpod.io/v1",
        "kind": "Snapshot",
        "metadata": { "name": "ws-1-1700000000", "namespace": "workspaces" },
        "spec": { "nodeName": "node-1", "workspaceID": "ws-1" },
        "status": { "completed": true, "error": "no space", "url": "workspaces/u/ws-1/snapshot-1.tar@bucket" },
    });
    let snapshot: Snapshot = serde_json::from_value(text.clone())?;
    assert_eq!(serde_json::to_value(snapshot)?, text);
    Ok(())
}

#[test]
fn debug_shows_no_secret() -> Result<()> {
    let workspace: Workspace = serde_json::from_value(full())?;
    let shown = format!("{workspace:?}");
    for secret in ["hunter2", "s3cr3t", "t0ken"] {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
    assert!(shown.contains("Initializer(4 bytes)"));
    Ok(())
}

#[test]
fn a_cached_workspace_is_small() {
    // 10,000 are kept; what is rarely filled must stay behind a box.
    assert!(size_of::<WorkspaceSpec>() <= 512, "{}", size_of::<WorkspaceSpec>());
    assert!(size_of::<WorkspaceStatus>() <= 256, "{}", size_of::<WorkspaceStatus>());
    assert!(size_of::<EnvVar>() <= 56, "{}", size_of::<EnvVar>());
}

fn minimal() -> Value {
    json!({
        "apiVersion": "workspace.gitpod.io/v1",
        "kind": "Workspace",
        "metadata": { "name": "ws-1", "namespace": "workspaces" },
        "spec": {
            "admission": { "level": "Owner" },
            "class": "g1-standard",
            "image": { "ide": { "supervisor": "", "web": "" }, "workspace": {} },
            "initializer": "CgA=",
            "ownership": { "owner": "u", "workspaceID": "meta" },
            "ports": [],
            "type": "Regular",
            "workspaceLocation": "",
        },
    })
}

fn full() -> Value {
    let metric = json!({ "duration": "1m2.5s", "size": 4096 });
    json!({
        "apiVersion": "workspace.gitpod.io/v1",
        "kind": "Workspace",
        "metadata": {
            "name": "f2e3c1b4-6c7a-4b52-9c3b-1de1c7c4b6a1",
            "namespace": "workspaces",
            "uid": "0b0c3f9e-6f0d-4a55-9d6e-6a1d3f2c9a10",
            "resourceVersion": "4711",
            "generation": 3,
            "creationTimestamp": "2024-05-01T10:00:00Z",
            "finalizers": ["gitpod.io/finalizer"],
            "labels": { "workspaceID": "meta", "owner": "u", "gitpod.io/managed-by": "spaceport" },
            "annotations": { "gitpod.io/cpuMinLimit": "1", "spaceport.dev/generation": "1" },
        },
        "spec": {
            "admission": { "level": "Everyone" },
            "class": "g1-standard",
            "git": { "email": "u@example.com", "username": "u" },
            "image": {
                "ide": { "refs": ["reg/ide-layer:1"], "supervisor": "reg/supervisor:1", "web": "reg/ide:1" },
                "workspace": { "ref": "docker.io/library/alpine@sha256:00" },
            },
            "initializer": "CgJhYg==",
            "ownership": { "owner": "u", "team": "team", "tenant": "tenant", "workspaceID": "meta" },
            "ports": [
                { "port": 3000, "protocol": "Https", "visibility": "Everyone" },
                { "port": 8080, "protocol": "Http", "visibility": "Owner" },
            ],
            "sshGatewayCAPublicKey": "ssh-ed25519 AAAA ca",
            "sshPublicKeys": ["ssh-ed25519 AAAA u"],
            "storageQuota": 32_212_254_720_i64,
            "sysEnvVars": [{ "name": "PLAIN", "value": "s3cr3t", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }],
            "timeout": { "closed": "0", "maximumLifetime": "36h0m0s", "time": "30m0s" },
            "type": "Prebuild",
            "userEnvVars": [
                { "name": "A", "value": "hunter2", "valueFrom": { "secretKeyRef": { "key": "k", "name": "ws-env" } } },
                { "name": "B", "value": "" },
            ],
            "workspaceLocation": "repo",
        },
        "status": {
            "conditions": [{
                "lastTransitionTime": "2024-05-01T10:00:03Z",
                "message": "",
                "observedGeneration": 3,
                "reason": "Unknown",
                "status": "True",
                "type": "Deployed",
            }],
            "git": {
                "branch": "main",
                "latestCommit": "deadbeef",
                "totalUncommitedFiles": 1,
                "totalUnpushedCommits": 2,
                "totalUntrackedFiles": 3,
                "uncommitedFiles": ["a"],
                "unpushedCommits": ["b"],
                "untrackedFiles": ["c"],
            },
            "imageInfo": { "totalSize": 100, "workspaceImageRef": "alpine", "workspaceImageSize": 50 },
            "initializerMetrics": {
                "backup": metric, "composite": metric, "fileDownload": metric,
                "git": metric, "prebuild": metric, "snapshot": metric,
            },
            "lastActivity": "2024-05-01T10:05:00Z",
            "ownerToken": "t0ken",
            "phase": "Running",
            "podDeletionTime": "2024-05-01T11:00:00Z",
            "podRecreated": 1,
            "podStarts": 2,
            "podStoppingTime": "2024-05-01T11:00:01Z",
            "runtime": { "hostIP": "10.0.0.1", "nodeName": "node-1", "podIP": "10.1.0.1", "podName": "ws-f2e3" },
            "snapshot": "workspaces/u/meta/snapshot-1.tar@bucket",
            "storage": { "attachedDevice": "", "mountPath": "", "volumeName": "" },
            "url": "https://meta.ws.example.com",
        },
    })
}
