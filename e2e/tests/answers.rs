//! How responses of a real apiserver are classified: by reason and cause if they have any, otherwise by text
//! (`member/texts.rs`). `sizes.rs` has objects that are too large, `learning.rs` webhooks, `logs.rs` logs.

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ResourceQuota};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use member::Error;
use member::error::Rule;
use serde_json::{Value, json};

use crate::story::{Story, story, until};

/// A namespace of the story alone, without policies of Spaceport.
const BARE: &str = "answers-bare";

fn read(error: kube::Error) -> Result<Error> {
    Ok(Error::from_kube(&"eu-1".parse()?, "try a request", error))
}

fn rule(error: kube::Error) -> Result<Rule> {
    match read(error)? {
        Error::Refused { rule, .. } => Ok(rule),
        other => bail!("{other}"),
    }
}

/// A dry-run creation of a ConfigMap, sent as another user.
async fn create_as(story: &Story, user: &str) -> Result<kube::Error> {
    let body = json!({ "metadata": { "name": "answers" }, "data": {} }).to_string().into_bytes();
    let path = format!("/api/v1/namespaces/{}/configmaps?dryRun=All", story.namespace);
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header("impersonate-user", user)
        .body(body)?;
    let answer = story.cluster("eu-1")?.client().request::<Value>(request).await;
    answer.err().context("it was created")
}

fn config_map(name: &str) -> Result<ConfigMap> {
    Ok(serde_json::from_value(json!({ "metadata": { "name": name } }))?)
}

/// The rule by which the creation of a ConfigMap is refused.
async fn refusal(maps: &Api<ConfigMap>, name: &str) -> Result<Rule> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let created = maps.create(&dry_run, &config_map(name)?).await;
    rule(created.err().context("it was created")?)
}

async fn prepare(story: &Story) -> Result<()> {
    let labels = json!({ "pod-security.kubernetes.io/enforce": "baseline" });
    let namespace = json!({ "metadata": { "name": BARE, "labels": labels } });
    let namespaces = Api::<Namespace>::all(story.cluster("eu-1")?.client());
    namespaces.create(&PostParams::default(), &serde_json::from_value(namespace)?).await?;
    Ok(())
}

#[test]
fn refusals_of_a_real_apiserver_are_recognised() -> Result<()> {
    story("answers", 0, &[], async |story| {
        prepare(story).await?;
        let client = story.cluster("eu-1")?.client();
        let maps = Api::<ConfigMap>::namespaced(client.clone(), BARE);
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };

        let nobody = rule(create_as(story, "nobody").await?)?;
        ensure!(nobody == Rule::Rights("create configmaps".to_owned()), "{nobody:?}");
        let fenced = read(create_as(story, "spaceport").await?)?;
        ensure!(matches!(fenced, Error::Fenced { .. }), "{fenced:?}");

        let later = ListParams::default().at("900000000000").matching(kube::api::VersionMatch::NotOlderThan);
        let later = rule(maps.list(&later).await.err().context("it was listed")?)?;
        ensure!(later == Rule::LaterVersion, "{later:?}");

        let privileged = json!({ "metadata": { "name": "p" }, "spec": { "containers": [
            { "name": "c", "image": "i", "securityContext": { "privileged": true } },
        ] } });
        let pods = Api::<Pod>::namespaced(client.clone(), BARE);
        let refused = pods.create(&dry_run, &serde_json::from_value(privileged)?).await;
        let refused = rule(refused.err().context("it was created")?)?;
        ensure!(refused == Rule::PodSecurity("baseline:latest".to_owned()), "{refused:?}");

        maps.create(&PostParams::default(), &config_map("known")?).await?;
        let other = Patch::Merge(json!({ "metadata": { "uid": "00000000-0000-0000-0000-000000000000" } }));
        let other =
            maps.patch("known", &PatchParams::default(), &other).await.err().context("it was patched")?;
        let other = read(other)?;
        let is_known =
            matches!(&other, Error::Refused { code: 409, .. } | Error::Refused { rule: Rule::OtherUid, .. });
        ensure!(is_known, "{other:?}");

        quota(&client, &maps).await?;
        webhook(&client, &maps).await?;

        let namespaces = Api::<Namespace>::all(client.clone());
        let held = Patch::Merge(json!({ "metadata": { "finalizers": ["example.org/held"] } }));
        maps.patch("known", &PatchParams::default(), &held).await?;
        namespaces.delete(BARE, &DeleteParams::default()).await?;
        let terminating = refusal(&maps, "late").await?;
        ensure!(terminating == Rule::Terminating, "{terminating:?}");
        let bare = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        maps.patch("known", &PatchParams::default(), &bare).await.map(drop)?;
        Ok(())
    })
}

async fn quota(client: &kube::Client, maps: &Api<ConfigMap>) -> Result<()> {
    let quotas = Api::<ResourceQuota>::namespaced(client.clone(), BARE);
    let hard = json!({ "count/configmaps": "1" });
    let quota = json!({ "metadata": { "name": "answers-quota" }, "spec": { "hard": hard } });
    quotas.create(&PostParams::default(), &serde_json::from_value(quota)?).await?;
    let status = json!({ "status": { "hard": hard, "used": { "count/configmaps": "1" } } });
    quotas.patch_status("answers-quota", &PatchParams::default(), &Patch::Merge(status)).await?;
    until("the quota to be exceeded", async || {
        let exceeded = refusal(maps, "over").await?;
        ensure!(
            matches!(&exceeded, Rule::Quota(quota) if quota.starts_with("answers-quota, ")),
            "{exceeded:?}"
        );
        Ok(())
    })
    .await?;
    quotas.delete("answers-quota", &DeleteParams::default()).await.map(drop)?;
    Ok(())
}

async fn webhook(client: &kube::Client, maps: &Api<ConfigMap>) -> Result<()> {
    let webhooks = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    let dead = json!({ "metadata": { "name": "answers" }, "webhooks": [{
        "name": "answers.example.org", "clientConfig": { "url": "https://127.0.0.1:1/" },
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"] }],
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": BARE } },
        "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
    }] });
    webhooks.create(&PostParams::default(), &serde_json::from_value(dead)?).await?;
    let outcome = until("the webhook to be called", async || {
        let failed = refusal(maps, "dead").await?;
        ensure!(failed == Rule::WebhookFailed("answers.example.org".to_owned()), "{failed:?}");
        Ok(())
    })
    .await;
    webhooks.delete("answers", &DeleteParams::default()).await?;
    outcome
}
