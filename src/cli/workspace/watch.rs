//! `spaceport workspace watch`

use std::collections::HashMap;

use anyhow::Result;
use clap::Args;
use futures::StreamExt;
use jiff::Timestamp;

use super::FilterArgs;
use crate::cli::connect::{Client, ClientArgs};
use crate::cli::subscription::{Event, Subscription};
use crate::cli::terminal::{Format, Terminal};
use crate::cli::view::WorkspaceView;
use crate::domain::names::WorkspaceId;
use crate::proto::wsman::{MetadataFilter, WorkspaceStatus};

/// `spaceport workspace watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Only the workspace with this instance id
    id: Option<WorkspaceId>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Writes a line for every change, beginning with what is, until it is interrupted.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: WatchArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let WatchArgs { id, filter } = args;
    let subscription = Subscription::open(connection, client, MetadataFilter::from(filter)).await?;
    let mut events = Box::pin(subscription.into_events());
    let mut versions = HashMap::new();
    while let Some(event) = events.next().await {
        match event? {
            Event::Lost(reason) => terminal.progress(&format!("connection lost, resuming: {reason}\n")),
            Event::Status(status) if id.as_ref().is_some_and(|id| id.as_str() != status.id) => {}
            Event::Status(status) if is_news(&mut versions, &status) => {
                terminal.line(text_of(*status, connection.output)?)?;
            }
            Event::Status(_) => {}
        }
    }
    Ok(())
}

/// A resumed stream may repeat what was written.
fn is_news(versions: &mut HashMap<String, u64>, status: &WorkspaceStatus) -> bool {
    let version = status.status_version;
    // A server that does not count has nothing to compare.
    version == 0 || versions.insert(status.id.clone(), version).is_none_or(|seen| seen < version)
}

fn text_of(status: WorkspaceStatus, format: Format) -> Result<String> {
    let view = WorkspaceView::from(status);
    Ok(match format {
        Format::Table => view.line(Timestamp::now()),
        Format::Json => serde_json::to_string(&view)?,
        Format::Yaml => format!("---\n{}", serde_saphyr::to_string(&view)?.trim_end()),
    })
}
