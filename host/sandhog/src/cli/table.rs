//! Tables for people: plain text, as wide as its cells.

use std::io::{self, Write};

/// A table with a heading. Numbers are aligned to the right, and the last column is never padded.
pub(crate) struct TextTable {
    columns: Vec<TextColumn>,
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Copy)]
pub(crate) enum TextColumn {
    Text(&'static str),
    Number(&'static str),
}

impl TextTable {
    pub(crate) fn new(columns: Vec<TextColumn>) -> Self {
        Self { columns, rows: vec![] }
    }

    /// Adds a row of cells that are safe to print.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn write(self, output: &mut dyn Write) -> io::Result<()> {
        let heading = self.columns.iter().map(|column| column.heading().to_owned()).collect();
        let rows: Vec<Vec<String>> = std::iter::once(heading).chain(self.rows).collect();
        let width = |index: usize| {
            rows.iter()
                .filter_map(|row| row.get(index))
                .map(|cell| cell.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(|index| width(index).unwrap_or(0)).collect();
        for row in &rows {
            let mut line = String::new();
            for ((cell, column), width) in row.iter().zip(&self.columns).zip(&widths) {
                let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
                line.extend(match column {
                    TextColumn::Text(_) => [cell, gap.as_str(), "  "],
                    TextColumn::Number(_) => [gap.as_str(), cell, "  "],
                });
            }
            writeln!(output, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl TextColumn {
    fn heading(self) -> &'static str {
        match self {
            Self::Text(heading) | Self::Number(heading) => heading,
        }
    }
}
