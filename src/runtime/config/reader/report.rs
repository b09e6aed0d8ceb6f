//! What all groups of one document share, and the texts of keys and values.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A problem of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the key, such as `manager.timeouts.startup`.
    pub path: String,
    /// Description. Never quotes a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Checks a file that is a pod template.
pub type TemplateCheck = fn(&Path) -> Result<(), String>;

/// State that all groups of one document share: the base of relative paths, and the problems and known keys so far.
#[derive(Debug)]
pub struct Report {
    pub(super) base: PathBuf,
    pub(super) template: TemplateCheck,
    pub(super) problems: RefCell<Vec<Problem>>,
    pub(super) known: RefCell<BTreeSet<String>>,
}

impl Report {
    /// For a document whose paths are relative to `base`.
    pub fn new(base: &Path, template: TemplateCheck) -> Self {
        let (problems, known) = (RefCell::default(), RefCell::default());
        Self { base: base.to_owned(), template, problems, known }
    }

    pub(crate) fn take_problems(&self) -> Vec<Problem> {
        self.problems.take()
    }

    /// All keys that the readers know; names that the user chooses are `<name>`, list elements `[]`. For comparing with a reference.
    pub fn known(&self) -> BTreeSet<String> {
        self.known.borrow().clone()
    }
}

pub(super) fn join(path: &str, key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_<>[]".contains(c);
    if key.is_empty() {
        path.to_owned()
    } else if !key.chars().all(plain) {
        format!("{path}[{key:?}]")
    } else if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a group of keys",
    }
}
