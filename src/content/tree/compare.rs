//! Whether a tree is still what its state file says.

use std::cmp::Ordering;
use std::io::{BufReader, Read};
use std::os::fd::BorrowedFd;

use super::error::Error;
use super::excludes::Excludes;
use super::stat::Kind;
use super::state::{Record, StateReader};
use super::walk::Walk;

/// The answer of [`compare`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// Nothing differs.
    Unchanged {
        /// Count of entries.
        entries: u64,
    },
    /// At least this differs; the comparison ends with the first difference.
    Changed {
        /// Path of the entry.
        path: Vec<u8>,
        /// The difference.
        reason: Reason,
    },
}

/// The first difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The entry was added.
    Added,
    /// The entry was removed.
    Removed,
    /// The metadata of the entry differs.
    Metadata,
    /// The entry was written within two clock ticks of the state file: it may have changed without a new time.
    Racy,
    /// Other excludes are in force.
    Excludes,
}

/// Compares a tree with its state file. If this fails, the content counts as changed. `own` are directories in which the
/// caller itself makes and removes excluded files: their times do not count.
pub fn compare(
    root: BorrowedFd<'_>,
    excludes: &Excludes,
    state: impl Read,
    own: &[&[u8]],
) -> Result<Comparison, Error> {
    let mut state = StateReader::open(BufReader::with_capacity(256 << 10, state))?;
    if state.excludes() != excludes.digest() {
        return Ok(changed(b".", Reason::Excludes));
    }
    let mut walk = Walk::new(root, excludes);
    let mut entries = 0;
    while let Some(entry) = walk.next()? {
        if let Some(failure) = entry.failure {
            return Err(Error::io("open", entry.path)(failure));
        }
        let now = Record::from(&entry.stat);
        let Some((path, then)) = state.next()? else { return Ok(changed(entry.path, Reason::Added)) };
        match order(entry.path, path) {
            Ordering::Less => return Ok(changed(entry.path, Reason::Added)),
            Ordering::Greater => return Ok(changed(path, Reason::Removed)),
            Ordering::Equal => {}
        }
        let times = match entry.path {
            b"." => Times::Modified,
            path if own.contains(&path) && then.kind == Kind::Directory => Times::Neither,
            _ => Times::Both,
        };
        if !same(&now, &then, times) {
            return Ok(changed(entry.path, Reason::Metadata));
        }
        if times == Times::Both && state.is_racy(then.ctime) {
            return Ok(changed(entry.path, Reason::Racy));
        }
        entries += 1;
    }
    Ok(match state.next()? {
        Some((path, _)) => changed(path, Reason::Removed),
        None => Comparison::Unchanged { entries },
    })
}

/// The times of an entry that count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    Both,
    /// Of the root, which may be renamed: that moves its ctime and nothing of its content.
    Modified,
    Neither,
}

/// The size of a directory says nothing that its names do not.
fn same(now: &Record, then: &Record, times: Times) -> bool {
    let mut now = *now;
    if times != Times::Both {
        now.ctime = then.ctime;
    }
    if times == Times::Neither {
        now.mtime = then.mtime;
    }
    if now.kind == Kind::Directory {
        now.size = then.size;
    }
    now == *then
}

/// The order of a walk: as if a slash were less than every other byte.
fn order(one: &[u8], other: &[u8]) -> Ordering {
    // The root comes first and is the only path that begins as it does: no name is ".".
    match (one == b".", other == b".") {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Less,
        (false, true) => return Ordering::Greater,
        (false, false) => {}
    }
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    one.iter().map(key).cmp(other.iter().map(key))
}

fn changed(path: &[u8], reason: Reason) -> Comparison {
    Comparison::Changed { path: path.to_vec(), reason }
}
