//! Paths of a workspace's content, all below `/workspace`.

/// Folder of the content in the container.
const ROOT: &str = "/workspace";
/// Bytes of a path: the limit of Linux is 4096 with the NUL, minus a reserve for the content's folder on the node.
const PATH_MAX: usize = 3072;
/// Bytes of a name in a path, by Linux.
const NAME_MAX: usize = 255;

/// Checks a folder below `/workspace`, relative to it or with it; empty, `/` and `.` are `/workspace` itself.
///
/// `..` is rejected everywhere: its target depends on symbolic links in the content.
pub fn check_folder(path: &str) -> Result<(), &'static str> {
    let inner = inner(path);
    if inner.starts_with('/') && !inner.trim_matches('/').is_empty() {
        return Err("must be relative to /workspace, or begin with /workspace/");
    }
    check_parts(inner.trim_matches('/'))
}

/// Strips `/workspace` from a path that begins with it.
fn inner(path: &str) -> &str {
    match path.strip_prefix(ROOT) {
        Some(inner) if inner.is_empty() || inner.starts_with('/') => inner.trim_start_matches('/'),
        _ => path,
    }
}

/// Path from `/workspace` to a folder that [`check_folder`] accepts, each name followed by a slash.
pub fn below_root(folder: &str) -> String {
    names(inner(folder))
}

/// Normalizes a relative path: each name followed by a slash.
pub fn names(path: &str) -> String {
    path.split('/').filter(|name| !matches!(*name, "" | ".")).flat_map(|name| [name, "/"]).collect()
}

/// Checks a file below a folder, which is checked separately.
pub fn check_file(path: &str) -> Result<(), &'static str> {
    if path.starts_with('/') {
        return Err("must be relative to the target location");
    }
    if matches!(path.rsplit('/').next(), None | Some("" | ".")) {
        return Err("must name a file");
    }
    check_parts(path)
}

/// Also checks that the path is not too long together with its folder.
pub fn check_file_in(folder: &str, path: &str) -> Result<(), &'static str> {
    check_file(path)?;
    if folder.len() + path.len() > PATH_MAX {
        return Err("must not be longer than 3072 bytes together with the target location");
    }
    Ok(())
}

fn check_parts(path: &str) -> Result<(), &'static str> {
    if path.len() > PATH_MAX {
        return Err("must not be longer than 3072 bytes");
    }
    for part in path.split('/') {
        if part == ".." {
            return Err("must not contain `..`");
        }
        if part.len() > NAME_MAX {
            return Err("must have names of at most 255 bytes");
        }
        if part.chars().any(char::is_control) {
            return Err("must not contain control characters");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_stay_below_the_workspace() {
        for good in
            ["", "/", ".", "a", "a/b/", "/workspace", "/workspace/", "/workspace/a b/ü", "..a", "a..", "./a"]
        {
            assert_eq!(check_folder(good), Ok(()), "{good}");
        }
        let long = "x".repeat(256);
        let deep = "x/".repeat(2000);
        for bad in [
            "..",
            "../a",
            "a/../b",
            "/..",
            "/workspace/..",
            "/workspace/../etc",
            "/etc",
            "/workspaces",
            "a\nb",
            "a\0",
            &long,
            &deep,
        ] {
            assert!(check_folder(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_is_named_below_its_folder() {
        for good in ["a", "a/b.tar", "..a"] {
            assert_eq!(check_file(good), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a/", ".", "a/.", "../a", "a/..", ".."] {
            assert!(check_file(bad).is_err(), "{bad}");
        }
        let deep = "x/".repeat(1_200);
        assert_eq!(check_folder(&deep), Ok(()));
        assert_eq!(check_file_in(&deep, "a"), Ok(()));
        assert!(check_file_in(&deep, &format!("{deep}a")).is_err(), "the kernel takes no such path");
    }

    #[test]
    fn one_place_has_one_path() {
        for folder in ["", "/", ".", "/workspace", "/workspace/", "./"] {
            assert_eq!(below_root(folder), "", "{folder}");
        }
        for folder in ["a/b", "/workspace/a/b", "./a//b/", "/workspace//a/./b"] {
            assert_eq!(below_root(folder), "a/b/", "{folder}");
        }
        assert_eq!(below_root("workspace/a"), "workspace/a/");
    }
}
