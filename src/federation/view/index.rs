//! The fleet's workspaces as this replica sees them: a synchronous index over placement records and watched resources.
//!
//! It can be rebuilt from these two at any time. The lock is held for microseconds and never across an await: a read of
//! many workspaces takes it for a few of them at a time, and subscribers get what is published after it is released. A
//! resource counts only where its record says that it belongs; what has no record is kept aside until one comes.

mod clusters;
mod drains;
mod ends;
mod reads;
mod records;
mod resources;
mod rewinds;
mod session;
mod state;
mod strays;
mod subscribe;
#[cfg(test)]
pub(crate) mod tests;

pub use self::drains::Placed;
pub use self::state::{ClusterFacts, Index, Session, Versioned};
pub use self::subscribe::{Expired, From, Subscription};
