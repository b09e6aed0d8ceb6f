//! What registration asks of a cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Namespace as K8sNamespace;
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::api::{ListParams, PostParams};
use kube::client::Body;
use kube::{Api, Client};
use tokio::time::Instant;

use crate::cluster::error::{Error, Result};
use crate::cluster::fence;
use crate::cluster::resources::names::GROUP;
use crate::cluster::resources::{Snapshot, Workspace};
use crate::domain::cluster::ClusterSpec;
use crate::domain::names::ClusterName;

/// The oldest minor version of Kubernetes 1 that is taken; the fence needs a later one.
const OLDEST_MINOR: u32 = 25;
/// How far clocks may be apart: timeouts are counted across them.
const MOST_SKEW: SignedDuration = SignedDuration::from_secs(30);
/// Access reviews at once.
const AT_ONCE: usize = 8;

/// What was learned of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Such as `v1.36.2`.
    pub server_version: String,
    /// Uid of `kube-system`: the same cluster, whatever its address. Empty where it may not be read.
    pub cluster_uid: String,
    /// How long one call took.
    pub latency: Duration,
    /// How far the apiserver's clock is ahead of ours, to the second.
    pub clock_skew: SignedDuration,
}

/// Group, resource, verbs.
type Needs = &'static [(&'static str, &'static str, &'static [&'static str])];

/// In each workspace namespace.
const IN_NAMESPACE: Needs = &[
    (GROUP, "workspaces", &["get", "list", "watch", "create", "patch", "delete"]),
    (GROUP, "workspaces/status", &["patch"]),
    (GROUP, "snapshots", &["get", "create"]),
    ("", "pods", &["get", "list", "watch", "create", "patch", "delete"]),
    ("", "secrets", &["get", "create", "update", "delete"]),
    ("", "configmaps", &["list", "watch", "create", "patch"]),
    ("", "events", &["create"]),
];
/// In each secrets namespace.
const IN_SECRETS_NAMESPACE: Needs = &[("", "secrets", &["get", "create", "update", "delete"])];
/// In the cluster.
const IN_CLUSTER: Needs = &[("", "nodes", &["get", "list", "watch"])];

/// Whether a cluster may be a member; everything that is missing is told at once.
pub async fn verify(spec: &ClusterSpec, client: &Client, within: Duration) -> Result<Facts> {
    let action = "verify";
    tokio::time::timeout(within, check(spec, client)).await.unwrap_or_else(|_| {
        let (cluster, action) = (spec.name.clone(), action.to_owned());
        Err(Error::Ambiguous { cluster, action, reason: format!("no answer within {within:?}") })
    })
}

async fn check(spec: &ClusterSpec, client: &Client) -> Result<Facts> {
    let cluster = &spec.name;
    let unfenced = fence::check(spec, client).await?;
    let (facts, mut missing) = version(cluster, client).await?;
    missing.extend(unfenced);
    missing.extend(namespaces(spec, client).await?);
    for namespace in &spec.namespaces {
        missing.extend(definitions(cluster, client, namespace.namespace.as_str()).await?);
    }
    missing.extend(permissions(spec, client).await?);
    // The same resource definition is missing in each namespace.
    let mut told = BTreeSet::new();
    missing.retain(|sentence| told.insert(sentence.clone()));
    if missing.is_empty() { Ok(facts) } else { Err(Error::Unfit { cluster: cluster.clone(), missing }) }
}

async fn version(cluster: &ClusterName, client: &Client) -> Result<(Facts, Vec<String>)> {
    let failed = |error| Error::from_kube(cluster, "get /version", error);
    let start = Instant::now();
    let answer = client.send(get_version(Body::empty()).map_err(failed)?).await.map_err(failed)?;
    let latency = start.elapsed();
    let clock_skew = skew(answer.headers());
    drop(answer);
    let request = get_version(Vec::new()).map_err(failed)?;
    let info: Info = client.request(request).await.map_err(failed)?;
    let mut missing = Vec::new();
    let minor: String = info.minor.chars().take_while(char::is_ascii_digit).collect();
    if info.major != "1" || minor.parse::<u32>().is_ok_and(|minor| minor < OLDEST_MINOR) {
        let git = &info.git_version;
        missing.push(format!("its Kubernetes is {git}, and 1.{OLDEST_MINOR} or later is needed"));
    }
    if clock_skew.abs() > MOST_SKEW {
        let seconds = clock_skew.as_secs();
        missing.push(format!("its clock is {seconds} s ahead of this machine's, and at most 30 s are taken"));
    }
    let cluster_uid = uid(cluster, client).await?;
    Ok((Facts { server_version: info.git_version, cluster_uid, latency, clock_skew }, missing))
}

fn get_version<B>(body: B) -> kube::Result<http::Request<B>> {
    http::Request::get("/version").body(body).map_err(kube::Error::HttpError)
}

/// By the `Date` header; none where there is none.
fn skew(headers: &http::HeaderMap) -> SignedDuration {
    let date = headers.get(http::header::DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    date.map_or(SignedDuration::ZERO, |date| date.timestamp().duration_since(Timestamp::now()))
}

async fn uid(cluster: &ClusterName, client: &Client) -> Result<String> {
    match Api::<K8sNamespace>::all(client.clone()).get("kube-system").await {
        Ok(namespace) => Ok(namespace.metadata.uid.unwrap_or_default()),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(String::new()),
        Err(error) => Err(Error::from_kube(cluster, "get Namespace kube-system", error)),
    }
}

async fn namespaces(spec: &ClusterSpec, client: &Client) -> Result<Vec<String>> {
    let api = Api::<K8sNamespace>::all(client.clone());
    let names: BTreeSet<&str> = spec
        .namespaces
        .iter()
        .flat_map(|namespace| [namespace.namespace.as_str(), namespace.secrets_namespace.as_str()])
        .collect();
    let mut missing = Vec::new();
    for name in names {
        match api.get(name).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {
                missing.push(format!("the namespace {name} does not exist"));
            }
            // Whoever may not read namespaces may still work in one; the reviews tell.
            Err(kube::Error::Api(status)) if status.code == 403 => {}
            Err(error) => {
                return Err(Error::from_kube(&spec.name, format!("get Namespace {name}"), error));
            }
        }
    }
    Ok(missing)
}

async fn definitions(cluster: &ClusterName, client: &Client, namespace: &str) -> Result<Vec<String>> {
    let one = ListParams::default().limit(1);
    let workspaces = Api::<Workspace>::namespaced(client.clone(), namespace).list(&one).await.map(drop);
    let snapshots = Api::<Snapshot>::namespaced(client.clone(), namespace).list(&one).await.map(drop);
    let mut missing = Vec::new();
    for (plural, answer) in [("workspaces", workspaces), ("snapshots", snapshots)] {
        match answer {
            Ok(()) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {
                missing.push(format!("the resource definition {plural}.{GROUP} is not installed"));
            }
            Err(kube::Error::Api(status)) if status.code == 403 => {}
            Err(kube::Error::SerdeError(_)) => missing.push(format!(
                "the resource definition {plural}.{GROUP} holds an object that cannot be read"
            )),
            Err(error) => return Err(Error::from_kube(cluster, format!("list {plural}"), error)),
        }
    }
    Ok(missing)
}

async fn permissions(spec: &ClusterSpec, client: &Client) -> Result<Vec<String>> {
    let mut asked = Vec::new();
    for namespace in &spec.namespaces {
        asked.extend(questions(IN_NAMESPACE, Some(namespace.namespace.as_str())));
        asked.extend(questions(IN_SECRETS_NAMESPACE, Some(namespace.secrets_namespace.as_str())));
    }
    asked.extend(questions(IN_CLUSTER, None));
    let answers: Vec<Result<Option<String>>> = futures::stream::iter(asked)
        .map(|question| may(&spec.name, client, question))
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut missing = Vec::new();
    for answer in answers {
        missing.extend(answer?);
    }
    Ok(missing)
}

fn questions(needs: Needs, namespace: Option<&str>) -> Vec<ResourceAttributes> {
    let one = |group: &str, resource: &str, verb: &str| {
        let (name, sub) = resource.split_once('/').map_or((resource, None), |(name, sub)| (name, Some(sub)));
        ResourceAttributes {
            group: Some(group.to_owned()),
            resource: Some(name.to_owned()),
            subresource: sub.map(ToOwned::to_owned),
            verb: Some(verb.to_owned()),
            namespace: namespace.map(ToOwned::to_owned),
            ..ResourceAttributes::default()
        }
    };
    let each = needs
        .iter()
        .flat_map(|(group, resource, verbs)| verbs.iter().map(move |verb| one(group, resource, verb)));
    each.collect()
}

/// `None` where it may; else the sentence that says what it may not.
async fn may(cluster: &ClusterName, client: &Client, question: ResourceAttributes) -> Result<Option<String>> {
    let told = sentence(&question);
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(question),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api = Api::<SelfSubjectAccessReview>::all(client.clone());
    let answer = api
        .create(&PostParams::default(), &review)
        .await
        .map_err(|error| Error::from_kube(cluster, "ask what the login may do", error))?;
    let allowed = answer.status.is_some_and(|status| status.allowed);
    Ok((!allowed).then_some(told))
}

fn sentence(question: &ResourceAttributes) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (verb, resource) = (text(&question.verb), text(&question.resource));
    let sub = question.subresource.as_ref().map(|sub| format!("/{sub}")).unwrap_or_default();
    match &question.namespace {
        Some(namespace) => format!("the login may not {verb} {resource}{sub} in namespace {namespace}"),
        None => format!("the login may not {verb} {resource}{sub}"),
    }
}
