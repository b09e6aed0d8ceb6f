//! Real nodes: containers run, programs of the node can be killed, and nothing is left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::until_within;
use e2e::harness::real_node::{REGISTRY, available};
use e2e::harness::{Cluster, Fault, Fleet, FleetOptions, Launch, NodePart, NodeSize, Process, Traces};

/// These tests run one after the other: each boots clusters, beside those of the other tests.
static ALONE: Mutex<()> = Mutex::const_new(());
const LATER: Duration = Duration::from_secs(90);
/// Until a cluster with a node is up, beside others.
const SUITE: Duration = Duration::from_mins(5);

/// A pod like those of workspaces on a real node: image of a facade, volume with propagation, user, limits.
fn pod(node: &str, name: &str) -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 30,
            "nodeSelector": { "kubernetes.io/hostname": node },
            "securityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
            "volumes": [{
                "name": "content",
                "hostPath": { "path": format!("/var/gitpod/{name}"), "type": "DirectoryOrCreate" },
            }],
            "containers": [{
                "name": "workspace", "image": format!("{REGISTRY}/remote/{name}"), "imagePullPolicy": "IfNotPresent",
                "resources": { "limits": { "cpu": "1", "memory": "64Mi" } },
                "securityContext": { "runAsUser": 33333, "runAsGroup": 33333 },
                "volumeMounts": [{
                    "name": "content", "mountPath": "/workspace", "mountPropagation": "HostToContainer",
                }],
            }],
        },
    }))?)
}

/// Two clusters with a real node each and no others.
async fn boot(count: usize) -> Result<Fleet> {
    Fleet::boot(FleetOptions::of(count).with_nodes(0, &NodeSize::default()).with_real_nodes()).await
}

fn traces(fleet: &Fleet) -> Result<Vec<Traces>> {
    fleet.clusters().iter().map(|cluster| Ok(cluster.real_node()?.traces())).collect()
}

/// Starts a pod and waits until it runs. Its content is a folder of the node, made before.
async fn runs(cluster: &Cluster, name: &str) -> Result<Api<Pod>> {
    let node = cluster.real_node()?;
    let content = node.path(&format!("/var/gitpod/{name}"));
    fs::create_dir_all(&content)?;
    fs::set_permissions(&content, fs::Permissions::from_mode(0o777))?;
    fs::write(content.join("hello"), "from the node\n")?;
    let pods = Api::<Pod>::namespaced(cluster.client(), "default");
    pods.create(&PostParams::default(), &pod(node.name(), name)?).await?;
    until_within(LATER, &pods, name, "running", |pod| pod["status"]["phase"] == "Running").await?;
    ensure!(node.registry().pulled().contains(&format!("remote/{name}")), "its image came from elsewhere");
    Ok(pods)
}

/// Output of a command in a pod's container.
async fn exec(cluster: &Cluster, pod: &str, command: &str) -> Result<String> {
    let output = cluster.kubectl(&["exec", pod, "--", "sh", "-c", command]).await?;
    ensure!(output.code == 0, "exec of {command:?}: {}{}", output.stdout, output.stderr);
    Ok(output.stdout.trim().to_owned())
}

/// A mount that the agent makes later appears in the container; what the container writes is on the node.
async fn content_is_shared(cluster: &Cluster, pod: &str) -> Result<()> {
    let node = cluster.real_node()?;
    ensure!(exec(cluster, pod, "id -u; cat /workspace/hello").await? == "33333\nfrom the node", "no content");
    exec(cluster, pod, "echo work > /workspace/written").await?;
    let content = node.path(&format!("/var/gitpod/{pod}"));
    ensure!(fs::read_to_string(content.join("written"))? == "work\n", "another content");
    fs::create_dir(content.join("late"))?;
    let mount =
        format!("mount -t tmpfs late /var/gitpod/{pod}/late && echo there > /var/gitpod/{pod}/late/file");
    let launch = Launch::new("a mount", "/bin/sh".as_ref(), ["-c", &mount], &node.dir().join("mount.log"));
    let done = Process::start(cluster.assets(), &node.inside(launch)).await?;
    ensure!(done.exited(LATER).await? == 0, "{}", done.log_tail());
    ensure!(exec(cluster, pod, "cat /workspace/late/file").await? == "there", "the mount is not seen");
    ensure!(!content.join("late/file").exists(), "the mount is seen outside of the node");
    Ok(())
}

/// The kubelet takes no request without a certificate of the cluster.
async fn strangers_are_refused(cluster: &Cluster) -> Result<()> {
    let node = Api::<Node>::all(cluster.client()).get(cluster.real_node()?.name()).await?;
    let addresses = node.status.and_then(|status| status.addresses).unwrap_or_default();
    let address = addresses.iter().find(|a| a.type_ == "InternalIP").context("no address")?;
    let server = format!("--server=https://{}:10250", address.address);
    // A kubelet ignores passwords.
    let login = ["--kubeconfig=/dev/null", "--username=stranger", "--password=none"];
    let args = [&login[..], &["--insecure-skip-tls-verify", &server, "get", "--raw", "/pods"]].concat();
    let output = cluster.kubectl(&args).await?;
    ensure!(
        output.code != 0 && output.stderr.contains("provide credentials"),
        "{}{}",
        output.stdout,
        output.stderr
    );
    Ok(())
}

fn state(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]
}

/// Resident memory of what runs in the node, in MiB, by name.
fn memory(traces: &Traces) -> (u64, String) {
    let resident = |pid: u32| -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    let parts: Vec<(String, u64)> =
        traces.processes().filter_map(|(pid, name)| Some((name, resident(pid)? / 1024))).collect();
    let text: Vec<String> = parts.iter().map(|(name, mib)| format!("{name} {mib}")).collect();
    (parts.iter().map(|(_, mib)| mib).sum(), text.join(", "))
}

fn report(what: &str) {
    use std::io::Write as _;
    // Not captured when the test passes.
    let _ = writeln!(std::io::stderr(), "real node: {what}");
}

async fn a_pod_lives(cluster: &Cluster, name: &str) -> Result<()> {
    let began = Instant::now();
    let pods = runs(cluster, name).await?;
    report(&format!("{name} runs after {:.1} s", began.elapsed().as_secs_f64()));
    content_is_shared(cluster, name).await?;
    let logs = cluster.kubectl(&["logs", name]).await?;
    ensure!(logs.code == 0, "no logs: {}", logs.stderr);
    // The end is seen: the container leaves by itself, with a code.
    exec(cluster, name, "(sleep 1; kill -TERM 1) >/dev/null 2>&1 &").await?;
    let ended = until_within(LATER, &pods, name, "over", |pod| pod["status"]["phase"] == "Succeeded").await?;
    ensure!(state(&ended)["terminated"]["exitCode"] == 0, "{}", state(&ended));
    pods.delete(name, &DeleteParams::default()).await?;
    until_within(LATER, &pods, name, "gone", Value::is_null).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_run_on_real_nodes_of_two_clusters_and_nothing_is_left() -> Result<()> {
    if !available("pods on real nodes")? {
        return Ok(());
    }
    let _alone = ALONE.lock().await;
    let began = Instant::now();
    let fleet = boot(2).await?;
    report(&format!("two clusters are up after {:.1} s", began.elapsed().as_secs_f64()));
    let [first, second] = fleet.clusters() else { anyhow::bail!("two clusters were asked for") };
    tokio::try_join!(a_pod_lives(first, "one"), a_pod_lives(second, "two"))?;
    strangers_are_refused(first).await?;
    // One that still runs when the machine goes.
    runs(first, "until-the-end").await?;
    let traces = traces(&fleet)?;
    for trace in &traces {
        let (sum, parts) = memory(trace);
        report(&format!("resident {sum} MiB ({parts})"));
    }
    ensure!(traces[0].processes().any(|(_, name)| name.starts_with("containerd-shim")), "no container runs");
    let ending = Instant::now();
    drop(fleet);
    for trace in &traces {
        trace.gone().await?;
    }
    report(&format!("nothing is left {:.1} s after the end", ending.elapsed().as_secs_f64()));
    Ok(())
}

/// The apiserver checks the certificates of simulated kubelets, too.
async fn simulated_nodes_serve_logs(cluster: &Cluster) -> Result<()> {
    let pods = Api::<Pod>::namespaced(cluster.client(), "default");
    let node = format!("{}-node-0", cluster.name());
    pods.create(&PostParams::default(), &pod(&node, "simulated")?).await?;
    until_within(LATER, &pods, "simulated", "running", |pod| pod["status"]["phase"] == "Running").await?;
    fs::write(cluster.container_log(), "2026-01-01T00:00:00.000000000Z stdout F simulated\n")?;
    let logs = cluster.kubectl(&["logs", "simulated"]).await?;
    ensure!(logs.code == 0 && logs.stdout.contains("simulated"), "{logs:?}");
    Ok(())
}

/// Names the file for the traces of [`hold_a_node`].
const TRACES: &str = "E2E_TRACES";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as the process that the next test kills"]
async fn hold_a_node() -> Result<()> {
    let Some(file) = std::env::var_os(TRACES) else { return Ok(()) };
    let fleet = boot(1).await?;
    runs(&fleet.clusters()[0], "orphan").await?;
    let (file, draft) = (PathBuf::from(&file), PathBuf::from(file).with_extension("draft"));
    fs::write(&draft, serde_json::to_string(&traces(&fleet)?)?)?;
    fs::rename(draft, file)?;
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suite_that_is_killed_leaves_nothing() -> Result<()> {
    if !available("death of a suite with a real node")? {
        return Ok(());
    }
    let _alone = ALONE.lock().await;
    let dir = TempDir::new()?;
    let file = dir.path().join("traces.json");
    let mut suite = Command::new(std::env::current_exe()?);
    suite.args(["--exact", "real_node::hold_a_node", "--ignored"]).env(TRACES, &file);
    let mut suite = suite.kill_on_drop(true).spawn()?;
    e2e::harness::until(SUITE, "a suite with a pod on its node", async || {
        ensure!(suite.try_wait()?.is_none(), "it ended");
        ensure!(file.exists(), "it is not there");
        Ok(())
    })
    .await?;
    let traces: Vec<Traces> = serde_json::from_str(&fs::read_to_string(&file)?)?;
    ensure!(traces[0].processes().any(|(_, name)| name.starts_with("containerd-shim")), "no container runs");
    suite.kill().await?;
    traces[0].gone().await
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_survive_the_death_of_the_nodes_programs_and_a_cut() -> Result<()> {
    if !available("death of a node's programs")? {
        return Ok(());
    }
    let _alone = ALONE.lock().await;
    let options = FleetOptions::of(1).with_nodes(1, &NodeSize::default()).with_real_nodes();
    let fleet = Fleet::boot(options).await?;
    let cluster = &fleet.clusters()[0];
    let node = cluster.real_node()?;
    simulated_nodes_serve_logs(cluster).await?;
    runs(cluster, "steady").await?;
    exec(cluster, "steady", "echo before > /tmp/mark").await?;
    for part in [NodePart::Kubelet, NodePart::Containerd] {
        node.kill_part(part).await?;
        node.start_part(part).await?;
    }
    e2e::harness::until(LATER, "exec after the restart", async || {
        ensure!(exec(cluster, "steady", "cat /tmp/mark").await? == "before", "another container");
        Ok(())
    })
    .await?;
    // A node that is cut off becomes unknown, and comes back.
    let nodes = Api::<Node>::all(cluster.client());
    let ready = |status: &'static str| {
        move |node: &Value| {
            let list = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            list.iter().any(|c| c["type"] == "Ready" && c["status"] == status)
        }
    };
    node.api().set(Fault::Refuse).await?;
    until_within(LATER, &nodes, node.name(), "unknown", ready("Unknown")).await?;
    node.api().heal().await?;
    until_within(LATER, &nodes, node.name(), "ready", ready("True")).await?;
    let traces = traces(&fleet)?;
    drop(fleet);
    traces[0].gone().await
}
