//! `spaceport status`: the whole installation on one page.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::story::{request, run, story};

#[test]
fn the_page_has_the_leader_the_clusters_what_is_left_and_drains() -> Result<()> {
    story("status", 2, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &["europe"])).await?;
        let output = story.cli(&["cluster", "drain", "eu-1"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let output = story.cli(&["status", "-o", "json"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let page: Value = serde_json::from_str(&output.stdout)?;
        ensure!(page["leader"] == story.leader().await?.as_str(), "{page}");
        ensure!(page["replicas"].as_array().is_some_and(|replicas| replicas.len() == 2), "{page}");
        ensure!(page["phases"]["RUNNING"] == 1, "{page}");
        let clusters = page["clusters"].as_array().context("no clusters")?;
        ensure!(clusters.len() == 2 && clusters[0]["name"] == "eu-1", "{page}");
        ensure!(
            clusters[0]["phases"]["RUNNING"] == 1 && clusters[0]["drain"]["state"] == "DRAINING",
            "{page}"
        );
        ensure!(clusters[1]["drain"].is_null(), "{page}");
        let capacity = &clusters[1]["capacityLeft"];
        ensure!(capacity["known"] == true && capacity["usableNodes"] == 3, "{capacity}");
        ensure!(capacity["rooms"]["g1-standard"].as_u64().is_some_and(|left| left > 0), "{capacity}");
        let output = story.cli(&["status"]).await?;
        ensure!(
            output.stdout.contains("DRAIN OF") && output.stdout.contains("AVAILABLE"),
            "{}",
            output.stdout
        );
        Ok(())
    })
}
