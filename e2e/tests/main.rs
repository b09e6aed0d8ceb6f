//! Every end-to-end test, one module a story. All share one fleet of real clusters; each story has managers, an etcd
//! prefix and namespaces of its own there, so that none sees another.

#[path = "../harness/mod.rs"]
mod harness;
mod story;

mod access;
mod configuration;
mod failover;
mod lifecycle;
mod limits;
mod maintenance;
mod manifests;
mod placement;
mod registry;
mod start;
mod store;
