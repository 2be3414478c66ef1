//! Backoff: the wait of a failed message before it is tried again. Pure: the random number is passed in.

use std::{num::NonZeroU32, time::Duration};

/// Exponential backoff with full jitter between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
}

impl Backoff {
    /// Creates a backoff whose waits are at least `min` and at most `max`; if `max` is less than `min`, always `min`.
    pub const fn new(min: Duration, max: Duration) -> Self {
        let max = if max.as_nanos() < min.as_nanos() { min } else { max };
        Self { min, max }
    }

    /// The longest wait.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// Returns the longest wait of a message after its `receive_count`-th failed attempt: `min` doubled per attempt, up to `max`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use {sandhog::backoff::Backoff, std::num::NonZeroU32, std::time::Duration};
    /// let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    /// assert_eq!(backoff.ceiling(NonZeroU32::MIN), Duration::from_secs(2));
    /// assert_eq!(backoff.ceiling(NonZeroU32::MAX), Duration::from_secs(60));
    /// ```
    pub fn ceiling(&self, receive_count: NonZeroU32) -> Duration {
        // The factor saturates: after a week of failures the wait is `max`, not nothing.
        let factor = 2_u32.saturating_pow(receive_count.get());
        self.min.saturating_mul(factor).min(self.max)
    }

    /// Returns the wait after the `receive_count`-th failed attempt. The wait lies between `min` and [`Backoff::ceiling`], so that
    /// messages that failed together do not come back together. `random` is uniform in 0 ..= 1.
    pub fn delay(&self, receive_count: NonZeroU32, random: f64) -> Duration {
        let span = self.ceiling(receive_count).saturating_sub(self.min);
        self.min + span.mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wait_stays_within_its_bounds(min in 1_u64..100_000, max in 1_u64..10_000_000, count in 1_u32.., random in 0.0_f64..=1.0) {
            let min = Duration::from_millis(min);
            let max = Duration::from_millis(max);
            let delay = Backoff::new(min, max).delay(NonZeroU32::new(count).unwrap(), random);
            prop_assert!(delay >= min && delay <= max.max(min), "{delay:?}");
        }

        #[test]
        fn the_ceiling_never_shrinks_with_more_attempts(count in 1_u32..u32::MAX) {
            let backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(15));
            let next = NonZeroU32::new(count + 1).unwrap();
            prop_assert!(backoff.ceiling(NonZeroU32::new(count).unwrap()) <= backoff.ceiling(next));
        }
    }
}
