//! Edits a JSON file in its text: what does not change keeps its order and its layout.

use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::Value;

/// The text of a JSON object, in which entries are set and removed.
pub struct Document {
    text: String,
}

/// An entry of an object.
struct Entry {
    key: String,
    /// Where its key begins.
    first: usize,
    value: Range<usize>,
}

/// An object in the text.
struct Object {
    /// Its braces.
    open: usize,
    close: usize,
    entries: Vec<Entry>,
}

/// Something else is where an object must be.
struct NoObject;

impl Document {
    /// `None` if the text is not JSON.
    pub fn of(text: &str) -> Option<Self> {
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        Some(Self { text: text.to_owned() })
    }

    pub fn into_text(self) -> String {
        self.text
    }

    /// Sets an entry of the object at `path`; objects on the way that are missing or null are created.
    pub fn set(&mut self, path: &[&str], key: &str, value: &Value) -> Option<()> {
        if let Some((last, above)) = path.split_last()
            && self.object(path).ok()?.is_none()
        {
            self.set(above, last, &Value::Object(serde_json::Map::new()))?;
        }
        let object = self.object(path).ok()??;
        if let Some(entry) = object.entries.iter().find(|entry| entry.key == key) {
            self.text.replace_range(entry.value.clone(), &value.to_string());
            return Some(());
        }
        let entry = format!("{}: {value}", Value::from(key));
        match object.entries.as_slice() {
            [] => {
                let (before, after) = self.margins_of_first(object.open);
                self.text.replace_range(object.open + 1..object.close, &format!("{before}{entry}{after}"));
            }
            [others @ .., last] => {
                // Laid out as the last one: on a line of its own, or after a space.
                let start = others.last().map_or(object.open + 1, |other| other.value.end);
                let space = self.text[start..last.first].trim_start_matches([',', ' ', '\t']);
                let space = if space.contains('\n') { space } else { " " };
                let entry = format!(",{space}{entry}");
                self.text.insert_str(last.value.end, &entry);
            }
        }
        Some(())
    }

    /// Removes an entry of the object at `path`, if it is there.
    pub fn remove(&mut self, path: &[&str], key: &str) -> Option<()> {
        let Some(object) = self.object(path).ok()? else { return Some(()) };
        let Some(at) = object.entries.iter().position(|entry| entry.key == key) else { return Some(()) };
        let entry = &object.entries[at];
        let range = match (object.entries.get(at + 1), at.checked_sub(1)) {
            (Some(next), _) => entry.first..next.first,
            (None, Some(before)) => object.entries[before].value.end..entry.value.end,
            (None, None) => object.open + 1..object.close,
        };
        self.text.replace_range(range, "");
        Some(())
    }

    /// The object at a path; `None` if there is none, or null.
    fn object(&self, path: &[&str]) -> Result<Option<Object>, NoObject> {
        let mut at = self.text.find('{').ok_or(NoObject)?;
        for name in path {
            let entries = object_at(&self.text, at).ok_or(NoObject)?.entries;
            let Some(entry) = entries.into_iter().find(|entry| entry.key == *name) else { return Ok(None) };
            if self.text.get(entry.value.clone()) == Some("null") {
                return Ok(None);
            }
            at = entry.value.start;
        }
        object_at(&self.text, at).map(Some).ok_or(NoObject)
    }

    /// Space before and after the first entry of the object that opens at `open`: lines of their own if the file has such.
    fn margins_of_first(&self, open: usize) -> (String, String) {
        let before = &self.text[..open];
        let line = before.rfind('\n').map_or(before, |end| &before[end + 1..]);
        let indent = &line[..line.len() - line.trim_start().len()];
        let is_one_line = !self.text.trim_end().contains('\n') && before.contains('{');
        if is_one_line { <_>::default() } else { (format!("\n{indent}  "), format!("\n{indent}")) }
    }
}

/// The object that begins at an index of a valid JSON text; `None` if something else begins there.
fn object_at(text: &str, open: usize) -> Option<Object> {
    if !text.get(open..)?.starts_with('{') {
        return None;
    }
    let mut at = open + 1;
    let mut entries = Vec::new();
    loop {
        at += text.get(at..)?.find(|c: char| !c.is_whitespace() && c != ',')?;
        if text[at..].starts_with('}') {
            return Some(Object { open, close: at, entries });
        }
        let first = at;
        at = end_of_value(text, at)?;
        let key = serde_json::from_str(&text[first..at]).ok()?;
        at += text[at..].find(':')? + 1;
        at += text[at..].find(|c: char| !c.is_whitespace())?;
        let start = at;
        at = end_of_value(text, at)?;
        entries.push(Entry { key, first, value: start..at });
    }
}

/// The index after the value that begins at an index.
fn end_of_value(text: &str, start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let (mut in_string, mut escaped) = (false, false);
    for (at, c) in text.get(start..)?.char_indices() {
        let after = start + at + c.len_utf8();
        if in_string {
            (in_string, escaped) = (escaped || c != '"', !escaped && c == '\\');
            if !in_string && depth == 0 {
                return Some(after);
            }
            continue;
        }
        match c {
            '"' => in_string = true,
            '{' | '[' => depth += 1,
            // A number or a word ends before what follows it.
            ',' | '}' | ']' if depth == 0 => return Some(start + at),
            c if c.is_whitespace() && depth == 0 => return Some(start + at),
            '}' | ']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(after);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn edited(text: &str, edit: impl FnOnce(&mut Document) -> Option<()>) -> Option<String> {
        let mut document = Document::of(text)?;
        edit(&mut document)?;
        Some(document.into_text())
    }

    const LINES: &str =
        "{\n  \"z\": {\n    \"b\": [1, \"]\\\"}\"],\n    \"a\": null\n  },\n  \"c\": \"x\"\n}\n";

    #[test]
    fn a_value_is_replaced_where_it_stands() {
        let set = |path: &'static [&str], key: &'static str| {
            edited(LINES, move |document| document.set(path, key, &json!("new"))).unwrap()
        };
        assert_eq!(set(&["z"], "b"), LINES.replace(r#"[1, "]\"}"]"#, "\"new\""));
        assert_eq!(set(&[], "c"), LINES.replace("\"x\"", "\"new\""));
        assert_eq!(set(&["z"], "a"), LINES.replace("null", "\"new\""));
    }

    #[test]
    fn an_entry_is_added_after_the_last_one_in_the_same_layout() {
        let set = |text: &str, path: &[&str]| edited(text, |document| document.set(path, "n", &json!([1])));
        let expected = LINES.replace("\"a\": null\n", "\"a\": null,\n    \"n\": [1]\n");
        assert_eq!(set(LINES, &["z"]).unwrap(), expected);
        assert_eq!(set(LINES, &[]).unwrap(), LINES.replace("\"x\"\n", "\"x\",\n  \"n\": [1]\n"));
        assert_eq!(set(r#"{"b": 1, "a": {}}"#, &[]).unwrap(), r#"{"b": 1, "a": {}, "n": [1]}"#);
        assert_eq!(set(r#"{"b": 1, "a": {}}"#, &["a"]).unwrap(), r#"{"b": 1, "a": {"n": [1]}}"#);
        assert_eq!(set("{}", &[]).unwrap(), "{\n  \"n\": [1]\n}");
        let expected = LINES.replace("null", "{\n      \"n\": [1]\n    }");
        assert_eq!(set(LINES, &["z", "a"]).unwrap(), expected, "null counts as missing");
        let expected = LINES.replace("\"x\"\n", "\"x\",\n  \"d\": {\n    \"n\": [1]\n  }\n");
        assert_eq!(set(LINES, &["d"]).unwrap(), expected);
        assert_eq!(set(LINES, &["c"]), None, "a text has no entries");
    }

    #[test]
    fn an_entry_is_removed_with_its_comma() {
        let remove = |text: &str, path: &[&str], key: &str| {
            edited(text, |document| document.remove(path, key)).unwrap()
        };
        assert_eq!(remove(LINES, &[], "c"), LINES.replace(",\n  \"c\": \"x\"", ""));
        assert_eq!(remove(LINES, &["z"], "b"), LINES.replace("\"b\": [1, \"]\\\"}\"],\n    ", ""));
        assert_eq!(remove(r#"{"a": {"b": 1}}"#, &["a"], "b"), r#"{"a": {}}"#);
        assert_eq!(remove(LINES, &["z"], "none"), LINES);
        assert_eq!(remove(LINES, &["none"], "b"), LINES);
    }

    #[test]
    fn what_is_not_json_is_not_edited() {
        for text in ["{a: 1}", "{\"a\": 1} # mine", "{\"a\": 1", ""] {
            assert!(Document::of(text).is_none(), "{text}");
        }
    }
}
