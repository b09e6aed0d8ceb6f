//! `make demo`: the main job on real parts: three clusters, two managers, a dozen workspaces, a cordon, a killed
//! leader. Where this machine can have real nodes, also a file that a user changes, and that comes back on another cluster.
//!
//! Everything goes through the command line, as an admin and a user would do it. Each step checks its result: `--once`
//! succeeds only if every step did.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use e2e::harness::node_agent::Pace;
use e2e::harness::real_node::manager_settings;
use e2e::harness::spaceport::{Installation, Output, Replica, prepare_member, program};
use e2e::harness::{Fleet, FleetOptions, NodeAgent};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

mod content;

use content::Content;

const REGIONS: [(&str, &str); 3] = [("eu-1", "europe"), ("us-1", "north-america"), ("ap-1", "asia")];
const WORKSPACES: usize = 12;
/// Maximum columns of a printed command line, without a trailing backslash.
const LINE: usize = 78;
/// Timeout of one step.
const STEP: Duration = Duration::from_mins(1);

/// Spaceport on three real clusters on this machine.
#[derive(Debug, Parser)]
struct Args {
    /// Exit at the end instead of staying up until Ctrl-C.
    #[arg(long)]
    once: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match e2e::harness::block_on(e2e::harness::unless_interrupted(demo(args.once))) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The running parts of the demo.
struct Stage {
    installation: Installation,
    replicas: Vec<Replica>,
    _agents: Vec<NodeAgent>,
    // Dropped before the machines that its agents run on.
    content: Option<Content>,
    fleet: Fleet,
}

async fn demo(once: bool) -> Result<()> {
    let began = Instant::now();
    let mut stage = set_up().await?;
    register(&stage).await?;
    start_a_dozen(&stage).await?;
    cordon(&stage).await?;
    lose_the_leader(&mut stage).await?;
    stop_some(&stage).await?;
    if let Some(content) = &stage.content {
        content::show(&stage, content).await?;
    }
    title("The fleet now");
    stage.cli(&["cluster", "list"]).await?;
    stage.cli(&["workspace", "list"]).await?;
    println!("\nEvery step succeeded, in {:.0} s.", began.elapsed().as_secs_f64());
    if !once {
        stage.invite()?;
        std::future::pending::<()>().await;
    }
    Ok(())
}

async fn set_up() -> Result<Stage> {
    title("Three Kubernetes clusters, etcd, and two managers");
    let mut options = FleetOptions::of(REGIONS.len());
    for (cluster, (name, region)) in options.clusters.iter_mut().zip(REGIONS) {
        (cluster.name, cluster.region) = (name.to_owned(), region.to_owned());
    }
    let with_content = content::is_possible();
    if with_content {
        options.clusters.extend(FleetOptions::of_real_nodes(&content::CLUSTERS).clusters);
    }
    let fleet = Fleet::boot(options).await?;
    let mut agents = Vec::new();
    let mut installation = Installation::new(fleet.assets(), &fleet.dir().join("spaceport"), fleet.etcd())?;
    installation.overrides = manager_settings();
    for cluster in fleet.clusters().iter().take(REGIONS.len()) {
        let kubeconfig = prepare_member(cluster).await?;
        installation.cluster_file(cluster.name(), cluster.region(), &kubeconfig)?;
        agents.push(NodeAgent::start(&cluster.client(), Pace::default()));
    }
    let mut replicas = Vec::new();
    for name in ["manager-a", "manager-b"] {
        replicas.push(installation.start(name).await?);
        println!("{name} is ready");
    }
    let content = if with_content { Some(Content::set_up(&fleet, &installation).await?) } else { None };
    Ok(Stage { installation, replicas, _agents: agents, content, fleet })
}

async fn register(stage: &Stage) -> Result<()> {
    title("Registering the clusters");
    for (name, _) in REGIONS {
        let file = stage.file_of(name);
        stage.cli(&["cluster", "register", "-f", &file.to_string_lossy()]).await?;
    }
    let available = || async {
        let clusters = stage.json(&["cluster", "list"]).await?;
        let clusters = clusters.as_array().cloned().unwrap_or_default();
        ensure!(clusters.len() == REGIONS.len(), "{} clusters are registered", clusters.len());
        for cluster in clusters {
            let health = text(&cluster["status"]["health"]);
            ensure!(health.eq_ignore_ascii_case("available"), "a cluster is {health}");
        }
        Ok(())
    };
    until("all clusters to be available", available).await?;
    stage.cli(&["cluster", "list"]).await.map(drop)
}

async fn start_a_dozen(stage: &Stage) -> Result<()> {
    title("A dozen workspaces for different regions");
    stage.start("demo-1", &["--region", REGIONS[0].1, "--wait"]).await?;
    let rest = (2..=WORKSPACES).map(|n| async move {
        let region = REGIONS[(n - 1) % REGIONS.len()].1;
        stage
            .quietly(&[
                "workspace",
                "start",
                "--id",
                &format!("demo-{n}"),
                "--image",
                "demo:1",
                "--region",
                region,
            ])
            .await
    });
    for output in futures::future::join_all(rest).await {
        output?;
    }
    stage.running(WORKSPACES).await?;
    stage.cli(&["workspace", "list"]).await?;
    for (id, workspace) in stage.workspaces().await? {
        let number: usize = id.trim_start_matches("demo-").parse().context("an unexpected workspace")?;
        let wanted = REGIONS[(number - 1) % REGIONS.len()].0;
        ensure!(text(&workspace["cluster"]) == wanted, "{id} is not on {wanted}");
    }
    Ok(())
}

async fn cordon(stage: &Stage) -> Result<()> {
    title("Europe is cordoned: its users land elsewhere");
    stage.cli(&["cluster", "cordon", "eu-1"]).await?;
    for id in ["moved-1", "moved-2"] {
        stage.start(id, &["--region", "europe", "--wait"]).await?;
    }
    let workspaces = stage.workspaces().await?;
    for id in ["moved-1", "moved-2"] {
        let cluster = text(&workspaces.get(id).context("a workspace is missing")?["cluster"]);
        ensure!(cluster != "eu-1", "{id} is on the cordoned cluster");
    }
    let on_europe = workspaces.values().filter(|workspace| text(&workspace["cluster"]) == "eu-1").count();
    ensure!(on_europe == WORKSPACES / REGIONS.len(), "the cordon changed what runs in Europe");
    stage.cli(&["cluster", "uncordon", "eu-1"]).await.map(drop)
}

async fn lose_the_leader(stage: &mut Stage) -> Result<()> {
    title("The leader dies: the standby takes over");
    stage.cli(&["cluster", "leader"]).await?;
    let leader = text(&stage.json(&["cluster", "leader"]).await?["replica"]);
    let at = stage.replicas.iter().position(|replica| replica.name == leader);
    let dead =
        stage.replicas.remove(at.with_context(|| format!("{leader} is not one of the demo's replicas"))?);
    println!("$ kill -9 {}   # {leader}", dead.process.pid());
    dead.process.kill().await?;
    let died = Instant::now();
    stage.start("after-the-crash", &["--region", "asia", "--timeout", "30s"]).await?;
    println!("acknowledged {:.1} s after the death of {leader}", died.elapsed().as_secs_f64());
    stage.running(WORKSPACES + 3).await?;
    let successor = text(&stage.json(&["cluster", "leader"]).await?["replica"]);
    ensure!(successor != leader, "the dead replica still leads");
    stage.cli(&["cluster", "leader"]).await.map(drop)
}

async fn stop_some(stage: &Stage) -> Result<()> {
    title("Some workspaces stop: backed up, and gone");
    let stopped: BTreeSet<String> = (1..=4).map(|n| format!("demo-{n}")).collect();
    for id in &stopped {
        stage.cli(&["workspace", "stop", id]).await?;
    }
    let gone = || async {
        let left = stage.workspaces().await?;
        let still: Vec<&String> = stopped.iter().filter(|id| left.contains_key(*id)).collect();
        ensure!(still.is_empty(), "{still:?} are still there");
        Ok(())
    };
    until("the stopped workspaces to disappear", gone).await?;
    ensure!(stage.workspaces().await?.len() == WORKSPACES + 3 - stopped.len(), "others are gone, too");
    Ok(())
}

impl Stage {
    /// Runs the CLI as an admin and prints command and output; fails if it fails.
    async fn cli(&self, args: &[&str]) -> Result<String> {
        println!("{}", command(args));
        let output = self.run(args).await?;
        print!("{}{}", output.stderr, output.stdout);
        Ok(output.stdout)
    }

    async fn quietly(&self, args: &[&str]) -> Result<String> {
        Ok(self.run(args).await?.stdout)
    }

    /// Runs the CLI as an admin; fails if it fails.
    async fn run(&self, args: &[&str]) -> Result<Output> {
        let replicas: Vec<&Replica> = self.replicas.iter().collect();
        let output = self.installation.cli(&replicas, args).await?;
        if output.code != 0 {
            bail!("spaceport {} ended with {}: {}", args.join(" "), output.code, output.stderr.trim());
        }
        Ok(output)
    }

    async fn json(&self, args: &[&str]) -> Result<Value> {
        let printed = self.quietly(&[args, &["-o", "json"]].concat()).await?;
        serde_json::from_str(&printed).with_context(|| format!("not JSON: {printed}"))
    }

    async fn start(&self, id: &str, args: &[&str]) -> Result<()> {
        let start = ["workspace", "start", "--id", id, "--image", "demo:1"];
        self.cli(&[&start, args].concat()).await.map(drop)
    }

    /// All workspaces by id, as the CLI prints them.
    async fn workspaces(&self) -> Result<BTreeMap<String, Value>> {
        let listed = self.json(&["workspace", "list"]).await?;
        let listed = listed.as_array().cloned().context("the list is no list")?;
        Ok(listed.into_iter().map(|workspace| (text(&workspace["id"]), workspace)).collect())
    }

    /// Waits until there are exactly `count` workspaces and all of them are running.
    async fn running(&self, count: usize) -> Result<()> {
        let all = || async {
            let workspaces = self.workspaces().await?;
            ensure!(workspaces.len() == count, "{} workspaces are there", workspaces.len());
            for (id, workspace) in workspaces {
                let phase = text(&workspace["phase"]);
                ensure!(phase.eq_ignore_ascii_case("running"), "{id} is {phase}: {}", workspace["message"]);
            }
            Ok(())
        };
        until("all workspaces to run", all).await
    }

    /// Prints commands to try.
    fn invite(&self) -> Result<()> {
        let program = program()?;
        let folder = program.parent().context("the program is in no folder")?;
        let replicas: Vec<&Replica> = self.replicas.iter().collect();
        println!("\nIt stays up until Ctrl-C. In another terminal, paste:\n");
        println!("  export PATH={}:$PATH", folder.display());
        for (name, value) in self.installation.cli_env(&replicas) {
            println!("  export {name}={value}");
        }
        println!("\nand try:\n");
        println!("  spaceport status");
        println!("  spaceport workspace start --image demo:1 --region europe --wait");
        println!("  spaceport workspace watch");
        println!("  spaceport cluster cordon us-1");
        if let Some(content) = &self.content {
            content::invite(content);
        }
        println!(
            "\nThe cluster file of {}, and kubectl with the kubeconfig of each cluster:\n",
            REGIONS[0].0
        );
        println!("  cat {}", self.file_of(REGIONS[0].0).display());
        for cluster in self.fleet.clusters() {
            println!("  kubectl --kubeconfig {} get workspaces -A", cluster.kubeconfig().display());
        }
        Ok(())
    }

    /// The cluster file of a cluster.
    fn file_of(&self, cluster: &str) -> PathBuf {
        self.installation.dir().join(format!("cluster-{cluster}.yaml"))
    }
}

fn title(text: &str) {
    println!("\n== {text}");
}

/// Formats a command line so that a shell accepts it, in lines of at most 80 columns unless an argument is longer.
fn command(args: &[&str]) -> String {
    let (mut text, mut column) = ("$ spaceport".to_owned(), "$ spaceport".len());
    for arg in args {
        let quoted = if arg.contains([' ', '>']) { format!("'{arg}'") } else { (*arg).to_owned() };
        let arg = quoted.as_str();
        if column + 1 + arg.len() > LINE {
            text.push_str(" \\\n   ");
            column = 3;
        }
        text.push(' ');
        text.push_str(arg);
        column += 1 + arg.len();
    }
    text
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Retries a check until it succeeds; fails with its last error.
async fn until<F: Future<Output = Result<()>>>(what: &str, mut check: impl FnMut() -> F) -> Result<()> {
    let mut last = None;
    let asking = async {
        while let Err(error) = check().await {
            last = Some(error);
            sleep(Duration::from_millis(200)).await;
        }
    };
    if timeout(STEP, asking).await.is_ok() {
        return Ok(());
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("no answer")))
        .with_context(|| format!("waited {STEP:?} for {what}"))
}
