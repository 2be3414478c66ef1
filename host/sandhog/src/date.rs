//! Times for people: milliseconds since 1970-01-01T00:00:00Z as dates, in the form of RFC 3339.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last millisecond of the year 9999, beyond which there is no text form.
const MAX_MS: u64 = 253_402_300_799_999;

fn at(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms.min(MAX_MS))
}

/// Returns the date to the second.
pub(crate) fn to_the_second(ms: u64) -> String {
    humantime::format_rfc3339_seconds(at(ms)).to_string()
}

/// Returns the date to the millisecond.
pub(crate) fn to_the_millisecond(ms: u64) -> String {
    humantime::format_rfc3339_millis(at(ms)).to_string()
}

/// Whether a time has a date of its own.
pub(crate) fn has_text(ms: u64) -> bool {
    ms <= MAX_MS
}
