//! What the journal keeps, and for how long.

use super::*;

pub(crate) fn entry(handler: &str, message: &str) -> JournalEntry {
    JournalEntry {
        attempt: 0,
        handler: handler.to_owned(),
        version: 1,
        queue: "orders".to_owned(),
        message: message.to_owned(),
        receive_count: 1,
        batch: 1,
        outcome: "success".into(),
        disputed: false,
        settlement: Some("delete".into()),
        retry_in_ms: None,
        reason: None,
        stack: None,
        sent_at_ms: 0,
        began_at_ms: 0,
        duration_ms: 1.0,
        cpu_ms: None,
        memory_peak_bytes: None,
        sends: Vec::new(),
        more_sends: 0,
        log: Vec::new(),
        earlier_lines: 0,
    }
}

fn messages(entries: &[Arc<JournalEntry>]) -> Vec<&str> {
    entries.iter().map(|entry| &*entry.message).collect()
}

#[test]
fn the_newest_entries_of_each_handler_are_kept() {
    let limits = JournalLimits {
        entries: 3,
        ..JournalLimits::default()
    };
    let journal = Journal::new(limits);
    journal.add((0..5).map(|number| entry("a", &format!("a{number}"))));
    journal.add([entry("b", "b0")]);
    let all = journal.recent(&JournalFilter::default(), 100, None, None);
    assert_eq!(messages(&all), ["a2", "a3", "a4", "b0"]);
    assert!(all.is_sorted_by_key(|entry| entry.attempt));
    let two = journal.recent(&JournalFilter::default(), 2, None, None);
    assert_eq!(messages(&two), ["a4", "b0"]);
    let before = journal.recent(&JournalFilter::default(), 100, None, Some(two[0].attempt));
    assert_eq!(messages(&before), ["a2", "a3"]);
    let after = journal.recent(&JournalFilter::default(), 100, Some(two[0].attempt), None);
    assert_eq!(messages(&after), ["b0"]);
}

#[test]
fn entries_stay_within_their_bytes() {
    let limits = JournalLimits {
        entries: 1000,
        bytes: 10_000,
    };
    let journal = Journal::new(limits);
    for number in 0..100 {
        let reason = Some("x".repeat(1000));
        journal.add([JournalEntry {
            reason,
            ..entry("a", &number.to_string())
        }]);
    }
    let kept = journal.recent(&JournalFilter::default(), 1000, None, None);
    let bytes: usize = kept.iter().map(|entry| entry.size()).sum();
    assert!(
        (5..=10).contains(&kept.len()) && bytes <= 10_000,
        "{} with {bytes}",
        kept.len()
    );
    assert_eq!(kept.last().unwrap().message, "99");
}

#[test]
fn a_journal_that_keeps_nothing_still_shows_what_ends_now() {
    let limits = JournalLimits {
        entries: 0,
        ..JournalLimits::default()
    };
    let journal = Journal::new(limits);
    let mut live = journal.live();
    journal.add([entry("a", "m")]);
    assert!(journal.recent(&JournalFilter::default(), 10, None, None).is_empty());
    assert_eq!(live.try_recv().unwrap().message, "m");
}

#[test]
fn handlers_that_come_and_go_are_forgotten_in_the_end() {
    let journal = Journal::default();
    for number in 0..MAX_HANDLERS + 10 {
        journal.add([entry(&number.to_string(), "m")]);
    }
    let all = journal.recent(&JournalFilter::default(), usize::MAX, None, None);
    assert_eq!(all.len(), MAX_HANDLERS);
    assert_eq!(all[0].handler, "10");
}

#[test]
fn a_filter_admits_what_it_names() {
    let failed = JournalEntry {
        outcome: "trap".into(),
        ..entry("a", "m")
    };
    let only_failed = JournalFilter {
        failed: true,
        ..JournalFilter::default()
    };
    assert!(only_failed.admits(&failed) && !only_failed.admits(&entry("a", "m")));
    let of_version = JournalFilter {
        version: Some(2),
        ..JournalFilter::default()
    };
    assert!(!of_version.admits(&failed));
}
