//! When the activity of sessions is recorded: each record is a write in the member cluster.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use domain::names::WorkspaceId;

/// A workspace is marked active by this replica no more often than this. Timeouts are minutes.
const INTERVAL: Duration = Duration::from_secs(20);

/// When workspaces were last marked active by their sessions.
#[derive(Default)]
pub(super) struct Activity(Mutex<HashMap<WorkspaceId, Instant>>);

impl Activity {
    /// Whether a workspace whose bytes come and go is to be marked now; if so, it counts as marked.
    pub(super) fn is_due(&self, id: &WorkspaceId) -> bool {
        let now = Instant::now();
        let is_recent = |at: &Instant| now.duration_since(*at) < INTERVAL;
        let mut marked = self.0.lock();
        if marked.get(id).is_some_and(is_recent) {
            return false;
        }
        // Of others only recent marks are kept, so there are as few as open sessions.
        marked.retain(|_, at| is_recent(at));
        marked.insert(id.clone(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_workspace_is_marked_at_once_and_then_once_in_an_interval_each_by_itself() {
        let activity = Activity::default();
        let (one, other): (WorkspaceId, WorkspaceId) = ("one".parse().unwrap(), "other".parse().unwrap());
        assert!(activity.is_due(&one));
        assert!(!activity.is_due(&one));
        assert!(activity.is_due(&other));
        tokio::time::advance(INTERVAL).await;
        assert!(activity.is_due(&one));
        assert!(!activity.is_due(&one));
        assert_eq!(activity.0.lock().len(), 1, "old marks are forgotten");
    }
}
