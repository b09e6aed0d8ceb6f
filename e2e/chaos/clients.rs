//! Clients that start, stop, use and repeat calls at random, through a random replica, and record the responses.
//!
//! A client never starts a workspace again that it asked to stop, and stops only acknowledged ones. It repeats calls
//! without a response. If an acknowledged start is rejected because the workspace has ended, as after a drain, it
//! forgets the workspace: the checker decides whether that was allowed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;
use proto::contentservice::{EmptyInitializer, WorkspaceInitializer, workspace_initializer};
use proto::wsman::{
    MarkActiveRequest, Placement, StartWorkspaceRequest, StartWorkspaceSpec, StopWorkspaceRequest,
    WorkspaceMetadata, workspace_manager_client::WorkspaceManagerClient,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

use super::history::{Answer, Asked, Call, Outcome};
use super::rng::Rng;
use super::stage::{Stage, now};

/// Timeout of one call, connecting included.
const CALL: Duration = Duration::from_secs(5);
/// Delay between two calls of a client, in milliseconds.
const PAUSE: std::ops::Range<u64> = 20..300;
/// Workspaces that a client has at a time.
const AT_A_TIME: usize = 5;
/// Long-lived ids that all clients share, so that they collide.
const METAS: u64 = 24;
/// How long it may take until a repeated start is acknowledged after the last fault.
const REPEAT: Duration = Duration::from_mins(1);

/// A connection to a replica.
pub type Connection = WorkspaceManagerClient<Channel>;
/// Calls of all clients.
pub type Calls = Arc<Mutex<Vec<Call>>>;

pub struct Client {
    name: String,
    rng: Rng,
    stage: Arc<Stage>,
    calls: Calls,
    connections: Vec<Option<(String, Connection)>>,
    made: usize,
    /// Workspaces that it started and did not ask to stop.
    started: Vec<Started>,
    /// Workspaces that it asked to stop.
    stopped: Vec<String>,
}

#[derive(Clone)]
struct Started {
    request: StartWorkspaceRequest,
    acknowledged: bool,
}

impl Client {
    /// A client of this name; the name selects its random choices.
    pub fn new(name: &str, seed: u64, stage: &Arc<Stage>, calls: &Calls) -> Self {
        Self {
            name: name.to_owned(),
            rng: Rng::new(seed, name),
            stage: Arc::clone(stage),
            calls: Arc::clone(calls),
            connections: Vec::new(),
            made: 0,
            started: Vec::new(),
            stopped: Vec::new(),
        }
    }

    /// Calls at random until `end`.
    pub async fn run(&mut self, end: &CancellationToken) {
        while !end.is_cancelled() {
            match self.rng.below(100) {
                0..40 if self.started.len() < AT_A_TIME => self.begin().await,
                0..55 => self.repeat().await,
                55..70 => self.mark_active().await,
                70..86 => self.stop().await,
                86..95 => self.stop_again().await,
                _ => self.contradict().await,
            }
            sleep(self.rng.millis(PAUSE)).await;
        }
    }

    /// Repeats every acknowledged start until it is acknowledged again: without faults it must be, unless the workspace
    /// has ended.
    pub async fn confirm(&mut self) -> Result<()> {
        let acknowledged = self.started.clone().into_iter().filter(|start| start.acknowledged);
        for start in acknowledged {
            let give_up = Instant::now() + REPEAT;
            while let Err(status) = self.start(&start.request).await {
                let id = &start.request.id;
                if status.code() == Code::AlreadyExists {
                    break;
                }
                ensure!(
                    is_ambiguous(&status) && Instant::now() < give_up,
                    "the repeated start of {id} is refused: {status}"
                );
                sleep(Duration::from_millis(200)).await;
            }
        }
        Ok(())
    }

    async fn begin(&mut self) {
        let id = format!("{}-{}", self.name, self.made);
        self.made += 1;
        let meta = format!("meta-{}", self.rng.below(METAS));
        let regions: Vec<String> = self.stage.clusters.iter().map(|one| one.region().to_owned()).collect();
        let region = self.rng.pick(&regions).cloned();
        let request = request(&id, &meta, region.into_iter().collect());
        self.started.push(Started { request, acknowledged: false });
        self.start_at(self.started.len() - 1).await;
    }

    async fn repeat(&mut self) {
        if let Some(at) = self.rng.place(self.started.len()) {
            self.start_at(at).await;
        }
    }

    /// Sends a start; forgets it if it is rejected for good.
    async fn start_at(&mut self, at: usize) {
        let Some(Started { request, acknowledged }) = self.started.get(at).cloned() else { return };
        let outcome = self.start(&request).await;
        match (outcome, self.started.get_mut(at)) {
            (Ok(()), Some(start)) => start.acknowledged = true,
            (Err(status), Some(_))
                if !is_ambiguous(&status) && (!acknowledged || status.code() == Code::AlreadyExists) =>
            {
                self.started.swap_remove(at);
            }
            _ => {}
        }
    }

    /// Sends another request under an id in use.
    async fn contradict(&mut self) {
        let Some(start) = self.rng.pick(&self.started).filter(|start| start.acknowledged) else { return };
        let mut request = start.request.clone();
        if let Some(spec) = &mut request.spec {
            "image:2".clone_into(&mut spec.workspace_image);
        }
        let _ = self.start(&request).await;
    }

    /// Marks an acknowledged workspace as active.
    async fn mark_active(&mut self) {
        let Some(at) = self.acknowledged() else { return };
        let Some(id) = self.started.get(at).map(|start| start.request.id.clone()) else { return };
        let sent = now();
        let call = MarkActiveRequest { id: id.clone(), ..MarkActiveRequest::default() };
        let outcome = self.call(async |mut connection| connection.mark_active(call).await).await;
        let outcome = match outcome {
            Ok(_) => Outcome::Marked,
            Err(status) => failed(&status),
        };
        self.note(id, Asked::Activity, sent, outcome);
    }

    /// Index of an acknowledged workspace.
    fn acknowledged(&mut self) -> Option<usize> {
        let acknowledged = |(at, start): (usize, &Started)| start.acknowledged.then_some(at);
        let which: Vec<usize> = self.started.iter().enumerate().filter_map(acknowledged).collect();
        self.rng.pick(&which).copied()
    }

    async fn stop(&mut self) {
        let Some(at) = self.acknowledged() else { return };
        let id = self.started.swap_remove(at).request.id;
        self.stopped.push(id.clone());
        self.send_stop(id).await;
    }

    async fn stop_again(&mut self) {
        if let Some(id) = self.rng.pick(&self.stopped).cloned() {
            self.send_stop(id).await;
        }
    }

    async fn send_stop(&mut self, id: String) {
        let sent = now();
        let call = StopWorkspaceRequest { id: id.clone(), policy: 0 };
        let outcome = self.call(async |mut connection| connection.stop_workspace(call).await).await;
        let outcome = match outcome {
            Ok(_) => Outcome::Stopped,
            Err(status) => failed(&status),
        };
        self.note(id, Asked::Stop, sent, outcome);
    }

    async fn start(&mut self, request: &StartWorkspaceRequest) -> Result<(), Status> {
        let (sent, call) = (now(), request.clone());
        let outcome = self.call(async |mut connection| connection.start_workspace(call).await).await;
        let (noted, outcome) = match outcome {
            Ok(answer) => {
                let answer = answer.into_inner();
                let access = format!("{} {}", answer.url, answer.owner_token);
                (Outcome::Started(Answer { cluster: answer.cluster, access }), Ok(()))
            }
            Err(status) => (failed(&status), Err(status)),
        };
        let meta = request.metadata.as_ref().map(|metadata| metadata.meta_id.clone()).unwrap_or_default();
        let content = request.spec.as_ref().map(|spec| spec.workspace_image.clone()).unwrap_or_default();
        self.note(request.id.clone(), Asked::Start { meta, content }, sent, noted);
        outcome
    }

    /// Calls a random replica, within the timeout of a call.
    async fn call<T>(
        &mut self,
        call: impl AsyncFnOnce(Connection) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let place = self.rng.place(self.stage.replicas().len()).unwrap_or(0);
        let outcome = timeout(CALL, async {
            let connection = self
                .connection(place)
                .await
                .map_err(|error| Status::unavailable(format!("cannot connect: {error:#}")))?;
            call(connection).await
        });
        let outcome = outcome.await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        if outcome.as_ref().is_err_and(is_ambiguous)
            && let Some(connection) = self.connections.get_mut(place)
        {
            *connection = None;
        }
        outcome
    }

    async fn connection(&mut self, place: usize) -> Result<Connection> {
        let replicas = self.stage.replicas();
        let replica = replicas.get(place).context("no such replica")?;
        self.connections.resize_with(replicas.len(), || None);
        match self.connections.get(place) {
            Some(Some((endpoint, connection))) if *endpoint == replica.endpoint => Ok(connection.clone()),
            _ => {
                let connection = self.stage.installation.workspaces(replica).await?;
                self.connections[place] = Some((replica.endpoint.clone(), connection.clone()));
                Ok(connection)
            }
        }
    }

    fn note(&self, id: String, asked: Asked, sent: u64, outcome: Outcome) {
        self.calls.lock().push(Call { id, asked, sent, answered: now(), outcome });
    }
}

fn failed(status: &Status) -> Outcome {
    Outcome::Failed(format!("{:?}: {}", status.code(), status.message()))
}

/// Whether the outcome of a call is unknown, or a retry may get another one.
fn is_ambiguous(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::AlreadyExists | Code::InvalidArgument | Code::FailedPrecondition | Code::PermissionDenied
    )
}

pub fn request(id: &str, meta: &str, regions: Vec<String>) -> StartWorkspaceRequest {
    let initializer =
        WorkspaceInitializer { spec: Some(workspace_initializer::Spec::Empty(EmptyInitializer {})) };
    StartWorkspaceRequest {
        id: id.to_owned(),
        service_prefix: id.to_owned(),
        metadata: Some(WorkspaceMetadata {
            owner: "jane".to_owned(),
            meta_id: meta.to_owned(),
            ..WorkspaceMetadata::default()
        }),
        spec: Some(StartWorkspaceSpec {
            workspace_image: "image:1".to_owned(),
            workspace_location: "/".to_owned(),
            initializer: Some(initializer),
            placement: Some(Placement { regions, ..Placement::default() }),
            ..StartWorkspaceSpec::default()
        }),
        r#type: 0,
    }
}
