//! Texts, numbers and times as a page shows them.
//!
//! Invariant: what guests, clients and queues have written is shown through [`foreign`] or [`foreign_lines`]: escaped, within a bound, without
//! a character that changes how its surroundings read, and isolated in its direction.

use maud::{Markup, html};

use crate::date;
use sandhog_queue::{
    machine_clock::wall_ms,
    printable::{printable, printable_lines},
};

/// The longest text of others in a line, in bytes.
const MAX_TEXT_BYTES: usize = 600;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Returns a text of others, in one line.
pub(super) fn foreign(text: &str) -> Markup {
    html! { bdi { (printable(text, MAX_TEXT_BYTES)) } }
}

/// Returns the beginning of a text of others, in one line.
pub(super) fn short(text: &str, bytes: usize) -> Markup {
    html! { bdi { (printable(text, bytes)) } }
}

/// Returns a text of others with its lines.
pub(super) fn foreign_lines(text: &str, bytes: usize) -> Markup {
    html! { bdi { (printable_lines(text, bytes)) } }
}

/// Returns a number with a thin space between thousands.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// Returns a number, which is dim if it is nothing.
pub(super) fn count(count: u64) -> Markup {
    html! { @if count == 0 { span.zero { "0" } } @else { (number(count)) } }
}

/// Returns "1 message" or "2 messages".
pub(super) fn of(many: u64, one: &str, several: &str) -> String {
    format!("{} {}", number(many), if many == 1 { one } else { several })
}

/// Returns a number of bytes, such as 1.5 MiB.
pub(super) fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return of(bytes, "byte", "bytes");
    }
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// Returns a duration in its two largest units.
pub(super) fn length(ms: u64) -> String {
    match ms {
        0..SECOND => format!("{ms} ms"),
        SECOND..MINUTE => format!("{} s", ms / SECOND),
        MINUTE..HOUR => format!("{} min", ms / MINUTE),
        HOUR..DAY => format!("{} h {} min", ms / HOUR, ms % HOUR / MINUTE),
        _ => format!("{} d {} h", ms / DAY, ms % DAY / HOUR),
    }
}

/// Returns a time of few milliseconds, such as 1.25 ms.
pub(super) fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms if ms < 60_000.0 => format!("{:.2} s", ms / 1000.0),
        ms => format!("{:.1} min", ms / 60_000.0),
    }
}

/// Returns a time as people say it, with the date on demand.
pub(super) fn when(ms: u64) -> Markup {
    if !date::has_text(ms) {
        return html! { "in the far future" };
    }
    let date = date::to_the_second(ms);
    let now = wall_ms();
    let text = match now.checked_sub(ms) {
        Some(ago) if ago < 2 * SECOND => "just now".to_owned(),
        Some(ago) => format!("{} ago", length(ago)),
        None => format!("in {}", length(ms - now)),
    };
    html! { time datetime=(date) title=(date) data-ms=(ms) { (text) } }
}

/// Returns the beginning of a digest.
pub(super) fn digest(digest: &str) -> Markup {
    let short: String = digest.chars().take(10).collect();
    html! { code title=(printable(digest, 200)) { (printable(&short, 80)) } }
}

/// Returns the share of a number in another in percent.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let tenths = u128::from(part) * 1000 / u128::from(whole);
    match (tenths, part) {
        (0, 1..) => "< 0.1 %".to_owned(),
        (1000, _) if part < whole => "99.9 %".to_owned(),
        (tenths, _) if tenths % 10 == 0 => format!("{} %", tenths / 10),
        (tenths, _) => format!("{}.{} %", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_others_is_escaped_isolated_and_bounded() {
        let hostile = "<script>\u{202e}evil\u{1b}[2J</script>";
        assert_eq!(
            foreign(hostile).into_string(),
            "<bdi>&lt;script&gt;\\u{202e}evil\\u{1b}[2J&lt;/script&gt;</bdi>"
        );
        assert!(foreign(&"x".repeat(1_000_000)).into_string().len() < 700);
    }

    #[test]
    fn numbers_and_times_are_as_people_say_them() {
        for (value, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1\u{202f}000"),
            (1_234_567, "1\u{202f}234\u{202f}567"),
        ] {
            assert_eq!(number(value), expected);
        }
        for (ms, expected) in [
            (5, "5 ms"),
            (61_000, "1 min"),
            (3_700_000, "1 h 1 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(length(ms), expected);
        }
        for (part, whole, expected) in [
            (0, 0, "–"),
            (0, 5, "0 %"),
            (1, 3, "33.3 %"),
            (1, 100_000, "< 0.1 %"),
            (5, 5, "100 %"),
        ] {
            assert_eq!(percent(part, whole), expected);
        }
        assert_eq!(of(1, "message", "messages"), "1 message");
        assert_eq!((size(1), size(2048)), ("1 byte".to_owned(), "2.0 KiB".to_owned()));
    }
}
