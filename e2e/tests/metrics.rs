//! What `/metrics` tells of workspaces, under the names that existing dashboards read.

use anyhow::{Context as _, Result, ensure};
use spaceport::proto::wsman::{MarkActiveRequest, SetTimeoutRequest, StopWorkspaceRequest, WorkspacePhase};

use crate::harness::annotations;
use crate::harness::spaceport::get;
use crate::story::{Story, annotated, follow, is, request, run, start, stop, story, until, watch};

const P: &str = "gitpod_ws_manager_mk2";
const LABELS: &str = r#"class="g1-standard",cluster="eu-1""#;

/// Waits until the leader shows all of these lines.
async fn shows(story: &Story, lines: &[String]) -> Result<()> {
    let leader = story.leader().await?;
    let leader = story.replicas.iter().find(|replica| replica.name == leader).context("no leader")?;
    until("the metrics to be as wanted", async || {
        let metrics = get(&format!("{}/metrics", leader.health)).await?;
        let missing: Vec<_> = lines.iter().filter(|line| !metrics.lines().any(|is| is == *line)).collect();
        let ours: Vec<&str> =
            metrics.lines().filter(|line| line.starts_with("gitpod") || line.starts_with("wsman")).collect();
        ensure!(missing.is_empty(), "missing {missing:#?} in {ours:#?}");
        Ok(())
    })
    .await
}

#[test]
fn lives_of_workspaces_are_counted_once_under_the_existing_names() -> Result<()> {
    story("metrics", 2, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let running = run(&mut client, request("good", &[])).await?;
        let node = running.runtime.context("no node")?.node_name;
        client.mark_active(MarkActiveRequest { id: "good".into(), ..Default::default() }).await?;
        let longer = SetTimeoutRequest { id: "good".into(), duration: "3h".into(), ..Default::default() };
        client.set_timeout(longer).await?;
        shows(
            story,
            &[
                format!(r#"{P}_workspace_starts_total{{{LABELS},type="Regular"}} 1"#),
                format!(r#"{P}_workspace_startup_seconds_count{{{LABELS},type="Regular"}} 1"#),
                // Its pod has a node at once, so that no status ever says Pending.
                format!(r#"{P}_workspace_pending_seconds_count{{{LABELS},type="Regular"}} 1"#),
                format!(r#"{P}_workspace_restores_total{{{LABELS},type="Regular"}} 1"#),
                format!(r#"{P}_workspace_phase_total{{{LABELS},phase="Running",type="Regular"}} 1"#),
                format!(r#"{P}_workspace_activity_total{{active="true",cluster="eu-1"}} 1"#),
                format!(r#"{P}_workspace_node_utilization{{cluster="eu-1",node="{node}",resource="cpu",type="regular"}} 0.1"#),
                r#"wsman_workspace_timeout_settings_total{cluster="eu-1",timeout="3h0m0s"} 1"#.to_owned(),
                "wsman_start_workspace_count 1".to_owned(),
                format!(r#"{P}_maintenance_enabled{{cluster="eu-1"}} 0"#),
            ],
        )
        .await?;

        let mut stream = watch(&mut client, "good").await?;
        stop(&mut client, "good").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let mut stream = watch(&mut client, "bad").await?;
        start(&mut client, annotated(request("bad", &[]), annotations::INIT, "fail")).await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let unsaved = annotated(request("unsaved", &[]), annotations::BACKUP, "fail");
        run(&mut client, unsaved).await?;
        let mut stream = watch(&mut client, "unsaved").await?;
        stop(&mut client, "unsaved").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        run(&mut client, request("aborted", &[])).await?;
        let mut stream = watch(&mut client, "aborted").await?;
        client.stop_workspace(StopWorkspaceRequest { id: "aborted".into(), policy: 2 }).await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let regular = |name: &str, count: u32| format!(r#"{P}_{name}{{{LABELS},type="Regular"}} {count}"#);
        let stopped = |reason: &str, count: u32| {
            format!(r#"{P}_workspace_stops_total{{{LABELS},reason="{reason}",type="Regular"}} {count}"#)
        };
        let counted = [
            regular("workspace_starts_total", 4),
            regular("workspace_startup_seconds_count", 3),
            regular("workspace_pending_seconds_count", 4),
            regular("workspace_starts_failure_total", 1),
            regular("workspace_restores_total", 3),
            regular("workspace_restores_failure_total", 1),
            regular("workspace_backups_total", 2),
            regular("workspace_backups_failure_total", 1),
            stopped("regular-stop", 1),
            stopped("start-failure", 1),
            stopped("failed", 1),
            stopped("aborted", 1),
        ];
        shows(story, &counted).await?;
        let leader = story.leader().await?;
        let standby = story.replicas.iter().find(|replica| replica.name != leader).context("no standby")?;
        let metrics = get(&format!("{}/metrics", standby.health)).await?;
        for counted_by_the_leader in ["workspace_stops_total{", "workspace_phase_total{"] {
            ensure!(!metrics.contains(counted_by_the_leader), "the standby counts too: {metrics}");
        }
        Ok(())
    })
}
