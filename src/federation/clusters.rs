//! Use cases about member clusters and the installation.

pub mod addresses;
pub mod drain;
pub mod incarnation;
pub mod installation_secret;
pub mod maintenance;
pub mod observed;
pub mod registry;
pub mod restore_detection;
pub mod status;
