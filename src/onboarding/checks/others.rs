//! The check `other-manager`: two managers of the same workspaces would undo each other's changes.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use super::question::{Question, told};
use domain::check::Check;
use k8s::resources::Workspace;
use k8s::resources::names::{INSTALLATION, MANAGED_BY, MANAGER};
use member::pages;
use member::rivals::{OTHER_LEADER, live_leader, rival};

/// Where managers of existing installations run as a rule, besides the workspace namespace itself.
const USUAL: &str = "default";
/// Workspaces that are looked at and named.
const LOOKED_AT: u32 = 500;

pub(super) async fn other_manager(client: &Client, question: &Question<'_>, skew: SignedDuration) -> Check {
    const NAME: &str = "other-manager";
    let now = Timestamp::now().saturating_add(skew).unwrap_or(Timestamp::MAX);
    let (mut failed, mut warned) = (Vec::new(), Vec::new());
    for namespace in &question.spec.namespaces {
        let namespace = namespace.namespace.as_str();
        let here = live_leader(client, namespace, now).await;
        let usual = if namespace == USUAL { Ok(None) } else { live_leader(client, USUAL, now).await };
        let (theirs, installations) = match foreign(client, namespace, question.installation).await {
            Ok(found) => found,
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => continue,
            Err(error) => return Check::failed(NAME, told(error), "check the apiserver"),
        };
        match (here, usual) {
            (Ok(Some(holder)), _) => failed.push(format!(
                "another manager ({holder}) is active in namespace {namespace}: its Lease {OTHER_LEADER} is live"
            )),
            (_, Ok(Some(holder))) if theirs > 0 => failed.push(format!(
                "another manager ({holder}) is active in the cluster, and {theirs} workspaces of its kind are in \
                 namespace {namespace}"
            )),
            _ if theirs > 0 => warned.push(format!(
                "{theirs} workspaces in namespace {namespace} belong to another manager and are not changed"
            )),
            _ => {}
        }
        if installations.is_empty() {
            continue;
        }
        match rival(client, namespace, question.installation, now).await {
            Ok(Some(why)) => failed.push(why),
            Ok(None) => {
                let named = installations.into_iter().collect::<Vec<_>>().join(", ");
                warned.push(format!(
                    "workspaces in namespace {namespace} belong to another installation of Spaceport ({named}), which is \
                     not active there, and are not changed"
                ));
            }
            Err(error) => return Check::failed(NAME, told(error), "check the apiserver"),
        }
    }
    if !failed.is_empty() {
        Check::failed(NAME, failed.join("; "), "stop the other manager first, or use another namespace")
    } else if warned.is_empty() {
        Check::ok(NAME, "no other manager is active")
    } else {
        let remedy = "`spaceport cluster adopt NAME` adopts them once no other manager is active: with --others from \
                      another manager, with --installation ID from another installation";
        Check::warning(NAME, warned.join("; "), remedy)
    }
}

/// How many workspaces belong to another kind of manager, and which other installations of Spaceport have some.
async fn foreign(
    client: &Client,
    namespace: &str,
    installation: &str,
) -> Result<(usize, BTreeSet<String>), kube::Error> {
    let api = Api::<Workspace>::namespaced(client.clone(), namespace);
    let mut page = ListParams::default().limit(LOOKED_AT);
    let (mut theirs, mut installations) = (0, BTreeSet::new());
    let listed = loop {
        let answer = api.list_metadata(&page).await;
        if !pages::shrink(&mut page, &answer) {
            break answer?;
        }
    };
    for object in listed {
        if object.labels().get(MANAGED_BY).map(String::as_str) != Some(MANAGER) {
            theirs += 1;
        } else if let Some(other) = object.annotations().get(INSTALLATION).filter(|one| *one != installation)
        {
            installations.insert(other.clone());
        }
    }
    Ok((theirs, installations))
}
