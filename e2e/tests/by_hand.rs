//! Somebody deletes a workspace's resource, its pod or its secrets by hand, in every phase. It ends as `docs/phases.md`
//! says, content that is ready is backed up, and nothing is left over.

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use proto::wsman::{
    EnvironmentVariable, StartWorkspaceRequest, WorkspaceConditionBool, WorkspacePhase, WorkspaceStatus,
};
use serde_json::json;

use crate::story::{
    Client, Story, annotated, describe, follow, forget, is, nothing_is_left, request, start, stop, story,
    until, watch,
};
use e2e::harness::annotations;

/// A class whose pods fit no node.
const HUGE: &str = "g1-huge";

/// What is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deleted {
    /// The resource.
    Workspace,
    /// The pod, with its grace period.
    Pod,
    /// The pod, with finalizer removed and grace period 0.
    PodByForce,
    /// Its secret.
    Secrets,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    phase: WorkspacePhase,
    deleted: Deleted,
}

impl Case {
    fn all() -> Vec<Self> {
        use WorkspacePhase::{Creating, Initializing, Pending, Running, Stopping};
        let phases = [Pending, Creating, Initializing, Running, Stopping];
        let of = |phase| {
            [Deleted::Workspace, Deleted::Pod, Deleted::PodByForce].map(|deleted| Self { phase, deleted })
        };
        let secrets = Self { phase: Initializing, deleted: Deleted::Secrets };
        phases.into_iter().flat_map(of).chain([secrets]).collect()
    }

    fn id(self) -> String {
        format!("{:?}-{:?}", self.phase, self.deleted).to_lowercase()
    }

    /// A workspace that stays in the phase.
    fn request(self) -> StartWorkspaceRequest {
        let mut wanted = request(&self.id(), &[]);
        if let Some(spec) = &mut wanted.spec {
            spec.envvars =
                vec![EnvironmentVariable { name: "PASSWORD".into(), value: "hunter2".into(), secret: None }];
            if self.phase == WorkspacePhase::Pending {
                HUGE.clone_into(&mut spec.class);
            }
        }
        match self.phase {
            WorkspacePhase::Creating => {
                // The node agent begins with the content while the container is being created.
                let slow = annotated(wanted, annotations::START_DELAY, "10m");
                annotated(slow, annotations::INIT, "hang")
            }
            WorkspacePhase::Initializing => annotated(wanted, annotations::INIT, "hang"),
            WorkspacePhase::Stopping => annotated(wanted, annotations::BACKUP, "hang"),
            _ => wanted,
        }
    }

    /// Whether there is content that must be backed up before the end.
    fn has_content(self) -> bool {
        matches!(self.phase, WorkspacePhase::Running | WorkspacePhase::Stopping)
            || self.deleted == Deleted::Secrets
    }
}

#[test]
fn anything_deleted_by_hand_in_any_phase_ends_as_documented_and_leaves_nothing() -> Result<()> {
    story("by-hand", 0, &[], async |story| {
        let class = json!({ "container": {
            "requests": { "cpu": "100k", "memory": "1Gi" },
            "limits": { "cpu": { "min": "100k", "burst": "100k" }, "memory": "1Gi", "storage": "1Gi" },
        } });
        story.installation.overrides = json!({ "manager": { "workspaceClass": { HUGE: class } } });
        story.replicas.push(story.installation.start("manager-0").await?);
        story.register("eu-1").await?;
        // Otherwise a start that fits no node would be rejected.
        let unlimited = story.cli(&["cluster", "update", "eu-1", "--capacity", "unlimited"]).await?;
        ensure!(unlimited.code == 0, "{}", unlimited.stderr);
        let (client, story) = (story.client().await?, &*story);
        let cases = Case::all().into_iter().map(|case| {
            let client = client.clone();
            async move { reported(story, client, case).await.with_context(|| case.id()) }
        });
        try_join_all(cases).await?;
        nothing_is_left(story).await
    })
}

async fn reported(story: &Story, mut client: Client, case: Case) -> Result<()> {
    let id = case.id();
    let mut stream = watch(&mut client, &id).await?;
    start(&mut client, case.request()).await?;
    if case.phase == WorkspacePhase::Stopping {
        follow(&mut stream, is(WorkspacePhase::Running)).await?;
        stop(&mut client, &id).await?;
    }
    follow(&mut stream, is(case.phase)).await?;
    delete(story, case).await?;
    match (case.phase, case.deleted) {
        (WorkspacePhase::Stopping, _) => {
            let still = describe(&mut client, &id).await?.context("it is gone before its backup")?;
            ensure!(still.phase() == WorkspacePhase::Stopping, "it is {:?} before its backup", still.phase());
            forget(story, &id, annotations::BACKUP).await?;
        }
        (_, Deleted::Secrets) => {
            forget(story, &id, annotations::INIT).await?;
            follow(&mut stream, is(WorkspacePhase::Running)).await?;
            stop(&mut client, &id).await?;
        }
        _ => {}
    }
    let seen = follow(&mut stream, is(WorkspacePhase::Stopped)).await?;
    ended(case, seen.last().context("nothing was seen")?)
}

/// How it ended, and what is reported.
fn ended(case: Case, last: &WorkspaceStatus) -> Result<()> {
    let conditions = last.conditions.as_ref().context("no conditions")?;
    let pod_was_taken = matches!(case.deleted, Deleted::Pod | Deleted::PodByForce);
    if pod_was_taken && case.phase != WorkspacePhase::Stopping {
        // If no reconcile saw the deletion in progress, the pod is merely missing.
        let reported = last.message.starts_with("Its pod was deleted by somebody else");
        let vanished = conditions.failed.contains("vanished");
        ensure!(reported || vanished, "{} {}", last.message, conditions.failed);
    } else {
        ensure!(conditions.failed.is_empty(), "it failed: {}", conditions.failed);
    }
    let backup = conditions.final_backup_complete() == WorkspaceConditionBool::True;
    ensure!(backup == case.has_content(), "a backup: {backup}");
    Ok(())
}

async fn delete(story: &Story, case: Case) -> Result<()> {
    let (kube, id) = (story.cluster("eu-1")?.client(), case.id());
    let pods: Api<Pod> = Api::namespaced(kube.clone(), &story.namespace);
    let (pod, params) = (format!("ws-{id}"), DeleteParams::default());
    if case.phase != WorkspacePhase::Stopping {
        // The first phase is reported before the pod exists.
        until("the pod to be there", async || Ok(pods.get(&pod).await.map(drop)?)).await?;
    }
    match case.deleted {
        Deleted::Workspace => drop(story.resources("eu-1")?.delete(&id, &params).await?),
        Deleted::Pod => {
            // A stopped one may be gone already.
            if pods.get_opt(&pod).await?.is_some() {
                pods.delete(&pod, &params).await?;
            }
        }
        Deleted::PodByForce => {
            until("the pod to be gone", async || {
                let bare = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
                if pods.get_opt(&pod).await?.is_some() {
                    pods.patch(&pod, &PatchParams::default(), &bare).await?;
                    pods.delete(&pod, &DeleteParams::default().grace_period(0)).await?;
                }
                ensure!(pods.get_opt(&pod).await?.is_none(), "it is there");
                Ok(())
            })
            .await?;
        }
        Deleted::Secrets => {
            let secrets: Api<Secret> = Api::namespaced(kube, &story.namespace);
            secrets.delete(&format!("{id}-env"), &params).await?;
        }
    }
    Ok(())
}
