//! The process that touches the files of a user: in namespaces of its own, as the workspace's user, with a deadline.
//!
//! `spaceport node` runs its own program again with a hidden subcommand, which [`main`] answers before any thread starts. In the
//! agent, [`Helper`] starts such a process, hands it one [`Operation`], passes its events on and ends it as a whole. The protocol is
//! in `docs/protocols/content-helper.md`.

mod credentials;
mod download;
mod enter;
mod files;
mod git;
mod ground;
mod inside;
pub mod protocol;
mod ready;
mod root;
pub mod settings;
mod start;
mod supervise;

pub use inside::{Archives, Io, NoArchives, Unable, main};
pub use protocol::{GitStatus, Metric, Operation, Outcome, Progress, Source};
pub use settings::{Limits, Settings};
pub use start::{Error, Helper, Job, Running};
