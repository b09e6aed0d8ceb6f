//! A failure: a message for people, and whose fault it is (user, configuration or platform).

/// Whose fault a failure is; the reason of the condition `Failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// What runs in the workspace, or what it was asked to run.
    User,
    /// The configuration of the installation.
    Configuration,
    /// Cluster, node, network, storage.
    Platform,
}

impl Fault {
    pub fn reason(self) -> &'static str {
        match self {
            Self::User => "UserFault",
            Self::Configuration => "ConfigurationFault",
            Self::Platform => "PlatformFault",
        }
    }
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub fault: Fault,
    pub text: String,
}

impl Failure {
    pub fn new(fault: Fault, text: impl Into<String>) -> Self {
        Self { fault, text: text.into() }
    }
}

/// Text of a failure with a detail, which may be empty.
pub(super) fn with_detail(what: &str, detail: &str) -> String {
    if detail.is_empty() { what.to_owned() } else { format!("{what}: {detail}") }
}
