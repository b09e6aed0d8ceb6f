//! Checks the git part of an initializer: nothing that git takes for an option or a program, and only logins that HTTP
//! can carry.

use super::Problems;
use domain::git::{
    SETTING_MAX, check_length, check_login, check_remote, check_revision, check_setting, check_web,
};
use domain::path;
use proto::contentservice::{CloneTargetMode, GitAuthMethod, GitConfig, GitInitializer};

/// Checks a repository and its clone options.
pub(super) fn check(problems: &mut Problems, field: &str, git: &GitInitializer) {
    if git.remote_uri.is_empty() {
        problems.add(format!("{field}.remote_uri"), "is required");
    }
    for (name, address) in
        [("remote_uri", &git.remote_uri), ("upstream_Remote_uri", &git.upstream_remote_uri)]
    {
        if !address.is_empty() {
            problems.check(format!("{field}.{name}"), check_remote(address));
        }
    }
    problems.check(format!("{field}.checkout_location"), path::check_folder(&git.checkout_location));
    let target = format!("{field}.clone_taget");
    match CloneTargetMode::try_from(git.target_mode) {
        Ok(CloneTargetMode::RemoteHead) => {}
        Ok(_) if git.clone_taget.is_empty() => problems.add(&*target, "is required by the target mode"),
        Ok(_) => {}
        Err(_) => problems.add(format!("{field}.target_mode"), "is not a known mode"),
    }
    if !git.clone_taget.is_empty() {
        problems.check(target, check_revision(&git.clone_taget));
    }
    if let Some(config) = &git.config {
        self::config(problems, &format!("{field}.config"), config);
    }
}

fn config(problems: &mut Problems, field: &str, config: &GitConfig) {
    let method = GitAuthMethod::try_from(config.authentication);
    if method.is_err() {
        problems.add(format!("{field}.authentication"), "is not a known method");
    }
    for (name, text) in [("auth_user", &config.auth_user), ("auth_password", &config.auth_password)] {
        problems.check(format!("{field}.{name}"), check_login(text));
    }
    if method == Ok(GitAuthMethod::BasicAuth) && config.auth_user.contains(':') {
        problems.add(format!("{field}.auth_user"), "must not contain a colon, which ends the user in HTTP");
    }
    let check_ots = if method == Ok(GitAuthMethod::BasicAuthOts) { check_web } else { check_length };
    problems.check(format!("{field}.auth_ots"), check_ots(&config.auth_ots));
    for (key, value) in &config.custom_config {
        problems.check(format!("{field}.custom_config"), check_setting(key));
        if value.len() > SETTING_MAX {
            problems.add(format!("{field}.custom_config"), "must have values of at most 65536 bytes");
        }
    }
}
