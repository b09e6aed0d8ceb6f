//! The fence's policies on a real apiserver: every verb and shape of a request, by user spaceport and by others, in
//! workspace and secrets namespaces and in one of another tenant.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http::Request;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use e2e::harness::fence::{as_spaceport, as_user};
use e2e::harness::spaceport::{NAMESPACE, SECRETS_NAMESPACE, prepare_namespaces, prepare_without_pod_policy};
use e2e::harness::{Cluster, Fleet, FleetOptions, block_on, until};

/// A namespace that Spaceport does not use.
const TENANT: &str = "tenant";
/// A user with all rights and no special role.
const SOMEBODY: &str = "somebody";
const SOON: Duration = Duration::from_secs(40);
const FENCE: &str = "spaceport-fence";

/// One cluster with the fence. Users spaceport and somebody hold more rights than they need, so that only policies
/// reject.
async fn cluster() -> Result<&'static Cluster> {
    static FLEET: OnceLock<OnceCell<Fleet>> = OnceLock::new();
    let boot = async || {
        let fleet = Fleet::boot(FleetOptions::of(1)).await?;
        let cluster = &fleet.clusters()[0];
        prepare_without_pod_policy(cluster).await?;
        cluster.apply_yaml(RIGHTS).await?;
        for namespace in [NAMESPACE, SECRETS_NAMESPACE, TENANT] {
            prepare(cluster, namespace).await?;
        }
        for namespace in [NAMESPACE, SECRETS_NAMESPACE] {
            let maps: Api<ConfigMap> =
                Api::namespaced(as_spaceport(cluster, Some(&epoch(10))).await?, namespace);
            maps.create(&PostParams::default(), &map(FENCE, &epoch(10))?).await?;
            until(SOON, "the parameter to be compared with", async || {
                let stale: Api<ConfigMap> =
                    Api::namespaced(as_spaceport(cluster, Some(&epoch(9))).await?, namespace);
                let dry = PostParams { dry_run: true, ..PostParams::default() };
                ensure!(stale.create(&dry, &map("x", "x")?).await.is_err(), "an earlier epoch is accepted");
                Ok(())
            })
            .await?;
        }
        anyhow::Ok(fleet)
    };
    let fleet = FLEET.get_or_init(OnceCell::new).get_or_try_init(boot).await?;
    Ok(&fleet.clusters()[0])
}

/// User spaceport may create Workspaces only in its workspace namespace (rbac.yaml), and everything else everywhere.
const RIGHTS: &str = r"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: fence-policies }
rules:
  - { apiGroups: ['', apps, coordination.k8s.io, policy], resources: ['*'], verbs: ['*'] }
  - { apiGroups: [workspace.gitpod.io], resources: [snapshots], verbs: ['*'] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: fence-policies }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: fence-policies }
subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: User, name: spaceport }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: fence-policies-somebody }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin }
subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: User, name: somebody }]
---
apiVersion: v1
kind: Namespace
metadata: { name: tenant }
";

/// Objects to write to.
async fn prepare(cluster: &Cluster, namespace: &str) -> Result<()> {
    let pod = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: {namespace} }}\n\
             spec: {{ nodeSelector: {{ nowhere: x }}, containers: [{{ name: c, image: none }}] }}\n---\n"
        )
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), namespace);
    let made = |account: Option<&ServiceAccount>| account.is_some();
    timeout(SOON, await_condition(accounts, "default", made)).await.context("no service account")??;
    let pods: String = PODS.into_iter().map(pod).collect();
    let others = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: there, namespace: {namespace}, labels: {{ of: test }} }}\n\
         ---\napiVersion: v1\nkind: Service\nmetadata: {{ name: service, namespace: {namespace} }}\n\
         spec: {{ ports: [{{ port: 80 }}] }}\n---\napiVersion: apps/v1\nkind: Deployment\n\
         metadata: {{ name: scaled, namespace: {namespace} }}\nspec: {{ replicas: 0, selector: {{ matchLabels: {{ a: b }} }}, \
         template: {{ metadata: {{ labels: {{ a: b }} }}, spec: {{ containers: [{{ name: c, image: none }}] }} }} }}\n"
    );
    cluster.apply_yaml(&(pods + &others)).await
}

const WORKSPACE_PODS: [&str; 3] = ["ws-a1", "prebuild-a1", "imagebuild-a1"];
const OTHER_PODS: [&str; 5] = ["ws-daemon-x7k2p", "ws-proxy-0", "ws-manager-mk2-0", "registry-facade", "wsx"];
const PODS: [&str; 8] = [
    WORKSPACE_PODS[0],
    WORKSPACE_PODS[1],
    WORKSPACE_PODS[2],
    OTHER_PODS[0],
    OTHER_PODS[1],
    OTHER_PODS[2],
    OTHER_PODS[3],
    OTHER_PODS[4],
];

fn epoch(revision: i64) -> String {
    format!("11111111-2222-3333-4444-555555555555/1/{revision}")
}

fn map(name: &str, text: &str) -> Result<ConfigMap> {
    Ok(serde_json::from_value(json!({ "metadata": { "name": name }, "data": { "epoch": text } }))?)
}

/// Method, path below the namespace, content type, body.
type Shape = (&'static str, &'static str, &'static str, Value);

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// Every shape of a write. All are dry runs.
fn writes() -> Vec<Shape> {
    let map = |name: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "a": "b" } });
    let name = json!({ "metadata": { "name": "ws-a1" } });
    let ephemeral = json!({ "spec": { "ephemeralContainers": [{ "name": "e", "image": "none" }] } });
    vec![
        ("POST", "v1/configmaps?", JSON, map("new")),
        ("POST", "v1/configmaps?", JSON, json!({ "metadata": { "generateName": "new-" } })),
        ("POST", "v1/configmaps?", JSON, json!({ "metadata": { "generateName": "spaceport-fence" } })),
        ("PUT", "v1/configmaps/there?", JSON, map("there")),
        ("PATCH", "v1/configmaps/there?", MERGE, json!({ "data": { "a": "b" } })),
        ("PATCH", "v1/configmaps/there?fieldManager=e&force=true&", APPLY, map("there")),
        ("PATCH", "v1/configmaps/new?fieldManager=e&force=true&", APPLY, map("new")),
        ("DELETE", "v1/configmaps/there?", JSON, Value::Null),
        ("DELETE", "v1/configmaps?labelSelector=of%3Dtest&", JSON, Value::Null),
        ("POST", "v1/secrets?", JSON, json!({ "metadata": { "generateName": "s-" } })),
        ("PATCH", "v1/pods/ws-a1?", MERGE, json!({ "metadata": { "annotations": { "a": "b" } } })),
        ("PATCH", "v1/pods/ws-a1/status?", MERGE, json!({ "status": { "message": "x" } })),
        ("PATCH", "v1/pods/ws-a1/ephemeralcontainers?", STRATEGIC, ephemeral),
        ("POST", "v1/pods/ws-a1/eviction?", JSON, name.clone()),
        (
            "POST",
            "v1/pods/ws-a1/binding?",
            JSON,
            json!({ "metadata": name["metadata"], "target": { "name": "n" } }),
        ),
        ("DELETE", "v1/pods/ws-a1?", JSON, Value::Null),
        ("DELETE", "v1/pods?", JSON, Value::Null),
        ("POST", "v1/serviceaccounts/default/token?", JSON, json!({ "spec": {} })),
        ("POST", "coordination.k8s.io/v1/leases?", JSON, json!({ "metadata": { "name": "l" } })),
        ("PATCH", "apps/v1/deployments/scaled/scale?", MERGE, json!({ "spec": { "replicas": 1 } })),
        (
            "POST",
            "workspace.gitpod.io/v1/snapshots?",
            JSON,
            json!({
                "apiVersion": "workspace.gitpod.io/v1", "kind": "Snapshot", "metadata": { "generateName": "s-" },
                "spec": { "nodeName": "n", "workspaceID": "w" },
            }),
        ),
    ]
}

/// Outcome of a request.
enum Answer {
    Accepted,
    Fenced,
    /// Neither accepted nor rejected by a policy of the fence.
    Other(String),
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Fenced => f.write_str("refused by the fence"),
            Self::Other(answer) => f.write_str(answer),
        }
    }
}

async fn send(client: &Client, namespace: &str, (method, path, kind, body): &Shape) -> Result<Answer> {
    let (group, rest) = path.split_once('/').context("a path")?;
    let (root, rest) = match group {
        "v1" => ("/api/v1".to_owned(), rest),
        group => {
            let (version, rest) = rest.split_once('/').context("a version")?;
            (format!("/apis/{group}/{version}"), rest)
        }
    };
    let dry = if rest.contains('?') { "dryRun=All" } else { "" };
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
    let request = Request::builder()
        .method(*method)
        .uri(format!("{root}/namespaces/{namespace}/{rest}{dry}"))
        .header(http::header::CONTENT_TYPE, *kind)
        .body(body)?;
    Ok(match client.request_text(request).await {
        Ok(_) => Answer::Accepted,
        Err(kube::Error::Api(status))
            if status.code == 403
                && status.message.contains("ValidatingAdmissionPolicy 'spaceport-fence") =>
        {
            Answer::Fenced
        }
        Err(kube::Error::Api(status)) => Answer::Other(format!("{} {}", status.code, status.message)),
        Err(error) => bail!("{method} {path}: {error}"),
    })
}

#[test]
fn user_spaceport_writes_by_every_verb_with_an_epoch_that_is_not_earlier_and_nobody_else_is_concerned()
-> Result<()> {
    block_on(async {
        let cluster = cluster().await?;
        let foreign = epoch(10).replace("1111", "2222");
        let epochs =
            [None, Some(epoch(9)), Some(foreign), Some("10".into()), Some(epoch(10)), Some(epoch(11))];
        let mut wrong = Vec::new();
        for namespace in [NAMESPACE, SECRETS_NAMESPACE, TENANT] {
            let mut users = vec![(as_user(cluster, SOMEBODY, None).await?, "somebody".to_owned(), true)];
            for shown in &epochs {
                // Where no leader was yet, and in namespaces where it has no rights, any epoch is accepted.
                let current = [Some(epoch(10)), Some(epoch(11))].contains(shown);
                let is_epoch = shown.as_ref().is_some_and(|text| text.contains('/'));
                let client = as_spaceport(cluster, shown.as_deref()).await?;
                let may = current || namespace == TENANT && is_epoch;
                users.push((client, format!("spaceport {shown:?}"), may));
            }
            for (client, who, may) in users {
                for shape in writes() {
                    let answer = send(&client, namespace, &shape).await?;
                    let right = if may {
                        matches!(answer, Answer::Accepted)
                    } else {
                        matches!(answer, Answer::Fenced)
                    };
                    if !right {
                        wrong.push(format!("{who} in {namespace}: {} {}: {answer}", shape.0, shape.1));
                    }
                }
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
}

#[test]
fn user_spaceport_connects_to_workspace_pods_alone_and_without_an_epoch() -> Result<()> {
    block_on(async {
        let cluster = cluster().await?;
        let (plain, stale, current) = (
            as_spaceport(cluster, None).await?,
            as_spaceport(cluster, Some(&epoch(9))).await?,
            as_spaceport(cluster, Some(&epoch(10))).await?,
        );
        let somebody = as_user(cluster, SOMEBODY, None).await?;
        let subresources = ["exec?command=ls&stdout=true", "portforward", "attach?stdout=true", "proxy"];
        let mut wrong = Vec::new();
        for namespace in [NAMESPACE, SECRETS_NAMESPACE, TENANT] {
            let mut calls: Vec<(String, bool)> = vec![("services/service/proxy".to_owned(), false)];
            for pod in PODS {
                let is_workspace = namespace == NAMESPACE && WORKSPACE_PODS.contains(&pod);
                let to = |sub: &&str| {
                    (format!("pods/{pod}/{sub}"), is_workspace && !sub.contains("tach") && *sub != "proxy")
                };
                calls.extend(subresources.iter().map(to));
            }
            for (path, may) in calls {
                let method = if path.ends_with("proxy") { "GET" } else { "POST" };
                for (who, client) in
                    [("none", &plain), ("stale", &stale), ("current", &current), ("other", &somebody)]
                {
                    let request = Request::builder()
                        .method(method)
                        .uri(format!("/api/v1/namespaces/{namespace}/{path}"))
                        .body(Vec::new())?;
                    let refused = match client.request_text(request).await {
                        Err(kube::Error::Api(status)) => status.message.contains("'spaceport-fence"),
                        // Admission passed: there is no container to connect to.
                        _ => false,
                    };
                    if refused == (may || who == "other") {
                        wrong.push(format!("{who} in {namespace}: {path}: refused: {refused}"));
                    }
                }
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
}

#[test]
fn the_parameter_cannot_be_lowered_fixed_or_deleted_by_any_verb() -> Result<()> {
    block_on(async {
        let cluster = cluster().await?;
        let own = |revision: i64| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": FENCE }, "data": { "epoch": epoch(revision) } });
        let to = |text: &str| json!({ "data": { "epoch": text } });
        let object = "v1/configmaps/spaceport-fence?";
        let forced = "v1/configmaps/spaceport-fence?fieldManager=e&force=true&";
        let never: Vec<Shape> = vec![
            ("PATCH", object, MERGE, to(&epoch(9))),
            ("PATCH", object, MERGE, to("")),
            ("PATCH", object, MERGE, to(&epoch(10).replace("1111", "2222"))),
            ("PATCH", object, MERGE, json!({ "data": null })),
            ("PATCH", object, MERGE, json!({ "immutable": true })),
            ("PATCH", forced, APPLY, own(9)),
            ("PUT", object, JSON, own(9)),
            ("PUT", object, JSON, json!({ "metadata": { "name": FENCE } })),
            ("DELETE", object, JSON, Value::Null),
            ("DELETE", "v1/configmaps?fieldSelector=metadata.name%3Dspaceport-fence&", JSON, Value::Null),
            ("DELETE", "v1/configmaps?", JSON, Value::Null),
        ];
        let mut wrong = Vec::new();
        for namespace in [NAMESPACE, SECRETS_NAMESPACE] {
            for (who, client) in [
                ("somebody", as_user(cluster, SOMEBODY, None).await?),
                ("spaceport", as_spaceport(cluster, Some(&epoch(10))).await?),
            ] {
                for shape in &never {
                    match send(&client, namespace, shape).await? {
                        Answer::Fenced => {}
                        answer => wrong.push(format!("{who} in {namespace}: {shape:?}: {answer}")),
                    }
                }
            }
            let later = as_spaceport(cluster, Some(&epoch(100))).await?;
            let raise: Shape = ("PATCH", object, MERGE, to(&epoch(100)));
            ensure!(matches!(send(&later, namespace, &raise).await?, Answer::Accepted), "it is not raised");
            let further: Shape = ("PATCH", object, MERGE, to(&epoch(101)));
            ensure!(
                matches!(send(&later, namespace, &further).await?, Answer::Fenced),
                "to what is not shown"
            );
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
}

#[test]
fn namespaces_of_tenants_and_of_spaceport_itself_can_be_deleted_with_all_that_is_in_them() -> Result<()> {
    block_on(async {
        let cluster = cluster().await?;
        let (gone, secrets, tenant) = ("gone", "gone-secrets", "gone-tenant");
        prepare_namespaces(cluster, gone, secrets).await?;
        cluster.prepare_namespace(tenant).await?;
        for namespace in [gone, secrets] {
            let maps: Api<ConfigMap> =
                Api::namespaced(as_spaceport(cluster, Some(&epoch(3))).await?, namespace);
            maps.create(&PostParams::default(), &map(FENCE, &epoch(3))?).await?;
        }
        // A tenant may use the name.
        let theirs: Api<ConfigMap> = Api::namespaced(as_user(cluster, SOMEBODY, None).await?, tenant);
        for name in [FENCE, "another"] {
            theirs.create(&PostParams::default(), &map(name, "anything")?).await?;
        }
        let change = json!({ "data": { "epoch": "else" }, "immutable": true });
        theirs.patch(FENCE, &PatchParams::default(), &Patch::Merge(&change)).await?;
        theirs.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        ensure!(theirs.get_opt(FENCE).await?.is_none(), "it is still there");
        theirs.create(&PostParams::default(), &map(FENCE, "anything")?).await?;
        theirs.delete(FENCE, &DeleteParams::default()).await?;

        let namespaces = Api::<Namespace>::all(cluster.client());
        for name in [tenant, gone, secrets] {
            let uid = namespaces.get(name).await?.metadata.uid.context("no uid")?;
            namespaces.delete(name, &DeleteParams::default()).await?;
            let deleted = await_condition(namespaces.clone(), name, is_deleted(&uid));
            timeout(SOON, deleted).await.with_context(|| format!("namespace {name} is not deleted"))??;
        }
        Ok(())
    })
}
