//! What the repository ships for clusters is what a real apiserver takes.

use anyhow::{Result, ensure};
use kube::api::{ListParams, PostParams};
use serde_json::json;
use spaceport::cluster::resources::Workspace;

use crate::harness::assets::source_dir;
use crate::story::story;

#[test]
fn an_apiserver_takes_the_manifests_of_the_manager_and_of_members() -> Result<()> {
    story("manifests", 0, &[], async |story| {
        let cluster = story.cluster("ap-1")?;
        let root = source_dir().join("..");
        for file in ["clusters/member/networkpolicy.yaml", "deploy/manager.yaml"] {
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
        ] {
            let mut spec = json!({
                "ownership": { "owner": "joe", "workspaceID": "meta" }, "type": "Regular", "class": "c",
                "image": { "workspace": { "ref": "image" }, "ide": { "web": "", "supervisor": "" } },
                "initializer": "CgA=", "workspaceLocation": "", "admission": { "level": "Owner" }, "ports": [],
            });
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
            ensure!(outcome.is_err(), "{what} was taken");
        }
        ensure!(resources.list(&ListParams::default()).await?.items.is_empty(), "something was made");
        Ok(())
    })
}
