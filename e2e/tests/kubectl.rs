//! What people see in a cluster itself: `kubectl get workspaces`, with and without `-o wide`, and the events of
//! `describe`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use http::header::ACCEPT;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;
use proto::wsman::{WorkspacePhase, WorkspaceStatus};
use serde_json::Value;

use crate::story::{Story, annotated, follow, forget, is, request, start, story, until, watch};
use e2e::harness::annotations;

/// The columns of existing managers, with their priorities; those of priority 0 are shown without `-o wide`.
const KNOWN: [(&str, i64); 9] = [
    ("Name", 0),
    ("Workspace", 10),
    ("Class", 0),
    ("Type", 0),
    ("Node", 0),
    ("Owner", 0),
    ("Team", 0),
    ("Phase", 0),
    ("Age", 0),
];
const OURS: [(&str, i64); 3] = [("Waits", 1), ("Timeout", 1), ("Failed", 1)];

/// What `kubectl get workspaces -o wide` receives: columns with their priorities, and the row of workspace `ws`.
async fn table(story: &Story) -> Result<(Vec<(String, i64)>, BTreeMap<String, String>)> {
    let path = format!("/apis/workspace.gitpod.io/v1/namespaces/{}/workspaces", story.namespace);
    let request = http::Request::get(path).header(ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io");
    let table: Value = story.cluster("eu-1")?.client().request(request.body(Vec::new())?).await?;
    let columns = table["columnDefinitions"].as_array().context("no columns")?;
    let columns: Vec<(String, i64)> = columns
        .iter()
        .map(|column| {
            let name = column["name"].as_str().unwrap_or_default();
            (name.to_owned(), column["priority"].as_i64().unwrap_or_default())
        })
        .collect();
    let cells = table["rows"][0]["cells"].as_array().context("no row")?;
    let text = |cell: &Value| cell.as_str().map(ToOwned::to_owned).unwrap_or_default();
    let row = columns.iter().map(|(name, _)| name.clone()).zip(cells.iter().map(text)).collect();
    Ok((columns, row))
}

/// Kind and reason of the events of workspace `ws`, in order, and all their texts.
async fn events(story: &Story) -> Result<(Vec<(String, String)>, String)> {
    let events: Api<Event> = Api::namespaced(story.cluster("eu-1")?.client(), &story.namespace);
    let of_it = "involvedObject.kind=Workspace,involvedObject.name=ws";
    let mut events = events.list(&ListParams::default().fields(of_it)).await?.items;
    events.sort_by_key(|event| event.metadata.name.clone());
    let texts: Vec<String> = events.iter().filter_map(|event| event.message.clone()).collect();
    let kinds =
        events.into_iter().map(|event| (event.type_.unwrap_or_default(), event.reason.unwrap_or_default()));
    Ok((kinds.collect(), texts.join("\n")))
}

#[test]
fn kubectl_shows_what_a_workspace_waits_for_and_why_one_failed() -> Result<()> {
    story("kubectl", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        let flaky = annotated(request("ws", &[]), annotations::POD, "image-pull-error");
        start(&mut client, annotated(flaky, annotations::BACKUP, "hang")).await?;
        follow(&mut stream, |status| status.message.contains("failed to pull")).await?;
        let (columns, row) = table(story).await?;
        for (name, priority) in KNOWN.iter().chain(&OURS) {
            ensure!(columns.contains(&((*name).to_owned(), *priority)), "{name} is not in {columns:?}");
        }
        ensure!(columns.len() == KNOWN.len() + OURS.len(), "{columns:?}");
        let of = |row: &BTreeMap<String, String>, name: &str| row.get(name).cloned().unwrap_or_default();
        ensure!(of(&row, "Workspace") == "meta-ws" && of(&row, "Owner") == "jane", "{row:?}");
        ensure!(of(&row, "Class") == "g1-standard" && of(&row, "Type") == "Regular", "{row:?}");
        ensure!(of(&row, "Phase") == "Creating" && !of(&row, "Node").is_empty(), "{row:?}");
        ensure!(of(&row, "Waits").contains("failed to pull") && of(&row, "Failed").is_empty(), "{row:?}");
        Ok(())
    })?;
    story("kubectl-fails", 1, &["eu-1"], async |story| {
        let mut client = story.client().await?;
        let mut stream = watch(&mut client, "ws").await?;
        let crash = annotated(request("ws", &[]), annotations::POD, "crash");
        let crash = annotated(crash, annotations::MESSAGE, "supervisor: no space for maps");
        let crash = annotated(crash, annotations::FAIL_AFTER, "3s");
        start(&mut client, annotated(crash, annotations::BACKUP, "hang")).await?;
        let failed = |status: &WorkspaceStatus| {
            status.phase() == WorkspacePhase::Stopping
                && status.conditions.as_ref().is_some_and(|conditions| !conditions.failed.is_empty())
        };
        follow(&mut stream, failed).await?;
        let (_, row) = table(story).await?;
        ensure!(row["Phase"] == "Stopping", "{row:?}");
        ensure!(row["Failed"].contains("supervisor: no space for maps"), "{row:?}");
        until("the events to be written", async || {
            let (events, texts) = events(story).await?;
            let wanted = [("Normal", "Running"), ("Warning", "Failed"), ("Normal", "Stopping")];
            let wanted = wanted.map(|(kind, reason)| (kind.to_owned(), reason.to_owned()));
            let of_these = events.iter().filter(|event| wanted.contains(event)).cloned().collect::<Vec<_>>();
            ensure!(of_these == wanted, "{events:?}");
            ensure!(texts.contains("supervisor: no space for maps"), "{texts}");
            Ok(())
        })
        .await?;
        forget(story, "ws", annotations::BACKUP).await?;
        follow(&mut stream, is(WorkspacePhase::Stopped)).await.map(drop)
    })
}
