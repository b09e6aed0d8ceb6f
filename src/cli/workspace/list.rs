//! `spaceport workspace list`

use anyhow::Result;
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::filter::FilterArgs;
use crate::connect::{Client, ClientArgs};
use crate::terminal::Terminal;
use crate::view::WorkspaceView;
use domain::names::ClusterName;
use proto::wsman::{GetWorkspacesRequest, MetadataFilter};

/// Workspaces per page, far below the limit of a response.
const PAGE: u32 = 500;

/// `spaceport workspace list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    local: LocalFilter,
}

/// Filters that the server does not have.
#[derive(Debug, Args)]
struct LocalFilter {
    /// Only workspaces on this cluster
    #[arg(long)]
    cluster: Option<ClusterName>,
    /// Only workspaces in this phase
    #[arg(long, value_enum, ignore_case = true)]
    phase: Option<Phase>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Phase {
    Unknown,
    Pending,
    Creating,
    Initializing,
    Running,
    Interrupted,
    Stopping,
    Stopped,
}

impl LocalFilter {
    fn wants(&self, workspace: &WorkspaceView) -> bool {
        let phase =
            |phase: Phase| phase.to_possible_value().is_some_and(|v| v.matches(workspace.phase, true));
        self.cluster.as_ref().is_none_or(|cluster| workspace.cluster == cluster.as_str())
            && self.phase.is_none_or(phase)
    }
}

/// Prints all pages.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: ListArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let ListArgs { filter, local } = args;
    let filter = MetadataFilter::from(filter);
    let mut workspaces = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = GetWorkspacesRequest {
            must_match: Some(filter.clone()),
            page_size: PAGE,
            page_token: page_token.clone(),
        };
        let mut api = client.workspaces();
        let page = client.call(request, async |request| api.get_workspaces(request).await).await?;
        workspaces.extend(page.status.into_iter().map(WorkspaceView::from).filter(|view| local.wants(view)));
        // A token that repeats would loop forever.
        if page.next_page_token.is_empty() || page.next_page_token == page_token {
            break;
        }
        page_token = page.next_page_token;
    }
    if workspaces.is_empty() && connection.output.is_table() {
        terminal.progress("no workspaces found\n");
        return Ok(());
    }
    workspaces.sort_by(|a, b| a.id.cmp(&b.id));
    terminal.result(connection.output, &workspaces, || WorkspaceView::table(&workspaces, Timestamp::now()))
}
