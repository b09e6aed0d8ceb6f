//! What a process and an apiserver spent.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};
use kube::Client;

/// Of `/proc/<pid>/stat`; Linux fixes it for programs.
const TICKS_A_SECOND: f64 = 100.0;
/// What a lifecycle touches; leases, nodes and the like are not a workspace's.
const RESOURCES: [&str; 5] = ["workspaces", "pods", "secrets", "events", "snapshots"];

/// CPU seconds of a process so far.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // The second field is the program's name in brackets and may hold spaces.
    let (_, fields) = stat.rsplit_once(')').context("an unexpected stat file")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("a short stat file")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / TICKS_A_SECOND)
}

/// Resident MiB of a process now.
pub fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// Requests an apiserver answered, by `VERB resource/subresource`, watches left out.
pub async fn requests(client: &Client) -> Result<BTreeMap<String, f64>> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let metrics = client.request_text(request).await.context("no metrics")?;
    let mut counts = BTreeMap::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("apiserver_request_total{") else { continue };
        let Some((labels, count)) = rest.rsplit_once("} ") else { continue };
        let (verb, resource) = (label(labels, "verb"), label(labels, "resource"));
        if verb == "WATCH" || !RESOURCES.contains(&resource) {
            continue;
        }
        let name = match label(labels, "subresource") {
            "" => format!("{verb} {resource}"),
            subresource => format!("{verb} {resource}/{subresource}"),
        };
        *counts.entry(name).or_insert(0.0) += count.parse::<f64>().unwrap_or_default();
    }
    Ok(counts)
}

fn label<'a>(labels: &'a str, name: &str) -> &'a str {
    let value = labels.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix("=\""));
    value.map(|value| value.trim_end_matches('"')).unwrap_or_default()
}

/// Who sends such requests in these runs, as far as it is certain; empty where several may.
pub fn sender(request: &str) -> &'static str {
    match request {
        "GET workspaces" | "PUT workspaces/status" => "stand-in",
        "POST pods/binding" => "scheduler",
        "PATCH pods/status" => "kwok",
        "POST pods"
        | "POST workspaces"
        | "PATCH workspaces"
        | "PATCH workspaces/status"
        | "DELETE workspaces"
        | "GET secrets"
        | "POST secrets"
        | "DELETE secrets" => "manager",
        _ => "",
    }
}
