//! `spaceport workspace watch`

use std::collections::HashMap;

use anyhow::Result;
use clap::Args;
use futures::StreamExt;
use jiff::Timestamp;
use tonic::Code;

use super::describe::describe;
use super::filter::FilterArgs;
use crate::connect::{Client, ClientArgs};
use crate::subscription::{Event, Subscription};
use crate::terminal::{Format, Terminal};
use crate::view::WorkspaceView;
use domain::names::WorkspaceId;
use proto::wsman::{MetadataFilter, WorkspaceStatus};

/// `spaceport workspace watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Only the workspace with this instance id
    id: Option<WorkspaceId>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Prints a line for every workspace and every change until it is interrupted.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: WatchArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let WatchArgs { id, filter } = args;
    if let Some(id) = &id {
        note_unknown(client, id, terminal).await?;
    }
    let subscription = Subscription::open(connection, client, MetadataFilter::from(filter)).await?;
    let mut events = Box::pin(subscription.into_events());
    let mut versions = HashMap::new();
    while let Some(event) = events.next().await {
        match event? {
            Event::Lost(reason) => terminal.progress(&format!("connection lost, resuming: {reason}\n")),
            Event::Status(status) if id.as_ref().is_some_and(|id| id.as_str() != status.id) => {}
            Event::Status(status) if is_news(&mut versions, &status) => {
                let text = text_of(*status, connection.output, terminal)?;
                terminal.line(text)?;
            }
            Event::Status(_) => {}
        }
    }
    Ok(())
}

/// Following an id that does not exist yet is allowed; a mistyped one would be followed forever, so say so.
async fn note_unknown(client: &Client, id: &WorkspaceId, terminal: &mut Terminal<'_>) -> Result<()> {
    match describe(client, id).await {
        Err(status) if status.code() == Code::NotFound => {
            terminal.progress(&format!("there is no workspace {id} yet; waiting for its start\n"));
            Ok(())
        }
        answer => answer.map(drop).map_err(Into::into),
    }
}

/// A resumed stream may repeat statuses.
fn is_news(versions: &mut HashMap<String, u64>, status: &WorkspaceStatus) -> bool {
    let version = status.status_version;
    // A server that sends no versions has nothing to compare.
    version == 0 || versions.insert(status.id.clone(), version).is_none_or(|seen| seen < version)
}

fn text_of(status: WorkspaceStatus, format: Format, terminal: &Terminal<'_>) -> Result<String> {
    let view = WorkspaceView::from(status);
    Ok(match format {
        Format::Table | Format::Wide => view.line(Timestamp::now(), terminal.layout(format)),
        Format::Json => serde_json::to_string(&view)?,
        Format::Yaml => format!("---\n{}", serde_saphyr::to_string(&view)?.trim_end()),
    })
}
