//! Use cases about workspaces.

pub mod adopt;
pub mod builders;
pub mod changes;
pub(crate) mod decisions;
pub mod diff;
pub mod explain;
pub mod forget;
pub(crate) mod hosts;
pub mod logs;
pub(crate) mod orphan_secrets;
pub(crate) mod orphans;
pub(crate) mod ownership;
pub mod queries;
pub(crate) mod records;
pub mod sessions;
pub mod settle;
pub mod snapshots;
pub mod start;
