//! An admin who cordons or drains one cluster after the other and opens it again, through a random replica, and records
//! what was acknowledged.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;
use proto::spaceport::v1::{
    ChangeDrainRequest, CordonRequest, GetDrainRequest, StartDrainRequest, UncordonRequest,
    change_drain_request::Change, cluster_manager_client::ClusterManagerClient,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::history::{Act, AdminCall};
use super::rng::Rng;
use super::stage::{Stage, now};

/// Timeout of one call, connecting included.
const CALL: Duration = Duration::from_secs(5);
/// How long a cluster stays closed, in milliseconds.
const CLOSED: Range<u64> = 1_000..4_000;
/// Delay between two clusters, in milliseconds.
const PAUSE: Range<u64> = 300..1_500;
/// Delay between two tries.
const AGAIN: Duration = Duration::from_millis(300);
/// How long a drain may take to stop its first workspace.
const STOPPED: Duration = Duration::from_secs(20);
/// Timeout of everything else that must happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// Calls of the admin.
pub type Acts = Arc<Mutex<Vec<AdminCall>>>;
type Manager = ClusterManagerClient<Channel>;

pub struct Admin {
    rng: Rng,
    stage: Arc<Stage>,
    acts: Acts,
}

impl Admin {
    pub fn new(seed: u64, stage: &Arc<Stage>, acts: &Acts) -> Self {
        Self { rng: Rng::new(seed, "admin"), stage: Arc::clone(stage), acts: Arc::clone(acts) }
    }

    /// Closes and opens clusters until `end`; cordons one and drains one in any case.
    pub async fn run(&mut self, end: &CancellationToken) -> Result<()> {
        for act in self.rng.shuffled(vec![Act::Cordon, Act::Drain]) {
            let give_up = Instant::now() + PATIENCE;
            // The cluster may have no workspace to stop.
            while !self.close_and_open(act).await? {
                ensure!(Instant::now() < give_up, "no drain stopped anybody");
            }
        }
        while !end.is_cancelled() {
            let act = if self.rng.chance(50) { Act::Cordon } else { Act::Drain };
            let cluster = self.cluster()?;
            // Without a response it may be closed all the same.
            let _ = self.act(act, &cluster).await;
            sleep(self.rng.millis(CLOSED)).await;
            self.open(act, &cluster).await?;
        }
        Ok(())
    }

    /// Closes a cluster until that is acknowledged, and opens it again; returns whether a drain stopped a workspace.
    async fn close_and_open(&mut self, act: Act) -> Result<bool> {
        let cluster = self.cluster()?;
        self.until_taken(act, &cluster).await?;
        sleep(self.rng.millis(CLOSED)).await;
        let enough = act == Act::Cordon || self.stops_somebody(&cluster).await;
        self.open(act, &cluster).await?;
        Ok(enough)
    }

    fn cluster(&mut self) -> Result<String> {
        let names: Vec<&str> = self.stage.clusters.iter().map(|cluster| cluster.name()).collect();
        self.rng.pick(&names).map(|name| (*name).to_owned()).context("no clusters")
    }

    async fn open(&mut self, act: Act, cluster: &str) -> Result<()> {
        self.until_taken(if act == Act::Drain { Act::CancelDrain } else { Act::Uncordon }, cluster).await?;
        sleep(self.rng.millis(PAUSE)).await;
        Ok(())
    }

    async fn until_taken(&mut self, act: Act, cluster: &str) -> Result<()> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match self.act(act, cluster).await {
                Ok(()) => return Ok(()),
                // There is no drain: the start of it was never carried out.
                Err(status) if act == Act::CancelDrain && status.code() == Code::NotFound => return Ok(()),
                Err(status) => ensure!(Instant::now() < give_up, "{act:?} of {cluster}: {status}"),
            }
            sleep(AGAIN).await;
        }
    }

    /// Whether the drain of a cluster stops a workspace; waits for it if there is one.
    async fn stops_somebody(&mut self, cluster: &str) -> bool {
        let give_up = Instant::now() + STOPPED;
        loop {
            let request = GetDrainRequest { name: cluster.to_owned() };
            let seen = self.call(async |mut manager| manager.get_drain(request).await).await;
            let counts = seen.ok().and_then(|seen| seen.into_inner().drain?.counts);
            if let Some(counts) = counts
                && (counts.stopped > 0 || counts.left == 0)
            {
                return counts.stopped > 0;
            }
            if Instant::now() >= give_up {
                return false;
            }
            sleep(AGAIN).await;
        }
    }

    /// Makes one call and records it.
    async fn act(&mut self, act: Act, cluster: &str) -> Result<(), Status> {
        let (sent, name) = (now(), cluster.to_owned());
        let deadline = self.rng.millis(100..1_500);
        let outcome = self
            .call(async |mut manager| match act {
                Act::Cordon => manager.cordon(CordonRequest { name }).await.map(drop),
                Act::Uncordon => manager.uncordon(UncordonRequest { name }).await.map(drop),
                Act::Drain => manager.start_drain(drain(name, deadline)).await.map(drop),
                Act::CancelDrain => {
                    let change = Change::Cancel.into();
                    manager
                        .change_drain(ChangeDrainRequest { name, change, workspaces: Vec::new() })
                        .await
                        .map(drop)
                }
            })
            .await;
        let (cluster, acknowledged) = (cluster.to_owned(), outcome.is_ok());
        self.acts.lock().push(AdminCall { cluster, act, sent, answered: now(), acknowledged });
        outcome
    }

    /// Calls a random replica, within the timeout of a call.
    async fn call<T>(&mut self, call: impl AsyncFnOnce(Manager) -> Result<T, Status>) -> Result<T, Status> {
        let replicas = self.stage.replicas();
        let replica = self.rng.pick(&replicas).cloned().ok_or_else(|| Status::unavailable("no replicas"))?;
        let calling = async {
            let manager = self.stage.installation.clusters(&replica).await;
            call(manager.map_err(|error| Status::unavailable(format!("cannot connect: {error:#}")))?).await
        };
        timeout(CALL, calling).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
    }
}

/// A drain with a short deadline that does not need capacity elsewhere.
fn drain(name: String, deadline: Duration) -> StartDrainRequest {
    StartDrainRequest {
        name,
        deadline: prost_types::Duration::try_from(deadline).ok(),
        rate_per_minute: 300,
        max_concurrent: 5,
        accept_no_room: true,
        ..StartDrainRequest::default()
    }
}
