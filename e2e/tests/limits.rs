//! Rate limits.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use spaceport::proto::wsman::DescribeWorkspaceRequest;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::spaceport::get;
use crate::story::{refused, story};

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
