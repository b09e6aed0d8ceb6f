//! Counting workspaces, and gauges of the fleet.

pub(crate) mod clusters;
mod drains;
pub mod fleet;
mod gauge;
pub mod metering;
pub(crate) mod replica;
pub mod workspace_gauges;
