//! Counting workspaces, and gauges of the fleet.

mod clusters;
mod drains;
pub mod fleet;
mod gauge;
pub mod metering;
mod replica;
