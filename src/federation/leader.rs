//! What only the leader runs, and the etcd watches that every replica runs.

mod cluster_events;
mod etcd_watch;
mod reencryption;
mod tasks;
