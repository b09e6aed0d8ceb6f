//! `spaceport status`

use anyhow::{Context, Result};
use clap::Args;
use jiff::Timestamp;

use super::connect::{Client, ClientArgs};
use super::terminal::Terminal;
use super::view::StatusPage;
use crate::proto::spaceport::v1::GetStatusRequest;

/// `spaceport status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    client: ClientArgs,
}

/// Shows the page.
pub async fn run(args: StatusArgs, terminal: &mut Terminal<'_>) -> Result<()> {
    let client = Client::connect(&args.client).await?;
    let mut api = client.clusters();
    let answer = client.call(GetStatusRequest {}, async |request| api.get_status(request).await).await;
    let page = StatusPage::from(answer.context("failed to read the status")?);
    terminal.result(args.client.output, &page, || page.page(Timestamp::now()))
}
