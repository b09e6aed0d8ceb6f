//! Walks a document key by key, and continues after problems.

mod report;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::files;
use domain::duration::GoDuration;
use domain::secret::Secret;

pub use report::{Problem, Report, TemplateCheck};
use report::{join, kind};

/// The keys of one object. Dropping it reports unknown keys.
#[derive(Debug)]
pub struct Group<'r> {
    report: &'r Report,
    path: String,
    /// As `path`, with `<name>` for names that the user chooses.
    pattern: String,
    keys: Map<String, Value>,
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        for key in std::mem::take(&mut self.keys).keys() {
            self.problem(key, "unknown key");
        }
    }
}

/// Keys that could not be read.
pub(super) struct Unread(BTreeSet<String>);

impl Unread {
    /// Whether two keys were read, so that they can be compared.
    pub(super) fn has_neither(&self, one: &str, other: &str) -> bool {
        !self.0.contains(one) && !self.0.contains(other)
    }
}

impl<'r> Group<'r> {
    pub(super) fn root(report: &'r Report, value: Value) -> Self {
        Self::new(report, String::new(), String::new(), value)
    }

    fn new(report: &'r Report, path: String, pattern: String, value: Value) -> Self {
        let mut group = Self { report, path, pattern, keys: Map::new() };
        match value {
            Value::Object(keys) => group.keys = keys,
            // An empty group in YAML.
            Value::Null => {}
            other => group.problem("", format_args!("must be a group of keys, not {}", kind(&other))),
        }
        group
    }

    /// Records a problem with a key of this group, or with the group itself if the key is empty.
    pub fn problem(&self, key: &str, message: impl fmt::Display) {
        let mut path = join(&self.path, key);
        if path.is_empty() {
            "the document".clone_into(&mut path);
        }
        self.report.problems.borrow_mut().push(Problem { path, message: message.to_string() });
    }

    /// Records a problem with a path of keys below this group, joined by dots.
    pub fn problem_below(&self, path: &str, message: impl fmt::Display) {
        let path = path.split('.').fold(self.path.clone(), |path, key| join(&path, key));
        self.report.problems.borrow_mut().push(Problem { path, message: message.to_string() });
    }

    /// Number of problems of the whole document so far.
    pub fn problems_so_far(&self) -> usize {
        self.report.problems.borrow().len()
    }

    /// Keys of this group that could not be read so far. Their placeholders must not be compared.
    pub(super) fn unread(&self) -> Unread {
        let problems = self.report.problems.borrow();
        let keys =
            problems.iter().filter_map(|problem| problem.path.strip_prefix(&self.path)?.strip_prefix('.'));
        Unread(keys.map(str::to_owned).collect())
    }

    /// The remaining keys of this group, as a document.
    pub(super) fn as_written(&self) -> Value {
        Value::Object(self.keys.clone())
    }

    /// How pod templates are checked.
    pub(super) fn template_check(&self) -> TemplateCheck {
        self.report.template
    }

    /// The base for relative paths.
    pub(super) fn base(&self) -> &'r Path {
        &self.report.base
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.report.known.borrow_mut().insert(join(&self.pattern, key));
        self.keys.remove(key).filter(|value| !value.is_null())
    }

    fn convert<T, E: fmt::Display>(
        &mut self,
        key: &str,
        convert: impl FnOnce(Value) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.take(key)?;
        convert(value).map_err(|error| self.problem(key, error)).ok()
    }

    /// Accepts a key with any value.
    pub fn ignore(&mut self, key: &str) {
        self.take(key);
    }

    /// A text. An empty one counts as absent, because generated files write every key.
    pub fn text(&mut self, key: &str) -> Option<String> {
        self.convert(key, |value| match value {
            Value::String(text) => Ok(text),
            other => Err(format!("must be a text, not {}", kind(&other))),
        })
        .filter(|text| !text.is_empty())
    }

    /// Whether the document has a key, with whatever value.
    pub fn has(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|value| !value.is_null())
    }

    /// A text or a number, as a text: quantities are written either way.
    pub fn text_or_number(&mut self, key: &str) -> String {
        self.convert(key, |value| match value {
            Value::String(text) => Ok(text),
            Value::Number(number) => Ok(number.to_string()),
            other => Err(format!("must be a text or a number, not {}", kind(&other))),
        })
        .unwrap_or_default()
    }

    /// A text that parses.
    pub fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, key: &str) -> Option<T> {
        let text = self.text(key)?;
        text.parse().map_err(|error| self.problem(key, error)).ok()
    }

    /// As the other readers, but absence is also a problem.
    pub fn required<T>(&mut self, key: &str, read: impl FnOnce(&mut Self, &str) -> Option<T>) -> Option<T> {
        let before = self.problems_so_far();
        let value = read(self, key);
        if value.is_none() && self.problems_so_far() == before {
            self.problem(key, "is required");
        }
        value
    }

    /// True or false.
    pub fn flag(&mut self, key: &str) -> Option<bool> {
        self.convert(key, |value| {
            value.as_bool().ok_or_else(|| format!("must be true or false, not {}", kind(&value)))
        })
    }

    /// A whole number within a range.
    pub fn count<T>(&mut self, key: &str, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<u64> + PartialOrd + fmt::Display,
    {
        let rule = || format!("must be a whole number from {} to {}", range.start(), range.end());
        self.convert(key, |value| {
            let number = value.as_u64().and_then(|number| T::try_from(number).ok());
            number.filter(|number| range.contains(number)).ok_or_else(rule)
        })
    }

    /// A decimal number.
    pub(super) fn decimal(&mut self, key: &str) -> Option<f64> {
        self.convert(key, |value| {
            value.as_f64().ok_or_else(|| format!("must be a number, not {}", kind(&value)))
        })
    }

    /// A duration of zero or more.
    pub fn duration_or_zero(&mut self, key: &str) -> Option<Duration> {
        self.convert(key, |value| {
            serde_json::from_value::<GoDuration>(value)
                .map_err(|error| error.to_string())
                .and_then(|duration| duration.to_std().map_err(|error| error.to_string()))
        })
    }

    /// A duration above zero.
    pub fn duration(&mut self, key: &str, default: Duration) -> Duration {
        let duration = self.duration_or_zero(key);
        if duration == Some(Duration::ZERO) {
            self.problem(key, "must be more than zero");
        }
        duration.unwrap_or(default)
    }

    /// An address to listen on. A key with an empty value means none.
    pub fn address(&mut self, key: &str, default: Option<&str>) -> Option<SocketAddr> {
        let default = if self.keys.contains_key(key) { None } else { default };
        let text = self.text(key).or_else(|| default.map(str::to_owned))?;
        // Go's short form: no host means all interfaces.
        let full = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None if text.starts_with(':') => format!("0.0.0.0{text}"),
            None => text.clone(),
        };
        let rule =
            format_args!("{text:?} is not an address such as 127.0.0.1:8080, [::]:8080 or :8080").to_string();
        full.parse().map_err(|_| self.problem(key, rule)).ok()
    }

    /// A group below this one; empty if it is absent.
    pub fn group(&mut self, key: &str) -> Group<'r> {
        let value = self.take(key).unwrap_or_default();
        Group::new(self.report, join(&self.path, key), join(&self.pattern, key), value)
    }

    /// Groups below a key, by names that the user chooses.
    pub fn named_groups(&mut self, key: &str) -> Vec<(String, Group<'r>)> {
        let mut outer = self.group(key);
        let pattern = join(&outer.pattern, "<name>");
        std::mem::take(&mut outer.keys)
            .into_iter()
            .map(|(name, value)| {
                let group = Group::new(self.report, join(&outer.path, &name), pattern.clone(), value);
                (name, group)
            })
            .collect()
    }

    /// The elements of a list.
    fn list(&mut self, key: &str) -> Vec<Value> {
        self.convert(key, |value| match value {
            Value::Array(elements) => Ok(elements),
            other => Err(format!("must be a list, not {}", kind(&other))),
        })
        .unwrap_or_default()
    }

    /// A list of groups.
    pub fn groups(&mut self, key: &str) -> Vec<Group<'r>> {
        let (path, pattern) = (join(&self.path, key), format!("{}[]", join(&self.pattern, key)));
        let elements = self.list(key).into_iter().enumerate();
        elements
            .map(|(index, value)| Group::new(self.report, format!("{path}[{index}]"), pattern.clone(), value))
            .collect()
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &str) -> Vec<String> {
        let elements = self.list(key);
        self.texts_among(key, elements)
    }

    fn texts_among(&self, key: &str, elements: Vec<Value>) -> Vec<String> {
        let mut texts = Vec::new();
        for (index, value) in elements.into_iter().enumerate() {
            match value {
                Value::String(text) => texts.push(text),
                other => self.problem(
                    &format!("{key}[{index}]"),
                    format_args!("must be a text, not {}", kind(&other)),
                ),
            }
        }
        texts
    }

    /// Texts below a key, by names that the user chooses.
    pub fn named_texts(&mut self, key: &str) -> Vec<(String, String)> {
        let mut group = self.group(key);
        self.report.known.borrow_mut().insert(join(&group.pattern, "<name>"));
        let mut texts = Vec::new();
        for (name, value) in std::mem::take(&mut group.keys) {
            match value {
                Value::String(text) => texts.push((name, text)),
                other => group.problem(&name, format_args!("must be a text, not {}", kind(&other))),
            }
        }
        texts
    }

    /// Lists of texts below a key, by names that the user chooses.
    pub fn named_lists(&mut self, key: &str) -> Vec<(String, Vec<String>)> {
        let mut group = self.group(key);
        self.report.known.borrow_mut().insert(join(&group.pattern, "<name>"));
        let lists = std::mem::take(&mut group.keys).into_iter();
        lists
            .map(|(name, value)| {
                let elements = match value {
                    Value::Array(elements) => elements,
                    other => {
                        group.problem(&name, format_args!("must be a list, not {}", kind(&other)));
                        Vec::new()
                    }
                };
                let texts = group.texts_among(&name, elements);
                (name, texts)
            })
            .collect()
    }

    /// A file that can be read, as a path.
    pub fn file(&mut self, key: &str) -> Option<PathBuf> {
        let path = self.base().join(self.text(key)?);
        if let Err(error) = files::open(&path) {
            self.unreadable(key, &path, &error);
        }
        Some(path)
    }

    /// A file whose content passes a check, as a path.
    pub(super) fn checked_file(
        &mut self,
        key: &str,
        check: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Option<PathBuf> {
        let before = self.problems_so_far();
        let path = self.file(key)?;
        if self.problems_so_far() == before
            && let Err(problem) = check(&path)
        {
            self.problem(key, problem);
        }
        Some(path)
    }

    /// A folder, as a path.
    pub fn folder(&mut self, key: &str) -> Option<PathBuf> {
        let path = self.base().join(self.text(key)?);
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => self.problem(key, format_args!("{} is not a folder", path.display())),
            Err(error) => self.unreadable(key, &path, &error),
        }
        Some(path)
    }

    fn unreadable(&self, key: &str, path: &Path, error: &std::io::Error) {
        match error.kind() {
            std::io::ErrorKind::InvalidInput => self.problem(key, format_args!("{} {error}", path.display())),
            _ => self.problem(key, format_args!("cannot read {}: {}", path.display(), files::why(error))),
        }
    }

    /// The content of a file with a secret.
    pub(super) fn secret_file(&mut self, key: &str) -> Option<Secret<Vec<u8>>> {
        let path = self.base().join(self.text(key)?);
        match files::read(&path, files::LARGEST) {
            Ok(content) => Some(Secret::new(content)),
            Err(error) => {
                self.unreadable(key, &path, &error);
                None
            }
        }
    }
}
