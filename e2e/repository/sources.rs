//! Rust files as text, and what their lines name.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// A Rust file of the repository.
pub struct Source {
    /// From the root of the repository.
    pub path: String,
    pub text: String,
}

impl Source {
    /// `src/api/mod.rs` is in `api`, `src/proto.rs` in `proto`.
    pub fn room(&self) -> &str {
        let rest = self.path.trim_start_matches("src/");
        rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs")
    }

    /// As many `super::` lead out of the room.
    pub fn depth(&self) -> usize {
        let parts = self.path.trim_start_matches("src/").split('/').count();
        if self.path.ends_with("/mod.rs") { parts - 1 } else { parts }
    }

    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.contains("tests") || self.path.contains("/tests/") || self.path.starts_with("src/fuzz")
    }

    /// A list of modules may declare tests and go on.
    pub fn lines_before_tests(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        let tests = |pair: &[&str]| matches!(pair, ["#[cfg(test)]", next] if !next.ends_with(';'));
        lines.windows(2).position(tests).unwrap_or(lines.len())
    }

    /// Numbered lines without comments.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = |line: &str| !line.trim_start().starts_with("//");
        self.text.lines().enumerate().filter(move |(_, line)| code(line)).map(|(at, line)| (at + 1, line))
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder.
pub fn sources(folder: &str) -> Result<Vec<Source>> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let file = entry?.path();
            if file.is_dir() {
                folders.push(file);
            } else if file.extension().is_some_and(|extension| extension == "rs") {
                let path = file.strip_prefix(root())?.to_string_lossy().into_owned();
                found.push(Source { path, text: fs::read_to_string(&file)? });
            }
        }
    }
    ensure!(!found.is_empty(), "there is no Rust file in {folder}");
    found.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(found)
}

/// The rooms that a line names, each with the path it stands in. What is no plain path, as `crate::{…}`, is no room.
pub fn imports(line: &str) -> Vec<(&str, &str)> {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    let paths =
        line.match_indices("crate::").filter(|(at, _)| !line[..*at].ends_with(|c| in_name(c) || c == '$'));
    paths
        .map(|(at, prefix)| {
            let path = &line[at..];
            let end = path.find(|c| !in_name(c) && c != ':').unwrap_or(path.len());
            let room = path[prefix.len()..end].split("::").next().unwrap_or_default();
            (room, &path[..end])
        })
        .collect()
}

/// Whether a line has the name as a path's beginning.
pub fn mentions_crate(line: &str, name: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        !before.ends_with(inside)
            && (after.starts_with("::") || (before.trim() == "use" && after.starts_with(';')))
    })
}
