//! Extracts passwords from an initializer, so that the resource holds only references to them.

use prost::Message;

use super::Problems;
use super::extract::{Secrets, log_in_by_config, take as take_out, take_rest};
use domain::workspace::SealedInitializer;
use proto::contentservice::workspace_initializer::Spec;
use proto::contentservice::{GitInitializer, WorkspaceInitializer};

/// An initializer as stored.
pub(super) struct Stored {
    /// For node agents that resolve references in passwords alone.
    pub(super) existing: SealedInitializer,
    /// For Spaceport's node agent, if it differs.
    pub(super) own: Option<SealedInitializer>,
    /// Secret fields that stay in clear text for existing agents.
    pub(super) clear: Vec<String>,
}

/// Serializes an initializer and extracts its secrets.
pub(super) fn extract(problems: &mut Problems, initializer: Option<WorkspaceInitializer>) -> Option<Stored> {
    let Some(mut initializer) = initializer else {
        problems.add("spec.initializer", "is required");
        return None;
    };
    let mut secrets = Secrets::new();
    walk(&mut secrets, &mut initializer, "initializer");
    let existing = SealedInitializer { content: initializer.encode_to_vec(), secrets: secrets.clone() };
    let clear = take_rest(&mut secrets, &mut initializer);
    let own = || SealedInitializer { content: initializer.encode_to_vec(), secrets };
    Some(Stored { existing, own: (!clear.is_empty()).then(own), clear })
}

fn walk(secrets: &mut Secrets, initializer: &mut WorkspaceInitializer, path: &str) {
    match &mut initializer.spec {
        Some(Spec::Git(git)) => take(secrets, git, &format!("{path}.git")),
        Some(Spec::Prebuild(prebuild)) => {
            for (at, git) in prebuild.git.iter_mut().enumerate() {
                take(secrets, git, &format!("{path}.prebuild.{at}.git"));
            }
        }
        Some(Spec::Composite(composite)) => {
            for (at, child) in composite.initializer.iter_mut().enumerate() {
                walk(secrets, child, &format!("{path}.composite.{at}"));
            }
        }
        Some(Spec::Empty(_) | Spec::Snapshot(_) | Spec::Download(_) | Spec::Backup(_)) | None => {}
    }
}

fn take(secrets: &mut Secrets, git: &mut GitInitializer, path: &str) {
    log_in_by_config(git);
    let Some(config) = &mut git.config else { return };
    // A password that looks like a reference is a password too: a caller must not choose keys of a Secret.
    if !config.auth_password.is_empty() {
        take_out(secrets, &mut config.auth_password, path);
    }
}
