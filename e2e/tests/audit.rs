//! The audit log of calls.

use anyhow::{Context as _, Result, ensure};
use proto::spaceport::v1::{CordonRequest, cluster_manager_client::ClusterManagerClient};
use proto::wsman::workspace_manager_client::WorkspaceManagerClient;
use proto::wsman::{MarkActiveRequest, StopWorkspaceRequest};
use serde_json::{Value, json};
use tonic::Code;

use crate::story::{Story, refused, request, run, story, until, with_secrets};

/// Starts managers that write the audit log into separate files.
async fn audited(story: &mut Story, managers: usize) -> Result<()> {
    for n in 0..managers {
        story.installation.overrides =
            json!({ "audit": { "target": "file", "file": format!("audit-{n}.log") } });
        story.replicas.push(story.installation.start(&format!("manager-{n}")).await?);
    }
    Ok(())
}

fn lines(story: &Story, manager: usize) -> Result<Vec<Value>> {
    let path = story.installation.dir().join(format!("audit-{manager}.log"));
    let text = std::fs::read_to_string(path)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// The lines of all managers about a method, each with the number of its manager.
fn about(story: &Story, method: &str) -> Result<Vec<(usize, Value)>> {
    let mut found = Vec::new();
    for manager in 0..story.replicas.len() {
        let lines = lines(story, manager)?.into_iter();
        let wanted = lines.filter(|line| line["method"].as_str().is_some_and(|name| name.ends_with(method)));
        found.extend(wanted.map(|line| (manager, line)));
    }
    Ok(found)
}

#[test]
fn each_change_is_recorded_once_with_its_first_caller_also_where_it_was_passed_on() -> Result<()> {
    story("audit", 0, &[], async |story| {
        audited(story, 2).await?;
        story.register("eu-1").await?;
        let leader = story.leader().await?;
        let of_leader =
            story.replicas.iter().position(|replica| replica.name == leader).context("no leader")?;
        let standby = 1 - of_leader;
        let name = "Žofie \"\u{202e}\n{";
        let user = story.installation.authority().client(name, &["staff"])?;
        let endpoint = story.replicas[standby].endpoint.clone();
        let channel = story.installation.channel(&endpoint, Some(&user)).await?;
        let mut client = WorkspaceManagerClient::new(channel.clone());
        run(&mut client, request("ws", &[])).await?;
        client.mark_active(MarkActiveRequest { id: "ws".to_owned(), ..Default::default() }).await?;
        let unknown = StopWorkspaceRequest { id: "unknown\n".to_owned(), policy: 1 };
        refused(client.stop_workspace(unknown).await, Code::InvalidArgument)?;
        let denied =
            ClusterManagerClient::new(channel).cordon(CordonRequest { name: "eu-1".to_owned() }).await;
        refused(denied, Code::PermissionDenied)?;

        until("the calls to be recorded", async || {
            let started = about(story, "/StartWorkspace")?;
            let [(at, line)] = started.as_slice() else { anyhow::bail!("{started:?}") };
            ensure!(*at == of_leader, "recorded by the standby: {line}");
            ensure!(
                line["identity"]["name"] == name && line["identity"]["organizations"][0] == "staff",
                "{line}"
            );
            ensure!(line["via"].as_str().is_some_and(|via| via.starts_with("replica-")), "{line}");
            ensure!(line["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{line}");
            let object =
                json!({ "workspace": "ws", "metaId": "meta-ws", "owner": "jane", "cluster": "eu-1" });
            ensure!(line["object"] == object, "{line}");
            ensure!((&line["decision"], &line["outcome"]) == (&json!("allowed"), &json!("OK")), "{line}");
            ensure!(line["durationMs"].is_u64() && line["time"].is_string(), "{line}");

            let stopped = about(story, "/StopWorkspace")?;
            let [(_, line)] = stopped.as_slice() else { anyhow::bail!("{stopped:?}") };
            ensure!(
                line["outcome"] == "INVALID_ARGUMENT" && line["arguments"]["policy"] == "IMMEDIATELY",
                "{line}"
            );

            let cordoned = about(story, "/Cordon")?;
            let [(at, line)] = cordoned.as_slice() else { anyhow::bail!("{cordoned:?}") };
            ensure!(*at == standby && line["decision"] == "denied", "{line}");
            ensure!(
                line["object"]["cluster"] == "eu-1" && line["reason"] == "needs the role admin",
                "{line}"
            );
            let registered = about(story, "/Register")?;
            ensure!(
                registered.len() == 1 && registered[0].1["identity"]["name"] == "admin",
                "{registered:?}"
            );
            Ok(())
        })
        .await?;
        ensure!(about(story, "/MarkActive")?.is_empty(), "heartbeats are counted instead");
        let health = &story.replicas[of_leader].health;
        let metrics = e2e::harness::spaceport::get(&format!("{health}/metrics")).await?;
        ensure!(
            metrics
                .lines()
                .any(|line| line.starts_with("grpc_server_handled_total") && line.contains("MarkActive")),
            "heartbeats are not counted"
        );
        Ok(())
    })
}

#[test]
fn no_secret_is_in_the_audit_and_it_can_go_to_the_log() -> Result<()> {
    story("unaudited", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        run(&mut client, with_secrets(request("ws", &[]))).await?;
        let log = story.installation.dir().join("manager-0.log");
        until("the start to be recorded in the log", async || {
            let text = std::fs::read_to_string(&log)?;
            let audit: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let methods: Vec<&Value> = audit.iter().map(|line| &line["method"]).collect();
            for wanted in ["/wsman.WorkspaceManager/StartWorkspace", "/spaceport.v1.ClusterManager/Register"]
            {
                ensure!(methods.iter().any(|method| *method == wanted), "{wanted} is not in {methods:?}");
            }
            Ok(())
        })
        .await?;
        let text = std::fs::read_to_string(&log)?;
        let kubeconfig = std::fs::read_to_string(&story.kubeconfigs["eu-1"])?;
        let kubeconfig: Value = serde_json::from_str(&kubeconfig)?;
        let token = kubeconfig["users"][0]["user"]["token"].as_str().context("no token")?;
        for secret in ["hunter2", "t0ken", token] {
            ensure!(!text.contains(secret), "a secret is in the log");
        }
        Ok(())
    })
}
