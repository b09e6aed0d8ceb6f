//! Compares the fence's policies in a cluster with those that this program ships.

use std::fmt::Debug;

use futures::future::BoxFuture;
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use domain::names::ClusterName;
use member::error::{Error, Result};

const MANIFEST: &str = include_str!("../../clusters/member/fence.yaml");
/// Annotation that grows with each change of the policies; the first ones have none.
const VERSION: &str = "spaceport.dev/fence-version";

/// How a policy or binding of a cluster compares with the one that is shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Same,
    Missing,
    Earlier,
    /// Of a later version of Spaceport.
    Later,
    /// Of this version, and somebody changed it.
    Changed,
    /// The login may not read it.
    Unread,
}

/// Compares all of them, each under a name for people.
pub(crate) async fn compare(client: &Client, cluster: &ClusterName) -> Result<Vec<(String, State)>> {
    let unreadable = |reason: String| Error::Unsent {
        cluster: cluster.clone(),
        action: "compare the fence's policies".to_owned(),
        reason: format!("a manifest of this program cannot be read: {reason}"),
    };
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(MANIFEST).map_err(|error| unreadable(error.to_string()))?;
    let each = documents.into_iter().map(|document| -> BoxFuture<'_, Result<(String, State)>> {
        match document["kind"].as_str() {
            Some("ValidatingAdmissionPolicy") => {
                Box::pin(state::<ValidatingAdmissionPolicy>(client, cluster, document))
            }
            _ => Box::pin(state::<ValidatingAdmissionPolicyBinding>(client, cluster, document)),
        }
    });
    futures::future::try_join_all(each).await
}

async fn state<K>(client: &Client, cluster: &ClusterName, document: Value) -> Result<(String, State)>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug,
{
    let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let what = format!("{} {name}", K::kind(&()));
    let ours: K = serde_json::from_value(document).map_err(|error| Error::Unsent {
        cluster: cluster.clone(),
        action: format!("compare {what}"),
        reason: error.to_string(),
    })?;
    let state = match Api::<K>::all(client.clone()).get(&name).await {
        Ok(theirs) => versus(&ours, &theirs),
        Err(kube::Error::Api(status)) if status.code == 404 => State::Missing,
        Err(kube::Error::Api(status)) if status.code == 403 => State::Unread,
        Err(error) => return Err(Error::from_kube(cluster, format!("get {what}"), error)),
    };
    Ok((what, state))
}

fn versus<K: Resource + Serialize>(ours: &K, theirs: &K) -> State {
    match version(theirs).cmp(&version(ours)) {
        std::cmp::Ordering::Less => State::Earlier,
        std::cmp::Ordering::Greater => State::Later,
        std::cmp::Ordering::Equal if spec(ours) == spec(theirs) => State::Same,
        std::cmp::Ordering::Equal => State::Changed,
    }
}

/// The version of the fence that an object is of; 1 where it names none.
pub(crate) fn version<K: Resource>(object: &K) -> u64 {
    object.annotations().get(VERSION).and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Only what both sides know: both went through the same type.
fn spec<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).map(|mut value| value["spec"].take()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(version: Option<&str>, failure: &str) -> ValidatingAdmissionPolicy {
        let mut value = json!({
            "metadata": { "name": "spaceport-fence" }, "spec": { "failurePolicy": failure },
        });
        if let Some(version) = version {
            value["metadata"]["annotations"] = json!({ VERSION: version });
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_policy_is_told_to_be_earlier_later_or_changed_by_its_version_and_its_spec() {
        let ours = policy(Some("2"), "Fail");
        assert_eq!(versus(&ours, &ours), State::Same);
        assert_eq!(versus(&ours, &policy(None, "Fail")), State::Earlier);
        assert_eq!(versus(&ours, &policy(Some("no number"), "Fail")), State::Earlier);
        assert_eq!(versus(&ours, &policy(Some("3"), "Ignore")), State::Later);
        assert_eq!(versus(&ours, &policy(Some("2"), "Ignore")), State::Changed);
    }

    #[test]
    fn every_shipped_policy_names_the_same_version_and_has_a_binding() {
        let documents: Vec<Value> = serde_saphyr::from_multiple(MANIFEST).unwrap();
        let versions: std::collections::BTreeSet<_> =
            documents.iter().map(|one| one["metadata"]["annotations"][VERSION].as_str().unwrap()).collect();
        assert_eq!(versions.len(), 1, "{versions:?}");
        let named = |kind: &str| {
            let mut names: Vec<_> = documents
                .iter()
                .filter(|one| one["kind"] == kind)
                .map(|one| one["metadata"]["name"].as_str().unwrap())
                .collect();
            names.sort_unstable();
            names
        };
        assert_eq!(named("ValidatingAdmissionPolicy"), named("ValidatingAdmissionPolicyBinding"));
        assert_eq!(named("ValidatingAdmissionPolicy").len(), 3);
    }
}
