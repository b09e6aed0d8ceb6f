//! Image references as container runtimes accept them: `[domain[:port]/]path[:tag][@algorithm:hex]`.

/// Bytes of domain and path together, after runtimes filled in defaults.
const NAME_MAX: usize = 255;
/// Prefix that runtimes add to a reference without a domain.
const DEFAULT_PREFIX: usize = "docker.io/library/".len();

/// Checks a reference.
pub fn check_reference(reference: &str) -> Result<(), &'static str> {
    if reference.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err("must be an image reference without spaces, line breaks or letters beyond ASCII");
    }
    if reference.contains("://") {
        return Err("must be an image reference without a scheme such as https://");
    }
    let (name, digest) =
        reference.split_once('@').map_or((reference, None), |(name, digest)| (name, Some(digest)));
    if let Some(digest) = digest {
        check_digest(digest)?;
    }
    let (domain, rest) = split_domain(name);
    let (path, tag) = rest.split_once(':').map_or((rest, None), |(path, tag)| (path, Some(tag)));
    if domain.is_some_and(|domain| !is_domain(domain)) {
        return Err(
            "must name its registry as a host name or address, with a port from 1 to 65535 where it has one",
        );
    }
    if !path.split('/').all(is_component) {
        return Err(
            "must have a repository of lower-case letters and digits, separated by `/`, `.`, `_`, `__` or dashes",
        );
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("must have a tag of 1 to 128 letters, digits, underscores, dots or dashes");
    }
    if domain.map_or(DEFAULT_PREFIX, |domain| domain.len() + 1) + path.len() > NAME_MAX {
        return Err("must have a name of at most 255 characters with its registry");
    }
    // Runtimes treat such a name as the id of an image.
    if domain.is_none() && path.len() == 64 && is_hex(path) {
        return Err("must not be 64 hexadecimal digits: name a repository");
    }
    Ok(())
}

/// Checks a digest: a known algorithm, a colon, and as many lower-case hexadecimal digits as it has.
pub fn check_digest(digest: &str) -> Result<(), &'static str> {
    let digits = match digest.split_once(':') {
        Some(("sha256", hex)) => (hex, 64),
        Some(("sha384", hex)) => (hex, 96),
        Some(("sha512", hex)) => (hex, 128),
        _ => return Err("must have a digest of sha256, sha384 or sha512, such as sha256:… with 64 digits"),
    };
    if digits.0.len() == digits.1 && is_hex(digits.0) {
        Ok(())
    } else {
        Err("must have a digest of lower-case hexadecimal digits, as many as its algorithm has")
    }
}

/// Checks a registry that images are pulled from, as `host` or `host:port`. Runtimes would treat one without a dot or port as
/// a path in the default registry.
pub fn check_registry(registry: &str) -> Result<(), &'static str> {
    if split_domain(&format!("{registry}/x")).0 == Some(registry) && is_domain(registry) {
        Ok(())
    } else {
        Err("must be a registry such as registry.example.com or registry.example.com:20000")
    }
}

/// The domain as runtimes see it: the part before the first slash, if it looks like a domain.
fn split_domain(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                return rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
            }
            _ => return false,
        },
        None => domain.split_once(':').map_or((domain, None), |(host, port)| (host, Some(port))),
    };
    let label = |label: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        label.len() <= 63
            && edge(label.bytes().next())
            && edge(label.bytes().next_back())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.len() <= 253 && host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Runs of lower-case letters and digits, with `.`, `_`, `__` or any number of dashes between them.
fn is_component(component: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut separators = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let edge = |byte: Option<u8>| byte.is_some_and(alphanumeric);
    edge(component.bytes().next())
        && edge(component.bytes().next_back())
        && separators.all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_those_that_runtimes_pull() {
        let digest = format!("@sha256:{}", "0a".repeat(32));
        for good in [
            "image".to_owned(),
            "image:1".to_owned(),
            "library/image:latest".to_owned(),
            "eu.gcr.io/team-1/a_b/c__d/e---f/g.h:V1.2-x_y".to_owned(),
            "localhost/x".to_owned(),
            "localhost:5000/x:1".to_owned(),
            "10.0.0.1:5000/x".to_owned(),
            "[::1]:5000/x:1".to_owned(),
            "[fd00::1]/x".to_owned(),
            "Registry.Example.com/x".to_owned(),
            format!("image:1{digest}"),
            format!("registry.example.com:443/image{digest}"),
            format!("x@sha512:{}", "f".repeat(128)),
            "x".repeat(237),
        ] {
            assert_eq!(check_reference(&good), Ok(()), "{good}");
        }
    }

    #[test]
    fn references_that_no_runtime_pulls_are_refused() {
        for bad in [
            String::new(),
            " image".to_owned(),
            "image\n".to_owned(),
            "im age".to_owned(),
            "imäge".to_owned(),
            "https://registry.example.com/x".to_owned(),
            "docker://x".to_owned(),
            "Image".to_owned(),
            "registry.example.com/Upper".to_owned(),
            "registry.example.com/".to_owned(),
            "/x".to_owned(),
            "a//b".to_owned(),
            "a/".to_owned(),
            "-a".to_owned(),
            "a-".to_owned(),
            "a___b".to_owned(),
            "a..b".to_owned(),
            "a:".to_owned(),
            "a:-1".to_owned(),
            format!("a:{}", "1".repeat(129)),
            "a:1:2".to_owned(),
            "registry.example.com:0/x".to_owned(),
            "registry.example.com:65536/x".to_owned(),
            "registry.example.com:+1/x".to_owned(),
            "[::1/x".to_owned(),
            "[zz]/x".to_owned(),
            "a@".to_owned(),
            "a@sha256:".to_owned(),
            format!("a@sha256:{}", "0".repeat(63)),
            format!("a@sha256:{}", "A".repeat(64)),
            format!("a@md5:{}", "0".repeat(32)),
            format!("a@sha256:{0}@sha256:{0}", "0".repeat(64)),
            "0a".repeat(32),
            "x".repeat(238),
            format!("registry.example.com/{}", "x".repeat(5000)),
        ] {
            assert!(check_reference(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_registry_is_a_host_that_runtimes_tell_from_a_folder() {
        for good in
            ["reg.example.com", "reg.example.com:20000", "reg:20000", "localhost", "10.0.0.1", "[::1]:1"]
        {
            assert_eq!(check_registry(good), Ok(()), "{good}");
        }
        for bad in
            ["", "reg", "https://reg.example.com", "reg.example.com/x", "reg.example.com:", "a b.example"]
        {
            assert!(check_registry(bad).is_err(), "{bad}");
        }
    }
}
