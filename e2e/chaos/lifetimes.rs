//! Lifetimes of workspaces and pods, from the responses of apiservers to writes.
//!
//! A write took effect between request and response. For a beginning the latest time counts, for an end the earliest,
//! so that an overlap of two lifetimes is certain.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use k8s::resources::{Workspace, WorkspaceStatus, conditions};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::audit::Event;
use super::history::{Content, Resource};

/// Kubernetes timestamps have whole seconds.
const SECOND: u64 = 1_000;

/// Lifetimes in any number of clusters.
#[derive(Debug, Default)]
pub struct Lifetimes {
    /// By UID of the resource.
    lifetimes: BTreeMap<String, Lifetime>,
    /// UIDs of pods that ran, by UID of their owner.
    pods: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug)]
struct Lifetime {
    resource: Resource,
    /// When the last request that returned it was received.
    last: u64,
}

impl Lifetimes {
    /// Applies one write in a cluster; returns whether anything changed.
    pub fn take(&mut self, cluster: &str, event: &Event) -> Result<bool> {
        if !event.accepted || event.dry_run {
            return Ok(false);
        }
        let kind = event.object["kind"].as_str().unwrap_or_default();
        match (event.resource.as_str(), kind) {
            ("workspaces", "Workspace") => {
                let workspace = serde_json::from_value(event.object.clone());
                let workspace = workspace.with_context(|| format!("cannot read Workspace {}", event.name))?;
                Ok(self.workspace(cluster, &workspace, event))
            }
            // The response to a completed deletion has no object.
            ("workspaces", "Status") if event.verb == "delete" => {
                Ok(event.object["details"]["uid"].as_str().is_some_and(|uid| self.ended(uid, event.received)))
            }
            ("pods", "Pod") => {
                let pod = serde_json::from_value(event.object.clone());
                Ok(self.pod(&pod.with_context(|| format!("cannot read pod {}", event.name))?))
            }
            _ => Ok(false),
        }
    }

    /// Applies a list of the workspaces in a cluster. The log entry of a write is lost if its apiserver is killed at
    /// that moment; the list shows its effect.
    pub fn are(&mut self, cluster: &str, listed: &[Workspace]) {
        for workspace in listed {
            let uid = workspace.uid().unwrap_or_default();
            self.lifetimes
                .entry(uid)
                .or_insert_with(|| Lifetime::new(cluster, workspace))
                .is(workspace, None);
        }
        let listed: BTreeSet<&str> = listed.iter().filter_map(|one| one.metadata.uid.as_deref()).collect();
        let there = self.lifetimes.values_mut().filter(|life| life.resource.cluster == cluster);
        for life in there.filter(|life| !listed.contains(life.resource.uid.as_str())) {
            life.resource.until.get_or_insert(life.last);
        }
    }

    /// All lifetimes.
    pub fn resources(&self) -> Vec<Resource> {
        let with_pods = |(uid, life): (&String, &Lifetime)| {
            let pods = self.pods.get(uid).map(|pods| pods.iter().cloned().collect());
            Resource { pods: pods.unwrap_or_default(), ..life.resource.clone() }
        };
        self.lifetimes.iter().map(with_pods).collect()
    }

    fn workspace(&mut self, cluster: &str, workspace: &Workspace, event: &Event) -> bool {
        let Some(uid) = workspace.uid() else { return false };
        let is_new = !self.lifetimes.contains_key(&uid);
        let life = self.lifetimes.entry(uid.clone()).or_insert_with(|| Lifetime::new(cluster, workspace));
        let has_changed = life.is(workspace, Some(event));
        let has_no_finalizer = workspace.finalizers().is_empty();
        let is_deleted = workspace.metadata.deletion_timestamp.is_some() || event.verb == "delete";
        let has_ended = is_deleted && has_no_finalizer && self.ended(&uid, event.received);
        is_new || has_changed || has_ended
    }

    fn ended(&mut self, uid: &str, at: u64) -> bool {
        let Some(life) = self.lifetimes.get_mut(uid) else { return false };
        let is_news = !life.resource.seen_end;
        (life.resource.until, life.resource.seen_end) = (Some(at), true);
        is_news
    }

    fn pod(&mut self, pod: &Pod) -> bool {
        let ran = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        let owner = pod.owner_references().first().map(|owner| owner.uid.clone());
        match (owner, pod.uid()) {
            (Some(owner), Some(uid)) if ran => self.pods.entry(owner).or_default().insert(uid),
            _ => false,
        }
    }
}

impl Lifetime {
    /// A lifetime of which only the existence is known.
    fn new(cluster: &str, workspace: &Workspace) -> Self {
        let created = workspace.metadata.creation_timestamp.as_ref();
        let created = created.and_then(|at| u64::try_from(at.0.as_millisecond()).ok()).unwrap_or(0);
        let resource = Resource {
            cluster: cluster.to_owned(),
            id: workspace.name_any(),
            meta: workspace.spec.ownership.workspace_id.clone(),
            uid: workspace.uid().unwrap_or_default(),
            from: created + SECOND,
            until: None,
            pods: Vec::new(),
            phase: String::new(),
            version: 0,
            seen_end: false,
            stop_asked: None,
            active: None,
            content: Content::None,
        };
        Self { resource, last: created }
    }

    /// Applies a state and the request that returned it; returns whether it is newer.
    fn is(&mut self, workspace: &Workspace, event: Option<&Event>) -> bool {
        let (life, status) = (&mut self.resource, workspace.status.as_ref());
        if let Some(event) = event {
            self.last = self.last.max(event.received);
            life.from = if event.verb == "create" { event.answered } else { life.from.min(event.answered) };
            if status.is_some_and(|status| status.is_true(conditions::STOPPED_BY_REQUEST)) {
                life.stop_asked = Some(life.stop_asked.map_or(event.received, |at| at.min(event.received)));
            }
        }
        let version = workspace.resource_version().and_then(|text| text.parse().ok()).unwrap_or(0);
        // Responses are logged in the order of sending, not of writing.
        if version <= life.version {
            return false;
        }
        life.version = version;
        life.phase = status.map_or_else(String::new, |status| format!("{:?}", status.phase));
        if let Some(status) = status {
            let active = status.last_activity.as_ref();
            life.active = active.and_then(|at| u64::try_from(at.0.as_millisecond()).ok());
            life.content = content(status);
        }
        true
    }
}

fn content(status: &WorkspaceStatus) -> Content {
    let is = |kind| status.is_true(kind);
    if is(conditions::BACKUP_COMPLETE) {
        Content::Saved
    } else if is(conditions::CONTENT_READY) && !is(conditions::ABORTED) {
        Content::Unsaved
    } else {
        Content::None
    }
}

#[cfg(test)]
mod tests;
