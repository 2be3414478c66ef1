//! A time as signatures have it: `20150830T123600Z`, in seconds and in UTC.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

const SECONDS_OF_DAY: i64 = 86_400;

/// Seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timestamp(i64);

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

impl Timestamp {
    /// Returns a time of the clock, cut to seconds.
    pub(super) fn of(time: SystemTime) -> Self {
        Self(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => whole_seconds(after),
            Err(before) => -whole_seconds(before.duration()),
        })
    }

    /// Reads a time in the basic format of ISO 8601.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_digits = |range: std::ops::Range<usize>| {
            let digits = text.get(range)?;
            digits
                .bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| digits.parse::<i64>().ok())?
        };
        if text.get(8..9)? != "T" || text.get(15..)? != "Z" {
            return None;
        }
        let (year, month, day) = (is_digits(0..4)?, is_digits(4..6)?, is_digits(6..8)?);
        let (hour, minute, second) = (is_digits(9..11)?, is_digits(11..13)?, is_digits(13..15)?);
        let is_time = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
        is_time.then(|| Self(days_since_1970(year, month, day) * SECONDS_OF_DAY + hour * 3600 + minute * 60 + second))
    }

    /// Returns the time that is later by a duration.
    pub(super) fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole_seconds(duration)))
    }

    /// Returns the time that is earlier by a duration.
    pub(super) fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole_seconds(duration)))
    }

    /// Returns the day, such as `20150830`.
    pub(super) fn date(self) -> String {
        let (year, month, day) = day_of(self.0.div_euclid(SECONDS_OF_DAY));
        format!("{year:04}{month:02}{day:02}")
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = self.0.rem_euclid(SECONDS_OF_DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(formatter, "{}T{hour:02}{minute:02}{second:02}Z", self.date())
    }
}

/// Returns the days from 1970 to a day of the Gregorian calendar. Years begin in March here, so that the day that a leap
/// year has more is its last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Returns year, month and day of a number of days since 1970.
fn day_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_it_is_read() {
        for (text, seconds) in [
            ("19700101T000000Z", 0),
            ("20150830T123600Z", 1_440_938_160),
            ("20240229T235959Z", 1_709_251_199),
            ("20000301T000000Z", 951_868_800),
            ("21000228T120000Z", 4_107_499_200),
        ] {
            assert_eq!(Timestamp::parse(text), Some(Timestamp(seconds)), "{text}");
            assert_eq!(Timestamp(seconds).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "20150830",
            "20151330T123600Z",
            "20150830T253600Z",
            "2015083éT12360Z",
            "201é083T123600Z",
            "20150830T123600Z0",
            "+0150830T123600Z",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
