//! The leader is killed between every two steps of a start and of a stop. One workspace for each step, all at once:
//! each is held exactly there, the next leader continues, and the client repeats its call.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use http::Method;
use http::request::Parts;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use parking_lot::Mutex;
use proto::wsman::{
    StartWorkspaceRequest, StartWorkspaceResponse, SubscribeResponse, WorkspaceConditionBool, WorkspacePhase,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::bulkheads::behind_proxy;
use crate::story::{
    Client, SOON, Story, annotated, follow, forget, is, nothing_is_left, refused, request, run, start, stop,
    story, until, watch, with_secrets,
};
use e2e::harness::spaceport::Replica;
use e2e::harness::{Answer, Carried, Proxy, Rule, annotations};

mod recreated;

/// A write at which the leader is killed.
struct Step {
    name: &'static str,
    method: Method,
    /// From the apiserver's path.
    resource: &'static str,
    /// Content of the write, or the end of the object's name.
    says: &'static str,
}

const fn step(name: &'static str, method: Method, resource: &'static str, says: &'static str) -> Step {
    Step { name, method, resource, says }
}

/// In order; up to the third the client gets no response to its start.
static OF_A_START: [Step; 9] = [
    step("env-secret", Method::POST, "secrets", "-env"),
    step("token-secret", Method::POST, "secrets", "-tokens"),
    step("resource", Method::POST, "workspaces", ""),
    step("env-owner", Method::PATCH, "secrets", "-env"),
    step("pod", Method::POST, "pods", ""),
    step("creating", Method::PATCH, "workspaces/status", r#""phase":"Creating""#),
    step("initializing", Method::PATCH, "workspaces/status", r#""phase":"Initializing""#),
    step("running", Method::PATCH, "workspaces/status", r#""phase":"Running""#),
    step("secrets-off", Method::DELETE, "secrets", "-env"),
];

/// Its secrets were deleted when it ran.
static OF_A_STOP: [Step; 6] = [
    step("asked", Method::PATCH, "workspaces/status", r#""type":"StoppedByRequest""#),
    step("pod-off", Method::DELETE, "pods", ""),
    step("stopping", Method::PATCH, "workspaces/status", r#""phase":"Stopping""#),
    step("pod-free", Method::PATCH, "pods", ""),
    step("free", Method::PATCH, "workspaces", ""),
    step("off", Method::DELETE, "workspaces", ""),
];

/// A workspace of the story, and what happens to which of its writes.
#[derive(Clone)]
struct Case {
    step: &'static Step,
    answer: Answer,
    id: String,
}

impl Case {
    /// Killed after the write was carried out, or before; then it arrives after the next leader has taken over.
    fn all(of: &'static str, steps: &'static [Step]) -> Vec<Self> {
        let case = |step: &'static Step, answer: Answer| {
            let when = if answer == Answer::Mute { "after" } else { "before" };
            Self { step, answer, id: format!("{of}-{when}-{}", step.name) }
        };
        steps.iter().flat_map(|step| [case(step, Answer::Mute), case(step, Answer::Late)]).collect()
    }

    fn is_it(&self, call: &Parts) -> bool {
        let carried = call.extensions.get::<Carried>().map(|carried| &*carried.0).unwrap_or_default();
        let Some((resource, name)) = object(call.uri.path(), carried) else { return false };
        let names = ["", "-env", "-tokens"].map(|end| format!("{}{end}", self.id));
        let ours = name == format!("ws-{}", self.id) || names.contains(&name);
        let says = self.step.says;
        let fits = name.ends_with(says) || String::from_utf8_lossy(carried).contains(says);
        ours && fits && call.method == self.step.method && resource == self.step.resource
    }

    /// Whether the content becomes ready only when the test allows it.
    fn waits_for_content(&self) -> bool {
        !matches!(self.step.name, "running" | "secrets-off")
    }
}

/// Resource and name of the object that a call is about.
fn object(path: &str, carried: &[u8]) -> Option<(String, String)> {
    let (_, within) = path.split_once("/namespaces/")?;
    let mut parts = within.split('/').skip(1);
    let resource = parts.next()?;
    let Some(name) = parts.next() else {
        let made: Value = serde_json::from_slice(carried).ok()?;
        return Some((resource.to_owned(), made["metadata"]["name"].as_str()?.to_owned()));
    };
    let resource = parts.next().map_or(resource.to_owned(), |sub| format!("{resource}/{sub}"));
    Some((resource, name.to_owned()))
}

/// A workspace with secrets in both namespaces.
fn wanted(case: &Case) -> StartWorkspaceRequest {
    with_secrets(request(&case.id, &["europe"]))
}

fn wanted_by_a_start(case: &Case) -> StartWorkspaceRequest {
    let wanted = wanted(case);
    // Otherwise the containers run at once, and the phase is skipped.
    let wanted = match case.step.name {
        "creating" => annotated(wanted, annotations::START_DELAY, "1s"),
        _ => wanted,
    };
    if case.waits_for_content() { annotated(wanted, annotations::INIT, "hang") } else { wanted }
}

/// Everything that the test follows of one workspace.
struct Followed<T> {
    case: Case,
    stream: Streaming<SubscribeResponse>,
    first: JoinHandle<Result<T, Status>>,
}

#[test]
fn a_leader_killed_between_any_two_steps_leaves_one_workspace_and_its_answer() -> Result<()> {
    story("killed", 0, &[], async |story| {
        story.installation.overrides = json!({ "federation": { "leftoverAge": "2s" } });
        let (proxy, doomed, client) = behind_a_proxy(story).await?;

        let (starts, stops) = (Case::all("start", &OF_A_START), Case::all("stop", &OF_A_STOP));
        for case in &stops {
            run(&mut client.clone(), wanted(case)).await?;
        }
        let reached = keep_back(&proxy, starts.iter().chain(&stops));
        let mut starting = Vec::new();
        for case in starts {
            let stream = watch(&mut client.clone(), &case.id).await?;
            let (mut client, request) = (client.clone(), wanted_by_a_start(&case));
            let first = tokio::spawn(async move { Ok(client.start_workspace(request).await?.into_inner()) });
            starting.push(Followed { case, stream, first });
        }
        let mut stopping = Vec::new();
        for case in stops {
            let stream = watch(&mut client.clone(), &case.id).await?;
            let (mut client, request) = (client.clone(), stop_of(&case.id));
            let first = tokio::spawn(async move { client.stop_workspace(request).await.map(drop) });
            stopping.push(Followed { case, stream, first });
        }
        let all = starting.iter().map(|one| &one.case).chain(stopping.iter().map(|one| &one.case));
        let all: BTreeSet<String> = all.map(|case| case.id.clone()).collect();
        kill_when_reached(&proxy, doomed, &reached, &all).await?;

        let mut answers = Vec::new();
        for one in &mut starting {
            let answer = started_once(story, &client, one).await;
            answers.push(answer.with_context(|| one.case.id.clone())?.owner_token);
        }
        refused_what_came_late(&proxy, late_of(&all)).await?;
        for (one, token) in starting.iter_mut().zip(&answers) {
            let outcome = runs(story, &client, &one.case.id, &mut one.stream, token, (1, 0)).await;
            outcome.with_context(|| one.case.id.clone())?;
        }
        for one in &mut stopping {
            stopped(&client, one).await.with_context(|| one.case.id.clone())?;
        }
        nothing_is_left(story).await
    })
}

/// Two managers with two clusters, `eu-1` behind a proxy; returns the leader, which is removed from the story, and a
/// client of the other.
async fn behind_a_proxy(story: &mut Story) -> Result<(Proxy, Replica, Client)> {
    for name in ["manager-0", "manager-1"] {
        story.replicas.push(story.installation.start(name).await?);
    }
    story.register("us-1").await?;
    let proxy = behind_proxy(story, "eu-1").await?;
    let leader = story.leader().await?;
    let at = story.replicas.iter().position(|replica| replica.name == leader).context("no leader")?;
    let doomed = story.replicas.remove(at);
    let client = story.client().await?;
    Ok((proxy, doomed, client))
}

/// Kills the leader once the write of every case is held; later writes pass.
async fn kill_when_reached(
    proxy: &Proxy,
    doomed: Replica,
    reached: &Mutex<BTreeSet<String>>,
    all: &BTreeSet<String>,
) -> Result<()> {
    until("every step to be reached", async || {
        let reached = reached.lock().clone();
        ensure!(reached == *all, "not reached: {:?}", all.difference(&reached).collect::<Vec<_>>());
        Ok(())
    })
    .await?;
    doomed.process.kill().await?;
    proxy.rules(Vec::new());
    Ok(())
}

/// Number of cases with a write that arrives late.
fn late_of(all: &BTreeSet<String>) -> usize {
    all.iter().filter(|id| id.contains("-before-")).count()
}

/// The dead leader's writes arrive now, at least `late` of them, and the cluster rejects all.
pub async fn refused_what_came_late(proxy: &Proxy, late: usize) -> Result<()> {
    let codes = timeout(SOON, proxy.let_late_go()).await.context("what came late is not answered")??;
    ensure!(codes.len() >= late, "only {} of {late} calls came", codes.len());
    let refused = codes.iter().all(|code| *code >= 400);
    ensure!(refused, "the cluster accepted a write of a dead leader: {codes:?}");
    Ok(())
}

fn stop_of(id: &str) -> proto::wsman::StopWorkspaceRequest {
    proto::wsman::StopWorkspaceRequest { id: id.to_owned(), policy: 0 }
}

/// The proxy holds the write of each case; returns the cases that reached it.
fn keep_back<'a>(proxy: &Proxy, cases: impl Iterator<Item = &'a Case>) -> Arc<Mutex<BTreeSet<String>>> {
    let reached = Arc::new(Mutex::new(BTreeSet::new()));
    let rule = |case: &Case| {
        let one = case.clone();
        Rule::new(move |call: &Parts| one.is_it(call), case.answer).noting(&case.id, &reached)
    };
    proxy.rules(cases.map(rule).collect());
    reached
}

/// Whatever the first call returned, the repeated ones get one response, and there is one workspace with its secrets.
async fn started_once(
    story: &Story,
    client: &Client,
    one: &mut Followed<StartWorkspaceResponse>,
) -> Result<StartWorkspaceResponse> {
    let (client, case) = (&mut client.clone(), &one.case);
    let first = timeout(SOON, &mut one.first).await.context("the first call hangs")??;
    let again = start_until_answered(client, case).await?;
    match first {
        Ok(first) => ensure!(first == again, "the repeated call got another answer"),
        Err(status) => ensure!(status.code() == Code::Unavailable, "{status:?}"),
    }
    ensure!(again == start_until_answered(client, case).await?, "the third call got another answer");
    ensure!(again.cluster == "eu-1", "it is on {}", again.cluster);
    ensure!(story.resources("us-1")?.get_opt(&case.id).await?.is_none(), "it is on us-1, too");
    if case.waits_for_content() {
        let kube = story.cluster("eu-1")?.client();
        for (namespace, end) in [(&story.namespace, "env"), (&story.secrets_namespace, "tokens")] {
            let secrets: Api<Secret> = Api::namespaced(kube.clone(), namespace);
            let secret = secrets.get(&format!("{}-{end}", case.id)).await?;
            ensure!(secret.data.is_some_and(|data| !data.is_empty()), "the {end} secret is empty");
        }
        forget(story, &case.id, annotations::INIT).await?;
    }
    Ok(again)
}

async fn start_until_answered(client: &mut Client, case: &Case) -> Result<StartWorkspaceResponse> {
    let mut answer = None;
    until("the repeated start to be answered", async || {
        answer = Some(start(client, wanted_by_a_start(case)).await?);
        Ok(())
    })
    .await?;
    answer.context("no answer")
}

/// It runs in the last of the pods that were created for it, the expected number, and can be stopped.
async fn runs(
    story: &Story,
    client: &Client,
    id: &str,
    stream: &mut Streaming<SubscribeResponse>,
    token: &str,
    pods: (i32, i32),
) -> Result<()> {
    let seen = follow(stream, is(WorkspacePhase::Running)).await?;
    let auth = seen.last().and_then(|status| status.auth.as_ref()).context("no auth")?;
    ensure!(auth.owner_token == token, "another token is reported");
    let kube = story.cluster("eu-1")?.client();
    let status = story.resources("eu-1")?.get(id).await?.status.context("no status")?;
    let made = (status.pod_starts, status.pod_recreated.unwrap_or_default());
    ensure!(made == pods, "its pod was made {made:?} times");
    let pod = Api::<Pod>::namespaced(kube.clone(), &story.namespace).get(&format!("ws-{id}")).await?;
    ensure!(pod.metadata.deletion_timestamp.is_none(), "its pod is being deleted");
    // A leader deletes them once, after it wrote that the workspace runs; if it dies before, they are swept.
    secrets_are_gone(story, id).await?;
    stop(&mut client.clone(), id).await?;
    ended_with_a_backup(stream).await
}

async fn secrets_are_gone(story: &Story, id: &str) -> Result<()> {
    let kube = story.cluster("eu-1")?.client();
    until("the secrets to be gone", async || {
        for (namespace, end) in [(&story.namespace, "env"), (&story.secrets_namespace, "tokens")] {
            let secrets: Api<Secret> = Api::namespaced(kube.clone(), namespace);
            ensure!(secrets.get_opt(&format!("{id}-{end}")).await?.is_none(), "the {end} secret is left");
        }
        Ok(())
    })
    .await
}

/// Asked again, it stops, is backed up, and its end is reported and recorded.
async fn stopped(client: &Client, one: &mut Followed<()>) -> Result<()> {
    let client = &mut client.clone();
    match timeout(SOON, &mut one.first).await.context("the first call hangs")?? {
        Ok(()) => {}
        Err(status) => ensure!(status.code() == Code::Unavailable, "{status:?}"),
    }
    until("the repeated stop to be answered", async || stop(client, &one.case.id).await).await?;
    ended_with_a_backup(&mut one.stream).await?;
    until("its end to be recorded", async || {
        let status = refused(client.start_workspace(wanted(&one.case)).await, Code::AlreadyExists)?;
        ensure!(status.message().contains("it has ended"), "{}", status.message());
        Ok(())
    })
    .await
}

async fn ended_with_a_backup(stream: &mut Streaming<SubscribeResponse>) -> Result<()> {
    let seen = follow(stream, is(WorkspacePhase::Stopped)).await?;
    let Some(last) = seen.last().and_then(|status| status.conditions.as_ref()) else {
        bail!("no conditions")
    };
    ensure!(last.failed.is_empty(), "it failed: {}", last.failed);
    ensure!(last.final_backup_complete() == WorkspaceConditionBool::True, "stopped without its backup");
    Ok(())
}
