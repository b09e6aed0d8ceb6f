//! Output of the verbs: results to `out`, progress and failures to `err`.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use anyhow::Result;
use serde::Serialize;

use super::table::{Layout, Page, WIDTH, clean, wrapped};

/// Minimum width; narrower terminals get lines of this width.
const NARROWEST: usize = 40;

/// How results are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Tables that fit the terminal, or 80 columns.
    #[default]
    Table,
    /// Tables with every column, one row a line.
    Wide,
    /// One JSON document; for streams one per line.
    Json,
    /// YAML.
    Yaml,
}

impl Format {
    /// Whether the output is for people.
    pub fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// A result could not be written, usually because the reader has closed the pipe.
#[derive(Debug, thiserror::Error)]
#[error("failed to write the result")]
pub struct WriteError(#[from] std::io::Error);

impl WriteError {
    /// Whether the reader has closed the pipe, which is no failure.
    pub fn is_closed_pipe(&self) -> bool {
        self.0.kind() == std::io::ErrorKind::BrokenPipe
    }
}

/// Both output streams of the process, or of a test.
pub struct Terminal<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Progress and failures.
    pub err: &'a mut dyn Write,
    /// Whether `err` is a terminal, where a line can be redrawn.
    pub redraws: bool,
    /// Columns of a line of `out`.
    pub width: usize,
    /// Columns of a line of `err`, where that is a terminal; elsewhere sentences are not wrapped.
    pub err_width: Option<usize>,
}

impl Terminal<'_> {
    /// Whether standard error of the process is a terminal that supports cursor movement.
    pub fn stderr_redraws() -> bool {
        std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// Columns of the terminal on standard output; 80 if it is none.
    pub fn stdout_width() -> usize {
        let size = terminal_size::terminal_size_of(std::io::stdout());
        size.map_or(WIDTH, |(width, _)| usize::from(width.0).max(NARROWEST))
    }

    /// Columns of the terminal on standard error.
    pub fn stderr_width() -> Option<usize> {
        let size = terminal_size::terminal_size_of(std::io::stderr());
        size.map(|(width, _)| usize::from(width.0).max(NARROWEST))
    }

    /// Layout of tables in a format.
    pub fn layout(&self, format: Format) -> Layout {
        if format == Format::Wide { Layout::Wide } else { Layout::Fit(self.width) }
    }

    /// Writes one line of a result.
    pub fn line(&mut self, text: impl Display) -> Result<()> {
        writeln!(self.out, "{text}").and_then(|()| self.out.flush()).map_err(WriteError)?;
        Ok(())
    }

    /// Writes one sentence of a result, wrapped at words.
    pub fn sentence(&mut self, format: Format, text: &str) -> Result<()> {
        self.line(wrapped(&clean(text), self.layout(format)))
    }

    /// Writes bytes of a result unchanged.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).and_then(|()| self.out.flush()).map_err(WriteError)?;
        Ok(())
    }

    /// Writes progress; errors are ignored, because standard error may be closed.
    pub fn progress(&mut self, text: &str) {
        let _ = self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush());
    }

    /// Writes tables as progress.
    pub fn progress_page(&mut self, format: Format, page: impl Into<Page>) {
        let text = page.into().render(self.layout(format));
        self.progress(&text);
    }

    /// Writes a result: tables for people, the view for programs.
    pub fn result<V: Serialize, P: Into<Page>>(
        &mut self,
        format: Format,
        view: &V,
        page: impl FnOnce() -> P,
    ) -> Result<()> {
        let text = match format {
            Format::Table | Format::Wide => page().into().render(self.layout(format)),
            Format::Json => serde_json::to_string_pretty(view)? + "\n",
            Format::Yaml => serde_saphyr::to_string(view)?,
        };
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).map_err(WriteError)?;
        Ok(())
    }
}
