//! Tests of the processed messages against a model that keeps everything, and against a disk that fails.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const HOUR_MS: u64 = 3_600_000;
const LATE_MS: u64 = 500;
/// Some day.
const START_MS: u64 = 1_700_000_000_000;

fn processed(max_entries: usize) -> ProcessedMessages {
    let window = Duration::from_hours(1);
    ProcessedMessages::new(ProcessedMessageSettings { window, max_entries }, true)
}

fn key(number: u64) -> ProcessedMessageKey {
    let id = MessageId::from_queue(&number.to_string());
    ProcessedMessageKey::new(&QueueName::new("orders").unwrap(), &id)
}

fn keys(numbers: std::ops::Range<u64>) -> Vec<ProcessedMessageKey> {
    numbers.map(key).collect()
}

#[test]
fn a_key_is_the_same_for_ever_and_another_for_every_message() {
    let key =
        |queue: &str, id: &str| ProcessedMessageKey::new(&QueueName::new(queue).unwrap(), &MessageId::from_queue(id));
    // The form on disks: SHA-256 of the lengths as 64 bits little-endian, each before its text.
    let bytes = [
        0x2a, 0xcf, 0x7f, 0xe5, 0x75, 0xa0, 0x36, 0xf0, 0xf9, 0xb5, 0xe7, 0x36, 0x2a, 0xda, 0x58, 0x59,
    ];
    assert_eq!(key("orders", "1"), ProcessedMessageKey(bytes));
    assert_ne!(key("orders", "1"), key("orders", "2"));
    assert_ne!(key("orders", "1"), key("order", "s1"), "the same when joined");
    assert_ne!(key("orders", "1"), key("Orders", "1"));
}

#[test]
fn a_message_is_known_for_as_long_as_the_window_and_then_forgotten() {
    let mut processed = processed(10);
    processed.note([key(1)], START_MS);
    assert!(processed.knows(&key(1), START_MS + HOUR_MS - 1));
    assert!(!processed.knows(&key(1), START_MS + HOUR_MS));
    assert!(!processed.knows(&key(2), START_MS));
    // Noted again, it is known from then on.
    processed.note([key(1)], START_MS + HOUR_MS - 1);
    assert!(processed.knows(&key(1), START_MS + HOUR_MS));
    // Noting another makes room in passing.
    processed.note([key(2)], START_MS + 3 * HOUR_MS);
    assert_eq!(
        (processed.notes.len(), processed.places.len(), processed.segments.len()),
        (1, 1, 1)
    );
}

#[test]
fn of_too_many_the_oldest_are_forgotten() {
    let mut processed = processed(100);
    processed.note(keys(0..150), START_MS);
    assert!((0..50).all(|number| !processed.knows(&key(number), START_MS)));
    assert!((50..150).all(|number| processed.knows(&key(number), START_MS)));
    assert_eq!(processed.notes.len(), 100);
}

#[test]
fn a_store_that_is_off_records_nothing() {
    let no_window = ProcessedMessageSettings {
        window: Duration::ZERO,
        ..ProcessedMessageSettings::default()
    };
    let no_entries = ProcessedMessageSettings {
        max_entries: 0,
        ..ProcessedMessageSettings::default()
    };
    for settings in [no_window, no_entries, ProcessedMessageSettings::OFF] {
        let mut processed = ProcessedMessages::new(settings, true);
        assert!(processed.is_off());
        assert!(!processed.note(keys(0..10_000), START_MS));
        let segment = ProcessedSegment {
            number: processed.next_segment(),
            noted_ms: START_MS,
            keys: keys(0..3),
        };
        processed.add(&segment);
        processed.learn(&segment, START_MS);
        assert!((0..3).all(|number| !processed.knows(&key(number), START_MS)));
        assert_eq!((processed.notes.len(), processed.unwritten()), (0, 0));
        // The rows that an earlier run left are to go.
        assert_eq!(processed.dead(9), [segment.number]);
    }
}

#[test]
fn settings_beyond_their_range_are_cut_to_it() {
    let processed = ProcessedMessages::new(
        ProcessedMessageSettings {
            window: Duration::MAX,
            max_entries: usize::MAX,
        },
        true,
    );
    assert_eq!(processed.window_ms, 14 * 24 * HOUR_MS);
    assert_eq!(processed.max_entries, 10_000_000);
}

#[test]
fn a_clock_that_was_set_back_neither_forgets_early_nor_remembers_for_ever() {
    let mut processed = processed(10);
    let segment = ProcessedSegment {
        number: 1,
        noted_ms: START_MS + 1000 * HOUR_MS,
        keys: keys(0..1),
    };
    processed.learn(&segment, START_MS);
    assert!(processed.knows(&key(0), START_MS + HOUR_MS - 1));
    assert!(!processed.knows(&key(0), START_MS + HOUR_MS));
    // Threads may come with their times in any order.
    processed.note([key(1)], START_MS + HOUR_MS);
    processed.note([key(2)], START_MS);
    assert!(processed.knows(&key(2), START_MS));
    assert!(!processed.knows(&key(0), START_MS), "it has been forgotten");
}

#[test]
fn the_writer_is_told_once_when_there_is_something_and_once_when_there_is_much() {
    let mut processed = processed(100_000);
    assert!(processed.note(keys(0..1), START_MS));
    assert!(!processed.note(keys(1..4000), START_MS + 1));
    assert!(processed.note(keys(4000..5000), START_MS + 2));
    assert!(!processed.note(keys(5000..9000), START_MS + 3));
    let taken = processed.take_unwritten();
    assert_eq!(taken.iter().map(|segment| segment.keys.len()).sum::<usize>(), 9000);
    assert!(taken.iter().all(|segment| segment.keys.len() <= NOTES_AT_ONCE));
    assert_eq!(processed.unwritten(), 0);
    assert!(processed.note(keys(9000..9001), START_MS + 4));
}

#[test]
fn what_a_disk_does_not_take_is_bounded_and_known_all_the_same() {
    let mut processed = processed(1_000_000);
    processed.note(keys(0..70_000), START_MS);
    assert_eq!(processed.unwritten(), MOST_UNWRITTEN);
    let taken = processed.take_unwritten();
    processed.note(keys(70_000..75_000), START_MS);
    processed.put_back(taken);
    assert!(processed.unwritten() <= MOST_UNWRITTEN);
    let again = processed.take_unwritten();
    assert_eq!(
        again.last().unwrap().keys.last(),
        Some(&key(74_999)),
        "the newest are kept"
    );
    assert!((0..75_000).all(|number| processed.knows(&key(number), START_MS)));
}

#[test]
fn no_segment_stands_for_more_than_half_a_second() {
    let mut processed = processed(1000);
    for number in 0..100 {
        processed.note([key(number)], START_MS + 30 * number);
    }
    for segment in processed.take_unwritten() {
        let number = (0..100)
            .find(|number| segment.keys.first() == Some(&key(*number)))
            .unwrap();
        assert!(segment.noted_ms - (START_MS + 30 * number) < LATE_MS);
    }
}

/// One step of a test. Keys are from a small range, so that they are noted again and again.
#[derive(Debug, Clone)]
enum Step {
    Note(Vec<u64>),
    /// Noted in a transaction of the store that ends well.
    Commit(Vec<u64>),
    Pass(u64),
    /// The notes are written, or can't be.
    Write(bool),
    /// A segment is taken to be written, others come meanwhile, and then it is written.
    SlowWrite(Vec<u64>),
    /// The store is opened anew, with its wall clock set forward or back.
    Reopen(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let some = || prop::collection::vec(0_u64..20, 1..8);
    prop_oneof![
        6 => some().prop_map(Step::Note),
        3 => some().prop_map(Step::Commit),
        4 => (0_u64..HOUR_MS / 3).prop_map(Step::Pass),
        2 => (0_u64..2 * LATE_MS).prop_map(Step::Pass),
        3 => any::<bool>().prop_map(Step::Write),
        2 => some().prop_map(Step::SlowWrite),
        1 => prop_oneof![Just(0), -5_000_000_i64..5_000_000].prop_map(Step::Reopen),
    ]
}

/// Processed messages, the disk below them, and everything that was ever noted.
struct Bench {
    max_entries: usize,
    now_ms: u64,
    processed: ProcessedMessages,
    disk: BTreeMap<u64, ProcessedSegment>,
    /// Number of the key, and when it was noted: oldest first.
    history: Vec<(u64, u64)>,
}

impl Bench {
    fn record(&mut self, numbers: &[u64]) {
        self.history.extend(numbers.iter().map(|number| (*number, self.now_ms)));
    }

    fn note(&mut self, numbers: &[u64]) {
        self.processed.note(numbers.iter().copied().map(key), self.now_ms);
        self.record(numbers);
    }

    fn store(&mut self, segments: &[ProcessedSegment]) {
        for segment in segments {
            let former = self.disk.insert(segment.number, segment.clone());
            assert!(former.is_none(), "a row is written once");
        }
        let dead = self.processed.dead(2);
        for number in &dead {
            assert!(self.disk.remove(number).is_some(), "a row is deleted once");
        }
        self.processed.removed(dead.len());
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Note(numbers) => self.note(numbers),
            Step::Commit(numbers) => {
                let segment = ProcessedSegment {
                    number: self.processed.next_segment(),
                    noted_ms: self.now_ms,
                    keys: numbers.iter().copied().map(key).collect(),
                };
                self.store(std::slice::from_ref(&segment));
                self.processed.add(&segment);
                self.record(numbers);
            }
            Step::Pass(ms) => self.now_ms += ms,
            Step::Write(false) => {
                let taken = self.processed.take_unwritten();
                self.processed.put_back(taken);
            }
            Step::Write(true) => {
                let taken = self.processed.take_unwritten();
                self.store(&taken);
                self.processed.written(&taken);
                assert_eq!(self.processed.unwritten(), 0);
            }
            Step::SlowWrite(numbers) => {
                let taken = self.processed.take_unwritten();
                self.note(numbers);
                self.store(&taken);
                self.processed.written(&taken);
            }
            Step::Reopen(shift) => self.reopen(*shift),
        }
    }

    fn reopen(&mut self, shift: i64) {
        // A jump of the wall clock also moves the times of the model.
        self.now_ms = self.now_ms.saturating_add_signed(shift);
        self.processed = processed(self.max_entries);
        self.history.clear();
        for segment in self.disk.values() {
            self.processed.learn(segment, self.now_ms);
            let noted_ms = segment.noted_ms.min(self.now_ms);
            if noted_ms + HOUR_MS > self.now_ms {
                let number_of = |key: &ProcessedMessageKey| (0..20).find(|number| self::key(*number) == *key).unwrap();
                self.history
                    .extend(segment.keys.iter().map(|key| (number_of(key), noted_ms)));
            }
        }
    }

    fn check(&self) {
        let processed = &self.processed;
        assert!(
            processed.notes.len() <= self.max_entries,
            "{} notes",
            processed.notes.len()
        );
        assert!(processed.places.len() <= processed.notes.len());
        assert!(processed.segments.len() <= processed.notes.len());
        for number in 0..20 {
            let is_known = processed.knows(&key(number), self.now_ms);
            let last = self.history.iter().rev().position(|(other, _)| *other == number);
            let Some(newer) = last else {
                assert!(!is_known, "{number} was never noted");
                continue;
            };
            let (_, noted_ms) = self.history[self.history.len() - 1 - newer];
            let age_ms = self.now_ms - noted_ms;
            if newer >= self.max_entries {
                assert!(!is_known, "{number} is beyond the bound");
            } else if age_ms < HOUR_MS {
                assert!(is_known, "{number} is forgotten: {newer} newer ones, {age_ms} ms old");
            } else if age_ms >= HOUR_MS + LATE_MS {
                assert!(!is_known, "{number} is {age_ms} ms old");
            }
        }
        // On the disk is what is remembered, and what is known to be forgotten and waits for its deletion.
        let stored = |(number, about): (&u64, &KnownSegment)| about.is_stored.then_some(*number);
        let mut expected: BTreeSet<u64> = processed.segments.iter().filter_map(stored).collect();
        expected.extend(&processed.dead);
        assert_eq!(self.disk.keys().copied().collect::<BTreeSet<_>>(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_keeps_its_bounds_and_forgets_nothing_within_them(
        max_entries in 1_usize..30,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut bench = Bench {
            max_entries,
            now_ms: START_MS,
            processed: processed(max_entries),
            disk: BTreeMap::new(),
            history: Vec::new(),
        };
        for step in &steps {
            bench.take(step);
            bench.check();
        }
    }
}
