//! `Diff`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tonic::Status;

use crate::convert::{number, timestamp};
use crate::{error, parse};
use domain::diff::{Found, Keeper, Row, Standing};
use federation::Federation;
use proto::spaceport::v1;
use proto::spaceport::v1::compared_workspace::Standing as Wire;

/// Rows of one response, which must stay below the size that clients accept.
pub(super) const MOST: usize = 20_000;

pub(super) async fn diff(
    federation: &Federation,
    request: &v1::DiffRequest,
) -> Result<v1::DiffResponse, Status> {
    let name = parse::named("name", &request.name)?;
    let diff = federation.workspaces.comparison.diff(&name).await.map_err(|error| error::status(&error))?;
    let now = Timestamp::now();
    let mut counts = BTreeMap::<i32, u32>::new();
    for row in &diff.rows {
        *counts.entry(standing(&row.standing).into()).or_default() += 1;
    }
    let shown: Vec<&Row> = diff.rows.iter().filter(|row| request.all || row.is_difference(now)).collect();
    Ok(v1::DiffResponse {
        registered: diff.registered,
        counts: counts.into_iter().map(|(standing, count)| v1::StandingCount { standing, count }).collect(),
        workspaces: shown.iter().take(MOST).map(|row| compared(row)).collect(),
        left_out: number(shown.len().saturating_sub(MOST)),
    })
}

pub(super) fn compared(row: &Row) -> v1::ComparedWorkspace {
    let found = row.found.as_ref();
    let left = match &row.standing {
        Standing::PodLeft(left) => Some(left),
        _ => None,
    };
    v1::ComparedWorkspace {
        id: row.workspace.clone(),
        namespace: row.namespace.to_string(),
        standing: standing(&row.standing).into(),
        meta_id: row.meta.clone(),
        owner: row.owner.clone(),
        phase: found.map(|found| found.phase.to_uppercase()).unwrap_or_default(),
        manager: found.map(manager).unwrap_or_default(),
        elsewhere: match &row.standing {
            Standing::Elsewhere(cluster, namespace) => format!("{cluster}/{namespace}"),
            Standing::Left(cluster) => format!("{cluster}/{}", row.namespace),
            _ => String::new(),
        },
        at: row.at.map(timestamp),
        deleting: found.is_some_and(|found| found.deleting) || left.is_some(),
        pod: left.map(|left| left.pod.clone()).unwrap_or_default(),
        held_by: left.map(|left| left.held_by.join(", ")).unwrap_or_default(),
    }
}

fn manager(found: &Found) -> String {
    match &found.keeper {
        Keeper::Us => String::new(),
        Keeper::Manager(manager) => manager.clone(),
        Keeper::Installation(id) => format!("installation {id}"),
        Keeper::Nobody => "none".to_owned(),
    }
}

fn standing(standing: &Standing) -> Wire {
    match standing {
        Standing::Adopted => Wire::Adopted,
        Standing::Starting => Wire::Starting,
        Standing::Finished => Wire::Finished,
        Standing::Ending => Wire::Ending,
        Standing::Unknown => Wire::Unknown,
        Standing::Elsewhere(..) => Wire::Elsewhere,
        Standing::Foreign => Wire::Foreign,
        Standing::Handover => Wire::Handover,
        Standing::OtherInstallation => Wire::OtherInstallation,
        Standing::Left(_) => Wire::Left,
        Standing::Different => Wire::Different,
        Standing::PodLeft(_) => Wire::PodLeft,
    }
}
