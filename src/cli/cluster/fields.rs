//! Reads a mapping field by field and collects every problem, where serde stops at the first.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use anyhow::anyhow;
use serde_json::{Map, Value};

use crate::failure::{FileProblems, Problem};
use crate::input;
use domain::yaml;

mod similar;

/// By the rules of YAML 1.2, `no` and `n` are texts, so both can be names.
pub fn parse(text: &str) -> Result<Vec<Value>, serde_saphyr::Error> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_saphyr::from_multiple_with_options(text, options)
}

/// The documents of a file.
pub fn documents(text: &str, path: &Path) -> anyhow::Result<Vec<Value>> {
    parse(text).map_err(|error| anyhow!("{} {}", input::Name(path), yaml::fault(&error, text)))
}

/// The value, or an error with all problems of the file.
pub fn unless_wrong<T>(value: T, problems: Vec<Problem>, path: &Path) -> anyhow::Result<T> {
    if problems.is_empty() { Ok(value) } else { Err(FileProblems { path: path.to_owned(), problems }.into()) }
}

/// All problems of a file.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a problem at the path of a field; an empty path is the document itself.
    pub fn add(&mut self, path: &str, rule: impl Display) {
        self.0.push(Problem { field: path.to_owned(), rule: rule.to_string() });
    }

    /// Adds a problem before those from `at` on.
    fn insert(&mut self, at: usize, path: &str, rule: impl Display) {
        self.0.insert(at, Problem { field: path.to_owned(), rule: rule.to_string() });
    }

    /// In the order of the file, of each mapping its unknown keys first.
    pub fn into_vec(self) -> Vec<Problem> {
        self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// A mapping in progress, with the keys that were read.
pub struct Fields<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
    asked: Vec<&'static str>,
    /// Number of problems before those of its fields.
    before: usize,
}

impl<'a> Fields<'a> {
    /// Fails if the value is not a mapping.
    pub fn of(value: &'a Value, path: String, problems: &mut Problems) -> Self {
        if !value.is_object() {
            problems.add(&path, format_args!("must be a mapping, not {}", kind(value)));
        }
        Self { path, map: value.as_object(), asked: Vec::new(), before: problems.len() }
    }

    /// Path of a field of this mapping.
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A field; `None` if absent or null.
    pub fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.push(name);
        self.map?.get(name).filter(|value| !value.is_null())
    }

    /// A field that is a text.
    pub fn text(&mut self, name: &'static str, problems: &mut Problems) -> Option<String> {
        let value = self.get(name)?;
        if let Some(text) = value.as_str() {
            return Some(text.to_owned());
        }
        problems.add(&self.path_of(name), format_args!("must be a text, not {}", kind(value)));
        None
    }

    /// A text field that is parsed into a type; kept as text.
    pub fn parsed<T: FromStr<Err: Display>>(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
    ) -> Option<String> {
        let text = self.text(name, problems)?;
        if let Err(error) = text.parse::<T>() {
            problems.add(&self.path_of(name), error);
        }
        Some(text)
    }

    /// A text field as the parsed value.
    pub fn typed<T: FromStr<Err: Display>>(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
    ) -> Option<T> {
        let parsed = self.text(name, problems)?.parse();
        parsed.map_err(|rule| problems.add(&self.path_of(name), rule)).ok()
    }

    /// A required text field, parsed.
    pub fn required<T: FromStr<Err: Display>>(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
    ) -> String {
        if self.map.is_some_and(|map| map.get(name).is_none_or(Value::is_null)) {
            problems.add(&self.path_of(name), "is required");
        }
        self.parsed::<T>(name, problems).unwrap_or_default()
    }

    /// A non-negative whole number.
    pub fn number(&mut self, name: &'static str, default: u32, problems: &mut Problems) -> u32 {
        let Some(value) = self.get(name) else { return default };
        value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_else(|| {
            problems.add(&self.path_of(name), format_args!("must be a whole number from 0 up, not {value}"));
            default
        })
    }

    /// A field that is a number.
    pub fn decimal(&mut self, name: &'static str, problems: &mut Problems) {
        if let Some(value) = self.get(name).filter(|value| !value.is_number()) {
            problems.add(&self.path_of(name), format_args!("must be a number, not {}", kind(value)));
        }
    }

    /// Quantities, written as texts or numbers.
    pub fn quantities(&mut self, names: &[&'static str], problems: &mut Problems) {
        for name in names {
            if let Some(value) = self.get(name).filter(|value| !value.is_number() && !value.is_string()) {
                problems.add(
                    &self.path_of(name),
                    format_args!("must be a text or a number, not {}", kind(value)),
                );
            }
        }
    }

    /// A nested mapping.
    pub fn group(&mut self, name: &'static str, problems: &mut Problems) -> Option<Self> {
        let value = self.get(name)?;
        Some(Self::of(value, self.path_of(name), problems))
    }

    /// A boolean; false if absent.
    pub fn flag(&mut self, name: &'static str, problems: &mut Problems) -> bool {
        let Some(value) = self.get(name) else { return false };
        value.as_bool().unwrap_or_else(|| {
            problems.add(&self.path_of(name), format_args!("must be true or false, not {}", kind(value)));
            false
        })
    }

    /// A list; empty if absent.
    pub fn list(&mut self, name: &'static str, problems: &mut Problems) -> &'a [Value] {
        let Some(value) = self.get(name) else { return &[] };
        value.as_array().map_or_else(
            || {
                problems.add(&self.path_of(name), format_args!("must be a list, not {}", kind(value)));
                &[][..]
            },
            Vec::as_slice,
        )
    }

    /// A nested mapping; empty if absent.
    pub fn mapping(&mut self, name: &'static str, problems: &mut Problems) -> BTreeMap<String, &'a Value> {
        let Some(value) = self.get(name) else { return BTreeMap::new() };
        if !value.is_object() {
            problems.add(&self.path_of(name), format_args!("must be a mapping, not {}", kind(value)));
        }
        value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value)).collect()
    }

    /// Reports unknown keys, before the other problems of the mapping: a key that is misspelt is missing too.
    pub fn finish(self, problems: &mut Problems) {
        let unknown = self.map.into_iter().flat_map(Map::keys);
        let unknown = unknown.filter(|key| !self.asked.contains(&key.as_str()));
        let mut known: Vec<&str> = self.asked.clone();
        known.dedup();
        let all = known.join(", ");
        for (nth, key) in unknown.enumerate() {
            let absent =
                known.iter().copied().filter(|known| self.map.is_none_or(|map| !map.contains_key(*known)));
            let meant = similar::closest(key, absent);
            let tip = meant.map(|meant| format!("did you mean {meant}? ")).unwrap_or_default();
            let rule = format!("is no known key; {tip}known are {all}");
            problems.insert(self.before + nth, &self.path_of(key), rule);
        }
    }
}

/// What kind of value it is, for messages. Never its content, which may be a secret.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
