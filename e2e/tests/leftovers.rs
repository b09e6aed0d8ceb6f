//! Secrets without a workspace.

use anyhow::{Context as _, Result, ensure};
use k8s::resources::{Workspace, names};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use kube::Api;
use kube::api::PostParams;
use proto::wsman::StartWorkspaceRequest;
use serde_json::json;
use tonic::Code;

use crate::story::{Story, annotated, refused, request, start, story, until, with_secrets};
use e2e::harness::annotations;

/// A request that creates both secrets.
fn secretive(id: &str) -> StartWorkspaceRequest {
    with_secrets(request(id, &[]))
}

fn secrets(story: &Story, namespace: &str) -> Result<Api<Secret>> {
    Ok(Api::namespaced(story.cluster("eu-1")?.client(), namespace))
}

/// A secret as the installation creates it for a workspace.
fn planted(id: &str, installation: &str) -> Result<Secret> {
    let labels = json!({
        names::MANAGED_BY: names::MANAGER, names::INSTANCE_ID: id, names::INSTALLATION: installation,
    });
    Ok(serde_json::from_value(json!({ "metadata": { "name": format!("{id}-env"), "labels": labels } }))?)
}

/// Waits until the cluster allows or denies user `spaceport` a verb on a resource.
async fn may(
    story: &Story,
    namespace: &str,
    (verb, group, resource): (&str, &str, &str),
    wanted: bool,
) -> Result<()> {
    let reviews: Api<SubjectAccessReview> = Api::all(story.cluster("eu-1")?.client());
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        user: Some("spaceport".to_owned()),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    until("the right to be as wanted", async || {
        let judged = reviews.create(&PostParams::default(), &review).await?;
        let allowed = judged.status.is_some_and(|status| status.allowed);
        ensure!(allowed == wanted, "{verb} {resource}: {allowed}");
        Ok(())
    })
    .await
}

/// Removes verbs on resources from the role of user `spaceport` in a namespace; returns the previous role.
async fn forbid(story: &Story, namespace: &str, what: &[(&str, &str)]) -> Result<Option<Vec<PolicyRule>>> {
    let roles: Api<Role> = Api::namespaced(story.cluster("eu-1")?.client(), namespace);
    let mut role = roles.get("spaceport").await?;
    let before = role.rules.clone();
    for (verb, resource) in what {
        for rule in role.rules.iter_mut().flatten() {
            if rule.resources.iter().flatten().any(|is| is == resource) {
                rule.verbs.retain(|is| is != verb);
            }
        }
    }
    roles.replace("spaceport", &PostParams::default(), &role).await?;
    Ok(before)
}

async fn allow(story: &Story, namespace: &str, rules: Option<Vec<PolicyRule>>) -> Result<()> {
    let roles: Api<Role> = Api::namespaced(story.cluster("eu-1")?.client(), namespace);
    let role = Role { rules, ..roles.get("spaceport").await? };
    roles.replace("spaceport", &PostParams::default(), &role).await?;
    Ok(())
}

#[test]
fn secrets_that_a_refused_start_left_are_swept_and_no_others() -> Result<()> {
    story("leftovers", 0, &[], async |story| {
        story.installation.overrides = json!({ "federation": { "leftoverAge": "1s" } });
        story.replicas.push(story.installation.start("manager-0").await?);
        story.register("eu-1").await?;
        let mut client = story.client().await?;
        let (env, tokens) = (secrets(story, &story.namespace)?, secrets(story, &story.secrets_namespace)?);

        // Secrets that must stay, and come first in a list: of a starting workspace, of a resource without a record,
        // and of another installation.
        start(&mut client, annotated(secretive("a-live"), annotations::INIT, "hang")).await?;
        let labels = env.get("a-live-env").await?.metadata.labels.unwrap_or_default();
        let installation = labels.get(names::INSTALLATION).context("it names no installation")?;
        let resources = story.resources("eu-1")?;
        let by_hand = Workspace::new("a-by-hand", resources.get("a-live").await?.spec);
        resources.create(&PostParams::default(), &by_hand).await?;
        env.create(&PostParams::default(), &planted("a-by-hand", installation)?).await?;
        env.create(&PostParams::default(), &planted("a-other", "another-installation")?).await?;

        let (here, there) = (story.namespace.as_str(), story.secrets_namespace.as_str());
        let rules_here = forbid(story, here, &[("create", "workspaces"), ("delete", "secrets")]).await?;
        let rules_there = forbid(story, there, &[("delete", "secrets")]).await?;
        may(story, here, ("create", names::GROUP, "workspaces"), false).await?;
        may(story, here, ("delete", "", "secrets"), false).await?;
        may(story, there, ("delete", "", "secrets"), false).await?;
        refused(client.start_workspace(secretive("b-gone")).await, Code::FailedPrecondition)?;
        env.get("b-gone-env").await.context("the start deleted its secrets")?;
        tokens.get("b-gone-tokens").await.context("the start deleted its tokens")?;

        allow(story, here, rules_here).await?;
        allow(story, there, rules_there).await?;
        until("the leftover secrets to be swept", async || {
            ensure!(env.get_opt("b-gone-env").await?.is_none(), "the env secret is left");
            ensure!(tokens.get_opt("b-gone-tokens").await?.is_none(), "the token secret is left");
            Ok(())
        })
        .await?;
        for stays in ["a-live-env", "a-by-hand-env", "a-other-env"] {
            env.get(stays).await.with_context(|| format!("{stays} was swept"))?;
        }
        tokens.get("a-live-tokens").await.context("a-live-tokens was swept")?;
        // The id is free.
        may(story, here, ("create", names::GROUP, "workspaces"), true).await?;
        start(&mut client, secretive("b-gone")).await.map(drop)
    })
}
