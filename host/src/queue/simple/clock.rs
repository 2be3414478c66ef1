//! The store's time: milliseconds since 1970 that never jump while the store is open.
//!
//! The wall clock is read once, when the store is opened; from then on the monotonic clock counts. Somebody
//! who sets the wall clock changes nothing until the next start.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::message::MAX_DELAY;

/// Turns instants into stored times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    anchor: Instant,
    anchor_ms: u64,
}

/// One moment, in both forms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) ms: u64,
}

impl Clock {
    /// A clock that is set by the wall clock, now.
    pub(super) fn start() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            anchor: Instant::now(),
            anchor_ms: millis(since_1970),
        }
    }

    /// The stored form of an instant.
    pub(super) fn at(&self, instant: Instant) -> Now {
        Now {
            instant,
            ms: self
                .anchor_ms
                .saturating_add(millis(instant.saturating_duration_since(self.anchor))),
        }
    }
}

impl Now {
    /// When the stored time `ms` comes, or in twelve hours if that is sooner; now if it has passed.
    pub(super) fn instant_of(&self, ms: u64) -> Instant {
        self.instant + Duration::from_millis(ms.saturating_sub(self.ms)).min(MAX_DELAY)
    }
}

/// Whole milliseconds, rounded up, so that nothing becomes visible too early.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
