//! `Adopt` and `Discard`.

use tonic::Status;
use uuid::Uuid;

use super::diff::{MOST, compared};
use crate::convert::number;
use crate::error;
use crate::parse::Problems;
use domain::adoption::{From, Way};
use domain::diff::Row;
use domain::names::{ClusterName, WorkspaceId};
use federation::Federation;
use federation::workspaces::adopt::{Adoption, Discard, Outcome};
use proto::spaceport::v1;
use proto::spaceport::v1::handled_workspace::Outcome as Wire;

pub(super) async fn adopt(
    federation: &Federation,
    request: &v1::AdoptRequest,
) -> Result<v1::AdoptResponse, Status> {
    let mut problems = Problems::default();
    let name = problems.parse::<ClusterName>("name", &request.name);
    let workspaces = ids(&mut problems, &request.workspaces);
    let named = request.manager_namespaces.iter().enumerate();
    let manager_namespaces =
        named.filter_map(|(at, name)| problems.parse(&format!("manager_namespaces[{at}]"), name)).collect();
    let installation = problems.optional::<Uuid>("installation", &request.installation);
    let installation = installation.map(|id| id.to_string());
    let name = problems.finish(name)?;
    let from = From { others: request.others, installation };
    let asked = Adoption { workspaces, from, manager_namespaces, dry_run: request.dry_run };
    let handled =
        federation.workspaces.adopting.adopt(&name, &asked).await.map_err(|error| error::status(&error))?;
    let left_out = number(handled.len().saturating_sub(MOST));
    Ok(v1::AdoptResponse { workspaces: handled.iter().take(MOST).map(wire).collect(), left_out })
}

pub(super) async fn discard(
    federation: &Federation,
    request: &v1::DiscardRequest,
) -> Result<v1::DiscardResponse, Status> {
    let mut problems = Problems::default();
    let name = problems.parse::<ClusterName>("name", &request.name);
    let workspaces = ids(&mut problems, &request.workspaces);
    let namespace = problems.optional("namespace", &request.namespace);
    let name = problems.finish(name)?;
    let asked = Discard { workspaces, namespace, force: request.force };
    let handled = federation
        .workspaces
        .discarding
        .discard(&name, &asked)
        .await
        .map_err(|error| error::status(&error))?;
    Ok(v1::DiscardResponse { workspaces: handled.iter().map(wire).collect() })
}

fn ids(problems: &mut Problems, texts: &[String]) -> Vec<WorkspaceId> {
    let named = texts.iter().enumerate();
    named.filter_map(|(at, id)| problems.parse(&format!("workspaces[{at}]"), id)).collect()
}

fn wire((row, outcome): &(Row, Outcome)) -> v1::HandledWorkspace {
    let (outcome, way, reason) = match outcome {
        Outcome::Planned(way) => (Wire::Planned, Some(*way), String::new()),
        Outcome::Adopted => (Wire::Adopted, None, String::new()),
        Outcome::Discarded => (Wire::Discarded, None, String::new()),
        Outcome::Refused(why) => (Wire::Refused, None, why.clone()),
    };
    v1::HandledWorkspace {
        workspace: Some(compared(row)),
        outcome: outcome.into(),
        takes_over: way == Some(Way::TakeOver),
        moves: way == Some(Way::Move),
        reason,
    }
}
