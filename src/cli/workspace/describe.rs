//! Reads one workspace from the server: a live one, how an ended one ended, and what is known of its content.

use std::time::Duration;

use tonic::{Code, Status};

use crate::connect::Client;
use crate::table::clean;
use crate::view::{BackupView, EndedView, NewestBackup};
use domain::names::WorkspaceId;
use proto::spaceport::v1::{
    DescribeContentRequest, DescribeContentResponse, DescribeEndedRequest, ListBackupsRequest,
};
use proto::wsman::{DescribeWorkspaceRequest, DescribeWorkspaceResponse};

/// For the list of backups, which the server reads from an object store: the rest is shown without it.
const STORE: Duration = Duration::from_secs(5);

/// Calls DescribeWorkspace.
pub async fn describe(client: &Client, id: &WorkspaceId) -> Result<DescribeWorkspaceResponse, Status> {
    let mut api = client.workspaces();
    let request = DescribeWorkspaceRequest { id: id.to_string() };
    client.call(request, async |request| api.describe_workspace(request).await).await
}

/// How it ended, if the server still knows; servers of earlier versions do not.
pub async fn ended(client: &Client, id: &WorkspaceId) -> Option<EndedView> {
    let mut api = client.logs();
    let request = DescribeEndedRequest { id: id.to_string() };
    let answer = client.call(request, async |request| api.describe_ended(request).await).await;
    answer.ok()?.workspace.map(EndedView::from)
}

/// What the node agent reported; nothing from servers of earlier versions.
pub async fn content(client: &Client, id: &WorkspaceId) -> DescribeContentResponse {
    let mut api = client.logs();
    let request = DescribeContentRequest { id: id.to_string() };
    let answer = client.call(request, async |request| api.describe_content(request).await).await;
    answer.unwrap_or_default()
}

/// The backup that a start from the backup of a workspace restores.
pub async fn newest_backup(client: &Client, owner: &str, meta_id: &str) -> NewestBackup {
    let client = client.patient(client.timeout().min(STORE));
    let mut api = client.contents();
    let (owner, meta_id) = (owner.to_owned(), meta_id.to_owned());
    let request = ListBackupsRequest { owner, meta_id, ..Default::default() };
    match client.call(request, async |request| api.list_backups(request).await).await {
        Ok(answer) => {
            let newest = answer.backups.into_iter().find(|backup| backup.newest);
            newest.map_or(NewestBackup::None, |backup| NewestBackup::Is(Box::new(BackupView::from(backup))))
        }
        // The server has no store, or is of an earlier version, or this caller may not ask.
        Err(status)
            if matches!(
                status.code(),
                Code::Unimplemented | Code::FailedPrecondition | Code::PermissionDenied
            ) =>
        {
            NewestBackup::NotAsked
        }
        Err(status) => NewestBackup::NotKnown(clean(status.message())),
    }
}

/// Why the last backup of a workspace that stopped failed, and where its content is; `None` if it did not fail, or nobody knows.
pub async fn backup_failure(client: &Client, id: &WorkspaceId) -> Option<String> {
    let live = content(client, id).await.backup.filter(|backup| !backup.succeeded);
    let failed = match live {
        Some(backup) => Some(backup.message),
        None => ended(client, id).await.and_then(|ended| ended.backup_failed),
    };
    failed.map(|text| clean(&text))
}
