//! Metrics of workspaces, under the names that existing dashboards use.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use proto::wsman::{MarkActiveRequest, SetTimeoutRequest, StopWorkspaceRequest, WorkspacePhase};
use spaceport::manager::metrics::{Metric, catalogue};

use crate::story::{Story, annotated, follow, is, refused, request, run, start, stop, story, until, watch};
use e2e::harness::annotations;
use e2e::harness::spaceport::get;

const P: &str = "gitpod_ws_manager_mk2";
const LABELS: &str = r#"class="g1-standard",cluster="eu-1""#;

/// Waits until the leader exports all of these lines.
async fn shows(story: &Story, lines: &[String]) -> Result<()> {
    let leader = story.leader().await?;
    let leader = story.replicas.iter().find(|replica| replica.name == leader).context("no leader")?;
    until("the metrics to be as wanted", async || {
        let metrics = get(&format!("{}/metrics", leader.health)).await?;
        let missing: Vec<_> = lines.iter().filter(|line| !metrics.lines().any(|is| is == *line)).collect();
        let ours: Vec<&str> =
            metrics.lines().filter(|line| !line.starts_with('#') && !line.starts_with("grpc")).collect();
        ensure!(missing.is_empty(), "missing {missing:#?} in {ours:#?}");
        Ok(())
    })
    .await
}

#[test]
fn each_workspace_is_counted_once_under_the_existing_metric_names() -> Result<()> {
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
                // Its pod is scheduled at once, so no status ever has phase Pending.
                format!(r#"{P}_workspace_pending_seconds_count{{{LABELS},type="Regular"}} 1"#),
                format!(r#"{P}_workspace_restores_total{{{LABELS},type="Regular"}} 1"#),
                format!(r#"{P}_workspace_phase_total{{{LABELS},phase="Running",type="Regular"}} 1"#),
                // Exported before the first event: Prometheus sees no increase in a series that begins with 1.
                format!(r#"{P}_workspace_backups_failure_total{{{LABELS},type="Regular"}} 0"#),
                format!(r#"{P}_workspace_starts_failure_total{{{LABELS},type="Regular"}} 0"#),
                r#"spaceport_start_rejections_total{cluster="eu-1",reason="refused"} 0"#.to_owned(),
                r#"spaceport_cluster_calls_failed_total{cluster="eu-1",reason="throttled"} 0"#.to_owned(),
                r#"spaceport_etcd_requests_failed_total{kind="write",outcome="refused"} 0"#.to_owned(),
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

/// Names of the metric families in a text of `/metrics`; each must be in the catalogue.
fn reported(text: &str, known: &BTreeMap<&str, &Metric>) -> Result<BTreeSet<String>> {
    let mut families = BTreeSet::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').context("a type without a name")?;
            let metric = known.get(name).with_context(|| format!("{name} is not in the catalogue"))?;
            ensure!(metric.kind == kind, "{name} is a {kind}, and {} in the catalogue", metric.kind);
            families.insert(name.to_owned());
        } else if let Some((series, labels)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let family =
                families.iter().filter(|name| series.starts_with(name.as_str())).max_by_key(|n| n.len());
            let metric = family.and_then(|name| known.get(name.as_str())).context(series.to_owned())?;
            let labels = labels.split("=\"").filter_map(|part| part.rsplit([',', '{']).next());
            let unknown = labels.filter(|label| label.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            let mut unknown =
                unknown.filter(|label| *label != "le" && !metric.labels.iter().any(|l| l == label));
            ensure!(unknown.next().is_none(), "{line}: {:?} in the catalogue", metric.labels);
        }
    }
    Ok(families)
}

#[test]
fn scraped_metrics_match_the_catalogue_and_cover_the_alerts() -> Result<()> {
    story("metrics-all", 2, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("one", &["europe"])).await?;
        let mut nowhere = request("nowhere", &["africa"]);
        let spec = nowhere.spec.as_mut().context("no spec")?;
        spec.placement.as_mut().context("no placement")?.require_region = true;
        refused(client.start_workspace(nowhere).await, tonic::Code::FailedPrecondition)?;
        let output = story.cli(&["cluster", "drain", "eu-1"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let catalogue = catalogue()?;
        let known: BTreeMap<&str, &Metric> = catalogue.iter().map(|one| (one.name.as_str(), one)).collect();
        let missing = |families: &BTreeSet<String>| -> Vec<String> {
            // Counters appear with their first event.
            let gauges =
                catalogue.iter().filter(|metric| metric.kind == "gauge").map(|metric| metric.name.clone());
            // The first exists only if a user set a timeout, the second only if a login expires.
            let may =
                ["wsman_workspace_timeout_settings_total", "spaceport_cluster_login_end_timestamp_seconds"];
            gauges.filter(|name| !families.contains(name) && !may.contains(&name.as_str())).collect()
        };
        shows(
            story,
            &[
                "spaceport_leading 1".to_owned(),
                "spaceport_ready 1".to_owned(),
                "spaceport_degraded 0".to_owned(),
                "spaceport_starts_unplaced_total 1".to_owned(),
                r#"spaceport_start_rejections_total{cluster="us-1",reason="region"} 1"#.to_owned(),
                r#"spaceport_cluster_intent{cluster="eu-1",intent="Draining"} 1"#.to_owned(),
                r#"spaceport_cluster_intent{cluster="us-1",intent="Active"} 1"#.to_owned(),
                r#"spaceport_drain_stage{cluster="eu-1",stage="Draining"} 1"#.to_owned(),
                r#"spaceport_drain_workspaces{cluster="eu-1",fate="LeftAlone"} 1"#.to_owned(),
                r#"spaceport_drain_blocked{cluster="eu-1"} 0"#.to_owned(),
                r#"spaceport_placeable_clusters{class="g1-standard"} 1"#.to_owned(),
                r#"spaceport_cluster_nodes{cluster="us-1",usable="true"} 3"#.to_owned(),
                r#"spaceport_reconcile_failing{cluster="eu-1"} 0"#.to_owned(),
                r#"spaceport_dropped_total{what="subscriber"} 0"#.to_owned(),
            ],
        )
        .await?;
        until("every gauge to be exported", async || {
            let mut families = BTreeSet::new();
            for replica in &story.replicas {
                let text = get(&format!("{}/metrics", replica.health)).await?;
                families.extend(reported(&text, &known)?);
                for (metric, labels) in [
                    ("spaceport_etcd_request_seconds_count", r#"{kind="renew"}"#),
                    ("spaceport_etcd_request_seconds_count", r#"{kind="read"}"#),
                    ("spaceport_cluster_call_seconds_count", r#"{cluster="eu-1",kind="probe"}"#),
                    ("spaceport_cluster_call_seconds_count", r#"{cluster="eu-1",kind="watch"}"#),
                ] {
                    ensure!(
                        text.contains(&format!("{metric}{labels}")),
                        "{} has no {metric}{labels}",
                        replica.name
                    );
                }
                let condition = |name: &str| format!(r#"condition="{name}"}}"#);
                let conditions =
                    ["Available", "Writable", "CanarySeen", "Synced", "HistoryIntact", "LoginLasts"];
                let more = ["MaintenanceRead", "ClassesAgree", "NoStrays"];
                for name in conditions.into_iter().chain(more) {
                    ensure!(text.contains(&condition(name)), "{} has no condition {name}", replica.name);
                }
            }
            let missing = missing(&families);
            ensure!(missing.is_empty(), "missing: {missing:?}");
            Ok(())
        })
        .await
    })
}
