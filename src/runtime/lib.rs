//! What a process needs around its work: configuration, logs, readiness, TLS, and an orderly end.
//!
//! Nothing here knows a workspace or a cluster.

pub mod admin;
pub mod audit;
pub mod config;
pub mod connections;
pub mod files;
pub mod http2;
pub mod process;
pub mod readiness;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
