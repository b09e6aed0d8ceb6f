//! Logs: one line an event on standard error, as JSON or text, with a filter that can change while running.

use std::str::FromStr;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

/// Why logs cannot be set up, or their filter not changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter does not parse.
    #[error("{filter:?} is not a log filter such as info or info,spaceport=debug")]
    InvalidFilter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else in the process has set up logs already.
    #[error("logs are set up already")]
    AlreadySet(#[from] tracing::subscriber::SetGlobalDefaultError),
    /// The filter is no longer in use.
    #[error("failed to change the log filter")]
    Reload(#[from] reload::Error),
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object a line, for machines.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Changes the filter of a running process.
#[derive(Debug, Clone)]
pub struct LogFilter(reload::Handle<EnvFilter, Registry>);

impl LogFilter {
    /// Replaces the filter. An invalid one changes nothing.
    pub fn set(&self, filter: &str) -> Result<(), Error> {
        Ok(self.0.reload(parse(filter)?)?)
    }

    /// The filter in force.
    pub fn current(&self) -> Result<String, Error> {
        Ok(self.0.with_current(ToString::to_string)?)
    }
}

/// Sets up the process's logs; once.
pub fn init(format: Format, filter: &str) -> Result<LogFilter, Error> {
    let (subscriber, handle) = subscriber(format, filter)?;
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(handle)
}

/// A subscriber and the handle of its filter, without installing it.
pub fn subscriber(
    format: Format,
    filter: &str,
) -> Result<(impl tracing::Subscriber + Send + Sync + use<>, LogFilter), Error> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        // Span fields stay in their own list: flattened, those of nested spans would overwrite one another.
        Format::Json => lines.json().flatten_event(true).boxed(),
        Format::Text => lines.boxed(),
    };
    Ok((Registry::default().with(filter).with(lines), LogFilter(handle)))
}

fn parse(filter: &str) -> Result<EnvFilter, Error> {
    let filter = filter.trim();
    EnvFilter::from_str(filter).map_err(|source| Error::InvalidFilter { filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_changes_while_running_and_bad_ones_change_nothing() {
        let (subscriber, filter) = subscriber(Format::Json, "info").unwrap();
        let _guard = tracing::subscriber::set_default(subscriber);
        assert!(!tracing::enabled!(tracing::Level::DEBUG));
        filter.set("debug\n").unwrap();
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        assert!(filter.set("spaceport=loud").is_err());
        assert_eq!(filter.current().unwrap(), "debug");
    }
}
