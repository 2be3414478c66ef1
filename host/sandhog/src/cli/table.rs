//! Tables for people: plain text, as wide as its cells, or as the terminal.

use std::io::{self, Write};

/// The least width to which a column is cut.
const MIN_WIDTH: usize = 8;

/// A table with a heading. Numbers are aligned to the right, and the last column is never padded.
pub(crate) struct TextTable {
    columns: Vec<TextColumn>,
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Copy)]
pub(crate) enum TextColumn {
    Text(&'static str),
    /// Text that is cut where the table would be too wide.
    Cuttable(&'static str),
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
        self.write_within(output, None)
    }

    /// Writes the table so that no line is wider than `columns`, as far as cutting allows.
    pub(crate) fn write_within(self, output: &mut dyn Write, columns: Option<usize>) -> io::Result<()> {
        let heading = self.columns.iter().map(|column| column.heading().to_owned()).collect();
        let rows: Vec<Vec<String>> = std::iter::once(heading).chain(self.rows).collect();
        let width = |index: usize| {
            rows.iter()
                .filter_map(|row| row.get(index))
                .map(|cell| cell.chars().count())
                .max()
        };
        let mut widths: Vec<usize> = (0..self.columns.len()).map(|index| width(index).unwrap_or(0)).collect();
        if let Some(columns) = columns {
            narrow(&self.columns, &mut widths, columns);
        }
        for row in &rows {
            let mut line = String::new();
            for ((cell, column), width) in row.iter().zip(&self.columns).zip(&widths) {
                let cell = cut(cell, *width);
                let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
                line.extend(match column {
                    TextColumn::Text(_) | TextColumn::Cuttable(_) => [&cell, gap.as_str(), "  "],
                    TextColumn::Number(_) => [gap.as_str(), &cell, "  "],
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
            Self::Text(heading) | Self::Cuttable(heading) | Self::Number(heading) => heading,
        }
    }
}

/// Takes from the widest columns that may be cut, until the table fits.
fn narrow(headings: &[TextColumn], widths: &mut [usize], columns: usize) {
    let gaps = 2 * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > columns {
        let cuttable = widths.iter_mut().zip(headings);
        let cuttable = cuttable.filter(|(_, column)| matches!(column, TextColumn::Cuttable(_)));
        let widest = cuttable
            .map(|(width, _)| width)
            .filter(|width| **width > MIN_WIDTH)
            .max();
        let Some(width) = widest else { return };
        *width -= 1;
    }
}

/// Cuts a cell to a width.
fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    let kept = cell.chars().take(width.saturating_sub(1));
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(columns: Option<usize>) -> String {
        let mut table = TextTable::new(vec![
            TextColumn::Text("ID"),
            TextColumn::Cuttable("REASON"),
            TextColumn::Number("N"),
            TextColumn::Cuttable("BODY"),
        ]);
        table.row(vec![
            "0123456789".into(),
            "a long reason".into(),
            "7".into(),
            "a body that is longer".into(),
        ]);
        let mut out = Vec::new();
        table.write_within(&mut out, columns).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells_or_as_the_terminal() {
        let whole = written(None);
        assert!(
            whole.contains("0123456789  a long reason  7  a body that is longer\n"),
            "{whole}"
        );
        let cut = written(Some(40));
        assert!(cut.lines().all(|line| line.chars().count() <= 40), "{cut}");
        assert!(cut.contains("0123456789  a long reas…  7  a body tha…\n"), "{cut}");
    }

    #[test]
    fn the_column_of_ids_is_never_cut() {
        assert!(written(Some(10)).contains("0123456789  a long …  7  a body …\n"));
    }
}
