//! `audit`: where calls that change something are recorded.

use std::path::{Path, PathBuf};

use super::reader::Group;

/// `audit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Where lines go.
    pub target: AuditTarget,
}

/// Where audit lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// Nowhere.
    Off,
    /// Standard error, among the lines of the log.
    Log,
    /// A file that is rotated.
    File {
        /// The file in use; older ones have `.1`, `.2` and so on behind the name.
        path: PathBuf,
        /// Bytes at which a new file is begun.
        max_bytes: u64,
        /// How many older files are kept.
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

/// The file is made where it is not there; its folder is not.
fn check_file(group: &Group<'_>, path: &Path) {
    if path.is_dir() {
        group.problem("file", format_args!("{} is a folder", path.display()));
    } else if !path.parent().is_some_and(Path::is_dir) {
        group.problem("file", format_args!("the folder of {} does not exist", path.display()));
    }
}
