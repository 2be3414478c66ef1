//! Makes text that a guest or a sender chose safe to print: no control characters, bounded length.

use std::{error::Error, fmt::Write as _};

/// The longest reason that is kept with a message, in bytes.
pub const MAX_REASON_BYTES: usize = 1024;

/// `text` with control characters escaped (`\n`, `\u{1b}`), cut after about `max_bytes` at a character's end.
///
/// # Examples
///
/// ```
/// use sandhog::printable::printable;
/// assert_eq!(printable("a\u{1b}[2Jb\n", 100), "a\\u{1b}[2Jb\\n");
/// assert_eq!(printable("longer", 4), "long…");
/// ```
pub fn printable(text: &str, max_bytes: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max_bytes));
    for c in text.chars() {
        if out.len() + c.len_utf8() > max_bytes {
            out.push('…');
            break;
        }
        // Bidirectional overrides can make a log line read as something else than it says.
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            write!(out, "{}", c.escape_default()).expect("writing to a string cannot fail");
        } else {
            out.push(c);
        }
    }
    out
}

/// Bytes in hexadecimal, two lower-case digits each.
///
/// # Examples
///
/// ```
/// assert_eq!(sandhog::printable::hex(&[0, 0xab]), "00ab");
/// ```
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            write!(out, "{byte:02x}").expect("writing to a string cannot fail");
            out
        })
}

/// An error and everything below it, in one line: no `Display` of ours repeats its source.
pub fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
