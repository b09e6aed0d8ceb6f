//! What is wrong with a request, gathered while it is parsed.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use tonic::Status;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::brief::Violations;
use domain::duration::GoDuration;

/// What is wrong with a request: every problem, not only the first. As many are listed as an error has room for, the others
/// are counted; what is quoted is shortened and escaped.
#[derive(Debug, Default)]
pub struct Problems(Violations);

impl Problems {
    /// Notes that a field breaks a rule.
    pub fn add(&mut self, field: impl Display, rule: impl Display) {
        self.0.add(field, rule);
    }

    /// Parses a field, or notes why it cannot be.
    pub fn parse<T>(&mut self, field: &str, text: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        text.parse().map_err(|error: T::Err| self.add(field, error)).ok()
    }

    /// Like [`Self::parse`], for a field that may be empty.
    pub fn optional<T>(&mut self, field: &str, text: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        if text.is_empty() { None } else { self.parse(field, text) }
    }

    /// A Go duration of zero or more in whole milliseconds, which is what the resource can hold.
    pub(super) fn duration(&mut self, field: &str, text: &str) -> Option<Duration> {
        let duration = self.optional::<GoDuration>(field, text)?;
        let Ok(duration) = duration.to_std() else {
            self.add(field, "must not be negative");
            return None;
        };
        if !duration.subsec_nanos().is_multiple_of(1_000_000) {
            self.add(field, "must be in whole milliseconds");
            return None;
        }
        Some(duration)
    }

    /// The value where there are no problems, else `INVALID_ARGUMENT` with all of them.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Status> {
        match value {
            Some(value) if self.0.count() == 0 => Ok(value),
            _ => Err(self.into_status()),
        }
    }

    /// Names of the fields that are listed.
    #[cfg(test)]
    pub(super) fn fields(self) -> Vec<String> {
        self.0.into_listed().map(|(field, _)| field).collect()
    }

    fn into_status(self) -> Status {
        let sentences = self.0.sentences();
        let violations = self.0.into_listed().map(|(field, rule)| FieldViolation::new(field, rule));
        let mut details = ErrorDetails::new();
        details.set_bad_request(violations.collect::<Vec<_>>());
        Status::with_error_details(tonic::Code::InvalidArgument, sentences, details)
    }
}
