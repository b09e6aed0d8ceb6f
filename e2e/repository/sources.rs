//! Rust files of the repository as text.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// A Rust file of the repository.
pub struct Source {
    /// Path from the root of the repository.
    pub path: String,
    pub text: String,
}

impl Source {
    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.contains("tests")
            || self.path.contains("/tests/")
            || self.path.contains("/benches/")
            || self.path.starts_with("e2e/fuzz")
    }

    /// A list of modules may declare tests and continue after that.
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
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
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
