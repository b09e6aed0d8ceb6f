//! Maintenance through the CLI.

use anyhow::{Context as _, Result, ensure};
use spaceport::proto::wsman::StopWorkspaceRequest;
use tonic::Code;

use crate::story::{refused, request, run, start, story, until};

#[test]
fn an_admin_sets_maintenance_and_ends_it_and_the_very_next_call_keeps_to_it() -> Result<()> {
    story("upkeep", 2, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("before", &["europe"])).await?;
        let output = story.cli(&["cluster", "maintenance", "on", "eu-1", "--for", "2h"]).await?;
        ensure!(output.code == 0 && output.stdout.contains("maintenance"), "{output:?}");
        until("every replica to show it", async || {
            let output = story.cli(&["cluster", "list", "-o", "json"]).await?;
            let clusters: serde_json::Value = serde_json::from_str(&output.stdout)?;
            ensure!(clusters[0]["status"]["maintenance"][&story.namespace].is_string(), "{clusters}");
            Ok(())
        })
        .await?;
        ensure!(start(&mut client, request("after", &["europe"])).await?.cluster == "us-1", "not kept away");
        let stop = StopWorkspaceRequest { id: "before".into(), policy: 0 };
        let status = refused(client.stop_workspace(stop.clone()).await, Code::FailedPrecondition)?;
        ensure!(status.message() == "under maintenance", "{}", status.message());
        let output = story.cli(&["cluster", "maintenance", "off", "eu-1"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        client.stop_workspace(stop).await.context("the stop is still refused")?;
        ensure!(
            start(&mut client, request("again", &["europe"])).await?.cluster == "eu-1",
            "still kept away"
        );
        Ok(())
    })
}

#[test]
fn maintenance_needs_an_end_to_come_and_a_namespace_that_is_there() -> Result<()> {
    story("upkeep-refused", 1, &["eu-1"], async |story| {
        let past = ["cluster", "maintenance", "on", "eu-1", "--until", "2020-01-01T00:00:00Z"];
        let output = story.cli(&past).await?;
        ensure!(output.code == 1 && output.stderr.contains("until: must be in the future"), "{output:?}");
        let elsewhere = ["cluster", "maintenance", "off", "eu-1", "--namespace", "nowhere"];
        let output = story.cli(&elsewhere).await?;
        ensure!(output.code == 1 && output.stderr.contains("nowhere is none of cluster eu-1"), "{output:?}");
        let output = story.cli(&["cluster", "maintenance", "off", "mars"]).await?;
        ensure!(output.code == 1 && output.stderr.contains("NOT_FOUND"), "{output:?}");
        Ok(())
    })
}
