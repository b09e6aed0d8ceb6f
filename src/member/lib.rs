//! One member cluster: its client, what is known of it, and how it is written to.
//!
//! Nothing here is shared between clusters, so a cluster that hangs, throttles or lies changes nothing for another.

pub mod acceptance;
pub mod apply;
pub mod cache;
pub mod canary;
pub mod client;
pub mod convert;
pub mod error;
pub mod events;
pub mod fence;
pub mod host;
pub mod install;
mod lean;
pub mod logs;
pub mod maintenance;
mod member;
mod pages;
pub mod pod_policy;
pub mod probe;
pub mod protobuf;
pub mod references;
pub mod resources;
pub mod tasks;
pub mod texts;
pub mod watch;

pub use error::{Error, Result};
pub use member::{Member, MemberOptions, reader};
