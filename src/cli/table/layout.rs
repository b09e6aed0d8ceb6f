//! Measures of tables and of wrapped text, in columns of the terminal.

/// Width of a terminal of unknown width, and of a pipe.
pub const WIDTH: usize = 80;
/// Spaces between columns.
pub(super) const GAP: usize = 2;
/// Indentation of what is below a row.
pub(super) const INDENT: usize = 4;

/// Layout of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The main columns, in lines of at most this width.
    Fit(usize),
    /// Every column, one row per line.
    Wide,
}
