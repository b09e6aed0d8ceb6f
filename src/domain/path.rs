//! Paths of a workspace's content: all below `/workspace`.

/// Where content is.
const ROOT: &str = "/workspace";
/// Linux: a path with its end has 4096 bytes; what the content's folder takes on a node is left out.
const PATH_MAX: usize = 3072;
/// Linux: a name in a path.
const NAME_MAX: usize = 255;

/// Checks a folder below `/workspace`, relative to it or with it; empty, `/` and `.` are `/workspace` itself.
///
/// Two dots are refused everywhere: what they lead to depends on symbolic links in the content.
pub fn check_folder(path: &str) -> Result<(), &'static str> {
    let inner = inner(path);
    if inner.starts_with('/') && !inner.trim_matches('/').is_empty() {
        return Err("must be relative to /workspace, or begin with /workspace/");
    }
    check_parts(inner.trim_matches('/'))
}

/// A path without `/workspace` before it; one elsewhere stays as it is.
fn inner(path: &str) -> &str {
    match path.strip_prefix(ROOT) {
        Some(inner) if inner.is_empty() || inner.starts_with('/') => inner.trim_start_matches('/'),
        _ => path,
    }
}

/// The names that lead from `/workspace` to a folder that [`check_folder`] accepts, each with a slash after it.
pub fn below_root(folder: &str) -> String {
    names(inner(folder))
}

/// The names of a relative path, each with a slash after it.
pub fn names(path: &str) -> String {
    path.split('/').filter(|name| !matches!(*name, "" | ".")).flat_map(|name| [name, "/"]).collect()
}

/// Checks a file below a folder that is checked on its own.
pub fn check_file(path: &str) -> Result<(), &'static str> {
    if path.starts_with('/') {
        return Err("must be relative to the target location");
    }
    if matches!(path.rsplit('/').next(), None | Some("" | ".")) {
        return Err("must name a file");
    }
    check_parts(path)
}

/// The same, and that it is not too long with its folder.
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
