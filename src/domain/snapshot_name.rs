//! Names of snapshots, `OBJECT@BUCKET`: returned by `TakeSnapshot`, and in the field `snapshot` of a status.

/// Bytes of an object's name in the stores.
const OBJECT_MAX: usize = 1024;
/// Bytes of a bucket's name in the stores.
const BUCKET_MAX: usize = 255;

/// Checks a name. The object is a path in the store, with a scheme if the node agent gives one. It must not have credentials,
/// which would be in clear text in the resource.
pub fn check(name: &str) -> Result<(), &'static str> {
    if name.len() > OBJECT_MAX + 1 + BUCKET_MAX {
        return Err("must not be longer than 1280 bytes");
    }
    let mut parts = name.split('@');
    let (Some(object), Some(bucket), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err("must be OBJECT@BUCKET, as TakeSnapshot answers it");
    };
    let path = match object.split_once("://") {
        Some((scheme, path)) if is_scheme(scheme) => path,
        Some(_) => return Err("must have a scheme of letters and digits where it has one"),
        None => object,
    };
    let is_object = path.len() <= OBJECT_MAX && path.bytes().all(is_inner) && path.split('/').all(is_name);
    if !is_object {
        return Err(
            "must have an object of at most 1024 letters, digits, dots, dashes, underscores and single slashes, without \
             `..`, a user or a password",
        );
    }
    if (3..=BUCKET_MAX).contains(&bucket.len()) && bucket.bytes().all(is_of_bucket) && is_name(bucket) {
        Ok(())
    } else {
        Err("must have a bucket of 3 to 255 letters, digits, dots, dashes and underscores after the @")
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn is_inner(byte: u8) -> bool {
    is_of_bucket(byte) || matches!(byte, b'/' | b'+' | b'=' | b'~')
}

fn is_of_bucket(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

fn is_name(part: &str) -> bool {
    !matches!(part, "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_node_agents_give_are_accepted() {
        for name in [
            "workspaces/ws-1/snapshot-1732873453123456789.tar@gitpod-prod-user-4f3b",
            "jane/workspaces/ws-1/snapshot-1.tar.zst@content",
            "workspaces/ws/instances/i/full.tar@gitpod-user-Jane.Doe_1",
            "e2e://content/ws-1732873453123456789@backup.tar",
            "s@abc",
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let longest = format!("{}@{}", "o".repeat(1024), "b".repeat(255));
        assert_eq!(check(&longest), Ok(()));
    }

    #[test]
    fn paths_out_of_the_bucket_credentials_and_other_texts_are_rejected() {
        let long = format!("{}@bucket", "o".repeat(1025));
        let bucket = format!("o@{}", "b".repeat(256));
        for name in [
            "",
            "@",
            "a",
            "a@",
            "@bucket",
            "a@bu",
            "../x@bucket",
            "a/../b@bucket",
            "./a@bucket",
            "/a@bucket",
            "a//b@bucket",
            "a/@bucket",
            "a b@bucket",
            "a@buc ket",
            "a\n@bucket",
            "a\u{1b}@bucket",
            "ü@bucket",
            "a@b@bucket",
            "a@..",
            "a@...\\",
            "a@bucket/b",
            "https://user:password@host/a",
            "https://user:password@bucket",
            "https://token@host/a",
            "https://u:p@h/a@bucket",
            "user:password@bucket",
            "1x://a@bucket",
            "https:///a@bucket",
            "a?X-Sig=s@bucket",
            "a%2e%2e@bucket",
            &long,
            &bucket,
        ] {
            assert!(check(name).is_err(), "{name}");
        }
    }
}
