//! Where workspaces go, and why not elsewhere.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use spaceport::proto::wsman::{DescribeClusterRequest, StopWorkspaceRequest};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::story::{CLUSTERS, Story, refused, request, run, start, story, until};

#[test]
fn workspaces_go_to_the_preferred_region_and_never_leave_a_required_one() -> Result<()> {
    story("regions", 1, &["eu-1", "us-1", "ap-1"], async |story| {
        let mut client = story.client().await?;
        for (cluster, region) in CLUSTERS {
            let answer = start(&mut client, request(&format!("in-{cluster}"), &[region])).await?;
            ensure!(answer.cluster == cluster && answer.region == region, "{answer:?}");
        }
        let elsewhere = start(&mut client, request("preferred", &["africa"])).await?;
        ensure!(!elsewhere.cluster.is_empty(), "a preference kept it from starting");
        let mut required = request("required", &["africa"]);
        let spec = required.spec.as_mut().context("no spec")?;
        spec.placement.as_mut().context("no placement")?.require_region = true;
        let status = refused(client.start_workspace(required).await, Code::FailedPrecondition)?;
        let details = status.get_details_precondition_failure().context("no details")?;
        let named: Vec<&str> =
            details.violations.iter().map(|violation| violation.subject.as_str()).collect();
        ensure!(named == ["ap-1", "eu-1", "us-1"], "each cluster has its reason: {named:?}");
        let mut pinned = request("pinned", &["europe"]);
        let spec = pinned.spec.as_mut().context("no spec")?;
        spec.placement.as_mut().context("no placement")?.cluster = "us-1".into();
        ensure!(start(&mut client, pinned).await?.cluster == "us-1", "the pin was not kept");
        Ok(())
    })
}

#[test]
fn equal_clusters_share_workspaces_equally() -> Result<()> {
    story("shares", 1, &["eu-1", "us-1", "ap-1"], async |story| {
        let mut client = story.client().await?;
        let mut counts = std::collections::BTreeMap::new();
        for n in 0..12 {
            let answer = start(&mut client, request(&format!("ws-{n}"), &[])).await?;
            *counts.entry(answer.cluster).or_insert(0) += 1;
        }
        ensure!(counts.values().all(|count| *count == 4), "{counts:?}");
        Ok(())
    })
}

#[test]
fn a_cordoned_cluster_keeps_its_workspaces_and_gets_no_new_ones() -> Result<()> {
    story("cordon", 1, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("before", &["europe"])).await?;
        let output = story.cli(&["cluster", "cordon", "eu-1"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        ensure!(start(&mut client, request("after", &["europe"])).await?.cluster == "us-1", "not kept away");
        let before = crate::story::describe(&mut client, "before").await?.context("it is gone")?;
        ensure!(before.cluster == "eu-1" && before.reachable, "{before:?}");
        let output = story.cli(&["cluster", "uncordon", "eu-1"]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        ensure!(
            start(&mut client, request("again", &["europe"])).await?.cluster == "eu-1",
            "still kept away"
        );
        Ok(())
    })
}

#[test]
fn maintenance_sends_starts_elsewhere_and_is_named_where_nothing_else_fits() -> Result<()> {
    story("maintenance", 1, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("before", &["europe"])).await?;
        maintain(story, "eu-1", Some("2999-01-01T00:00:00Z")).await?;
        until("starts to go elsewhere", async || {
            let id = format!("probe-{}", uuid::Uuid::new_v4().simple());
            let answer = start(&mut client, request(&id, &["europe"])).await?;
            ensure!(answer.cluster == "us-1", "it went to {}", answer.cluster);
            Ok(())
        })
        .await?;
        let stop = StopWorkspaceRequest { id: "before".into(), policy: 0 };
        let status = refused(client.stop_workspace(stop.clone()).await, Code::FailedPrecondition)?;
        ensure!(status.message() == "under maintenance", "{}", status.message());
        let mut required = request("required", &["europe"]);
        let spec = required.spec.as_mut().context("no spec")?;
        spec.placement.as_mut().context("no placement")?.require_region = true;
        let status = refused(client.start_workspace(required).await, Code::FailedPrecondition)?;
        ensure!(status.message() == "under maintenance", "{}", status.message());
        maintain(story, "eu-1", None).await?;
        until("the stop to be taken", async || {
            client.stop_workspace(stop.clone()).await?;
            Ok(())
        })
        .await
    })
}

async fn maintain(story: &Story, cluster: &str, until: Option<&str>) -> Result<()> {
    let name = "ws-manager-mk2-maintenance-mode";
    let maps: Api<ConfigMap> = Api::namespaced(story.cluster(cluster)?.client(), &story.namespace);
    let content = json!({ "enabledUntil": until }).to_string();
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name },
        "data": { "config.json": content } });
    maps.patch(name, &PatchParams::apply("admin").force(), &Patch::Apply(map)).await?;
    Ok(())
}

#[test]
fn the_classes_of_clusters_that_take_starts_are_described() -> Result<()> {
    story("classes", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let answer = client.describe_cluster(DescribeClusterRequest {}).await?.into_inner();
        let ids: Vec<&str> = answer.workspace_classes.iter().map(|class| class.id.as_str()).collect();
        ensure!(ids == ["g1-large", "g1-standard"], "{ids:?}");
        ensure!(answer.preferred_workspace_class == "g1-standard", "{}", answer.preferred_workspace_class);
        Ok(())
    })
}
