//! Calls of a lifecycle to a member's apiserver, and the calls of clients in `/metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use parking_lot::Mutex;
use proto::wsman::{DescribeWorkspaceRequest, WorkspacePhase};
use tonic::Code;

use crate::story::{Story, follow, is, refused, request, run, stop, story, until, watch};
use e2e::harness::spaceport::get;
use e2e::harness::{Answer, Proxy, Rule};

/// Lifecycles that are counted: on a busy machine one may take another write, never a read.
const LIVES: usize = 5;
/// Maximum calls of the cheapest of them.
const CALLS: usize = 12;
/// Events among these.
const EVENTS: usize = 4;

/// Puts a cluster behind a proxy that records every call except watches and probes.
async fn behind_spy(story: &Story, cluster: &str) -> Result<(Proxy, Arc<Mutex<Vec<String>>>)> {
    let proxy = Proxy::of_cluster(story.cluster(cluster)?).await?;
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let (noted, place) = (Arc::clone(&seen), format!("/namespaces/{}", story.namespace));
    let spy = move |call: &http::request::Parts| {
        let is_watch = call.uri.query().is_some_and(|query| query.contains("watch=true"));
        let path = call.uri.path();
        // The leader's own dry runs are periodic and independent of workspaces.
        let is_dry = call.uri.query().is_some_and(|query| query.contains("dryRun"));
        // So are reads of a namespace itself, the first right after the registration.
        let is_namespace = path.split_once("/namespaces/").is_some_and(|(_, name)| !name.contains('/'));
        if !is_watch && !is_dry && !is_namespace && path != "/readyz" {
            let object = path.split_once(&place).map_or(path, |(_, object)| object);
            noted.lock().push(format!("{} {object}", call.method));
        }
        false
    };
    proxy.rules(vec![Rule::new(spy, Answer::Hold)]);
    story.register_through(cluster, &proxy).await?;
    Ok((proxy, seen))
}

async fn metrics(story: &Story) -> Result<String> {
    get(&format!("{}/metrics", story.replicas.first().context("no manager")?.health)).await
}

#[test]
fn a_lifecycle_takes_twelve_calls_and_reads_nothing() -> Result<()> {
    story("calls", 1, &[], async |story| {
        let (_proxy, seen) = behind_spy(story, "eu-1").await?;
        let mut client = story.client().await?;
        let mut best = Vec::new();
        for life in 0..LIVES {
            let id = format!("ws-{life}");
            seen.lock().clear();
            run(&mut client, request(&id, &[])).await?;
            // Scraped values come from memory.
            let scraped = metrics(story).await?;
            let running = r#"phase="Running",type="Regular"} 1"#;
            ensure!(scraped.contains(running), "it is not in {scraped}");
            let mut stream = watch(&mut client, &id).await?;
            stop(&mut client, &id).await?;
            follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
            until("the end to be recorded", async || {
                let live = metrics(story).await?;
                let none = r#"spaceport_placements_live{cluster="eu-1"} 0"#;
                ensure!(live.lines().any(|line| line == none), "it is live");
                Ok(())
            })
            .await?;
            // Fence and canary are renewed independently of workspaces.
            let of_fleet = |call: &&String| {
                ["configmaps", "leases", "resourcequotas"].iter().any(|kind| call.contains(kind))
            };
            let calls: Vec<String> = seen.lock().iter().filter(|call| !of_fleet(call)).cloned().collect();
            ensure!(calls.iter().any(|call| call.starts_with("DELETE /workspaces")), "it saw {calls:?}");
            let reads: Vec<_> = calls.iter().filter(|call| call.starts_with(Method::GET.as_str())).collect();
            ensure!(reads.is_empty(), "it read {reads:?}");
            if best.is_empty() || calls.len() < best.len() {
                best = calls;
            }
        }
        let events = best.iter().filter(|call| call.contains("/events")).count();
        ensure!(best.len() <= CALLS && events <= EVENTS, "{} calls: {best:#?}", best.len());
        Ok(())
    })
}

/// Counts of handled calls by method and code.
fn handled(metrics: &str) -> BTreeMap<(String, String), u64> {
    let label = |line: &str, name: &str| {
        let value = line.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
        value.map(|(value, _)| value.to_owned()).unwrap_or_default()
    };
    let of = |line: &str| {
        let count = line.rsplit_once(' ')?.1.parse().ok()?;
        Some(((label(line, "grpc_method"), label(line, "grpc_code")), count))
    };
    metrics.lines().filter(|line| line.starts_with("grpc_server_handled_total{")).filter_map(of).collect()
}

#[test]
fn calls_of_clients_are_counted_by_method_and_code_where_they_are_served() -> Result<()> {
    story("grpc-metrics", 2, &["eu-1"], async |story| {
        let leader = story.leader().await?;
        let (leads, other): (Vec<_>, Vec<_>) =
            story.replicas.iter().partition(|replica| replica.name == leader);
        let (leads, other) = (leads.first().context("no leader")?, other.first().context("no standby")?);
        let mut client = story.installation.workspaces(other).await?;
        run(&mut client, request("ws", &[])).await?;
        let nobody = DescribeWorkspaceRequest { id: "nobody".to_owned() };
        refused(client.describe_workspace(nobody).await, Code::NotFound)?;
        // Dropped before its end.
        drop(watch(&mut client, "ws").await?);
        let count = async |replica: &e2e::harness::spaceport::Replica, method: &str, code: &str| {
            let metrics = get(&format!("{}/metrics", replica.health)).await?;
            let count = handled(&metrics).remove(&(method.to_owned(), code.to_owned()));
            anyhow::Ok((count.unwrap_or_default(), metrics))
        };
        until("the calls to be counted", async || {
            let (started, _) = count(leads, "StartWorkspace", "OK").await?;
            ensure!(started == 1, "the leader counts {started} starts");
            let (described, metrics) = count(other, "DescribeWorkspace", "NotFound").await?;
            ensure!(described == 1, "{described} refusals");
            let (ended, _) = count(other, "Subscribe", "Canceled").await?;
            // That of `run`, and this one.
            ensure!(ended == 2, "{ended} subscriptions ended");
            let line = r#"grpc_server_handling_seconds_count{grpc_method="DescribeWorkspace",grpc_service="wsman.WorkspaceManager",grpc_type="unary"} 1"#;
            ensure!(metrics.lines().any(|is| is == line), "no duration in {metrics}");
            Ok(())
        })
        .await?;
        let (passed_on, _) = count(other, "StartWorkspace", "OK").await?;
        ensure!(passed_on == 0, "a forwarded call is counted twice");
        Ok(())
    })
}
