//! `spaceport cluster list --watch`

use anyhow::Result;

use crate::connect::{Client, ClientArgs};
use crate::terminal::Terminal;
use crate::view::ClusterView;
use proto::spaceport::v1::WatchRequest;
use proto::spaceport::v1::watch_response::Event;

/// Prints a line for each change until the server ends the stream.
pub async fn run(client: &Client, connection: &ClientArgs, terminal: &mut Terminal<'_>) -> Result<()> {
    let mut api = client.clusters();
    let opened = client.open(WatchRequest::default(), async |request| api.watch(request).await).await;
    let mut stream = opened?;
    while let Some(answer) = stream.message().await? {
        let event = answer.event();
        let Some(cluster) = answer.cluster.filter(|_| event != Event::Synced).map(ClusterView::from) else {
            continue;
        };
        let event = event.as_str_name().trim_start_matches("EVENT_");
        if connection.output.is_table() {
            let line = cluster.line(event, terminal.layout(connection.output));
            terminal.line(line)?;
        } else {
            let document = serde_json::json!({ "event": event, "cluster": cluster });
            terminal.line(document)?;
        }
    }
    anyhow::bail!("the server ended the watch; run it again")
}
