//! Workspaces of a registered cluster while a manager has no connection to it, and after it reconnects.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use proto::wsman::WorkspacePhase;
use serde_json::{Value, json};

use crate::story::{Story, describe, follow, is, request, resource_gone, run, story, until, watch};

/// A cluster's registration in etcd.
struct Registered {
    etcd: etcd_client::Client,
    key: String,
    value: Value,
}

impl Registered {
    async fn read(story: &Story, cluster: &str) -> Result<Self> {
        let mut etcd = story.fleet.etcd().connect().await?;
        let key = format!("/spaceport/{}/clusters/{cluster}/spec", story.namespace);
        let found = etcd.get(key.as_str(), None).await?;
        let value = serde_json::from_slice(found.kvs().first().context("no registration")?.value())?;
        Ok(Self { etcd, key, value })
    }

    /// Overwrites it with a kubeconfig that no key decrypts.
    async fn break_down(&mut self) -> Result<()> {
        let mut broken = self.value.clone();
        ensure!(broken["kubeconfig"].is_object(), "{broken}");
        broken["kubeconfig"]["ciphertext"] = json!("YnJva2Vu");
        Ok(self.etcd.put(self.key.as_str(), broken.to_string(), None).await.map(drop)?)
    }

    async fn mend(&mut self) -> Result<()> {
        Ok(self.etcd.put(self.key.as_str(), self.value.to_string(), None).await.map(drop)?)
    }
}

/// Deletes a workspace and its pod as kubectl can, with finalizers removed.
async fn delete_by_hand(story: &Story, id: &str) -> Result<()> {
    let bare = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    let (resources, pod) = (story.resources("eu-1")?, format!("ws-{id}"));
    let pods: Api<Pod> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
    resources.delete(id, &DeleteParams::default()).await?;
    resources.patch(id, &PatchParams::default(), &bare).await?;
    pods.patch(&pod, &PatchParams::default(), &bare).await?;
    pods.delete(&pod, &DeleteParams::default().grace_period(0)).await?;
    resource_gone(&resources, id).await
}

#[test]
fn a_workspace_that_ended_while_its_registration_was_broken_is_reported_as_stopped() -> Result<()> {
    story("reconnect", 2, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        for id in ["ends", "stays"] {
            run(&mut client, request(id, &[])).await?;
        }
        let mut streams = Vec::new();
        for replica in &story.replicas {
            let mut client = story.installation.workspaces(replica).await?;
            let (mut ends, mut stays) =
                (watch(&mut client, "ends").await?, watch(&mut client, "stays").await?);
            follow(&mut ends, is(WorkspacePhase::Running)).await?;
            follow(&mut stays, is(WorkspacePhase::Running)).await?;
            streams.push((client, ends, stays));
        }
        let mut registered = Registered::read(story, "eu-1").await?;
        registered.break_down().await?;
        for (_, ends, stays) in &mut streams {
            for stream in [ends, stays] {
                let seen = follow(stream, |status| !status.reachable).await?;
                let last = seen.last().context("nothing")?;
                ensure!(last.phase() == WorkspacePhase::Running, "unreachable is not stopped: {last:?}");
            }
        }
        delete_by_hand(story, "ends").await?;
        let unseen = describe(&mut client, "ends").await?.context("it is gone")?;
        ensure!(unseen.phase() == WorkspacePhase::Running && !unseen.reachable, "{unseen:?}");

        registered.mend().await?;
        for (client, ends, stays) in &mut streams {
            let seen = follow(ends, is(WorkspacePhase::Stopped)).await?;
            let message = &seen.last().context("nothing")?.message;
            ensure!(message.contains("no connection to cluster eu-1"), "{message}");
            follow(stays, |status| status.reachable).await?;
            ensure!(describe(client, "ends").await?.is_none(), "it is still shown");
        }
        story.available("eu-1").await?;
        // Its ids are free again, because its record has ended.
        until("the meta id to be free", async || {
            let mut again = request("again", &[]);
            again.service_prefix = "meta-ends".to_owned();
            if let Some(metadata) = &mut again.metadata {
                metadata.meta_id = "meta-ends".to_owned();
            }
            Ok(client.start_workspace(again).await.map(drop)?)
        })
        .await
    })
}
