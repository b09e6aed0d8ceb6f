//! Repositories, by the git program.
//!
//! A repository and its settings are hostile. git runs here as the workspace's user without capabilities; nothing of the settings
//! that names a program is in force while it runs, and of protocols only those that reach a server.

mod blame;
mod clone;
mod prebuild;
mod program;
mod progress;
mod settings;
mod status;

pub(super) use clone::clone;
pub(super) use prebuild::update;
pub(super) use status::status;
