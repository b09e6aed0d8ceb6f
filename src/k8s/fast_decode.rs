//! Decoding of objects without their managed fields, which are half of the text of a pod.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

/// Start of an object's managed fields. Inside a JSON string the quotation marks would have backslashes.
const MANAGED_FIELDS: &str = "\"managedFields\":[";

/// Decodes an object from an apiserver's response, without its managed fields.
pub fn read<K: DeserializeOwned>(text: &str) -> serde_json::Result<K> {
    serde_json::from_str(&without_managed_fields(text))
}

/// The same text with an empty list of managed fields.
pub fn without_managed_fields(text: &str) -> Cow<'_, str> {
    let Some(at) = text.find(MANAGED_FIELDS) else { return Cow::Borrowed(text) };
    let begin = at + MANAGED_FIELDS.len();
    let Some(length) = text.get(begin..).and_then(length_of_list) else { return Cow::Borrowed(text) };
    let (before, after) = (text.get(..begin), text.get(begin + length..));
    Cow::Owned([before.unwrap_or_default(), after.unwrap_or_default()].concat())
}

/// Bytes up to the bracket that closes a list whose opening bracket was cut off.
fn length_of_list(text: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'[' if !quoted => depth += 1,
            b']' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_the_end_of_the_list_is_left_as_it_is() {
        assert_eq!(without_managed_fields(r#"{"managedFields":[{"#), r#"{"managedFields":[{"#);
    }
}
