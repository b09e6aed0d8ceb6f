//! A workspace from start to end, as subscribers, the cluster and the node agent see it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s::resources::Workspace;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::PostParams;
use proto::registryfacade::spec_provider_client::SpecProviderClient;
use proto::registryfacade::{GetImageSpecRequest, ImageSpec};
use proto::wsman::{
    DescribeWorkspaceRequest, IdeImage, MarkActiveRequest, StopWorkspaceRequest, WorkspaceConditionBool,
    WorkspacePhase,
};
use serde_json::json;
use tokio::time::sleep;
use tonic::Code;

use crate::story::{
    Story, annotated, describe, follow, is, nothing_is_left, phases, refused, request, run, start, stop,
    story, until, watch, with_secrets,
};
use e2e::harness::annotations;

#[test]
fn a_workspace_goes_through_its_phases_and_leaves_nothing() -> Result<()> {
    story("lifecycle", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        let answer = start(&mut client, request("ws", &["europe"])).await?;
        ensure!(answer.cluster == "eu-1" && answer.owner_token.len() == 32, "{answer:?}");
        ensure!(answer.url == "https://meta-ws.ws.spaceport.example", "{}", answer.url);
        let up = follow(&mut stream, is(WorkspacePhase::Running)).await?;
        let seen = phases(&up);
        let order = [
            WorkspacePhase::Pending,
            WorkspacePhase::Creating,
            WorkspacePhase::Initializing,
            WorkspacePhase::Running,
        ];
        let mut places = seen.iter().map(|phase| order.iter().position(|known| known == phase));
        ensure!(places.all(|place| place.is_some()) && is_ascending(&seen, &order), "{seen:?}");
        let running = up.last().context("nothing was seen")?;
        let auth = running.auth.as_ref().context("no auth")?;
        ensure!(auth.owner_token == answer.owner_token, "the token differs from the answer's");
        ensure!(running.runtime.as_ref().is_some_and(|runtime| !runtime.node_name.is_empty()), "no node");
        pod_is_as_agents_expect(story).await?;

        stop(&mut client, "ws").await?;
        let down = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        ensure!(phases(&down).contains(&WorkspacePhase::Stopping), "{:?}", phases(&down));
        let last = down.last().and_then(|status| status.conditions.as_ref()).context("no conditions")?;
        ensure!(last.final_backup_complete() == WorkspaceConditionBool::True, "stopped without its backup");
        nothing_is_left(story).await?;
        ensure!(describe(&mut client, "ws").await?.is_none(), "it is still described");
        Ok(())
    })
}

fn is_ascending(seen: &[WorkspacePhase], order: &[WorkspacePhase]) -> bool {
    let places: Vec<_> =
        seen.iter().filter_map(|phase| order.iter().position(|known| known == phase)).collect();
    places.windows(2).all(|pair| pair[0] < pair[1])
}

async fn pod_is_as_agents_expect(story: &Story) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
    let pod = pods.get("ws-ws").await.context("the pod's name")?;
    let labels = pod.metadata.labels.unwrap_or_default();
    for (key, value) in [
        ("metaID", "meta-ws"),
        ("workspaceID", "ws"),
        ("owner", "jane"),
        ("workspaceType", "regular"),
        ("gitpod.io/managed-by", "spaceport"),
        ("gitpod.io/instanceID", "ws"),
        ("gitpod.io/headless", "false"),
    ] {
        ensure!(labels.get(key).is_some_and(|is| is == value), "label {key} is {:?}", labels.get(key));
    }
    ensure!(pod.metadata.finalizers.unwrap_or_default() == ["gitpod.io/finalizer"], "the pod's finalizer");
    Ok(())
}

#[test]
fn secrets_are_made_apart_from_the_resource_and_are_gone_once_it_runs() -> Result<()> {
    story("secrets", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let wanted = annotated(with_secrets(request("ws", &[])), annotations::INIT_DELAY_MS, "1500");
        let mut stream = watch(&mut client, "ws").await?;
        start(&mut client, wanted).await?;
        let kube = story.cluster("eu-1")?.client();
        let env: Api<Secret> = Api::namespaced(kube.clone(), &story.namespace);
        let tokens: Api<Secret> = Api::namespaced(kube, &story.secrets_namespace);
        let made = env.get("ws-env").await?;
        let owner = made.metadata.owner_references.unwrap_or_default().pop().context("no owner")?;
        ensure!(Some(owner.uid) == story.resources("eu-1")?.get("ws").await?.metadata.uid, "another owner");
        ensure!(made.data.unwrap_or_default().values().any(|v| v.0 == b"hunter2"), "env");
        ensure!(
            tokens.get("ws-tokens").await?.data.unwrap_or_default().values().any(|v| v.0 == b"t0ken"),
            "tokens"
        );
        let resource = serde_json::to_string(&story.resources("eu-1")?.get("ws").await?)?;
        ensure!(!resource.contains("hunter2") && !resource.contains("t0ken"), "a secret is in the resource");
        follow(&mut stream, is(WorkspacePhase::Running)).await?;
        until("the secrets to be gone", async || {
            ensure!(env.get_opt("ws-env").await?.is_none(), "the env secret is left");
            ensure!(tokens.get_opt("ws-tokens").await?.is_none(), "the token secret is left");
            Ok(())
        })
        .await
    })
}

#[test]
fn a_registry_facade_gets_the_layers_of_the_image() -> Result<()> {
    story("image-spec", 2, &["eu-1"], async |story| {
        let mut wanted = request("ws", &[]);
        let spec = wanted.spec.as_mut().context("no spec")?;
        spec.ide_image = Some(IdeImage { web_ref: "web:1".into(), supervisor_ref: "supervisor:1".into() });
        spec.ide_image_layers = vec!["layer:1".into(), "layer:2".into()];
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        start(&mut client, wanted).await?;
        follow(&mut stream, is(WorkspacePhase::Running)).await?;
        for replica in &story.replicas {
            let channel = story.installation.client_channel(replica).await?;
            let mut provider = SpecProviderClient::new(channel);
            let mut reported = None;
            until("the replica to know of it", async || {
                reported =
                    provider.get_image_spec(GetImageSpecRequest { id: "ws".into() }).await?.into_inner().spec;
                Ok(())
            })
            .await?;
            let expected = ImageSpec {
                base_ref: "image:1".into(),
                ide_ref: "web:1".into(),
                content_layer: Vec::new(),
                supervisor_ref: "supervisor:1".into(),
                ide_layer_ref: vec!["layer:1".into(), "layer:2".into()],
            };
            ensure!(reported.as_ref() == Some(&expected), "{reported:?}");
            let nobody = GetImageSpecRequest { id: "nobody".into() };
            refused(provider.get_image_spec(nobody).await, Code::NotFound)?;
        }
        Ok(())
    })
}

#[test]
fn an_abort_ends_without_a_backup() -> Result<()> {
    story("abort", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, annotated(request("ws", &[]), annotations::BACKUP, "hang")).await?;
        let mut stream = watch(&mut client, "ws").await?;
        client.stop_workspace(StopWorkspaceRequest { id: "ws".into(), policy: 2 }).await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let last = seen.last().and_then(|status| status.conditions.as_ref()).context("no conditions")?;
        ensure!(last.aborted() == WorkspaceConditionBool::True, "it is not reported as aborted");
        Ok(())
    })
}

#[test]
fn content_that_cannot_be_initialised_fails_the_workspace_with_the_reason() -> Result<()> {
    story("init-fails", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        start(&mut client, annotated(request("ws", &[]), annotations::INIT, "fail")).await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        let last = seen.last().and_then(|status| status.conditions.as_ref()).context("no conditions")?;
        ensure!(last.failed.contains("ontent initialization failed"), "{}", last.failed);
        Ok(())
    })
}

#[test]
fn activity_is_kept_and_not_published() -> Result<()> {
    story("activity", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        client.mark_active(MarkActiveRequest { id: "ws".into(), ..MarkActiveRequest::default() }).await?;
        let answer =
            client.describe_workspace(DescribeWorkspaceRequest { id: "ws".into() }).await?.into_inner();
        ensure!(!answer.last_activity.is_empty(), "no activity is known");
        let status = answer.status.context("no status")?;
        let conditions = status.conditions.context("no conditions")?;
        ensure!(conditions.first_user_activity.is_some(), "the first activity is not known");
        Ok(())
    })
}

/// Writes a condition of its own repeatedly, as a node agent does: it replaces the whole status that it has read. Ends
/// with the resource and returns the number of writes. No condition, its own or another's, may get lost.
async fn write_beside(workspaces: &Api<Workspace>) -> Result<u32> {
    let (mut written, mut true_once) = (0_u32, BTreeSet::new());
    loop {
        let Some(mut seen) = workspaces.get_opt("ws").await? else {
            ensure!(written > 0, "it was never there");
            return Ok(written);
        };
        let status = seen.status.get_or_insert_default();
        let mine = status.condition("Refresh").map_or("0", |condition| condition.message.as_str());
        ensure!(mine == written.to_string(), "the write {written} is lost: {mine}");
        let lost = true_once.iter().find(|kind: &&String| status.condition(kind).is_none());
        ensure!(lost.is_none(), "{lost:?} is lost");
        true_once.extend(status.conditions.iter().map(|condition| condition.type_.clone()));
        status.conditions.retain(|condition| condition.type_ != "Refresh");
        status.conditions.push(serde_json::from_value(json!({
            "type": "Refresh", "status": "True", "reason": "Test", "message": (written + 1).to_string(),
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }))?);
        match workspaces.replace_status("ws", &PostParams::default(), &seen).await {
            Ok(_) => written += 1,
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(error.into()),
        }
        sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn concurrent_writers_of_one_status_lose_nothing() -> Result<()> {
    story("writers", 1, &["eu-1"], async |story| {
        let workspaces = story.resources("eu-1")?;
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        let slow = annotated(request("ws", &[]), annotations::INIT_DELAY_MS, "300");
        start(&mut client, annotated(slow, annotations::BACKUP_DELAY_MS, "300")).await?;
        let living = async {
            follow(&mut stream, is(WorkspacePhase::Running)).await?;
            for closed in [false, true, false] {
                let active = MarkActiveRequest { id: "ws".into(), closed, ignore_if_active: false };
                client.mark_active(active).await?;
            }
            stop(&mut client, "ws").await?;
            follow(&mut stream, is(WorkspacePhase::Stopped)).await
        };
        let (seen, written) = tokio::try_join!(living, write_beside(&workspaces))?;
        ensure!(written > 10, "it wrote only {written} times");
        let last = seen.last().and_then(|status| status.conditions.as_ref()).context("no conditions")?;
        ensure!(last.failed.is_empty() && last.timeout.is_empty(), "{last:?}");
        ensure!(last.final_backup_complete() == WorkspaceConditionBool::True, "stopped without its backup");
        ensure!(last.first_user_activity.is_some(), "the user's activity is lost");
        nothing_is_left(story).await
    })
}
