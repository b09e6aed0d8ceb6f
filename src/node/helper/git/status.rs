//! The git status of a working copy, for the backup of a workspace.
//!
//! The settings are those of the user. Besides those that every run replaces, filters start programs here, so they are replaced
//! too; there is no network and no login. Submodules are compared by their commit only, because git would run in them.

use std::process::Command;

use super::super::protocol::{Failure, GitStatus, Outcome, one_line};
use super::super::settings::Settings;
use super::program::Program;

/// Entries of each list, as in existing agents.
const ENTRIES: usize = 100;
/// Characters of an entry.
const ENTRY_MAX: usize = 512;
/// Filters of a repository.
const FILTERS_MAX: usize = 256;

/// Reads the status of a working copy.
pub(in crate::helper) fn status(folder: &str, _settings: &Settings) -> Result<Outcome, Failure> {
    let program = Program::offline(folder)?;
    if !program.is_working_copy() {
        return Ok(Outcome::Status { status: None });
    }
    let filters = filters(&program)?;
    let command = |arguments: &[&str]| {
        let mut command = program.command(arguments);
        replace(&mut command, &filters);
        command
    };
    let (branch, uncommitted, untracked) = files(&program, command)?;
    let latest_commit =
        program.line(&["rev-parse", "--quiet", "--verify", "HEAD^{commit}"])?.unwrap_or_default();
    // Not `git log`, whose settings start programs.
    let arguments = ["rev-list", "--no-commit-header", "--format=%h: %s", "--branches", "--not", "--remotes"];
    let mut unpushed = List::default();
    program.each(command(&arguments), &arguments, b'\n', |record| {
        unpushed.add(&String::from_utf8_lossy(record));
    })?;
    let mut found = GitStatus { branch, latest_commit, ..GitStatus::default() };
    (found.uncommitted_files, found.total_uncommitted_files) = uncommitted.done();
    (found.untracked_files, found.total_untracked_files) = untracked.done();
    (found.unpushed_commits, found.total_unpushed_commits) = unpushed.done();
    Ok(Outcome::Status { status: Some(found) })
}

/// The branch, and the uncommitted and untracked files.
fn files(
    program: &Program<'_>,
    command: impl Fn(&[&str]) -> Command,
) -> Result<(String, List, List), Failure> {
    let arguments = [
        "--no-optional-locks",
        "status",
        "--porcelain=v2",
        "--branch",
        "--untracked-files=all",
        "--ignore-submodules=dirty",
        "-z",
    ];
    let (mut branch, mut uncommitted, mut untracked) = (String::new(), List::default(), List::default());
    let mut is_old_name = false;
    program.each(command(&arguments), &arguments, 0, |record| {
        let text = String::from_utf8_lossy(record);
        // A rename has its former name in a record of its own.
        if std::mem::take(&mut is_old_name) {
            return;
        }
        is_old_name = text.starts_with("2 ");
        if let Some(name) = text.strip_prefix("# branch.head ") {
            branch = shown(name);
        }
        match path(&text) {
            Some((true, path)) => untracked.add(path),
            Some((false, path)) => uncommitted.add(path),
            None => {}
        }
    })?;
    Ok((branch, uncommitted, untracked))
}

/// Names of the filters that the settings define.
fn filters(program: &Program<'_>) -> Result<Vec<String>, Failure> {
    let mut found: Vec<String> = Vec::new();
    let mut is_odd = false;
    let arguments = ["config", "--list", "--name-only", "-z"];
    program.each(program.command(&arguments), &arguments, 0, |record| {
        let Some(rest) = record.strip_prefix(b"filter.") else { return };
        let Some(end) = rest.iter().rposition(|byte| *byte == b'.') else { return };
        match std::str::from_utf8(rest.get(..end).unwrap_or_default()) {
            Ok(name) if found.iter().all(|known| known != name) => found.push(name.to_owned()),
            Ok(_) => {}
            Err(_) => is_odd = true,
        }
    })?;
    if is_odd || found.len() > FILTERS_MAX {
        return Err(Failure::user(
            "the settings of the repository have too many filters, or filters with broken names",
        ));
    }
    Ok(found)
}

/// Has filters start nothing. By variables, because an argument has no form for names with `=`.
fn replace(command: &mut Command, filters: &[String]) {
    let names = filters.iter().flat_map(|filter| {
        [("clean", ""), ("smudge", ""), ("process", ""), ("required", "false")]
            .map(|(name, value)| (format!("filter.{filter}.{name}"), value))
    });
    let mut count = 0;
    for (key, value) in names {
        command.env(format!("GIT_CONFIG_KEY_{count}"), key).env(format!("GIT_CONFIG_VALUE_{count}"), value);
        count += 1;
    }
    command.env("GIT_CONFIG_COUNT", count.to_string());
}

/// Whether a record is of an untracked file, and its path.
fn path(record: &str) -> Option<(bool, &str)> {
    let (kind, rest) = record.split_once(' ')?;
    let fields = match kind {
        "?" => return Some((true, rest)),
        "1" => 7,
        "2" => 8,
        "u" => 9,
        _ => return None,
    };
    rest.splitn(fields + 1, ' ').nth(fields).map(|path| (false, path))
}

/// The first entries, and how many there are.
#[derive(Default)]
struct List {
    first: Vec<String>,
    total: u64,
}

impl List {
    fn add(&mut self, entry: &str) {
        if entry.is_empty() {
            return;
        }
        self.total += 1;
        if self.first.len() < ENTRIES {
            self.first.push(shown(entry));
        }
    }

    fn done(mut self) -> (Vec<String>, u64) {
        let more = self.total - self.first.len() as u64;
        if more > 0 {
            self.first.push(format!("... and {more} more"));
        }
        (self.first, self.total)
    }
}

fn shown(text: &str) -> String {
    domain::text::shown(&one_line(text), ENTRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_the_status_have_their_path() {
        for (record, expected) in [
            ("# branch.head main", None),
            ("? a b.txt", Some((true, "a b.txt"))),
            ("1 .M N... 100644 100644 100644 0a 0b a b", Some((false, "a b"))),
            ("2 R. N... 100644 100644 100644 0a 0b R100 new name", Some((false, "new name"))),
            ("u UU N... 100644 100644 100644 100644 0a 0b 0c a b", Some((false, "a b"))),
            ("! ignored", None),
        ] {
            assert_eq!(path(record), expected, "{record}");
        }
    }

    #[test]
    fn lists_are_cut_and_totals_complete() {
        let mut list = List::default();
        (0..250).for_each(|at| list.add(&format!("file {at}")));
        let (first, total) = list.done();
        assert_eq!((first.len(), total), (ENTRIES + 1, 250));
        assert_eq!(first.last().unwrap(), "... and 150 more");
    }
}
