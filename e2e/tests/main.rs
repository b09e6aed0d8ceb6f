//! Every end-to-end test, one module a story. All share one fleet of real clusters; each story has managers, an etcd
//! prefix and namespaces of its own there, so that none sees another.

#[path = "../chaos/mod.rs"]
mod chaos;
#[path = "../harness/mod.rs"]
mod harness;
mod story;

mod access;
mod adopt;
mod adopt_killed;
mod adopt_moved;
mod bridge;
mod builders;
mod bulkheads;
mod by_hand;
mod calls;
mod canary;
mod changes;
mod chaos_run;
mod configuration;
mod doctor;
mod drain;
mod drain_rate;
mod etcd_outage;
mod failover;
mod failures;
mod fence;
mod forget;
mod host_events;
mod killed;
mod kubectl;
mod leftovers;
mod lifecycle;
mod limits;
mod logs;
mod maintenance;
mod manifests;
mod metrics;
mod namespaces;
mod outage;
mod placement;
mod pod_events;
mod protobuf;
mod registry;
mod restore;
mod same_name;
mod secretref;
mod start;
mod status;
mod store;
mod timeouts;
mod update;
mod verbs;
