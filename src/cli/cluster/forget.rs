//! `spaceport cluster forget`

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;

use crate::connect::{Client, ClientArgs};
use crate::terminal::Terminal;
use crate::view::{ForgottenView, counted};
use domain::names::ClusterName;
use proto::spaceport::v1::{ForgetRequest, ForgetResponse};

/// `spaceport cluster forget`.
#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// The cluster's name; it must not be registered
    name: ClusterName,
    /// Why; subscribers of the workspaces get this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Give the workspaces up; without this flag only the plan is shown
    #[arg(long, requires = "reason")]
    yes: bool,
    /// Show the plan and change nothing, as without --yes
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

/// Prints which workspaces would be given up; with `--yes` gives them up.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: ForgetArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let request = ForgetRequest {
        name: args.name.to_string(),
        reason: args.reason.unwrap_or_default(),
        dry_run: !args.yes,
    };
    let mut view = ForgottenView::new(args.name.to_string());
    loop {
        let answer = call(client, request.clone()).await?;
        let (given_up, left) = (answer.given_up, answer.left);
        view.add(answer);
        if !args.yes || left == 0 {
            break;
        }
        if given_up == 0 {
            bail!("{} still recorded under {}: run it again", counted(left, "workspace"), args.name);
        }
        terminal.progress(&format!("{} given up, {left} left\n", view.given_up()));
    }
    if connection.output.is_table() {
        terminal.sentence(connection.output, &view.summary())?;
        if view.is_empty() {
            return Ok(());
        }
    }
    terminal.result(connection.output, &view, || view.table(Timestamp::now()))?;
    if !args.yes && !view.is_empty() {
        terminal.progress("nothing was changed; --yes with --reason would give them up\n");
    }
    Ok(())
}

async fn call(client: &Client, request: ForgetRequest) -> Result<ForgetResponse> {
    let name = request.name.clone();
    let mut api = client.clusters();
    let answer = client.call(request, async |request| api.forget(request).await).await;
    answer.with_context(|| format!("failed to give up the workspaces of {name}"))
}
