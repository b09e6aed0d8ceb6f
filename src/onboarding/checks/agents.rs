//! The check `node-agent`: two agents of one namespace would initialize and back up the same content. It also says how each node
//! limits the storage of workspaces.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, Client, ResourceExt};

use super::question::{Question, told};
use domain::check::Check;
use domain::cluster::NodeAgent;
use domain::text::first_of;
use k8s::resources::names::{EXISTING_AGENT, NODE_AGENT, SERVES, STORAGE_QUOTA};
use member::pages;

const NAME: &str = "node-agent";
/// Nodes that are named for each backend.
const NAMED: usize = 10;
/// Pages of nodes that are read.
const PAGES: usize = 20;
/// Objects of one page.
const PAGE: u32 = 500;

pub(super) async fn node_agent(client: &Client, question: &Question<'_>) -> Check {
    let (ours, theirs) = match both(client).await {
        Ok(found) => found,
        Err(kube::Error::Api(status)) if status.code == 403 => {
            let detail = "the login may not list DaemonSets, so which node agents run is unknown";
            return Check::warning(NAME, detail, "let the login list daemonsets (clusters/member/rbac.yaml)");
        }
        Err(error) => return Check::failed(NAME, told(error), "check the apiserver"),
    };
    let namespaces: Vec<_> =
        question.spec.namespaces.iter().map(|one| (one.namespace.as_str(), one.node_agent)).collect();
    let check = judge(&namespaces, &ours, &theirs);
    // Without the right to list nodes the check says less.
    let nodes = limiting(client).await.unwrap_or_default();
    match quotas(&nodes) {
        Some(quotas) => Check { detail: format!("{}; {quotas}", check.detail), ..check },
        None => check,
    }
}

/// How nodes limit storage, by backend.
fn quotas<N: ResourceExt>(nodes: &[N]) -> Option<String> {
    let mut by_backend: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for node in nodes {
        let backend = node.labels().get(STORAGE_QUOTA).map(String::as_str);
        by_backend.entry(backend?).or_default().push(node.name_any());
    }
    let of = |(backend, nodes): (&str, &Vec<String>)| format!("{backend} on {}", first_of(nodes, NAMED));
    let all: Vec<String> = by_backend.iter().map(|(backend, nodes)| of((backend, nodes))).collect();
    (!all.is_empty()).then(|| format!("storage quota: {}", all.join(", ")))
}

/// DaemonSets of Spaceport's agent and of existing ones.
async fn both(client: &Client) -> Result<(Vec<DaemonSet>, Vec<DaemonSet>), kube::Error> {
    let (ours, theirs) = (format!("{NODE_AGENT}=true"), format!("component={EXISTING_AGENT}"));
    futures::future::try_join(list(client, &ours), list(client, &theirs)).await
}

/// Nodes that say how they limit storage, by their metadata alone.
async fn limiting(client: &Client) -> Result<Vec<PartialObjectMeta<Node>>, kube::Error> {
    let (api, mut all) = (Api::<Node>::all(client.clone()), Vec::new());
    let mut page = ListParams::default().labels(STORAGE_QUOTA).limit(PAGE);
    for _ in 0..PAGES {
        let answer = api.list_metadata(&page).await?;
        all.extend(answer.items);
        match answer.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page.continue_token = Some(token),
            None => break,
        }
    }
    Ok(all)
}

async fn list(client: &Client, selector: &str) -> Result<Vec<DaemonSet>, kube::Error> {
    let api = Api::<DaemonSet>::all(client.clone());
    let mut page = ListParams::default().labels(selector).limit(PAGE);
    loop {
        let answer = api.list(&page).await;
        if !pages::shrink(&mut page, &answer) {
            return answer.map(|list| list.items);
        }
    }
}

fn judge(namespaces: &[(&str, Option<NodeAgent>)], ours: &[DaemonSet], theirs: &[DaemonSet]) -> Check {
    let (mut failed, mut served) = (Vec::new(), Vec::new());
    for (namespace, setting) in namespaces {
        let serving = |all: &[DaemonSet]| all.iter().find(|one| serves(one, namespace)).map(name);
        match (serving(ours), serving(theirs)) {
            (Some(ours), Some(theirs)) => failed.push(format!(
                "two node agents serve namespace {namespace}: DaemonSets {ours} (Spaceport's) and {theirs}"
            )),
            (None, Some(theirs)) if *setting == Some(NodeAgent::Spaceport) => failed.push(format!(
                "namespace {namespace} is to be served by Spaceport's node agent, and DaemonSet {theirs} serves it"
            )),
            (Some(one), None) | (None, Some(one)) => served.push(format!("{namespace} by {one}")),
            (None, None) => {}
        }
    }
    if !failed.is_empty() {
        let remedy = "let one of them serve the namespace: see \"which agent serves a namespace\" in \
                      docs/operations/node-agent.md";
        return Check::failed(NAME, failed.join("; "), remedy);
    }
    if served.is_empty() {
        return Check::ok(NAME, "no DaemonSet of a node agent is known, and so not two of them");
    }
    Check::ok(NAME, served.join(", "))
}

/// Whether a DaemonSet runs anywhere, for workspaces of a namespace.
fn serves(one: &DaemonSet, namespace: &str) -> bool {
    let is_parked = one.status.as_ref().is_some_and(|status| {
        status.desired_number_scheduled == 0 && status.observed_generation == one.metadata.generation
    });
    let own = one.namespace().unwrap_or_default();
    let named = one.annotations().get(SERVES).unwrap_or(&own);
    !is_parked && named.split(',').any(|name| name.trim() == namespace)
}

fn name(of: &DaemonSet) -> String {
    format!("{}/{}", of.namespace().unwrap_or_default(), of.name_any())
}

#[cfg(test)]
mod tests {
    use domain::check::Outcome;
    use serde_json::json;

    use super::*;

    fn daemon_set(namespace: &str, serves: Option<&str>, desired: Option<i32>) -> DaemonSet {
        let mut value = json!({ "metadata": { "name": "agent", "namespace": namespace, "generation": 1 } });
        if let Some(serves) = serves {
            value["metadata"]["annotations"] = json!({ SERVES: serves });
        }
        if let Some(desired) = desired {
            value["status"] = json!({ "desiredNumberScheduled": desired, "observedGeneration": 1,
                "currentNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0 });
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn two_agents_of_one_namespace_are_refused() {
        let ours = [daemon_set("spaceport-system", Some("a, workspaces"), Some(3))];
        let theirs = [daemon_set("workspaces", None, None)];
        let namespaces = [("workspaces", None)];
        let check = judge(&namespaces, &ours, &theirs);
        assert_eq!(check.outcome, Outcome::Failed);
        assert!(
            check.detail.contains("spaceport-system/agent (Spaceport's) and workspaces/agent"),
            "{}",
            check.detail
        );
        assert_eq!(judge(&namespaces, &ours, &[]).outcome, Outcome::Ok);
        assert_eq!(judge(&namespaces, &[], &theirs).outcome, Outcome::Ok);
        assert_eq!(judge(&namespaces, &[], &[]).outcome, Outcome::Ok);
        assert_eq!(judge(&[("b", None)], &ours, &theirs).outcome, Outcome::Ok, "neither serves it");
    }

    #[test]
    fn the_backend_of_each_node_is_named() {
        let node = |name: &str, backend: &str| -> Node {
            serde_json::from_value(
                json!({ "metadata": { "name": name, "labels": { STORAGE_QUOTA: backend } } }),
            )
            .unwrap()
        };
        let nodes = [node("a", "none"), node("b", "btrfs-qgroup"), node("c", "btrfs-qgroup")];
        assert_eq!(quotas(&nodes).unwrap(), "storage quota: btrfs-qgroup on b, c, none on a");
        assert_eq!(quotas::<Node>(&[]), None);
    }

    #[test]
    fn a_daemon_set_that_no_node_runs_serves_nothing() {
        let ours = [daemon_set("spaceport-system", Some("workspaces"), Some(3))];
        let parked = [daemon_set("workspaces", None, Some(0))];
        assert_eq!(judge(&[("workspaces", None)], &ours, &parked).outcome, Outcome::Ok);
    }

    #[test]
    fn an_existing_agent_where_spaceports_is_configured_is_refused() {
        let theirs = [daemon_set("workspaces", None, Some(1))];
        let setting = |agent| judge(&[("workspaces", Some(agent))], &[], &theirs).outcome;
        assert_eq!(setting(NodeAgent::Spaceport), Outcome::Failed);
        assert_eq!(setting(NodeAgent::Existing), Outcome::Ok);
    }
}
