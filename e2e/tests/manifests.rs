//! A real apiserver accepts the manifests of the repository.

use anyhow::{Context as _, Result, ensure};
use k8s::resources::{Snapshot, SnapshotSpec, Workspace};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::story::{smallest_spec, story};
use e2e::harness::assets::source_dir;

#[test]
fn an_apiserver_takes_the_manifests_of_the_manager_and_of_members() -> Result<()> {
    story("manifests", 0, &[], async |story| {
        let cluster = story.cluster("ap-1")?;
        let root = source_dir().join("..");
        for file in ["clusters/member/networkpolicy.yaml", "deploy/manager.yaml", "deploy/host.yaml"] {
            cluster.apply_file(&root.join(file)).await?;
        }
        Ok(())
    })
}

#[test]
fn an_apiserver_refuses_workspaces_that_the_definition_forbids() -> Result<()> {
    story("definition", 0, &[], async |story| {
        let resources = story.resources("ap-1")?;
        for (what, change) in [
            ("a port of 0", json!({ "ports": [{ "port": 0 }] })),
            ("a port twice", json!({ "ports": [{ "port": 80 }, { "port": 80 }] })),
            ("an empty owner", json!({ "ownership": { "owner": "", "workspaceID": "meta" } })),
            ("a timeout without unit", json!({ "timeout": { "time": "30" } })),
            ("an unknown type", json!({ "type": "Surprise" })),
            (
                "an owner that is no label value",
                json!({ "ownership": { "owner": "a b", "workspaceID": "meta" } }),
            ),
            (
                "a meta id that is no host name",
                json!({ "ownership": { "owner": "joe", "workspaceID": "A.b" } }),
            ),
        ] {
            let mut spec = smallest_spec("meta");
            for (key, value) in change.as_object().into_iter().flatten() {
                spec[key] = value.clone();
            }
            let object = json!({ "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace",
                "metadata": { "name": "bad" }, "spec": spec });
            let dynamic = kube::Api::<kube::api::DynamicObject>::namespaced_with(
                story.cluster("ap-1")?.client(),
                &story.namespace,
                &kube::api::ApiResource::erase::<Workspace>(&()),
            );
            let outcome = dynamic.create(&PostParams::default(), &serde_json::from_value(object)?).await;
            ensure!(outcome.is_err(), "{what} was accepted");
        }
        ensure!(resources.list(&ListParams::default()).await?.items.is_empty(), "something was made");
        Ok(())
    })
}

#[test]
fn an_apiserver_refuses_changes_that_no_call_can_make() -> Result<()> {
    story("unchangeable", 0, &[], async |story| {
        let spec = smallest_spec("meta");
        let object = json!({ "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace",
            "metadata": { "name": "ws" }, "spec": spec });
        let workspaces = story.resources("ap-1")?;
        let params = PatchParams::default();
        workspaces.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        for (change, rule) in [
            (json!({ "type": "Prebuild" }), "type cannot be changed"),
            (json!({ "class": "d" }), "class cannot be changed"),
            (json!({ "image": { "workspace": { "ref": "other" } } }), "image cannot be changed"),
            (json!({ "image": { "workspace": { "ref": null } } }), "image cannot be changed"),
            (json!({ "image": { "ide": { "refs": ["layer"] } } }), "image cannot be changed"),
            (json!({ "image": { "ide": { "supervisor": "other" } } }), "image cannot be changed"),
            (json!({ "initializer": "CgE=" }), "initializer cannot be changed"),
            (json!({ "workspaceLocation": "x" }), "workspaceLocation cannot be changed"),
            (json!({ "ownership": { "owner": "jane" } }), "ownership cannot be changed"),
        ] {
            let patch = json!({ "spec": change });
            let outcome = workspaces.patch("ws", &params, &Patch::Merge(&patch)).await;
            let refusal = outcome.err().with_context(|| format!("{change} was accepted"))?.to_string();
            ensure!(refusal.contains(rule), "{refusal}");
        }
        let allowed = json!({ "spec": { "ports": [{ "port": 80 }], "admission": { "level": "Everyone" },
            "timeout": { "time": "1h" }, "sshPublicKeys": ["ssh-rsa A"] } });
        workspaces.patch("ws", &params, &Patch::Merge(&allowed)).await.context("what calls may change")?;
        workspaces.delete("ws", &DeleteParams::default()).await?;

        let snapshots: Api<Snapshot> = Api::namespaced(story.cluster("ap-1")?.client(), &story.namespace);
        let spec = SnapshotSpec { node_name: "node".into(), workspace_id: "ws".into() };
        snapshots.create(&PostParams::default(), &Snapshot::new("s", spec)).await?;
        let patch = json!({ "spec": { "nodeName": "other" } });
        let outcome = snapshots.patch("s", &params, &Patch::Merge(&patch)).await;
        ensure!(
            outcome.is_err_and(|error| error.to_string().contains("cannot be changed")),
            "it was changed"
        );
        snapshots
            .create(&PostParams::default(), &Snapshot::new("e", SnapshotSpec::default()))
            .await
            .err()
            .context("an empty snapshot was accepted")?;
        Ok(())
    })
}
