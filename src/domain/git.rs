//! What may be given to git: addresses, branches, commits, settings and logins of an initializer. Nothing here is taken by git
//! for an option or a program, and a login is one that HTTP can carry.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Bytes of an address, a branch, the key of a setting, or a user or password.
pub const TEXT_MAX: usize = 8192;
/// Bytes of a setting's value: with its key it is one argument of git, and Linux allows 128 KiB.
pub const SETTING_MAX: usize = 64 * 1024;

/// At most [`TEXT_MAX`] bytes.
pub fn check_length(text: &str) -> Result<(), &'static str> {
    if text.len() > TEXT_MAX { Err("must not be longer than 8192 bytes") } else { Ok(()) }
}

/// A user or password that HTTP can carry.
pub fn check_login(text: &str) -> Result<(), &'static str> {
    check_length(text)?;
    if text.contains(char::is_control) {
        return Err(
            "must not contain control characters, line breaks among them: HTTP has no place for them",
        );
    }
    Ok(())
}

/// The address of an HTTP download.
pub fn check_web(address: &str) -> Result<(), &'static str> {
    check_length(address)?;
    let is_web = address.split_once("://").is_some_and(|(scheme, rest)| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        is_http(scheme) && is_authority(authority)
    });
    let is_broken = address.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
    if is_web && !is_broken && url::Url::parse(address).is_ok() {
        Ok(())
    } else {
        Err("must be an address such as https://HOST/PATH or http://HOST/PATH, without spaces")
    }
}

/// An address that git does not take for an option or a remote helper.
pub fn check_remote(address: &str) -> Result<(), &'static str> {
    check_length(address)?;
    if address.starts_with('-') || address.contains(|c: char| c.is_control()) {
        return Err("must be the address of a repository, on one line and not beginning with a dash");
    }
    let helper =
        address.split_once("::").is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_alphanumeric()));
    if helper {
        return Err("must not name a remote helper of git such as ext::");
    }
    if has_broken_login(address) {
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
pub fn check_revision(name: &str) -> Result<(), &'static str> {
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
pub fn check_setting(key: &str) -> Result<(), &'static str> {
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

/// User and password of an HTTP URL, and the URL without them.
pub struct Login {
    /// Without a colon, unless the URL is broken.
    pub user: String,
    /// Empty if there is none.
    pub password: String,
    /// The URL without them.
    pub url: String,
}

/// Splits off the user and password of a URL; `None` if it has none.
fn user_info(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (info, _) = rest.get(..end)?.rsplit_once('@')?;
    Some((scheme, info, rest.get(info.len() + 1..)?))
}

/// Whether a scheme is HTTP, with TLS or without.
pub fn is_http(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

/// Whether a URL holds a secret: in HTTP the user alone may be one, elsewhere only a password.
pub fn has_login(url: &str) -> bool {
    user_info(url)
        .is_some_and(|(scheme, info, _)| !info.is_empty() && (is_http(scheme) || info.contains(':')))
}

/// Splits the login off an HTTP URL; `None` if it has none.
pub fn login(url: &str) -> Option<Login> {
    let (scheme, info, rest) = user_info(url).filter(|(scheme, _, _)| is_http(scheme))?;
    let (user, password) = info.split_once(':').unwrap_or((info, ""));
    Some(Login { user: decoded(user), password: decoded(password), url: format!("{scheme}://{rest}") })
}

/// Whether an HTTP URL holds a login that HTTP cannot carry: control characters, or a colon in the user.
pub fn has_broken_login(url: &str) -> bool {
    let has_control = |text: &str| text.contains(char::is_control);
    login(url).is_some_and(|Login { user, password, .. }| {
        has_control(&user) || has_control(&password) || user.contains(':')
    })
}

/// Percent-decodes, as git does; invalid encoding stays as it is.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().map_or_else(|_| text.to_owned(), Cow::into_owned)
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
