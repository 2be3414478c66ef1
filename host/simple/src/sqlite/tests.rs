//! What the rows on disk promise beyond what the rules ask of any rows: the number of the last transaction, and where the messages in
//! flight are.

use std::{fs::File, path::Path, sync::Arc};

use bytes::Bytes;
use sandhog_queue::message::{Attributes, Message, MessageId};
use tempfile::TempDir;

use super::{
    super::{
        row::{MessageContent, MessageMeta, MessagePast, MessageState, PoisonSuspicion, QueueKey, SentDetails},
        rows::Rows,
        schema::ZONE,
    },
    SqliteRows,
};

const QUEUE: QueueKey = QueueKey(1);

fn open(directory: &Path) -> SqliteRows {
    SqliteRows::open(&directory.join("queues.db"), None).unwrap()
}

fn meta(seq: u64, state: MessageState) -> MessageMeta {
    MessageMeta {
        seq,
        queue: QUEUE,
        state,
        priority: 0,
        group: None,
        visible_at_ms: 0,
        receive_count: 0,
        queued_at_ms: 5,
        suspicion: PoisonSuspicion::NONE,
        origin: None,
        past: MessagePast::begin(seq, 5),
    }
}

fn content(sent: SentDetails) -> MessageContent {
    MessageContent {
        message: Message {
            id: MessageId::random(),
            body: Bytes::from_static(b"body"),
            attributes: Attributes::default(),
            sent_at_ms: 6,
            group_id: None,
            priority: 0,
        },
        sent,
        failure: None,
        death: None,
    }
}

fn insert(rows: &mut SqliteRows, seq: u64, state: MessageState) {
    rows.insert(meta(seq, state), content(SentDetails::default())).unwrap();
}

/// Applies a transaction to a store of its own, closes it as a kill would, and returns the number that it wrote and the number found later.
fn numbers(steps: &[fn(&mut SqliteRows)]) -> (u64, u64) {
    let directory = TempDir::new().unwrap();
    let mut rows = open(directory.path());
    for step in steps {
        rows.begin().unwrap();
        step(&mut rows);
        rows.commit().unwrap();
    }
    let written = rows.commits();
    drop(rows);
    (written, open(directory.path()).commits())
}

#[test]
fn the_number_of_the_last_transaction_is_found_whatever_it_did() {
    use MessageState::{Delayed, InFlight, Ready};
    let cases: [&[fn(&mut SqliteRows)]; 7] = [
        &[|rows| insert(rows, 1, Ready)],
        &[|rows| insert(rows, 1, Ready), |rows| insert(rows, 2, Delayed)],
        &[
            |rows| insert(rows, 1, Ready),
            |rows| rows.delete(&meta(1, InFlight)).unwrap(),
        ],
        &[
            |rows| insert(rows, 1, Ready),
            |rows| insert(rows, 2, Ready),
            |rows| rows.delete(&meta(1, InFlight)).unwrap(),
        ],
        // The newest row goes in the transaction that brought it, while an older one stays.
        &[
            |rows| insert(rows, 1, Delayed),
            |rows| {
                insert(rows, 2, Delayed);
                rows.delete(&meta(2, Delayed)).unwrap();
            },
        ],
        &[
            |rows| insert(rows, 1, Delayed),
            |rows| rows.relocate(1, &meta(2, Ready), None).unwrap(),
        ],
        &[
            |rows| insert(rows, 1, Delayed),
            |rows| {
                rows.delete(&meta(1, Delayed)).unwrap();
                insert(rows, 2, Ready);
            },
        ],
    ];
    for (index, steps) in cases.into_iter().enumerate() {
        let (written, found) = numbers(steps);
        assert_eq!(
            (written, found),
            (u64::try_from(steps.len()).unwrap(), written),
            "case {index}"
        );
    }
}

#[test]
fn what_was_rolled_back_leaves_no_number() {
    let directory = TempDir::new().unwrap();
    let mut rows = open(directory.path());
    rows.begin().unwrap();
    insert(&mut rows, 1, MessageState::Delayed);
    rows.roll_back().unwrap();
    rows.begin().unwrap();
    insert(&mut rows, 2, MessageState::Ready);
    rows.commit().unwrap();
    drop(rows);
    assert_eq!(open(directory.path()).commits(), 1);
}

#[test]
fn after_an_orderly_end_the_newest_message_may_be_deleted_by_hand() {
    let directory = TempDir::new().unwrap();
    let mut rows = open(directory.path());
    rows.begin().unwrap();
    insert(&mut rows, 1, MessageState::Ready);
    rows.commit().unwrap();
    rows.checkpoint();
    drop(rows);
    let tool = rusqlite::Connection::open(directory.path().join("queues.db")).unwrap();
    tool.execute("DELETE FROM messages", []).unwrap();
    drop(tool);
    assert_eq!(open(directory.path()).commits(), 1);
}

#[test]
fn messages_in_flight_are_found_after_a_restart_however_they_came_to_be() {
    let directory = TempDir::new().unwrap();
    let mut rows = open(directory.path());
    rows.begin().unwrap();
    // Taken in the transaction that brought it, taken later, and written as it is, each in a zone of its own.
    let seqs = [1, 3 * ZONE, 5 * ZONE + 7];
    insert(&mut rows, seqs[0], MessageState::Ready);
    rows.take(&meta(seqs[0], MessageState::InFlight)).unwrap();
    insert(&mut rows, seqs[1], MessageState::Delayed);
    insert(&mut rows, seqs[2], MessageState::Ready);
    rows.commit().unwrap();
    rows.begin().unwrap();
    rows.place(&meta(seqs[1], MessageState::InFlight)).unwrap();
    rows.take(&meta(seqs[2], MessageState::InFlight)).unwrap();
    rows.commit().unwrap();
    drop(rows);
    let mut rows = open(directory.path());
    rows.begin().unwrap();
    let found = rows.any(QUEUE, MessageState::InFlight, u64::MAX, 10).unwrap();
    let found: Vec<u64> = found.into_iter().map(|meta| meta.seq).collect();
    assert_eq!(found, seqs);
    let states = rows.census().unwrap().states;
    assert_eq!(states, [(QUEUE, MessageState::InFlight, 3)]);
}

#[test]
fn a_rollback_forgets_where_a_message_would_have_been_in_flight() {
    let directory = TempDir::new().unwrap();
    let mut rows = open(directory.path());
    rows.begin().unwrap();
    insert(&mut rows, 1, MessageState::Ready);
    rows.commit().unwrap();
    rows.begin().unwrap();
    rows.take(&meta(1, MessageState::InFlight)).unwrap();
    rows.roll_back().unwrap();
    rows.begin().unwrap();
    rows.take(&meta(1, MessageState::InFlight)).unwrap();
    rows.commit().unwrap();
    drop(rows);
    let mut rows = open(directory.path());
    rows.begin().unwrap();
    assert_eq!(rows.any(QUEUE, MessageState::InFlight, u64::MAX, 10).unwrap().len(), 1);
}

#[test]
fn the_places_of_messages_that_are_gone_are_forgotten_in_time() {
    let directory = TempDir::new().unwrap();
    let mut rows = open(directory.path());
    // The first stays in flight, and the others come and go.
    for number in 0..1000 {
        rows.begin().unwrap();
        let seq = number * ZONE + 1;
        insert(&mut rows, seq, MessageState::Ready);
        rows.take(&meta(seq, MessageState::InFlight)).unwrap();
        rows.commit().unwrap();
        if number > 0 {
            rows.begin().unwrap();
            rows.delete(&meta(seq, MessageState::InFlight)).unwrap();
            rows.commit().unwrap();
        }
    }
    rows.begin().unwrap();
    assert_eq!(rows.any(QUEUE, MessageState::InFlight, u64::MAX, 10).unwrap().len(), 1);
    rows.commit().unwrap();
    drop(rows);
    let tool = rusqlite::Connection::open(directory.path().join("queues.db")).unwrap();
    let zones: i64 = tool
        .query_row("SELECT count(*) FROM flights", [], |row| row.get(0))
        .unwrap();
    assert!(zones < 200, "{zones}");
}

#[test]
fn everything_about_a_message_comes_back_and_any_change_of_it_is_damage() {
    let directory = TempDir::new().unwrap();
    let mut rows = open(directory.path());
    let sent = SentDetails {
        deduplication_id: Some("once".into()),
        system: Some(r#"{"AWSTraceHeader":"Root=1"}"#.into()),
        parent: Some("another".into()),
        sender: Some(r#"{"handler":"h"}"#.into()),
    };
    let stored = MessageMeta {
        past: MessagePast {
            first_queued_at_ms: 1,
            first_received_at_ms: Some(2),
            earlier_receives: 3,
            sequence: 4,
        },
        ..meta(9, MessageState::Ready)
    };
    rows.begin().unwrap();
    rows.insert(stored.clone(), content(sent.clone())).unwrap();
    rows.commit().unwrap();
    rows.begin().unwrap();
    let fetched = rows.fetch(9).unwrap().unwrap();
    assert_eq!(fetched.meta.past, stored.past);
    assert_eq!(fetched.content.unwrap().sent, sent);
    rows.commit().unwrap();
    drop(rows);
    let tool = rusqlite::Connection::open(directory.path().join("queues.db")).unwrap();
    tool.execute_batch("CREATE TABLE whole AS SELECT * FROM messages")
        .unwrap();
    for column in ["deduplication_id", "system", "parent", "sender"] {
        for value in ["NULL", "'x'"] {
            tool.execute(&format!("UPDATE messages SET {column} = {value}"), [])
                .unwrap();
            let mut rows = open(directory.path());
            rows.begin().unwrap();
            assert!(rows.fetch(9).unwrap().unwrap().content.is_err(), "{column} {value}");
            drop(rows);
            tool.execute(
                &format!("UPDATE messages SET {column} = (SELECT {column} FROM whole)"),
                [],
            )
            .unwrap();
        }
    }
    drop(tool);
    let mut rows = open(directory.path());
    rows.begin().unwrap();
    assert!(rows.fetch(9).unwrap().unwrap().content.is_ok());
}

#[test]
fn a_copy_counts_how_often_another_program_made_it_begin_again() {
    let directory = TempDir::new().unwrap();
    let mut rows = open(directory.path());
    rows.begin().unwrap();
    // More than two of the largest steps.
    for seq in 1..=3000 {
        let mut large = content(SentDetails::default());
        large.message.body = Bytes::from(vec![b'x'; 7000]);
        rows.insert(meta(seq, MessageState::Ready), large).unwrap();
    }
    rows.commit().unwrap();
    let mut other = open(directory.path());
    let (copy, wanted) = (directory.path().join("copy.db"), Arc::new(()));
    File::create(&copy).unwrap();
    assert!(rows.begin_copy(&copy, &wanted).unwrap());
    let first = rows.step_copy().unwrap().unwrap();
    assert!(!first.is_whole && first.restarts == 0, "{first:?}");
    for restarts in 1..=20 {
        other.begin().unwrap();
        insert(&mut other, 10_000 + u64::from(restarts), MessageState::Ready);
        other.commit().unwrap();
        let step = rows.step_copy().unwrap().unwrap();
        assert!(!step.is_whole, "{step:?}");
        assert_eq!(step.restarts, restarts);
    }
    while !rows.step_copy().unwrap().unwrap().is_whole {}
}
