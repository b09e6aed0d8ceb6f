//! Reads one workspace from the server: a live one, or how an ended one ended.

use tonic::Status;

use crate::connect::Client;
use crate::view::EndedView;
use domain::names::WorkspaceId;
use proto::spaceport::v1::DescribeEndedRequest;
use proto::wsman::{DescribeWorkspaceRequest, DescribeWorkspaceResponse};

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
