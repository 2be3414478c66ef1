//! Reads how a new version takes over from its predecessor: the table `[rollout]` of a manifest.
//!
//! Invariant: settings under which nothing could be compared are mistakes, and are not taken silently.

use std::{ops::RangeInclusive, time::Duration};

use super::section::TomlSection;
use crate::rollout::{DEFAULT_CALLS, DEFAULT_TIME, SHARE_IF_SLOWER_MATTERS};

const CALLS: RangeInclusive<u64> = 1..=1_000_000;
/// Longer than a day, a new version would often come before the one before it is proven.
const TIME: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);
const MAX_SLOWER: f64 = 1000.0;

/// How a new version of one handler proves itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RolloutSettings {
    /// The number of calls of a probation. Key `attempts`: 1 to 1,000,000, default 300.
    pub attempts: u64,
    /// The least time of a probation. Key `time`: 0 to 24 h, default 10 min.
    pub time: Duration,
    /// The share of the deliveries that a version on probation gets. Key `canary`: more than 0 and up to 1. The default is 1, and 0.5 if `slower` is
    /// given.
    pub canary: f64,
    /// A call that takes so many times as long as the predecessor's median is slow; `None`, the default, compares no times. Key
    /// `slower`: more than 1 and up to 1000.
    pub slower: Option<f64>,
    /// The host goes back from a worse version by itself. Key `automatic`, default true.
    pub automatic: bool,
}

/// The numbers are within ranges, so that none of them is unlike itself.
impl Eq for RolloutSettings {}

impl Default for RolloutSettings {
    fn default() -> Self {
        Self {
            attempts: DEFAULT_CALLS,
            time: DEFAULT_TIME,
            canary: 1.0,
            slower: None,
            automatic: true,
        }
    }
}

impl RolloutSettings {
    pub(crate) fn read(mut section: TomlSection<'_>) -> Self {
        let defaults = Self::default();
        let attempts = section.number("attempts", CALLS).unwrap_or(defaults.attempts);
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
