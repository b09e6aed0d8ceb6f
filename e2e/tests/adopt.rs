//! Resources without a record, or that contradict one: reported by `cluster diff`, and changed only by an admin.

use anyhow::{Context as _, Result, ensure};
use k8s::resources::Workspace;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use proto::wsman::{StopWorkspaceRequest, WorkspacePhase};
use serde_json::{Value, json};
use tonic::Code;

use crate::story::{
    Client, Story, describe, follow, is, refused, request, run, start, stop, story, until, watch,
};
use e2e::harness::node_agent::Pace;
use e2e::harness::spaceport::{prepare_member, prepare_namespaces};
use e2e::harness::{Cluster, ClusterOptions, NodeAgent, Part};

/// Label value of another kind of manager.
pub const OTHER: &str = "ws-manager-mk2";
/// Spaceport's.
const OURS: &str = "spaceport";

/// A Workspace that no start created.
pub fn by_hand(id: &str, manager: &str) -> Result<Workspace> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "workspace.gitpod.io/v1", "kind": "Workspace",
        "metadata": {
            "name": id,
            "labels": { "gitpod.io/managed-by": manager, "workspaceID": format!("meta-{id}"), "owner": "jane" },
            "finalizers": ["gitpod.io/finalizer"],
        },
        "spec": {
            "ownership": { "owner": "jane", "workspaceID": format!("meta-{id}") },
            "type": "Regular", "class": "g1-standard",
            "image": { "workspace": { "ref": "image:1" }, "ide": { "web": "", "supervisor": "" } },
            "initializer": "CgA=", "workspaceLocation": "/", "admission": { "level": "Owner" }, "ports": [],
        },
    }))?)
}

/// Creates a Workspace without a start.
async fn make(story: &Story, cluster: &str, id: &str, manager: &str) -> Result<()> {
    story.resources(cluster)?.create(&PostParams::default(), &by_hand(id, manager)?).await?;
    Ok(())
}

/// Deletes a Workspace and its pod without a backup, by removing finalizers.
pub async fn vanish(story: &Story, cluster: &str, id: &str) -> Result<()> {
    let workspaces = story.resources(cluster)?;
    let bare = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    workspaces.patch(id, &PatchParams::default(), &bare).await?;
    workspaces.delete(id, &DeleteParams::default()).await?;
    Ok(())
}

/// Runs a verb that must succeed, and parses its output.
pub async fn reported(story: &Story, args: &[&str]) -> Result<Value> {
    let line: Vec<&str> = ["cluster"].iter().chain(args).chain(&["-o", "json"]).copied().collect();
    let output = story.cli(&line).await?;
    ensure!(output.code == 0, "{args:?}: {}{}", output.stdout, output.stderr);
    Ok(serde_json::from_str(&output.stdout)?)
}

/// Runs a verb that must fail; returns both outputs.
pub async fn not_done(story: &Story, args: &[&str]) -> Result<String> {
    let line: Vec<&str> = ["cluster", "-o", "wide"].iter().chain(args).copied().collect();
    let output = story.cli(&line).await?;
    ensure!(output.code == 1, "{args:?} was done: {}{}", output.stdout, output.stderr);
    Ok(output.stdout + &output.stderr)
}

/// Deletes a workspace's record, like an etcd that was restored from before its start.
pub async fn forget(story: &Story, id: &str) -> Result<()> {
    let mut etcd = story.fleet.etcd().connect().await?;
    for key in [format!("placements/{id}"), format!("meta/meta-{id}")] {
        let gone = etcd.delete(format!("/spaceport/{}/{key}", story.namespace), None).await?;
        ensure!(gone.deleted() == 1, "there is no {key}");
    }
    Ok(())
}

/// Sets the manager label of a Workspace; for another manager also removes Spaceport's annotations.
pub async fn label_workspace(story: &Story, id: &str, manager: &str) -> Result<()> {
    let signs = json!({ "spaceport.dev/installation": null, "spaceport.dev/spec-digest": null,
        "spaceport.dev/generation": null });
    let patch =
        json!({ "metadata": { "labels": { "gitpod.io/managed-by": manager }, "annotations": signs } });
    story.resources("eu-1")?.patch(id, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// The pods of a workspace.
pub async fn pods(story: &Story, id: &str) -> Result<(Api<Pod>, Vec<Pod>)> {
    let api = Api::<Pod>::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
    let found = api.list(&ListParams::default().labels(&format!("workspaceID={id}"))).await?.items;
    Ok((api, found))
}

fn manager_of(labels: Option<&std::collections::BTreeMap<String, String>>) -> &str {
    labels.and_then(|labels| labels.get("gitpod.io/managed-by")).map_or("", String::as_str)
}

/// Standing of a workspace in `cluster diff`.
pub async fn standing(story: &Story, cluster: &str, id: &str) -> Result<String> {
    let diff = reported(story, &["diff", cluster, "--all"]).await?;
    let row = diff["workspaces"].as_array().into_iter().flatten().find(|row| row["id"] == id);
    Ok(row.and_then(|row| row["standing"].as_str()).unwrap_or("ABSENT").to_owned())
}

/// A condition of a cluster.
pub async fn condition(story: &Story, cluster: &str, kind: &str) -> Result<Value> {
    let shown = reported(story, &["show", cluster]).await?;
    let mut conditions = shown["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|one| one["type"] == kind).cloned().with_context(|| format!("no {kind} in {shown}"))
}

/// Deregisters a cluster with workspaces.
pub async fn deregister_by_force(story: &Story, cluster: &str) -> Result<()> {
    let output = story.cli(&["cluster", "deregister", cluster, "--force"]).await?;
    ensure!(output.code == 0, "{}", output.stderr);
    Ok(())
}

#[test]
fn a_cluster_that_comes_back_is_compared_with_its_records_and_nothing_is_deleted() -> Result<()> {
    story("back", 2, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        for id in ["kept", "lost"] {
            run(&mut client, request(id, &[])).await?;
        }
        ensure!(condition(story, "eu-1", "NoStrays").await?["state"] == "TRUE", "there are strays");
        deregister_by_force(story, "eu-1").await?;
        let diff = reported(story, &["diff", "eu-1"]).await?;
        ensure!(diff["registered"] == false, "{diff}");
        for id in ["kept", "lost"] {
            ensure!(standing(story, "eu-1", id).await? == "LEFT", "{diff}");
        }
        vanish(story, "eu-1", "lost").await?;
        make(story, "eu-1", "stray", OURS).await?;
        make(story, "eu-1", "theirs", OTHER).await?;

        story.register("eu-1").await?;
        let expected =
            [("kept", "ADOPTED"), ("lost", "FINISHED"), ("stray", "UNKNOWN"), ("theirs", "FOREIGN")];
        until("every standing to be right", async || {
            for (id, expected) in expected {
                let found = standing(story, "eu-1", id).await?;
                ensure!(found == expected, "{id} is {found}");
            }
            Ok(())
        })
        .await?;
        let output = story.cli(&["cluster", "diff", "eu-1"]).await?;
        ensure!(!output.stdout.contains("kept"), "a workspace that agrees was listed: {}", output.stdout);
        ensure!(output.stdout.contains("1 unknown") && output.stdout.contains(OTHER), "{}", output.stdout);
        until("the stray to be a condition", async || {
            let strays = condition(story, "eu-1", "NoStrays").await?;
            ensure!(strays["state"] == "FALSE", "{strays}");
            let message = strays["message"].as_str().unwrap_or_default();
            ensure!(message.starts_with("1 without a record: stray"), "{strays}");
            Ok(())
        })
        .await?;
        ensure!(describe(&mut client, "stray").await?.is_none(), "it is shown without a record");
        for id in ["stray", "theirs"] {
            let there = story.resources("eu-1")?.get(id).await?;
            ensure!(there.metadata.deletion_timestamp.is_none(), "{id} is being deleted");
        }
        // The cluster's workspaces are managed as before.
        let mut kept = watch(&mut client, "kept").await?;
        follow(&mut kept, is(WorkspacePhase::Running)).await?;
        stop(&mut client, "kept").await?;
        follow(&mut kept, is(WorkspacePhase::Stopped)).await?;
        Ok(())
    })
}

#[test]
fn an_empty_and_an_unknown_cluster_are_reported_as_such() -> Result<()> {
    story("nothing", 1, &["eu-1"], async |story| {
        let output = story.cli(&["cluster", "diff", "eu-1"]).await?;
        ensure!(output.code == 0 && output.stdout == "eu-1: no workspaces\n", "{output:?}");
        let output = story.cli(&["cluster", "diff", "nobody"]).await?;
        ensure!(output.code == 1 && output.stderr.contains("NOT_FOUND"), "{output:?}");
        deregister_by_force(story, "eu-1").await?;
        let output = story.cli(&["cluster", "diff", "eu-1"]).await?;
        ensure!(output.code == 1 && output.stderr.contains("NOT_FOUND"), "{output:?}");
        story.register("eu-1").await
    })
}

/// Workspaces that cannot be adopted while workspace ws lives.
async fn not_adopted(story: &Story) -> Result<()> {
    // Its meta id belongs to a live workspace.
    let mut twin = by_hand("twin", OURS)?;
    "meta-ws".clone_into(&mut twin.spec.ownership.workspace_id);
    story.resources("eu-1")?.create(&PostParams::default(), &twin).await?;
    let said = not_done(story, &["adopt", "eu-1", "twin", "--yes"]).await?;
    ensure!(said.contains("meta-ws of workspace ws, which is still live"), "{said}");
    // A workspace that is being deleted is not adopted.
    let mut going = by_hand("going", OURS)?;
    going.metadata.finalizers = Some(vec!["e2e.spaceport.dev/hold".to_owned()]);
    let workspaces = story.resources("eu-1")?;
    workspaces.create(&PostParams::default(), &going).await?;
    workspaces.delete("going", &DeleteParams::default()).await?;
    let said = not_done(story, &["adopt", "eu-1", "going", "--yes"]).await?;
    ensure!(said.contains("is being deleted"), "{said}");
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    workspaces.patch("going", &PatchParams::default(), &free).await?;
    let said = not_done(story, &["adopt", "eu-1", "nobody", "--yes"]).await?;
    ensure!(said.contains("has no resource there"), "{said}");
    Ok(())
}

#[test]
fn a_running_workspace_without_a_record_is_adopted_after_a_plan_and_is_as_it_was() -> Result<()> {
    story("adopt-own", 2, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        let first = start(&mut client, request("ws", &[])).await?;
        forget(story, "ws").await?;
        until("it to be a stray", async || {
            ensure!(standing(story, "eu-1", "ws").await? == "UNKNOWN", "it has a record");
            ensure!(describe(&mut client, "ws").await?.is_none(), "it is shown");
            Ok(())
        })
        .await?;
        let plan = reported(story, &["adopt", "eu-1"]).await?;
        ensure!(plan[0]["id"] == "ws" && plan[0]["outcome"] == "PLANNED", "{plan}");
        ensure!(standing(story, "eu-1", "ws").await? == "UNKNOWN", "the plan was carried out");
        let done = reported(story, &["adopt", "eu-1", "--yes"]).await?;
        ensure!(done[0]["id"] == "ws" && done[0]["outcome"] == "ADOPTED", "{done}");
        let again = reported(story, &["adopt", "eu-1", "ws", "--yes"]).await?;
        ensure!(again[0]["outcome"] == "ADOPTED", "{again}");
        let output = story.cli(&["cluster", "adopt", "eu-1"]).await?;
        ensure!(output.code == 0 && output.stdout == "nothing to adopt\n", "{output:?}");

        let mut ws = watch(&mut client, "ws").await?;
        follow(&mut ws, is(WorkspacePhase::Running)).await?;
        let repeated = start(&mut client, request("ws", &[])).await?;
        ensure!(repeated.url == first.url && repeated.owner_token == first.owner_token, "another answer");
        let mut other = request("other", &[]);
        other.metadata.as_mut().context("no metadata")?.meta_id = "meta-ws".to_owned();
        refused(client.start_workspace(other).await, Code::AlreadyExists)?;
        not_adopted(story).await?;
        stop(&mut client, "ws").await?;
        follow(&mut ws, is(WorkspacePhase::Stopped)).await?;
        Ok(())
    })
}

#[test]
fn an_orphan_is_discarded_by_name_only_and_resources_of_others_never() -> Result<()> {
    story("discard", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        make(story, "eu-1", "junk", OURS).await?;
        make(story, "eu-1", "theirs", OTHER).await?;
        until("the stray to have its pod", async || {
            ensure!(pods(story, "junk").await?.1.len() == 1, "it has none");
            Ok(())
        })
        .await?;
        let wanted = StopWorkspaceRequest { id: "junk".to_owned(), policy: 0 };
        let status = refused(client.stop_workspace(wanted).await, Code::FailedPrecondition)?;
        let told = "runs on cluster eu-1 without a placement record";
        ensure!(status.message().contains(told), "{}", status.message());
        let said = not_done(story, &["discard", "eu-1", "junk"]).await?;
        ensure!(said.contains("has the pod ws-junk"), "{said}");
        let said = not_done(story, &["discard", "eu-1", "ws", "theirs", "nobody", "--force"]).await?;
        for why in
            ["has a record: stop it instead", "belongs to the manager ws-manager-mk2", "has no resource"]
        {
            ensure!(said.contains(why), "{why}: {said}");
        }
        for id in ["ws", "theirs", "junk"] {
            let there = story.resources("eu-1")?.get(id).await?;
            ensure!(there.metadata.deletion_timestamp.is_none(), "{id} is being deleted");
        }
        let done = reported(story, &["discard", "eu-1", "junk", "--force"]).await?;
        ensure!(done[0]["outcome"] == "DISCARDED", "{done}");
        until("it to be gone with its pod", async || {
            ensure!(story.resources("eu-1")?.get_opt("junk").await?.is_none(), "it is there");
            ensure!(pods(story, "junk").await?.1.is_empty(), "its pod is there");
            Ok(())
        })
        .await?;
        let kept = describe(&mut client, "ws").await?.context("ws is gone")?;
        ensure!(kept.phase() == WorkspacePhase::Running, "{kept:?}");
        Ok(())
    })
}

/// The Lease of another manager, renewed this long ago.
fn lease(ago: jiff::SignedDuration) -> Result<Lease> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "ws-manager-mk2-leader.gitpod.io" },
        "spec": {
            "holderIdentity": "ws-manager-mk2-0",
            "leaseDurationSeconds": 15,
            "renewTime": format!("{:.6}", jiff::Timestamp::now() - ago),
        },
    }))?)
}

/// Sets the manager label of a workspace's pod; returns the pod.
async fn label_pod(story: &Story, id: &str, manager: &str) -> Result<Pod> {
    let (api, mut found) = pods(story, id).await?;
    let pod = found.pop().context("no pod")?;
    let patch = json!({ "metadata": { "labels": { "gitpod.io/managed-by": manager } } });
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(pod)
}

/// Makes a workspace look like another manager's: no record, no annotation of Spaceport. Returns its pod.
pub async fn give_away(story: &Story, id: &str) -> Result<Pod> {
    forget(story, id).await?;
    label_workspace(story, id, OTHER).await?;
    label_pod(story, id, OTHER).await
}

/// As if the leader had died before the last step of an adoption, or after the first.
async fn cut_off_and_repeat(story: &Story, client: &mut Client, after_first: bool) -> Result<()> {
    label_workspace(story, "ws", OTHER).await?;
    if after_first {
        label_pod(story, "ws", OTHER).await?;
    }
    until("it to be half adopted", async || {
        let found = standing(story, "eu-1", "ws").await?;
        ensure!(found == "HANDOVER", "it is {found}");
        ensure!(describe(client, "ws").await?.is_none(), "it is still shown");
        Ok(())
    })
    .await?;
    let asked = StopWorkspaceRequest { id: "ws".to_owned(), policy: 0 };
    refused(client.stop_workspace(asked).await, Code::FailedPrecondition)?;
    let done = reported(story, &["adopt", "eu-1", "--yes"]).await?;
    ensure!(done[0]["outcome"] == "ADOPTED", "{done}");
    Ok(())
}

#[test]
fn a_workspace_of_another_manager_is_taken_over_once_that_has_stopped_and_not_before() -> Result<()> {
    story("take-over", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        let first = start(&mut client, request("ws", &[])).await?;
        let pod = give_away(story, "ws").await?;
        until("it to be another manager's", async || {
            let found = standing(story, "eu-1", "ws").await?;
            ensure!(found == "FOREIGN", "it is {found}");
            Ok(())
        })
        .await?;

        let leases = Api::<Lease>::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
        leases.create(&PostParams::default(), &lease(jiff::SignedDuration::ZERO)?).await?;
        let said = not_done(story, &["adopt", "eu-1", "ws", "--yes"]).await?;
        ensure!(said.contains("--others takes such workspaces over"), "{said}");
        let said = not_done(story, &["adopt", "eu-1", "ws", "--others", "--yes"]).await?;
        ensure!(said.contains("ws-manager-mk2-0"), "{said}");
        let there = story.resources("eu-1")?.get("ws").await?;
        ensure!(manager_of(there.metadata.labels.as_ref()) == OTHER, "it was taken over");

        let dead = serde_json::to_value(lease(jiff::SignedDuration::from_hours(1))?)?;
        let (name, patch) =
            ("ws-manager-mk2-leader.gitpod.io", Patch::Merge(json!({ "spec": dead["spec"] })));
        leases.patch(name, &PatchParams::default(), &patch).await?;
        let plan = reported(story, &["adopt", "eu-1", "--others"]).await?;
        ensure!(plan[0]["outcome"] == "PLANNED" && plan[0]["takesOver"] == true, "{plan}");
        let done = reported(story, &["adopt", "eu-1", "--others", "--yes"]).await?;
        ensure!(done[0]["outcome"] == "ADOPTED", "{done}");
        let there = story.resources("eu-1")?.get("ws").await?;
        ensure!(manager_of(there.metadata.labels.as_ref()) == OURS, "it names another");
        let ours = pods(story, "ws").await?.1;
        ensure!(ours.len() == 1 && ours[0].metadata.uid == pod.metadata.uid, "its pod was recreated");
        ensure!(manager_of(ours[0].metadata.labels.as_ref()) == OURS, "its pod names another");
        let seen = describe(&mut client, "ws").await?.context("it is not shown")?;
        ensure!(seen.phase() == WorkspacePhase::Running, "{seen:?}");
        let token = seen.auth.map(|auth| auth.owner_token).unwrap_or_default();
        ensure!(token == first.owner_token, "its owner is locked out");
        // No start created it, so no start can be repeated.
        refused(client.start_workspace(request("ws", &[])).await, Code::AlreadyExists)?;

        for after_first in [false, true] {
            cut_off_and_repeat(story, &mut client, after_first).await?;
        }
        let mut ws = watch(&mut client, "ws").await?;
        follow(&mut ws, is(WorkspacePhase::Running)).await?;
        stop(&mut client, "ws").await?;
        let seen = follow(&mut ws, is(WorkspacePhase::Stopped)).await?;
        let last = seen.last().and_then(|status| status.conditions.as_ref()).context("no conditions")?;
        ensure!(last.failed.is_empty(), "it failed: {}", last.failed);
        Ok(())
    })
}

#[test]
fn a_dead_cluster_is_taken_out_by_force_at_once_and_adopted_when_it_is_back() -> Result<()> {
    story("dead-out", 1, &["eu-1"], async |story| {
        let folder = story.installation.dir().join("solo-4");
        let solo = Cluster::boot(story.fleet.assets(), &folder, ClusterOptions::named("solo-4")).await?;
        let kubeconfig = prepare_member(&solo).await?;
        prepare_namespaces(&solo, &story.namespace, &story.secrets_namespace).await?;
        let _agent = NodeAgent::start(&solo.client(), Pace::default());
        let file = story.installation.cluster_file("solo-4", "solo", &kubeconfig)?;
        let file = file.to_string_lossy().into_owned();
        let register = async || {
            let output = story.cli(&["cluster", "register", "-f", &file]).await?;
            ensure!(output.code == 0, "{}", output.stderr);
            story.available("solo-4").await
        };
        register().await?;
        let mut client = story.client().await?;
        let there = run(&mut client, request("there", &["solo"])).await?;
        ensure!(there.cluster == "solo-4", "it is on {}", there.cluster);

        solo.pause(Part::ApiServer).await?;
        let said = not_done(story, &["deregister", "solo-4"]).await?;
        ensure!(said.contains("there"), "{said}");
        // Within the deadline of one call, whatever its watches wait for.
        deregister_by_force(story, "solo-4").await?;
        ensure!(standing(story, "solo-4", "there").await? == "LEFT", "it was forgotten");
        let mut twin = request("twin", &[]);
        twin.metadata.as_mut().context("no metadata")?.meta_id = "meta-there".to_owned();
        refused(client.start_workspace(twin).await, Code::AlreadyExists)?;
        let elsewhere = start(&mut client, request("elsewhere", &["solo"])).await?;
        ensure!(elsewhere.cluster == "eu-1", "it went to {}", elsewhere.cluster);

        solo.resume(Part::ApiServer).await?;
        until("the cluster to be a member again", async || register().await).await?;
        let mut stream = watch(&mut client, "there").await?;
        let seen = follow(&mut stream, is(WorkspacePhase::Running)).await?;
        ensure!(seen.iter().all(|status| status.cluster == "solo-4"), "{seen:?}");
        ensure!(standing(story, "solo-4", "there").await? == "ADOPTED", "it is not adopted");
        stop(&mut client, "there").await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
        Ok(())
    })
}
