//! Requests that are cheap for a caller and would be expensive for the server.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use prost::Message as _;
use proto::contentservice::{CompositeInitializer, WorkspaceInitializer, workspace_initializer::Spec};
use proto::spaceport::v1::{ClusterSpec, NamespaceSpec, RegisterRequest};
use proto::wsman::{
    DescribeWorkspaceRequest, EnvironmentVariable, PortSpec, StartWorkspaceRequest, UpdateSshKeyRequest,
};
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::story::{Client, Story, refused, request, start, story};
use e2e::harness::spaceport::Replica;

/// Far above the time of a rejection, and below what would cost the lease.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Maximum metadata of an error, as HTTP/2 counts it.
const METADATA: usize = 8 * 1024;

/// Fails if the metadata of a status is too large.
fn is_brief(status: &Status) -> Result<()> {
    let mut headers = http::HeaderMap::new();
    status.add_header(&mut headers).map_err(|_| anyhow::anyhow!("no header"))?;
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    ensure!(size <= METADATA, "{size} bytes: {status}");
    Ok(())
}

fn with_ports(count: usize) -> StartWorkspaceRequest {
    let mut request = request("ports", &[]);
    if let Some(spec) = &mut request.spec {
        spec.ports = vec![PortSpec::default(); count];
    }
    request
}

fn nested(depth: usize) -> StartWorkspaceRequest {
    let mut request = request("nested", &[]);
    let Some(spec) = &mut request.spec else { return request };
    for _ in 0..depth {
        let initializer = spec.initializer.take().unwrap_or_default();
        let composite = CompositeInitializer { initializer: vec![initializer] };
        spec.initializer = Some(WorkspaceInitializer { spec: Some(Spec::Composite(composite)) });
    }
    request
}

/// Starts that are small on the wire and large in memory.
fn hostile() -> Vec<(&'static str, StartWorkspaceRequest)> {
    let mut annotated = request("annotated", &[]);
    if let Some(metadata) = &mut annotated.metadata {
        metadata.annotations = (0..100_000).map(|n| (format!("a{n}"), String::new())).collect();
    }
    let mut variables = request("variables", &[]);
    if let Some(spec) = &mut variables.spec {
        spec.envvars = vec![EnvironmentVariable::default(); 500_000];
        spec.sys_envvars = vec![EnvironmentVariable::default(); 500_000];
        spec.feature_flags = vec![77; 500_000];
    }
    let mut wide = request("wide", &[]);
    if let Some(spec) = &mut wide.spec {
        let initializer = vec![WorkspaceInitializer::default(); 500_000];
        let composite = CompositeInitializer { initializer };
        spec.initializer = Some(WorkspaceInitializer { spec: Some(Spec::Composite(composite)) });
    }
    let long = StartWorkspaceRequest { id: "\u{1b}é".repeat(3_000_000), ..request("long", &[]) };
    vec![
        ("200,000 empty ports", with_ports(200_000)),
        ("1,000,000 empty ports", with_ports(1_000_000)),
        ("1,000 empty ports", with_ports(1_000)),
        ("100,000 annotations", annotated),
        ("1,500,000 variables and flags", variables),
        ("500,000 initializers side by side", wide),
        ("40 initializers in one another", nested(40)),
        ("an id of 9 MB", long),
    ]
}

/// MiB of memory of a manager's process.
fn memory(replica: &Replica) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", replica.process.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no figure")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

/// The current epoch.
pub async fn epoch(story: &Story) -> Result<String> {
    let output = story.cli(&["cluster", "leader", "-o", "json"]).await?;
    let answer: serde_json::Value = serde_json::from_str(&output.stdout)?;
    Ok(answer["epoch"].to_string())
}

/// The status of a rejected start, which must arrive quickly and be small.
async fn refusal(client: &mut Client, what: &str, hostile: StartWorkspaceRequest) -> Result<Status> {
    let (size, sent) = (hostile.encoded_len(), Instant::now());
    let status =
        refused(client.start_workspace(hostile).await, Code::InvalidArgument).context(what.to_owned())?;
    println!("{what}, {size} bytes: refused in {:?}: {}", sent.elapsed(), status.message());
    is_brief(&status)?;
    Ok(status)
}

#[test]
fn hostile_requests_are_refused_in_brief_by_leader_and_standby_and_the_leader_leads_on() -> Result<()> {
    story("bounds", 2, &["eu-1"], async |story| {
        let leader = story.leader().await?;
        let before = epoch(story).await?;
        for replica in &story.replicas {
            let mut client = story.installation.workspaces(replica).await?;
            println!("at the {}:", if replica.name == leader { "leader" } else { "standby" });
            for (what, hostile) in hostile() {
                let status = refusal(&mut client, what, hostile).await?;
                let listed = status.get_details_bad_request().context("no details")?.field_violations;
                ensure!((1..=20).contains(&listed.len()), "{what}: {} violations are listed", listed.len());
                ensure!(!status.message().contains('\u{1b}'), "{what}: {}", status.message());
            }
            let status = refusal(&mut client, "200,000", with_ports(200_000)).await?;
            ensure!(
                status.message() == "spec.ports: must have at most 1000 elements in all, got 200000",
                "{status}"
            );
            let status = refusal(&mut client, "1,000", with_ports(1_000)).await?;
            ensure!(
                status
                    .message()
                    .starts_with("spec.ports[0].port: must be from 1 to 65535, got 0; spec.ports[1]")
            );
            ensure!(status.message().ends_with(" more problems"), "{}", status.message());
        }
        // Many at once: other calls are served meanwhile, and the leader keeps its term.
        let at = story.replicas.iter().find(|replica| replica.name == leader).context("no leader")?;
        let mut client = story.installation.workspaces(at).await?;
        let quiet = memory(at)?;
        let mut flood = tokio::task::JoinSet::new();
        for n in 0..32 {
            let mut client = story.installation.workspaces(&story.replicas[n % 2]).await?;
            flood.spawn(async move {
                refused(client.start_workspace(with_ports(1_000_000)).await, Code::InvalidArgument)
            });
        }
        let (began, mut slowest, mut most) = (Instant::now(), Duration::ZERO, quiet);
        while !flood.is_empty() {
            let asked = Instant::now();
            let nobody = DescribeWorkspaceRequest { id: "nobody".to_owned() };
            refused(client.describe_workspace(nobody).await, Code::NotFound)?;
            slowest = slowest.max(asked.elapsed());
            most = most.max(memory(at)?);
            while let Some(done) = flood.try_join_next() {
                is_brief(&done??)?;
            }
        }
        println!(
            "32 of 1,000,000 ports at once took {:?}; others waited {slowest:?} at most; memory {quiet} -> {most} MiB",
            began.elapsed()
        );
        ensure!(slowest < AT_ONCE, "others waited {slowest:?}");
        ensure!(most < quiet + 300, "memory grew from {quiet} to {most} MiB");
        ensure!(epoch(story).await? == before, "another term began");
        start(&mut client, request("ws", &[])).await?;
        Ok(())
    })
}

#[test]
fn every_service_counts_what_is_repeated_in_its_requests() -> Result<()> {
    story("bounds-services", 1, &[], async |story| {
        let mut client = story.client().await?;
        let keys = vec![String::new(); 300_000];
        let request = UpdateSshKeyRequest { id: "ws".to_owned(), keys };
        let status = refused(client.update_ssh_key(request).await, Code::InvalidArgument)?;
        ensure!(status.message().starts_with("keys: must have at most 1000"), "{status}");
        let mut clusters = story.installation.clusters(story.replicas.first().context("no manager")?).await?;
        let namespaces = vec![NamespaceSpec::default(); 300_000];
        let spec = Some(ClusterSpec { namespaces, ..Default::default() });
        let request = RegisterRequest { spec, ..Default::default() };
        let status = refused(clusters.register(request).await, Code::InvalidArgument)?;
        ensure!(status.message().starts_with("spec.namespaces: must have at most 200"), "{status}");
        is_brief(&status)
    })
}
