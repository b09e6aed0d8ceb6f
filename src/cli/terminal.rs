//! Where the verbs write to: results to `out`, progress and failures to `err`.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use anyhow::Result;
use serde::Serialize;

/// How results are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document; for streams one a line.
    Json,
    /// YAML.
    Yaml,
}

/// A result could not be written: most often the reader has closed the pipe.
#[derive(Debug, thiserror::Error)]
#[error("failed to write the result")]
pub struct WriteError(#[from] std::io::Error);

impl WriteError {
    /// Whether the reader has gone, which is no failure.
    pub fn is_closed_pipe(&self) -> bool {
        self.0.kind() == std::io::ErrorKind::BrokenPipe
    }
}

/// Both outputs of the process, or of a test.
pub struct Terminal<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Progress and failures.
    pub err: &'a mut dyn Write,
    /// Whether `err` is a terminal, where a line may be drawn again.
    pub redraws: bool,
}

impl Terminal<'_> {
    /// Whether the process' own standard error is a terminal that understands cursor movement.
    pub fn stderr_redraws() -> bool {
        std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// Writes a line of result.
    pub fn line(&mut self, text: impl Display) -> Result<()> {
        writeln!(self.out, "{text}").and_then(|()| self.out.flush()).map_err(WriteError)?;
        Ok(())
    }

    /// Writes bytes of result as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).and_then(|()| self.out.flush()).map_err(WriteError)?;
        Ok(())
    }

    /// Writes progress as it is; it is worth nothing once standard error is closed.
    pub fn progress(&mut self, text: &str) {
        let _ = self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush());
    }

    /// Writes a result: the table for people, the view for programs.
    pub fn result<V: Serialize, T: Display>(
        &mut self,
        format: Format,
        view: &V,
        table: impl FnOnce() -> T,
    ) -> Result<()> {
        let text = match format {
            Format::Table => table().to_string(),
            Format::Json => serde_json::to_string_pretty(view)? + "\n",
            Format::Yaml => serde_saphyr::to_string(view)?,
        };
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).map_err(WriteError)?;
        Ok(())
    }
}
