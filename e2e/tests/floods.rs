//! One caller or one cluster that sends without end: others are served, and memory stays bounded.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use proto::wsman::{
    DescribeWorkspaceRequest, GetWorkspacesRequest, MetadataFilter, SubscribeRequest, WorkspacePhase,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tonic::Code;

use crate::bulkheads::{begin, behind_proxy};
use crate::story::{SOON, Story, annotated, follow, is, refused, request, run, start, story, until};
use e2e::harness::spaceport::Replica;
use e2e::harness::{Answer, Flood, Proxy, Rule};

/// Memory that a flood may add to a manager: several times the bound of objects, for decoded and encoded forms.
const MOST_MIB: u64 = 700;

#[test]
fn a_cluster_that_sends_without_end_costs_bounded_memory_says_so_and_comes_back() -> Result<()> {
    story("floods-cluster", 0, &[], async |story| {
        begin_bounded(story).await?;
        story.register("us-1").await?;
        let proxy = behind_proxy(story, "eu-1").await?;
        let before = peak_mib(story)?;
        let floods = [
            ("bytes", Flood::Bytes, "is longer than"),
            ("pages", Flood::Pages, "federation.objectMebibytes"),
            ("events", Flood::Events, "federation.objectMebibytes"),
            ("head", Flood::Head, ""),
        ];
        for (name, flood, reason) in floods {
            flooded(story, &proxy, name, flood, reason)
                .await
                .with_context(|| format!("a flood of {name}"))?;
            let peak = peak_mib(story)?;
            eprintln!("a flood of {name}: at most {peak} MiB, and {before} before");
            ensure!(peak < before + MOST_MIB, "{peak} MiB after a flood of {name}, {before} before");
        }
        Ok(())
    })
}

async fn begin_bounded(story: &mut Story) -> Result<()> {
    begin(story).await?;
    story.replicas.clear();
    story.installation.overrides["federation"]["objectMebibytes"] = json!(64);
    story.replicas.push(story.installation.start("manager-1").await?);
    Ok(())
}

async fn flooded(story: &Story, proxy: &Proxy, name: &str, flood: Flood, reason: &str) -> Result<()> {
    let reads = |call: &http::request::Parts| call.method == Method::GET && call.uri.path() != "/readyz";
    proxy.rules(vec![Rule::new(reads, Answer::Flood(flood))]);
    proxy.reset();
    let mut client = story.client().await?;
    for n in 0..3 {
        let there = run(&mut client, request(&format!("{name}-{n}"), &["north-america"])).await?;
        ensure!(there.cluster == "us-1", "it is on {}", there.cluster);
    }
    within(Duration::from_secs(150), "the condition to report it", async || {
        let output = story.cli(&["cluster", "show", "eu-1", "-o", "json"]).await?;
        let shown: serde_json::Value = serde_json::from_str(&output.stdout)?;
        let conditions = shown["status"]["conditions"].as_array().context("no conditions")?;
        let synced = conditions.iter().find(|one| one["type"] == "Synced").context("no Synced")?;
        let reported = synced["message"].as_str().unwrap_or_default();
        ensure!(synced["state"] != "TRUE" && !reported.is_empty() && reported.contains(reason), "{synced}");
        ensure!(reported.len() < 16 * 1024, "{} bytes of message", reported.len());
        Ok(())
    })
    .await?;
    proxy.heal().await?;
    within(Duration::from_secs(150), "the cluster to be available", async || story.available("eu-1").await)
        .await?;
    let back = run(&mut client, request(&format!("{name}-back"), &["europe"])).await?;
    ensure!(back.cluster == "eu-1", "it is on {}", back.cluster);
    Ok(())
}

async fn within(limit: Duration, what: &str, check: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    e2e::harness::until(limit, what, check).await
}

/// Peak memory of the manager.
fn peak_mib(story: &Story) -> Result<u64> {
    let pid = manager(story)?.process.pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? / 1024)
}

fn manager(story: &Story) -> Result<&Replica> {
    story.replicas.first().context("no manager")
}

#[test]
fn silent_sockets_and_idle_probes_of_one_address_keep_nobody_out() -> Result<()> {
    story("floods-sockets", 1, &[], async |story| {
        let address = address_of(&manager(story)?.endpoint)?;
        let health = address_of(&manager(story)?.health)?;
        let mut held = Vec::new();
        for _ in 0..1000 {
            held.push(connect_from("127.0.0.2", address).await?);
        }
        for _ in 0..200 {
            let mut probe = connect_from("127.0.0.2", health).await?;
            probe.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await?;
            let mut head = [0; 12];
            timeout(SOON, probe.read_exact(&mut head)).await.context("no answer to a probe")??;
            held.push(probe);
        }
        let mut client = timeout(SOON, story.client()).await.context("no connection")??;
        client.get_workspaces(GetWorkspacesRequest::default()).await?;
        let metrics = e2e::harness::spaceport::get(&format!("{}/metrics", manager(story)?.health)).await?;
        for metric in [
            "spaceport_connections_closed_total{reason=\"displaced\",server=\"grpc\"}",
            "spaceport_connections_closed_total{reason=\"displaced\",server=\"admin\"}",
        ] {
            let line = metrics.lines().find(|line| line.starts_with(metric)).context("no such metric")?;
            ensure!(!line.ends_with(" 0"), "{line}");
        }
        Ok(())
    })
}

fn address_of(url: &str) -> Result<SocketAddr> {
    Ok(url.rsplit('/').next().context("no address")?.parse()?)
}

async fn connect_from(from: &str, to: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{from}:0").parse()?)?;
    Ok(socket.connect(to).await?)
}

#[test]
fn a_thousand_calls_cancelled_at_once_end_no_subscription_of_their_connection() -> Result<()> {
    story("floods-cancelled", 2, &["eu-1"], async |story| {
        let leader = story.leader().await?;
        for replica in &story.replicas {
            let mut client = story.installation.workspaces(replica).await?;
            let id = format!("after-{}", replica.name);
            let must_match =
                Some(MetadataFilter { meta_id: format!("meta-{id}"), ..MetadataFilter::default() });
            let one = SubscribeRequest { must_match, ..SubscribeRequest::default() };
            let mut stream = client.subscribe(one).await?.into_inner();
            for round in 0..3 {
                // Writes: the standby has forwarded them when they are cancelled.
                let calls: Vec<_> = (0..1000)
                    .map(|n| {
                        let mut client = client.clone();
                        let request = request(&format!("{}-{round}-{n}", replica.name), &["nowhere"]);
                        tokio::spawn(async move { client.stop_workspace(stop_of(request.id)).await })
                    })
                    .collect();
                tokio::time::sleep(Duration::from_millis(20 * round)).await;
                for call in calls {
                    call.abort();
                }
            }
            start(&mut client, request(&id, &["europe"])).await?;
            follow(&mut stream, is(WorkspacePhase::Running))
                .await
                .with_context(|| format!("the subscription at {}, while {leader} leads", replica.name))?;
        }
        Ok(())
    })
}

fn stop_of(id: String) -> proto::wsman::StopWorkspaceRequest {
    proto::wsman::StopWorkspaceRequest { id, policy: 0 }
}

#[test]
fn streams_of_one_caller_are_bounded_and_another_caller_has_its_own() -> Result<()> {
    story("floods-streams", 0, &[], async |story| {
        story.installation.overrides = json!({ "rpcServer": { "streams": { "total": 8, "perCaller": 4 } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let mut client = story.client().await?;
        let mut streams = Vec::new();
        for _ in 0..4 {
            streams.push(client.subscribe(SubscribeRequest::default()).await?.into_inner());
        }
        // On another connection, too: the certificate is the same.
        for mut same in [client.clone(), story.client().await?] {
            let status = refused(same.subscribe(SubscribeRequest::default()).await, Code::ResourceExhausted)?;
            ensure!(status.message().contains("4 streams"), "{}", status.message());
        }
        client.get_workspaces(GetWorkspacesRequest::default()).await?;
        let output = story.cli(&["cluster", "list"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        drop(streams);
        until("a stream to be free", async || {
            client.subscribe(SubscribeRequest::default()).await.map(drop).map_err(Into::into)
        })
        .await
    })
}

#[test]
fn workspaces_with_large_annotations_are_listed_page_by_page() -> Result<()> {
    story("floods-list", 1, &["eu-1"], async |story| {
        const COUNT: usize = 90;
        let mut client = story.client().await?;
        for n in 0..COUNT {
            let large = annotated(request(&format!("ws-{n:03}"), &[]), "large", &"x".repeat(200 * 1024));
            start(&mut client, large).await?;
        }
        let mut client = client.max_decoding_message_size(16 << 20);
        until("all of them to be seen", async || {
            let answer =
                client.describe_workspace(DescribeWorkspaceRequest { id: "ws-089".to_owned() }).await;
            answer.map(drop).map_err(Into::into)
        })
        .await?;
        refused(client.get_workspaces(GetWorkspacesRequest::default()).await, Code::ResourceExhausted)?;
        let output = story.cli(&["workspace", "list", "-o", "json"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        let listed: Vec<serde_json::Value> = serde_json::from_str(&output.stdout)?;
        ensure!(listed.len() == COUNT, "{} of {COUNT}", listed.len());
        // A replay has no size limit.
        let request = SubscribeRequest { replay: true, ..SubscribeRequest::default() };
        let mut stream = client.subscribe(request).await?.into_inner();
        for _ in 0..COUNT {
            timeout(SOON, stream.message()).await.context("the replay hangs")??.context("it ended")?;
        }
        Ok(())
    })
}
