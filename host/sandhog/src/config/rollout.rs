//! Reads how a new version takes over from its predecessor: the table `[rollout]` of a manifest.
//!
//! Invariant: settings under which nothing could be compared are mistakes, and are not taken silently.

use std::{ops::RangeInclusive, time::Duration};

use super::section::TomlSection;
use crate::rollout::{RolloutTerms, SHARE_IF_SLOWER_MATTERS};

const ATTEMPTS: RangeInclusive<u64> = 1..=1_000_000;
/// Longer than a day, a new version would often come before the one before it is proven.
const TIME: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);
const MAX_SLOWER: f64 = 1000.0;

impl RolloutTerms {
    pub(crate) fn read(mut section: TomlSection<'_>) -> Self {
        let defaults = Self::default();
        let attempts = section.number("attempts", ATTEMPTS).unwrap_or(defaults.attempts);
        let time = section.duration("time", TIME).unwrap_or(defaults.time);
        let accepted = "a number that is more than 0 and up to 1, such as 0.1";
        let canary = section.decimal("canary", accepted, |share| share > 0.0 && share <= 1.0);
        let accepted = "a number that is more than 1 and up to 1000, such as 3";
        let slower = section.decimal("slower", accepted, |factor| factor > 1.0 && factor <= MAX_SLOWER);
        let automatic = section.flag("automatic").unwrap_or(defaults.automatic);
        if slower.is_some() && canary.is_some_and(|share| share >= 1.0) {
            let why = "with slower, the version before it needs a share of the messages, too: use less than 1, or leave it out";
            section.refuse("canary", why);
        }
        section.finish();
        let usual = if slower.is_some() {
            SHARE_IF_SLOWER_MATTERS
        } else {
            defaults.canary
        };
        Self {
            attempts,
            time,
            canary: canary.unwrap_or(usual),
            slower,
            automatic,
        }
    }
}
