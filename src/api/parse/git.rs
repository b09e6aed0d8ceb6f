//! Checks the git part of an initializer: nothing that git takes for an option or a program, and only logins that HTTP
//! can carry.

use super::{Problems, extract};
use domain::path;
use proto::contentservice::{CloneTargetMode, GitAuthMethod, GitConfig, GitInitializer};

/// Bytes of an address, a branch, the key of a setting, or a user or password.
const TEXT_MAX: usize = 8192;
/// Bytes of a setting's value: with its key it is one argument of git, and Linux allows 128 KiB.
const SETTING_MAX: usize = 64 * 1024;

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

fn check_length(text: &str) -> Result<(), &'static str> {
    if text.len() > TEXT_MAX { Err("must not be longer than 8192 bytes") } else { Ok(()) }
}

/// A user or password that HTTP can carry.
fn check_login(text: &str) -> Result<(), &'static str> {
    check_length(text)?;
    if text.contains(char::is_control) {
        return Err(
            "must not contain control characters, line breaks among them: HTTP has no place for them",
        );
    }
    Ok(())
}

/// The address of an HTTP download.
pub(super) fn check_web(address: &str) -> Result<(), &'static str> {
    check_length(address)?;
    let is_web = address.split_once("://").is_some_and(|(scheme, rest)| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        extract::is_http(scheme) && is_authority(authority)
    });
    let is_broken = address.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
    if is_web && !is_broken && url::Url::parse(address).is_ok() {
        Ok(())
    } else {
        Err("must be an address such as https://HOST/PATH or http://HOST/PATH, without spaces")
    }
}

/// An address that git does not take for an option or a remote helper.
fn check_remote(address: &str) -> Result<(), &'static str> {
    check_length(address)?;
    if address.starts_with('-') || address.contains(|c: char| c.is_control()) {
        return Err("must be the address of a repository, on one line and not beginning with a dash");
    }
    let helper =
        address.split_once("::").is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_alphanumeric()));
    if helper {
        return Err("must not name a remote helper of git such as ext::");
    }
    if extract::has_broken_login(address) {
        return Err(
            "must not hold a login with control characters, or a user with a colon: HTTP cannot carry them",
        );
    }
    if names_a_host(address) {
        Ok(())
    } else {
        Err(
            "must be https://HOST/PATH, ssh://HOST/PATH, git://HOST/PATH or USER@HOST:PATH, without spaces in the host",
        )
    }
}

/// Whether an address names another machine in a form that git accepts. Paths and `file:` would name the node itself.
fn names_a_host(address: &str) -> bool {
    const WEB: [&str; 5] = ["http", "https", "ftp", "ftps", "git"];
    const SSH: [&str; 3] = ["ssh", "git+ssh", "ssh+git"];
    let Some((scheme, rest)) = address.split_once("://") else {
        return address
            .split_once(':')
            .is_some_and(|(authority, path)| is_authority(authority) && !path.is_empty());
    };
    let is = |known: &&str| scheme.eq_ignore_ascii_case(known);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !is_authority(authority) || url::Url::parse(address).is_err() {
        return false;
    }
    let is_git = scheme.eq_ignore_ascii_case("git");
    let is_broken = address.contains(|c: char| c.is_whitespace() || c == '\\') || (is_git && path.is_empty());
    SSH.iter().any(is) || (WEB.iter().any(is) && !is_broken)
}

/// A host, optionally with user and port, that ssh does not take for an option.
fn is_authority(text: &str) -> bool {
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    let is_odd = text.starts_with('-') || text.contains(|c: char| c.is_whitespace() || c == '/');
    !is_odd && !host.is_empty() && !host.starts_with(['-', ':'])
}

/// A branch or commit, by the rules of git for reference names.
fn check_revision(name: &str) -> Result<(), &'static str> {
    let never = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    let odd = |part: &str| part.is_empty() || part.starts_with('.') || part.strip_suffix(".lock").is_some();
    let is_odd = name.ends_with('.') || name.contains("@{") || name == "@" || name.split('/').any(odd);
    if name.len() > TEXT_MAX || name.starts_with('-') || name.contains(never) || name.contains("..") || is_odd
    {
        return Err("must be the name of a branch or a commit, as git accepts it");
    }
    Ok(())
}

/// `section.key` or `section.subsection.key`.
fn check_setting(key: &str) -> Result<(), &'static str> {
    const RULE: &str = "must have keys such as user.name or http.https://example.com/.proxy";
    let (Some((section, _)), Some((_, name))) = (key.split_once('.'), key.rsplit_once('.')) else {
        return Err(RULE);
    };
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let begins = |name: &str| name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let good = key.len() <= TEXT_MAX
        && begins(section)
        && section.bytes().all(inner)
        && begins(name)
        && name.bytes().all(inner)
        && !key.contains(char::is_control);
    if good { Ok(()) } else { Err(RULE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_is_given_nothing_that_it_takes_for_an_option_or_a_program() {
        for address in [
            "https://bitbucket.example.com/scm/~jane/repo.git",
            "git@github.com:a/b.git",
            "ssh://git@[::1]:22/a b",
            "http://127.0.0.1:8080/a.git",
            "https://jane:a%20b@example.org/a.git",
            "git://example.org/a.git",
            "HTTPS://example.org",
            "example.org:a/b.git",
        ] {
            assert_eq!(check_remote(address), Ok(()), "{address}");
        }
        for address in [
            "--upload-pack=x",
            "ext::sh -c x",
            "a\nb",
            "not a url",
            "https://",
            "https:///a",
            "https://:443/a",
            "https://h:99999/x",
            "http://[::1",
            "https://h/x y",
            "https://h\\x",
            "git://h",
            "https://host with space/a",
            "https://u:p@exa mple.com/a",
            "ftp://foo bar",
            "ssh://-oProxyCommand=x/a",
            "git@-oProxyCommand=x:a",
            "-oProxyCommand=x:a",
            "file:///etc/passwd",
            "/srv/a.git",
            "../a:b",
            "a/b:c",
            "example.org:",
        ] {
            assert!(check_remote(address).is_err(), "{address}");
        }
        for name in ["main", "feature/a-b_c.d", "0123abc", "v1.0+2", "refs/pull/1/head", "ü"] {
            assert_eq!(check_revision(name), Ok(()), "{name}");
        }
        for name in
            ["-b", "a b", "a..b", "a~1", "a:b", "a\0", "x.lock", "a/.b", "a//b", "/a", "a/", "a.", "a@{1}"]
        {
            assert!(check_revision(name).is_err(), "{name}");
        }
        for key in ["user.name", "http.https://example.com/.proxy", "core.autoCRLF", "credential.a b.helper"]
        {
            assert_eq!(check_setting(key), Ok(()), "{key}");
        }
        for key in ["", "user", ".a", "a.", "user.1", "a\nb.c", "user.na me"] {
            assert!(check_setting(key).is_err(), "{key}");
        }
    }
}
