//! Infrastructure of a server process: configuration, logs, readiness, TLS, admin HTTP and shutdown.
//!
//! It does not depend on workspaces or clusters.

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
