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
    let place = MessagePlace {
        queue: Some("totals".to_owned()),
        state: "delayed".to_owned(),
    };
    let above = |message: &str, handler: Option<&str>| MessageAbove {
        message: message.to_owned(),
        queue: handler.map(|_| "web".to_owned()),
        handler: handler.map(str::to_owned),
        version: handler.map(|_| 2),
    };
    let places = [
        ("m2".to_owned(), place),
        ("m1".to_owned(), MessagePlace::nowhere("handled")),
    ];
    let trace = MessageTrace {
        way,
        above: vec![above("a", Some("web")), above("b", None)],
        places: places.into_iter().collect(),
    };
    let text = written(None, |streams| write_trace(&trace, streams));
    assert_eq!(
        text,
        "\
b: sent by web v2 for message a of queue web
m1: sent by somebody, as a copy of message b
  1970-01-02T00:00:00.123Z orders v3 m1 success, 4.2ms
    sent to totals: m2, 12 bytes
      1970-01-02T00:00:00.123Z orders v3 m2 success, 4.2ms
      now in queue totals: delayed
  handled, and no longer in any queue
"
    );
}
