//! Paths of archives.

use super::super::error::{Error, Rule};
use super::super::walk::MAX_DEPTH;

const LONGEST_NAME: usize = 255;

/// The components of a path of an archive; none for the root.
pub(crate) fn components(path: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let refused = |rule| Error::refused(path, rule);
    if path.is_empty() || path.contains(&0) {
        return Err(refused(Rule::EmptyPath));
    }
    if path.starts_with(b"/") {
        return Err(refused(Rule::AbsolutePath));
    }
    let mut found = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(refused(Rule::ParentPath)),
            name if name.len() > LONGEST_NAME => return Err(refused(Rule::LongName)),
            name => found.push(name),
        }
    }
    if found.len() > MAX_DEPTH {
        return Err(refused(Rule::TooDeep));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart_or_refused() {
        let rule = |path: &[u8]| match components(path) {
            Err(Error::Refused { rule, .. }) => rule,
            other => panic!("{other:?}"),
        };
        assert_eq!(components(b"./a//b/.").unwrap(), [b"a", b"b"]);
        assert!(components(b"./").unwrap().is_empty());
        assert_eq!(rule(b""), Rule::EmptyPath);
        assert_eq!(rule(b"a\0b"), Rule::EmptyPath);
        assert_eq!(rule(b"/a"), Rule::AbsolutePath);
        assert_eq!(rule(b"a/../b"), Rule::ParentPath);
        assert_eq!(rule(&[b'a'; 256]), Rule::LongName);
        assert_eq!(rule(&b"a/".repeat(MAX_DEPTH + 1)), Rule::TooDeep);
        assert_eq!(components(b"..a/...").unwrap().len(), 2);
    }
}
