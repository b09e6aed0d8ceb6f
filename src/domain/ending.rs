//! How a workspace ended: a small part of its last state, which is kept in its record until the record expires.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::text::is_unsafe;
use super::workspace::{Phase, View};

/// Bytes of each text.
const LONGEST: usize = 1024;

/// Last observed state of a workspace. Its texts are bounded, and URLs in them have no passwords or signatures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a condition of its own")]
pub struct Ending {
    /// Name of the phase before it began to stop; `Stopping` or `Stopped` if that was not observed. Text, so that a phase of
    /// a later version can be read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// The sentence for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Which timeout ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Termination message of the headless task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headless_task_failed: Option<String>,
    /// Why the last backup failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_failed: Option<String>,
    /// A pod was seen.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deployed: bool,
    /// A stop was requested.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stopped_by_request: bool,
    /// It was stopped without a backup.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub aborted: bool,
    /// The content was initialized.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub content_ready: bool,
    /// The last backup is complete.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub final_backup_complete: bool,
    /// When its user was first seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_user_activity: Option<Timestamp>,
}

impl Ending {
    /// The ending of a workspace by its last view. `phase` is the one before it began to stop; `message` says why it ended.
    pub fn of(last: &View, phase: Phase, message: &str) -> Self {
        let seen = &last.conditions;
        let text = |text: &Option<String>| text.as_deref().map(bounded);
        Self {
            phase: format!("{phase:?}"),
            message: bounded(message),
            failed: text(&seen.failed),
            timeout: text(&seen.timeout),
            headless_task_failed: text(&seen.headless_task_failed),
            backup_failed: text(&seen.backup_failed),
            deployed: seen.deployed,
            stopped_by_request: seen.stopped_by_request,
            aborted: seen.aborted,
            content_ready: seen.content_ready,
            final_backup_complete: seen.final_backup_complete,
            first_user_activity: seen.first_user_activity,
        }
    }
}

/// Bounds and redacts a text: one line, at most [`LONGEST`] bytes, and URLs without user, password and query.
pub(crate) fn bounded(text: &str) -> String {
    let mut short = String::with_capacity(text.len().min(LONGEST));
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let end = after.find(|c: char| c.is_whitespace() || "\"'`<>|".contains(c)).unwrap_or(after.len());
        let (url, next) = after.split_at(end);
        short.extend([before, "://", bare(url).as_str()]);
        rest = next;
    }
    short.push_str(rest);
    let mut line: String = short.chars().map(|c| if is_unsafe(c) { ' ' } else { c }).collect();
    if line.len() > LONGEST {
        line.truncate(line.floor_char_boundary(LONGEST - '…'.len_utf8()));
        line.push('…');
    }
    line
}

/// The rest of a URL after the scheme, without credentials.
fn bare(url: &str) -> String {
    let (url, query) = match url.find(['?', '#']) {
        Some(at) => (&url[..at], "?…"),
        None => (url, ""),
    };
    let (authority, path) = url.split_at(url.find('/').unwrap_or(url.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{host}{path}{query}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{PlacementRecord, RecordState};
    use crate::workspace::Conditions;

    fn last(failed: &str) -> View {
        let conditions =
            Conditions { failed: Some(failed.to_owned()), deployed: true, ..Conditions::default() };
        let record = PlacementRecord::sample(RecordState::Confirmed);
        View { owner_token: "hunter2".to_owned(), conditions, ..View::of_record(&record) }
    }

    #[test]
    fn credentials_are_redacted() {
        for (text, expected) in [
            (
                "git clone 'https://jane:hunter2@h.example/a.git' failed",
                "git clone 'https://h.example/a.git' failed",
            ),
            ("GET https://s3.example/a?X-Amz-Signature=hunter2 is 403", "GET https://s3.example/a?… is 403"),
            ("https://a@b:hunter2@h and ssh://git@h/x#hunter2", "https://h and ssh://h/x?…"),
            ("no URL: a@b.example?", "no URL: a@b.example?"),
            ("two\\nlines\u{1b}[31m", "two\\nlines [31m"),
        ] {
            assert_eq!(bounded(text), expected);
        }
    }

    proptest! {
        #[test]
        fn whatever_the_texts_are_an_ending_is_small(text in "\\PC{0,3000}|[a-z:/@?é…\u{1b} ]{0,3000}") {
            let ending = Ending::of(&last(&text), Phase::Running, &text);
            prop_assert!(ending.failed.as_ref().unwrap().len() <= LONGEST);
            prop_assert!(ending.message.chars().all(|c| !is_unsafe(c)));
            prop_assert!(serde_json::to_vec(&ending).unwrap().len() <= 5 * LONGEST);
        }

        #[test]
        fn a_password_in_a_url_is_redacted(user in "[a-z]{1,8}", path in "[a-z/]{0,20}", around in "[a-z \"'(]{0,20}") {
            let kept = bounded(&format!("{around} https://{user}:pass-word-1@h.example/{path} {around}"));
            prop_assert!(!kept.contains("pass-word-1"), "{}", kept);
        }
    }
}
