//! `wsman.WorkspaceManager`: parse, call, convert.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use prost::Message;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::caller::{self, Caller};
use super::peers::MESSAGE_MAX;
use super::{convert, error, parse};
use federation::clusters::classes::Classes;
use federation::view::events::Ended;
use federation::view::index;
use federation::view::seen::Seen;
use federation::workspaces::changes::Changes;
use federation::workspaces::queries::Queries;
use federation::workspaces::snapshots::Snapshots;
use federation::workspaces::start::Starts;
use federation::{Federation, Meters};
use proto::encoded::{self, workspace_manager_server::WorkspaceManager};
use proto::wsman;

/// Most workspaces in one page.
const PAGE_MAX: usize = 1000;
/// A page takes no more workspaces from this size on, well below what clients accept.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Implements the service.
#[derive(Clone)]
pub struct Workspaces {
    installation: Uuid,
    queries: Arc<Queries>,
    starts: Arc<Starts>,
    changes: Arc<Changes>,
    snapshots: Arc<Snapshots>,
    classes: Arc<Classes>,
    meters: Meters,
    shutdown: CancellationToken,
}

impl Workspaces {
    /// Streams end when `shutdown` is cancelled.
    pub fn new(of: &Federation, shutdown: CancellationToken) -> Self {
        Self {
            installation: of.leadership.installation(),
            queries: Arc::clone(&of.workspaces.queries),
            starts: Arc::clone(&of.workspaces.starts),
            changes: Arc::clone(&of.workspaces.changes),
            snapshots: Arc::clone(&of.workspaces.snapshots),
            classes: Arc::clone(&of.clusters.classes),
            meters: of.meters.clone(),
            shutdown,
        }
    }
}

type Updates = Pin<Box<dyn Stream<Item = Result<encoded::SubscribeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl WorkspaceManager for Workspaces {
    type SubscribeStream = Updates;

    async fn get_workspaces(
        &self,
        request: Request<wsman::GetWorkspacesRequest>,
    ) -> Result<Response<encoded::GetWorkspacesResponse>, Status> {
        let caller = caller::of(request.extensions());
        let request = request.into_inner();
        let size = match usize::try_from(request.page_size) {
            Ok(0) => usize::MAX,
            Ok(size) => size.min(PAGE_MAX),
            Err(_) => PAGE_MAX,
        };
        let list = parse::list(self.installation, request.must_match.as_ref());
        let after = parse::page(&list, &request.page_token)?;
        // One more than a page, to know whether there are more.
        let filter = parse::filter(request.must_match, &caller);
        let all = self.queries.list(&filter, after, size.saturating_add(1));
        let (mut status, mut bytes) = (Vec::with_capacity(all.len().min(size)), 0);
        for seen in all.iter().take(size) {
            let one = convert::encoded(seen, sees_token(&caller, seen));
            // Plus the field's tag and length.
            bytes += one.encoded_len() + 6;
            if size != usize::MAX && bytes > PAGE_BYTES && !status.is_empty() {
                break;
            }
            if bytes > MESSAGE_MAX {
                return Err(Status::resource_exhausted(
                    "the answer is larger than 16 MiB; ask for pages with page_size and page_token",
                ));
            }
            status.push(one);
        }
        let last = status.len().checked_sub(1).and_then(|last| all.get(last));
        let next_page_token = last
            .filter(|_| status.len() < all.len())
            .map(|last| list.token(last.view.id.as_str()))
            .unwrap_or_default();
        Ok(Response::new(encoded::GetWorkspacesResponse { status, next_page_token }))
    }

    async fn start_workspace(
        &self,
        request: Request<wsman::StartWorkspaceRequest>,
    ) -> Result<Response<wsman::StartWorkspaceResponse>, Status> {
        let caller = caller::of(request.extensions());
        let request = request.into_inner();
        let owner = request.metadata.as_ref().map(|metadata| metadata.owner.clone()).unwrap_or_default();
        caller.check_owner("metadata.owner", &owner)?;
        let left_out = parse::without_effect(&request);
        let start = parse::start(request)?;
        let unknown = self.starts.unknown_regions(&start.placement.regions).into_iter();
        let warnings = unknown.map(|region| format!("no cluster is in region {region}")).chain(left_out);
        let began = Instant::now();
        let started = self.starts.start(start).await;
        self.meters.start_took(began.elapsed());
        let started = started.map_err(|error| error::status(&error))?;
        Ok(Response::new(wsman::StartWorkspaceResponse {
            url: started.url,
            owner_token: if caller.sees_token_of(&owner) { started.owner_token } else { String::new() },
            cluster: started.cluster.to_string(),
            region: started.region.to_string(),
            namespace: started.namespace.to_string(),
            warnings: warnings.collect(),
        }))
    }

    async fn stop_workspace(
        &self,
        request: Request<wsman::StopWorkspaceRequest>,
    ) -> Result<Response<wsman::StopWorkspaceResponse>, Status> {
        let caller = caller::of(request.extensions());
        let request = request.into_inner();
        let id = parse::id(&request.id)?;
        caller.check(&self.queries, &id)?;
        let policy = parse::stop_policy(request.policy)?;
        self.changes.stop(&id, policy).await.map_err(|error| error::status(&error))?;
        Ok(Response::new(wsman::StopWorkspaceResponse {}))
    }

    async fn describe_workspace(
        &self,
        request: Request<wsman::DescribeWorkspaceRequest>,
    ) -> Result<Response<wsman::DescribeWorkspaceResponse>, Status> {
        let caller = caller::of(request.extensions());
        let id = parse::id(&request.into_inner().id)?;
        caller.check(&self.queries, &id)?;
        let seen = self.queries.describe(&id).map_err(|error| error::status(&error))?;
        Ok(Response::new(wsman::DescribeWorkspaceResponse {
            last_activity: seen.view.last_activity.map(|at| at.to_string()).unwrap_or_default(),
            status: Some(convert::status(&seen, sees_token(&caller, &seen))),
        }))
    }

    async fn backup_workspace(
        &self,
        _request: Request<wsman::BackupWorkspaceRequest>,
    ) -> Result<Response<wsman::BackupWorkspaceResponse>, Status> {
        Err(Status::unimplemented(
            "node agents back up when a workspace stops; there is no contract for a backup at another time",
        ))
    }

    async fn subscribe(
        &self,
        request: Request<wsman::SubscribeRequest>,
    ) -> Result<Response<Updates>, Status> {
        let caller = caller::of(request.extensions());
        let request = request.into_inner();
        let from = parse::subscription_start(&request);
        let subscription = self.queries.subscribe(parse::filter(request.must_match, &caller), &from)
            .map_err(|index::Expired| {
                Status::out_of_range(
                    "the resume token has expired or was given by another replica; subscribe again with replay",
                )
            })?;
        let stream = updates(Arc::clone(&self.queries), subscription, caller, self.shutdown.clone());
        Ok(Response::new(Box::pin(stream)))
    }

    async fn mark_active(
        &self,
        request: Request<wsman::MarkActiveRequest>,
    ) -> Result<Response<wsman::MarkActiveResponse>, Status> {
        let caller = caller::of(request.extensions());
        let request = request.into_inner();
        let id = parse::id(&request.id)?;
        caller.check(&self.queries, &id)?;
        self.changes
            .mark_active(&id, request.closed, request.ignore_if_active)
            .await
            .map_err(|error| error::status(&error))?;
        Ok(Response::new(wsman::MarkActiveResponse {}))
    }

    async fn set_timeout(
        &self,
        request: Request<wsman::SetTimeoutRequest>,
    ) -> Result<Response<wsman::SetTimeoutResponse>, Status> {
        let caller = caller::of(request.extensions());
        let request = request.into_inner();
        let (id, change) = parse::timeout(&request)?;
        caller.check(&self.queries, &id)?;
        self.changes.set_timeout(&id, change).await.map_err(|error| error::status(&error))?;
        Ok(Response::new(wsman::SetTimeoutResponse {}))
    }

    async fn control_port(
        &self,
        request: Request<wsman::ControlPortRequest>,
    ) -> Result<Response<wsman::ControlPortResponse>, Status> {
        let caller = caller::of(request.extensions());
        let request = request.into_inner();
        let (id, port) = parse::control_port(&request)?;
        caller.check(&self.queries, &id)?;
        self.changes.control_port(&id, port, request.expose).await.map_err(|error| error::status(&error))?;
        Ok(Response::new(wsman::ControlPortResponse {}))
    }

    async fn take_snapshot(
        &self,
        request: Request<wsman::TakeSnapshotRequest>,
    ) -> Result<Response<wsman::TakeSnapshotResponse>, Status> {
        let caller = caller::of(request.extensions());
        let request = request.into_inner();
        let id = parse::id(&request.id)?;
        caller.check(&self.queries, &id)?;
        let url = self
            .snapshots
            .take_snapshot(&id, request.return_immediately)
            .await
            .map_err(|error| error::status(&error))?;
        Ok(Response::new(wsman::TakeSnapshotResponse { url }))
    }

    async fn control_admission(
        &self,
        request: Request<wsman::ControlAdmissionRequest>,
    ) -> Result<Response<wsman::ControlAdmissionResponse>, Status> {
        let caller = caller::of(request.extensions());
        let request = request.into_inner();
        let (id, level) = parse::control_admission(&request)?;
        caller.check(&self.queries, &id)?;
        self.changes.control_admission(&id, level).await.map_err(|error| error::status(&error))?;
        Ok(Response::new(wsman::ControlAdmissionResponse {}))
    }

    async fn delete_volume_snapshot(
        &self,
        _request: Request<wsman::DeleteVolumeSnapshotRequest>,
    ) -> Result<Response<wsman::DeleteVolumeSnapshotResponse>, Status> {
        Err(Status::unimplemented("workspaces have no volumes; their content is backed up to object storage"))
    }

    async fn update_ssh_key(
        &self,
        request: Request<wsman::UpdateSshKeyRequest>,
    ) -> Result<Response<wsman::UpdateSshKeyResponse>, Status> {
        let caller = caller::of(request.extensions());
        let (id, keys) = parse::ssh_keys(request.into_inner())?;
        caller.check(&self.queries, &id)?;
        self.changes.update_ssh_keys(&id, keys).await.map_err(|error| error::status(&error))?;
        Ok(Response::new(wsman::UpdateSshKeyResponse {}))
    }

    async fn describe_cluster(
        &self,
        _request: Request<wsman::DescribeClusterRequest>,
    ) -> Result<Response<wsman::DescribeClusterResponse>, Status> {
        let (classes, preferred) = self.classes.shown();
        Ok(Response::new(wsman::DescribeClusterResponse {
            workspace_classes: classes.iter().map(convert::class).collect(),
            preferred_workspace_class: preferred.map(|class| class.to_string()).unwrap_or_default(),
        }))
    }
}

fn sees_token(caller: &Caller, seen: &Seen) -> bool {
    caller.sees_token_of(&seen.view.owner)
}

/// Streams changes until the subscription ends, the client leaves or the server shuts down.
fn updates(
    queries: Arc<Queries>,
    subscription: index::Subscription,
    caller: Arc<Caller>,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<encoded::SubscribeResponse, Status>> + Send {
    futures::stream::unfold(Some(subscription), move |subscription| {
        let queries = Arc::clone(&queries);
        let (caller, shutdown) = (Arc::clone(&caller), shutdown.clone());
        async move {
            let mut subscription = subscription?;
            let next = tokio::select! {
                next = subscription.next() => next,
                () = shutdown.cancelled() => Err(Ended::Closed),
            };
            Some(match next {
                Ok(event) => {
                    let response = encoded::SubscribeResponse {
                        status: Some(convert::encoded(&event.seen, sees_token(&caller, &event.seen))),
                        resume_token: queries.resume_token(&event),
                    };
                    (Ok(response), Some(subscription))
                }
                Err(Ended::Lagged) => (
                    Err(Status::resource_exhausted(
                        "the subscriber is too slow: more workspaces changed than its buffer holds; \
                         subscribe again with replay",
                    )),
                    None,
                ),
                Err(Ended::Closed) => (Err(Status::unavailable("this replica is shutting down")), None),
            })
        }
    })
}
