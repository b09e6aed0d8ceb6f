//! The leader is killed between the steps of taking workspaces over: from another manager, and from another
//! installation. One workspace for each step, all at once; the next leader continues.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use http::request::Parts;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use proto::spaceport::v1::AdoptRequest;
use proto::wsman::{WorkspaceConditionBool, WorkspacePhase};
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use crate::adopt::{forget, give_away, pods, reported, standing};
use crate::bulkheads::behind_proxy;
use crate::killed::refused_what_came_late;
use crate::story::{
    Client, SOON, Story, annotated, describe, follow, forget as let_go_on, is, nothing_is_left, request, run,
    start, stop, story, until, watch, with_secrets,
};
use e2e::harness::{Answer, Carried, Proxy, Rule, annotations};

/// Previous owner of a workspace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Manager,
    Installation,
}

/// A workspace, the write at which the leader is killed, and what happens to that write.
#[derive(Clone)]
struct Case {
    id: String,
    of: Of,
    resource: &'static str,
    answer: Answer,
}

impl Case {
    /// Killed after the write was carried out, or before; then it arrives after the next leader has taken over.
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        let steps: [(Of, &str, &[&str]); 2] = [
            (Of::Manager, "manager", &["pods", "workspaces"]),
            (Of::Installation, "installation", &["pods", "secrets", "workspaces"]),
        ];
        for (of, whose, resources) in steps {
            for &resource in resources {
                for (answer, when) in [(Answer::Mute, "after"), (Answer::Late, "before")] {
                    all.push(Self { id: format!("{whose}-{when}-{resource}"), of, resource, answer });
                }
            }
        }
        all
    }

    fn is_it(&self, call: &Parts) -> bool {
        let carried = call.extensions.get::<Carried>().map(|carried| &*carried.0).unwrap_or_default();
        let (method, name) = match self.resource {
            "pods" => (Method::PATCH, format!("ws-{}", self.id)),
            // The second write, so that the first has set Spaceport's label already.
            "secrets" => (Method::PUT, format!("{}-tokens", self.id)),
            _ => (Method::PATCH, self.id.clone()),
        };
        call.method == method
            && call.uri.path().ends_with(&format!("/{}/{name}", self.resource))
            && String::from_utf8_lossy(carried).contains("gitpod.io/managed-by")
    }

    /// Runs it; or leaves it waiting with its secrets, if those are adopted.
    async fn begin(&self, client: &mut Client) -> Result<()> {
        let wanted = request(&self.id, &[]);
        if self.resource != "secrets" {
            return run(client, wanted).await.map(drop);
        }
        let mut stream = watch(client, &self.id).await?;
        start(client, annotated(with_secrets(wanted), annotations::INIT, "hang")).await?;
        follow(&mut stream, is(WorkspacePhase::Initializing)).await.map(drop)
    }

    /// Expected standing after the leader's death: adopted, or half.
    fn standing(&self) -> &'static str {
        if self.resource == "workspaces" && self.answer == Answer::Mute { "ADOPTED" } else { "HANDOVER" }
    }
}

/// Makes a workspace look like one of another owner: no record, and its resource names the owner. Returns the uid of
/// its pod.
async fn give(story: &Story, case: &Case, installation: Uuid) -> Result<String> {
    if case.of == Of::Manager {
        return Ok(give_away(story, &case.id).await?.metadata.uid.unwrap_or_default());
    }
    forget(story, &case.id).await?;
    let sign = json!({ "spaceport.dev/installation": installation.to_string() });
    let patch = Patch::Merge(json!({ "metadata": { "annotations": sign } }));
    story.resources("eu-1")?.patch(&case.id, &PatchParams::default(), &patch).await?;
    if case.resource == "secrets" {
        let patch = Patch::Merge(json!({ "metadata": { "labels": sign } }));
        for (api, name) in secrets(story, case)? {
            api.patch(&name, &PatchParams::default(), &patch).await.with_context(|| name.clone())?;
        }
    }
    let pod = pods(story, &case.id).await?.1.pop().context("no pod")?;
    Ok(pod.metadata.uid.unwrap_or_default())
}

/// The two secrets of a case.
fn secrets(story: &Story, case: &Case) -> Result<[(Api<Secret>, String); 2]> {
    let api =
        |namespace: &str| Ok::<_, anyhow::Error>(Api::namespaced(story.cluster("eu-1")?.client(), namespace));
    Ok([
        (api(&story.namespace)?, format!("{}-env", case.id)),
        (api(&story.secrets_namespace)?, format!("{}-tokens", case.id)),
    ])
}

/// The proxy holds the write of each case; returns the cases that reached it.
fn keep_back(proxy: &Proxy, cases: &[Case]) -> Arc<Mutex<BTreeSet<String>>> {
    let reached = Arc::new(Mutex::new(BTreeSet::new()));
    let rule = |case: &Case| {
        let one = case.clone();
        Rule::new(move |call: &Parts| one.is_it(call), case.answer).noting(&case.id, &reached)
    };
    proxy.rules(cases.iter().map(rule).collect());
    reached
}

#[test]
fn a_leader_killed_between_any_two_steps_of_a_takeover_leaves_what_the_next_one_goes_on_with() -> Result<()> {
    story("adopt-killed", 2, &[], async |story| {
        let proxy = behind_proxy(story, "eu-1").await?;
        let leader = story.leader().await?;
        let at = story.replicas.iter().position(|replica| replica.name == leader).context("no leader")?;
        let doomed = story.replicas.remove(at);
        let mut client = story.client().await?;

        let (cases, installation) = (Case::all(), Uuid::new_v4());
        let mut uids = Vec::new();
        for case in &cases {
            case.begin(&mut client).await?;
            uids.push(give(story, case, installation).await?);
        }
        until("all to be others'", async || {
            for case in &cases {
                let found = standing(story, "eu-1", &case.id).await?;
                let wanted = if case.of == Of::Manager { "FOREIGN" } else { "OTHER_INSTALLATION" };
                ensure!(found == wanted, "{} is {found}", case.id);
            }
            Ok(())
        })
        .await?;

        let reached = keep_back(&proxy, &cases);
        let ids: BTreeSet<String> = cases.iter().map(|case| case.id.clone()).collect();
        let asked = AdoptRequest {
            name: "eu-1".to_owned(),
            workspaces: ids.iter().cloned().collect(),
            others: true,
            installation: installation.to_string(),
            ..AdoptRequest::default()
        };
        let mut api = story.installation.clusters(&story.replicas[0]).await?;
        let first = tokio::spawn(async move { api.adopt(asked).await });
        until("every step to be reached", async || {
            let reached = reached.lock().clone();
            ensure!(reached == ids, "not reached: {:?}", ids.difference(&reached).collect::<Vec<_>>());
            Ok(())
        })
        .await?;
        doomed.process.kill().await?;
        proxy.rules(Vec::new());
        let first = timeout(SOON, first).await.context("the call hangs")??;
        ensure!(first.is_err(), "it was answered: {first:?}");

        // From here on the next leader writes, and the cluster rejects the dead leader's writes.
        until("the next leader to write there", async || {
            start(&mut client, request("after", &[])).await.map(drop)
        })
        .await?;
        until("all to be as the dead leader left them", async || {
            for case in &cases {
                let found = standing(story, "eu-1", &case.id).await?;
                ensure!(found == case.standing(), "{} is {found}", case.id);
            }
            Ok(())
        })
        .await?;
        for case in cases.iter().filter(|case| case.standing() == "HANDOVER") {
            ensure!(describe(&mut client, &case.id).await?.is_none(), "{} is shown", case.id);
        }
        let late = cases.iter().filter(|case| case.answer == Answer::Late).count();
        refused_what_came_late(&proxy, late).await?;

        // No workspace has to be named again.
        let done = reported(story, &["adopt", "eu-1", "--yes"]).await?;
        ensure!(
            done.as_array().is_some_and(|all| all.iter().all(|one| one["outcome"] == "ADOPTED")),
            "{done}"
        );
        for (case, uid) in cases.iter().zip(&uids) {
            runs_in_its_pod(story, case, uid).await.with_context(|| case.id.clone())?;
        }
        stop(&mut client, "after").await?;
        nothing_is_left(story).await
    })
}

/// It is owned, runs in its original pod, and stops in order.
async fn runs_in_its_pod(story: &Story, case: &Case, uid: &str) -> Result<()> {
    let mut client = story.client().await?;
    ensure!(standing(story, "eu-1", &case.id).await? == "ADOPTED", "it is not adopted");
    if case.resource == "secrets" {
        let us = story.resources("eu-1")?.get(&case.id).await?.metadata.annotations.unwrap_or_default();
        let us = us.get("spaceport.dev/installation").context("it names no installation")?;
        for (api, name) in secrets(story, case)? {
            let labels = api.get(&name).await?.metadata.labels.unwrap_or_default();
            ensure!(labels.get("spaceport.dev/installation") == Some(us), "{name} names another: {labels:?}");
        }
        let_go_on(story, &case.id, annotations::INIT).await?;
    }
    let mut stream = watch(&mut client, &case.id).await?;
    follow(&mut stream, is(WorkspacePhase::Running)).await?;
    let now = pods(story, &case.id).await?.1;
    ensure!(now.len() == 1 && now[0].metadata.uid.as_deref() == Some(uid), "its pod was recreated");
    stop(&mut client, &case.id).await?;
    let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
    let last = seen.last().and_then(|status| status.conditions.as_ref()).context("no conditions")?;
    ensure!(last.failed.is_empty(), "it failed: {}", last.failed);
    ensure!(last.final_backup_complete() == WorkspaceConditionBool::True, "stopped without its backup");
    Ok(())
}
