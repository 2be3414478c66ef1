//! What `sandhog trace` writes.

use super::*;
use crate::cli::test_streams::written;
use crate::journal::{JournalEntry, JournalSend, WaySender};

fn entry(message: &str) -> JournalEntry {
    let json = format!(
        r#"{{"attempt":1,"handler":"orders","version":3,"queue":"orders","message":"{message}","receive-count":1,"batch":1,
        "outcome":"success","settlement":"delete","sent-at-ms":0,"began-at-ms":86400123,"duration-ms":4.25}}"#
    );
    serde_json::from_str(&json).unwrap()
}

#[test]
fn the_way_of_a_message_is_a_tree() {
    let first = JournalEntry {
        sends: vec![JournalSend {
            queue: "totals".to_owned(),
            message: "m2".to_owned(),
            bytes: 12,
            deduplication_id: None,
        }],
        ..entry("m1")
    };
    let way = MessageWay {
        message: "m1".to_owned(),
        sent_by: None::<WaySender>,
        attempts: vec![first],
        sent: vec![MessageWay {
            message: "m2".to_owned(),
            sent_by: None,
            attempts: vec![entry("m2")],
            sent: Vec::new(),
            more: false,
        }],
        more: false,
    };
    let text = written(None, |streams| {
        let (paint, output) = (streams.paint, &mut *streams.output);
        write_way(&way, 1, &mut AttemptLines { output, paint })
    });
    assert_eq!(
        text,
        "  1970-01-02T00:00:00.123Z orders v3 m1 success, 4.2ms\n    sent to totals: m2, 12 bytes\n      1970-01-02T00:00:00.123Z orders v3 m2 success, 4.2ms\n"
    );
}
