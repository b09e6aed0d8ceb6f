//! Edits a contexts file in its text, entry by entry: comments, order, relative paths and everything else stay.
//! Understands YAML block mappings and JSON. The caller parses the result again and compares: what this does not
//! understand is rejected, never guessed.

use serde_json::{Map, Value};

use self::json::Document;
use super::context::{ConfigFile, Context, ContextName};

mod json;

/// The key of the current context.
const CURRENT: &str = "currentContext";
const CONTEXTS: &str = "contexts";

/// The text of a file with `old` changed to `new`; `None` if its form cannot be edited.
pub fn apply(text: &str, old: &ConfigFile, new: &ConfigFile) -> Option<String> {
    if text.trim_start().starts_with('{') {
        return in_json(text, old, new);
    }
    let mut lines = Lines::of(text);
    for name in old.contexts.keys().filter(|name| !new.contexts.contains_key(name)) {
        lines.remove_context(name)?;
    }
    for (name, context) in &new.contexts {
        match old.contexts.get(name) {
            None => lines.add_context(name, &changes(None, context))?,
            Some(before) => {
                for (key, value) in changes(Some(before), context) {
                    lines.set_in_context(name, key, value.as_ref())?;
                }
            }
        }
    }
    if old.current_context != new.current_context {
        lines.set_current(new.current_context.as_ref())?;
    }
    Some(lines.text())
}

/// Settings that differ, with their new values; `None` removes one.
fn changes(before: Option<&Context>, after: &Context) -> Vec<(&'static str, Option<Value>)> {
    let of = |context: &Context| match serde_json::to_value(context) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let (before, after) = (before.map(of).unwrap_or_default(), of(after));
    ["endpoints", "ca", "cert", "key", "serverName", "timeout"]
        .into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| (key, after.get(key).cloned()))
        .collect()
}

fn in_json(text: &str, old: &ConfigFile, new: &ConfigFile) -> Option<String> {
    let mut document = Document::of(text)?;
    for name in old.contexts.keys().filter(|name| !new.contexts.contains_key(name)) {
        document.remove(&[CONTEXTS], &name.to_string())?;
    }
    for (name, context) in &new.contexts {
        let path = name.to_string();
        if !old.contexts.contains_key(name) {
            document.set(&[CONTEXTS], &path, &Value::Object(Map::new()))?;
        }
        for (key, value) in changes(old.contexts.get(name), context) {
            match value {
                Some(value) => document.set(&[CONTEXTS, &path], key, &value)?,
                None => document.remove(&[CONTEXTS, &path], key)?,
            }
        }
    }
    match &new.current_context {
        unchanged if *unchanged == old.current_context => {}
        Some(name) => document.set(&[], CURRENT, &name.to_string().into())?,
        None => document.remove(&[], CURRENT)?,
    }
    Some(document.into_text())
}

/// The lines of a file, without line ends.
struct Lines {
    lines: Vec<String>,
    end: &'static str,
}

/// An entry of a block mapping: its first line up to its last content.
#[derive(Debug, Clone)]
struct Entry {
    key: String,
    indent: usize,
    first: usize,
    /// Index after its last line that is not only a comment.
    after: usize,
    /// Column of its value on the first line.
    value: usize,
}

impl Lines {
    fn of(text: &str) -> Self {
        let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
        Self { lines: text.lines().map(str::to_owned).collect(), end }
    }

    fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line.as_str(), self.end]).collect()
    }

    fn set_current(&mut self, name: Option<&ContextName>) -> Option<()> {
        let entry = self.root()?.into_iter().find(|entry| entry.key == CURRENT);
        let value = name.map(|name| Value::from(name.to_string()));
        match (entry, value) {
            (Some(entry), value) => self.replace(&entry, value.as_ref()),
            (None, Some(value)) => {
                let line = format!("{CURRENT}: {}", written(&value));
                self.lines.push(line);
                Some(())
            }
            (None, None) => Some(()),
        }
    }

    fn set_in_context(&mut self, name: &ContextName, key: &str, value: Option<&Value>) -> Option<()> {
        let context = self.context(name)?;
        let fields = self.below(&context)?;
        if let Some(entry) = fields.iter().find(|entry| entry.key == key) {
            return self.replace(entry, value);
        }
        let Some(value) = value else { return Some(()) };
        let indent = fields.first().map_or(context.indent + 2, |field| field.indent);
        self.lines.insert(context.after, format!("{}{key}: {}", " ".repeat(indent), written(value)));
        Some(())
    }

    fn add_context(&mut self, name: &ContextName, settings: &[(&str, Option<Value>)]) -> Option<()> {
        let contexts = if let Some(contexts) = self.root()?.into_iter().find(|entry| entry.key == CONTEXTS) {
            contexts
        } else {
            self.lines.push(format!("{CONTEXTS}:"));
            self.root()?.into_iter().find(|entry| entry.key == CONTEXTS)?
        };
        let others = self.below(&contexts)?;
        let indent = others.first().map_or(contexts.indent + 2, |other| other.indent);
        let margin = " ".repeat(indent);
        let mut lines = vec![format!("{margin}{}:", written(&name.to_string().into()))];
        for (key, value) in settings {
            lines.extend(value.as_ref().map(|value| format!("{margin}  {key}: {}", written(value))));
        }
        self.lines.splice(contexts.after..contexts.after, lines);
        Some(())
    }

    fn remove_context(&mut self, name: &ContextName) -> Option<()> {
        let context = self.context(name)?;
        self.lines.drain(context.first..context.after);
        let contexts = self.root()?.into_iter().find(|entry| entry.key == CONTEXTS)?;
        if self.below(&contexts)?.is_empty() {
            self.lines[contexts.first].insert_str(contexts.value, " {}");
        }
        Some(())
    }

    fn context(&mut self, name: &ContextName) -> Option<Entry> {
        let contexts = self.root()?.into_iter().find(|entry| entry.key == CONTEXTS)?;
        self.below(&contexts)?.into_iter().find(|entry| entry.key == name.to_string())
    }

    /// Replaces the value of an entry, or removes the entry. A comment on its line stays.
    fn replace(&mut self, entry: &Entry, value: Option<&Value>) -> Option<()> {
        let Some(value) = value else {
            self.lines.drain(entry.first..entry.after);
            return Some(());
        };
        let line = self.lines.get(entry.first)?;
        let rest = &line[entry.value..];
        let comment = rest.len() - comment_of(rest)?.len();
        let kept = rest[comment..].to_owned();
        let space = &rest[..comment][rest[..comment].trim_end().len()..];
        let gap = if kept.is_empty() {
            ""
        } else if space.is_empty() {
            " "
        } else {
            space
        };
        let line = format!("{} {}{gap}{kept}", &line[..entry.value], written(value));
        self.lines.splice(entry.first..entry.after, [line]);
        Some(())
    }

    fn root(&self) -> Option<Vec<Entry>> {
        self.entries(0..self.lines.len(), None)
    }

    /// The entries of a nested mapping. An empty one (`{}`) is turned into a block mapping.
    fn below(&mut self, entry: &Entry) -> Option<Vec<Entry>> {
        let rest = &self.lines.get(entry.first)?[entry.value..];
        let comment = comment_of(rest)?;
        match rest[..rest.len() - comment.len()].trim() {
            "" => self.entries(entry.first + 1..entry.after, Some(entry.indent)),
            "{}" | "~" | "null" => {
                let comment = if comment.is_empty() { String::new() } else { format!(" {comment}") };
                let line = &mut self.lines[entry.first];
                line.truncate(entry.value);
                line.push_str(&comment);
                Some(Vec::new())
            }
            // A flow mapping, an anchor, an alias or a tag.
            _ => None,
        }
    }

    /// The entries of one block mapping in a range of lines, indented deeper than `above`.
    fn entries(&self, range: std::ops::Range<usize>, above: Option<usize>) -> Option<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        for at in range {
            let line = self.lines.get(at)?;
            let content = line.trim_start_matches(' ');
            let indent = line.len() - content.len();
            if content.trim().is_empty()
                || content.starts_with('#')
                || (indent == 0 && line.trim_end() == "---")
            {
                continue;
            }
            match entries.last_mut() {
                // A list may be at the indentation of its key.
                Some(last)
                    if indent > last.indent || (indent == last.indent && content.starts_with("- ")) =>
                {
                    last.after = at + 1;
                }
                Some(last) if indent < last.indent => return None,
                None if above.is_some_and(|above| indent <= above) => return None,
                _ => {
                    let (key, value) = key_of(content)?;
                    entries.push(Entry { key, indent, first: at, after: at + 1, value: indent + value });
                }
            }
        }
        Some(entries)
    }
}

/// The key at the start of a line, and the column after its colon.
fn key_of(content: &str) -> Option<(String, usize)> {
    let is_end = |rest: &str| rest.is_empty() || rest.starts_with([' ', '\t', '\r']);
    if let Some(quote) = content.chars().next().filter(|first| matches!(first, '"' | '\'')) {
        let close = content[1..].find(quote)? + 1;
        let (quoted, rest) = content.split_at(close + 1);
        let value = rest.strip_prefix(':').filter(|rest| is_end(rest))?;
        let key = if quote == '"' { serde_json::from_str(quoted).ok()? } else { quoted[1..close].to_owned() };
        return Some((key, content.len() - value.len()));
    }
    let (colon, _) = content.match_indices(':').find(|(at, _)| is_end(&content[at + 1..]))?;
    let key = content[..colon].trim_end();
    // Anchors, tags, explicit keys and flow collections are not plain keys.
    (!key.starts_with(['&', '*', '!', '?', '{', '[', '|', '>', '-', '%', '@', '`']))
        .then(|| (key.to_owned(), colon + 1))
}

/// The comment at the end of a value; empty if there is none.
fn comment_of(rest: &str) -> Option<&str> {
    let value = rest.trim_start();
    let start = rest.len() - value.len();
    let quoted = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].find(quote)? + 2,
        _ => 0,
    };
    let from = start + quoted;
    if from < rest.len() && rest[from..].starts_with('#') && from > 0 && quoted == 0 {
        return Some(&rest[from..]);
    }
    Some(rest[from..].find(" #").map_or("", |at| &rest[from + at + 1..]))
}

/// A value on one line.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        Value::Array(values) => format!("[{}]", values.iter().map(written).collect::<Vec<_>>().join(", ")),
        // JSON is valid YAML.
        value => value.to_string(),
    }
}

/// Whether a text needs no quotes, in lists too.
fn is_plain(text: &str) -> bool {
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._@:-".contains(c))
        && !text.ends_with(':')
        && !words.contains(&text.to_ascii_lowercase().as_str())
}
