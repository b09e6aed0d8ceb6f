//! The helper's part: work on archives inside of its namespaces.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use content::archive::{self, Limits, RestoreOptions, Rule, WriteOptions};
use content::initializer::Fault;
use content::store::Tail;
use content::tree::{self, Comparison, Excludes, StateWriter, quoted};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, ResolveFlags, mkdirat, openat, openat2, unlinkat};
use rustix::io::Errno;
use serde_json::Value;

use super::frames::{Frames, Kind};
use super::measure::measure;
use super::{Answer, READY, READY_FOLDER, Request};
use crate::helper::{Archives, Io, Unable};

/// Patterns that leave out what the agent itself puts into a workspace.
const ALWAYS: [&str; 2] = ["/.gitpod/ready", "/.gitpod/ready.tmp"];
/// Level of zstd.
const LEVEL: i32 = 3;
/// Logs of one prebuild.
const LOGS_MAX: usize = 64;
/// Bytes of one log.
const LOG_MAX: u64 = 64 << 20;

/// Writes, restores and compares the archives of [`content::archive`].
#[derive(Debug, Clone, Copy)]
pub struct ArchiveWork;

impl Archives for ArchiveWork {
    fn run(&self, request: &Value, io: Io<'_>) -> Result<Value, Unable> {
        let request: Request = serde_json::from_value(request.clone()).map_err(text)?;
        let Io { workspace, input, output, progress } = io;
        let frames = Frames::new(output);
        let answer = match request {
            Request::Write { excludes, plain, tree } => {
                let excludes = load(&excludes, workspace)?;
                if tree {
                    unready(workspace)?;
                }
                let mut count = |bytes| progress("writing the archive", bytes);
                write(workspace, &excludes, (plain, tree), &frames, &mut count)?
            }
            Request::Restore { bytes, tree } => {
                let mut counted = Counted { input, bytes: 0, progress };
                let answer = restore(workspace, bytes, &mut counted)?;
                if let Some(excludes) = tree {
                    record(workspace, &excludes, &frames)?;
                }
                answer
            }
            Request::Compare { excludes } => {
                progress("comparing with the last backup", 0);
                unready(workspace)?;
                compare(workspace, &load(&excludes, workspace)?, input)?
            }
            Request::Record { excludes } => {
                progress("recording the state of the files", 0);
                record(workspace, &excludes, &frames)?;
                Answer::Done
            }
            Request::Logs => {
                logs(workspace, &frames)?;
                Answer::Done
            }
            Request::Measure => {
                progress("measuring the storage", 0);
                measure(workspace).map_err(text)?
            }
        };
        frames.put(Kind::End, b"").map_err(text)?;
        serde_json::to_value(answer).map_err(text)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "an argument of map_err")]
fn text(error: impl ToString) -> Unable {
    Unable { fault: Fault::Platform, message: error.to_string() }
}

/// Whose fault an error is: an archive that is too large for the workspace, or a full quota, is the user's.
fn blame(error: &archive::Error) -> Unable {
    use archive::Error::{Refused, Tree};
    let (fault, why) = match error {
        Refused { rule: Rule::Bytes(_) | Rule::Entries(_), .. } => {
            (Fault::User, "the content is larger than the storage of this workspace: ")
        }
        Tree(tree::Error::Io { source: Errno::DQUOT, .. }) => {
            (Fault::User, "the storage of this workspace is full: ")
        }
        Tree(tree::Error::Io { source: Errno::NOSPC, .. }) => {
            (Fault::Platform, "the disk of the node is full: ")
        }
        _ => (Fault::Platform, ""),
    };
    Unable { fault, message: format!("{why}{error}") }
}

fn load(class: &[String], workspace: BorrowedFd<'_>) -> Result<Excludes, Unable> {
    Excludes::load(class, workspace, &ALWAYS)
        .map_err(|error| Unable { fault: Fault::Configuration, message: error.to_string() })
}

fn write(
    workspace: BorrowedFd<'_>,
    excludes: &Excludes,
    (plain, tree): (bool, bool),
    frames: &Frames<'_>,
    count: &mut (dyn FnMut(u64) + Send),
) -> Result<Answer, Unable> {
    let mut of_tree = frames.of(Kind::Tree);
    let state = if tree {
        Some(StateWriter::begin(&mut of_tree as &mut dyn Write, excludes).map_err(text)?)
    } else {
        None
    };
    let out = frames.of(Kind::Data).with(count);
    // Without a name it is in no backup, and it is gone with the helper.
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let spill = openat(workspace, c".", flags, Mode::RUSR | Mode::WUSR).ok().map(File::from);
    let options = WriteOptions { level: LEVEL, spill, ..WriteOptions::default() };
    if !plain {
        let summary = archive::write(workspace, excludes, options, out, state).map_err(|e| blame(&e))?;
        return Ok(Answer::written(&summary));
    }
    let written = archive::write_plain(workspace, excludes, options, out, state).map_err(|e| blame(&e))?;
    Ok(Answer::Written {
        size: written.bytes,
        digest: written.digest.into(),
        tail: Tail::none(),
        entries: written.entries,
        notes: written.notes.lines(),
    })
}

fn restore(workspace: BorrowedFd<'_>, bytes: u64, input: &mut (impl Read + Send)) -> Result<Answer, Unable> {
    let options = RestoreOptions { skip: &[READY], ..RestoreOptions::new(Limits::of_bytes(bytes)) };
    let restored = archive::restore(input, workspace, &options).map_err(|error| blame(&error))?;
    let archive::Restored { entries, bytes, notes, .. } = restored;
    Ok(Answer::Restored { entries, bytes, notes: notes.lines() })
}

fn compare(
    workspace: BorrowedFd<'_>,
    excludes: &Excludes,
    input: &mut (dyn Read + Send),
) -> Result<Answer, Unable> {
    // The ready file came and went.
    Ok(match tree::compare(workspace, excludes, input, &[READY_FOLDER]).map_err(text)? {
        Comparison::Unchanged { entries } => Answer::Unchanged { entries },
        Comparison::Changed { path, reason } => {
            Answer::Changed { what: format!("{}: {reason:?}", quoted(&path)) }
        }
    })
}

fn record(workspace: BorrowedFd<'_>, class: &[String], frames: &Frames<'_>) -> Result<(), Unable> {
    // The ready file follows, and its folder must not be new then.
    match mkdirat(workspace, READY_FOLDER, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(text(format!("make .gitpod: {error}"))),
    }
    let excludes = load(class, workspace)?;
    tree::record(workspace, &excludes, frames.of(Kind::Tree)).map_err(text)?;
    Ok(())
}

/// Opens something of the workspace; no link is followed.
fn open(workspace: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(workspace, path, flags, Mode::empty(), resolve)
}

/// Whatever else has this name is the user's, and stays.
fn unready(workspace: BorrowedFd<'_>) -> Result<(), Unable> {
    let Ok(folder) = open(workspace, READY_FOLDER, OFlags::RDONLY | OFlags::DIRECTORY) else { return Ok(()) };
    match unlinkat(&folder, "ready", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => Ok(()),
        Err(error) => Err(text(format!("remove .gitpod/ready: {error}"))),
    }
}

/// Logs lie in the root or in `.gitpod`, older ones with a dot before their name.
fn logs(workspace: BorrowedFd<'_>, frames: &Frames<'_>) -> Result<(), Unable> {
    let mut left = LOGS_MAX;
    for folder in [&b"."[..], READY_FOLDER] {
        let Ok(opened) = open(workspace, folder, OFlags::RDONLY | OFlags::DIRECTORY) else { continue };
        let mut buffer = Vec::with_capacity(64 << 10);
        let mut entries = RawDir::new(&opened, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(text)?;
            let name = entry.file_name().to_bytes();
            let Some(task) = task(name).filter(|_| left > 0) else { continue };
            let flags = OFlags::RDONLY | OFlags::NONBLOCK;
            let Ok(file) = open(opened.as_fd(), name, flags) else { continue };
            let file = File::from(file);
            if !file.metadata().is_ok_and(|found| found.is_file()) {
                continue;
            }
            left -= 1;
            frames.put(Kind::Name, task.as_bytes()).map_err(text)?;
            io::copy(&mut file.take(LOG_MAX), &mut frames.of(Kind::Data)).map_err(text)?;
        }
    }
    Ok(())
}

/// The task of a log's name, if it can be part of an object's name.
fn task(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    let task = name.strip_prefix('.').unwrap_or(name).strip_prefix("prebuild-log-")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_name = !task.is_empty() && task.len() <= 128 && task.bytes().all(plain);
    (is_name && !task.starts_with('.')).then_some(task)
}

/// Reports the bytes that were read.
struct Counted<'a> {
    input: &'a mut (dyn Read + Send),
    bytes: u64,
    progress: &'a mut (dyn FnMut(&str, u64) + Send),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.bytes += count as u64;
        (self.progress)("restoring the archive", self.bytes);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_logs_are_those_that_existing_programs_give() {
        assert_eq!(task(b"prebuild-log-0"), Some("0"));
        assert_eq!(task(b".prebuild-log-build"), Some("build"));
        for other in
            [&b"prebuild-log-"[..], b"log", b"prebuild-log-a/b", b"prebuild-log-..", b"prebuild-log-\xff"]
        {
            assert_eq!(task(other), None, "{other:?}");
        }
    }
}
