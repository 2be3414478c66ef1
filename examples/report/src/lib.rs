//! Turns tables into reports.
//!
//! The body is a table in CSV with a header row. The report is a PDF of as many A4 pages as it takes,
//! and goes to the queue `reports`. The attribute `title` names it.

mod page;

use csv::{ReaderBuilder, Trim};
use sandhog_guest::{AttributeValue, Failure, Message, OrFailure, Outgoing, send};

/// The most columns that fit a page in a size that can be read.
const COLUMNS_MAX: usize = 16;
/// The longest text of a cell that is printed whole, in characters.
const CELL_CHARS_MAX: usize = 40;

sandhog_guest::handler!(handle);

/// A table, checked: there is at least one column, and every row has as many cells as the header.
struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

fn handle(message: Message) -> Result<(), Failure> {
    let table = Table::read(&message.body)?;
    let title = message
        .attribute("title")
        .and_then(AttributeValue::as_text)
        .unwrap_or("Report");
    let (pdf, n_pages) = page::pdf(title, &table);
    let outgoing = Outgoing::new(pdf)
        .attribute("source", message.id.as_str())
        .attribute("content-type", "application/pdf")
        .attribute("title", title)
        .attribute("rows", table.rows.len())
        .attribute("pages", n_pages);
    send("reports", outgoing)?;
    Ok(())
}

impl Table {
    /// Reads a table from CSV.
    ///
    /// # Errors
    ///
    /// `Reject` with the line of the first mistake.
    fn read(csv: &[u8]) -> Result<Self, Failure> {
        let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(csv);
        let header = cells(reader.headers().or_reject()?);
        if header.is_empty() || header.len() > COLUMNS_MAX {
            return Err(Failure::reject(format!(
                "the table has {} columns, not 1 to {COLUMNS_MAX}",
                header.len()
            )));
        }
        let rows: Result<Vec<_>, _> = reader
            .records()
            .map(|record| record.map(|record| cells(&record)))
            .collect();
        Ok(Self {
            header,
            rows: rows.or_reject()?,
        })
    }

    /// Returns the width of a column in characters.
    fn width(&self, column: usize) -> usize {
        let rows = std::iter::once(&self.header).chain(&self.rows);
        rows.filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    }

    /// Tells whether a column holds only numbers, and is thus set to the right.
    fn is_numeric(&self, column: usize) -> bool {
        let is_number = |cell: &String| cell.is_empty() || cell.parse::<f64>().is_ok();
        self.rows.iter().filter_map(|row| row.get(column)).all(is_number)
    }
}

/// Returns the cells of a row, each cut to the length that is printed.
fn cells(record: &csv::StringRecord) -> Vec<String> {
    record
        .iter()
        .map(|cell| cell.chars().take(CELL_CHARS_MAX).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_guest::testing;

    const STATIONS: &[u8] = include_bytes!("../input/stations.csv");

    fn report(csv: &[u8]) -> Outgoing {
        handle(testing::message(csv).attribute("title", "Rainfall").build()).unwrap();
        testing::sent().pop().unwrap().message
    }

    fn number(outgoing: &Outgoing, name: &str) -> usize {
        let value = outgoing
            .attributes
            .iter()
            .find(|(its_name, _)| its_name == name)
            .map(|(_, value)| value);
        value.and_then(AttributeValue::as_number).unwrap()
    }

    /// Returns what is drawn on the pages.
    fn drawings(mut pdf: &[u8]) -> String {
        let mut drawings = String::new();
        while let Some(at) = pdf.windows(8).position(|window| window == b"\nstream\n") {
            pdf = &pdf[at + 8..];
            let drawing = miniz_oxide::inflate::decompress_to_vec_zlib(pdf).unwrap();
            drawings.push_str(&String::from_utf8_lossy(&drawing));
        }
        drawings
    }

    #[test]
    fn a_long_table_takes_several_pages() {
        let outgoing = report(STATIONS);
        assert_eq!((number(&outgoing, "rows"), number(&outgoing, "pages")), (144, 3));
        assert!(outgoing.body.starts_with(b"%PDF-1.7") && outgoing.body.ends_with(b"%%EOF"));
        let drawings = drawings(&outgoing.body);
        for text in ["(Rainfall)", "(Page 1 of 3)", "(Page 3 of 3)", "(Trondheim)"] {
            assert!(drawings.contains(text), "{text}");
        }
    }

    #[test]
    fn a_table_without_rows_is_a_page_with_its_header() {
        let outgoing = report(b"name,amount\n");
        assert_eq!(number(&outgoing, "pages"), 1);
        assert!(drawings(&outgoing.body).contains("(name)"));
    }

    #[test]
    fn a_row_of_another_length_is_rejected_with_its_line() {
        let failure = handle(testing::message("a,b\n1,2\n3\n").build()).unwrap_err();
        assert!(
            matches!(&failure, Failure::Reject(reason) if reason.contains("line: 3")),
            "{failure}"
        );
    }

    #[test]
    fn a_body_without_a_table_is_rejected() {
        let failure = handle(testing::message("").build()).unwrap_err();
        assert_eq!(failure, Failure::reject("the table has 0 columns, not 1 to 16"));
    }
}
