//! The store's time: milliseconds that go on with the time that passes, and with nothing else.
//!
//! The store's time begins as the wall clock's when a store is made. From then on setting the wall clock does not change it, neither
//! while the store is open nor while it is closed. Time that passes while the machine sleeps counts. Time that can't be proved to have
//! passed does not count: then messages live for longer, which is better than losing them. The rules compare in this time only.
//! People are shown the wall clock's time of the moment of writing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use sandhog_queue::{
    machine_clock::{MachineClock, Reading},
    message::MAX_DELAY,
};

/// Two clocks that differ by less than this agree, since they can't be read at the same moment.
const AGREE: Duration = Duration::from_secs(1);
/// A difference that is worth telling an operator.
const NOTABLE_MS: u64 = 60_000;
/// The beginning of 2025. A clock that shows an earlier time has never been set.
const NEVER_BEFORE_MS: u64 = 1_735_689_600_000;

/// Turns instants into stored times. The clones are the same clock.
#[derive(Debug, Clone)]
pub(crate) struct StoreClock {
    machine: MachineClock,
    anchor: Instant,
    shared: Arc<Shared>,
}

/// All times are in milliseconds.
#[derive(Debug)]
struct Shared {
    /// The store's time at the anchor.
    base: AtomicU64,
    /// How long the machine had slept at the anchor.
    asleep_before: u64,
    /// How long the machine has slept by now, as far as that was noticed.
    asleep: AtomicU64,
    /// How far the wall clock is ahead of the time since the boot.
    skew: AtomicI64,
    /// How far the store's time is ahead of the time since the boot.
    lead: AtomicI64,
}

/// One moment, in every form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreTime {
    /// For times that live in this process only.
    pub(crate) instant: Instant,
    /// The store's time, for times that are compared.
    pub(crate) ms: u64,
    /// The wall clock's time, for times that people are shown.
    pub(crate) wall_ms: u64,
}

impl StoreClock {
    /// Starts a clock, set by the wall clock.
    pub(crate) fn start(machine: MachineClock) -> Self {
        let reading = machine.read();
        let wall_ms = millis(reading.wall);
        let asleep_ms = millis(reading.asleep);
        let skew_ms = skew_of(&reading);
        Self {
            machine,
            anchor: Instant::now(),
            shared: Arc::new(Shared {
                base: AtomicU64::new(wall_ms),
                asleep_before: asleep_ms,
                asleep: AtomicU64::new(asleep_ms),
                skew: AtomicI64::new(skew_ms),
                lead: AtomicI64::new(skew_ms),
            }),
        }
    }

    /// Goes on from the last sighting of an earlier run, and returns whether all the time since then counts. `newest_ms` is the
    /// latest stored time.
    pub(crate) fn go_on(&self, seen: Option<&ClockSighting>, newest_ms: Option<u64>) -> ClosedTime {
        let reading = self.machine.read();
        let (ms, passage) = resume(seen, newest_ms, &reading);
        let since_anchor = self.since_anchor_ms(Instant::now());
        self.shared.base.store(ms.saturating_sub(since_anchor), Relaxed);
        let lead = signed(ms).saturating_sub(signed(millis(reading.since_boot)));
        self.shared.lead.store(lead, Relaxed);
        passage
    }

    /// Returns every form of an instant that has come. Notices a wall clock that was set and a machine that has slept.
    pub(crate) fn at(&self, instant: Instant) -> StoreTime {
        self.observe(&self.machine.read());
        let ms = self
            .shared
            .base
            .load(Relaxed)
            .saturating_add(self.since_anchor_ms(instant));
        let ahead = self.shared.skew.load(Relaxed) - self.shared.lead.load(Relaxed);
        StoreTime {
            instant,
            ms,
            wall_ms: ms.saturating_add_signed(ahead),
        }
    }

    /// Returns what the next run needs to go on from `now`, which may have been a while ago.
    pub(crate) fn sighting(&self, now: StoreTime) -> ClockSighting {
        let reading = self.machine.read();
        let since_then = Instant::now().saturating_duration_since(now.instant);
        ClockSighting {
            boot: reading.boot,
            since_boot_ms: millis(reading.since_boot.saturating_sub(since_then)),
            at_ms: now.ms,
            wall_ms: now.wall_ms,
        }
    }

    fn since_anchor_ms(&self, instant: Instant) -> u64 {
        let asleep = self.shared.asleep.load(Relaxed) - self.shared.asleep_before;
        millis(instant.saturating_duration_since(self.anchor)).saturating_add(asleep)
    }

    fn observe(&self, reading: &Reading) {
        let asleep = millis(reading.asleep);
        let known_asleep = self.shared.asleep.load(Relaxed);
        if asleep >= known_asleep.saturating_add(millis(AGREE))
            && self.shared.asleep.fetch_max(asleep, Relaxed) == known_asleep
        {
            tracing::info!(
                slept_ms = asleep - known_asleep,
                "the machine has slept: that time counts for the queues"
            );
        }
        let skew = skew_of(reading);
        let known = self.shared.skew.load(Relaxed);
        if skew.abs_diff(known) >= millis(AGREE)
            && (self.shared.skew.compare_exchange(known, skew, Relaxed, Relaxed)).is_ok()
            && skew.abs_diff(known) >= NOTABLE_MS
        {
            let by_ms = skew.saturating_sub(known);
            tracing::warn!(
                by_ms,
                "the wall clock was set: delays, times to live and deduplication go on as if it were not"
            );
        }
    }
}

/// Returns how far the wall clock is ahead of the time since the boot: always the same unless the wall clock is set.
fn skew_of(reading: &Reading) -> i64 {
    signed(millis(reading.wall)).saturating_sub(signed(millis(reading.since_boot)))
}

/// The store's time at a moment, beside that of other clocks. It is stored with the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClockSighting {
    /// Identifies the start of the machine, if that is known.
    pub(crate) boot: Option<u128>,
    /// How long the machine had been running.
    pub(crate) since_boot_ms: u64,
    /// The store's time.
    pub(crate) at_ms: u64,
    /// The wall clock.
    pub(crate) wall_ms: u64,
}

/// How much of the time for which a store was closed counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClosedTime {
    /// All of it was counted.
    Counted,
    /// None of it was counted: the machine was started anew, or its clock was not set.
    Uncounted {
        /// How long the store was closed by the wall clock.
        by_wall_ms: i64,
    },
    /// A version that did not keep its time has left the store, and the wall clock is believed.
    Believed,
    /// Such a version has used the store in between, so messages are stamped by the wall clock. Only time that is known to have
    /// passed was counted.
    Strange {
        /// How far the newest message is ahead of now.
        ahead_ms: u64,
    },
}

/// Returns the store's time now, and how it was found.
fn resume(seen: Option<&ClockSighting>, newest_ms: Option<u64>, reading: &Reading) -> (u64, ClosedTime) {
    let wall_ms = millis(reading.wall);
    let (ms, passage) = match (seen, newest_ms) {
        (Some(seen), _) => match passed_since(seen, reading) {
            Some(passed_ms) => (seen.at_ms.saturating_add(passed_ms), ClosedTime::Counted),
            None => (seen.at_ms, uncounted(wall_ms, seen.wall_ms)),
        },
        (None, None) => (wall_ms, ClosedTime::Believed),
        (None, Some(newest)) if newest >= NEVER_BEFORE_MS && wall_ms >= newest => (wall_ms, ClosedTime::Believed),
        (None, Some(newest)) => (newest, uncounted(wall_ms, newest)),
    };
    let newest_ms = newest_ms.unwrap_or(0);
    match newest_ms.saturating_sub(ms) {
        // Nothing was stored later than now.
        ahead_ms if ahead_ms < NOTABLE_MS => (ms.max(newest_ms), passage),
        // The version that stored this goes by another clock. Believing it would age all other messages.
        ahead_ms => (ms, ClosedTime::Strange { ahead_ms }),
    }
}

fn passed_since(seen: &ClockSighting, reading: &Reading) -> Option<u64> {
    let same_boot = seen.boot.is_some() && seen.boot == reading.boot;
    // After a return to a snapshot the time since the boot may be less than it was.
    same_boot
        .then(|| millis(reading.since_boot).checked_sub(seen.since_boot_ms))
        .flatten()
}

fn uncounted(wall_ms: u64, then_ms: u64) -> ClosedTime {
    ClosedTime::Uncounted {
        by_wall_ms: signed(wall_ms).saturating_sub(signed(then_ms)),
    }
}

impl ClosedTime {
    /// Logs what an operator should know.
    pub(crate) fn log(self) {
        if let Self::Uncounted { by_wall_ms } = self
            && by_wall_ms.unsigned_abs() >= NOTABLE_MS
        {
            tracing::warn!(
                by_wall_ms,
                "nobody knows for how long the store was closed (another start of the machine, or a clock that was set): that \
                 time is not counted, so that no message ends too early; delays take no longer from now than was asked for"
            );
        }
        if let Self::Strange { ahead_ms } = self {
            tracing::warn!(
                ahead_ms,
                "an earlier version of sandhog has used the queue store since: what it stored lives for longer by that time, and what \
                 was stored before may have ended too early while it ran"
            );
        }
    }
}

impl StoreTime {
    /// Returns when the stored time `ms` comes, but at most twelve hours from now; now if it has passed.
    pub(crate) fn instant_of(&self, ms: u64) -> Instant {
        self.instant + Duration::from_millis(ms.saturating_sub(self.ms)).min(MAX_DELAY)
    }
}

/// Returns whole milliseconds, rounded up, so that no message becomes visible too early.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const DAY: u64 = 86_400_000;
    const TODAY: u64 = 1_800_000_000_000;

    fn reading(wall_ms: u64, since_boot_ms: u64, boot: u128) -> Reading {
        Reading {
            wall: Duration::from_millis(wall_ms),
            since_boot: Duration::from_millis(since_boot_ms),
            asleep: Duration::ZERO,
            boot: Some(boot),
        }
    }

    fn sighting(at_ms: u64, wall_ms: u64) -> ClockSighting {
        ClockSighting {
            boot: Some(1),
            since_boot_ms: 5_000,
            at_ms,
            wall_ms,
        }
    }

    #[test]
    fn within_one_boot_what_passed_counts_whatever_the_wall_clock_says() {
        for wall_ms in [0, 1_000, TODAY, TODAY + 20 * DAY] {
            let (now, passage) = resume(Some(&sighting(TODAY, TODAY)), None, &reading(wall_ms, 8_000, 1));
            assert_eq!((now, passage), (TODAY + 3_000, ClosedTime::Counted), "{wall_ms}");
        }
    }

    #[test]
    fn after_another_start_of_the_machine_nothing_is_counted() {
        for (wall_ms, by_wall_ms) in [(TODAY + 20 * DAY, 1_728_000_000), (TODAY - DAY, -86_400_000)] {
            let (now, passage) = resume(Some(&sighting(TODAY, TODAY)), None, &reading(wall_ms, 8_000, 2));
            assert_eq!((now, passage), (TODAY, ClosedTime::Uncounted { by_wall_ms }));
        }
        // The same of a machine that was set back to a snapshot, and of a system that tells no boot.
        let back = reading(TODAY + DAY, 4_999, 1);
        let unknown = Reading {
            boot: None,
            ..reading(TODAY + DAY, 8_000, 1)
        };
        let nameless = ClockSighting {
            boot: None,
            ..sighting(TODAY, TODAY)
        };
        for (seen, reading) in [(sighting(TODAY, TODAY), back), (nameless, unknown)] {
            let (now, passage) = resume(Some(&seen), None, &reading);
            assert_eq!(now, TODAY);
            assert!(matches!(passage, ClosedTime::Uncounted { .. }));
        }
    }

    #[test]
    fn a_store_of_an_earlier_version_goes_by_the_wall_clock_unless_that_is_plainly_wrong() {
        let now = |newest, wall_ms| resume(None, newest, &reading(wall_ms, 8_000, 1));
        assert_eq!(now(None, TODAY), (TODAY, ClosedTime::Believed));
        assert_eq!(now(Some(TODAY), TODAY + DAY), (TODAY + DAY, ClosedTime::Believed));
        let (kept, passage) = now(Some(10_000), TODAY);
        assert_eq!(kept, 10_000, "stamped by a clock that nobody had set");
        assert!(matches!(passage, ClosedTime::Uncounted { .. }));
        assert_eq!(now(Some(TODAY), TODAY - DAY).0, TODAY, "a clock that is behind");
    }

    #[test]
    fn nothing_was_stored_later_than_now_unless_by_another_clock() {
        let now = |newest_ms| {
            resume(
                Some(&sighting(TODAY, TODAY)),
                Some(newest_ms),
                &reading(TODAY, 5_000, 1),
            )
        };
        assert_eq!(now(TODAY - DAY), (TODAY, ClosedTime::Counted));
        assert_eq!(now(TODAY + 1_000), (TODAY + 1_000, ClosedTime::Counted));
        assert_eq!(now(TODAY + DAY), (TODAY, ClosedTime::Strange { ahead_ms: DAY }));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_shown_follows_the_wall_clock_and_what_is_compared_does_not() {
        let shown = Arc::new(Mutex::new(reading(TODAY, 1_000, 1)));
        let says = Arc::clone(&shown);
        let clock = StoreClock::start(MachineClock::new(move || *says.lock().unwrap()));
        let set = |wall_ms, since_boot_ms| *shown.lock().unwrap() = reading(wall_ms, since_boot_ms, 1);
        let at = |instant| {
            let now = clock.at(instant);
            (now.ms, now.wall_ms)
        };
        let start = Instant::now();
        assert_eq!(at(start), (TODAY, TODAY));
        set(TODAY + 20 * DAY + 7, 1_007);
        assert_eq!(at(start + Duration::from_millis(7)), (TODAY + 7, TODAY + 20 * DAY + 7));
        set(10, 1_010);
        assert_eq!(at(start + Duration::from_millis(10)), (TODAY + 10, 10));
        // A moment that came before the clock was read.
        assert_eq!(at(start + Duration::from_millis(9)), (TODAY + 9, 9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sighting_is_of_its_moment_however_late_it_is_written() {
        let shown = Arc::new(Mutex::new(reading(TODAY, 1_000, 1)));
        let says = Arc::clone(&shown);
        let clock = StoreClock::start(MachineClock::new(move || *says.lock().unwrap()));
        let last_command = Instant::now();
        tokio::time::advance(Duration::from_millis(DAY)).await;
        *shown.lock().unwrap() = reading(TODAY + DAY, 1_000 + DAY, 1);
        let seen = clock.sighting(clock.at(last_command));
        assert_eq!((seen.at_ms, seen.since_boot_ms), (TODAY, 1_000));
        // Written a day later, it takes nothing from the day.
        let (now, _) = resume(Some(&seen), None, &shown.lock().unwrap());
        assert_eq!(now, TODAY + DAY);
    }

    #[tokio::test(start_paused = true)]
    async fn sleep_counts_and_what_two_readings_differ_by_does_not() {
        let shown = Arc::new(Mutex::new(reading(TODAY, 1_000, 1)));
        let says = Arc::clone(&shown);
        let clock = StoreClock::start(MachineClock::new(move || *says.lock().unwrap()));
        let sleep = |ms| {
            let asleep = Duration::from_millis(ms);
            *shown.lock().unwrap() = Reading {
                asleep,
                ..reading(TODAY + ms, 1_000 + ms, 1)
            };
        };
        let start = Instant::now();
        sleep(900);
        assert_eq!(clock.at(start).ms, TODAY);
        sleep(DAY);
        assert_eq!(
            (clock.at(start).ms, clock.at(start).wall_ms),
            (TODAY + DAY, TODAY + DAY)
        );
        sleep(DAY - 20);
        assert_eq!(clock.at(start).ms, TODAY + DAY, "time never goes back");
    }
}
