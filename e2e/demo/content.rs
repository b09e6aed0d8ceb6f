//! The part of the demo with real nodes: a workspace from a git repository, a shell that changes a file, a stop, and the file
//! back on another cluster. Two more clusters have a real node each; the store of their agents is a folder, as both nodes are on
//! this machine.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use e2e::harness::spaceport::{Installation, NAMESPACE, SECRETS_NAMESPACE, prepare_member};
use e2e::harness::{AgentOptions, Fleet, GitServer, RealAgent, real_node, until};
use serde_json::json;
use tokio::time::Instant;

use super::{STEP, Stage, text, title};

/// Name and region of the clusters with a real node.
pub const CLUSTERS: [(&str, &str); 2] = [("metal-1", "metal"), ("forge-1", "forge")];
/// The workspace across its runs.
pub const WORKSPACE: &str = "notes";
const REPOSITORY: &str = "project";
const FILE: &str = "/workspace/project/README.md";
const HOST_PATH: &str = "/var/gitpod/workspaces-mk2";
/// What the shell adds to a file.
const LINE: &str = "changed in a shell";

/// Whether there is such a part. If not, one line says how to get it.
pub fn is_possible() -> bool {
    match real_node::missing().as_slice() {
        [] => true,
        missing => {
            println!(
                "Without real nodes, so no container runs and no file is kept: they need {}. As root: make node-assets",
                missing.join(", ")
            );
            false
        }
    }
}

/// What has to stay up.
pub struct Content {
    pub git: GitServer,
    _agents: Vec<RealAgent>,
}

impl Content {
    /// An agent on each real node, and a git server that the nodes reach.
    pub async fn set_up(fleet: &Fleet, installation: &Installation) -> Result<Self> {
        let store = installation.dir().join("store");
        fs::create_dir_all(&store).with_context(|| format!("cannot make {}", store.display()))?;
        let mut agents = Vec::new();
        for (name, _) in CLUSTERS {
            let cluster = fleet.cluster(name)?;
            let kubeconfig = prepare_member(cluster).await?;
            installation.cluster_file(name, cluster.region(), &kubeconfig)?;
            let options = AgentOptions {
                namespace: NAMESPACE.to_owned(),
                secrets_namespace: SECRETS_NAMESPACE.to_owned(),
                host_path: HOST_PATH.to_owned(),
                content: json!({ "storage": { "kind": "local", "local": { "path": store } } }),
                overrides: json!({}),
            };
            let agent =
                RealAgent::install(cluster, &installation.dir().join(format!("agent-{name}")), options)
                    .await?;
            agent.start().await?;
            agents.push(agent);
        }
        let node = fleet.cluster(CLUSTERS[0].0)?.real_node()?;
        let git = GitServer::start(node.host_address(), None).await?;
        git.create(REPOSITORY).await?;
        git.commit(REPOSITORY, "main", &[("README.md", "from the repository\n")]).await?;
        Ok(Self { git, _agents: agents })
    }

    pub fn repository(&self) -> String {
        self.git.remote(REPOSITORY)
    }
}

/// The whole way of a file. Each step is checked.
pub async fn show(stage: &Stage, content: &Content) -> Result<()> {
    title("Two more clusters, each with a real node: containers run there");
    for (name, _) in CLUSTERS {
        let file = stage.file_of(name);
        stage.cli(&["cluster", "register", "-f", &file.to_string_lossy()]).await?;
    }
    available(stage).await?;

    title("A workspace from a git repository");
    let (began, url) = (Instant::now(), content.repository());
    let start = ["workspace", "start", "--id", "notes-1", "--meta-id", WORKSPACE, "--image", "demo:1"];
    stage.cli(&[&start[..], &["--git-url", &url, "--region", CLUSTERS[0].1, "--wait"]].concat()).await?;
    println!("runs {:.1} s after its start", began.elapsed().as_secs_f64());

    title("A shell changes a file");
    let seen = stage.cli(&["workspace", "shell", "notes-1", "--", "cat", FILE]).await;
    ensure!(seen? == "from the repository\n", "the clone has another file");
    let change = format!("echo {LINE} >>{FILE}");
    stage.cli(&["workspace", "shell", "notes-1", "--", "sh", "-c", &change]).await?;

    title("It stops, and starts on the other cluster: the file is there");
    stage.cli(&["workspace", "stop", "notes-1", "--wait"]).await?;
    let start = ["workspace", "start", "--id", "notes-2", "--meta-id", WORKSPACE, "--image", "demo:1"];
    stage.cli(&[&start[..], &["--from-backup", "--region", CLUSTERS[1].1, "--wait"]].concat()).await?;
    let cluster = text(&stage.workspaces().await?.get("notes-2").context("it is gone")?["cluster"]);
    ensure!(cluster == CLUSTERS[1].0, "notes-2 is on {cluster}");
    let seen = stage.cli(&["workspace", "shell", "notes-2", "--", "cat", FILE]).await?;
    ensure!(seen == format!("from the repository\n{LINE}\n"), "the file came back as {seen:?}");
    Ok(())
}

async fn available(stage: &Stage) -> Result<()> {
    until(STEP, "the clusters with real nodes to be available", async || {
        let clusters = stage.json(&["cluster", "list"]).await?;
        for cluster in clusters.as_array().context("no list of clusters")? {
            let health = text(&cluster["status"]["health"]);
            ensure!(health.eq_ignore_ascii_case("available"), "a cluster is {health}");
        }
        Ok(())
    })
    .await
}

/// Commands to try with the workspace.
pub fn invite(content: &Content) {
    println!(
        "\nThe workspace with the file runs on {}. Enter it, stop it, and bring it back:\n",
        CLUSTERS[1].0
    );
    println!("  spaceport workspace shell notes-2");
    println!("  spaceport workspace stop notes-2 --wait");
    println!(
        "  spaceport workspace start --id notes-3 --meta-id {WORKSPACE} --image demo:1 --from-backup \\\n    --region {} --wait",
        CLUSTERS[0].1
    );
    println!("  spaceport workspace shell notes-3 -- cat {FILE}");
    println!("\nOr begin with the repository again (`git clone` works here, too):\n");
    println!(
        "  spaceport workspace start --id more-1 --image demo:1 --git-url {} \\\n    --region {} --wait",
        content.repository(),
        CLUSTERS[0].1
    );
}
