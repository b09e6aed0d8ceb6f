//! What a cluster is asked before anything of a start is written there, so that the start can go on elsewhere.

use std::time::Duration;

use tokio::time::Instant;

use crate::fleet::Place;
use domain::cluster::{ClearText, NodeAgent};
use domain::workspace::Start;
use k8s::references::{self, Referrer};
use member::apply::Writer;
use member::client;

/// By how much a dry run ends before the time for everything that is asked before a start, so that its outcome is learned.
const ANSWERED_BEFORE: Duration = Duration::from_millis(50);
/// Fields that a refusal names.
const CLEAR_TEXT_SHOWN: usize = 8;

/// Checks everything before anything is written: where one fails, the start may go on at another cluster.
pub(super) async fn prepare(
    writer: &Writer,
    place: &Place,
    start: &Start,
    workspace: &k8s::resources::Workspace,
    until: Instant,
) -> member::Result<()> {
    let asking = async {
        check(writer, place, start).await?;
        dry_run(writer, place, workspace, until).await
    };
    match client::until(until, asking).await {
        Ok(outcome) => outcome.map_err(member::Error::of_dry_run),
        Err(_) => Err(member::Error::Unsent {
            cluster: writer.cluster().clone(),
            action: format!("start workspace {}", start.id),
            reason: "no answer in time to what is asked before".to_owned(),
        }),
    }
}

/// Where the namespace lately failed to create workspaces, or rejected pods, asks it before anything is written: then the
/// start can go on to another cluster.
async fn dry_run(
    writer: &Writer,
    place: &Place,
    workspace: &k8s::resources::Workspace,
    until: Instant,
) -> member::Result<()> {
    let learned = &place.acceptance;
    if learned.workspaces_fail().is_some() {
        let trying = async {
            writer.try_workspace(workspace).await?;
            if learned.do_secrets_fail() {
                writer.try_secrets(&place.secrets_namespace).await
            } else {
                Ok(())
            }
        };
        let tried = answered(writer, until, trying).await;
        learned.workspace(tried.as_ref().copied());
        unless_unsupported(tried)?;
    }
    if learned.pods_rejected().is_none() {
        return Ok(());
    }
    let Some(pod) = place.planned_pod(workspace.clone()) else { return Ok(()) };
    let tried = answered(writer, until, writer.try_pod(&pod)).await;
    learned.pod(tried.as_ref().copied());
    unless_unsupported(tried)
}

/// The outcome of a dry run within what is left of the time for it: one without an answer is an outcome too, and is learned,
/// unless it had less than half of that time.
async fn answered(
    writer: &Writer,
    until: Instant,
    trying: impl Future<Output = member::Result<()>>,
) -> member::Result<()> {
    let asked = Instant::now();
    // Before those around it give up.
    let end = until.checked_sub(ANSWERED_BEFORE).unwrap_or(until);
    let (cluster, action) = (writer.cluster().clone(), "dry-run a creation".to_owned());
    match client::until(end, trying).await {
        Ok(tried) => tried,
        Err(client::Waited::ForAnswer) if asked.elapsed() >= writer.deadline() / 2 => {
            let reason = format!("no answer within {:.1} s", asked.elapsed().as_secs_f64());
            Err(member::Error::Ambiguous { cluster, action, reason })
        }
        Err(_) => Err(member::Error::Queued { cluster, action }),
    }
}

/// A webhook that does not support dry runs says nothing.
fn unless_unsupported(tried: member::Result<()>) -> member::Result<()> {
    match tried {
        Err(member::Error::Refused { rule: member::error::Rule::NoDryRun(_), .. }) => Ok(()),
        outcome => outcome,
    }
}

/// Whether the namespace takes the secrets that a start references, and those that its node agent needs in clear text.
async fn check(writer: &Writer, place: &Place, start: &Start) -> member::Result<()> {
    let (settings, action) = (place.settings.load(), format!("start workspace {}", start.id));
    let needs_clear_text = settings.node_agent == NodeAgent::Existing && !start.clear_text.is_empty();
    if needs_clear_text && settings.clear_text_secrets == ClearText::Refuse {
        let fields =
            start.clear_text.iter().take(CLEAR_TEXT_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        let why = format!("the node agent there would need secrets in clear text: {fields}");
        return Err(member::Error::Disallowed { cluster: writer.cluster().clone(), action, why });
    }
    let referrer = Referrer { own: None, allowed: &settings.controller.allowed_secrets };
    writer.check_references(&action, &references::of_start(start), referrer).await
}
