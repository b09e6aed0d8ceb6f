//! Use cases about workspaces.

pub mod adopt;
pub mod builders;
pub mod changes;
pub mod diff;
pub mod explain;
pub mod forget;
pub mod logs;
pub mod orphan_secrets;
pub mod ownership;
pub mod settle;
pub mod snapshots;
pub mod start;
