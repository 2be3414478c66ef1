//! Numbers for people: times, ages and shares.

use std::time::Duration;

use crate::date;
use sandhog_queue::machine_clock::wall_ms;

/// Returns a duration in its two largest units, such as `2h 5m`.
pub(crate) fn age(ms: u64) -> String {
    let age = Duration::from_millis(ms);
    let whole = if age < Duration::from_secs(1) {
        age
    } else {
        Duration::from_secs(age.as_secs())
    };
    let text = humantime::format_duration(whole).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Returns how many milliseconds ago a time was that is given in milliseconds since 1970-01-01T00:00:00Z; 0 for one to come.
pub(crate) fn since(ms: u64) -> u64 {
    wall_ms().saturating_sub(ms)
}

/// Returns a time in milliseconds since 1970-01-01T00:00:00Z as a date, or `-`.
pub(crate) fn time(ms: Option<u64>) -> String {
    ms.filter(|ms| date::has_text(*ms))
        .map_or_else(|| "-".to_owned(), date::to_the_second)
}

/// Returns the time of a call in milliseconds, with as many digits as tell something.
pub(crate) fn millis(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.1}ms"),
        Some(ms) if ms < 10_000.0 => format!("{ms:.0}ms"),
        Some(ms) => format!("{:.0}s", ms / 1000.0),
    }
}

/// Returns a share in percent, such as `12.5 %`.
pub(crate) fn percent(share: f64) -> String {
    let percent = format!("{:.1}", share * 100.0);
    format!("{} %", percent.strip_suffix(".0").unwrap_or(&percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_two_units_at_most() {
        for (ms, expected) in [(0, "0s"), (250, "250ms"), (61_300, "1m 1s"), (90_061_000, "1day 1h")] {
            assert_eq!(age(ms), expected);
        }
    }

    #[test]
    fn the_time_of_a_call_has_the_digits_that_tell_something() {
        let cases = [
            (None, "-"),
            (Some(0.04), "0.0ms"),
            (Some(3.25), "3.2ms"),
            (Some(812.4), "812ms"),
            (Some(30_000.0), "30s"),
        ];
        for (ms, expected) in cases {
            assert_eq!(millis(ms), expected);
        }
    }

    #[test]
    fn a_share_is_shown_in_percent() {
        for (share, expected) in [(1.0, "100 %"), (0.5, "50 %"), (0.125, "12.5 %"), (0.001, "0.1 %")] {
            assert_eq!(percent(share), expected);
        }
    }
}
