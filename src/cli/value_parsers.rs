//! Parsers of numbers, durations, times and pairs on the command line. Their errors name the range; those of the
//! libraries speak of digits and integers.

use std::fmt::Display;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

use domain::duration::GoDuration;

/// A whole number within a range.
pub fn whole<T: FromStr + PartialOrd + Display + Copy>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
    }
}

/// A whole number with a lower bound only.
pub fn at_least<T: FromStr + PartialOrd + Display + Copy>(
    least: T,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| *number >= least);
        number.ok_or_else(|| format!("must be a whole number from {least} up"))
    }
}

/// A port of a workspace.
pub fn port(text: &str) -> Result<NonZeroU16, &'static str> {
    text.parse().map_err(|_| "must be a port from 1 to 65535")
}

/// A Go duration above zero, such as `90s` or `1h30m`.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = zero_or_more(text)?.to_std().map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("must be above zero".to_owned()) } else { Ok(duration) }
}

/// A Go duration above zero and at most `most`, which `words` names.
pub fn duration_up_to(
    most: Duration,
    words: &'static str,
) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        let duration = positive_duration(text)?;
        if duration > most { Err(format!("must be at most {words}")) } else { Ok(duration) }
    }
}

/// A Go duration of zero or more.
pub fn zero_or_more(text: &str) -> Result<GoDuration, String> {
    let duration: GoDuration = text.parse().map_err(|error: domain::duration::Error| error.to_string())?;
    if duration.is_negative() { Err("must not be negative".to_owned()) } else { Ok(duration) }
}

/// A limit after which a workspace stops. The API takes 0 as "at once".
pub fn limit(text: &str) -> Result<GoDuration, String> {
    match zero_or_more(text)? {
        GoDuration::ZERO => {
            Err("must be above zero: a workspace with a limit of 0 stops as soon as it runs. Without the flag the manager's \
                 configured limit holds"
                .to_owned())
        }
        limit => Ok(limit),
    }
}

/// A timestamp.
pub fn time(text: &str) -> Result<Timestamp, &'static str> {
    text.parse().map_err(|_| "must be a time such as 2026-01-02T03:04:05Z")
}

/// `KEY=VALUE`; the value may be empty and may hold further `=`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_duration_above_zero() {
        assert_eq!(positive_duration("1m30s"), Ok(Duration::from_secs(90)));
        for bad in ["0s", "-1s", "30", "", "-"] {
            assert!(positive_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_duration_with_a_bound_names_it() {
        let bounded = duration_up_to(Duration::from_hours(720), "30 days (720h)");
        assert_eq!(bounded("720h"), Ok(Duration::from_hours(720)));
        assert_eq!(bounded("720h1ns"), Err("must be at most 30 days (720h)".to_owned()));
        assert!(bounded("0").is_err());
    }

    #[test]
    fn numbers_name_their_range() {
        let weight = whole(0..=1000_u32);
        assert_eq!((weight("0"), weight("1000")), (Ok(0), Ok(1000)));
        for bad in ["-1", "1001", "ten", "", "99999999999999999999", "1.5"] {
            assert_eq!(weight(bad), Err("must be a whole number from 0 to 1000".to_owned()), "{bad}");
        }
        assert_eq!(at_least(1_i64)("-1"), Err("must be a whole number from 1 up".to_owned()));
        assert_eq!(
            (port("8080"), port("0")),
            (Ok(8080.try_into().unwrap()), Err("must be a port from 1 to 65535"))
        );
        assert!(time("tomorrow").is_err() && time("2026-01-02T03:04:05Z").is_ok());
    }
}
