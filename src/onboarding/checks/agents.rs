//! The check `node-agent`: two agents of one namespace would initialize and back up the same content; and workspaces that are placed
//! on a node whose agent was killed wait until it is back. It also says how each node limits the storage of workspaces.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;

use super::question::{Question, told};
use domain::check::{Check, Outcome};
use domain::cluster::NodeAgent;
use domain::text::first_of;
use k8s::resources::names::{EXISTING_AGENT, NODE_AGENT, SERVES, STORAGE_QUOTA, node_agent_ready};
use member::pages;

const NAME: &str = "node-agent";
/// Pages of nodes that are read.
const PAGES: usize = 20;
/// Objects of one page.
const PAGE: u32 = 500;
/// Objects of one kind; nodes beyond are not checked.
const MOST: usize = 20_000;
/// Nodes that are named.
const NAMED: usize = 5;

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
    if check.outcome != Outcome::Ok {
        return check;
    }
    let mut absent = Vec::new();
    for (namespace, _) in &namespaces {
        let Some(agent) = ours.iter().chain(&theirs).find(|one| serves(one, namespace)) else { continue };
        match without_agent(client, agent, namespace).await {
            Ok(nodes) if nodes.is_empty() => {}
            Ok(nodes) => absent.push(sentence(agent, namespace, &nodes)),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                let detail = format!(
                    "{}; the login may not list all pods and nodes, so whether each node's agent is ready is unknown",
                    check.detail
                );
                return Check::ok(NAME, detail);
            }
            Err(error) => return Check::failed(NAME, told(error), "check the apiserver"),
        }
    }
    if absent.is_empty() {
        return with_quotas(client, check).await;
    }
    let remedy = "see why the agents of these nodes do not run (kubectl describe pod); until they do, remove the label from the nodes: \
                  docs/operations/node-agent.md";
    Check::warning(NAME, absent.join("; "), remedy)
}

/// Nodes that say that they take workspaces of a namespace, and have no agent that is ready: it was killed, or removed.
async fn without_agent(
    client: &Client,
    agent: &DaemonSet,
    namespace: &str,
) -> Result<BTreeSet<String>, kube::Error> {
    let labels = agent.spec.as_ref().and_then(|spec| spec.selector.match_labels.as_ref());
    let selector: Vec<String> =
        labels.into_iter().flatten().map(|(name, value)| format!("{name}={value}")).collect();
    let pods = Api::<Pod>::namespaced(client.clone(), &agent.namespace().unwrap_or_default());
    let nodes = list(Api::<Node>::all(client.clone()), &node_agent_ready(namespace)).await?;
    let pods = list(pods, &selector.join(",")).await?;
    Ok(absent(&nodes, &pods))
}

fn absent(nodes: &[Node], pods: &[Pod]) -> BTreeSet<String> {
    let is_ready = |pod: &&Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
        conditions.unwrap_or_default().iter().any(|one| one.type_ == "Ready" && one.status == "True")
    };
    let with: BTreeSet<&str> =
        pods.iter().filter(is_ready).filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref()).collect();
    let names = nodes.iter().map(ResourceExt::name_any);
    names.filter(|name| !with.contains(name.as_str())).collect()
}

fn sentence(agent: &DaemonSet, namespace: &str, nodes: &BTreeSet<String>) -> String {
    let named: Vec<&str> = nodes.iter().take(NAMED).map(String::as_str).collect();
    let more = nodes.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!(
        "nodes {}{more} have the label {} and no ready pod of DaemonSet {}: workspaces placed there wait for it",
        named.join(", "),
        node_agent_ready(namespace),
        name(agent)
    )
}

/// Adds how each node limits storage.
async fn with_quotas(client: &Client, check: Check) -> Check {
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
    let api = Api::<DaemonSet>::all(client.clone());
    futures::future::try_join(list(api.clone(), &ours), list(api, &theirs)).await
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

/// All objects with these labels, up to [`MOST`].
async fn list<K>(api: Api<K>, selector: &str) -> Result<Vec<K>, kube::Error>
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut found = Vec::new();
    let mut page = ListParams::default().labels(selector).limit(PAGE);
    loop {
        let answer = api.list(&page).await;
        if pages::shrink(&mut page, &answer) {
            continue;
        }
        let answer = answer?;
        found.extend(answer.items);
        page.continue_token = answer.metadata.continue_.filter(|token| !token.is_empty());
        if page.continue_token.is_none() || found.len() >= MOST {
            return Ok(found);
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

    #[test]
    fn nodes_with_the_label_and_without_a_ready_agent_are_named() {
        let node =
            |name: &str| serde_json::from_value::<Node>(json!({ "metadata": { "name": name } })).unwrap();
        let pod = |node: &str, ready: &str| {
            let status = json!({ "conditions": [{ "type": "Ready", "status": ready }] });
            let pod = json!({ "spec": { "nodeName": node, "containers": [] }, "status": status });
            serde_json::from_value::<Pod>(pod).unwrap()
        };
        let nodes: Vec<Node> = (1..=8).map(|number| node(&format!("n{number}"))).collect();
        let without = absent(&nodes, &[pod("n1", "True"), pod("n2", "False"), pod("n9", "True")]);
        assert_eq!(without.len(), 7);
        let agent = daemon_set("spaceport-system", Some("workspaces"), Some(3));
        let text = sentence(&agent, "workspaces", &without);
        assert!(text.starts_with("nodes n2, n3, n4, n5, n6 and 2 more have the label"), "{text}");
        assert!(
            text.contains("gitpod.io/ws-daemon_ready_ns_workspaces")
                && text.contains("spaceport-system/agent")
        );
        let serving = sentence(&agent, "workspaces", &BTreeSet::from(["n2".to_owned()]));
        assert!(serving.starts_with("nodes n2 have"), "{serving}");
    }
}
