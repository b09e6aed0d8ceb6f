//! Clusters that answer every probe and accept no workspace: placement learns from rejected starts, avoids them,
//! reports why, and uses them again once they recover.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use k8s::resources::names;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::{ConfigMap, LimitRange, Namespace, Pod, ResourceQuota};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use proto::wsman::{StartWorkspaceRequest, SubscribeResponse, WorkspacePhase, WorkspaceStatus};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tonic::{Code, Streaming};

use crate::adopt::{deregister_by_force, reported};
use crate::bulkheads::behind_proxy;
use crate::namespaces::{register_both, within};
use crate::outage::register_private;
use crate::story::{
    Story, describe, follow, is, refused, request, run, start, starts_go_to, stop, story, until, watch,
    with_secrets,
};
use e2e::harness::spaceport::get;
use e2e::harness::{Answer, Cluster, ClusterOptions, Part, Rule, Signal};

/// How long an apiserver keeps serving after it is asked to end.
const SERVES_ON: Duration = Duration::from_secs(20);

/// A server that accepts connections and never responds.
struct Silence {
    url: String,
    accepting: tokio::task::JoinHandle<()>,
}

impl Silence {
    async fn listen() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("https://{}/", listener.local_addr()?);
        let accepting = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        });
        Ok(Self { url, accepting })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn webhooks(story: &Story) -> Result<Api<ValidatingWebhookConfiguration>> {
    Ok(Api::all(story.cluster("eu-1")?.client()))
}

/// Sends creations in the story's namespace of eu-1 to a webhook with the longest default timeout.
async fn install(story: &Story, url: &str, group: &str, resource: &str) -> Result<()> {
    install_for(story, url, (group, resource, "CREATE")).await
}

/// The same for any operation.
async fn install_for(
    story: &Story,
    url: &str,
    (group, resource, operation): (&str, &str, &str),
) -> Result<()> {
    let webhook = json!({
        "metadata": { "name": story.namespace },
        "webhooks": [{
            "name": format!("{}.example.com", story.namespace), "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "timeoutSeconds": 10, "clientConfig": { "url": url },
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": story.namespace } },
            "rules": [{
                "apiGroups": [group], "apiVersions": ["*"], "operations": [operation], "resources": [resource],
            }],
        }],
    });
    webhooks(story)?.create(&PostParams::default(), &serde_json::from_value(webhook)?).await?;
    Ok(())
}

async fn uninstall(story: &Story) -> Result<()> {
    webhooks(story)?.delete(&story.namespace, &DeleteParams::default()).await?;
    Ok(())
}

/// A policy that denies an operation on a resource in the story's namespace of eu-1 unless an expression is true.
async fn deny(story: &Story, (resource, operation): (&str, &str), unless: &str) -> Result<()> {
    let kube = story.cluster("eu-1")?.client();
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(json!({
        "metadata": { "name": story.namespace },
        "spec": {
            "matchConstraints": {
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": story.namespace } },
                "resourceRules": [{
                    "apiGroups": [names::GROUP], "apiVersions": ["*"], "operations": [operation],
                    "resources": [resource],
                }],
            },
            "validations": [{ "expression": unless }],
        },
    }))?;
    let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(json!({
        "metadata": { "name": story.namespace },
        "spec": { "policyName": story.namespace, "validationActions": ["Deny"] },
    }))?;
    Api::all(kube.clone()).create(&PostParams::default(), &policy).await?;
    Api::all(kube).create(&PostParams::default(), &binding).await?;
    Ok(())
}

async fn allow(story: &Story) -> Result<()> {
    let (kube, params) = (story.cluster("eu-1")?.client(), DeleteParams::default());
    Api::<ValidatingAdmissionPolicyBinding>::all(kube.clone()).delete(&story.namespace, &params).await?;
    Api::<ValidatingAdmissionPolicy>::all(kube).delete(&story.namespace, &params).await?;
    Ok(())
}

/// Waits until the policy denies a dry-run write of the test's own.
async fn is_in_force(write: impl AsyncFn() -> kube::Result<()>) -> Result<()> {
    until("the policy to be in force", async || {
        let refusal = write().await.err().context("writes are accepted")?.to_string();
        ensure!(refusal.contains("ValidatingAdmissionPolicy"), "{refusal}");
        Ok(())
    })
    .await
}

/// A dry-run write of the status of a workspace on eu-1.
async fn write_status(story: &Story, id: &str, starts: u32) -> kube::Result<()> {
    let workspaces = story.resources("eu-1").map_err(|error| kube::Error::Service(error.into()))?;
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = json!({ "status": { "podStarts": starts } });
    workspaces.patch_status(id, &params, &Patch::Merge(patch)).await.map(drop)
}

/// A start that is pinned to eu-1.
fn pinned(id: &str) -> Result<StartWorkspaceRequest> {
    let mut request = request(id, &["europe"]);
    let placement = request.spec.as_mut().and_then(|spec| spec.placement.as_mut()).context("no placement")?;
    "eu-1".clone_into(&mut placement.cluster);
    Ok(request)
}

/// Waits until a condition of eu-1 has this state and reason.
async fn condition(story: &Story, kind: &str, state: &str, reason: &str) -> Result<Value> {
    let mut found = Value::Null;
    until(&format!("{kind} to be {state} {reason}"), async || {
        let cluster = reported(story, &["show", "eu-1"]).await?;
        let conditions = cluster["status"]["conditions"].as_array().context("no conditions")?;
        let one = conditions.iter().find(|one| one["type"] == kind).context("no such condition")?;
        let shown = one["state"].as_str().unwrap_or_default();
        ensure!(shown.eq_ignore_ascii_case(state) && one["reason"] == reason, "it is {one}");
        found = one.clone();
        Ok(())
    })
    .await?;
    Ok(found)
}

async fn begin(story: &mut Story, canary: &str) -> Result<()> {
    story.installation.overrides = json!({ "federation": { "health": { "canary": canary } } });
    story.replicas.push(story.installation.start("manager-0").await?);
    for cluster in ["eu-1", "us-1"] {
        story.register(cluster).await?;
    }
    Ok(())
}

/// Waits until placement finds no capacity in Europe because of a ResourceQuota.
async fn is_full(story: &Story, quota: &str) -> Result<()> {
    let named = format!("ResourceQuota {quota}");
    until("the quota to be known", async || {
        let forecast = reported(story, &["explain", "--region", "europe", "--require-region"]).await?;
        ensure!(forecast.to_string().contains(&named), "{forecast}");
        Ok(())
    })
    .await
}

/// Number of clusters with a resource of this id.
async fn copies(story: &Story, id: &str) -> Result<usize> {
    let mut count = 0;
    for cluster in ["eu-1", "us-1"] {
        count += usize::from(story.resources(cluster)?.get_opt(id).await?.is_some());
    }
    Ok(count)
}

#[test]
fn a_silent_webhook_on_workspaces_sends_starts_elsewhere_until_the_canary_is_accepted() -> Result<()> {
    story("silent-hook", 0, &[], async |story| {
        begin(story, "1s").await?;
        let silence = Silence::listen().await?;
        install(story, &silence.url, "workspace.gitpod.io", "workspaces").await?;
        condition(story, "WorkspacesAccepted", "False", "Failing").await?;
        story.available("eu-1").await?;
        let mut client = story.client().await?;
        let elsewhere = run(&mut client, request("elsewhere", &["europe"])).await?;
        ensure!(elsewhere.cluster == "us-1", "it is on {}", elsewhere.cluster);
        // A start that is pinned there gets the reason.
        let status = refused(client.start_workspace(pinned("pinned")?).await, Code::Unavailable)?;
        ensure!(status.message().contains("creating workspaces fails"), "{status:?}");
        ensure!(copies(story, "pinned").await? == 0, "it was created");

        uninstall(story).await?;
        condition(story, "WorkspacesAccepted", "True", "").await?;
        let there = run(&mut client, request("there", &["europe"])).await?;
        ensure!(there.cluster == "eu-1", "it is on {}", there.cluster);
        Ok(())
    })
}

#[test]
fn a_start_that_meets_a_silent_webhook_stays_where_it_is_and_the_next_one_goes_elsewhere() -> Result<()> {
    story("first-hook", 0, &[], async |story| {
        // Only starts detect it.
        begin(story, "1h").await?;
        let silence = Silence::listen().await?;
        install(story, &silence.url, "workspace.gitpod.io", "workspaces").await?;
        let mut client = story.client().await?;
        let status = refused(client.start_workspace(request("first", &["europe"])).await, Code::Unavailable)?;
        ensure!(status.message().contains("eu-1"), "{status:?}");
        let next = run(&mut client, request("next", &["europe"])).await?;
        ensure!(next.cluster == "us-1", "it is on {}", next.cluster);

        uninstall(story).await?;
        until("the first start to be settled", async || {
            start(&mut client, request("first", &["europe"])).await.map(drop)
        })
        .await?;
        let mut stream = watch(&mut client, "first").await?;
        follow(&mut stream, is(WorkspacePhase::Running)).await?;
        ensure!(copies(story, "first").await? == 1, "it exists twice");
        Ok(())
    })
}

/// The status of workspaces cannot be written: the workspace says so with `of_workspace`, the cluster with `cause`, and the next
/// starts go elsewhere.
async fn shows_that_its_status_is_not_written(story: &Story, of_workspace: &str, cause: &str) -> Result<()> {
    let mut client = story.client().await?;
    let mut first = watch(&mut client, "first").await?;
    start(&mut client, request("first", &["europe"])).await?;
    follow(&mut first, |status: &WorkspaceStatus| {
        status.message.contains("cannot write") && status.message.contains(of_workspace)
    })
    .await?;
    let shown = condition(story, "WorkspacesAccepted", "False", "StatusWritesFail").await?;
    ensure!(shown["message"].as_str().is_some_and(|message| message.contains(cause)), "{shown}");
    story.available("eu-1").await?;
    // The leader's own dry run, of the other workspace, fails too.
    until("starts to avoid the cluster", async || {
        let forecast = reported(story, &["explain", "--region", "europe"]).await?;
        ensure!(forecast.to_string().contains("writing the status of workspaces fails"), "{forecast}");
        Ok(())
    })
    .await?;
    let elsewhere = run(&mut client, request("elsewhere", &["europe"])).await?;
    ensure!(elsewhere.cluster == "us-1", "it is on {}", elsewhere.cluster);
    Ok(())
}

/// The cause is gone: the first workspace runs and says nothing of it any more, and the next start goes there.
async fn writes_its_status_again(story: &Story) -> Result<()> {
    let mut client = story.client().await?;
    let mut first = watch(&mut client, "first").await?;
    condition(story, "WorkspacesAccepted", "True", "").await?;
    follow(&mut first, |status: &WorkspaceStatus| {
        status.phase() == WorkspacePhase::Running && !status.message.contains("cannot write")
    })
    .await?;
    let there = run(&mut client, request("there", &["europe"])).await?;
    ensure!(there.cluster == "eu-1", "it is on {}", there.cluster);
    Ok(())
}

#[test]
fn a_status_that_a_policy_denies_is_shown_with_the_reason_and_starts_go_elsewhere() -> Result<()> {
    story("denied-status", 0, &[], async |story| {
        begin(story, "1s").await?;
        run(&mut story.client().await?, request("runs", &["europe"])).await?;
        deny(story, ("workspaces/status", "UPDATE"), "false").await?;
        is_in_force(async || write_status(story, "runs", 1).await).await?;
        let denied = "ValidatingAdmissionPolicy denied-status denied it";
        shows_that_its_status_is_not_written(story, denied, denied).await?;
        allow(story).await?;
        writes_its_status_again(story).await
    })
}

#[test]
fn a_silent_webhook_on_the_status_is_shown_with_the_reason_and_starts_go_elsewhere() -> Result<()> {
    story("silent-status", 0, &[], async |story| {
        begin(story, "1s").await?;
        run(&mut story.client().await?, request("runs", &["europe"])).await?;
        let silence = Silence::listen().await?;
        install_for(story, &silence.url, (names::GROUP, "workspaces/status", "UPDATE")).await?;
        shows_that_its_status_is_not_written(story, "status of Workspace first", "writing the status")
            .await?;
        uninstall(story).await?;
        writes_its_status_again(story).await
    })
}

#[test]
fn one_workspace_whose_status_is_denied_says_why_and_keeps_nobody_from_its_cluster() -> Result<()> {
    story("odd-status", 0, &[], async |story| {
        begin(story, "1s").await?;
        let mut client = story.client().await?;
        run(&mut client, request("even", &["europe"])).await?;
        let unless = "object.metadata.name != 'odd' && object.status.podStarts < 99";
        deny(story, ("workspaces/status", "UPDATE"), unless).await?;
        is_in_force(async || write_status(story, "even", 99).await).await?;
        let mut odd = watch(&mut client, "odd").await?;
        start(&mut client, request("odd", &["europe"])).await?;
        follow(&mut odd, |status: &WorkspaceStatus| status.message.contains("cannot write")).await?;
        for id in ["even-1", "even-2"] {
            let even = run(&mut client, request(id, &["europe"])).await?;
            ensure!(even.cluster == "eu-1", "it is on {}", even.cluster);
        }
        condition(story, "WorkspacesAccepted", "True", "").await?;
        allow(story).await?;
        follow(&mut odd, is(WorkspacePhase::Running)).await?;
        Ok(())
    })
}

#[test]
fn a_cluster_whose_rules_reject_every_workspace_is_the_last_choice_until_it_accepts_one() -> Result<()> {
    story("no-workspaces", 0, &[], async |story| {
        begin(story, "1s").await?;
        deny(story, ("workspaces", "CREATE"), "false").await?;
        let denied = "ValidatingAdmissionPolicy no-workspaces denied it";
        let (mut client, mut tries) = (story.client().await?, 0);
        until("the policy to be in force", async || {
            tries += 1;
            let refusal = client.start_workspace(pinned(&format!("p-{tries}"))?).await;
            let refusal = refusal.err().context("it was started")?;
            ensure!(refusal.message().contains(denied), "{refusal:?}");
            Ok(())
        })
        .await?;
        for id in ["a", "b", "c"] {
            let elsewhere = run(&mut client, request(id, &["europe"])).await?;
            ensure!(elsewhere.cluster == "us-1", "it is on {}", elsewhere.cluster);
        }
        let shown = condition(story, "WorkspacesAccepted", "False", "RejectedByRules").await?;
        ensure!(shown["message"].as_str().is_some_and(|message| message.contains(denied)), "{shown}");
        let forecast = reported(story, &["explain", "--region", "europe"]).await?;
        let last = forecast["clusters"]["eu-1"]["lastChoice"].as_str().context("it is no last choice")?;
        ensure!(last.contains(denied), "{forecast}");
        run(&mut client, request("d", &["europe"])).await?;
        let output = story.cli(&["workspace", "explain", "d", "-o", "json"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        ensure!(!output.stdout.contains(denied), "eu-1 was asked: {}", output.stdout);
        // A start that is pinned there still goes there.
        let status = refused(client.start_workspace(pinned("e")?).await, Code::FailedPrecondition)?;
        ensure!(status.message().contains(denied), "{status:?}");

        allow(story).await?;
        until("it to accept one", async || start(&mut client, pinned("f")?).await.map(drop)).await?;
        condition(story, "WorkspacesAccepted", "True", "").await?;
        let there = run(&mut client, request("g", &["europe"])).await?;
        ensure!(there.cluster == "eu-1", "it is on {}", there.cluster);
        Ok(())
    })
}

#[test]
fn a_silent_webhook_on_pods_costs_the_next_starts_nothing() -> Result<()> {
    story("silent-pods", 0, &[], async |story| {
        begin(story, "1s").await?;
        let silence = Silence::listen().await?;
        install(story, &silence.url, "", "pods").await?;
        let mut client = story.client().await?;
        let mut first = watch(&mut client, "first").await?;
        start(&mut client, request("first", &["europe"])).await?;
        condition(story, "PodsAccepted", "False", "Rejected").await?;
        for id in ["second", "third"] {
            let begun = Instant::now();
            let placed = start(&mut client, request(id, &["europe"])).await?;
            ensure!(placed.cluster == "us-1", "it is on {}", placed.cluster);
            ensure!(begun.elapsed() < Duration::from_secs(3), "it took {:?}", begun.elapsed());
        }
        uninstall(story).await?;
        condition(story, "PodsAccepted", "True", "").await?;
        follow(&mut first, is(WorkspacePhase::Running)).await?;
        let there = run(&mut client, request("there", &["europe"])).await?;
        ensure!(there.cluster == "eu-1", "it is on {}", there.cluster);
        Ok(())
    })
}

#[test]
fn a_secrets_namespace_that_is_deleted_is_known_after_the_first_start_that_it_refuses() -> Result<()> {
    story("going-secrets", 0, &[], async |story| {
        // Only starts detect it.
        story.installation.overrides = json!({ "federation": { "health": { "canary": "1h" } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let second = register_both(story).await?;
        let secrets = format!("{second}-secrets");
        let kube = story.cluster("eu-1")?.client();
        let kept = Api::<ConfigMap>::namespaced(kube.clone(), &secrets);
        let foreign = json!({ "metadata": { "name": "keeps", "finalizers": ["example.com/keeps"] } });
        kept.create(&PostParams::default(), &serde_json::from_value(foreign)?).await?;
        let namespaces = Api::<Namespace>::all(kube);
        namespaces.delete(&secrets, &DeleteParams::default()).await?;
        let mut client = story.client().await?;
        // Its rights end with it, maybe before its admission says that it ends.
        let mut tries = 0;
        until("a start to be refused", async || {
            tries += 1;
            let started = client.start_workspace(with_secrets(within(&second, &format!("a-{tries}"))?)).await;
            started.err().context("it was started").map(drop)
        })
        .await?;
        let shown = condition(story, "NamespacesActive", "False", "Terminating");
        tokio::time::timeout(Duration::from_secs(5), shown).await.context("it was found late")??;
        let here = run(&mut client, request("here", &["europe"])).await?;
        ensure!(here.namespace == story.namespace, "it is in {}", here.namespace);
        let release = json!({ "metadata": { "finalizers": null } });
        kept.patch("keeps", &PatchParams::default(), &Patch::Merge(release)).await?;
        Ok(())
    })
}

/// Every pod of eu-1 is rejected for a reason: one start detects it, and the next ones go elsewhere. Returns the stream
/// of the first.
async fn is_avoided(story: &Story, why: &str) -> Result<Streaming<SubscribeResponse>> {
    let mut client = story.client().await?;
    let mut first = watch(&mut client, "first").await?;
    start(&mut client, request("first", &["europe"])).await?;
    let shows_why =
        |status: &WorkspaceStatus| status.message.contains(why) && status.phase() == WorkspacePhase::Pending;
    follow(&mut first, shows_why).await?;
    let shown = condition(story, "PodsAccepted", "False", "Rejected").await?;
    ensure!(shown["message"].as_str().is_some_and(|message| message.contains(why)), "{shown}");
    let elsewhere = run(&mut client, request("elsewhere", &["europe"])).await?;
    ensure!(elsewhere.cluster == "us-1", "it is on {}", elsewhere.cluster);
    let left = story.resources("eu-1")?.get_opt("elsewhere").await?;
    ensure!(left.is_none(), "something was written to eu-1");
    Ok(first)
}

/// The cause is gone: the first start runs, and the next ones go there.
async fn is_used_again(story: &Story, mut first: Streaming<SubscribeResponse>) -> Result<()> {
    follow(&mut first, is(WorkspacePhase::Running)).await?;
    condition(story, "PodsAccepted", "True", "").await?;
    let there = run(&mut story.client().await?, request("there", &["europe"])).await?;
    ensure!(there.cluster == "eu-1", "it is on {}", there.cluster);
    Ok(())
}

#[test]
fn a_namespace_that_rejects_pods_gets_no_further_starts_and_says_why_at_once() -> Result<()> {
    story("no-pods", 0, &[], async |story| {
        begin(story, "1s").await?;
        enforce(story, "restricted").await?;
        let first = is_avoided(story, "PodSecurity").await?;
        enforce(story, "privileged").await?;
        is_used_again(story, first).await
    })
}

#[test]
fn a_limit_range_that_rejects_pods_is_named_and_starts_go_elsewhere_while_it_is_there() -> Result<()> {
    story("limit-range", 0, &[], async |story| {
        begin(story, "1s").await?;
        let kube = story.cluster("eu-1")?.client();
        let ranges: Api<LimitRange> = Api::namespaced(kube.clone(), &story.namespace);
        let range = json!({
            "metadata": { "name": "large-only" },
            "spec": { "limits": [{ "type": "Container", "min": { "memory": "4Gi" } }] },
        });
        ranges.create(&PostParams::default(), &serde_json::from_value(range)?).await?;
        let pods: Api<Pod> = Api::namespaced(kube, &story.namespace);
        let requests = json!({ "requests": { "memory": "1Mi" } });
        let small: Pod = serde_json::from_value(json!({
            "metadata": { "name": "trial" },
            "spec": { "containers": [{ "name": "c", "image": "i", "resources": requests }] },
        }))?;
        let trial = PostParams { dry_run: true, ..PostParams::default() };
        until("the LimitRange to be in force", async || {
            let refusal = pods.create(&trial, &small).await.err().context("pods are accepted")?.to_string();
            ensure!(refusal.contains("minimum memory"), "{refusal}");
            Ok(())
        })
        .await?;
        let first = is_avoided(story, "LimitRange").await?;
        ranges.delete("large-only", &DeleteParams::default()).await?;
        is_used_again(story, first).await
    })
}

/// A RuntimeClass with a memory overhead of 8 GiB.
async fn sandbox(story: &Story, cluster: &str) -> Result<()> {
    let classes: Api<RuntimeClass> = Api::all(story.cluster(cluster)?.client());
    let class = json!({
        "metadata": { "name": story.namespace }, "handler": "runc",
        "overhead": { "podFixed": { "memory": "8Gi" } },
    });
    classes.create(&PostParams::default(), &serde_json::from_value(class)?).await?;
    Ok(())
}

#[test]
fn a_runtime_class_that_is_missing_is_named_and_the_overhead_of_one_counts_against_quotas() -> Result<()> {
    story("sandboxed", 0, &[], async |story| {
        let template = story.installation.dir().join("sandboxed.yaml");
        std::fs::write(&template, format!("spec: {{runtimeClassName: {}}}\n", story.namespace))?;
        let class = json!({ "templates": { "defaultPath": template } });
        story.installation.overrides = json!({
            "federation": { "health": { "canary": "1s" } },
            "manager": { "workspaceClass": { "g1-standard": class } },
        });
        story.replicas.push(story.installation.start("manager-0").await?);
        for cluster in ["eu-1", "us-1"] {
            story.register(cluster).await?;
        }
        sandbox(story, "us-1").await?;
        let first = is_avoided(story, "RuntimeClass sandboxed does not exist").await?;
        sandbox(story, "eu-1").await?;
        is_used_again(story, first).await?;

        // `first` and `there` exist: 24 GiB have no capacity for a third one, though its class requests only 128 MiB.
        let quotas: Api<ResourceQuota> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let quota = json!({
            "metadata": { "name": "memory" }, "spec": { "hard": { "requests.memory": "24Gi" } },
        });
        quotas.create(&PostParams::default(), &serde_json::from_value(quota)?).await?;
        is_full(story, "memory").await?;
        let third = run(&mut story.client().await?, request("third", &["europe"])).await?;
        ensure!(third.cluster == "us-1", "it is on {}", third.cluster);
        let left = story.resources("eu-1")?.get_opt("third").await?;
        ensure!(left.is_none(), "something was written to eu-1");
        Ok(())
    })
}

async fn enforce(story: &Story, level: &str) -> Result<()> {
    let patch = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": level } } });
    let namespaces = Api::<Namespace>::all(story.cluster("eu-1")?.client());
    namespaces.patch(&story.namespace, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

#[test]
fn a_used_up_quota_rejects_starts_before_anything_is_sent() -> Result<()> {
    story("full-quota", 0, &[], async |story| {
        begin(story, "1s").await?;
        let quotas: Api<ResourceQuota> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        let quota = json!({ "metadata": { "name": "few" }, "spec": { "hard": { "pods": "1" } } });
        quotas.create(&PostParams::default(), &serde_json::from_value(quota)?).await?;
        let mut client = story.client().await?;
        let first = run(&mut client, request("first", &["europe"])).await?;
        ensure!(first.cluster == "eu-1", "it is on {}", first.cluster);
        is_full(story, "few").await?;
        let second = run(&mut client, request("second", &["europe"])).await?;
        ensure!(second.cluster == "us-1", "it is on {}", second.cluster);
        quotas.delete("few", &DeleteParams::default()).await?;
        Ok(())
    })
}

#[test]
fn no_start_goes_where_workspaces_cannot_be_watched() -> Result<()> {
    story("blind", 0, &[], async |story| {
        story.replicas.push(story.installation.start("manager-0").await?);
        story.register("us-1").await?;
        let proxy = behind_proxy(story, "eu-1").await?;
        let lists = |call: &http::request::Parts| {
            call.method == Method::GET && call.uri.path().ends_with("/workspaces")
        };
        proxy.rules(vec![Rule::new(lists, Answer::Status(500))]);
        proxy.reset();
        condition(story, "Synced", "False", "WatchesFail").await?;
        let shown = reported(story, &["show", "eu-1"]).await?;
        ensure!(shown["status"]["health"] == "AVAILABLE", "{shown}");
        let mut client = story.client().await?;
        let elsewhere = run(&mut client, request("elsewhere", &["europe"])).await?;
        ensure!(elsewhere.cluster == "us-1", "it is on {}", elsewhere.cluster);
        proxy.heal().await?;
        condition(story, "Synced", "True", "").await?;
        let there = run(&mut client, request("there", &["europe"])).await?;
        ensure!(there.cluster == "eu-1", "it is on {}", there.cluster);
        Ok(())
    })
}

#[test]
fn an_apiserver_that_is_not_ready_and_serves_is_available() -> Result<()> {
    story("not-ready", 0, &[], async |story| {
        story.replicas.push(story.installation.start("manager-0").await?);
        let proxy = behind_proxy(story, "eu-1").await?;
        let probes = |call: &http::request::Parts| call.uri.path() == "/readyz";
        proxy.rules(vec![Rule::new(probes, Answer::Status(500))]);
        let mut injected = proxy.injected();
        let before = *injected.borrow();
        // More than what makes a cluster suspect.
        injected.wait_for(|count| *count >= before + 5).await?;
        let shown = reported(story, &["show", "eu-1"]).await?;
        ensure!(shown["status"]["health"] == "AVAILABLE", "{shown}");
        let mut client = story.client().await?;
        run(&mut client, request("there", &["europe"])).await?;
        Ok(())
    })
}

/// As in a rolling update of a control plane: asked to end, it keeps serving for a while and reports that it is not
/// ready.
#[test]
fn an_apiserver_that_shuts_down_in_order_is_used_until_it_ends_and_soon_after_it_is_back() -> Result<()> {
    story("in-order", 0, &[], async |story| {
        story.replicas.push(story.installation.start("manager-0").await?);
        story.register("eu-1").await?;
        let options = ClusterOptions { shutdown_delay: SERVES_ON, ..ClusterOptions::named("calm-1") };
        let folder = story.installation.dir().join("calm-1");
        let cluster = Cluster::boot(story.fleet.assets(), &folder, options).await?;
        let _agent = register_private(story, &cluster, "calm").await?;
        let mut client = story.client().await?;
        let apiserver = cluster.process(Part::ApiServer).context("no apiserver")?;
        apiserver.signal(Signal::Term).await?;
        until("the apiserver to say that it is not ready", async || {
            let probe = http::Request::get("/readyz").body(Vec::new())?;
            let answer = cluster.client().request_text(probe).await;
            let code = match &answer {
                Err(kube::Error::Api(status)) => status.code,
                _ => 0,
            };
            ensure!(code == 500, "it answers {answer:?}");
            Ok(())
        })
        .await?;
        // More probes than make a silent cluster suspect.
        let probes = async || -> Result<usize> {
            let replica = story.replicas.first().context("no manager")?;
            let metrics = get(&format!("{}/metrics", replica.health)).await?;
            let is_failed = |line: &&str| line.contains("calm-1") && line.contains("server_error");
            let failed = metrics.lines().find(is_failed).context("no probe failed")?;
            Ok(failed.rsplit(' ').next().context("no value")?.parse()?)
        };
        until("probes to fail", async || {
            let failed = probes().await?;
            ensure!(failed >= 3, "{failed} failed");
            Ok(())
        })
        .await?;
        let shown = reported(story, &["show", "calm-1"]).await?;
        ensure!(shown["status"]["health"] == "AVAILABLE", "{shown}");
        let during = run(&mut client, request("during", &["calm"])).await?;
        ensure!(during.cluster == "calm-1" && apiserver.is_running(), "it is on {}", during.cluster);

        // Its process waits a minute more for connections to close, without listening.
        starts_go_to(&mut client, "calm", "eu-1").await?;
        cluster.kill(Part::ApiServer).await?;
        cluster.start(Part::ApiServer).await?;
        starts_go_to(&mut client, "calm", "calm-1").await?;
        deregister_by_force(story, "calm-1").await
    })
}

#[test]
fn a_namespace_that_is_deleted_ends_its_workspaces_and_closes_no_other() -> Result<()> {
    story("going-space", 0, &[], async |story| {
        story.installation.overrides = json!({ "federation": { "health": { "canary": "1s" } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        let second = register_both(story).await?;
        let mut client = story.client().await?;
        run(&mut client, within(&second, "goes")?).await?;
        run(&mut client, within(&second, "is-stopped")?).await?;
        let kube = story.cluster("eu-1")?.client();
        let namespaces = Api::<Namespace>::all(kube.clone());
        // A foreign finalizer keeps it for the checks.
        let pods = Api::<Pod>::namespaced(kube, &second);
        let foreign = json!({
            "metadata": { "name": "keeps", "finalizers": ["example.com/keeps"] },
            "spec": { "containers": [{ "name": "c", "image": "any" }], "nodeName": "nowhere" },
        });
        pods.create(&PostParams::default(), &serde_json::from_value(foreign)?).await?;
        let mut goes = watch(&mut client, "goes").await?;
        let mut stopped = watch(&mut client, "is-stopped").await?;
        namespaces.delete(&second, &DeleteParams::default()).await?;
        condition(story, "NamespacesActive", "False", "Terminating").await?;
        condition(story, "Writable", "True", "").await?;
        stop(&mut client, "is-stopped").await?;
        follow(&mut stopped, is(WorkspacePhase::Stopped)).await?;
        follow(&mut goes, is(WorkspacePhase::Stopped)).await?;
        let here = run(&mut client, request("here", &["europe"])).await?;
        ensure!(here.namespace == story.namespace, "it is in {}", here.namespace);
        let status = refused(client.start_workspace(within(&second, "late")?).await, Code::Unavailable)?;
        ensure!(status.message().contains("being deleted"), "{status:?}");

        let release = json!({ "metadata": { "finalizers": null } });
        pods.patch("keeps", &PatchParams::default(), &Patch::Merge(release)).await?;
        pods.delete("keeps", &DeleteParams::default().grace_period(0)).await.map(drop).or_else(gone)?;
        until("the namespace to be gone", async || {
            ensure!(namespaces.get_opt(&second).await?.is_none(), "it is there");
            Ok(())
        })
        .await?;
        ensure!(describe(&mut client, "here").await?.is_some(), "the other namespace's workspace went");
        Ok(())
    })
}

fn gone(error: kube::Error) -> Result<()> {
    match error {
        kube::Error::Api(status) if status.code == 404 => Ok(()),
        other => Err(other.into()),
    }
}
