//! Stored content: `contentservice` and `ideplugin`, which existing clients speak, and `spaceport.v1.WorkspaceContent`. A caller
//! with a scope gets content of its owners only.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::caller::{self, Caller};
use super::parse::BackupsOf;
use super::{convert, error, parse};
use domain::names::OwnerId;
use domain::page_token::List;
use federation::Federation;
use federation::stored::Presigned;
use federation::stored::backups::{BackupPage, Backups};
use federation::stored::blobs::Blobs;
use federation::stored::deletion::Deletion;
use federation::stored::reads::StoredReads;
use federation::workspaces::queries::Queries;
use proto::contentservice::blob_service_server::BlobService;
use proto::contentservice::content_service_server::ContentService;
use proto::contentservice::headless_log_service_server::HeadlessLogService;
use proto::contentservice::workspace_service_server::WorkspaceService;
use proto::contentservice::{
    DeleteRequest, DeleteResponse, DeleteUserContentRequest, DeleteUserContentResponse,
    DeleteWorkspaceRequest, DeleteWorkspaceResponse, DownloadUrlRequest, DownloadUrlResponse,
    ListLogsRequest, ListLogsResponse, LogDownloadUrlRequest, LogDownloadUrlResponse, UploadUrlRequest,
    UploadUrlResponse, WorkspaceDownloadUrlRequest, WorkspaceDownloadUrlResponse,
    WorkspaceSnapshotExistsRequest, WorkspaceSnapshotExistsResponse,
};
use proto::ideplugin::ide_plugin_service_server::IdePluginService;
use proto::ideplugin::{
    PluginDownloadUrlRequest, PluginDownloadUrlResponse, PluginHashRequest, PluginHashResponse,
    PluginUploadUrlRequest, PluginUploadUrlResponse,
};
use proto::spaceport::v1;
use proto::spaceport::v1::workspace_content_server::WorkspaceContent;

/// Implements the services.
#[derive(Debug, Clone)]
pub struct Contents {
    installation: Uuid,
    queries: Arc<Queries>,
    backups: Arc<Backups>,
    reads: Arc<StoredReads>,
    blobs: Arc<Blobs>,
    deletion: Arc<Deletion>,
}

impl Contents {
    /// Serves the use cases of a process.
    pub fn new(of: &Federation) -> Self {
        Self {
            installation: of.leadership.installation(),
            queries: Arc::clone(&of.workspaces.queries),
            backups: Arc::clone(&of.stored.backups),
            reads: Arc::clone(&of.stored.reads),
            blobs: Arc::clone(&of.stored.blobs),
            deletion: Arc::clone(&of.stored.deletion),
        }
    }
}

/// The owner that `owner_id` names, if the caller may act for it.
fn owner(caller: &Caller, owner: &str) -> Result<OwnerId, Status> {
    let name = parse::named("owner_id", owner)?;
    caller.check_owner("owner_id", owner)?;
    Ok(name)
}

#[allow(clippy::needless_pass_by_value, reason = "map_err gives the error away")]
fn failed(error: federation::Error) -> Status {
    error::status(&error)
}

fn url(signed: &Presigned) -> String {
    signed.url.expose().clone()
}

#[tonic::async_trait]
impl ContentService for Contents {
    async fn delete_user_content(
        &self,
        request: Request<DeleteUserContentRequest>,
    ) -> Result<Response<DeleteUserContentResponse>, Status> {
        let caller = caller::of(request.extensions());
        let owner = owner(&caller, &request.into_inner().owner_id)?;
        self.deletion.owner(&owner).await.map_err(failed)?;
        Ok(Response::new(DeleteUserContentResponse {}))
    }
}

#[tonic::async_trait]
impl WorkspaceService for Contents {
    async fn workspace_download_url(
        &self,
        request: Request<WorkspaceDownloadUrlRequest>,
    ) -> Result<Response<WorkspaceDownloadUrlResponse>, Status> {
        let caller = caller::of(request.extensions());
        let request = request.into_inner();
        let keys = parse::stored_workspace(&request.owner_id, &request.workspace_id)?;
        owner(&caller, &request.owner_id)?;
        let signed = self.reads.download_url(&keys).await.map_err(failed)?;
        Ok(Response::new(WorkspaceDownloadUrlResponse { url: url(&signed) }))
    }

    async fn delete_workspace(
        &self,
        request: Request<DeleteWorkspaceRequest>,
    ) -> Result<Response<DeleteWorkspaceResponse>, Status> {
        let caller = caller::of(request.extensions());
        let request = request.into_inner();
        let keys = parse::stored_workspace(&request.owner_id, &request.workspace_id)?;
        owner(&caller, &request.owner_id)?;
        self.deletion.workspace(&keys, request.include_snapshots).await.map_err(failed)?;
        Ok(Response::new(DeleteWorkspaceResponse {}))
    }

    async fn workspace_snapshot_exists(
        &self,
        request: Request<WorkspaceSnapshotExistsRequest>,
    ) -> Result<Response<WorkspaceSnapshotExistsResponse>, Status> {
        let caller = caller::of(request.extensions());
        let request = request.into_inner();
        let keys = parse::stored_workspace(&request.owner_id, &request.workspace_id)?;
        owner(&caller, &request.owner_id)?;
        let exists = self.reads.snapshot_exists(&keys, &request.filename).await.map_err(failed)?;
        Ok(Response::new(WorkspaceSnapshotExistsResponse { exists }))
    }
}

#[tonic::async_trait]
impl HeadlessLogService for Contents {
    async fn log_download_url(
        &self,
        request: Request<LogDownloadUrlRequest>,
    ) -> Result<Response<LogDownloadUrlResponse>, Status> {
        let caller = caller::of(request.extensions());
        let LogDownloadUrlRequest { owner_id, workspace_id, instance_id, task_id } = request.into_inner();
        let (keys, instance) = parse::stored_instance(&owner_id, &workspace_id, &instance_id)?;
        owner(&caller, &owner_id)?;
        let signed = self.reads.log_url(&keys, &instance, &task_id).await.map_err(failed)?;
        Ok(Response::new(LogDownloadUrlResponse { url: url(&signed) }))
    }

    async fn list_logs(
        &self,
        request: Request<ListLogsRequest>,
    ) -> Result<Response<ListLogsResponse>, Status> {
        let caller = caller::of(request.extensions());
        let ListLogsRequest { owner_id, workspace_id, instance_id } = request.into_inner();
        let (keys, instance) = parse::stored_instance(&owner_id, &workspace_id, &instance_id)?;
        owner(&caller, &owner_id)?;
        let task_id = self.reads.logs(&keys, &instance).await.map_err(failed)?;
        Ok(Response::new(ListLogsResponse { task_id }))
    }
}

#[tonic::async_trait]
impl BlobService for Contents {
    async fn upload_url(
        &self,
        request: Request<UploadUrlRequest>,
    ) -> Result<Response<UploadUrlResponse>, Status> {
        let caller = caller::of(request.extensions());
        let UploadUrlRequest { owner_id, name, content_type } = request.into_inner();
        let owner = owner(&caller, &owner_id)?;
        let signed = self.blobs.upload_url(&owner, &name, &content_type).await.map_err(failed)?;
        Ok(Response::new(UploadUrlResponse { url: url(&signed) }))
    }

    async fn download_url(
        &self,
        request: Request<DownloadUrlRequest>,
    ) -> Result<Response<DownloadUrlResponse>, Status> {
        let caller = caller::of(request.extensions());
        let DownloadUrlRequest { owner_id, name, content_type } = request.into_inner();
        let owner = owner(&caller, &owner_id)?;
        let signed = self.blobs.download_url(&owner, &name, &content_type).await.map_err(failed)?;
        Ok(Response::new(DownloadUrlResponse { url: url(&signed) }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let caller = caller::of(request.extensions());
        let (owner, selection) = parse::delete_blobs(request.into_inner())?;
        caller.check_owner("owner_id", owner.as_str())?;
        self.blobs.delete(&owner, &selection).await.map_err(failed)?;
        Ok(Response::new(DeleteResponse {}))
    }
}

/// What plug-ins are, where a caller with a scope is rejected.
const PLUGINS: &str = "IDE plug-ins";

#[tonic::async_trait]
impl IdePluginService for Contents {
    async fn upload_url(
        &self,
        request: Request<PluginUploadUrlRequest>,
    ) -> Result<Response<PluginUploadUrlResponse>, Status> {
        caller::of(request.extensions()).check_unscoped(PLUGINS)?;
        let PluginUploadUrlRequest { bucket, name } = request.into_inner();
        let signed = self.blobs.plugin_upload_url(&bucket, &name).await.map_err(failed)?;
        Ok(Response::new(PluginUploadUrlResponse { url: url(&signed) }))
    }

    async fn download_url(
        &self,
        request: Request<PluginDownloadUrlRequest>,
    ) -> Result<Response<PluginDownloadUrlResponse>, Status> {
        caller::of(request.extensions()).check_unscoped(PLUGINS)?;
        let PluginDownloadUrlRequest { bucket, name } = request.into_inner();
        let signed = self.blobs.plugin_download_url(&bucket, &name).await.map_err(failed)?;
        Ok(Response::new(PluginDownloadUrlResponse { url: url(&signed) }))
    }

    async fn plugin_hash(
        &self,
        request: Request<PluginHashRequest>,
    ) -> Result<Response<PluginHashResponse>, Status> {
        caller::of(request.extensions()).check_unscoped(PLUGINS)?;
        let PluginHashRequest { bucket, name } = request.into_inner();
        let hash = self.blobs.plugin_hash(&bucket, &name).await.map_err(failed)?;
        Ok(Response::new(PluginHashResponse { hash }))
    }
}

#[tonic::async_trait]
impl WorkspaceContent for Contents {
    async fn list_backups(
        &self,
        request: Request<v1::ListBackupsRequest>,
    ) -> Result<Response<v1::ListBackupsResponse>, Status> {
        let caller = caller::of(request.extensions());
        let request = request.into_inner();
        let (of, size) = parse::list_backups(&request)?;
        let keys = match of {
            BackupsOf::Workspace(owner, meta) => {
                caller.check_owner("owner", owner.as_str())?;
                Backups::workspace(owner, meta)
            }
            BackupsOf::Instance(id, owner) => {
                caller.check(&self.queries, &id)?;
                let keys = self.backups.workspace_of(&id).map_err(failed)?;
                if owner.is_some_and(|owner| owner != *keys.owner()) {
                    let rule = "is not the owner of the workspace that has this id".to_owned();
                    return Err(failed(federation::Error::Invalid { field: "owner".into(), rule }));
                }
                keys
            }
        };
        let (owner, meta_id) = (keys.owner().to_string(), keys.id().to_string());
        let list = List::new(&self.installation.to_string(), ("backups", &owner, &meta_id));
        let after = parse::page(&list, &request.page_token)?;
        let after = (!after.is_empty()).then_some(after);
        let BackupPage { backups, next } = self.backups.list(&keys, after, size).await.map_err(failed)?;
        Ok(Response::new(v1::ListBackupsResponse {
            owner,
            meta_id,
            backups: backups.into_iter().map(convert::backup).collect(),
            next_page_token: next.map(|next| list.token(&next)).unwrap_or_default(),
        }))
    }
}
