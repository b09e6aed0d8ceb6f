//! Reads a mapping field by field and remembers everything that is wrong with it, where serde stops at the first.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value};

/// Everything that is wrong with a file: the path of the field, and the rule.
#[derive(Debug, Default)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Remembers one.
    pub fn add(&mut self, path: &str, rule: impl Display) {
        self.0.push(if path.is_empty() { rule.to_string() } else { format!("{path}: {rule}") });
    }

    /// All of them, in the order of the file.
    pub fn into_vec(self) -> Vec<String> {
        self.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// A mapping that is being read.
pub struct Fields<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// A value that must be a mapping.
    pub fn of(value: &'a Value, path: String, problems: &mut Problems) -> Self {
        if !value.is_object() {
            problems.add(&path, format_args!("must be a mapping, not {}", kind(value)));
        }
        Self { path, map: value.as_object(), asked: Vec::new() }
    }

    /// The path of one of the fields.
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A field, absent when null.
    pub fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.push(name);
        self.map?.get(name).filter(|value| !value.is_null())
    }

    /// A text.
    pub fn text(&mut self, name: &'static str, problems: &mut Problems) -> Option<String> {
        let value = self.get(name)?;
        if let Some(text) = value.as_str() {
            return Some(text.to_owned());
        }
        problems.add(&self.path_of(name), format_args!("must be a text, not {}", kind(value)));
        None
    }

    /// A text that keeps the rule of a type.
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

    /// Such a text that must be there.
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

    /// A whole number that is not negative.
    pub fn number(&mut self, name: &'static str, default: u32, problems: &mut Problems) -> u32 {
        let Some(value) = self.get(name) else { return default };
        value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_else(|| {
            problems.add(&self.path_of(name), format_args!("must be a whole number from 0 up, not {value}"));
            default
        })
    }

    /// True or false; false when absent.
    pub fn flag(&mut self, name: &'static str, problems: &mut Problems) -> bool {
        let Some(value) = self.get(name) else { return false };
        value.as_bool().unwrap_or_else(|| {
            problems.add(&self.path_of(name), format_args!("must be true or false, not {}", kind(value)));
            false
        })
    }

    /// A list; empty when absent.
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

    /// A mapping; empty when absent.
    pub fn mapping(&mut self, name: &'static str, problems: &mut Problems) -> BTreeMap<String, &'a Value> {
        let Some(value) = self.get(name) else { return BTreeMap::new() };
        if !value.is_object() {
            problems.add(&self.path_of(name), format_args!("must be a mapping, not {}", kind(value)));
        }
        value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value)).collect()
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self, problems: &mut Problems) {
        for key in self.map.into_iter().flat_map(Map::keys) {
            if !self.asked.contains(&key.as_str()) {
                let known = self.asked.join(", ");
                problems.add(&self.path_of(key), format_args!("is no known key; known are {known}"));
            }
        }
    }
}

/// What a value is, for people. Never its content, which may be a secret.
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
