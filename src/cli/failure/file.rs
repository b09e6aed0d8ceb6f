//! All problems of a file that a person wrote, one sentence each, by field.

use std::fmt;
use std::path::PathBuf;

use crate::input::Name;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field; empty for the document itself.
    pub field: String,
    /// The rule that it breaks. Never quotes what may be a secret.
    pub rule: String,
}

impl Problem {
    /// Prefixes the document, for files with several.
    #[must_use]
    pub fn of(self, document: &str) -> Self {
        let parts = [document, self.field.as_str()].into_iter().filter(|part| !part.is_empty());
        Self { field: parts.collect::<Vec<_>>().join(": "), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.field.is_empty() { "" } else { ": " };
        write!(f, "{}{end}{}", self.field, self.rule)
    }
}

/// The problems of a file; at least one.
#[derive(Debug, thiserror::Error)]
pub struct FileProblems {
    pub path: PathBuf,
    /// In the order of the file.
    pub problems: Vec<Problem>,
}

impl FileProblems {
    /// Heading above the list of problems.
    pub fn summary(&self) -> String {
        match self.problems.as_slice() {
            [only] => format!("{}: {only}", Name(&self.path)),
            all => format!("{} has {} problems", Name(&self.path), all.len()),
        }
    }
}

impl fmt::Display for FileProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())?;
        if self.problems.len() > 1 {
            f.write_str(":")?;
            self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))?;
        }
        Ok(())
    }
}
