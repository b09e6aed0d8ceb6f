//! Takes passwords out of an initializer, so that the resource holds only references to them.

use std::collections::BTreeMap;

use prost::Message;

use super::Problems;
use crate::proto::contentservice::workspace_initializer::Spec;
use crate::proto::contentservice::{GitInitializer, WorkspaceInitializer};

/// What a password is replaced with: this and the key of the secret.
const REFERENCE: &str = "extracted-secret/";

/// The serialised initializer and the passwords taken out of it, by the key that the reference names.
pub(super) fn extract(
    problems: &mut Problems,
    initializer: Option<WorkspaceInitializer>,
) -> Option<(Vec<u8>, BTreeMap<String, String>)> {
    let Some(mut initializer) = initializer else {
        problems.add("spec.initializer", "is required");
        return None;
    };
    let mut secrets = BTreeMap::new();
    walk(problems, &mut secrets, &mut initializer, "initializer");
    Some((initializer.encode_to_vec(), secrets))
}

fn walk(
    problems: &mut Problems,
    secrets: &mut BTreeMap<String, String>,
    initializer: &mut WorkspaceInitializer,
    path: &str,
) {
    match &mut initializer.spec {
        None => problems.add(format!("spec.{path}"), "must say what to initialise from"),
        Some(Spec::Git(git)) => take(problems, secrets, git, &format!("{path}.git")),
        Some(Spec::Prebuild(prebuild)) => {
            for (at, git) in prebuild.git.iter_mut().enumerate() {
                take(problems, secrets, git, &format!("{path}.prebuild.{at}.git"));
            }
        }
        Some(Spec::Composite(composite)) => {
            for (at, child) in composite.initializer.iter_mut().enumerate() {
                walk(problems, secrets, child, &format!("{path}.composite.{at}"));
            }
        }
        Some(Spec::Empty(_) | Spec::Snapshot(_) | Spec::Download(_) | Spec::Backup(_)) => {}
    }
}

fn take(
    problems: &mut Problems,
    secrets: &mut BTreeMap<String, String>,
    git: &mut GitInitializer,
    path: &str,
) {
    if git.remote_uri.is_empty() {
        problems.add(format!("spec.{path}.remote_uri"), "is required");
    }
    let Some(config) = &mut git.config else { return };
    if !config.auth_password.is_empty() && !config.auth_password.starts_with(REFERENCE) {
        let password = std::mem::replace(&mut config.auth_password, format!("{REFERENCE}{path}"));
        secrets.insert(path.to_owned(), password);
    }
}
