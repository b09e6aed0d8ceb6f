//! Secrets: which are deleted, which may be referenced, where values appear, and how owner tokens are derived.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s::resources::{Workspace, names};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::{Event, Pod, ResourceQuota, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use proto::contentservice::{
    CompositeInitializer, FileDownloadInitializer, GitConfig, GitInitializer, WorkspaceInitializer,
    file_download_initializer, workspace_initializer,
};
use proto::wsman::environment_variable::SecretKeyRef;
use proto::wsman::{EnvironmentVariable, StartWorkspaceRequest, WorkspacePhase};
use serde_json::{Value, json};
use tonic::Code;

use crate::story::{
    Story, annotated, follow, is, refused, request, resource_gone, run, start, stop, story, until, watch,
    with_secrets,
};
use e2e::harness::annotations;

fn variable(name: &str, value: &str) -> EnvironmentVariable {
    EnvironmentVariable { name: name.to_owned(), value: value.to_owned(), secret: None }
}

fn referring(name: &str, secret: &str, key: &str) -> EnvironmentVariable {
    let secret = Some(SecretKeyRef { secret_name: secret.to_owned(), key: key.to_owned() });
    EnvironmentVariable { name: name.to_owned(), value: String::new(), secret }
}

fn with_variables(id: &str, variables: Vec<EnvironmentVariable>) -> StartWorkspaceRequest {
    let mut request = request(id, &[]);
    if let Some(spec) = &mut request.spec {
        spec.envvars = variables;
    }
    request
}

fn secrets(story: &Story, cluster: &str, namespace: &str) -> Result<Api<Secret>> {
    Ok(Api::namespaced(story.cluster(cluster)?.client(), namespace))
}

/// A Secret of an admin.
async fn planted(api: &Api<Secret>, name: &str, is_allowed: bool) -> Result<String> {
    let labels = if is_allowed { json!({ names::ALLOW_REFERENCE: "true" }) } else { json!({}) };
    let object =
        json!({ "metadata": { "name": name, "labels": labels }, "stringData": { "key": "an-admins" } });
    let made = api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    made.metadata.uid.context("it has no uid")
}

async fn is_still_there(api: &Api<Secret>, name: &str, uid: &str) -> Result<()> {
    let found = api.get(name).await.with_context(|| format!("{name} was deleted"))?;
    ensure!(found.metadata.uid.as_deref() == Some(uid), "{name} is another one");
    ensure!(found.metadata.owner_references.is_none(), "{name} has an owner");
    let value = found.data.and_then(|mut data| data.remove("key")).context("its value is gone")?;
    ensure!(value.0 == b"an-admins", "{name} holds something else");
    Ok(())
}

async fn ends(story: &Story, id: &str) -> Result<()> {
    let mut client = story.client().await?;
    stop(&mut client, id).await?;
    resource_gone(&story.resources("eu-1")?, id).await
}

#[test]
fn a_workspace_deletes_no_secret_of_anybody_else_whatever_its_name() -> Result<()> {
    story("own-secrets", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let env = secrets(story, "eu-1", &story.namespace)?;
        let tokens = secrets(story, "eu-1", &story.secrets_namespace)?;

        // Its id plus `-env` is the name of a Secret that it references.
        let shared = planted(&env, "shared-env", true).await?;
        run(&mut client, with_variables("shared", vec![referring("A", "shared-env", "key")])).await?;
        ends(story, "shared").await?;
        is_still_there(&env, "shared-env", &shared).await?;

        // Its repository contains the text of a reference, and a Secret of the referenced name exists.
        let theirs = planted(&tokens, "odd-tokens", false).await?;
        let mut odd = request("odd", &[]);
        let git = GitInitializer {
            remote_uri: "https://example.org/extracted-secret/a.git".to_owned(),
            ..GitInitializer::default()
        };
        odd.spec.as_mut().context("no spec")?.initializer =
            Some(WorkspaceInitializer { spec: Some(workspace_initializer::Spec::Git(git)) });
        run(&mut client, odd).await?;
        ends(story, "odd").await?;
        is_still_there(&tokens, "odd-tokens", &theirs).await?;

        // Another Secret has the name of its own: the start is rejected by name and leaves nothing.
        let (taken, theirs) =
            (planted(&env, "taken-env", false).await?, planted(&tokens, "late-tokens", false).await?);
        let status = refused(
            client.start_workspace(with_secrets(request("taken", &[]))).await,
            Code::FailedPrecondition,
        )?;
        ensure!(status.message().contains("own-secrets/taken-env"), "{}", status.message());
        is_still_there(&env, "taken-env", &taken).await?;
        let status = refused(
            client.start_workspace(with_secrets(request("late", &[]))).await,
            Code::FailedPrecondition,
        )?;
        ensure!(status.message().contains("own-secrets-secrets/late-tokens"), "{}", status.message());
        is_still_there(&tokens, "late-tokens", &theirs).await?;
        for (api, name) in [(&env, "late-env"), (&tokens, "taken-tokens")] {
            ensure!(api.get_opt(name).await?.is_none(), "{name} of a refused start is left");
        }

        // Its own secrets are deleted, as always.
        run(&mut client, with_secrets(request("own", &[]))).await?;
        until("its own secrets to go", async || {
            ensure!(
                env.get_opt("own-env").await?.is_none() && tokens.get_opt("own-tokens").await?.is_none(),
                "they are there"
            );
            Ok(())
        })
        .await
    })
}

#[test]
fn only_secrets_that_an_admin_allows_are_referenced() -> Result<()> {
    story("secret-references", 1, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        let (here, there) =
            (secrets(story, "eu-1", &story.namespace)?, secrets(story, "us-1", &story.namespace)?);
        planted(&here, "pull", false).await?;
        planted(&there, "pull", false).await?;
        let wanted = |id: &str| with_variables(id, vec![referring("PULL", "pull", "key")]);

        // Not allowed: rejected with its field. A missing one gets the same message.
        let status = refused(client.start_workspace(wanted("a")).await, Code::FailedPrecondition)?;
        ensure!(
            status.message().contains("spec.envvars PULL: Secret secret-references/pull is not"),
            "{}",
            status.message()
        );
        let absent = with_variables("a", vec![referring("PULL", "absent", "key")]);
        let absent = refused(client.start_workspace(absent).await, Code::FailedPrecondition)?;
        ensure!(absent.message() == status.message().replace("/pull ", "/absent "), "{}", absent.message());

        // Allowed in another cluster.
        let allow = Patch::Merge(json!({ "metadata": { "labels": { names::ALLOW_REFERENCE: "true" } } }));
        there.patch("pull", &PatchParams::default(), &allow).await?;
        let started = start(&mut client, wanted("b")).await?;
        ensure!(started.cluster == "us-1", "{}", started.cluster);

        // The secret of another workspace is never allowed, whatever its labels.
        start(
            &mut client,
            annotated(with_secrets(request("victim", &["europe"])), annotations::INIT, "hang"),
        )
        .await?;
        here.patch("victim-env", &PatchParams::default(), &allow).await?;
        let mut thief = with_variables("thief", vec![referring("LOOT", "victim-env", "key")]);
        thief.spec.as_mut().context("no spec")?.placement.get_or_insert_default().cluster = "eu-1".to_owned();
        let status = refused(client.start_workspace(thief).await, Code::FailedPrecondition)?;
        ensure!(status.message().contains("victim-env belongs to a manager"), "{}", status.message());

        // A Workspace created by hand waits for the admin, and doctor names the Secret.
        let resources = story.resources("eu-1")?;
        let mut spec = resources.get("victim").await?.spec;
        spec.ownership.workspace_id = "meta-by-hand".to_owned();
        spec.user_env_vars = vec![serde_json::from_value(json!({
            "name": "PULL", "valueFrom": { "secretKeyRef": { "name": "pull", "key": "key" } },
        }))?];
        let mut by_hand = Workspace::new("by-hand", spec);
        by_hand.metadata.labels = Some([(names::MANAGED_BY.to_owned(), names::MANAGER.to_owned())].into());
        by_hand.metadata.finalizers = Some(vec![names::FINALIZER.to_owned()]);
        resources.create(&PostParams::default(), &by_hand).await?;
        until("the workspace to say what it waits for", async || {
            let text = serde_json::to_string(&resources.get("by-hand").await?.status)?;
            ensure!(text.contains("Secret secret-references/pull is not"), "{text}");
            Ok(())
        })
        .await?;
        let pods: Api<Pod> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        ensure!(pods.get_opt("ws-by-hand").await?.is_none(), "it has a pod");
        let doctor = story.cli(&["cluster", "doctor", "eu-1", "-o", "wide"]).await?;
        ensure!(doctor.stdout.contains("secret-references/pull"), "{}{}", doctor.stdout, doctor.stderr);
        here.patch("pull", &PatchParams::default(), &allow).await?;
        until("its pod", async || pods.get("ws-by-hand").await.map(drop).map_err(Into::into)).await
    })
}

/// A start with a secret in every possible place.
fn full_of_secrets(id: &str) -> Result<StartWorkspaceRequest> {
    let mut request = with_variables(
        id,
        vec![variable("PASSWORD", "hunter2-env"), variable("GITPOD_IMAGE_AUTH", "hunter2-image")],
    );
    let config = GitConfig {
        custom_config: [("http.extraHeader".to_owned(), "hunter2-header".to_owned())].into(),
        authentication: 1,
        auth_user: "hunter2-user".to_owned(),
        auth_password: "hunter2-password".to_owned(),
        auth_ots: "hunter2-ots".to_owned(),
    };
    let git = GitInitializer {
        remote_uri: "https://jane:hunter2-remote@example.org/a.git".to_owned(),
        upstream_remote_uri: "https://jane:hunter2-upstream@example.org/a.git".to_owned(),
        config: Some(config),
        ..GitInitializer::default()
    };
    let file = file_download_initializer::FileInfo {
        url: "https://example.org/a?X-Sig=hunter2-query".to_owned(),
        file_path: "a".to_owned(),
        digest: format!("sha256:{}", "0".repeat(64)),
    };
    let download = FileDownloadInitializer { files: vec![file], ..FileDownloadInitializer::default() };
    let initializer = |spec| WorkspaceInitializer { spec: Some(spec) };
    let both = CompositeInitializer {
        initializer: vec![
            initializer(workspace_initializer::Spec::Git(git)),
            initializer(workspace_initializer::Spec::Download(download)),
        ],
    };
    let spec = request.spec.as_mut().context("no spec")?;
    spec.sys_envvars = vec![variable("BOB_AUTH", "hunter2-system")];
    spec.initializer = Some(initializer(workspace_initializer::Spec::Composite(both)));
    Ok(request)
}

/// A policy of the story's namespaces that denies creations and quotes the object.
async fn deny(story: &Story, group: &str, resource: &str, quoting: &str) -> Result<String> {
    let client = story.cluster("eu-1")?.client();
    let name = format!("deny-{resource}-{}", story.namespace);
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "matchConstraints": {
                "namespaceSelector": { "matchExpressions": [{
                    "key": "kubernetes.io/metadata.name", "operator": "In",
                    "values": [story.namespace, story.secrets_namespace],
                }] },
                "resourceRules": [{
                    "apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE"], "resources": [resource],
                }],
            },
            "validations": [{ "expression": "false", "messageExpression": quoting }],
        },
    }))?;
    let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(json!({
        "metadata": { "name": name }, "spec": { "policyName": name, "validationActions": ["Deny"] },
    }))?;
    Api::all(client.clone()).create(&PostParams::default(), &policy).await?;
    Api::all(client).create(&PostParams::default(), &binding).await?;
    Ok(name)
}

async fn allow(story: &Story, name: &str) -> Result<()> {
    let client = story.cluster("eu-1")?.client();
    let params = DeleteParams::default();
    Api::<ValidatingAdmissionPolicyBinding>::all(client.clone()).delete(name, &params).await?;
    Api::<ValidatingAdmissionPolicy>::all(client).delete(name, &params).await?;
    Ok(())
}

/// Starts until one is rejected with a text, which takes a moment after the policy was created; returns all responses.
async fn refused_with(story: &Story, prefix: &str, text: &str) -> Result<String> {
    let (mut client, mut all) = (story.client().await?, String::new());
    for n in 0..200 {
        let request = full_of_secrets(&format!("{prefix}-{n}"))?;
        if let Err(status) = client.start_workspace(request).await {
            all.extend([format!("{status:?} "), String::from_utf8_lossy(status.details()).into_owned()]);
            if status.message().contains(text) {
                return Ok(all);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("never refused with {text:?}: {all}")
}

async fn log_everything(story: &Story) -> Result<()> {
    use http_body_util::Full;
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<bytes::Bytes>>();
    for replica in &story.replicas {
        let request = http::Request::put(format!("{}/log-level", replica.health));
        let answer = client.request(request.body(Full::from("debug"))?).await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
    }
    Ok(())
}

/// Everything of the story that people can see.
async fn outputs(story: &Story) -> Result<BTreeMap<String, String>> {
    let client = story.cluster("eu-1")?.client();
    let mut all = BTreeMap::new();
    for replica in &story.replicas {
        all.insert(format!("log of {}", replica.name), std::fs::read_to_string(replica.process.log())?);
        all.insert(
            "metrics".to_owned(),
            e2e::harness::spaceport::get(&format!("{}/metrics", replica.health)).await?,
        );
    }
    let verbs: [&[&str]; 6] = [
        &["workspace", "list", "-o", "json"],
        &["cluster", "show", "eu-1", "-o", "json"],
        &["cluster", "doctor", "eu-1", "-o", "json"],
        &["cluster", "diff", "eu-1", "-o", "json"],
        &["workspace", "explain", "quota-0", "-o", "json"],
        &["workspace", "show", "runs", "-o", "json"],
    ];
    for verb in verbs {
        let output = story.cli(verb).await?;
        all.insert(verb.join(" "), output.stdout + &output.stderr);
    }
    let events: Api<Event> = Api::namespaced(client.clone(), &story.namespace);
    all.insert(
        "events".to_owned(),
        serde_json::to_string(&events.list(&ListParams::default()).await?.items)?,
    );
    let workspaces = story.resources("eu-1")?.list(&ListParams::default()).await?;
    all.insert("workspaces".to_owned(), serde_json::to_string(&workspaces.items)?);
    let pods: Api<Pod> = Api::namespaced(client, &story.namespace);
    all.insert("pods".to_owned(), serde_json::to_string(&pods.list(&ListParams::default()).await?.items)?);
    let mut etcd = story.fleet.etcd().connect().await?;
    let all_keys = etcd_client::GetOptions::new().with_prefix();
    let stored = etcd.get(format!("/spaceport/{}/", story.namespace), Some(all_keys)).await?;
    let values = stored.kvs().iter().map(|kv| String::from_utf8_lossy(kv.value()).into_owned());
    all.insert("etcd".to_owned(), values.collect::<Vec<_>>().join("\n"));
    Ok(all)
}

#[test]
fn no_secret_of_a_start_is_seen_anywhere_whoever_rejects_it() -> Result<()> {
    story("no-secret-seen", 0, &[], async |story| {
        story.installation.overrides = json!({ "manager": { "nodeAgent": "spaceport" } });
        story.replicas.push(story.installation.start("manager-0").await?);
        story.register("eu-1").await?;
        log_everything(story).await?;
        let (mut client, mut answers) = (story.client().await?, String::new());

        // Expressions that quote the object, and the text that is reported instead.
        let group = names::GROUP;
        let quotes = [
            (
                group,
                "workspaces",
                "'no: ' + string(object.spec.initializer) + string(object.spec.userEnvVars.size())",
            ),
            ("", "secrets", "'no: ' + object.data.map(key, string(object.data[key])).join(', ')"),
        ];
        for (group, resource, quoting) in quotes {
            let name = deny(story, group, resource, quoting).await?;
            let reported = format!("ValidatingAdmissionPolicy {name} denied it");
            answers += &refused_with(story, resource, &reported).await?;
            allow(story, &name).await?;
        }
        let cluster = story.cluster("eu-1")?.client();
        let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(cluster.clone());
        let webhook = json!({
            "metadata": { "name": "no-secret-seen" },
            "webhooks": [{
                "name": "nobody.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 1, "clientConfig": { "url": "https://127.0.0.1:1/hunter2-webhook" },
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": story.namespace } },
                "rules": [{
                    "apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["workspaces"],
                }],
            }],
        });
        webhooks.create(&PostParams::default(), &serde_json::from_value(webhook)?).await?;
        answers +=
            &refused_with(story, "webhook", "admission webhook nobody.example.com could not be called")
                .await?;
        webhooks.delete("no-secret-seen", &DeleteParams::default()).await?;

        let quotas: Api<ResourceQuota> = Api::namespaced(cluster, &story.namespace);
        let quota = json!({ "metadata": { "name": "few" }, "spec": { "hard": { "count/secrets": "0" } } });
        quotas.create(&PostParams::default(), &serde_json::from_value(quota)?).await?;
        answers += &refused_with(story, "quota", "exceeded quota: few, requested: count/secrets=1").await?;
        quotas.delete("few", &DeleteParams::default()).await?;

        // One that starts in the end; rules of the definition itself are reported by field.
        until("a start to be taken", async || {
            client.start_workspace(full_of_secrets("runs")?).await.map(drop).map_err(Into::into)
        })
        .await?;
        let mut stream = watch(&mut client, "runs").await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Running)).await?;
        answers.extend([format!("{seen:?}")]);
        let all = outputs(story).await?;
        for (what, text) in
            all.iter().map(|(what, text)| (what.as_str(), text)).chain([("answers", &answers)])
        {
            for secret in ["hunter2", "aHVudGVyMi"] {
                if let Some(at) = text.find(secret) {
                    bail!(
                        "{what} hold a secret: {}",
                        &String::from_utf8_lossy(
                            &text.as_bytes()[at.saturating_sub(300)..(at + 60).min(text.len())]
                        )
                    );
                }
            }
        }
        ensure!(
            all["events"].contains("Running") && all["workspaces"].contains("runs-env"),
            "what was searched holds nothing of the workspace"
        );
        Ok(())
    })
}

#[test]
fn an_owner_token_is_that_of_one_start_and_outlives_a_new_secret_of_the_installation() -> Result<()> {
    story("owner-tokens", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let before = run(&mut client, request("stays", &[])).await?;
        let before = before.auth.context("no auth")?.owner_token;
        let first = start(&mut client, request("again", &[])).await?.owner_token;
        ends(story, "again").await?;
        // As when its record has expired.
        let mut etcd = story.fleet.etcd().connect().await?;
        etcd.delete(format!("/spaceport/{}/placements/again", story.namespace), None).await?;
        let mut second = None;
        until("the id to be free", async || {
            second = Some(start(&mut client, request("again", &[])).await?.owner_token);
            Ok(())
        })
        .await?;
        ensure!(second.is_some_and(|second| second != first), "the id's next owner has the same token");

        let rotate = ["cluster", "rotate-secret", "--reason", "a backup was lost", "-o", "json"];
        let rotated = story.cli(&rotate).await?;
        ensure!(rotated.code == 0, "{}", rotated.stderr);
        let versions: Value = serde_json::from_str(&rotated.stdout)?;
        ensure!(versions == json!({ "version": 2, "former": [1] }), "{versions}");
        let repeated = start(&mut client, request("stays", &[])).await?.owner_token;
        ensure!(repeated == before, "a repeated start has another answer");
        let other =
            refused(client.start_workspace(with_secrets(request("stays", &[]))).await, Code::AlreadyExists)?;
        ensure!(other.message().contains("another request"), "{}", other.message());
        start(&mut client, request("new", &[])).await?;
        let keying = async |id: &str| {
            let annotations =
                story.resources("eu-1")?.get(id).await?.metadata.annotations.unwrap_or_default();
            anyhow::Ok(annotations.get(names::KEYING).cloned().unwrap_or_default())
        };
        ensure!(
            keying("new").await?.starts_with("2.") && keying("stays").await?.starts_with("1."),
            "wrong versions"
        );

        // Another leader has the same secrets.
        let replica = story.replicas.pop().context("no replica")?;
        replica.process.stop(Duration::from_secs(30)).await?;
        story.replicas.push(story.installation.start("manager-1").await?);
        let mut client = story.client().await?;
        let mut after = None;
        until("the next leader", async || {
            after = Some(start(&mut client, request("stays", &[])).await?.owner_token);
            Ok(())
        })
        .await?;
        ensure!(after.as_deref() == Some(before.as_str()), "it has another token");
        start(&mut client, request("newer", &[])).await.map(drop)
    })
}
