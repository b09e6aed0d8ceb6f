//! Installs what a member cluster needs by server-side apply: CRDs, namespaces, rights, and the login of the manager.
//!
//! The manifests of `crds/` and `clusters/member/` are part of the program. A new file there needs a line in [`MANIFESTS`];
//! a test checks that.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret as K8sSecret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::fence_policies::version;
use domain::install::{Installed, Outcome, Plan, WORKSPACE_HOST_PATH};
use domain::names::{ClusterName, Namespace};
use domain::secret::Secret;
use k8s::resources::names::{HOST_PATH, MANAGER};
use member::client::Credentials;
use member::error::{Error, Result, chain};

/// In the order in which they are applied.
pub const MANIFESTS: [(&str, &str); 8] = [
    (
        "crds/snapshots.workspace.gitpod.io.yaml",
        include_str!("../../crds/snapshots.workspace.gitpod.io.yaml"),
    ),
    (
        "crds/workspaces.workspace.gitpod.io.yaml",
        include_str!("../../crds/workspaces.workspace.gitpod.io.yaml"),
    ),
    ("clusters/member/namespaces.yaml", include_str!("../../clusters/member/namespaces.yaml")),
    ("clusters/member/rbac.yaml", include_str!("../../clusters/member/rbac.yaml")),
    ("clusters/member/fence.yaml", include_str!("../../clusters/member/fence.yaml")),
    ("clusters/member/pod-policy.yaml", include_str!("../../clusters/member/pod-policy.yaml")),
    ("clusters/member/token.yaml", include_str!("../../clusters/member/token.yaml")),
    ("clusters/member/networkpolicy.yaml", include_str!("../../clusters/member/networkpolicy.yaml")),
];

/// Namespaces as the manifests name them.
const NAMESPACE: &str = "workspaces";
const SECRETS_NAMESPACE: &str = "workspace-secrets";
/// Where the manager's own objects are, and the Secret with its token.
const SYSTEM: &str = "spaceport-system";
const TOKEN: &str = "spaceport-token";
/// For a resource definition to be served, and for the cluster to fill in a token.
const SOON: Duration = Duration::from_secs(20);

/// Applies everything in order, for pods with content below `host_path`. Asks `permit` before each object.
pub async fn apply(
    cluster: &ClusterName,
    client: &Client,
    plan: &Plan,
    host_path: &str,
    permit: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Installed>> {
    let mut installed = Vec::new();
    for object in objects(cluster, &plan.namespaces, host_path)? {
        if !permit() {
            return Err(Error::NotLeader { cluster: cluster.clone(), action: "install".to_owned() });
        }
        installed.push(put(cluster, client, plan, &object).await?);
    }
    Ok(installed)
}

/// Every object, for the namespaces that are named.
fn objects(
    cluster: &ClusterName,
    namespaces: &[(Namespace, Namespace)],
    host_path: &str,
) -> Result<Vec<DynamicObject>> {
    let malformed = |reason: String| Error::Unsent {
        cluster: cluster.clone(),
        action: "install".to_owned(),
        reason: format!("a manifest of this program cannot be read: {reason}"),
    };
    let mut objects: Vec<Value> = Vec::new();
    for (_, text) in MANIFESTS {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).map_err(|error| malformed(error.to_string()))?;
        for mut document in documents.into_iter().filter(|document| !document.is_null()) {
            name_folder(&mut document, host_path);
            for object in renamed(&document, namespaces) {
                if !objects.contains(&object) {
                    objects.push(object);
                }
            }
        }
    }
    objects
        .into_iter()
        .map(|object| serde_json::from_value(object).map_err(|error| malformed(error.to_string())))
        .collect()
}

/// Names the folder of workspaces' content on the workspace namespace, for the pod policy, where it is not the usual one.
fn name_folder(object: &mut Value, host_path: &str) {
    let host_path = host_path.trim_end_matches('/');
    let is_for_pods = object["kind"] == "Namespace" && object["metadata"]["name"] == NAMESPACE;
    if is_for_pods && host_path != WORKSPACE_HOST_PATH {
        object["metadata"]["annotations"][HOST_PATH] = host_path.into();
    }
}

/// An object once for each pair of namespaces, with their names in place of the manifest's.
fn renamed(object: &Value, namespaces: &[(Namespace, Namespace)]) -> Vec<Value> {
    if namespaces.is_empty() {
        return vec![object.clone()];
    }
    let one = |(namespace, secrets): &(Namespace, Namespace)| {
        let mut object = object.clone();
        let is_namespace = object["kind"] == "Namespace";
        let rename = |text: &mut Value| match text.as_str() {
            Some(NAMESPACE) => *text = namespace.as_str().into(),
            Some(SECRETS_NAMESPACE) => *text = secrets.as_str().into(),
            _ => {}
        };
        if let Some(text) = object["metadata"].get_mut("namespace") {
            rename(text);
        }
        if let Some(text) = object["metadata"].get_mut("name").filter(|_| is_namespace) {
            rename(text);
        }
        let subjects = object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten();
        subjects.filter_map(|subject| subject.get_mut("namespace")).for_each(rename);
        object
    };
    namespaces.iter().map(one).collect()
}

async fn put(
    cluster: &ClusterName,
    client: &Client,
    plan: &Plan,
    object: &DynamicObject,
) -> Result<Installed> {
    let types = object.types.clone().unwrap_or_default();
    let (name, namespace) = (object.name_any(), object.namespace());
    let action = format!("apply {} {name}", types.kind);
    let failed = |error| Error::from_kube(cluster, action.clone(), error);
    let gvk = GroupVersionKind::try_from(&types).map_err(|error| Error::Unsent {
        cluster: cluster.clone(),
        action: action.clone(),
        reason: error.to_string(),
    })?;
    let resource = ApiResource::from_gvk(&gvk);
    let api: Api<DynamicObject> = match &namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let before = api.get_opt(&name).await.map_err(failed)?;
    if before.as_ref().is_some_and(|before| version(before) > version(object)) {
        // Another installation with a later Spaceport shares the cluster.
        let (kind, namespace) = (types.kind, namespace.unwrap_or_default());
        return Ok(Installed { kind, namespace, name, outcome: Outcome::Unchanged });
    }
    let params =
        PatchParams { dry_run: plan.dry_run, force: plan.force_conflicts, ..PatchParams::apply(MANAGER) };
    let after = match api.patch(&name, &params, &Patch::Apply(object)).await {
        Ok(after) => Some(after),
        // The dry run did not create its namespace.
        Err(kube::Error::Api(status)) if plan.dry_run && status.code == 404 => None,
        Err(error) => return Err(failed(error)),
    };
    if types.kind == "CustomResourceDefinition" && !plan.dry_run {
        established(cluster, client, &name).await?;
    }
    let outcome = outcome(before.as_ref(), after.as_ref());
    Ok(Installed { kind: types.kind, namespace: namespace.unwrap_or_default(), name, outcome })
}

/// Compares contents, because a dry run answers with the resource version that is stored: so a plan says what the run will.
fn outcome(before: Option<&DynamicObject>, after: Option<&DynamicObject>) -> Outcome {
    match before {
        None => Outcome::Created,
        Some(before) if Some(content(before)) == after.map(content) => Outcome::Unchanged,
        Some(_) => Outcome::Changed,
    }
}

/// An object without what depends on when it was written.
fn content(object: &DynamicObject) -> DynamicObject {
    let mut object = object.clone();
    let metadata = &mut object.metadata;
    (metadata.resource_version, metadata.generation) = (None, None);
    let owners = metadata.managed_fields.get_or_insert_default();
    for owner in owners.iter_mut() {
        owner.time = None;
    }
    owners.sort_by_key(|owner| (owner.manager.clone(), owner.operation.clone(), owner.subresource.clone()));
    object
}

async fn established(cluster: &ClusterName, client: &Client, name: &str) -> Result<()> {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let action = format!("wait for CustomResourceDefinition {name}");
    match tokio::time::timeout(SOON, await_condition(api, name, is_crd_established())).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Error::Ambiguous { cluster: cluster.clone(), action, reason: chain(&error) }),
        Err(_) => {
            let reason = format!("it is not established after {SOON:?}");
            Err(Error::Ambiguous { cluster: cluster.clone(), action, reason })
        }
    }
}

/// A kubeconfig of the manager's ServiceAccount, at the address and with the authority of the admin's.
pub async fn login(
    cluster: &ClusterName,
    client: &Client,
    credentials: &Credentials,
) -> Result<Secret<String>> {
    let api = Api::<K8sSecret>::namespaced(client.clone(), SYSTEM);
    let action = "wait for the token of the ServiceAccount spaceport".to_owned();
    let unfilled =
        |reason: String| Error::Ambiguous { cluster: cluster.clone(), action: action.clone(), reason };
    let filled = |secret: Option<&K8sSecret>| {
        secret.and_then(|secret| secret.data.as_ref()).is_some_and(|data| data.contains_key("token"))
    };
    let waited = tokio::time::timeout(SOON, await_condition(api, TOKEN, filled)).await;
    let secret = waited
        .map_err(|_| unfilled(format!("the cluster did not fill it in within {SOON:?}")))?
        .map_err(|error| unfilled(error.to_string()))?;
    let mut data = secret.and_then(|secret| secret.data).unwrap_or_default();
    let token = data.remove("token").and_then(|token| String::from_utf8(token.0).ok());
    let token = token.ok_or_else(|| unfilled("it is no text".to_owned()))?;
    let mut server = json!({ "server": credentials.server() });
    if let Some(authority) = credentials.authority_data() {
        server["certificate-authority-data"] = authority.into();
    }
    if let Some(name) = credentials.tls_server_name() {
        server["tls-server-name"] = name.into();
    }
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": MANAGER,
        "clusters": [{ "name": "cluster", "cluster": server }],
        "users": [{ "name": MANAGER, "user": { "token": token } }],
        "contexts": [{ "name": MANAGER, "context": { "cluster": "cluster", "user": MANAGER } }],
    });
    Ok(Secret::new(format!("{config:#}\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(pairs: &[(&str, &str)]) -> Vec<(String, String, String)> {
        let pairs: Vec<_> = pairs.iter().map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).collect();
        let objects = objects(&"eu".parse().unwrap(), &pairs, WORKSPACE_HOST_PATH).unwrap();
        let of = |object: &DynamicObject| {
            let kind = object.types.clone().unwrap().kind;
            (kind, object.namespace().unwrap_or_default(), object.name_any())
        };
        objects.iter().map(of).collect()
    }

    #[test]
    fn every_manifest_is_part_of_the_program() {
        for folder in ["crds", "clusters/member"] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
            for entry in std::fs::read_dir(path).unwrap() {
                let file = entry.unwrap().path();
                if file.extension().is_some_and(|extension| extension == "yaml") {
                    let path = format!("{folder}/{}", file.file_name().unwrap().display());
                    assert!(MANIFESTS.iter().any(|(known, _)| *known == path), "{path}");
                }
            }
        }
    }

    #[test]
    fn objects_of_a_namespace_are_there_for_each_and_those_of_the_cluster_once() {
        let found = named(&[("a", "a-secrets"), ("b", "b-secrets")]);
        let has = |kind: &str, namespace: &str, name: &str| {
            found.iter().filter(|one| **one == (kind.into(), namespace.into(), name.into())).count()
        };
        for namespace in ["a", "a-secrets", "b", "b-secrets"] {
            assert_eq!(has("Namespace", "", namespace), 1, "{namespace}");
            assert_eq!(has("Role", namespace, "spaceport"), 1, "{namespace}");
        }
        assert_eq!(has("ClusterRole", "", "spaceport"), 1);
        assert_eq!(has("Namespace", "", "spaceport-system"), 1);
        assert!(!found.iter().any(|(_, namespace, name)| namespace == NAMESPACE || name == NAMESPACE));
    }

    #[test]
    fn the_workspace_namespace_names_the_folder_of_content_for_the_pod_policy_where_it_is_another_one() {
        let folders = |host_path: &str| {
            let pair = ("a".parse().unwrap(), "a-secrets".parse().unwrap());
            let objects = objects(&"eu".parse().unwrap(), &[pair], host_path).unwrap();
            let named = objects.iter().filter_map(|object| {
                Some((object.name_any(), object.metadata.annotations.as_ref()?.get(HOST_PATH)?.clone()))
            });
            named.collect::<Vec<_>>()
        };
        assert_eq!(folders("/mnt/workspaces/"), [("a".to_owned(), "/mnt/workspaces".to_owned())]);
        assert!(folders(WORKSPACE_HOST_PATH).is_empty());
        let policy = include_str!("../../clusters/member/pod-policy.yaml");
        assert!(
            policy.contains(&format!("'{WORKSPACE_HOST_PATH}'"))
                && policy.contains(&format!("'{HOST_PATH}'"))
        );
    }

    #[test]
    fn an_apply_changes_what_differs_besides_versions_and_times() {
        let object = |version: &str, time: &str, label: &str| -> DynamicObject {
            serde_json::from_value(json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {
                    "name": "ws", "resourceVersion": version, "labels": { "a": label },
                    "managedFields": [{ "manager": MANAGER, "operation": "Apply", "time": time }],
                },
            }))
            .unwrap()
        };
        let before = object("1", "2026-01-01T00:00:00Z", "x");
        let written_again = object("2", "2026-01-01T00:01:00Z", "x");
        assert_eq!(outcome(Some(&before), Some(&written_again)), Outcome::Unchanged);
        // A dry run answers with the version before.
        let planned = object("1", "2026-01-01T00:01:00Z", "y");
        assert_eq!(outcome(Some(&before), Some(&planned)), Outcome::Changed);
        assert_eq!(outcome(None, Some(&before)), Outcome::Created);
        assert_eq!(outcome(None, None), Outcome::Created);
    }

    #[test]
    fn without_names_the_manifests_are_applied_as_they_are() {
        let found = named(&[]);
        assert!(found.contains(&("Namespace".into(), String::new(), NAMESPACE.into())));
        assert_eq!(found.iter().filter(|(kind, ..)| kind == "CustomResourceDefinition").count(), 2);
    }
}
