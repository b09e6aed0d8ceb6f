//! Checks whether another manager or installation still works on the workspaces that are to be taken over.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::outcome::Outcome;
use crate::fleet::Connected;
use domain::adoption::Way;
use domain::diff::{Keeper, Row};
use domain::names::Namespace;

/// Where managers of other kinds run as a rule, besides the workspace namespace.
const USUAL: &str = "default";

/// Refuses to take over while another manager, or another installation's leader, may be at work.
pub(super) async fn bar_while_others_work(
    connected: &Connected,
    planned: &mut [(Row, Outcome)],
    named: &[Namespace],
    installation: &str,
) {
    let takes_over = |(_, outcome): &&(Row, Outcome)| *outcome == Outcome::Planned(Way::TakeOver);
    let concerned: Vec<&Row> = planned.iter().filter(takes_over).map(|(row, _)| row).collect();
    let managers = concerned.iter().filter(|row| !is_of_an_installation(row));
    let managers: BTreeSet<String> = managers.map(|row| row.namespace.to_string()).collect();
    let by_manager = managers_at_work(connected, managers, named).await;
    let by_installation = if concerned.iter().any(|row| is_of_an_installation(row)) {
        installation_at_work(connected, installation).await
    } else {
        None
    };
    for (row, outcome) in planned {
        let barred = if is_of_an_installation(row) { &by_installation } else { &by_manager };
        if *outcome == Outcome::Planned(Way::TakeOver)
            && let Some(why) = barred
        {
            *outcome = Outcome::Refused(why.clone());
        }
    }
}

/// In the workspace namespaces, where such managers run as a rule, and where the admin says.
async fn managers_at_work(
    connected: &Connected,
    mut namespaces: BTreeSet<String>,
    named: &[Namespace],
) -> Option<String> {
    if namespaces.is_empty() {
        return None;
    }
    namespaces.insert(USUAL.to_owned());
    namespaces.extend(named.iter().map(ToString::to_string));
    for namespace in &namespaces {
        match connected.member.other_leader(namespace, Timestamp::now()).await {
            Ok(None) => {}
            Ok(Some(holder)) => {
                return Some(format!(
                    "is not taken over while another manager ({holder}) holds its Lease in namespace {namespace}"
                ));
            }
            Err(error) => return Some(unknown(&error)),
        }
    }
    None
}

/// In every namespace of the cluster: the other installation's canary is in one of those that it has.
async fn installation_at_work(connected: &Connected, us: &str) -> Option<String> {
    for namespace in connected.places().keys() {
        match connected.member.other_installation(namespace, us, Timestamp::now()).await {
            Ok(None) => {}
            Ok(Some(why)) => return Some(format!("is not taken over: {why}")),
            Err(error) => return Some(unknown(&error)),
        }
    }
    None
}
fn is_of_an_installation(row: &Row) -> bool {
    row.found.as_ref().is_some_and(|found| matches!(found.keeper, Keeper::Installation(_)))
}

fn unknown(error: &member::Error) -> String {
    format!("is not taken over: whether its manager is at work is not known: {error}")
}
