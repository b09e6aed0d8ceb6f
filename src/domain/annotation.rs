//! Keys of annotations and labels as Kubernetes accepts them.

/// An optional DNS name and a slash, then 1 to 63 letters, digits, dots, dashes or underscores. Kubernetes compares keys of
/// annotations in lower case, so upper case is accepted before the slash, too.
pub fn is_annotation_key(key: &str) -> bool {
    is_qualified_name(&key.to_ascii_lowercase())
}

/// Whether Kubernetes accepts the text as the key of a label.
pub fn is_qualified_name(key: &str) -> bool {
    match key.split_once('/') {
        None => is_name(key),
        Some((prefix, name)) => super::names::is_dns_subdomain(prefix) && is_name(name),
    }
}

fn is_name(name: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.len() <= 63 && edge(name.bytes().next()) && edge(name.bytes().next_back()) && name.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_annotations_are_those_that_an_apiserver_accepts() {
        let long = |length: usize| "x".repeat(length);
        for good in [
            "a".to_owned(),
            "A_b.c-9".to_owned(),
            "Example.ORG/Key_1".to_owned(),
            long(63),
            format!("{}/x", long(253)),
        ] {
            assert!(is_annotation_key(&good), "{good}");
        }
        for bad in [
            String::new(),
            "/".to_owned(),
            "a/".to_owned(),
            "/a".to_owned(),
            "a/b/c".to_owned(),
            "a b".to_owned(),
            "-a".to_owned(),
            "a.".to_owned(),
            "ä".to_owned(),
            "a_b/c".to_owned(),
            "a..b/c".to_owned(),
            long(64),
            format!("{}/x", long(254)),
        ] {
            assert!(!is_annotation_key(&bad), "{bad:?}");
        }
        assert!(!is_qualified_name("Example.org/a"), "labels have no upper case before the slash");
    }
}
