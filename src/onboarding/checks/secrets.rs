//! The check `secret-references`: Secrets that live workspaces reference and no admin allows.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, Client};

use super::question::{Question, told};
use domain::check::Check;
use domain::cluster::NamespaceSpec;
use domain::text::first_of;
use domain::workspace::Phase;
use k8s::references::{Referrer, judge, of_workspace};
use k8s::resources::Workspace;

const NAME: &str = "secret-references";
/// Secrets that are looked at in a namespace, and those that are named.
const MOST: usize = 200;
const NAMED: usize = 20;
/// Objects a page of a list; each may be a mebibyte.
const PAGE: u32 = 50;

pub(super) async fn references(client: &Client, question: &Question<'_>) -> Check {
    let mut open = Vec::new();
    for spec in &question.spec.namespaces {
        match not_allowed(client, spec).await {
            Ok(names) => open.extend(names.into_iter().map(|name| format!("{}/{name}", spec.namespace))),
            // Namespaces, definitions and rights have checks of their own.
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {}
            Err(error) => return Check::warning(NAME, told(error), "check the apiserver"),
        }
    }
    if open.is_empty() {
        return Check::ok(NAME, "live workspaces reference only Secrets that are allowed");
    }
    let names = first_of(&open, NAMED);
    Check::warning(
        NAME,
        format!("live workspaces reference Secrets that are not allowed: {names}"),
        "run `kubectl label secret NAME spaceport.dev/allow-reference=true` for those that workspaces may read, or name \
         them under allowedSecrets in the cluster file; starts and pods that reference others are rejected",
    )
}

/// Names of the Secrets of a namespace that a live workspace references and may not.
async fn not_allowed(client: &Client, spec: &NamespaceSpec) -> Result<BTreeSet<String>, kube::Error> {
    let workspaces = Api::<Workspace>::namespaced(client.clone(), spec.namespace.as_str());
    let secrets = Api::<Secret>::namespaced(client.clone(), spec.namespace.as_str());
    let allowed = spec.allowed_secrets.iter().map(ToString::to_string).collect();
    let (mut seen, mut open) = (BTreeSet::new(), BTreeSet::new());
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = workspaces.list(&page).await?;
        for workspace in list.items.iter().filter(|workspace| is_live(workspace)) {
            let id = workspace.metadata.name.as_deref().unwrap_or_default();
            for name in of_workspace(workspace).into_keys() {
                // Its own was made with it; asking for the Secret of each workspace would take too long.
                let is_own = name == k8s::resources::names::env_secret(id);
                if is_own || seen.len() >= MOST || !seen.insert(name.to_owned()) {
                    continue;
                }
                let found = secrets.get_metadata_opt(name).await?;
                let referrer = Referrer { own: None, allowed: &allowed };
                if judge(name, found.as_ref().map(|found| &found.metadata), referrer).is_err() {
                    open.insert(name.to_owned());
                }
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(open),
        }
    }
}

fn is_live(workspace: &Workspace) -> bool {
    workspace.status.as_ref().is_none_or(|status| status.phase != Phase::Stopped)
}
