//! Parses the YAML or JSON of a kubeconfig: one document of bounded size, which errors never quote.

use serde_json::{Map, Value};
use serde_saphyr::Error;

use super::problem::{Read, problem};
use crate::yaml;

/// Bytes of a kubeconfig.
pub const LARGEST: usize = 1 << 20;
/// Upper bound of aliases for [`Aliases::Resolved`].
const MOST_ALIASES: usize = 1_000;

/// Handling of YAML aliases and merge keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aliases {
    /// Rejected, for servers: they can expand a small document to gigabytes.
    Refused,
    /// Resolved up to a bound.
    Resolved,
}

/// The only non-empty document.
pub(super) fn read(text: &str, aliases: Aliases) -> Read<Map<String, Value>> {
    if text.len() > LARGEST {
        return rule("must not be larger than 1 MiB");
    }
    let mut documents = parse(text, aliases)?;
    let document = match documents.len() {
        0 => return rule("is empty"),
        1 => documents.pop(),
        _ => return rule("holds several documents, and must be one"),
    };
    let Some(Value::Object(document)) = document else {
        return rule("is not a kubeconfig: it is no mapping");
    };
    match document.get("kind").and_then(Value::as_str) {
        None | Some("" | "Config") => Ok(document),
        Some("List") => rule("is a list of objects (kind: List) and not a kubeconfig"),
        Some("Secret") => {
            rule("is a Secret and not a kubeconfig: give the text that is in its data, decoded")
        }
        Some(_) => rule("is not a kubeconfig: its kind is not Config"),
    }
}

fn rule<T>(rule: impl Into<String>) -> Read<T> {
    problem("(document)", rule)
}

fn parse(text: &str, aliases: Aliases) -> Read<Vec<Value>> {
    let max_aliases = if aliases == Aliases::Resolved { MOST_ALIASES } else { 0 };
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        budget: serde_saphyr::budget! { max_aliases: max_aliases },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_alias_expansions_per_anchor: 100,
        },
    };
    match serde_saphyr::from_multiple_with_options::<Value>(text, options) {
        Ok(documents) => Ok(documents.into_iter().filter(|document| !document.is_null()).collect()),
        Err(error) => match serde_json::from_str(text) {
            // JSON allows things that YAML does not, such as tabs.
            Ok(document)
                if text.trim_start().starts_with('{')
                    && !matches!(error.without_snippet(), Error::DuplicateMappingKey { .. }) =>
            {
                Ok(vec![document])
            }
            _ => rule(yaml::fault(&error, text)),
        },
    }
}
