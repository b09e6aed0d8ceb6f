//! `spaceport status`

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::connect::{Client, ClientArgs};
use super::terminal::Terminal;
use super::view::StatusPage;
use proto::spaceport::v1::GetStatusRequest;

/// Prints the status of the installation.
pub async fn run(connection: &ClientArgs, terminal: &mut Terminal<'_>) -> Result<()> {
    let client = Client::connect(connection).await?;
    let mut api = client.clusters();
    let answer = client.call(GetStatusRequest {}, async |request| api.get_status(request).await).await;
    let page = StatusPage::from(answer.context("failed to read the status")?);
    terminal.result(connection.output, &page, || page.page(Timestamp::now()))
}
