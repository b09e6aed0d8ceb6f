//! Why there is no plan, in one sentence, and who can mend it.

/// Whose fault a failed initialization is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The request or what it names: a repository, a login, a URL.
    User,
    /// The configuration of the node agent.
    Configuration,
    /// The installation: a missing Secret, a full disk, a bug.
    Platform,
}

/// Why an initializer has no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field breaks a rule.
    #[error("{field} {why}")]
    Refused {
        /// Path of the field, such as `initializer.git.remote_uri`.
        field: String,
        /// The rule.
        why: String,
    },
    /// The bytes of the resource are not an initializer.
    #[error("the initializer in the Workspace resource cannot be decoded: {0}")]
    Undecodable(String),
    /// A reference names no key of the Secret.
    #[error("{field} refers to the key {key}, which the Secret of the workspace's tokens does not have")]
    SecretMissing {
        /// Path of the field.
        field: String,
        /// The key.
        key: String,
    },
}

impl Error {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Refused { .. } => Fault::User,
            Self::Undecodable(_) | Self::SecretMissing { .. } => Fault::Platform,
        }
    }
}
