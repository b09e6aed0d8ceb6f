//! What a failed verb says: one sentence, then the details that the server gave, as a table.

use std::error::Error;
use std::fmt::Write;

use tonic::{Code, Status};
use tonic_types::{ErrorDetail, StatusExt};

use super::table::{Table, clean};
use super::terminal::WriteError;

/// The command line is wrong in a way that clap cannot see; exit code 2, as clap's own.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The exit code, and what to print on standard error.
pub fn report(error: &anyhow::Error) -> (u8, String) {
    if error.downcast_ref::<WriteError>().is_some_and(WriteError::is_closed_pipe) {
        return (0, String::new());
    }
    let mut sentence = String::from("spaceport");
    let mut details = String::new();
    for cause in error.chain() {
        let Some(status) = cause.downcast_ref::<Status>() else {
            let _ = write!(sentence, ": {cause}");
            continue;
        };
        let _ = write!(sentence, ": {}", describe(status));
        details = details_of(status);
        break;
    }
    (if error.downcast_ref::<Usage>().is_some() { 2 } else { 1 }, sentence + "\n" + &details)
}

/// The code's name, the message, and the reason below where the connection failed.
pub fn describe(status: &Status) -> String {
    let mut text = format!("{}: {}", code_name(status.code()), clean(status.message()));
    if let Some(reason) = status.source().map(root_cause).filter(|reason| !text.contains(reason.as_str())) {
        let _ = write!(text, " ({reason})");
    }
    text
}

/// The message of the innermost cause: the outer ones of the transport say little.
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    clean(&innermost.to_string())
}

/// The code's name as in the protocol's documentation.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Every detail that a person can use; what cannot be decoded is left out.
fn details_of(status: &Status) -> String {
    let mut table = Table::new(["DETAIL", "SUBJECT", "DESCRIPTION"]);
    let mut rows = 0;
    let mut row = |kind: &str, subject: &str, description: &str| {
        rows += 1;
        table.row([kind, subject, description].map(str::to_owned));
    };
    for detail in status.get_error_details_vec() {
        match detail {
            ErrorDetail::BadRequest(bad) => {
                bad.field_violations.iter().for_each(|v| row("field", &v.field, &v.description));
            }
            ErrorDetail::PreconditionFailure(failure) => {
                failure.violations.iter().for_each(|v| row(&v.r#type, &v.subject, &v.description));
            }
            ErrorDetail::QuotaFailure(failure) => {
                failure.violations.iter().for_each(|v| row("quota", &v.subject, &v.description));
            }
            ErrorDetail::ErrorInfo(info) => {
                let mut metadata: Vec<_> = info.metadata.iter().collect();
                metadata.sort();
                if metadata.is_empty() {
                    row("reason", &info.reason, &info.domain);
                }
                for (key, value) in metadata {
                    row(&info.reason, key, value);
                }
            }
            ErrorDetail::ResourceInfo(info) => {
                row(&info.resource_type, &info.resource_name, &info.description);
            }
            ErrorDetail::Help(help) => help.links.iter().for_each(|l| row("help", &l.url, &l.description)),
            _ => {}
        }
    }
    if rows == 0 { String::new() } else { table.to_string() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use anyhow::Context;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_status_is_told_by_code_message_and_details() {
        let mut details = ErrorDetails::with_error_info(
            "NO_CLUSTER_FITS",
            "spaceport.dev",
            HashMap::from([
                ("us".to_owned(), "is cordoned".to_owned()),
                ("eu".to_owned(), "is lost".to_owned()),
            ]),
        );
        details.add_bad_request_violation("spec.class", "is unknown");
        let status = Status::with_error_details(Code::FailedPrecondition, "no cluster fits", details);
        let (code, text) = report(&Err::<(), _>(status).context("start a").unwrap_err());
        assert_eq!(code, 1);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "spaceport: start a: FAILED_PRECONDITION: no cluster fits");
        assert!(lines.contains(&"NO_CLUSTER_FITS  eu          is lost"), "{text}");
        assert!(lines.contains(&"NO_CLUSTER_FITS  us          is cordoned"), "{text}");
        assert!(lines.contains(&"field            spec.class  is unknown"), "{text}");
    }

    #[test]
    fn a_wrong_command_line_ends_with_2_and_a_closed_pipe_with_0() {
        assert_eq!(report(&Usage("no server".to_owned()).into()), (2, "spaceport: no server\n".to_owned()));
        let closed = WriteError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(report(&closed.into()), (0, String::new()));
    }
}
