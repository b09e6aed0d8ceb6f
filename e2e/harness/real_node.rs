//! A real node: kubelet, containerd, runc and a bridge network in namespaces of their own.
//!
//! `nodebox` (`e2e/controlplane/nodebox`) makes the namespaces: mounts, processes, network. containerd and the kubelet
//! run in there with default paths, because /var, /run and /tmp are the node's own; its /var is `<dir>/var` here. When
//! nodebox ends, and it ends with this process whatever kills that, the kernel ends containers, mounts and network with
//! the namespaces. [`Traces`] proves it.
//!
//! The node reaches the apiserver through a [`Proxy`], so a test can cut it off. Images come from a [`Registry`] of the
//! harness under every name, and a program of a test runs in the node by [`RealNode::inside`].

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::assets::{Assets, target_dir};
use super::faults::Proxy;
use super::http::Registry;
use super::http::image::Image;
use super::pki::Authority;
use super::process::{Launch, Process, Signal, fresh_dir};

mod files;
mod requirements;
mod subnet;
mod traces;

pub use files::REGISTRY;
pub use requirements::{available, missing};
pub use subnet::Subnet;
pub use traces::Traces;

use files::{Files, SOCKET};

const READY: Duration = Duration::from_mins(1);
/// Makes and lists trees of files; in the image, too (`controlplane/filetree`).
pub const FILETREE: &str = "filetree";
const GRACE: Duration = Duration::from_secs(10);
const LABELS: &str = "gitpod.io/workload_workspace_regular=true,gitpod.io/workload_workspace_headless=true";
/// Nobody's proxy is to be asked for the node's network.
pub(super) const NO_PROXY: (&str, &str) = ("NO_PROXY", "127.0.0.1,localhost,198.18.0.0/15");

/// Options of a real node.
#[derive(Clone, Debug, Default)]
pub struct RealNodeOptions {
    /// Merged into the kubelet's configuration, by its top-level keys.
    pub kubelet: Value,
}

/// What the node's programs need of the cluster.
pub(super) struct Member<'a> {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) api: SocketAddr,
    pub(super) authority: &'a Authority,
}

/// A program of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePart {
    /// containerd. Its containers run on without it.
    Containerd,
    /// The kubelet.
    Kubelet,
}

/// A running node. Dropping it ends it like a power cut.
pub struct RealNode {
    name: String,
    dir: PathBuf,
    subnet: Subnet,
    pid: u32,
    traces: Traces,
    assets: Arc<Assets>,
    // Programs are dropped before the machine that they run on.
    running: Mutex<Vec<(NodePart, Arc<Process>)>>,
    machine: Process,
    api: Proxy,
    registry: Registry,
}

impl RealNode {
    /// Starts the machine, containerd and the kubelet, which registers the node.
    pub(super) async fn start(
        assets: &Arc<Assets>,
        member: Member<'_>,
        subnet: Subnet,
        options: &RealNodeOptions,
    ) -> Result<Self> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let Member { name, dir, api, authority } = member;
        fresh_dir(&dir)?;
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("spaceport-e2e-{}-{number}", std::process::id());
        let machine = Process::start(assets, &machine(assets, &dir, &name, &cgroup, &subnet)?).await?;
        let pid = first_process(&machine, &dir).await?;
        let traces = Traces::of(pid, subnet.link(), cgroup.clone(), &dir)?;
        let host = IpAddr::from(subnet.host());
        let api = Proxy::at(host, api).await?;
        let filetree = assets.program(FILETREE);
        let filetree = fs::read(&filetree).with_context(|| format!("cannot read {}", filetree.display()))?;
        let image = Image::of_busybox(&[("bin/filetree", 0o755, &filetree)])?;
        let registry = Registry::start(host, image).await?;
        let files = Files {
            dir: &dir,
            name: &name,
            subnet: &subnet,
            authority,
            api: api.url("https"),
            registry: registry.address(),
            kubelet: &options.kubelet,
        };
        files.write()?;
        let (assets, running) = (Arc::clone(assets), Mutex::default());
        let node = Self { name, dir, subnet, pid, traces, assets, running, machine, api, registry };
        node.start_part(NodePart::Containerd).await?;
        node.start_part(NodePart::Kubelet).await?;
        Ok(node)
    }

    /// Name of the Node object.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Address of this machine for servers that the node and its pods shall reach.
    pub fn host_address(&self) -> IpAddr {
        self.subnet.host().into()
    }

    /// Its own address, which this machine reaches.
    pub fn address(&self) -> IpAddr {
        self.subnet.node().into()
    }

    /// Where a folder or file below the node's /var is on this machine.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.dir.join(inside.trim_start_matches('/'))
    }

    /// Folder of the node's files and logs; it has the same path inside.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The apiserver, as the node reaches it. A fault cuts off the node alone.
    pub fn api(&self) -> &Proxy {
        &self.api
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// How to recognize what it left.
    pub fn traces(&self) -> Traces {
        self.traces.clone()
    }

    /// Makes a program run in the node's namespaces.
    #[must_use]
    pub fn inside(&self, launch: Launch) -> Launch {
        Launch { inside: Some(self.pid), ..launch }
    }

    /// The process of a program, if it is running.
    pub fn process(&self, part: NodePart) -> Option<Arc<Process>> {
        self.running.lock().iter().find(|(p, _)| *p == part).map(|(_, process)| Arc::clone(process))
    }

    /// Starts a program that has ended.
    pub async fn start_part(&self, part: NodePart) -> Result<()> {
        if self.process(part).is_some_and(|process| process.is_running()) {
            return Ok(());
        }
        let launch = match part {
            NodePart::Containerd => self.containerd(),
            NodePart::Kubelet => self.kubelet(),
        };
        let process = Process::start(&self.assets, &self.inside(launch)).await?;
        if part == NodePart::Containerd {
            let socket = PathBuf::from(format!("/proc/{}/root{SOCKET}", self.pid));
            let connects = async || {
                UnixStream::connect(&socket).await?;
                Ok(())
            };
            process.ready(READY, connects).await?;
        }
        let mut running = self.running.lock();
        running.retain(|(p, _)| *p != part);
        running.push((part, Arc::new(process)));
        Ok(())
    }

    /// Asks a program to end. Containers go on.
    pub async fn stop_part(&self, part: NodePart) -> Result<()> {
        if let Some(process) = self.process(part) {
            process.stop(GRACE).await?;
        }
        Ok(())
    }

    /// Kills a program. Containers go on.
    pub async fn kill_part(&self, part: NodePart) -> Result<()> {
        if let Some(process) = self.process(part) {
            process.kill().await?;
        }
        Ok(())
    }

    /// Whether its machine runs.
    pub fn is_running(&self) -> bool {
        self.machine.is_running()
    }

    fn containerd(&self) -> Launch {
        let config = self.dir.join("containerd.toml").display().to_string();
        self.launch("containerd", Path::new("containerd"), vec!["--config".to_owned(), config])
    }

    fn kubelet(&self) -> Launch {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let args = vec![
            "shield".to_owned(),
            self.assets.program("kubelet").display().to_string(),
            format!("--config={}", file("kubelet.json")),
            format!("--kubeconfig={}", file("kubelet.kubeconfig")),
            format!("--node-ip={}", self.subnet.node()),
            format!("--hostname-override={}", self.name),
            format!("--node-labels={LABELS}"),
        ];
        self.launch("kubelet", &self.assets.nodebox(), args)
    }

    fn launch(&self, program: &str, path: &Path, args: Vec<String>) -> Launch {
        let log = self.dir.join(format!("{program}.log"));
        let mut launch = Launch::new(&format!("{program} of node {}", self.name), path, args, &log);
        launch.env.push((NO_PROXY.0.to_owned(), NO_PROXY.1.to_owned()));
        launch
    }
}

/// nodebox. It removes the control groups when it is asked to end.
fn machine(assets: &Assets, dir: &Path, name: &str, cgroup: &str, subnet: &Subnet) -> Result<Launch> {
    let target = target_dir()?;
    fs::create_dir_all(dir.join("var")).context("no folder for the node's /var")?;
    let mut args: Vec<String> = Vec::new();
    for (flag, value) in [
        ("-dir", dir.display().to_string()),
        ("-name", name.to_owned()),
        ("-cgroup", cgroup.to_owned()),
        ("-link", subnet.link()),
        ("-host", subnet.host().to_string()),
        ("-node", subnet.node().to_string()),
        ("-pods", subnet.pods()),
    ] {
        args.extend([flag.to_owned(), value]);
    }
    // The programs and the files of this run, and what KUBEBUILDER_ASSETS names.
    for folder in
        [Some(target), assets.program("kubelet").parent().map(Path::to_path_buf)].into_iter().flatten()
    {
        if ["/var", "/run", "/tmp"].iter().any(|own| folder.starts_with(own)) {
            args.extend(["-keep".to_owned(), folder.display().to_string()]);
        }
    }
    let launch =
        Launch::new(&format!("machine of node {name}"), &assets.nodebox(), args, &dir.join("nodebox.log"));
    Ok(Launch { ends_by: Signal::Term, ..launch })
}

async fn first_process(machine: &Process, dir: &Path) -> Result<u32> {
    let (file, mut pid) = (dir.join("node.pid"), None);
    machine
        .ready(READY, async || {
            pid = Some(tokio::fs::read_to_string(&file).await?.parse()?);
            Ok(())
        })
        .await?;
    pid.context("nodebox reports no process")
}

/// Settings of a manager whose workspaces run on real nodes: images come from [`REGISTRY`].
pub fn manager_settings() -> Value {
    json!({ "manager": { "registryFacadeHost": REGISTRY } })
}
