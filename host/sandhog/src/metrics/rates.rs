//! What handlers and queues did in the last minute, second by second, for people who look at them.
//!
//! Invariant: bounded. A name has a ring of 60 seconds, and names that were silent for a minute make room for others.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The seconds that are looked back on.
const SECONDS: u32 = 60;
/// The most names of handlers, and of queues.
const MAX_NAMES: usize = 4096;

/// What happened to messages within a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MinuteCounts {
    /// Messages that a queue accepted.
    pub arrived: u64,
    /// Messages that were handled.
    pub handled: u64,
    /// Attempts at messages that failed.
    pub failed: u64,
}

impl MinuteCounts {
    /// One message that was handled.
    pub(crate) const HANDLED: Self = Self {
        arrived: 0,
        handled: 1,
        failed: 0,
    };
    /// One attempt that failed.
    pub(crate) const FAILED: Self = Self {
        arrived: 0,
        handled: 0,
        failed: 1,
    };
}

/// The rates of handlers, or those of queues, by name.
#[derive(Debug)]
pub(crate) struct MinuteRates {
    began: Instant,
    rings: Mutex<RateRings>,
}

#[derive(Debug, Default)]
struct RateRings {
    by_name: HashMap<String, Box<RateRing>>,
    /// The second in which silent names were last looked for.
    swept: u32,
}

/// The counts of a name, at the place of each second.
#[derive(Debug)]
struct RateRing {
    slots: [RateSlot; 60],
    /// The newest second that has counts.
    newest: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct RateSlot {
    /// The second since the beginning, counted from 1; 0 if there was none.
    second: u32,
    arrived: u32,
    handled: u32,
    failed: u32,
}

impl Default for MinuteRates {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            rings: Mutex::default(),
        }
    }
}

impl MinuteRates {
    /// Counts what happened just now. A name for which there is no room is not counted.
    pub(crate) fn add(&self, name: &str, counts: MinuteCounts) {
        let second = self.second();
        let mut rings = self.rings.lock();
        if let Some(ring) = rings.by_name.get_mut(name) {
            ring.add(second, counts);
            return;
        }
        // Every message passes here, so the names are gone through once a second at most.
        if rings.by_name.len() >= MAX_NAMES && rings.swept < second {
            rings.swept = second;
            rings.by_name.retain(|_, ring| ring.newest + SECONDS > second);
        }
        if rings.by_name.len() < MAX_NAMES {
            let ring = rings.by_name.entry(name.to_owned());
            ring.or_insert_with(|| Box::new(RateRing::new())).add(second, counts);
        }
    }

    /// Returns what happened in the last 60 seconds, the one that has begun included.
    pub(crate) fn last_minute(&self, name: &str) -> MinuteCounts {
        let second = self.second();
        let rings = self.rings.lock();
        rings.by_name.get(name).map(|ring| ring.sum(second)).unwrap_or_default()
    }

    /// Returns what happened in each of the last 60 seconds, oldest first, the one that has begun included.
    pub(crate) fn seconds(&self, name: &str) -> Vec<MinuteCounts> {
        let second = self.second();
        let rings = self.rings.lock();
        let ring = rings.by_name.get(name);
        ring.map(|ring| ring.each(second)).unwrap_or_default()
    }

    /// The second that has begun, counted from 1.
    fn second(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_secs())
            .unwrap_or(u32::MAX)
            .saturating_add(1)
    }
}

impl RateSlot {
    fn counts(&self) -> MinuteCounts {
        MinuteCounts {
            arrived: u64::from(self.arrived),
            handled: u64::from(self.handled),
            failed: u64::from(self.failed),
        }
    }
}

impl RateRing {
    fn new() -> Self {
        Self {
            slots: [RateSlot::default(); 60],
            newest: 0,
        }
    }

    fn add(&mut self, second: u32, counts: MinuteCounts) {
        self.newest = self.newest.max(second);
        let place = usize::try_from(second % SECONDS).unwrap_or(0);
        let Some(slot) = self.slots.get_mut(place) else { return };
        if slot.second != second {
            *slot = RateSlot {
                second,
                ..RateSlot::default()
            };
        }
        let more = |count: &mut u32, more: u64| *count = count.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        more(&mut slot.arrived, counts.arrived);
        more(&mut slot.handled, counts.handled);
        more(&mut slot.failed, counts.failed);
    }

    fn each(&self, now: u32) -> Vec<MinuteCounts> {
        let seconds = (0..SECONDS).rev().map(|ago| now.saturating_sub(ago));
        let slot = |second: u32| {
            let place = usize::try_from(second % SECONDS).unwrap_or(0);
            let slot = self.slots.get(place).filter(|slot| second > 0 && slot.second == second);
            slot.map(RateSlot::counts).unwrap_or_default()
        };
        seconds.map(slot).collect()
    }

    fn sum(&self, second: u32) -> MinuteCounts {
        let recent = self
            .slots
            .iter()
            .filter(|slot| slot.second > 0 && slot.second + SECONDS > second);
        recent.fold(MinuteCounts::default(), |sum, slot| MinuteCounts {
            arrived: sum.arrived + u64::from(slot.arrived),
            handled: sum.handled + u64::from(slot.handled),
            failed: sum.failed + u64::from(slot.failed),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn handled(handled: u64) -> MinuteCounts {
        MinuteCounts {
            handled,
            ..MinuteCounts::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_second_of_the_last_minute_is_told_oldest_first() {
        let rates = MinuteRates::default();
        assert!(rates.seconds("orders").is_empty());
        rates.add("orders", MinuteCounts::HANDLED);
        advance(Duration::from_secs(2)).await;
        rates.add("orders", MinuteCounts::FAILED);
        let seconds = rates.seconds("orders");
        assert_eq!(seconds.len(), 60);
        assert_eq!(
            seconds[57..],
            [MinuteCounts::HANDLED, MinuteCounts::default(), MinuteCounts::FAILED]
        );
        advance(Duration::from_secs(58)).await;
        assert_eq!(rates.seconds("orders")[1], MinuteCounts::FAILED);
    }

    #[tokio::test(start_paused = true)]
    async fn what_happened_counts_for_a_minute() {
        let rates = MinuteRates::default();
        rates.add("orders", handled(3));
        advance(Duration::from_secs(30)).await;
        rates.add("orders", handled(4));
        rates.add("resize", handled(9));
        assert_eq!(rates.last_minute("orders"), handled(7));
        advance(Duration::from_secs(29)).await;
        assert_eq!(rates.last_minute("orders"), handled(7));
        advance(Duration::from_secs(1)).await;
        assert_eq!(rates.last_minute("orders"), handled(4));
        // The place of the first second has another one now.
        rates.add("orders", handled(1));
        assert_eq!(rates.last_minute("orders"), handled(5));
        advance(Duration::from_mins(2)).await;
        assert_eq!(rates.last_minute("orders"), MinuteCounts::default());
        assert_eq!(rates.last_minute("nobody"), MinuteCounts::default());
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_are_silent_make_room() {
        let rates = MinuteRates::default();
        for number in 0..MAX_NAMES {
            rates.add(&format!("q{number}"), handled(1));
        }
        rates.add("late", handled(1));
        assert_eq!(rates.last_minute("late"), MinuteCounts::default());
        advance(Duration::from_mins(1)).await;
        rates.add("late", handled(1));
        assert_eq!(rates.last_minute("late"), handled(1));
        assert_eq!(rates.rings.lock().by_name.len(), 1);
    }
}
