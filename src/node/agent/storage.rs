//! The condition StorageFull of a running workspace.

use k8s::resources::Workspace;
use k8s::resources::conditions::{STORAGE_FULL, reason};
use kube::ResourceExt as _;
use tracing::{info, warn};

use super::work::Work;
use crate::decide::{Report, Update};
use crate::quota::Usage;

/// What is to be written about the storage of a workspace, if anything.
pub async fn look(work: &Work, workspace: &Workspace) -> Option<Report> {
    let instance = workspace.name_any();
    let usage = match work.operations.usage(workspace).await {
        Ok(usage) => usage?,
        Err(why) => {
            warn!(instance, why, "the storage of a workspace cannot be measured");
            return None;
        }
    };
    let report = report(workspace, usage)?;
    let (used, limit) = (usage.used, usage.limit);
    if usage.is_full() {
        warn!(instance, used, limit, "the storage of a workspace is full");
    } else {
        info!(instance, used, limit, "the storage of a workspace has space again");
    }
    Some(report)
}

/// Nothing while the condition says already whether it is full: the numbers alone are no news.
fn report(workspace: &Workspace, usage: Usage) -> Option<Report> {
    let status = workspace.status.as_ref()?;
    if status.is_true(STORAGE_FULL) == usage.is_full() {
        return None;
    }
    let update = Update {
        kind: STORAGE_FULL,
        is_true: usage.is_full(),
        reason: if usage.is_full() { reason::QUOTA_REACHED } else { reason::BELOW_QUOTA },
        message: usage.sentence(),
    };
    Some(Report {
        attempt: status.pod_recreated.unwrap_or_default(),
        conditions: vec![update],
        ..Report::default()
    })
}

#[cfg(test)]
mod tests {
    use k8s::resources::{WorkspaceSpec, WorkspaceStatus};

    use super::*;
    use crate::quota::Backend;

    fn workspace(full: Option<&str>) -> Workspace {
        let mut workspace = Workspace::new("ws-1", WorkspaceSpec::default());
        let condition = full.map(|status| {
            serde_json::json!({ "type": STORAGE_FULL, "status": status, "reason": "x", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z" })
        });
        let conditions = condition.into_iter().map(|one| serde_json::from_value(one).unwrap()).collect();
        workspace.status = Some(WorkspaceStatus { conditions, ..WorkspaceStatus::default() });
        workspace
    }

    #[test]
    fn the_condition_is_written_when_the_storage_becomes_full_and_when_it_has_space_again() {
        let written = |full: Option<&str>, used| {
            let usage = Usage { backend: Backend::Measured, used, limit: 100 };
            report(&workspace(full), usage).map(|report| report.conditions[0].is_true)
        };
        assert_eq!(written(None, 100), None);
        assert_eq!(written(None, 101), Some(true));
        assert_eq!(written(Some("True"), 200), None);
        assert_eq!(written(Some("True"), 100), Some(false));
        assert_eq!(written(Some("False"), 100), None);
        assert_eq!(written(Some("False"), 101), Some(true));
    }
}
