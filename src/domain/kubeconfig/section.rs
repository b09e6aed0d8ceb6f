//! Typed access to the fields of a cluster or a user of a kubeconfig. Empty fields are absent.

use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::{DecodePaddingMode, Engine as _};
use serde_json::{Map, Value};

use super::problem::{Read, problem};

/// Base64 with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Fields of one object.
#[derive(Clone)]
pub struct Section {
    path: &'static str,
    map: Map<String, Value>,
}

/// A text as kubectl reads it: whole numbers and booleans are texts, too.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// Whether a value is what tools write for a field that is not set.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        _ => false,
    }
}

impl Section {
    /// The object at a path; absent or null is empty.
    pub(super) fn of(path: &'static str, value: Option<&Value>) -> Read<Self> {
        let mut map = match value {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(map)) => map.clone(),
            Some(_) => return problem(path, "must be a mapping"),
        };
        map.retain(|_, value| !is_empty(value));
        Ok(Self { path, map })
    }

    /// Path of a field.
    pub fn field(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// Whether a field is present and not empty.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The raw value of a field.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.map.get(key)
    }

    /// The extension of a name.
    pub(super) fn extension(&self, name: &str) -> Option<&Value> {
        let extensions = self.value("extensions")?.as_array()?;
        extensions.iter().find(|extension| extension["name"] == name)?.get("extension")
    }

    /// A text, trimmed.
    pub fn text(&self, key: &str) -> Read<Option<String>> {
        let Some(value) = self.map.get(key) else { return Ok(None) };
        match scalar(value) {
            Some(text) => Ok(Some(text.trim().to_owned())),
            None if value.is_number() => problem(self.field(key), "is a number: put it in quotes"),
            None => problem(self.field(key), "must be a text"),
        }
    }

    /// Texts; empty if the field is absent.
    pub fn texts(&self, key: &str) -> Read<Vec<String>> {
        let Some(value) = self.map.get(key) else { return Ok(Vec::new()) };
        let list = value.as_array().map(|list| list.iter().map(scalar).collect::<Option<Vec<_>>>());
        list.flatten().map_or_else(|| problem(self.field(key), "must be a list of texts"), Ok)
    }

    /// A boolean in YAML 1.1 or 1.2.
    pub fn flag(&self, key: &str) -> Read<bool> {
        let Some(text) = self.text(key)? else { return Ok(false) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "1" => Ok(true),
            "false" | "no" | "off" | "n" | "0" => Ok(false),
            _ => problem(self.field(key), "must be true or false"),
        }
    }

    /// Bytes of a `-data` field: base64, on one line or wrapped.
    pub fn data(&self, key: &str) -> Read<Option<Vec<u8>>> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        if text.contains("-----BEGIN") {
            return problem(self.field(key), "is PEM as it is, and must be base64 of it");
        }
        let joined: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        LENIENT
            .decode(joined)
            .map_or_else(|_| problem(self.field(key), "is not base64"), |data| Ok(Some(data)))
    }

    /// Replaces a field.
    pub fn set(&mut self, key: &str, value: Value) {
        self.map.insert(key.to_owned(), value);
    }

    /// Removes a field.
    pub fn remove(&mut self, key: &str) {
        self.map.remove(key);
    }

    /// An object with only these texts and `-data` fields, each on one line.
    pub(super) fn only(&self, texts: &[&str], data: &[&str]) -> Read<Value> {
        let mut map = Map::new();
        for key in texts {
            if let Some(text) = self.text(key)? {
                map.insert((*key).to_owned(), text.into());
            }
        }
        for key in data {
            if let Some(bytes) = self.data(key)? {
                map.insert((*key).to_owned(), STANDARD.encode(bytes).into());
            }
        }
        Ok(map.into())
    }
}
