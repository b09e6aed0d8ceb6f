//! Extracts the secrets of an initializer other than passwords. Spaceport's node agent resolves the references; for an
//! existing agent, which resolves references in passwords alone, the fields are reported as clear text.

use std::collections::BTreeMap;

use domain::git::{Login, has_login, login};
use domain::hash;
use proto::contentservice::workspace_initializer::Spec;
use proto::contentservice::{GitConfig, GitInitializer, WorkspaceInitializer};

/// Replaces a secret: this, then the key in the Secret.
const REFERENCE: &str = "extracted-secret/";
/// Longest path that is used as a key; a Secret's key has at most 253 characters.
const LONGEST_KEY: usize = 200;

/// Secrets by the key that the reference names.
pub(super) type Secrets = BTreeMap<String, String>;

/// Moves a text into `secrets` and leaves a reference.
pub(super) fn take(secrets: &mut Secrets, text: &mut String, path: &str) {
    let key = key(path);
    let secret = std::mem::replace(text, format!("{REFERENCE}{key}"));
    secrets.insert(key, secret);
}

/// Key for a path in the initializer. A path below many composites is hashed.
fn key(path: &str) -> String {
    if path.len() <= LONGEST_KEY { path.to_owned() } else { format!("initializer.{}", hash::hex(path)) }
}

/// Turns user and password of the URL into basic authentication, unless the repository has authentication already.
pub(super) fn log_in_by_config(git: &mut GitInitializer) {
    let is_plain = git.config.as_ref().is_none_or(|config| config.authentication == 0);
    let Some(Login { user, password, url }) = login(&git.remote_uri).filter(|_| is_plain) else { return };
    git.remote_uri = url;
    let config = git.config.get_or_insert_with(GitConfig::default);
    config.authentication = proto::contentservice::GitAuthMethod::BasicAuth.into();
    (config.auth_user, config.auth_password) = (user, password);
    config.auth_ots.clear();
}

/// Extracts everything that may be secret; returns the fields that held it.
pub(super) fn take_rest(secrets: &mut Secrets, initializer: &mut WorkspaceInitializer) -> Vec<String> {
    let mut taken = Taken { secrets, fields: Vec::new() };
    taken.walk(initializer, "initializer");
    taken.fields
}

struct Taken<'a> {
    secrets: &'a mut Secrets,
    fields: Vec<String>,
}

impl Taken<'_> {
    fn walk(&mut self, initializer: &mut WorkspaceInitializer, path: &str) {
        match &mut initializer.spec {
            Some(Spec::Git(git)) => self.git(git, &format!("{path}.git")),
            Some(Spec::Prebuild(prebuild)) => {
                for (at, git) in prebuild.git.iter_mut().enumerate() {
                    self.git(git, &format!("{path}.prebuild.{at}.git"));
                }
            }
            Some(Spec::Composite(composite)) => {
                for (at, child) in composite.initializer.iter_mut().enumerate() {
                    self.walk(child, &format!("{path}.composite.{at}"));
                }
            }
            Some(Spec::Download(download)) => {
                for (at, file) in download.files.iter_mut().enumerate() {
                    if file.url.contains('?') || has_login(&file.url) {
                        self.take(&mut file.url, &format!("{path}.download.files.{at}.url"));
                    }
                }
            }
            Some(Spec::Empty(_) | Spec::Snapshot(_) | Spec::Backup(_)) | None => {}
        }
    }

    fn git(&mut self, git: &mut GitInitializer, path: &str) {
        for (url, name) in
            [(&mut git.remote_uri, "remote_uri"), (&mut git.upstream_remote_uri, "upstream_remote_uri")]
        {
            if has_login(url) {
                self.take(url, &format!("{path}.{name}"));
            }
        }
        let Some(config) = &mut git.config else { return };
        for (text, name) in [(&mut config.auth_user, "auth_user"), (&mut config.auth_ots, "auth_ots")] {
            if !text.is_empty() {
                self.take(text, &format!("{path}.config.{name}"));
            }
        }
        for (at, value) in config.custom_config.values_mut().enumerate() {
            if !value.is_empty() {
                self.take(value, &format!("{path}.config.custom_config.{at}"));
            }
        }
    }

    fn take(&mut self, text: &mut String, path: &str) {
        take(self.secrets, text, path);
        self.fields.push(format!("spec.{path}"));
    }
}
