//! Reads one workspace from the server.

use tonic::Status;

use crate::connect::Client;
use domain::names::WorkspaceId;
use proto::wsman::{DescribeWorkspaceRequest, DescribeWorkspaceResponse};

/// Calls DescribeWorkspace.
pub async fn describe(client: &Client, id: &WorkspaceId) -> Result<DescribeWorkspaceResponse, Status> {
    let mut api = client.workspaces();
    let request = DescribeWorkspaceRequest { id: id.to_string() };
    client.call(request, async |request| api.describe_workspace(request).await).await
}
