//! What is left out of an archive: patterns of the workspace class and of a file in the workspace, as git reads them.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::error::Error;

/// Name of the file in the root of a workspace.
pub const IGNORE_FILE: &str = ".spaceportignore";
/// Longest file that is read; a longer one is cut at a line.
const LONGEST_FILE: usize = 64 << 10;
/// Most patterns of a workspace; further ones are ignored.
const MOST_PATTERNS: usize = 1000;

/// Patterns in the order in which they apply: those of the class, then those of the workspace. The last one that
/// matches decides, so a workspace can keep with `!` what its class leaves out.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    patterns: Vec<String>,
    invalid: Vec<String>,
    matcher: Option<Gitignore>,
}

impl Excludes {
    /// Leaves nothing out.
    pub fn none() -> Self {
        Self::default()
    }

    /// Patterns of a class, then lines of a workspace, then those that nobody can undo. An invalid pattern of the class is
    /// an error, one of the workspace is left away and listed in [`Excludes::invalid`]: a typing error must not cost a
    /// backup.
    pub fn new(class: &[String], workspace: &str, always: &[&str]) -> Result<Self, Error> {
        let mut builder = GitignoreBuilder::new("");
        let mut excludes = Excludes::default();
        for pattern in class {
            builder.add_line(None, pattern).map_err(|error| pattern_error(pattern, &error))?;
            excludes.patterns.push(pattern.clone());
        }
        let lines = workspace.lines().map(|line| line.trim_end_matches('\r'));
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')).take(MOST_PATTERNS) {
            match builder.add_line(None, line) {
                Ok(_) => excludes.patterns.push(line.to_owned()),
                Err(_) => excludes.invalid.push(line.to_owned()),
            }
        }
        for pattern in always {
            builder.add_line(None, pattern).map_err(|error| pattern_error(pattern, &error))?;
            excludes.patterns.push((*pattern).to_owned());
        }
        if !excludes.patterns.is_empty() {
            let all = excludes.patterns.join(", ");
            excludes.matcher = Some(builder.build().map_err(|error| pattern_error(&all, &error))?);
        }
        Ok(excludes)
    }

    /// As [`Excludes::new`], with the lines in [`IGNORE_FILE`] of a workspace if it has one.
    pub fn load(class: &[String], root: BorrowedFd<'_>, always: &[&str]) -> Result<Self, Error> {
        Self::new(class, &String::from_utf8_lossy(&read(root)?), always)
    }

    /// Whether a path below the root is left out. What is below it must not be asked for.
    pub fn excludes(&self, path: &[u8], directory: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        self.matcher.as_ref().is_some_and(|matcher| matcher.matched(path, directory).is_ignore())
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.matcher.is_none()
    }

    /// The patterns in force, in order.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Patterns of the workspace that were left away because they are invalid.
    pub fn invalid(&self) -> &[String] {
        &self.invalid
    }

    /// Equal for equal patterns.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for pattern in &self.patterns {
            hasher.update(&(pattern.len() as u64).to_le_bytes());
            hasher.update(pattern.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}

fn pattern_error(pattern: &str, error: &ignore::Error) -> Error {
    Error::Pattern { pattern: pattern.to_owned(), reason: error.to_string() }
}

fn read(root: BorrowedFd<'_>) -> Result<Vec<u8>, Error> {
    let name = IGNORE_FILE.as_bytes();
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = match openat2(root, name, flags, Mode::empty(), resolve) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ACCESS) => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("open", name)(error)),
    };
    let mut text = vec![0; LONGEST_FILE];
    let mut length = 0;
    while let Some(space) = text.get_mut(length..).filter(|space| !space.is_empty()) {
        match rustix::io::read(&file, space) {
            Ok(0) | Err(Errno::ISDIR | Errno::AGAIN) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(Error::io("read", name)(error)),
        }
    }
    if length == LONGEST_FILE {
        length = text.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    }
    text.truncate(length);
    Ok(text)
}
