//! Rate limits.

use anyhow::{Context as _, Result, ensure};
use proto::wsman::DescribeWorkspaceRequest;
use serde_json::json;
use tokio::time::timeout;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::story::{SOON, refused, request, start, story, until};
use e2e::harness::spaceport::get;

#[test]
fn calls_beyond_a_limit_are_refused_each_key_apart() -> Result<()> {
    story("limits", 0, &[], async |story| {
        let limit = json!({ "bucketSize": 1, "refillInterval": "1h", "key": "id", "keyCacheSize": 10 });
        let limits = json!({ "/wsman.WorkspaceManager/DescribeWorkspace": limit });
        story.installation.overrides = json!({ "rpcServer": { "ratelimits": limits } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let mut client = story.client().await?;
        let describe = |id: &str| DescribeWorkspaceRequest { id: id.to_owned() };
        refused(client.describe_workspace(describe("one")).await, Code::NotFound)?;
        let status = refused(client.describe_workspace(describe("one")).await, Code::ResourceExhausted)?;
        ensure!(status.message() == "too many requests", "{}", status.message());
        let retry = status.get_details_retry_info().context("no details")?.retry_delay;
        ensure!(retry.is_some_and(|retry| retry.as_secs() > 3000), "{retry:?}");
        refused(client.describe_workspace(describe("two")).await, Code::NotFound)?;
        let health = &story.replicas.first().context("no manager")?.health;
        let metrics = get(&format!("{health}/metrics")).await?;
        let refusals = metrics.lines().find(|line| line.starts_with("spaceport_requests_limited_total"));
        ensure!(refusals.is_some_and(|line| line.ends_with(" 1")), "{refusals:?}");
        Ok(())
    })
}

#[test]
fn starts_that_wait_for_a_limit_go_on_at_once_when_it_is_lifted_and_a_bad_change_lifts_nothing() -> Result<()>
{
    story("limits-lifted", 0, &[], async |story| {
        const START: &str = "/wsman.WorkspaceManager/StartWorkspace";
        // No call waits longer than a minute, and the third would have to.
        let limit = json!({ "block": true, "bucketSize": 1, "refillInterval": "59s" });
        story.installation.overrides = json!({ "rpcServer": { "ratelimits": { START: limit } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        story.register("eu-1").await?;
        let mut client = story.client().await?;
        start(&mut client, request("first", &[])).await?;
        let mut waiting = client.clone();
        let waiting = tokio::spawn(async move { start(&mut waiting, request("second", &[])).await });
        let health = story.replicas.first().context("no manager")?.health.clone();
        until("a start to wait", async || {
            let metrics = get(&format!("{health}/metrics")).await?;
            let waits = r#"spaceport_requests_limited_total{method="/wsman.WorkspaceManager/StartWorkspace",outcome="waited"} 1"#;
            ensure!(metrics.contains(waits), "none does");
            Ok(())
        })
        .await?;
        refused(client.start_workspace(request("third", &[])).await, Code::ResourceExhausted)?;

        let path = story.installation.dir().join("manager-0.json");
        let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        let limits = &mut config["rpcServer"]["ratelimits"];
        *limits = json!({ START: { "bucketSize": 1, "refillInterval": "1s", "key": "nothing", "keyCacheSize": 9 } });
        std::fs::write(&path, config.to_string())?;
        until("the bad file to be shown", async || {
            let ready = get(&format!("{health}/readyz")).await?;
            ensure!(ready.contains("keeping the previous one"), "{ready}");
            Ok(())
        })
        .await?;
        refused(client.start_workspace(request("third", &[])).await, Code::ResourceExhausted)?;
        ensure!(!waiting.is_finished(), "the second start waits no more");

        config["rpcServer"]["ratelimits"] = json!({});
        std::fs::write(&path, config.to_string())?;
        until("the third start to be taken", async || {
            start(&mut client, request("third", &[])).await.map(drop)
        })
        .await?;
        // It was far from its turn under the old limit; SOON is shorter.
        timeout(SOON, waiting).await.context("the second start waits still")???;
        Ok(())
    })
}
