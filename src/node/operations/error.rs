//! Errors of operations: those of the node itself, and failures that the state on disk records.

use content::initializer::{Fault, one_time};
use content::store;
use domain::names;
use thiserror::Error;

use crate::{helper, state};

/// Why an operation could not be run.
#[derive(Debug, Error)]
pub enum Error {
    /// The state on disk cannot be kept.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The resource has a name that is not valid.
    #[error("workspace {instance}: {error}")]
    Name {
        /// Name of the resource.
        instance: String,
        /// The rule.
        error: names::Error,
    },
    /// A snapshot was not made.
    #[error("{0}")]
    Snapshot(String),
    /// A name of an object is not valid.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// No client for one-time logins.
    #[error("one-time logins: {0}")]
    Logins(String),
    /// The state file cannot be used, so nothing is deleted.
    #[error("{0}")]
    Broken(String),
    /// Programs of the workspace may or may not see that its content is complete.
    #[error("the ready file of the workspace was not written: {0}")]
    NotReady(String),
    /// Nothing says whose content the folder has, so it is not backed up.
    #[error("workspace {0} has no state file on this node, so its folder is not backed up")]
    NoState(names::WorkspaceId),
    /// The agent ends.
    #[error("file work ended early: {0}")]
    Stopped(String),
}

impl Error {
    #[allow(clippy::needless_pass_by_value, reason = "an argument of map_err")]
    pub(super) fn stopped(error: impl ToString) -> Self {
        Self::Stopped(error.to_string())
    }
}

/// Why an operation did not do its work.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub(super) struct Failure {
    /// Who can mend it.
    pub(super) fault: Fault,
    /// One sentence.
    pub(super) message: String,
    /// Whether it may pass by itself.
    pub(super) is_passing: bool,
}

impl Failure {
    pub(super) fn platform(message: impl Into<String>) -> Self {
        Self { fault: Fault::Platform, message: message.into(), is_passing: true }
    }

    pub(super) fn lasting(fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, message: message.into(), is_passing: false }
    }

    /// For what killed so many agents.
    pub(super) fn deadly(agents: u32) -> Self {
        let message = format!(
            "the node agent was killed {agents} times while it worked on this; most likely that needs more memory than the agent may have"
        );
        Self::lasting(Fault::Platform, message)
    }

    /// With what was being done.
    pub(super) fn while_doing(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// The sentence with the owner of the fault.
    pub(super) fn sentence(&self) -> String {
        let owner = match self.fault {
            Fault::User => "the user",
            Fault::Configuration => "the configuration",
            Fault::Platform => "the platform",
        };
        format!("{} (fault of {owner})", self.message.trim_end_matches('.'))
    }
}

impl From<helper::Error> for Failure {
    fn from(error: helper::Error) -> Self {
        // A helper that refuses, or needs too much, would do so again; one that was killed or late may not.
        let is_passing = !matches!(
            error,
            helper::Error::Memory { .. }
                | helper::Error::Failed { fault: Fault::User | Fault::Configuration, .. }
        );
        Self { fault: error.fault(), message: error.to_string(), is_passing }
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        let fault = match error.fault() {
            store::Fault::User => Fault::User,
            store::Fault::Configuration => Fault::Configuration,
            store::Fault::Platform => Fault::Platform,
        };
        // What the store has is wrong only until it is sent again.
        let is_passing = match &error {
            store::Error::HeadTaken { .. } | store::Error::BadHead { .. } => false,
            _ => fault != Fault::User,
        };
        Self { fault, message: error.to_string(), is_passing }
    }
}

impl From<store::NotProven> for Failure {
    fn from(error: store::NotProven) -> Self {
        match error {
            store::NotProven::Store(error) => (*error).into(),
            other => Self::platform(other.to_string()),
        }
    }
}

impl From<state::Error> for Failure {
    fn from(error: state::Error) -> Self {
        Self::platform(error.to_string())
    }
}

impl From<one_time::Error> for Failure {
    fn from(error: one_time::Error) -> Self {
        let fault = match error {
            one_time::Error::Client(_) | one_time::Error::ServerFails { .. } => Fault::Platform,
            _ => Fault::User,
        };
        Self::lasting(fault, error.to_string())
    }
}

impl From<content::initializer::Error> for Failure {
    fn from(error: content::initializer::Error) -> Self {
        Self::lasting(error.fault(), error.to_string())
    }
}
