//! Environment variables of a container: names that Kubernetes accepts, and values that reach the process as written.

/// Error of [`check_name`].
const NAME: &str = "must be letters, digits, dashes, underscores or dots, not begin with a digit, and not be or begin with \
                    two dots";

/// Checks a name by the rule of Kubernetes 1.30, for clusters of any version: later releases accept more.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let first = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if first && name.bytes().all(inner) && name != "." && !name.starts_with("..") {
        Ok(())
    } else {
        Err(NAME)
    }
}

/// Escapes `value` so that the process sees it as it is: Kubernetes expands `$(NAME)` and `$$`.
pub fn literal(value: &str) -> String {
    value.replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How Kubernetes expands a value where `defined` are the variables before it: `$$` is one `$`, `$(NAME)` is the
    /// variable's value, or itself if there is no such variable. Everything else is itself.
    fn expanded(value: &str, defined: &[(&str, &str)]) -> String {
        let (mut result, mut rest) = (String::new(), value);
        while let Some(at) = rest.find('$') {
            result.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(next) = after.strip_prefix('$') {
                result.push('$');
                rest = next;
            } else if let Some((name, next)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')'))
            {
                let known = defined.iter().find(|(known, _)| *known == name);
                result
                    .push_str(&known.map_or_else(|| format!("$({name})"), |(_, value)| (*value).to_owned()));
                rest = next;
            } else {
                result.push('$');
                rest = after;
            }
        }
        result + rest
    }

    #[test]
    fn names_are_those_that_a_pod_of_kubernetes_1_30_can_have() {
        for good in ["A", "_", "-", "a.b", "PATH", "my-var", ".a", "a..b", "x1", &"A".repeat(300)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "1A", "A=B", "É", "A B", "A\n", "A\0", ".", "..", "..a", "A/B", "$(A)"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn references_in_values_are_escaped() {
        assert_eq!(expanded("$(HOME)", &[("HOME", "/root")]), "/root", "as Kubernetes does it");
        assert_eq!(expanded(&literal("$(HOME) costs $$5"), &[("HOME", "/root")]), "$(HOME) costs $$5");
    }

    proptest! {
        #[test]
        fn every_value_reaches_the_process_as_written(value in "[$()A-C x]{0,20}|\\PC{0,20}") {
            prop_assert_eq!(expanded(&literal(&value), &[("A", "1"), ("B", "$(A)")]), value);
        }
    }
}
