//! Writes the pages of the reference that are made from the code: `cargo pages`.

#![expect(clippy::print_stdout, reason = "says what it wrote")]

use harness::pages::MadePage;

fn main() {
    for page in MadePage::all() {
        if page.found() != page.text {
            page.write();
            println!("wrote {}", page.path);
        }
    }
}
