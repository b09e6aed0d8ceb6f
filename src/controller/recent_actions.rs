//! Actions that succeeded a moment ago, so that a reconcile does not repeat them before the watch shows their effect. Only
//! an optimization: every action can be repeated.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

use k8s::resources::Workspace;

use super::decide::Action;

/// How long an action is not repeated: the time that the watch has to show its effect.
pub(super) const REPEAT_AFTER: Duration = Duration::from_secs(5);

/// Recent actions of a namespace, by the name of the workspace.
#[derive(Debug, Default)]
pub(super) struct RecentActions {
    by_name: Mutex<HashMap<String, Vec<(Key, Instant)>>>,
}

/// What makes two actions the same.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    /// With the number of pods that were created before: each has the same name.
    CreatePod(String, i32),
    DeletePod(String, Option<u32>),
    ReleasePod(String),
    CheckForPod(String),
    DeleteSecrets(String),
    ReleaseWorkspace(String),
    DeleteWorkspace(String),
}

impl RecentActions {
    /// Whether this action succeeded less than [`REPEAT_AFTER`] ago.
    pub fn contains(&self, workspace: &Workspace, action: &Action) -> bool {
        let key = key(workspace, action);
        let by_name = self.by_name.lock();
        let recent = by_name.get(name_of(workspace)).map(Vec::as_slice).unwrap_or_default();
        recent.iter().any(|(there, at)| *there == key && at.elapsed() < REPEAT_AFTER)
    }

    /// Notes that this action succeeded just now.
    pub fn add(&self, workspace: &Workspace, action: &Action) {
        let key = key(workspace, action);
        let mut by_name = self.by_name.lock();
        let recent = by_name.entry(name_of(workspace).to_owned()).or_default();
        recent.retain(|(there, at)| *there != key && at.elapsed() < REPEAT_AFTER);
        recent.push((key, Instant::now()));
    }

    /// Removes the entry of a workspace that is gone.
    pub fn forget(&self, name: &str) {
        self.by_name.lock().remove(name);
    }

    /// Removes all entries.
    pub fn clear(&self) {
        self.by_name.lock().clear();
    }
}

fn name_of(workspace: &Workspace) -> &str {
    workspace.metadata.name.as_deref().unwrap_or_default()
}

fn key(workspace: &Workspace, action: &Action) -> Key {
    let workspace_uid = workspace.metadata.uid.clone().unwrap_or_default();
    let attempts = workspace.status.as_ref().and_then(|status| status.pod_recreated).unwrap_or_default();
    match action {
        Action::CreatePod(_) => Key::CreatePod(workspace_uid, attempts),
        Action::DeletePod { uid, grace, .. } => Key::DeletePod(uid.clone(), *grace),
        Action::ReleasePod { uid, .. } => Key::ReleasePod(uid.clone()),
        Action::CheckForPod { .. } => Key::CheckForPod(workspace_uid),
        Action::DeleteSecrets(_) => Key::DeleteSecrets(workspace_uid),
        Action::ReleaseWorkspace => Key::ReleaseWorkspace(workspace_uid),
        Action::DeleteWorkspace => Key::DeleteWorkspace(workspace_uid),
    }
}

#[cfg(test)]
mod tests {
    use k8s::resources::WorkspaceSpec;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_action_is_recent_for_five_seconds() {
        let recent = RecentActions::default();
        let delete =
            |uid: &str, grace| Action::DeletePod { name: "ws-a".to_owned(), uid: uid.to_owned(), grace };
        let workspace = Workspace::new("a", WorkspaceSpec::default());
        recent.add(&workspace, &delete("1", None));
        assert!(recent.contains(&workspace, &delete("1", None)));
        assert!(!recent.contains(&workspace, &delete("1", Some(0))));
        assert!(!recent.contains(&workspace, &delete("2", None)));
        tokio::time::advance(REPEAT_AFTER).await;
        assert!(!recent.contains(&workspace, &delete("1", None)));
    }

    #[tokio::test(start_paused = true)]
    async fn creating_the_pod_of_the_next_attempt_is_another_action() {
        let recent = RecentActions::default();
        let create = Action::CreatePod(Box::default());
        let mut workspace = Workspace::new("a", WorkspaceSpec::default());
        recent.add(&workspace, &create);
        assert!(recent.contains(&workspace, &create));
        workspace.status.get_or_insert_default().pod_recreated = Some(1);
        assert!(!recent.contains(&workspace, &create));
    }
}
