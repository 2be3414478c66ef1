//! When a server wants to be asked again.

use std::time::Duration;

use ::http::Response;
use ::http::header::{DATE, HeaderName, RETRY_AFTER};

use crate::Failure;

/// The seconds of a day.
const DAY: u64 = 86_400;

/// Returns the failure of a message whose server asks for patience: a retry after as long as the answer says in `retry-after`,
/// or after the queue's own growing delay if it does not.
pub fn retry<B>(answer: &Response<B>, reason: impl Into<String>) -> Failure {
    match retry_after(answer) {
        Some(delay) => Failure::retry_after(delay, reason),
        None => Failure::retry(reason),
    }
}

/// Returns how long the answer's `retry-after` asks to wait. Where that is a date, it counts from the answer's own `date`, so
/// that it needs no clock.
pub fn retry_after<B>(answer: &Response<B>) -> Option<Duration> {
    let text = |name: HeaderName| answer.headers().get(name)?.to_str().ok();
    let after = text(RETRY_AFTER)?.trim();
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (until, now) = (seconds_of(after)?, seconds_of(text(DATE)?)?);
    Some(Duration::from_secs(until.saturating_sub(now)))
}

/// Reads a date as servers write it, `Sun, 06 Nov 1994 08:49:37 GMT`, as seconds since 1970.
fn seconds_of(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = date.trim().split(' ').skip(1);
    let day: u64 = words.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)?;
    let year: u64 = words
        .next()?
        .parse()
        .ok()
        .filter(|year| (1970..10_000).contains(year))?;
    let mut time = words.next()?.split(':').map(str::parse::<u64>);
    let mut below = |limit: u64| time.next()?.ok().filter(|part| *part < limit);
    let (hours, minutes, seconds) = (below(24)?, below(60)?, below(61)?);
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let is_leap_year = leap_days(year) > leap_days(year - 1);
    let before_month = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334].get(month)?;
    let days = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969) + before_month + day - 1
        + u64::from(is_leap_year && month > 1);
    Some(days * DAY + hours * 3600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(after: &str, date: &str) -> Option<Duration> {
        let answer = Response::builder().header(RETRY_AFTER, after).header(DATE, date);
        retry_after(&answer.body(()).unwrap())
    }

    #[test]
    fn a_number_is_in_seconds() {
        assert_eq!(asked("120", ""), Some(Duration::from_secs(120)));
        assert_eq!(asked("soon", ""), None);
        assert_eq!(asked("-1", ""), None);
        assert_eq!(retry_after(&Response::new(())), None);
    }

    #[test]
    fn a_date_counts_from_the_date_of_the_answer() {
        let now = "Sun, 29 Nov 2026 12:00:00 GMT";
        assert_eq!(
            asked("Sun, 29 Nov 2026 12:01:30 GMT", now),
            Some(Duration::from_secs(90))
        );
        assert_eq!(
            asked("Tue, 01 Dec 2026 12:00:00 GMT", now),
            Some(Duration::from_secs(2 * DAY))
        );
        assert_eq!(asked("Sat, 28 Nov 2026 12:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(asked("Sun, 29 Nov 2026 12:01:30 GMT", "noon"), None);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (date, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Tue, 29 Feb 2000 00:00:00 GMT", 951_782_400),
            ("Wed, 01 Mar 2000 00:00:00 GMT", 951_868_800),
            ("Thu, 31 Dec 2026 23:59:59 GMT", 1_798_761_599),
        ] {
            assert_eq!(seconds_of(date), Some(seconds), "{date}");
        }
        for date in [
            "",
            "Sun, 06 Nov",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(seconds_of(date), None, "{date}");
        }
    }
}
