//! Reports a failed verb: for people a sentence and details that it lacks, for programs one object.

use std::error::Error;
use std::fmt::Write;

use clap::error::ErrorKind;
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::{ErrorDetail, StatusExt};

pub use self::file::{FileProblems, Problem};
use super::interrupt::{self, Interrupted};
use super::table::{Layout, Table, WIDTH, clean, paragraphs, plain, sentence};
use super::terminal::{Format, WriteError};
use proto::codes;

mod file;

/// Success, also if the reader of the output has closed it.
pub const SUCCESS: u8 = 0;
/// The server rejected the call, a file is wrong, or something else failed.
pub const FAILED: u8 = 1;
/// The command line is wrong; the code of clap.
pub const USAGE: u8 = 2;

/// A wrong command line that clap cannot detect; exit code [`USAGE`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// A command in a workspace ended with this code, which is passed on; nothing is printed, since the command was to speak.
#[derive(Debug, thiserror::Error)]
#[error("the command ended with exit code {0}")]
pub struct ExitedWith(pub u8);

/// A failure for programs (`-o json`, `-o yaml`).
#[derive(Debug, Serialize)]
struct ErrorView {
    error: FailureView,
}

#[derive(Debug, Serialize)]
struct FailureView {
    /// The gRPC code; `USAGE` for a wrong command line, `FAILED` for other failures on this side.
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    message: String,
    details: Vec<DetailView>,
}

#[derive(Debug, Serialize)]
struct DetailView {
    kind: String,
    subject: String,
    description: String,
}

/// Exit code and text for standard error: for people wrapped at `width`, if that is a terminal.
pub fn report(error: &anyhow::Error, format: Format, width: Option<usize>) -> (u8, String) {
    if error.downcast_ref::<WriteError>().is_some_and(WriteError::is_closed_pipe) {
        return (SUCCESS, String::new());
    }
    if let Some(ExitedWith(code)) = error.downcast_ref::<ExitedWith>() {
        return (*code, String::new());
    }
    let code = if error.downcast_ref::<Usage>().is_some() {
        USAGE
    } else if error.downcast_ref::<Interrupted>().is_some() {
        interrupt::EXIT_CODE
    } else {
        FAILED
    };
    let text = match format {
        Format::Table => for_people(error, width, Layout::Fit(width.unwrap_or(WIDTH))),
        Format::Wide => for_people(error, None, Layout::Wide),
        format => for_programs(format, &view(error)),
    };
    (code, text)
}

/// Reports a command line that clap rejects, to people in clap's words.
pub fn of_parser(error: &clap::Error, format: Format, width: Option<usize>) -> String {
    let text = error.render().to_string();
    match format {
        Format::Table | Format::Wide => width.map_or_else(|| text.clone(), |width| paragraphs(&text, width)),
        format => {
            let message = parser_message(error, &text);
            for_programs(format, &ErrorView::of("USAGE", message))
        }
    }
}

/// Sentence and tips of clap, without its usage and its pointer to `--help`.
fn parser_message(error: &clap::Error, text: &str) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a verb is missing; --help lists them".to_owned();
    }
    let mut parts = text.split("\n\n");
    let sentence = parts.next().unwrap_or_default().trim_start_matches("error:");
    let tips = parts.filter(|part| part.trim_start().starts_with("tip:"));
    let words = |part: &str| part.split_whitespace().collect::<Vec<_>>().join(" ");
    std::iter::once(sentence).chain(tips).map(|part| clean(&words(part))).collect::<Vec<_>>().join("; ")
}

fn for_programs(format: Format, view: &ErrorView) -> String {
    match format {
        Format::Yaml => serde_saphyr::to_string(view).unwrap_or_default(),
        _ => serde_json::to_string(view).unwrap_or_default() + "\n",
    }
}

fn for_people(error: &anyhow::Error, width: Option<usize>, layout: Layout) -> String {
    let (context, status) = parts(error);
    let mut text = String::from("spaceport");
    for part in context.iter().cloned().chain(status.map(describe)) {
        let _ = write!(text, ": {part}");
    }
    let mut table = Table::new([plain("DETAIL"), plain("SUBJECT"), sentence("DESCRIPTION")]);
    for detail in status.map(details_of).into_iter().flatten() {
        if let Some(left) = detail.beyond(&text) {
            table.row([detail.kind, detail.subject, left]);
        }
    }
    let text = width.map_or_else(|| text.clone(), |width| paragraphs(&text, width)) + "\n";
    if table.is_empty() { text } else { text + &table.render(layout) }
}

impl ErrorView {
    fn of(code: &'static str, message: String) -> Self {
        Self { error: FailureView { code, reason: None, message, details: Vec::new() } }
    }
}

fn view(error: &anyhow::Error) -> ErrorView {
    let (mut message, status) = parts(error);
    message.extend(status.map(sentence_of));
    let code = match status {
        Some(status) => codes::name(status.code()),
        None if error.downcast_ref::<Usage>().is_some() => "USAGE",
        None => "FAILED",
    };
    let mut view = ErrorView::of(code, message.join(": "));
    view.error.reason = status.and_then(reason_of);
    view.error.details = status.map(details_of).unwrap_or_default();
    if let Some(file) = error.downcast_ref::<FileProblems>() {
        view.error.message = file.summary();
        view.error.details = file.problems.iter().map(DetailView::from).collect();
    }
    view
}

impl From<&Problem> for DetailView {
    fn from(problem: &Problem) -> Self {
        let Problem { field, rule } = problem.clone();
        Self { kind: "field".to_owned(), subject: field, description: rule }
    }
}

/// What was tried, and the server's status.
fn parts(error: &anyhow::Error) -> (Vec<String>, Option<&Status>) {
    let mut context = Vec::new();
    for cause in error.chain() {
        if let Some(status) = cause.downcast_ref::<Status>() {
            return (context, Some(status));
        }
        context.push(cause.to_string());
    }
    (context, None)
}

/// The code's name, the message, and the root cause of a failed connection.
pub fn describe(status: &Status) -> String {
    format!("{}: {}", codes::name(status.code()), sentence_of(status))
}

/// Reasons of a call that changed nothing, although it failed with a code that leaves that open: the state of some cluster
/// is not known yet, no service got the call, or the replica that got it does not lead. Other failures that pass have
/// reasons that the server also gives after its first write.
const UNCHANGED: [&str; 3] = ["CLUSTERS_NOT_KNOWN", "NOT_SERVED", "NOT_LEADER"];

/// Whether a failure passes: a later call may succeed.
pub fn passes(status: &Status) -> bool {
    matches!(status.code(), Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled | Code::Unknown)
}

/// Whether it is open what the server did: no response does not mean rejected.
pub fn leaves_open(status: &Status) -> bool {
    passes(status) && !reason_of(status).is_some_and(|reason| UNCHANGED.contains(&reason.as_str()))
}

fn sentence_of(status: &Status) -> String {
    let mut text = clean(status.message());
    if let Some(reason) = status.source().map(root_cause).filter(|reason| !text.contains(reason.as_str())) {
        let _ = write!(text, " ({reason})");
    }
    text
}

/// The message of the innermost cause, the most specific one.
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    clean(&innermost.to_string())
}

/// Reason from the server's error details, for programs.
fn reason_of(status: &Status) -> Option<String> {
    status.get_error_details_vec().into_iter().find_map(|detail| match detail {
        ErrorDetail::ErrorInfo(info) => Some(info.reason),
        _ => None,
    })
}

/// Every detail as text; details that cannot be decoded are left out.
fn details_of(status: &Status) -> Vec<DetailView> {
    let mut details = Vec::new();
    let mut add = |kind: &str, subject: &str, description: &str| {
        let [kind, subject, description] = [kind, subject, description].map(str::to_owned);
        details.push(DetailView { kind, subject, description });
    };
    for detail in status.get_error_details_vec() {
        match detail {
            ErrorDetail::BadRequest(bad) => {
                bad.field_violations.iter().for_each(|v| add("field", &v.field, &v.description));
            }
            ErrorDetail::PreconditionFailure(failure) => {
                failure.violations.iter().for_each(|v| add(&v.r#type, &v.subject, &v.description));
            }
            ErrorDetail::QuotaFailure(failure) => {
                failure.violations.iter().for_each(|v| add("quota", &v.subject, &v.description));
            }
            ErrorDetail::ErrorInfo(info) => {
                let mut metadata: Vec<_> = info.metadata.iter().collect();
                metadata.sort();
                for (key, value) in metadata {
                    add(&info.reason, key, value);
                }
            }
            ErrorDetail::ResourceInfo(info) => {
                add(&info.resource_type, &info.resource_name, &info.description);
            }
            ErrorDetail::Help(help) => help.links.iter().for_each(|l| add("help", &l.url, &l.description)),
            _ => {}
        }
    }
    details
}

impl DetailView {
    /// The part of a detail that a sentence lacks; `None` if it has everything.
    fn beyond(&self, sentence: &str) -> Option<String> {
        // A sentence often has the message of a field without its path.
        let subject = self.subject.rsplit('.').next().unwrap_or_default();
        if !has_word(sentence, &clean(subject)) {
            return Some(self.description.clone());
        }
        if self.kind == "WORKSPACE" {
            // One of those that the sentence names.
            return None;
        }
        let is_new = |part: &&str| !sentence.contains(clean(part.trim_end_matches("...")).as_str());
        let left: Vec<&str> = self.description.split("; ").filter(is_new).collect();
        if left.is_empty() { None } else { Some(left.join("; ")) }
    }
}

/// Whether a text contains a name as a whole word.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

#[cfg(test)]
mod tests;
