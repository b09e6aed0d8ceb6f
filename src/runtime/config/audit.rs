//! `audit`: where writing calls are recorded.

use std::path::{Path, PathBuf};

use super::reader::Group;

/// `audit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Target of audit lines.
    pub target: AuditTarget,
}

/// Target of audit lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// No audit.
    Off,
    /// Standard error, between the lines of the log.
    Log,
    /// A file that is rotated.
    File {
        /// The current file; older ones have the suffixes `.1`, `.2` and so on.
        path: PathBuf,
        /// Size in bytes at which the file is rotated.
        max_bytes: u64,
        /// Number of older files that are kept.
        keep: u32,
    },
}

pub(super) fn read(mut group: Group<'_>) -> Audit {
    let target = group.text("target");
    let path = group.text("file").map(|path| group.base().join(path));
    let max_bytes = group.count("maxBytes", 65_536..=u64::MAX >> 1);
    let keep = group.count("keep", 1..=1000_u32);
    let is_read = group.unread().has_neither("target", "target");
    let is_elsewhere = is_read && matches!(target.as_deref(), None | Some("log" | "off"));
    if is_elsewhere {
        let given = [("file", path.is_some()), ("maxBytes", max_bytes.is_some()), ("keep", keep.is_some())];
        for (key, _) in given.iter().filter(|(_, given)| *given) {
            group.problem(key, "has no effect without target: file");
        }
    }
    let target = match target.as_deref() {
        None | Some("log") => AuditTarget::Log,
        Some("off") => AuditTarget::Off,
        Some("file") => {
            match &path {
                None => group.problem("file", "is required with target: file"),
                Some(path) => check_file(&group, path),
            }
            AuditTarget::File {
                path: path.unwrap_or_default(),
                max_bytes: max_bytes.unwrap_or(100 << 20),
                keep: keep.unwrap_or(10),
            }
        }
        Some(_) => {
            group.problem("target", "must be log, file or off");
            AuditTarget::Log
        }
    };
    Audit { target }
}

/// A missing file is created; its folder must exist.
fn check_file(group: &Group<'_>, path: &Path) {
    if path.is_dir() {
        group.problem("file", format_args!("{} is a folder", path.display()));
    } else if !path.parent().is_some_and(Path::is_dir) {
        group.problem("file", format_args!("the folder of {} does not exist", path.display()));
    }
}
