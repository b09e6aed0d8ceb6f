//! Writes in the cluster that a decision asks for.

use k8s_openapi::api::core::v1::Pod;

use k8s::resources::conditions::reason;
use k8s::resources::{Workspace, names};

use super::observed::Denial;

/// A write in the cluster, or a check of it. Each is idempotent.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create the pod.
    CreatePod(Box<Pod>),
    /// Delete a pod.
    DeletePod {
        /// Name of the pod.
        name: String,
        /// Uid of the pod.
        uid: String,
        /// Grace period in seconds; `None` for the pod's own.
        grace: Option<u32>,
    },
    /// Remove the manager's finalizer from a pod.
    ReleasePod {
        /// Name of the pod.
        name: String,
        /// Uid of the pod.
        uid: String,
    },
    /// Ask the apiserver whether a pod exists: the response to its creation may have been lost, or the watch may lag.
    CheckForPod {
        /// Name of the pod.
        name: String,
    },
    /// Delete the workspace's Secrets; at least one flag is true.
    DeleteSecrets(SecretsToDelete),
    /// Remove the manager's finalizer from the Workspace.
    ReleaseWorkspace,
    /// Delete the Workspace.
    DeleteWorkspace,
}

impl Action {
    /// What the status reports if the cluster refuses this action for a cause. `None` for the pod's creation, which is
    /// reported as a [`Refusal`](super::Refusal), and for what only reads: the decision rests on its answer.
    pub fn denied(&self, cause: &str) -> Option<Denial> {
        let (reason, what) = match self {
            Self::DeletePod { name, .. } => (reason::POD_NOT_DELETED, format!("delete its pod {name}")),
            Self::ReleasePod { name, .. } => (
                reason::POD_NOT_RELEASED,
                format!("remove the finalizer {} from its pod {name}", names::FINALIZER),
            ),
            Self::DeleteSecrets(_) => (reason::SECRETS_NOT_DELETED, "delete its Secrets".to_owned()),
            Self::ReleaseWorkspace => (
                reason::WORKSPACE_NOT_RELEASED,
                format!("remove the finalizer {} from its resource", names::FINALIZER),
            ),
            Self::DeleteWorkspace => (reason::WORKSPACE_NOT_DELETED, "delete its resource".to_owned()),
            Self::CreatePod(_) | Self::CheckForPod { .. } => return None,
        };
        Some(Denial { reason, message: format!("the cluster refuses to {what}: {cause}") })
    }
}

/// Which Secrets a workspace has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecretsToDelete {
    /// `<id>-env` in the workspace namespace.
    pub env: bool,
    /// `<id>-tokens` in the secrets namespace.
    pub tokens: bool,
}

impl SecretsToDelete {
    /// The Secrets that a workspace's spec may refer to. Their deletion checks that they were created for it.
    pub fn of(workspace: &Workspace) -> Self {
        let id = workspace.metadata.name.as_deref().unwrap_or_default();
        let env_name = names::env_secret(id);
        let refers = |variable: &k8s::resources::EnvVar| {
            let source = variable.value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref());
            source.is_some_and(|secret| secret.name == env_name)
        };
        let initializer = workspace.spec.initializer.0.0.as_slice();
        Self {
            env: workspace.spec.user_env_vars.iter().chain(&workspace.spec.sys_env_vars).any(refers),
            tokens: initializer.windows(EXTRACTED.len()).any(|part| part == EXTRACTED),
        }
    }

    /// Whether there is none.
    pub fn is_none(self) -> bool {
        !self.env && !self.tokens
    }
}

/// Replaces a password in an initializer; the password is in the token Secret.
const EXTRACTED: &[u8] = b"extracted-secret/";
