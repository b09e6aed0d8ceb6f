//! Test harness: real etcd and real Kubernetes control planes on this machine, for tests, demo and benchmarks.
//!
//! A [`fleet::Fleet`] is Spaceport's own etcd and any number of [`cluster::Cluster`]s, each with its own etcd,
//! apiserver, scheduler, controller-manager and KWOK-simulated nodes. Everything listens on loopback, on ports that the
//! system chooses, and ends with the process that started it, even if that is killed ([`process`]).
//!
//! `stages/` beside this folder defines how simulated pods behave: the pod annotation `e2e.spaceport.dev/pod` requests
//! a failure ([`annotations`]), and [`node_agent`] simulates the node agent.
#![allow(dead_code, unused_imports, reason = "each target that includes this module uses a part of it")]

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};

pub mod apply;
pub mod assets;
pub mod cluster;
pub mod control_plane;
pub mod etcd;
pub mod faults;
pub mod fence;
pub mod fleet;
pub mod gcs_double;
pub mod http;
pub mod interrupt;
pub mod listing;
pub mod node_agent;
pub mod nodes;
pub mod pki;
pub mod process;
pub mod real_agent;
pub mod real_node;
pub mod s3;
pub mod spaceport;

pub use assets::Assets;
pub use cluster::{Cluster, ClusterOptions, Part, Versions, Writers};
pub use control_plane::Audit;
pub use etcd::{Etcd, EtcdOptions, EtcdSecurity};
pub use faults::{Answer, Carried, Fault, Flood, Proxy, Rule, Way};
pub use fleet::{Fleet, FleetOptions};
pub use gcs_double::GcsDouble;
pub use http::{GitServer, HttpFiles, Registry, Trouble};
pub use interrupt::{Interrupt, unless_interrupted};
pub use listing::Listing;
pub use node_agent::NodeAgent;
pub use nodes::NodeSize;
pub use process::{Launch, Process, Signal};
pub use real_agent::{AgentOptions, RealAgent};
pub use real_node::{NodePart, RealNode, RealNodeOptions, Traces};
pub use s3::{S3Answer, S3Options, S3Proxy, S3Request, S3Server};

/// Runs a test on one runtime that all tests of this process share. A client or a fleet made in a `#[tokio::test]`
/// stops working when that test ends, because its tasks end with its runtime; made here, it serves all tests.
pub fn block_on<T>(test: impl Future<Output = Result<T>>) -> Result<T> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if RUNTIME.get().is_none() {
        // Two threads may both create one; the second is dropped unused.
        let _ = RUNTIME.set(Runtime::new().context("no async runtime")?);
    }
    RUNTIME.get().context("no async runtime")?.block_on(test)
}

/// Timeout of one check of [`until`].
const ONE_ANSWER: Duration = Duration::from_mins(1);

/// Retries a check until it succeeds; fails with its last error.
pub async fn until(within: Duration, what: &str, mut check: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let give_up = Instant::now() + within;
    loop {
        let answer = timeout(within + ONE_ANSWER, check()).await;
        match answer.unwrap_or_else(|_| Err(anyhow!("there is no answer at all"))) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > give_up => {
                return Err(error.context(format!("waited {within:?} for {what}")));
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Annotations that make a simulated pod misbehave. Tests set them on the Workspace; the configuration passes them on.
pub mod annotations {
    /// `slow-start`, `never-ready`, `image-pull-error`, `image-pull-flaky`, `reject`, `complete`, `crash`, `oom`, `evict`.
    pub const POD: &str = "e2e.spaceport.dev/pod";
    /// How long a pod stays in ContainerCreating (or in its one pull error), such as `2s`.
    pub const START_DELAY: &str = "e2e.spaceport.dev/start-delay";
    /// How long a pod runs before it completes, crashes, is out of memory or evicted, such as `1500ms`.
    pub const FAIL_AFTER: &str = "e2e.spaceport.dev/fail-after";
    /// How long a running pod takes to stop once it is deleted, such as `3s`.
    pub const STOP_DELAY: &str = "e2e.spaceport.dev/stop-delay";
    /// Termination message of a crashed container.
    pub const MESSAGE: &str = "e2e.spaceport.dev/message";
    /// Reason of a rejected pod, such as `NodeAffinity`.
    pub const REASON: &str = "e2e.spaceport.dev/reason";
    /// Content initialisation: `fail` or `hang`.
    pub const INIT: &str = "e2e.spaceport.dev/init";
    /// Milliseconds that content initialisation takes.
    pub const INIT_DELAY_MS: &str = "e2e.spaceport.dev/init-delay-ms";
    /// Backup, or wiping after a rejection, or a snapshot: `fail` or `hang`.
    pub const BACKUP: &str = "e2e.spaceport.dev/backup";
    /// Milliseconds that a backup takes.
    pub const BACKUP_DELAY_MS: &str = "e2e.spaceport.dev/backup-delay-ms";
}
