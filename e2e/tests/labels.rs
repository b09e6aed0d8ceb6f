//! Labels of a Workspace that somebody removes.

use anyhow::{Context as _, Result, ensure};
use kube::api::{Patch, PatchParams};
use proto::wsman::{SetTimeoutRequest, StopWorkspaceRequest, WorkspacePhase};
use serde_json::{Value, json};
use tonic::Code;

use crate::adopt::{not_done, reported, standing};
use crate::story::{Story, follow, is, refused, request, run, stop, story, until, watch};

const LABELS: [(&str, &str); 3] =
    [("gitpod.io/managed-by", "spaceport"), ("workspaceID", "meta-ws"), ("owner", "jane")];

async fn patch(story: &Story, id: &str, metadata: Value) -> Result<()> {
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    story.resources("eu-1")?.patch(id, &PatchParams::default(), &patch).await?;
    Ok(())
}

#[test]
fn labels_that_are_taken_off_are_put_back_and_the_workspace_stops_when_asked() -> Result<()> {
    story("labels", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        for lost in [json!(null), json!({ "gitpod.io/managed-by": null }), json!({ "workspaceID": null })] {
            patch(story, "ws", json!({ "labels": lost })).await?;
            ensure!(standing(story, "eu-1", "ws").await? == "ADOPTED", "it is not owned");
            until("the labels to be back", async || {
                let labels = story.resources("eu-1")?.get("ws").await?.metadata.labels.unwrap_or_default();
                let has = |(key, value): &(&str, &str)| labels.get(*key).is_some_and(|is| is == value);
                ensure!(LABELS.iter().all(has), "{labels:?}");
                Ok(())
            })
            .await?;
        }
        let output = story.cli(&["cluster", "adopt", "eu-1", "--others"]).await?;
        ensure!(output.code == 0 && output.stdout == "nothing to adopt\n", "{output:?}");
        let mut stream = watch(&mut client, "ws").await?;
        patch(story, "ws", json!({ "labels": null })).await?;
        stop(&mut client, "ws").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await.map(drop)
    })
}

#[test]
fn a_workspace_of_unproven_ownership_rejects_changes_with_the_reason() -> Result<()> {
    story("unproven", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        let signs = json!({ "spaceport.dev/installation": null, "spaceport.dev/spec-digest": null,
            "spaceport.dev/generation": null });
        patch(story, "ws", json!({ "labels": null, "annotations": signs })).await?;
        until("it to be seen without labels", async || {
            let timeout = SetTimeoutRequest { id: "ws".to_owned(), duration: "1h".to_owned(), r#type: 0 };
            refused(client.set_timeout(timeout).await, Code::FailedPrecondition).map(drop)
        })
        .await?;
        let stopping = StopWorkspaceRequest { id: "ws".to_owned(), policy: 0 };
        let status = refused(client.stop_workspace(stopping).await, Code::FailedPrecondition)?;
        ensure!(status.message().contains("label workspace ws gitpod.io/managed-by=spaceport"), "{status}");
        let plan = reported(story, &["adopt", "eu-1", "ws", "--others"]).await?;
        let reason = plan[0]["reason"].as_str().context("no reason")?;
        ensure!(plan[0]["outcome"] == "REFUSED" && reason.starts_with("is recorded at eu-1/"), "{plan}");
        let said = not_done(story, &["adopt", "eu-1", "ws", "--others", "--yes"]).await?;
        ensure!(said.contains(reason) && !said.contains("taken over"), "{said}");

        // As the error says.
        patch(story, "ws", json!({ "labels": { "gitpod.io/managed-by": "spaceport" } })).await?;
        let mut stream = watch(&mut client, "ws").await?;
        until("it to be stopped", async || stop(&mut client, "ws").await).await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await.map(drop)
    })
}
