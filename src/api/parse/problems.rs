//! Violations of a request, collected while it is parsed.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use tonic::Status;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::error_text::Violations;
use domain::duration::GoDuration;

/// All violations of a request, not only the first. Lists as many as an error has space for and counts the others;
/// quoted values are shortened and escaped.
#[derive(Debug, Default)]
pub struct Problems(Violations);

impl Problems {
    /// Records that a field breaks a rule.
    pub fn add(&mut self, field: impl Display, rule: impl Display) {
        self.0.add(field, rule);
    }

    /// Parses a field, or records why it is invalid.
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

    /// A Go duration of zero or more in whole milliseconds, the unit of the resource.
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

    /// The value, or `INVALID_ARGUMENT` with all problems.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Status> {
        match value {
            Some(value) if self.0.count() == 0 => Ok(value),
            _ => Err(self.into_status()),
        }
    }

    /// Names of the listed fields.
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
