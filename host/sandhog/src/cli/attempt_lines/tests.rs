//! The lines of attempts.

use super::*;
use crate::journal::JournalLine;

fn entry(message: &str) -> JournalEntry {
    let json = format!(
        r#"{{"attempt":1,"handler":"orders","version":3,"queue":"orders","message":"{message}","receive-count":1,"batch":1,
        "outcome":"success","settlement":"delete","sent-at-ms":0,"began-at-ms":86400123,"duration-ms":4.25}}"#
    );
    serde_json::from_str(&json).unwrap()
}

fn written(entry: &JournalEntry) -> String {
    let mut output = Vec::new();
    let mut lines = AttemptLines {
        output: &mut output,
        paint: Paint::default(),
    };
    lines.entry(entry).unwrap();
    String::from_utf8(output).unwrap()
}

#[test]
fn an_attempt_is_a_line_with_what_it_sent_and_printed_below() {
    let entry = JournalEntry {
        cpu_ms: Some(1.5),
        memory_peak_bytes: Some(3 << 20),
        sends: vec![JournalSend {
            queue: "totals".to_owned(),
            message: "m2".to_owned(),
            bytes: 12,
            deduplication_id: None,
        }],
        log: vec![JournalLine {
            stream: "stdout".to_owned(),
            text: "one\ntwo \u{1b}[31m".to_owned(),
        }],
        ..entry("m1")
    };
    let text = written(&entry);
    assert_eq!(
        text,
        "1970-01-02T00:00:00.123Z orders v3 m1 success, 4.2ms (processor 1.5ms), 3.0 MiB\n  stdout | one\n  stdout | two \\u{1b}[31m\n  sent to totals: m2, 12 bytes\n"
    );
}

#[test]
fn an_attempt_that_failed_says_why_and_what_becomes_of_its_message() {
    let failed = JournalEntry {
        outcome: "trap".into(),
        settlement: Some("retry".into()),
        retry_in_ms: Some(2000),
        receive_count: 2,
        reason: Some("out of paper".to_owned()),
        ..entry("m1")
    };
    let text = written(&failed);
    assert_eq!(
        text,
        "1970-01-02T00:00:00.123Z orders v3 m1 trap, receive 2, 4.2ms: again in 2s\n  reason | out of paper\n"
    );
}
