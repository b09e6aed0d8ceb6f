//! What a copy leaves out, and why.

use std::path::Path;

use anyhow::{Result, anyhow};

use crate::table::clean;
use crate::terminal::Terminal;

/// Entries that are named; of more there is the number.
const NAMED: usize = 20;

/// What a copy leaves out.
#[derive(Debug, Default)]
pub struct Skipped {
    named: Vec<String>,
    count: usize,
}

impl Skipped {
    /// Something is left out, and why.
    pub fn add(&mut self, path: &Path, why: &str) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(format!("{} is not copied: {why}", clean(&path.to_string_lossy())));
        }
    }

    #[cfg(test)]
    pub fn texts(self) -> Vec<String> {
        self.named
    }

    /// Prints what is left out, and fails if anything is.
    pub fn report(self, terminal: &mut Terminal<'_>) -> Result<()> {
        for text in &self.named {
            terminal.progress(&format!("{text}\n"));
        }
        if self.count == 0 {
            return Ok(());
        }
        Err(anyhow!("the rest was copied, but {} were not", self.count))
    }
}
