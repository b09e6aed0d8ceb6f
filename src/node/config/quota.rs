//! `node.quota`: how storage is limited.

use std::time::Duration;

use runtime::config::Group;

use crate::quota::Backend;

/// Why the quota of XFS is refused.
const XFS: &str =
    "xfs-project is not available yet: it waits until a machine can test it; use btrfs-qgroup or measured";

/// How storage is limited, and how often its use is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageQuota {
    /// `node.quota.backend`.
    pub backend: Backend,
    /// `node.quota.interval`.
    pub interval: Duration,
}

pub(super) fn read(mut group: Group<'_>) -> StorageQuota {
    const KEY: &str = "backend";
    let text = group.text(KEY);
    let found = text.as_deref().and_then(|text| Backend::NAMED.into_iter().find(|one| one.name() == text));
    match text.as_deref() {
        Some("xfs-project") => group.problem(KEY, XFS),
        Some(text) if found.is_none() => {
            let all = Backend::NAMED.map(Backend::name).join(" or ");
            group.problem(KEY, format_args!("{text:?} is no backend: use {all}"));
        }
        _ => {}
    }
    StorageQuota {
        backend: found.unwrap_or_default(),
        interval: group.duration("interval", Duration::from_mins(1)),
    }
}
