//! A workspace on a real node: kubelet, containerd and a container instead of a simulated pod. The stand-in plays the
//! node agent.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use proto::wsman::WorkspacePhase;
use tokio::time::Instant;

use crate::adopt::deregister_by_force;
use crate::outage::register_private;
use crate::story::{Story, follow, is, request, run, stop, story, until, watch};
use e2e::harness::real_node::{available, manager_settings};
use e2e::harness::{Cluster, ClusterOptions, RealNodeOptions};

#[test]
fn a_workspace_runs_in_a_container_of_a_real_node_with_its_content_mounted() -> Result<()> {
    if !available("a workspace on a real node")? {
        return Ok(());
    }
    story("real-node", 0, &[], async |story| {
        story.installation.overrides = manager_settings();
        story.replicas.push(story.installation.start("manager-0").await?);
        let options = ClusterOptions {
            nodes: 0,
            real_node: Some(RealNodeOptions::default()),
            ..ClusterOptions::named("metal-1")
        };
        let folder = story.installation.dir().join("metal-1");
        let cluster = Cluster::boot(story.fleet.assets(), &folder, options).await?;
        let _agent = register_private(story, &cluster, "metal").await?;
        let (node, mut client) = (cluster.real_node()?, story.client().await?);

        let began = Instant::now();
        let up = run(&mut client, request("ws", &["metal"])).await?;
        eprintln!("RUNNING after {:.1} s", began.elapsed().as_secs_f64());
        let runtime = up.runtime.context("no runtime")?;
        ensure!(up.cluster == "metal-1" && runtime.node_name == node.name(), "{} {runtime:?}", up.cluster);
        ensure!(node.registry().pulled().contains(&"remote/ws".to_owned()), "{:?}", node.registry().pulled());
        content_is_mounted(story, &cluster).await?;

        let mut stream = watch(&mut client, "ws").await?;
        stop(&mut client, "ws").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let traces = node.traces();
        until("the container to be gone", async || {
            let containers =
                traces.processes().filter(|(_, name)| name.starts_with("containerd-shim")).count();
            ensure!(containers == 0, "{containers} pods are left");
            Ok(())
        })
        .await?;
        deregister_by_force(story, "metal-1").await?;
        drop(cluster);
        traces.gone().await
    })
}

/// Folders of the node are in the container, and a file that the node's agent puts there is read by the user.
async fn content_is_mounted(story: &Story, cluster: &Cluster) -> Result<()> {
    let content = cluster.real_node()?.path("/var/gitpod/workspaces-mk2/ws");
    fs::write(content.join("hello"), "from the agent\n").context("no content folder")?;
    let script =
        "id -u; cat /workspace/hello; grep -c -e ' /workspace ' -e ' /.workspace ' /proc/self/mounts";
    let namespace = format!("--namespace={}", story.namespace);
    let args = [&namespace, "exec", "ws-ws", "--container=workspace", "--", "sh", "-c", script];
    let output = cluster.kubectl(&args).await?;
    ensure!(output.code == 0 && output.stdout == "33333\nfrom the agent\n2\n", "{output:?}");
    Ok(())
}
