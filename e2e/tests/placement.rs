//! Where workspaces are placed, and why not elsewhere.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use proto::wsman::{DescribeClusterRequest, StopWorkspaceRequest, WorkspacePhase};
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::story::{CLUSTERS, Story, refused, request, run, start, starts_go_to, story, until};

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
        starts_go_to(&mut client, "europe", "us-1").await?;
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

/// Starts of a class of which each node holds two, sized so that other pods on the node never leave space for only one.
fn of_a_large_class(installation: &mut e2e::harness::spaceport::Installation) {
    let huge = json!({ "name": "Huge", "container": { "requests": { "cpu": "1500", "memory": "1Gi" },
        "limits": { "memory": "1Gi", "storage": "1Gi" } } });
    installation.overrides = json!({ "manager": {
        "workspaceClass": { "huge": huge }, "preferredWorkspaceClass": "huge" } });
}

/// How many workspaces of that class the nodes of the story can hold.
async fn capacity(story: &Story, cluster: &str) -> Result<usize> {
    let label = format!("gitpod.io/ws-daemon_ready_ns_{}", story.namespace);
    let nodes: Api<Node> = Api::all(story.cluster(cluster)?.client());
    Ok(2 * nodes.list(&ListParams::default().labels(&label)).await?.items.len())
}

#[test]
fn a_burst_gets_the_available_capacity_and_not_one_start_more() -> Result<()> {
    story("capacity", 0, &[], async |story| {
        of_a_large_class(&mut story.installation);
        story.replicas.push(story.installation.start("manager-0").await?);
        story.register("eu-1").await?;
        story.register("us-1").await?;
        let (eu, us) = (capacity(story, "eu-1").await?, capacity(story, "us-1").await?);
        ensure!(eu > 0 && us > 0, "there are no nodes");
        let client = story.client().await?;
        let starts = (0..eu + us + 6).map(|n| {
            let mut client = client.clone();
            async move { (n, client.start_workspace(request(&format!("ws-{n}"), &["europe"])).await) }
        });
        let outcomes = futures::future::join_all(starts).await;
        let (mut at, mut refusals) = (std::collections::BTreeMap::<String, Vec<usize>>::new(), Vec::new());
        for (n, outcome) in outcomes {
            match outcome {
                Ok(answer) => at.entry(answer.into_inner().cluster).or_default().push(n),
                Err(status) => refusals.push(status),
            }
        }
        let counts: Vec<usize> = at.values().map(Vec::len).collect();
        ensure!(counts == [eu, us], "{at:?}, {eu} and {us} fit; {refusals:?}");
        for status in &refusals {
            ensure!(status.code() == Code::ResourceExhausted, "{status:?}");
            let details = status.get_details_precondition_failure().context("no details")?;
            let reported: Vec<&str> = details.violations.iter().map(|one| one.subject.as_str()).collect();
            ensure!(reported == ["eu-1", "us-1"], "{reported:?}");
            let every = details.violations.iter().all(|one| one.description.contains("has no capacity"));
            ensure!(every, "{details:?}");
        }
        // None waits for a node: the scheduler has the capacity that was reserved.
        let mut client = client;
        for n in at.values().flatten() {
            let mut states = crate::story::watch(&mut client, &format!("ws-{n}")).await?;
            crate::story::follow(&mut states, crate::story::is(WorkspacePhase::Running)).await?;
        }
        let output = story.cli(&["workspace", "start", "--image", "image:1", "--id", "one-more"]).await?;
        ensure!(output.code == 1 && output.stderr.lines().count() == 1, "{output:?}");
        for cluster in ["eu-1", "us-1"] {
            let why = format!("{cluster} has no capacity for class huge: ");
            ensure!(output.stderr.matches(&why).count() == 1 && output.stderr.contains("cpu"), "{output:?}");
        }
        crate::story::stop(&mut client, &format!("ws-{}", at["us-1"][0])).await?;
        until("the capacity of a stopped workspace to be free", async || {
            let answer = start(&mut client, request("after", &["europe"])).await?;
            ensure!(answer.cluster == "us-1", "{answer:?}");
            Ok(())
        })
        .await
    })
}

#[test]
fn a_cluster_whose_capacity_is_unlimited_takes_what_its_nodes_cannot_hold_yet() -> Result<()> {
    story("unlimited", 0, &[], async |story| {
        of_a_large_class(&mut story.installation);
        story.replicas.push(story.installation.start("manager-0").await?);
        let kubeconfig = story.kubeconfigs.get("ap-1").context("no such cluster")?;
        let file = story.installation.cluster_file("ap-1", "asia", kubeconfig)?;
        let mut cluster: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        cluster["capacity"] = json!("unlimited");
        std::fs::write(&file, cluster.to_string())?;
        let output = story.cli(&["cluster", "register", "-f", &file.to_string_lossy()]).await?;
        ensure!(output.code == 0, "{}", output.stderr);
        e2e::harness::nodes::label_for_namespace(&story.cluster("ap-1")?.client(), &story.namespace, false)
            .await?;
        let mut client = story.client().await?;
        start(&mut client, request("patient", &[])).await?;
        // Acts as the autoscaler.
        e2e::harness::nodes::label_for_namespace(&story.cluster("ap-1")?.client(), &story.namespace, true)
            .await?;
        let mut states = crate::story::watch(&mut client, "patient").await?;
        crate::story::follow(&mut states, crate::story::is(WorkspacePhase::Running)).await?;
        Ok(())
    })
}

#[test]
fn a_decision_is_explained_by_whoever_leads_later_and_starts_are_forecast() -> Result<()> {
    story("explain", 2, &["eu-1", "us-1"], async |story| {
        let mut client = story.client().await?;
        let answer = start(&mut client, request("reported", &["europe"])).await?;
        ensure!(answer.cluster == "eu-1", "{answer:?}");
        let mut nowhere = request("nowhere", &["africa"]);
        let spec = nowhere.spec.as_mut().context("no spec")?;
        spec.placement.as_mut().context("no placement")?.require_region = true;
        refused(client.start_workspace(nowhere).await, Code::FailedPrecondition)?;
        for id in ["reported", "nowhere"] {
            // Every replica can explain it: the decision is in etcd a moment later.
            for replica in &story.replicas {
                until("the decision to be kept", async || explained(story, &[replica], id).await.map(drop))
                    .await?;
            }
        }
        let leader = story.leader().await?;
        let before = explained(story, &story.replicas.iter().collect::<Vec<_>>(), "reported").await?;
        story.replicas.retain(|replica| replica.name != leader);
        until("another replica to lead", async || {
            ensure!(story.leader().await? != leader, "it still leads");
            Ok(())
        })
        .await?;
        let rest: Vec<&e2e::harness::spaceport::Replica> = story.replicas.iter().collect();
        let reported = explained(story, &rest, "reported").await?;
        ensure!(reported == before, "{reported} is not {before}");
        ensure!(reported["placed"] == "eu-1" && reported["clusters"][1]["cluster"] == "us-1", "{reported}");
        ensure!(reported["clusters"][0]["score"]["region"] == 0, "{reported}");
        let nowhere = explained(story, &rest, "nowhere").await?;
        ensure!(
            nowhere["placed"] == ""
                && nowhere["clusters"][0]["reason"]
                    .as_str()
                    .is_some_and(|reason| reason.contains("not among those required")),
            "{nowhere}"
        );
        let args =
            ["cluster", "explain", "--region", "europe", "--count", "20", "--without", "eu-1", "-o", "json"];
        let output = story.cli(&args).await?;
        let forecast: serde_json::Value = serde_json::from_str(&output.stdout)?;
        ensure!(forecast["clusters"]["us-1"]["placed"] == 20 && forecast["leftOver"] == 0, "{forecast}");
        let output = story.cli(&["cluster", "explain", "--without", "mars"]).await?;
        ensure!(output.code == 1 && output.stderr.contains("cluster mars is not registered"), "{output:?}");
        let start = ["workspace", "start", "--image", "image:1", "--cluster", "mars"];
        let output = story.cli(&start).await?;
        let once = output.stderr.matches("mars").count() == 1 && output.stderr.lines().count() == 1;
        ensure!(once && output.stderr.contains("FAILED_PRECONDITION"), "{output:?}");
        let output = story.cli(&[&start[..], &["-o", "json"]].concat()).await?;
        let failure: serde_json::Value = serde_json::from_str(&output.stderr)?;
        ensure!(output.code == 1 && output.stdout.is_empty(), "{output:?}");
        ensure!(failure["error"]["code"] == "FAILED_PRECONDITION", "{failure}");
        ensure!(failure["error"]["details"][0]["subject"] == "mars", "{failure}");
        Ok(())
    })
}

async fn explained(
    story: &Story,
    replicas: &[&e2e::harness::spaceport::Replica],
    id: &str,
) -> Result<serde_json::Value> {
    let output = story.installation.cli(replicas, &["workspace", "explain", id, "-o", "json"]).await?;
    ensure!(output.code == 0, "{}", output.stderr);
    Ok(serde_json::from_str(&output.stdout)?)
}
