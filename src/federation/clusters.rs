//! Use cases about member clusters and the installation.

pub(crate) mod addresses;
mod ages;
pub(crate) mod applied;
pub mod capacity;
pub mod classes;
pub mod cluster_metrics;
mod conditions;
pub mod cordon;
pub mod deregister;
pub mod doctor;
pub mod drain;
pub mod incarnation;
pub mod install;
pub mod installation_secret;
mod learned;
mod login;
pub mod maintenance;
pub(crate) mod name;
pub(crate) mod notes;
pub(crate) mod observed;
pub(crate) mod records;
pub mod register;
pub(crate) mod restore_detection;
pub mod status;
pub mod update;
pub(crate) mod verify;
pub mod view;
pub mod watch;

pub use self::register::Registered;
pub use self::update::{NewLogin, Update};
pub use self::view::ClusterView;
pub use self::watch::{ClusterEvent, ClusterWatch, TooMany};
