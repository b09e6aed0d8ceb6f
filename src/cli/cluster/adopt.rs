//! `spaceport cluster adopt` and `spaceport cluster discard`

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::connect::{Client, ClientArgs};
use crate::terminal::Terminal;
use crate::view::{HandledView, counted};
use domain::names::{ClusterName, Namespace, WorkspaceId};
use proto::spaceport::v1::handled_workspace::Outcome;
use proto::spaceport::v1::{AdoptRequest, DiscardRequest};

/// Workspaces per call: each may take 20 s at the server, and the call has one deadline.
const BATCH: usize = 8;
/// Limit of the server for one discard.
const MOST_DISCARDED: usize = 100;

/// `spaceport cluster adopt`.
#[derive(Debug, Args)]
pub struct AdoptArgs {
    /// The cluster's name
    name: ClusterName,
    /// Instance ids; all workspaces without a record when absent
    #[arg(value_name = "ID")]
    workspaces: Vec<WorkspaceId>,
    /// Also adopt workspaces of another manager, which must have stopped
    #[arg(long)]
    others: bool,
    /// Another namespace in which to look for the other manager's Lease
    #[arg(long, value_name = "NAMESPACE", requires = "others")]
    manager_namespace: Vec<Namespace>,
    /// Also adopt workspaces of this other installation of Spaceport, which must have left the cluster
    #[arg(long, value_name = "ID")]
    installation: Option<uuid::Uuid>,
    /// Adopt them; without this flag only the plan is shown
    #[arg(long)]
    yes: bool,
    /// Show the plan and change nothing, as without --yes
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

/// `spaceport cluster discard`.
#[derive(Debug, Args)]
pub struct DiscardArgs {
    /// The cluster's name
    name: ClusterName,
    /// Instance ids
    #[arg(required = true, value_name = "ID", num_args = 1..=MOST_DISCARDED)]
    workspaces: Vec<WorkspaceId>,
    /// Only in this namespace
    #[arg(long)]
    namespace: Option<Namespace>,
    /// Also discard workspaces with a pod; they stop in order, with a backup
    #[arg(long)]
    force: bool,
}

/// Shows the plan; with `--yes` carries it out.
pub async fn adopt(
    client: &Client,
    connection: &ClientArgs,
    args: AdoptArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let request = |workspaces: Vec<String>, dry_run| AdoptRequest {
        name: args.name.to_string(),
        workspaces,
        others: args.others,
        manager_namespaces: args.manager_namespace.iter().map(ToString::to_string).collect(),
        dry_run,
        installation: args.installation.map(|id| id.to_string()).unwrap_or_default(),
    };
    let named: Vec<String> = args.workspaces.iter().map(ToString::to_string).collect();
    let (plan, left_out) = call(client, request(named.clone(), true)).await?;
    let planned = ids_of(&plan, Outcome::Planned);
    if !args.yes {
        show(connection, &plan, true, terminal)?;
        let more = if left_out == 0 { String::new() } else { format!(", {left_out} more are not shown") };
        if !planned.is_empty() {
            let count = counted(planned.len(), "workspace");
            terminal.progress(&format!("nothing was changed; --yes would adopt {count}{more}\n"));
        }
        return Ok(());
    }
    terminal.progress_page(connection.output, HandledView::table(&plan, true));
    let mut done = Vec::new();
    for batch in planned.chunks(BATCH) {
        let (handled, _) = call(client, request(batch.to_vec(), false)).await?;
        done.extend(handled);
        terminal.progress(&format!("{} of {} done\n", done.len(), planned.len()));
    }
    if !named.is_empty() {
        done.extend(plan.into_iter().filter(|one| !one.is(Outcome::Planned)));
    }
    let refused = ids_of(&done, Outcome::Refused);
    show(connection, &done, false, terminal)?;
    if refused.is_empty() {
        return Ok(());
    }
    bail!("not adopted: {}", refused.join(", "))
}

async fn call(client: &Client, request: AdoptRequest) -> Result<(Vec<HandledView>, u32)> {
    let name = request.name.clone();
    let mut api = client.clusters();
    let answer = client.call(request, async |request| api.adopt(request).await).await;
    let answer = answer.with_context(|| format!("failed to adopt workspaces of {name}"))?;
    Ok((answer.workspaces.into_iter().map(HandledView::from).collect(), answer.left_out))
}

/// Discards resources without a record.
pub async fn discard(
    client: &Client,
    connection: &ClientArgs,
    args: DiscardArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let request = DiscardRequest {
        name: args.name.to_string(),
        workspaces: args.workspaces.iter().map(ToString::to_string).collect(),
        namespace: args.namespace.map(|namespace| namespace.to_string()).unwrap_or_default(),
        force: args.force,
    };
    let mut api = client.clusters();
    let answer = client.call(request, async |request| api.discard(request).await).await;
    let answer = answer.with_context(|| format!("failed to discard resources of {}", args.name))?;
    let handled: Vec<HandledView> = answer.workspaces.into_iter().map(HandledView::from).collect();
    terminal.result(connection.output, &handled, || HandledView::table(&handled, false))?;
    let refused = ids_of(&handled, Outcome::Refused);
    if refused.is_empty() {
        return Ok(());
    }
    bail!("not discarded: {}", refused.join(", "))
}

fn ids_of(all: &[HandledView], outcome: Outcome) -> Vec<String> {
    all.iter().filter(|one| one.is(outcome)).map(|one| one.id().to_owned()).collect()
}

fn show(
    connection: &ClientArgs,
    handled: &[HandledView],
    is_plan: bool,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    if handled.is_empty() && connection.output.is_table() {
        return terminal.line("nothing to adopt");
    }
    terminal.result(connection.output, &handled, || HandledView::table(handled, is_plan))
}
