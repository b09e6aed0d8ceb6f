//! Columns for people: aligned with spaces, no frames, safe to show whatever a server sent.

use std::fmt::{self, Write};

/// Rows under a header. A cell without text is shown as `-`.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with column titles.
    pub fn new<const N: usize>(titles: [&str; N]) -> Self {
        Self { rows: vec![titles.iter().map(|&title| title.to_owned()).collect()] }
    }

    /// Names at the left, values at the right; values without text are left out.
    pub fn of_fields<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let mut table = Self::default();
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            table.rows.push(vec![format!("{name}:"), clean(&value)]);
        }
        table
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let shown = |cell: String| if cell.is_empty() { "-".to_owned() } else { clean(&cell) };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in &self.rows {
            widths.resize(row.len().max(widths.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, &width) in row.iter().zip(&widths) {
                write!(line, "{cell:width$}  ")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// One line without control characters: what came over the wire must not move a terminal's cursor.
pub fn clean(text: &str) -> String {
    let shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_spaces() {
        let mut table = Table::new(["NAME", "REGION", "REASON"]);
        table.row(["eu".to_owned(), "europe".to_owned(), String::new()]);
        table.row(["asia-long".to_owned(), "asia".to_owned(), "größer".to_owned()]);
        let expected = "NAME       REGION  REASON\neu         europe  -\nasia-long  asia    größer\n";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let mut table = Table::new(["A"]);
        table.row(["x\u{1b}[2Jy\nz".to_owned()]);
        assert_eq!(table.to_string(), "A\nx [2Jy z\n");
    }

    #[test]
    fn fields_without_a_value_are_left_out() {
        let table =
            Table::of_fields([("id", "a".to_owned()), ("message", String::new()), ("meta id", "b".into())]);
        assert_eq!(table.to_string(), "id:       a\nmeta id:  b\n");
    }
}
