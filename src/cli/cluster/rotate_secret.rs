//! `spaceport cluster rotate-secret`

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::connect::{Client, ClientArgs};
use crate::table::Table;
use crate::terminal::Terminal;
use proto::spaceport::v1::RotateSecretRequest;

/// `spaceport cluster rotate-secret`.
#[derive(Debug, Args)]
pub struct RotateSecretArgs {
    /// Why; it is logged
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Versions of the installation's secret.
#[derive(Debug, Serialize)]
struct VersionsView {
    version: u32,
    former: Vec<u32>,
}

impl VersionsView {
    fn details(&self) -> Table {
        let former: Vec<_> = self.former.iter().map(ToString::to_string).collect();
        Table::of_fields([("version", self.version.to_string()), ("former", former.join(", "))])
    }
}

pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: RotateSecretArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let mut api = client.clusters();
    let request = RotateSecretRequest { reason: args.reason };
    let answer = client.call(request, async |request| api.rotate_secret(request).await).await;
    let answer = answer.context("failed to rotate the installation's secret")?;
    let versions = VersionsView { version: answer.version, former: answer.former };
    terminal.progress(&format!(
        "owner tokens of new workspaces are derived from secret version {}\n",
        versions.version
    ));
    terminal.result(connection.output, &versions, || versions.details())
}
