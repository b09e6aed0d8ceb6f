//! `spaceport cluster incarnation …`

use anyhow::{Context, Result};
use clap::Subcommand;
use jiff::Timestamp;

use crate::connect::{Client, ClientArgs};
use crate::terminal::Terminal;
use crate::view::OpeningView;
use proto::spaceport::v1::OpenIncarnationRequest;

/// `spaceport cluster incarnation`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Open a new incarnation, after Spaceport's etcd was restored from a backup
    Open {
        /// Why; stored with who opened it and when
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Runs a `spaceport cluster incarnation` verb.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    verb: Verb,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let Verb::Open { reason } = verb;
    let mut api = client.clusters();
    let request = OpenIncarnationRequest { reason };
    let answer = client.call(request, async |request| api.open_incarnation(request).await).await;
    let answer = answer.context("failed to open an incarnation")?;
    let opened = OpeningView::from(answer.opened.unwrap_or_default());
    terminal.progress(&format!("incarnation {} is open\n", opened.incarnation));
    terminal.result(connection.output, &opened, || opened.details(Timestamp::now()))
}
