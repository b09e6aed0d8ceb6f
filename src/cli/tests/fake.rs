//! A fake server that responds by a script and records its calls.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::ServerTlsConfig;
use tonic::{Request, Response, Status, Streaming};

use proto::spaceport::v1;
use proto::spaceport::v1::cluster_manager_server::{ClusterManager, ClusterManagerServer};
use proto::spaceport::v1::workspace_content_server::{WorkspaceContent, WorkspaceContentServer};
use proto::spaceport::v1::workspace_manager_server::{
    WorkspaceManager as WorkspaceLogs, WorkspaceManagerServer as LogsServer,
};
use proto::spaceport::v1::*;
use proto::wsman::workspace_manager_server::{WorkspaceManager, WorkspaceManagerServer};
use proto::wsman::*;

type Answer<T> = Result<Response<T>, Status>;

/// Responses and recorded calls. A field that is `None` or empty rejects.
#[derive(Default)]
pub struct Script {
    pub calls: Vec<&'static str>,
    pub registered: Vec<RegisterRequest>,
    pub register_refusal: Option<Status>,
    /// Whether registrations report that nothing changed.
    pub unchanged: bool,
    pub clusters: Vec<Cluster>,
    pub updates: Vec<UpdateRequest>,
    pub doctored: Vec<DoctorRequest>,
    pub installed: Vec<InstallRequest>,
    pub checks: Vec<Check>,
    pub diff: Option<DiffResponse>,
    pub strays: Vec<HandledWorkspace>,
    pub adopted: Vec<AdoptRequest>,
    pub forgets: VecDeque<ForgetResponse>,
    pub forgotten: Vec<ForgetRequest>,
    pub drain: Option<Drain>,
    pub status: proto::spaceport::v1::GetStatusResponse,
    pub drain_states: Vec<Drain>,
    pub started: Vec<StartWorkspaceRequest>,
    pub start: Option<Result<StartWorkspaceResponse, Status>>,
    pub stopped: Vec<StopWorkspaceRequest>,
    pub version: Option<String>,
    pub timeouts: Vec<SetTimeoutRequest>,
    pub ports: Vec<ControlPortRequest>,
    /// One list per call.
    pub logs: VecDeque<Vec<Result<LogsResponse, Status>>>,
    pub logs_asked: Vec<LogsRequest>,
    pub described: Option<DescribeWorkspaceResponse>,
    /// Each stop makes the first of them what is described, where there is one.
    pub described_after_stops: VecDeque<Option<DescribeWorkspaceResponse>>,
    pub ended: Option<EndedWorkspace>,
    pub content: Option<DescribeContentResponse>,
    /// One answer per call.
    pub backups: VecDeque<Result<ListBackupsResponse, Status>>,
    pub backups_asked: Vec<ListBackupsRequest>,
    pub pages: VecDeque<GetWorkspacesResponse>,
    pub page_tokens: Vec<String>,
    pub subscriptions: Vec<SubscribeRequest>,
    /// Rejects every resume token.
    pub tokens_expire: bool,
    /// One list per subscription; after its end the stream stays open and silent.
    pub streams: VecDeque<Vec<Result<SubscribeResponse, Status>>>,
}

#[derive(Clone, Default)]
pub struct Fake(pub Arc<Mutex<Script>>);

impl Fake {
    /// Serves plaintext on a loopback port; returns its address.
    pub async fn serve(&self) -> String {
        self.serve_with(None).await
    }

    /// Serves on a loopback port, with TLS where it is given; returns its address.
    pub async fn serve_with(&self, tls: Option<ServerTlsConfig>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        let mut server = tonic::transport::Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let server = server
            .add_service(ClusterManagerServer::new(self.clone()))
            .add_service(WorkspaceManagerServer::new(self.clone()))
            .add_service(LogsServer::new(self.clone()))
            .add_service(WorkspaceContentServer::new(self.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        address
    }
}

fn refused<T>(what: &str) -> Answer<T> {
    Err(Status::unimplemented(what))
}

#[tonic::async_trait]
impl ClusterManager for Fake {
    async fn register(&self, request: Request<RegisterRequest>) -> Answer<RegisterResponse> {
        let mut script = self.0.lock();
        let request = request.into_inner();
        let cluster = Cluster { spec: request.spec.clone(), status: None, version: 1 };
        script.registered.push(request);
        if let Some(status) = script.register_refusal.take() {
            return Err(status);
        }
        let outcome = if script.unchanged {
            register_response::Outcome::Unchanged
        } else {
            register_response::Outcome::Registered
        };
        Ok(Response::new(RegisterResponse { cluster: Some(cluster), outcome: outcome.into() }))
    }

    async fn deregister(&self, request: Request<DeregisterRequest>) -> Answer<DeregisterResponse> {
        if request.into_inner().force {
            return Ok(Response::new(DeregisterResponse {}));
        }
        Err(Status::failed_precondition("3 workspaces are placed there"))
    }

    async fn list(&self, _: Request<ListRequest>) -> Answer<ListResponse> {
        Ok(Response::new(ListResponse { clusters: self.0.lock().clusters.clone() }))
    }

    async fn explain_workspace(
        &self,
        _: Request<v1::ExplainWorkspaceRequest>,
    ) -> Answer<v1::ExplainWorkspaceResponse> {
        refused("explain_workspace")
    }

    async fn forecast_placement(
        &self,
        _: Request<v1::ForecastPlacementRequest>,
    ) -> Answer<v1::ForecastPlacementResponse> {
        refused("forecast_placement")
    }

    async fn diff(&self, request: Request<DiffRequest>) -> Answer<DiffResponse> {
        let differing = |all: bool| {
            self.0.lock().diff.clone().map(|mut diff| {
                diff.workspaces.retain(|one| all || one.standing() != compared_workspace::Standing::Adopted);
                diff
            })
        };
        let diff = differing(request.into_inner().all);
        diff.map(Response::new).ok_or_else(|| Status::not_found("no such cluster"))
    }

    async fn adopt(&self, request: Request<AdoptRequest>) -> Answer<AdoptResponse> {
        let mut script = self.0.lock();
        let request = request.into_inner();
        let asked = |one: &&HandledWorkspace| {
            let id = one.workspace.as_ref().map(|one| one.id.as_str()).unwrap_or_default();
            request.workspaces.is_empty() || request.workspaces.iter().any(|named| named == id)
        };
        let mut workspaces: Vec<HandledWorkspace> = script.strays.iter().filter(asked).cloned().collect();
        for one in workspaces.iter_mut().filter(|one| !request.dry_run && one.reason.is_empty()) {
            one.set_outcome(handled_workspace::Outcome::Adopted);
        }
        script.adopted.push(request);
        Ok(Response::new(AdoptResponse { workspaces, left_out: 0 }))
    }

    async fn discard(&self, request: Request<DiscardRequest>) -> Answer<DiscardResponse> {
        let request = request.into_inner();
        let of = |id: String| HandledWorkspace {
            outcome: if request.force {
                handled_workspace::Outcome::Discarded.into()
            } else {
                handled_workspace::Outcome::Refused.into()
            },
            reason: if request.force { String::new() } else { "has a pod".to_owned() },
            workspace: Some(ComparedWorkspace { id, ..Default::default() }),
            takes_over: false,
            moves: false,
        };
        Ok(Response::new(DiscardResponse { workspaces: request.workspaces.into_iter().map(of).collect() }))
    }

    async fn forget(&self, request: Request<ForgetRequest>) -> Answer<ForgetResponse> {
        let mut script = self.0.lock();
        script.forgotten.push(request.into_inner());
        let answer = script.forgets.pop_front();
        answer.map(Response::new).ok_or_else(|| Status::failed_precondition("cluster eu is registered"))
    }

    async fn cordon(&self, request: Request<CordonRequest>) -> Answer<CordonResponse> {
        let spec = ClusterSpec { name: request.into_inner().name, cordoned: true, ..Default::default() };
        Ok(Response::new(CordonResponse {
            cluster: Some(Cluster { spec: Some(spec), ..Default::default() }),
        }))
    }

    async fn uncordon(&self, _: Request<UncordonRequest>) -> Answer<UncordonResponse> {
        Err(Status::not_found("no such cluster"))
    }

    async fn set_maintenance(
        &self,
        request: Request<SetMaintenanceRequest>,
    ) -> Answer<SetMaintenanceResponse> {
        let request = request.into_inner();
        let named = |namespace: &str| NamespaceSpec { namespace: namespace.to_owned(), ..Default::default() };
        let namespaces = vec![named("a"), named("b")];
        let spec = ClusterSpec { name: request.name, namespaces, ..Default::default() };
        let maintained = request.until.map(|until| {
            ["a", "b"]
                .into_iter()
                .filter(|name| request.namespace.is_empty() || request.namespace == *name)
                .map(|name| NamespaceMaintenance { namespace: name.to_owned(), until: Some(until) })
                .collect()
        });
        let status = ClusterStatus { maintenance: maintained.unwrap_or_default(), ..Default::default() };
        let cluster = Cluster { spec: Some(spec), status: Some(status), ..Default::default() };
        Ok(Response::new(SetMaintenanceResponse { cluster: Some(cluster) }))
    }

    async fn start_drain(&self, request: Request<StartDrainRequest>) -> Answer<StartDrainResponse> {
        let request = request.into_inner();
        let mut drain =
            self.0.lock().drain.clone().ok_or_else(|| Status::failed_precondition("no capacity"))?;
        if request.dry_run {
            drain.set_state(drain::State::Planned);
        }
        drain.rate_per_minute = request.rate_per_minute;
        drain.idle = request.idle;
        Ok(Response::new(StartDrainResponse { drain: Some(drain) }))
    }

    async fn get_drain(&self, _: Request<GetDrainRequest>) -> Answer<GetDrainResponse> {
        Ok(Response::new(GetDrainResponse { drain: self.0.lock().drain.clone() }))
    }

    type WatchDrainStream = Pin<Box<dyn Stream<Item = Result<WatchDrainResponse, Status>> + Send>>;

    async fn watch_drain(&self, _: Request<WatchDrainRequest>) -> Answer<Self::WatchDrainStream> {
        let states = std::mem::take(&mut self.0.lock().drain_states);
        let answers = states.into_iter().map(|drain| Ok(WatchDrainResponse { drain: Some(drain) }));
        Ok(Response::new(Box::pin(futures::stream::iter(answers))))
    }

    async fn change_drain(&self, request: Request<ChangeDrainRequest>) -> Answer<ChangeDrainResponse> {
        let mut drain = self.0.lock().drain.clone().unwrap_or_default();
        drain.reason = format!("{:?}", request.into_inner());
        Ok(Response::new(ChangeDrainResponse { drain: Some(drain) }))
    }

    async fn leader(&self, _: Request<LeaderRequest>) -> Answer<LeaderResponse> {
        Ok(Response::new(LeaderResponse { replica: "a".to_owned(), epoch: 7, ..Default::default() }))
    }

    async fn get_status(
        &self,
        _: Request<proto::spaceport::v1::GetStatusRequest>,
    ) -> Answer<proto::spaceport::v1::GetStatusResponse> {
        Ok(Response::new(self.0.lock().status.clone()))
    }

    async fn open_incarnation(
        &self,
        _: Request<proto::spaceport::v1::OpenIncarnationRequest>,
    ) -> Answer<proto::spaceport::v1::OpenIncarnationResponse> {
        Err(Status::unavailable("nobody leads"))
    }

    async fn rotate_secret(
        &self,
        _: Request<proto::spaceport::v1::RotateSecretRequest>,
    ) -> Answer<proto::spaceport::v1::RotateSecretResponse> {
        Err(Status::unavailable("nobody leads"))
    }

    async fn get(&self, request: Request<GetRequest>) -> Answer<GetResponse> {
        let name = request.into_inner().name;
        let script = self.0.lock();
        let named = |cluster: &&Cluster| cluster.spec.as_ref().is_some_and(|spec| spec.name == name);
        match script.clusters.iter().find(named) {
            Some(cluster) => Ok(Response::new(GetResponse { cluster: Some(cluster.clone()) })),
            None => Err(Status::not_found(format!("cluster {name} is not registered"))),
        }
    }

    async fn update(&self, request: Request<UpdateRequest>) -> Answer<UpdateResponse> {
        let mut script = self.0.lock();
        let request = request.into_inner();
        let spec = ClusterSpec { name: request.name.clone(), ..Default::default() };
        script.updates.push(request);
        let cluster = Cluster { spec: Some(spec), ..Default::default() };
        Ok(Response::new(UpdateResponse { cluster: Some(cluster), checks: script.checks.clone() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let present = |cluster: Cluster| WatchResponse {
            event: watch_response::Event::Present.into(),
            cluster: Some(cluster),
        };
        let mut reported: Vec<_> = self.0.lock().clusters.iter().cloned().map(present).map(Ok).collect();
        reported.push(Ok(WatchResponse { event: watch_response::Event::Synced.into(), cluster: None }));
        Ok(Response::new(Box::pin(futures::stream::iter(reported))))
    }

    async fn doctor(&self, request: Request<DoctorRequest>) -> Answer<DoctorResponse> {
        let mut script = self.0.lock();
        let request = request.into_inner();
        if request.name == "nope" {
            return Err(Status::not_found("no such cluster"));
        }
        script.doctored.push(request);
        Ok(Response::new(DoctorResponse { checks: script.checks.clone() }))
    }

    async fn install(&self, request: Request<InstallRequest>) -> Answer<InstallResponse> {
        let mut script = self.0.lock();
        let request = request.into_inner();
        let kubeconfig = if request.with_kubeconfig { b"made: here".to_vec() } else { Vec::new() };
        script.installed.push(request);
        let object = InstalledObject {
            kind: "Namespace".to_owned(),
            name: "ws".to_owned(),
            outcome: installed_object::Outcome::Created.into(),
            ..Default::default()
        };
        Ok(Response::new(InstallResponse { objects: vec![object], kubeconfig }))
    }
}

#[tonic::async_trait]
impl WorkspaceLogs for Fake {
    type ExecStream = Pin<Box<dyn Stream<Item = Result<ExecResponse, Status>> + Send>>;
    type ForwardStream = Pin<Box<dyn Stream<Item = Result<ForwardResponse, Status>> + Send>>;

    // Sessions are shown on real nodes only.
    async fn exec(&self, _: Request<Streaming<ExecRequest>>) -> Answer<Self::ExecStream> {
        Err(Status::unimplemented("no such method"))
    }

    async fn forward(&self, _: Request<Streaming<ForwardRequest>>) -> Answer<Self::ForwardStream> {
        Err(Status::unimplemented("no such method"))
    }

    type LogsStream = Pin<Box<dyn Stream<Item = Result<LogsResponse, Status>> + Send>>;

    async fn logs(&self, request: Request<LogsRequest>) -> Answer<Self::LogsStream> {
        let mut script = self.0.lock();
        script.logs_asked.push(request.into_inner());
        let none = || Status::failed_precondition("workspace one: it has no pod yet");
        let pieces = script.logs.pop_front().ok_or_else(none)?;
        Ok(Response::new(Box::pin(futures::stream::iter(pieces))))
    }

    async fn describe_ended(&self, _: Request<DescribeEndedRequest>) -> Answer<DescribeEndedResponse> {
        let workspace = self.0.lock().ended.clone();
        let workspace = workspace.ok_or_else(|| Status::not_found("nothing of it is kept"))?;
        Ok(Response::new(DescribeEndedResponse { workspace: Some(workspace) }))
    }

    async fn describe_content(&self, _: Request<DescribeContentRequest>) -> Answer<DescribeContentResponse> {
        let content = self.0.lock().content.clone();
        content.map(Response::new).ok_or_else(|| Status::unimplemented("no such method"))
    }

    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        let version = self.0.lock().version.clone();
        version
            .map(|version| Response::new(VersionResponse { version }))
            .ok_or_else(|| Status::unimplemented("no such method"))
    }
}

#[tonic::async_trait]
impl WorkspaceContent for Fake {
    async fn list_backups(&self, request: Request<ListBackupsRequest>) -> Answer<ListBackupsResponse> {
        let mut script = self.0.lock();
        script.backups_asked.push(request.into_inner());
        script
            .backups
            .pop_front()
            .unwrap_or_else(|| Err(Status::unimplemented("no store")))
            .map(Response::new)
    }
}

#[tonic::async_trait]
impl WorkspaceManager for Fake {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

    async fn get_workspaces(&self, request: Request<GetWorkspacesRequest>) -> Answer<GetWorkspacesResponse> {
        let mut script = self.0.lock();
        script.page_tokens.push(request.into_inner().page_token);
        script.pages.pop_front().map(Response::new).ok_or_else(|| Status::internal("no more pages"))
    }

    async fn start_workspace(
        &self,
        request: Request<StartWorkspaceRequest>,
    ) -> Answer<StartWorkspaceResponse> {
        let mut script = self.0.lock();
        script.calls.push("start");
        script.started.push(request.into_inner());
        script.start.clone().unwrap_or_else(|| Err(Status::internal("no start"))).map(Response::new)
    }

    async fn stop_workspace(&self, request: Request<StopWorkspaceRequest>) -> Answer<StopWorkspaceResponse> {
        let mut script = self.0.lock();
        script.calls.push("stop");
        let request = request.into_inner();
        let unknown = request.id == "unknown";
        script.stopped.push(request);
        if let Some(described) = script.described_after_stops.pop_front() {
            script.described = described;
        }
        if unknown {
            Err(Status::not_found("no such workspace"))
        } else {
            Ok(Response::new(StopWorkspaceResponse {}))
        }
    }

    async fn describe_workspace(
        &self,
        _: Request<DescribeWorkspaceRequest>,
    ) -> Answer<DescribeWorkspaceResponse> {
        self.0
            .lock()
            .described
            .clone()
            .map(Response::new)
            .ok_or_else(|| Status::not_found("no such workspace"))
    }

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Answer<Self::SubscribeStream> {
        let mut script = self.0.lock();
        script.calls.push("subscribe");
        let request = request.into_inner();
        let expired = script.tokens_expire && !request.resume_token.is_empty();
        script.subscriptions.push(request);
        if expired {
            return Err(Status::out_of_range("the token was given by another replica"));
        }
        let answers = script.streams.pop_front().ok_or_else(|| Status::unimplemented("no stream"))?;
        Ok(Response::new(Box::pin(futures::stream::iter(answers).chain(futures::stream::pending()))))
    }

    async fn backup_workspace(&self, _: Request<BackupWorkspaceRequest>) -> Answer<BackupWorkspaceResponse> {
        refused("backup")
    }

    async fn mark_active(&self, _: Request<MarkActiveRequest>) -> Answer<MarkActiveResponse> {
        refused("mark active")
    }

    async fn set_timeout(&self, request: Request<SetTimeoutRequest>) -> Answer<SetTimeoutResponse> {
        self.0.lock().timeouts.push(request.into_inner());
        Ok(Response::new(SetTimeoutResponse {}))
    }

    async fn control_port(&self, request: Request<ControlPortRequest>) -> Answer<ControlPortResponse> {
        self.0.lock().ports.push(request.into_inner());
        Ok(Response::new(ControlPortResponse {}))
    }

    async fn take_snapshot(&self, request: Request<TakeSnapshotRequest>) -> Answer<TakeSnapshotResponse> {
        if request.get_ref().id == "stopped" {
            return Err(Status::failed_precondition("only a running workspace can be snapshotted"));
        }
        if request.get_ref().id == "slow" {
            std::future::pending::<()>().await;
        }
        let url = if request.into_inner().return_immediately { "store://at-once" } else { "store://waited" };
        Ok(Response::new(TakeSnapshotResponse { url: url.to_owned() }))
    }

    async fn control_admission(
        &self,
        _: Request<ControlAdmissionRequest>,
    ) -> Answer<ControlAdmissionResponse> {
        refused("control admission")
    }

    async fn delete_volume_snapshot(
        &self,
        _: Request<DeleteVolumeSnapshotRequest>,
    ) -> Answer<DeleteVolumeSnapshotResponse> {
        refused("delete volume snapshot")
    }

    async fn update_ssh_key(&self, _: Request<UpdateSshKeyRequest>) -> Answer<UpdateSshKeyResponse> {
        refused("update ssh key")
    }

    async fn describe_cluster(&self, _: Request<DescribeClusterRequest>) -> Answer<DescribeClusterResponse> {
        refused("describe cluster")
    }
}
