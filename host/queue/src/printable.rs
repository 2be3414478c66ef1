//! Makes text that a guest or a sender chose safe to print: no control characters, bounded length.

use std::{borrow::Cow, error::Error, fmt::Write as _};

/// The longest reason of a failure, in bytes.
pub const MAX_REASON_BYTES: usize = 1024;

/// Escapes control characters and invisible ones (`\n`, `\u{1b}`) in `text`, and cuts it after about `max_bytes` at a
/// character's end.
///
/// # Examples
///
/// ```
/// use sandhog_queue::printable::printable;
/// assert_eq!(printable("a\u{1b}[2Jb\n", 100), "a\\u{1b}[2Jb\\n");
/// assert_eq!(printable("longer", 4), "long…");
/// ```
pub fn printable(text: &str, max_bytes: usize) -> String {
    escaped(text, max_bytes, is_deceptive)
}

/// Escapes as [`printable`] does, but keeps lines (with `\n` between them), and makes four spaces of a tab: for texts that are
/// kept, and shown line by line.
///
/// # Examples
///
/// ```
/// use sandhog_queue::printable::printable_lines;
/// assert_eq!(printable_lines("one\r\n\ttwo\u{7}", 100), "one\n    two\\u{7}");
/// ```
pub fn printable_lines(text: &str, max_bytes: usize) -> String {
    let is_kept = |c: char| c == '\n' || !is_deceptive(c);
    if text.contains(['\r', '\t']) {
        let text = text.replace("\r\n", "\n").replace('\t', "    ");
        return escaped(&text, max_bytes, |c| !is_kept(c));
    }
    escaped(text, max_bytes, |c| !is_kept(c))
}

fn escaped(text: &str, max_bytes: usize, is_escaped: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len().min(max_bytes));
    for c in text.chars() {
        if out.len() + c.len_utf8() > max_bytes {
            out.push('…');
            break;
        }
        if is_escaped(c) {
            write!(out, "{}", c.escape_default()).expect("writing to a string cannot fail");
        } else {
            out.push(c);
        }
    }
    out
}

/// Escapes what is deceptive in JSON, where such characters stand in strings alone: the text means the same.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    if !json.contains(|c: char| is_deceptive(c) && c != '\n') {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_deceptive(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                write!(escaped, "\\u{unit:04x}").expect("writing to a string cannot fail");
            }
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Whether a character changes how a text reads: controls, ends of lines and paragraphs, marks and overrides of direction,
/// and characters that take no room, such as tags.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Writes bytes in hexadecimal, two lower-case digits each.
///
/// # Examples
///
/// ```
/// assert_eq!(sandhog_queue::printable::hex(&[0, 0xab]), "00ab");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_means_the_same_without_what_is_deceptive() {
        let value = serde_json::json!({ "body": "a\u{9b}b\u{202e}\u{e0001}\n\"", "key\u{7f}": 1 });
        for json in [
            serde_json::to_string(&value).unwrap(),
            serde_json::to_string_pretty(&value).unwrap(),
        ] {
            let shown = printable_json(&json);
            assert!(!shown.chars().any(|c| is_deceptive(c) && c != '\n'), "{shown}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
    }

    #[test]
    fn what_can_not_be_seen_is_escaped() {
        for c in [
            '\u{7f}',
            '\u{9b}',
            '\u{61c}',
            '\u{200b}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e007f}',
        ] {
            let shown = printable(&format!("a{c}b"), 100);
            let lines = printable_lines(&format!("a{c}b"), 100);
            assert_eq!(shown, format!("a{}b", c.escape_default()));
            assert_eq!(lines, shown);
        }
        for text in ["größe", "日本語", "🙂", "a b\u{a0}c", "👩\u{200d}🚀", "\\ \"quoted\""] {
            assert_eq!(printable(text, 100), text);
        }
    }
}
