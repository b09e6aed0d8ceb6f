//! Tables for people: aligned with spaces, without frames, safe for any text that a server sends.
//!
//! A table fits the width of the terminal: it has few columns, and notes below its rows; `-o wide` shows every column,
//! one row per line. Sentences wrap at words inside their column, or move below their row if the column would be too
//! narrow. Nothing is cut, so that everything can be copied: a word wider than the line extends past it.

use unicode_width::UnicodeWidthStr;

use domain::text::is_unsafe;

mod layout;
mod wrap;

pub use layout::{Layout, WIDTH};
pub use wrap::{columns, paragraphs, wrapped};

use layout::{GAP, INDENT};

/// A column of sentences narrower than this moves below the row.
const NARROWEST: usize = 24;

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Wide,
    Sentence,
    Note,
}

/// A column that is always shown.
pub const fn plain(title: &'static str) -> Column {
    Column { title, kind: Kind::Plain }
}

/// A column that only `-o wide` shows.
pub const fn wide(title: &'static str) -> Column {
    Column { title, kind: Kind::Wide }
}

/// A column of sentences, at most one per table: wraps, or moves below the row.
pub const fn sentence(title: &'static str) -> Column {
    Column { title, kind: Kind::Sentence }
}

/// Shown below its row with its title, if it has a text; `-o wide` shows it as a column.
pub const fn note(title: &'static str) -> Column {
    Column { title, kind: Kind::Note }
}

/// Rows under a header. An empty cell is shown as `-`.
#[derive(Debug, Default)]
pub struct Table {
    columns: Vec<Column>,
    has_header: bool,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(columns: [Column; N]) -> Self {
        Self { columns: columns.to_vec(), has_header: true, rows: Vec::new() }
    }

    /// Names on the left, values on the right; entries without a value are left out.
    pub fn of_fields<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let named = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let rows = named.map(|(name, value)| vec![format!("{name}:"), clean(&value)]).collect();
        Self { columns: vec![plain(""), sentence("")], has_header: false, rows }
    }

    /// Adds a row; missing cells are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| clean(&cell)).collect());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Renders the table; each line ends with a line break.
    pub fn render(&self, layout: Layout) -> String {
        let plan = self.plan(layout);
        let mut lines = Vec::new();
        if self.has_header {
            let titles = plan.columns.iter().map(|&(at, _)| vec![self.columns[at].title.to_owned()]);
            plan.compose(&titles.collect::<Vec<_>>(), &mut lines);
        }
        for row in &self.rows {
            let mut below = plan.below.clone();
            let cells = plan.columns.iter().map(|&(at, width)| match row.get(at).map(String::as_str) {
                None => Vec::new(),
                Some("") => vec!["-".to_owned()],
                Some(text) if self.is_too_narrow(at, width, text) => {
                    below.push(at);
                    Vec::new()
                }
                Some(text) => wrap::words(text, width),
            });
            plan.compose(&cells.collect::<Vec<_>>(), &mut lines);
            below.sort_unstable();
            for at in below {
                let Some(text) = row.get(at).filter(|text| !text.is_empty()) else { continue };
                let note = format!("{}: {text}", self.columns[at].title.to_lowercase());
                lines.extend(wrap::indented(&note, plan.line));
            }
        }
        lines.iter().flat_map(|line| [line.trim_end(), "\n"]).collect()
    }

    fn plan(&self, layout: Layout) -> Plan {
        let natural: Vec<usize> = (0..self.columns.len()).map(|at| self.natural(at)).collect();
        let Layout::Fit(line) = layout else {
            let columns = natural.into_iter().enumerate().collect();
            return Plan { columns, below: Vec::new(), line: usize::MAX };
        };
        let plain = self.of(Kind::Plain);
        let left = line.saturating_sub(plain.iter().map(|&at| natural[at] + GAP).sum());
        let is_narrow = |at: usize| self.has_header && left < natural[at].min(NARROWEST);
        let (under, beside): (Vec<usize>, Vec<usize>) =
            self.of(Kind::Sentence).into_iter().partition(|&at| is_narrow(at));
        let mut columns = self.widths(&plain, &natural, line);
        columns.extend(beside.into_iter().map(|at| (at, natural[at].min(left.max(NARROWEST)))));
        let below = [under, self.of(Kind::Note)].concat();
        columns.sort_unstable();
        Plan { columns, below, line }
    }

    fn of(&self, kind: Kind) -> Vec<usize> {
        (0..self.columns.len()).filter(|&at| self.columns[at].kind == kind).collect()
    }

    /// Whether a sentence has a word that is wider than its column.
    fn is_too_narrow(&self, at: usize, width: usize, text: &str) -> bool {
        let is_sentence = self.has_header && self.columns[at].kind == Kind::Sentence;
        is_sentence && text.split_whitespace().any(|word| word.width() > width)
    }

    /// Columns and their widths in a line: their natural widths, reduced where they do not fit, the widest first. Words
    /// that extend past a column do not count.
    fn widths(&self, columns: &[usize], natural: &[usize], line: usize) -> Vec<(usize, usize)> {
        let available = line.saturating_sub(columns.len().saturating_sub(1) * GAP);
        let width = |at: usize, most: usize| {
            if natural[at] <= most { natural[at] } else { self.widest_line(at, most) }
        };
        let fits = |most: &usize| columns.iter().map(|&at| width(at, *most)).sum::<usize>() <= available;
        let most = (1..=line).rev().find(fits).unwrap_or(1);
        columns.iter().map(|&at| (at, width(at, most))).collect()
    }

    /// Width of a column if nothing wraps.
    fn natural(&self, at: usize) -> usize {
        self.cells(at).map(UnicodeWidthStr::width).max().unwrap_or_default().max(self.title_width(at))
    }

    /// Width of a column whose cells wrap at `width`, ignoring words that do not fit.
    fn widest_line(&self, at: usize, width: usize) -> usize {
        let lines = self.cells(at).flat_map(|cell| wrap::words(cell, width));
        let fitting = lines.map(|line| line.width()).filter(|&taken| taken <= width);
        fitting.max().unwrap_or_default().max(self.title_width(at))
    }

    fn title_width(&self, at: usize) -> usize {
        if self.has_header { self.columns[at].title.width() } else { 0 }
    }

    fn cells(&self, at: usize) -> impl Iterator<Item = &str> {
        let cells = self.rows.iter().filter_map(move |row| row.get(at));
        cells.map(|cell| if cell.is_empty() { "-" } else { cell.as_str() })
    }
}

/// Positions of columns.
struct Plan {
    /// Index and width of each column in the line.
    columns: Vec<(usize, usize)>,
    /// Columns that are shown below the row.
    below: Vec<usize>,
    /// Width of a line.
    line: usize,
}

impl Plan {
    /// Lines of one row. A text wider than its column moves the next column to a new line.
    fn compose(&self, cells: &[Vec<String>], lines: &mut Vec<String>) {
        let height = cells.iter().map(Vec::len).max().unwrap_or_default();
        for nth in 0..height {
            let (mut line, mut start) = (String::new(), 0);
            for (cell, &(_, width)) in cells.iter().zip(&self.columns) {
                let at = start;
                start += width + GAP;
                let Some(text) = cell.get(nth) else { continue };
                let sticks_out = at > 0 && at.saturating_add(text.width()) > self.line;
                let at = if sticks_out { at.min(INDENT) } else { at };
                let taken = line.width();
                if taken > 0 && (sticks_out || taken + GAP > at) {
                    lines.push(std::mem::take(&mut line));
                }
                line.push_str(&" ".repeat(at.saturating_sub(line.width())));
                line.push_str(text);
            }
            if !line.is_empty() {
                lines.push(line);
            }
        }
    }
}

/// Tables below each other, with an empty line between them.
#[derive(Debug, Default)]
pub struct Page(Vec<Table>);

impl Page {
    /// Tables without rows are left out.
    pub fn of(tables: impl IntoIterator<Item = Table>) -> Self {
        Self(tables.into_iter().filter(|table| !table.is_empty()).collect())
    }

    /// Renders the tables; each line ends with a line break.
    pub fn render(&self, layout: Layout) -> String {
        self.0.iter().map(|table| table.render(layout)).collect::<Vec<_>>().join("\n")
    }
}

impl From<Table> for Page {
    fn from(table: Table) -> Self {
        Self(vec![table])
    }
}

/// One line without unsafe characters: text from the wire must not move a terminal's cursor or hide text.
pub fn clean(text: &str) -> String {
    let shown: String = text.chars().map(|c| if is_unsafe(c) { ' ' } else { c }).collect();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
