//! What only the leader runs, and the etcd watches that every replica runs.

pub(crate) mod cluster_events;
pub mod etcd_watch;
pub mod progress;
pub(crate) mod reencryption;
pub(crate) mod sweeps;
pub mod tasks;
