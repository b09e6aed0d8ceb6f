//! The host cluster, which the manager runs in: Secrets with the kubeconfigs of member clusters, and Events about them.
//!
//! It has its own client, connections and limits, as each member cluster has.

mod client;
mod events;
mod secrets;

pub use client::{Host, ReadFile, Source, check};
pub use events::Events;
pub use secrets::{Found, Reading, Unread, Why};
