//! Tables for people: plain text, as wide as its cells, or as the terminal.
//!
//! Invariant: on a terminal no line is wider than it, unless the columns that are never cut or left out are. Elsewhere every cell is whole.

use std::io;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{CommandStreams, paint::Paint};

/// The least width to which a column is cut.
const MIN_WIDTH: usize = 8;
/// The width of the gap between two columns.
const GAP: usize = 2;

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
    /// A state or a verdict, which has a colour.
    State(&'static str),
    Number(&'static str),
    /// A number that is left out where the table would be too wide; the rightmost one goes first.
    Extra(&'static str),
}

impl TextTable {
    pub(crate) fn new(columns: Vec<TextColumn>) -> Self {
        Self { columns, rows: vec![] }
    }

    /// Adds a row of cells that are safe to print.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Writes the table as wide as the terminal, or as its cells where there is none.
    pub(crate) fn write(self, streams: &mut CommandStreams<'_>) -> io::Result<()> {
        let text = self.text(streams.columns, streams.paint);
        streams.output.write_all(text.as_bytes())
    }

    fn text(mut self, width: Option<usize>, paint: Paint) -> String {
        let heading = self.columns.iter().map(|column| column.heading().to_owned()).collect();
        self.rows.insert(0, heading);
        if let Some(width) = width {
            while self.least() > width && self.leave_one_out() {}
        }
        let mut widths = self.widths();
        if let Some(width) = width {
            narrow(&self.columns, &mut widths, width);
        }
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            let paint = if number == 0 { Paint::default() } else { paint };
            text.push_str(&self.line(row, &widths, paint));
            text.push('\n');
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let width = |index: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            cells.map(|cell| cell.width()).max().unwrap_or(0)
        };
        (0..self.columns.len()).map(width).collect()
    }

    /// Returns the least width that cutting can give the table.
    fn least(&self) -> usize {
        let widths = self.widths();
        let gaps = GAP * widths.len().saturating_sub(1);
        let columns = self.columns.iter().zip(widths);
        let least = columns.map(|(column, width)| {
            if column.is_cuttable() {
                width.min(MIN_WIDTH)
            } else {
                width
            }
        });
        least.sum::<usize>() + gaps
    }

    /// Takes away the rightmost column that may go.
    fn leave_one_out(&mut self) -> bool {
        let Some(index) = self
            .columns
            .iter()
            .rposition(|column| matches!(column, TextColumn::Extra(_)))
        else {
            return false;
        };
        self.columns.remove(index);
        for row in self.rows.iter_mut().filter(|row| row.len() > index) {
            row.remove(index);
        }
        true
    }

    fn line(&self, row: &[String], widths: &[usize], paint: Paint) -> String {
        let mut line = String::new();
        let last = self.columns.len().saturating_sub(1);
        for (index, ((cell, column), width)) in row.iter().zip(&self.columns).zip(widths).enumerate() {
            let cell = cut(cell, *width);
            let gap = " ".repeat(width.saturating_sub(cell.width()));
            let painted = match column {
                TextColumn::State(_) => paint.state(&cell),
                TextColumn::Text(_) | TextColumn::Cuttable(_) | TextColumn::Number(_) | TextColumn::Extra(_) => cell,
            };
            let is_number = matches!(column, TextColumn::Number(_) | TextColumn::Extra(_));
            let between = " ".repeat(if index == last { 0 } else { GAP });
            if is_number {
                line.extend([gap.as_str(), &painted, &between]);
            } else {
                let gap = if index == last { String::new() } else { gap };
                line.extend([painted.as_str(), &gap, &between]);
            }
        }
        line.trim_end().to_owned()
    }
}

impl TextColumn {
    fn heading(self) -> &'static str {
        match self {
            Self::Text(heading)
            | Self::Cuttable(heading)
            | Self::State(heading)
            | Self::Number(heading)
            | Self::Extra(heading) => heading,
        }
    }

    fn is_cuttable(self) -> bool {
        matches!(self, Self::Cuttable(_))
    }
}

/// Takes from the widest columns that may be cut, until the table fits.
fn narrow(headings: &[TextColumn], widths: &mut [usize], width: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > width {
        let cuttable = widths.iter_mut().zip(headings);
        let cuttable = cuttable.filter(|(_, column)| column.is_cuttable());
        let widest = cuttable
            .map(|(width, _)| width)
            .filter(|width| **width > MIN_WIDTH)
            .max();
        let Some(width) = widest else { return };
        *width -= 1;
    }
}

/// Cuts a cell to a width on the screen, on which a character can take two places or none.
fn cut(cell: &str, width: usize) -> String {
    if cell.width() <= width {
        return cell.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let fits = |character: &char| {
        let fits = character.width().unwrap_or(0) <= left;
        left = left.saturating_sub(character.width().unwrap_or(0));
        fits
    };
    let kept: String = cell.chars().take_while(fits).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(columns: Option<usize>, paint: Paint) -> String {
        let mut table = TextTable::new(vec![
            TextColumn::Text("ID"),
            TextColumn::State("STATE"),
            TextColumn::Cuttable("REASON"),
            TextColumn::Number("N"),
            TextColumn::Extra("MORE"),
            TextColumn::Cuttable("BODY"),
        ]);
        table.row(vec![
            "0123456789".into(),
            "trap".into(),
            "a long reason".into(),
            "7".into(),
            "8".into(),
            "a body that is longer".into(),
        ]);
        table.text(columns, paint)
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells_or_as_the_terminal() {
        let whole = written(None, Paint::default());
        let expected = "0123456789  trap   a long reason  7     8  a body that is longer\n";
        assert!(whole.contains(expected), "{whole}");
        let cut = written(Some(55), Paint::default());
        assert!(cut.lines().all(|line| line.width() <= 55), "{cut}");
        let expected = "0123456789  trap   a long reason  7     8  a body that…\n";
        assert!(cut.contains(expected), "{cut}");
    }

    #[test]
    fn the_column_of_ids_is_never_cut_and_an_extra_one_goes_first() {
        let narrow = written(Some(10), Paint::default());
        assert!(
            narrow.contains("0123456789  trap   a long …  7  a body …\n"),
            "{narrow}"
        );
        assert!(!narrow.contains("MORE"), "{narrow}");
    }

    #[test]
    fn a_wide_character_takes_two_places() {
        let mut table = TextTable::new(vec![TextColumn::Cuttable("NAME"), TextColumn::Number("N")]);
        table.row(vec!["注文注文注文注文注文".into(), "1".into()]);
        table.row(vec!["plain".into(), "2".into()]);
        let text = table.text(Some(14), Paint::default());
        assert!(text.lines().all(|line| line.width() <= 14), "{text}");
        assert!(text.contains("注文注文注…  1\nplain        2\n"), "{text}");
    }

    #[test]
    fn a_colour_takes_no_place() {
        let painted = written(None, Paint::new(true));
        let expected = "0123456789  \u{1b}[31mtrap\u{1b}[0m   a long reason  7     8  a body that is longer\n";
        assert!(painted.contains(expected), "{painted}");
        assert!(!painted.lines().next().unwrap().contains('\u{1b}'), "{painted}");
    }
}
