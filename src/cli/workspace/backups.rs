//! `spaceport workspace backups`

use anyhow::{Context, Result};
use clap::Args;
use jiff::Timestamp;

use crate::connect::{Client, ClientArgs};
use crate::terminal::Terminal;
use crate::view::{BackupView, BackupsView};
use domain::names::OwnerId;
use proto::spaceport::v1::ListBackupsRequest;

/// Entries per page, the most that a server gives.
const PAGE: u32 = 1000;
/// Pages that are read: what is more is said, and not shown.
const PAGES: usize = 100;

/// `spaceport workspace backups`.
#[derive(Debug, Args)]
pub struct BackupsArgs {
    /// The workspace's instance id; with --owner its meta id
    id: String,
    /// Owner of the workspace, for one whose instances all ended long ago: ID is its meta id then
    #[arg(long)]
    owner: Option<OwnerId>,
}

/// Prints the backups, and then the snapshots of a workspace, the newest first.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: BackupsArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let of = match &args.owner {
        None => ListBackupsRequest { id: args.id.clone(), ..Default::default() },
        Some(owner) => {
            ListBackupsRequest { owner: owner.to_string(), meta_id: args.id.clone(), ..Default::default() }
        }
    };
    let mut view = BackupsView::default();
    let mut page_token = String::new();
    for _ in 0..PAGES {
        let request = ListBackupsRequest { page_size: PAGE, page_token: page_token.clone(), ..of.clone() };
        let mut api = client.contents();
        let page = client.call(request, async |request| api.list_backups(request).await).await;
        let page = page.with_context(|| format!("failed to list the backups of {}", args.id))?;
        (view.owner, view.meta_id) = (page.owner, page.meta_id);
        view.backups.extend(page.backups.into_iter().map(BackupView::from));
        // A token that repeats would loop.
        let is_last = page.next_page_token.is_empty() || page.next_page_token == page_token;
        page_token = page.next_page_token;
        if is_last {
            page_token.clear();
            break;
        }
    }
    if !page_token.is_empty() {
        terminal.progress(&format!("only the first {} are shown\n", view.backups.len()));
    }
    if view.backups.is_empty() && connection.output.is_table() {
        terminal.progress(&format!("{} has no backups and no snapshots\n", view.meta_id));
        return Ok(());
    }
    terminal.result(connection.output, &view, || view.table(Timestamp::now()))
}
