//! Verbs of the command line about one workspace.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::story::{Story, request, run, story};

async fn says(story: &Story, args: &[&str]) -> Result<Value> {
    let output = story.cli(&[&["workspace"], args, &["-o", "json"]].concat()).await?;
    ensure!(output.code == 0, "{args:?}: {}", output.stderr);
    serde_json::from_str(&output.stdout).with_context(|| output.stdout.clone())
}

#[test]
fn snapshots_timeouts_and_ports_are_a_verb_each() -> Result<()> {
    story("verbs", 1, &["eu-1"], async |story| {
        run(&mut story.client().await?, request("ws", &[])).await?;
        let snapshot = says(story, &["snapshot", "ws", "--wait"]).await?;
        ensure!(snapshot["url"].as_str().is_some_and(|url| !url.is_empty()), "{snapshot}");
        ensure!(snapshot["complete"] == true, "{snapshot}");
        let at_once = says(story, &["snapshot", "ws"]).await?;
        ensure!(at_once["complete"] == false && at_once["url"] != snapshot["url"], "{at_once}");
        says(story, &["timeout", "ws", "--after", "3h", "--closed", "10m"]).await?;
        says(story, &["port", "expose", "ws", "8080", "--visibility", "public"]).await?;
        says(story, &["port", "expose", "ws", "9090"]).await?;
        says(story, &["port", "unexpose", "ws", "9090"]).await?;
        let spec = story.resources("eu-1")?.get("ws").await?.spec;
        let timeout = spec.timeout.context("no timeout")?;
        let set = (timeout.time.as_deref(), timeout.closed.as_deref());
        ensure!(set == (Some("3h0m0s"), Some("10m0s")), "{timeout:?}");
        let ports: Vec<i32> = spec.ports.iter().map(|port| port.port).collect();
        ensure!(
            ports == [8080] && format!("{:?}", spec.ports[0].visibility) == "Everyone",
            "{:?}",
            spec.ports
        );
        for args in [vec!["snapshot", "none"], vec!["timeout", "none", "--after", "1h"]] {
            let output = story.cli(&[&["workspace"], args.as_slice()].concat()).await?;
            ensure!(output.code == 1 && output.stderr.contains("NOT_FOUND"), "{}", output.stderr);
            ensure!(output.stderr.contains("none"), "{}", output.stderr);
        }
        Ok(())
    })
}
