//! Rules of single text fields.

use std::fmt::Display;

use super::Problems;
use domain::{env, image};
use proto::wsman;

/// Characters of a name or address in commits.
const IDENTITY_MAX: usize = 1024;

impl Problems {
    /// Records a problem if the rule is broken.
    pub(super) fn check(&mut self, field: impl Display, outcome: Result<(), &'static str>) {
        if let Err(rule) = outcome {
            self.add(field, rule);
        }
    }

    /// An image reference that may be absent.
    pub(super) fn image(&mut self, field: impl Display, reference: &str) {
        if !reference.is_empty() {
            self.check(field, image::check_reference(reference));
        }
    }

    /// A text of one line.
    pub(super) fn line(&mut self, field: impl Display, text: &str) {
        if text.chars().any(char::is_control) {
            self.add(field, "must be one line without control characters");
        } else if text.len() > IDENTITY_MAX {
            self.add(field, "must not be longer than 1024 bytes");
        }
    }
}

/// Public keys as `authorized_keys` has them: one line each.
pub(super) fn ssh_keys(problems: &mut Problems, field: &str, keys: &[String]) {
    for (at, key) in keys.iter().enumerate() {
        if key.trim().is_empty() || key.chars().any(|c| c.is_control() && c != '\t') {
            problems.add(format!("{field}[{at}]"), "must be a public key on one line");
        }
    }
}

/// Names of variables, and the Secrets and keys that they refer to. A variable without a name is dropped and not
/// checked.
pub(super) fn variables(problems: &mut Problems, field: &str, variables: &[wsman::EnvironmentVariable]) {
    for (at, variable) in variables.iter().enumerate().filter(|(_, variable)| !variable.name.is_empty()) {
        problems.check(format!("{field}[{at}].name"), env::check_name(&variable.name));
        if let Some(secret) = &variable.secret {
            let field = format!("{field}[{at}].secret");
            problems.parse::<domain::names::SecretName>(&format!("{field}.secret_name"), &secret.secret_name);
            problems.parse::<domain::names::SecretKey>(&format!("{field}.key"), &secret.key);
        }
    }
}
