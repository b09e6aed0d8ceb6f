//! Error messages for YAML and JSON: the rest of a sentence about the file, with line and column. They use only the kind of an
//! error: the parsers' own messages name their options and types, and can quote the text, which may contain a secret.

use serde_saphyr::Error;

const NEITHER: &str = "is neither YAML nor JSON";

/// The rest of a sentence about a text that is not YAML, such as `has a key twice (line 3, column 5)`.
pub fn fault(error: &Error, text: &str) -> String {
    let error = error.without_snippet();
    let at = match error {
        Error::DuplicateMappingKey { location, .. } => Some(*location),
        error => error.location(),
    };
    let place = at.map(|at| place(at.line(), at.column())).unwrap_or_default();
    match error {
        Error::AliasError { error, .. } => fault(error, text),
        Error::DuplicateMappingKey { .. } => format!("has a key twice{place}"),
        Error::MultipleDocuments { .. } => format!("holds several documents, and must be one{place}"),
        Error::UnknownAnchor { .. } => format!("has a YAML alias whose anchor is not there{place}"),
        Error::MergeValueNotMapOrSeqOfMaps { .. } | Error::MergeKeyNotAllowed { .. } => {
            format!("has a merge key (`<<`) that merges no mapping{place}")
        }
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => {
            format!("uses YAML aliases, or is larger or deeper than any file of its kind{place}")
        }
        Error::ExternalMessage { msg, .. } => format!("{NEITHER}{place}{}", hint(msg, text)),
        _ => format!("{NEITHER}{place}{}", tab(text).unwrap_or_default()),
    }
}

/// The same for a text that must be JSON.
pub fn json_fault(error: &serde_json::Error) -> String {
    let (line, column) = (error.line() as u64, error.column() as u64);
    let rule = if error.is_eof() { "ends before its JSON is complete" } else { "is not JSON" };
    format!("{rule}{}", place(line, column))
}

fn place(line: u64, column: u64) -> String {
    match (line, column) {
        (0, _) => String::new(),
        (line, 0) => format!(" (line {line})"),
        (line, column) => format!(" (line {line}, column {column})"),
    }
}

/// A hint for people, by the message of the scanner.
fn hint(message: &str, text: &str) -> String {
    const HINTS: [(&str, &str); 9] = [
        ("unclosed quote", ": a quote is not closed"),
        ("quoted scalar", ": a quoted text is not closed, or has a wrong escape"),
        ("bracket", ": a bracket is not closed, or does not fit the one before"),
        ("flow mapping", ": a `{` is not closed, or a comma is missing"),
        ("flow sequence", ": a `[` is not closed, or a comma is missing"),
        ("mapping values are not allowed", ": a `:` stands in a value; put the value in quotes"),
        ("simple key", ": a key has no `:` after it"),
        ("did not find expected key", ": the line is indented unlike those above"),
        ("indent", ": the line is indented unlike those above"),
    ];
    if let Some(tab) = tab(text) {
        return tab;
    }
    HINTS
        .iter()
        .find(|(part, _)| message.contains(part))
        .map(|(_, hint)| (*hint).to_owned())
        .unwrap_or_default()
}

/// A line that is indented with a tab.
fn tab(text: &str) -> Option<String> {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let line = text.lines().position(|line| line[..indentation(line)].contains('\t'))?;
    Some(format!(": line {} is indented with a tab", line + 1))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn said(text: &str) -> String {
        fault(&serde_saphyr::from_str::<Value>(text).unwrap_err(), text)
    }

    #[test]
    fn messages_have_line_and_column_and_quote_neither_the_library_nor_the_text() {
        for (text, expected) in [
            ("a: 1\nhunter2: 2\nhunter2: 3\n", "has a key twice (line 3, column 1)"),
            ("{\"a\": 1, \"a\": 2}", "has a key twice (line 1, column "),
            ("a: 1\n---\nb: 2\n", "holds several documents, and must be one (line "),
            ("a: *hunter2\n", "has a YAML alias whose anchor is not there (line 1, column 4)"),
            ("a:\n\tb: hunter2\n", "is neither YAML nor JSON (line 2, column "),
            ("a:\n\tb: hunter2\n", ": line 2 is indented with a tab"),
            ("a: [hunter2, 2\nb: 3\n", "is neither YAML nor JSON (line "),
            ("a: \"hunter2\nb: 3\n", "quote"),
            ("a: hunter2: 2\n", ": a `:` stands in a value; put the value in quotes"),
            ("a:\n    b: 1\n  hunter2: 2\n", ": the line is indented unlike those above"),
        ] {
            let told = said(text);
            assert!(told.contains(expected), "{text:?}: {told}");
            for word in ["hunter2", "Policy", "from_", "_str", "scalar", "serde"] {
                assert!(!told.contains(word), "{text:?}: {told}");
            }
        }
        let error = serde_json::from_str::<Value>("{\n  \"a\": x}").unwrap_err();
        assert_eq!(json_fault(&error), "is not JSON (line 2, column 8)");
        let error = serde_json::from_str::<Value>("{\"a\": 1,\n").unwrap_err();
        assert!(json_fault(&error).starts_with("ends before its JSON is complete (line "));
    }
}
