//! Logs: one line for each event on standard error, as JSON or text, with a filter that can be changed at run time.

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::str::FromStr;

use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

/// Why logs cannot be set up, or their filter cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter does not parse.
    #[error("{filter:?} is not a log filter such as info or info,spaceport=debug")]
    InvalidFilter {
        /// The given text.
        filter: String,
        /// Cause.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logs were already set up in this process.
    #[error("logs are set up already")]
    AlreadySet(#[from] tracing::subscriber::SetGlobalDefaultError),
    /// The filter is no longer in use.
    #[error("failed to change the log filter")]
    Reload(#[from] reload::Error),
}

/// Format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object per line, for machines.
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

    /// The current filter.
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
    let is_coloured = is_coloured(
        std::io::stderr().is_terminal(),
        std::env::var_os("NO_COLOR").as_deref(),
        std::env::var_os("TERM").as_deref(),
    );
    subscriber_to(std::io::stderr, is_coloured, format, filter)
}

/// Colours are only for terminals that support them, unless `NO_COLOR` is set (<https://no-color.org>).
fn is_coloured(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

fn subscriber_to<W>(
    writer: W,
    is_coloured: bool,
    format: Format,
    filter: &str,
) -> Result<(impl tracing::Subscriber + Send + Sync + use<W>, LogFilter), Error>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let lines = fmt::layer().with_writer(writer).with_ansi(is_coloured);
    let lines = match format {
        // Span fields stay in a list: flattened, fields of nested spans would overwrite one another.
        Format::Json => lines.json().flatten_event(true).boxed(),
        Format::Text => lines.boxed(),
    };
    let quiet = FilterFn::new(|metadata| !is_indiscreet(metadata.target()));
    Ok((Registry::default().with(filter).with(quiet).with(lines), LogFilter(handle)))
}

/// Whether a target is never logged, whatever the filter says: the Kubernetes client logs requests and responses, which contain
/// secrets.
fn is_indiscreet(target: &str) -> bool {
    ["kube_client", "kube_runtime", "kube_core"].iter().any(|library| target.starts_with(library))
}

fn parse(filter: &str) -> Result<EnvFilter, Error> {
    let filter = filter.trim();
    EnvFilter::from_str(filter).map_err(|source| Error::InvalidFilter { filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// Output of a log.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, is_coloured: bool) -> String {
        let written = Written::default();
        let writer = written.clone();
        let (subscriber, _filter) =
            subscriber_to(move || writer.clone(), is_coloured, format, "info").unwrap();
        tracing::subscriber::with_default(subscriber, || tracing::warn!(field = "value", "message"));
        let bytes = written.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn only_a_terminal_gets_colours() {
        assert!(logged(Format::Text, true).contains('\u{1b}'));
        for format in [Format::Text, Format::Json] {
            let line = logged(format, false);
            assert!(line.contains("message") && !line.contains('\u{1b}'), "{line:?}");
        }
        let some = |text: &'static str| Some(OsStr::new(text));
        for (expected, is_terminal, no_color, term) in [
            (true, true, None, None),
            (true, true, some(""), some("xterm")),
            (false, true, some("1"), None),
            (false, true, None, some("dumb")),
            (false, false, None, some("xterm")),
        ] {
            assert_eq!(is_coloured(is_terminal, no_color, term), expected, "{no_color:?} {term:?}");
        }
    }

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

    #[test]
    fn no_filter_lets_the_kubernetes_client_log_what_it_gets() {
        let (subscriber, _filter) = subscriber(Format::Json, "trace,kube_client::client=trace").unwrap();
        let _guard = tracing::subscriber::set_default(subscriber);
        assert!(tracing::enabled!(tracing::Level::TRACE));
        assert!(!tracing::enabled!(target: "kube_client::client", tracing::Level::WARN));
        assert!(!tracing::enabled!(target: "kube_runtime::watcher", tracing::Level::WARN));
    }
}
