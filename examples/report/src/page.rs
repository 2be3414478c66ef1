//! Draws a table on A4 pages.
//!
//! Everything is set in Courier, which every PDF reader has and whose characters are all 0.6 of the font
//! size wide: columns line up without font files and metrics.

use miniz_oxide::deflate::compress_to_vec_zlib;
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, Str};

use crate::Table;

const PAGE_WIDTH: f32 = 595.0;
const PAGE_HEIGHT: f32 = 842.0;
const MARGIN: f32 = 48.0;
const TITLE_SIZE: f32 = 16.0;
const TEXT_SIZE_MAX: f32 = 9.0;
/// The width of a character, as a part of the font size.
const CHARACTER: f32 = 0.6;
/// The height of a line, as a part of the font size.
const LINE: f32 = 1.5;
/// The space between two columns, in characters.
const GAP: usize = 2;
/// 0 to 10. A page is then about a tenth of its size, and a long report still fits a message.
const COMPRESSION: u8 = 6;
const REGULAR: Name<'_> = Name(b"Regular");
const BOLD: Name<'_> = Name(b"Bold");

/// Returns the report as a PDF, and its number of pages.
pub(crate) fn pdf(title: &str, table: &Table) -> (Vec<u8>, usize) {
    let mut ids = (1..).map(Ref::new);
    let mut next_id = || ids.next().expect("numbers do not end");
    let (catalog, tree, regular, bold) = (next_id(), next_id(), next_id(), next_id());
    let layout = Layout::of(table);
    let mut chunks: Vec<&[Vec<String>]> = table.rows.chunks(layout.rows_per_page).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    let mut pdf = Pdf::new();
    let mut pages = Vec::new();
    for (n, rows) in chunks.iter().enumerate() {
        let (page, content) = (next_id(), next_id());
        let footer = format!("Page {} of {}", n + 1, chunks.len());
        let drawing = layout.draw(title, &table.header, rows, &footer);
        let drawing = compress_to_vec_zlib(&drawing, COMPRESSION);
        pdf.stream(content, &drawing).filter(Filter::FlateDecode);
        let mut writer = pdf.page(page);
        writer
            .parent(tree)
            .media_box(Rect::new(0.0, 0.0, PAGE_WIDTH, PAGE_HEIGHT))
            .contents(content);
        writer.resources().fonts().pair(REGULAR, regular).pair(BOLD, bold);
        writer.finish();
        pages.push(page);
    }
    pdf.catalog(catalog).pages(tree);
    pdf.pages(tree)
        .count(i32::try_from(pages.len()).unwrap_or(i32::MAX))
        .kids(pages.iter().copied());
    for (id, name) in [(regular, Name(b"Courier")), (bold, Name(b"Courier-Bold"))] {
        pdf.type1_font(id)
            .base_font(name)
            .encoding_predefined(Name(b"WinAnsiEncoding"));
    }
    (pdf.finish(), pages.len())
}

/// Where the columns are, and in which size.
struct Layout {
    size: f32,
    rows_per_page: usize,
    columns: Vec<Column>,
}

struct Column {
    /// In characters from the left margin.
    start: usize,
    /// In characters.
    width: usize,
    to_the_right: bool,
}

impl Layout {
    /// Fits all columns side by side on a page.
    fn of(table: &Table) -> Self {
        let mut n_characters = 0;
        let mut columns = Vec::new();
        for n in 0..table.header.len() {
            let width = table.width(n);
            columns.push(Column {
                start: n_characters,
                width,
                to_the_right: table.is_numeric(n),
            });
            n_characters += width + GAP;
        }
        let fitting = (PAGE_WIDTH - 2.0 * MARGIN) / (n_characters.max(1) as f32 * CHARACTER);
        let size = fitting.min(TEXT_SIZE_MAX);
        // Between the header row and the footer, with a line of space above it.
        let height = PAGE_HEIGHT - 2.0 * MARGIN - TITLE_SIZE * (1.0 + LINE);
        let rows_per_page = ((height / (size * LINE)) as usize).saturating_sub(2).max(1);
        Self {
            size,
            rows_per_page,
            columns,
        }
    }

    /// Draws one page and returns its content.
    fn draw(&self, title: &str, header: &[String], rows: &[Vec<String>], footer: &str) -> Vec<u8> {
        let mut content = Content::new();
        let mut y = PAGE_HEIGHT - MARGIN - TITLE_SIZE;
        text(&mut content, BOLD, TITLE_SIZE, (MARGIN, y), title);
        y -= TITLE_SIZE * LINE;
        self.row(&mut content, BOLD, y, header);
        let rule = y - self.size * (LINE - 1.0);
        content
            .set_line_width(0.5)
            .move_to(MARGIN, rule)
            .line_to(PAGE_WIDTH - MARGIN, rule)
            .stroke();
        for row in rows {
            y -= self.size * LINE;
            self.row(&mut content, REGULAR, y, row);
        }
        text(&mut content, REGULAR, TEXT_SIZE_MAX, (MARGIN, MARGIN), footer);
        content.finish().to_vec()
    }

    fn row(&self, content: &mut Content, font: Name<'_>, y: f32, cells: &[String]) {
        for (column, cell) in self.columns.iter().zip(cells) {
            let indent = if column.to_the_right {
                column.width.saturating_sub(cell.chars().count())
            } else {
                0
            };
            let x = MARGIN + (column.start + indent) as f32 * CHARACTER * self.size;
            text(content, font, self.size, (x, y), cell);
        }
    }
}

fn text(content: &mut Content, font: Name<'_>, size: f32, (x, y): (f32, f32), text: &str) {
    let bytes: Vec<u8> = text.chars().map(win_ansi).collect();
    content
        .begin_text()
        .set_font(font, size)
        .next_line(x, y)
        .show(Str(&bytes))
        .end_text();
}

/// Returns a character in the encoding of the standard fonts, or `?`, which has no others.
fn win_ansi(character: char) -> u8 {
    match character {
        '€' => 0x80,
        '–' => 0x96,
        '—' => 0x97,
        '\u{80}'..='\u{9f}' => b'?',
        other => u8::try_from(u32::from(other)).unwrap_or(b'?'),
    }
}
