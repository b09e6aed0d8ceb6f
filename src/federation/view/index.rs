//! Synchronous index of all workspaces, over placement records and watched resources.
//!
//! It can be rebuilt from these two at any time. Its lock is held for microseconds and never across an
//! await: a read of many workspaces takes it for a few of them at a time, and events are
//! delivered after it is released. A resource counts only where its record says that it belongs; one
//! without a record is kept aside until a record comes.

mod clusters;
mod drains;
mod ends;
mod obstacles;
mod orphans;
mod reads;
mod records;
mod resources;
mod restored;
mod session;
mod state;
mod subscribe;
#[cfg(test)]
pub(crate) mod tests;

pub use self::drains::Placed;
pub use self::state::{ClusterFacts, Index, Session, Versioned};
pub use self::subscribe::{Expired, From, Subscription};
