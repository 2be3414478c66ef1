//! A durable store of the first version of the format becomes one of the current version when it is opened: with every row, and as
//! a whole or not at all, whatever happens to the process, the power or the disk meanwhile.
//!
//! Stores of the first version are made by the SQL that made them, and filled with rows that a store of today wrote: what both
//! versions have is stored alike.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the steps of a test must succeed"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use harness::{
    faulty_store::{Fault, FaultyStore, Loss, crash},
    wait_for,
};
use rusqlite::{Connection, OpenFlags, config::DbConfig, types::Value};
use sandhog_queue::{
    Delivery, Effects, FailureKind, FailureRecord, Queue, SettleRequest, Settlement,
    keyvalue::{self, KeyValueWrite, Writes},
    message::{AttributeValue, Attributes, MessageId, Outgoing, QueueName},
};
use sandhog_simple::{
    OpenError, ProcessedMessageKey, QueueMaker, QueueRecord, SimpleQueue, SimpleStore, StoreOptions,
    settings::{Order, Settings},
};
use tempfile::TempDir;

const DATABASE: &str = "queues.db";
const FILES: [&str; 3] = [DATABASE, "queues.db-wal", "queues.commits"];
const DELAY: Duration = Duration::from_hours(1);
/// Larger than what is kept in the row of a message today.
const LARGE: usize = 60_000;

/// The tables of the first version, with those that came later.
const FIRST: &str = "
CREATE TABLE store (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    commits INTEGER NOT NULL
) STRICT;

CREATE TABLE queues (
    queue INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    one_lane INTEGER NOT NULL
) STRICT;

CREATE TABLE messages (
    seq INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    state INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    lane TEXT,
    visible_at INTEGER NOT NULL,
    receive_count INTEGER NOT NULL,
    queued_at INTEGER NOT NULL,
    suspect INTEGER NOT NULL,
    origin INTEGER,
    id TEXT NOT NULL,
    sent_at INTEGER NOT NULL,
    group_id TEXT,
    failure TEXT,
    dead_at INTEGER,
    dead_receive_count INTEGER,
    dead_failure TEXT,
    checksum INTEGER NOT NULL,
    attributes TEXT,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX messages_by_state ON messages (queue, state, priority DESC, seq);
CREATE INDEX messages_due ON messages (queue, visible_at) WHERE state IN (3, 4);
CREATE UNIQUE INDEX lane_heads ON messages (queue, lane) WHERE lane IS NOT NULL AND state IN (0, 2, 4);
CREATE INDEX lane_held ON messages (queue, lane, priority DESC, seq) WHERE lane IS NOT NULL AND state = 1;
CREATE INDEX suspects ON messages (queue, state, priority DESC, seq) WHERE suspect > 0;
CREATE INDEX dead_letters ON messages (origin, seq) WHERE origin IS NOT NULL;
CREATE INDEX dead_letter_ids ON messages (origin, id) WHERE origin IS NOT NULL;

CREATE TABLE deduplication (
    queue INTEGER NOT NULL,
    deduplication_id TEXT NOT NULL,
    id TEXT NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (queue, deduplication_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX deduplication_until ON deduplication (until);
";
const PROCESSED: &str = "
CREATE TABLE handled (
    segment INTEGER PRIMARY KEY,
    noted_at INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    keys BLOB NOT NULL
) STRICT;
";
const KEYVALUE: &str = "
CREATE TABLE namespaces (
    namespace INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE entries (
    entry INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    bucket TEXT NOT NULL,
    key TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    value BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX entries_by_key ON entries (namespace, bucket, key);
";
const CLOCK: &str = "
CREATE TABLE clock (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    boot TEXT,
    since_boot INTEGER NOT NULL,
    at INTEGER NOT NULL,
    wall INTEGER NOT NULL
) STRICT;
";
const VERSION: &str = "PRAGMA application_id = 1396788804; PRAGMA user_version = 1;";

/// The columns of the first version, per table.
const COLUMNS: [(&str, &str); 7] = [
    ("queues", "queue, name, one_lane"),
    (
        "messages",
        "seq, queue, state, priority, lane, visible_at, receive_count, queued_at, suspect, origin, id, sent_at, group_id,
         failure, dead_at, dead_receive_count, dead_failure, checksum, attributes",
    ),
    ("deduplication", "queue, deduplication_id, id, until"),
    ("handled", "segment, noted_at, checksum, keys"),
    ("namespaces", "namespace, name, bytes"),
    ("entries", "entry, namespace, bucket, key, checksum, value"),
    ("clock", "only, boot, since_boot, at, wall"),
];
const BODY: &str = "CASE WHEN body_key IS NULL THEN body
    ELSE (SELECT bodies.body FROM bodies WHERE bodies.body_key = messages.body_key) END";

/// The rows of each table.
type Rows = BTreeMap<&'static str, Vec<Vec<Value>>>;

fn name(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

async fn open(directory: &Path, vfs: Option<String>) -> Result<SimpleStore, OpenError> {
    let options = StoreOptions {
        vfs,
        ..StoreOptions::new(directory)
    };
    // A process that another test starts holds a copy of each descriptor until it becomes its program: of the store's lock, too.
    let opened = move || match SimpleStore::open(&options) {
        Err(OpenError::InUse { .. }) => None,
        opened => Some(opened),
    };
    tokio::task::spawn_blocking(move || wait_for("the lock of the store", opened))
        .await
        .unwrap()
}

async fn queue(store: &SimpleStore, queue: &str) -> Arc<SimpleQueue> {
    let settings = Settings {
        order: if queue == "strict" { Order::Queue } else { Order::Group },
        ..Settings::defaults(&name(queue))
    };
    store.queue(name(queue), settings).await.unwrap()
}

async fn send(queue: &SimpleQueue, message: Outgoing) -> MessageId {
    queue.send(message.check().unwrap()).await.unwrap()
}

async fn receive(queue: &SimpleQueue, body: &str) -> Delivery {
    let delivery = queue.receive(1, Duration::ZERO).await.unwrap().pop();
    let delivery = delivery.unwrap_or_else(|| panic!("no {body}"));
    assert_eq!(delivery.message.body, body);
    delivery
}

async fn settle(queue: &SimpleQueue, delivery: Delivery, settlement: Settlement) {
    let request = SettleRequest {
        receipt: delivery.receipt,
        settlement,
    };
    for answer in queue.settle(vec![request], Effects::default()).await.unwrap() {
        answer.unwrap();
    }
}

fn failure() -> FailureRecord {
    FailureRecord {
        kind: FailureKind::Reject,
        reason: "no such order".to_owned(),
        handler: "h".to_owned(),
        component: "c".to_owned(),
    }
}

fn first_on(queue: &str, body: &str) -> Outgoing {
    Outgoing {
        priority: Some(9),
        group_id: Some(queue.to_owned()),
        ..Outgoing::new(body.to_owned())
    }
}

fn handled(id: &str) -> ProcessedMessageKey {
    ProcessedMessageKey::new(&name("elsewhere"), &MessageId::from_queue(id))
}

/// Rows of every kind, as a store of today writes them: messages in each state, dead letters, deduplication ids, messages that were
/// handled, a value, and the time. The host was killed.
async fn rows_of_every_kind() -> Rows {
    let directory = TempDir::new_in(memory()).unwrap();
    let store = open(directory.path(), None).await.unwrap();
    let (orders, strict) = (queue(&store, "orders").await, queue(&store, "strict").await);
    for body in ["buried", "retried"] {
        send(&orders, first_on(body, body)).await;
        let failure = failure();
        let settlement = match body {
            "buried" => Settlement::DeadLetter { failure },
            _ => Settlement::Retry { delay: DELAY, failure },
        };
        settle(&orders, receive(&orders, body).await, settlement).await;
    }
    send(&orders, first_on("retried", "held")).await;
    for body in ["flying", "flying, too"] {
        send(&orders, first_on(body, body)).await;
        receive(&orders, body).await;
    }
    let delayed = Outgoing {
        delay: Some(DELAY),
        ..Outgoing::new("delayed")
    };
    send(&orders, delayed).await;
    let pairs = vec![
        ("text".to_owned(), AttributeValue::Text("ü".to_owned())),
        ("bytes".to_owned(), AttributeValue::Binary(vec![0, 255])),
    ];
    let described = Outgoing {
        attributes: Attributes::new(pairs).unwrap(),
        ..Outgoing::new("described")
    };
    send(&orders, described).await;
    send(&orders, Outgoing::new(vec![b'x'; LARGE])).await;
    for number in 0..150 {
        send(&orders, Outgoing::new(format!("plain {number}"))).await;
    }
    let once = Outgoing {
        deduplication_id: Some("once".to_owned()),
        ..first_on("once", "once")
    };
    send(&orders, once).await;
    let once = receive(&orders, "once").await;
    settle(&orders, once, Settlement::Delete).await;
    send(&strict, Outgoing::new("strict 1")).await;
    send(&strict, Outgoing::new("strict 2")).await;
    handle_elsewhere(&store).await;
    // In flight when the host was killed.
    let copy = TempDir::new_in(memory()).unwrap();
    for file in FILES {
        fs::copy(directory.path().join(file), copy.path().join(file)).unwrap();
    }
    store.close().await;
    let copied = Connection::open(copy.path().join(DATABASE)).unwrap();
    copied
        .execute("UPDATE messages SET state = 5 WHERE body = CAST('plain 7' AS BLOB)", [])
        .unwrap();
    copied
        .execute(
            "UPDATE messages SET suspect = 3 WHERE body = CAST('flying' AS BLOB)",
            [],
        )
        .unwrap();
    read(&copied, BODY)
}

/// Notes that a message of another queue was handled, and writes a value.
async fn handle_elsewhere(store: &SimpleStore) {
    let write = KeyValueWrite {
        bucket: "b".into(),
        key: "k".into(),
        change: keyvalue::Change::Set("value".into()),
        condition: None,
    };
    let writes = Writes {
        namespace: "h".into(),
        total_bytes: u64::MAX,
        changes: vec![write],
    };
    let effects = Effects {
        writes,
        ..Effects::default()
    };
    store.commit(vec![handled("1")], effects).await.unwrap();
}

/// Reads what both versions have; `body` is the expression for a body.
fn read(database: &Connection, body: &str) -> Rows {
    let read = |table: &str, columns: &str| {
        let body = if table == "messages" {
            format!(", {body}")
        } else {
            String::new()
        };
        let mut statement = database
            .prepare(&format!("SELECT {columns}{body} FROM {table} ORDER BY 1"))
            .unwrap();
        let count = statement.column_count();
        let rows = statement.query_map([], |row| (0..count).map(|column| row.get(column)).collect());
        rows.unwrap().collect::<rusqlite::Result<Vec<_>>>().unwrap()
    };
    COLUMNS
        .iter()
        .map(|(table, columns)| (*table, read(table, columns)))
        .collect()
}

/// Makes a store of the first version. Half of it is in its write-ahead log only.
fn make_first(directory: &Path, vfs: Option<&str>, rows: &Rows) {
    let path = directory.join(DATABASE);
    let database = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, OpenFlags::default(), vfs),
        None => Connection::open(path),
    };
    let database = database.unwrap();
    database
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .unwrap();
    database
        .execute_batch("PRAGMA page_size = 4096; PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0")
        .unwrap();
    database
        .execute_batch(&["BEGIN;", FIRST, PROCESSED, KEYVALUE, CLOCK, VERSION, "COMMIT"].join(""))
        .unwrap();
    let commits = 1000;
    database
        .execute("INSERT INTO store (only, commits) VALUES (1, ?1)", [commits])
        .unwrap();
    for (table, columns) in COLUMNS {
        database.execute_batch("BEGIN").unwrap();
        let body = if table == "messages" { ", body" } else { "" };
        let count = columns.split(',').count() + usize::from(!body.is_empty());
        let places = vec!["?"; count].join(", ");
        let mut insert = database
            .prepare(&format!("INSERT INTO {table} ({columns}{body}) VALUES ({places})"))
            .unwrap();
        for row in &rows[table] {
            insert.execute(rusqlite::params_from_iter(row)).unwrap();
        }
        drop(insert);
        database.execute_batch("COMMIT").unwrap();
        if table == "queues" {
            database
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                .unwrap();
        }
    }
    drop(database);
    let mut mark = u64::try_from(commits).unwrap().to_le_bytes().to_vec();
    mark.extend(crc32(&mark).to_le_bytes());
    mark.resize(16, 0);
    fs::write(directory.join("queues.commits"), mark).unwrap();
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| {
        if crc & 1 == 1 {
            (crc >> 1) ^ 0xEDB8_8320
        } else {
            crc >> 1
        }
    };
    !bytes
        .iter()
        .fold(!0, |crc: u32, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

fn memory() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}

/// The version and the size of a page, of a file that no store has open.
fn version(directory: &Path) -> (i64, i64) {
    let database = Connection::open(directory.join(DATABASE)).unwrap();
    let pragma = |name: &str| database.pragma_query_value(None, name, |row| row.get(0)).unwrap();
    let intact: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(intact, "ok");
    (pragma("user_version"), pragma("page_size"))
}

/// The rows without what every start changes: a message in flight becomes ready and suspect, and the time is noted.
fn settled(rows: &Rows) -> Rows {
    let mut rows = rows.clone();
    rows.remove("clock");
    for row in rows.get_mut("messages").unwrap() {
        if row[2] == Value::Integer(2) {
            row[2] = Value::Integer(0);
        }
        row[8] = Value::Null;
    }
    rows
}

/// Opens and closes a store, and checks that all rows are there.
async fn check_rows(directory: &Path, rows: &Rows, when: &str) {
    let store = open(directory, None).await;
    store.unwrap_or_else(|error| panic!("{when}: {error:?}")).close().await;
    assert_eq!(version(directory).0, 2, "{when}");
    let now = read(&Connection::open(directory.join(DATABASE)).unwrap(), BODY);
    assert!(
        now["messages"].iter().all(|row| row[2] != Value::Integer(2)),
        "{when}: in flight"
    );
    for (table, rows) in settled(rows) {
        assert_eq!(settled(&now)[table], rows, "{when}: {table}");
    }
}

#[tokio::test]
async fn a_store_of_the_first_version_opens_with_every_row() {
    let rows = rows_of_every_kind().await;
    let states: Vec<_> = rows["messages"].iter().map(|row| row[2].clone()).collect();
    for state in 0..=5 {
        assert!(
            states.contains(&Value::Integer(state)),
            "no message is in state {state}"
        );
    }
    let directory = TempDir::new_in(memory()).unwrap();
    make_first(directory.path(), None, &rows);
    check_rows(directory.path(), &rows, "opened").await;
    assert_eq!(version(directory.path()), (2, 2048));
}

#[tokio::test]
async fn what_a_store_of_the_first_version_knew_is_still_true() {
    let directory = TempDir::new_in(memory()).unwrap();
    make_first(directory.path(), None, &rows_of_every_kind().await);
    let store = open(directory.path(), None).await.unwrap();
    let (orders, strict) = (queue(&store, "orders").await, queue(&store, "strict").await);
    assert!(store.was_handled(&handled("1")));
    let value = store.keyvalue("h").get("b", vec!["k".into()], 100).await.unwrap();
    assert_eq!(value, [Some("value".into())]);
    let again = Outgoing {
        deduplication_id: Some("once".to_owned()),
        ..Outgoing::new("again")
    };
    let counts = orders.counts().await.unwrap();
    assert_eq!((counts.delayed, counts.dead, counts.damaged), (2, 1, 1), "{counts:?}");
    send(&orders, again).await;
    assert_eq!(
        orders.counts().await.unwrap().ready,
        counts.ready,
        "the id is remembered"
    );
    let record = store.queue_record(&name("orders")).await.unwrap().unwrap();
    assert_eq!(record, QueueRecord::default());
    let letters = orders.dead_letters(None, 10).await.unwrap();
    assert_eq!(letters[0].failure, failure());
    assert_eq!(letters[0].message.body, "buried");
    for body in ["strict 1", "strict 2"] {
        let delivery = receive(&strict, body).await;
        settle(&strict, delivery, Settlement::Delete).await;
    }
    // Each of the two that were in flight is handed out alone, for as long as it was not settled.
    for body in ["flying", "flying, too"] {
        let delivery = receive(&orders, body).await;
        assert_eq!(delivery.receive_count.get(), 2);
        settle(&orders, delivery, Settlement::Delete).await;
    }
    let mut bodies = Vec::new();
    while bodies.len() < 151 {
        let deliveries = orders.receive(10, Duration::from_mins(1)).await.unwrap();
        bodies.extend(deliveries.into_iter().map(|delivery| delivery.message.body));
    }
    assert!(bodies.iter().any(|body| body.len() == LARGE));
    store.close().await;
}

#[tokio::test]
async fn a_file_that_lacks_the_later_tables_of_the_first_version_opens() {
    let directory = TempDir::new_in(memory()).unwrap();
    let database = Connection::open(directory.path().join(DATABASE)).unwrap();
    database.execute_batch(&[FIRST, VERSION].join("")).unwrap();
    database
        .execute_batch("INSERT INTO store (only, commits) VALUES (1, 7)")
        .unwrap();
    drop(database);
    let store = open(directory.path(), None).await.unwrap();
    send(&*queue(&store, "orders").await, Outgoing::new("m")).await;
    store.close().await;
    assert_eq!(version(directory.path()).0, 2);
}

#[tokio::test]
async fn a_power_loss_while_the_format_changes_loses_nothing() {
    let rows = rows_of_every_kind().await;
    let (disk, directory) = (FaultyStore::new(), TempDir::new_in(memory()).unwrap());
    make_first(directory.path(), Some(&disk.vfs()), &rows);
    let mark = fs::read(directory.path().join("queues.commits")).unwrap();
    let before = disk.changes();
    let store = open(directory.path(), Some(disk.vfs())).await.unwrap();
    store.close().await;
    let log = disk.log();
    assert!(
        log.iter().any(|entry| entry.file == "queues.db-journal"),
        "the file was written anew"
    );
    let mut found = BTreeMap::new();
    for loss in [Loss::All, Loss::TornTail, Loss::Sectors] {
        let stride = ((log.len() - before) / 150).max(1);
        for n in (before..=log.len()).step_by(stride) {
            let directory = TempDir::new_in(memory()).unwrap();
            crash(&log, n, loss, directory.path());
            fs::write(directory.path().join("queues.commits"), &mark).unwrap();
            *found.entry(version_by_another_tool(directory.path())).or_insert(0) += 1;
            check_rows(
                directory.path(),
                &rows,
                &format!("{loss:?} after {n} of {} changes", log.len()),
            )
            .await;
        }
    }
    let versions: Vec<i64> = found.keys().copied().collect();
    assert_eq!(versions, [1, 2], "{found:?}");
}

/// The version of what a crash left. Looks at a copy, so that the files stay as the crash left them.
fn version_by_another_tool(directory: &Path) -> i64 {
    let copy = TempDir::new_in(memory()).unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    version(copy.path()).0
}

/// Lets every change of the disk fail in turn while the format changes. Returns how many did.
async fn fails_everywhere(fault: Fault, rows: &Rows) -> usize {
    for nth in 0.. {
        let (disk, directory) = (FaultyStore::new(), TempDir::new_in(memory()).unwrap());
        make_first(directory.path(), Some(&disk.vfs()), rows);
        disk.fail(nth, fault);
        if let Ok(store) = open(directory.path(), Some(disk.vfs())).await {
            store.close().await;
        }
        if !disk.heal() {
            return nth;
        }
        check_rows(directory.path(), rows, &format!("{fault:?} at {nth}")).await;
    }
    0
}

#[tokio::test]
async fn an_error_of_the_disk_while_the_format_changes_loses_nothing() {
    let rows = rows_of_every_kind().await;
    assert!(fails_everywhere(Fault::Io, &rows).await > 100);
}

#[tokio::test]
async fn a_full_disk_while_the_format_changes_loses_nothing() {
    let rows = rows_of_every_kind().await;
    assert!(fails_everywhere(Fault::Full, &rows).await > 100);
}

/// The directory of the store that a process of this test is to open.
const CHILD: &str = "SANDHOG_TEST_OPENS";

#[tokio::test]
async fn a_kill_while_the_format_changes_loses_nothing() {
    if let Some(directory) = std::env::var_os(CHILD) {
        open(Path::new(&directory), None).await.unwrap().close().await;
        return;
    }
    let mut rows = rows_of_every_kind().await;
    // So many that there is time for a kill.
    let plain = rows["messages"]
        .iter()
        .find(|row| row[2] == Value::Integer(0) && row[4] == Value::Null);
    let plain = plain.unwrap().clone();
    let messages = rows.get_mut("messages").unwrap();
    messages.extend((100_000..110_000).map(|seq| {
        let mut row = plain.clone();
        row[0] = Value::Integer(seq);
        row
    }));
    let mut found = BTreeMap::new();
    for round in 0_u64..30 {
        let directory = TempDir::new().unwrap();
        make_first(directory.path(), None, &rows);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store_format::a_kill_while_the_format_changes_loses_nothing", "--exact"])
            .env(CHILD, directory.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        harness::let_pass(Duration::from_millis(4 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        *found.entry(version_by_another_tool(directory.path())).or_insert(0) += 1;
        check_rows(directory.path(), &rows, &format!("round {round}")).await;
    }
    assert!(found.keys().all(|version| [1, 2].contains(version)), "{found:?}");
}

#[tokio::test]
async fn what_is_kept_about_a_queue_is_there_after_a_restart() {
    let directory = TempDir::new_in(memory()).unwrap();
    let store = open(directory.path(), None).await.unwrap();
    queue(&store, "orders").await;
    let made = store.queue_record(&name("orders")).await.unwrap().unwrap();
    assert!(made.created_at_ms.is_some_and(|at| at > 1_700_000_000_000), "{made:?}");
    let record = QueueRecord {
        made_by: QueueMaker::Client,
        settings: Some(r#"{"VisibilityTimeout":"30"}"#.to_owned()),
        tags: Some(r#"{"team":"blue"}"#.to_owned()),
        modified_at_ms: Some(5),
        purged_at_ms: Some(6),
        ..made
    };
    assert!(store.set_queue_record(&name("orders"), record.clone()).await.unwrap());
    assert!(!store.set_queue_record(&name("others"), record.clone()).await.unwrap());
    store.close().await;
    let store = open(directory.path(), None).await.unwrap();
    assert_eq!(store.queue_record(&name("orders")).await.unwrap(), Some(record));
    assert_eq!(store.queue_record(&name("others")).await.unwrap(), None);
    store.close().await;
}

#[tokio::test]
async fn a_large_body_is_kept_apart_and_goes_with_its_message() {
    let directory = TempDir::new_in(memory()).unwrap();
    let store = open(directory.path(), None).await.unwrap();
    let orders = queue(&store, "orders").await;
    let large = "x".repeat(LARGE);
    for _ in 0..2 {
        send(&orders, Outgoing::new(large.clone())).await;
    }
    let bodies = || {
        let database = Connection::open(directory.path().join(DATABASE)).unwrap();
        let count = "SELECT (SELECT count(*) FROM bodies), (SELECT max(length(body)) FROM messages)";
        let count = database.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?)));
        count.unwrap()
    };
    assert_eq!(bodies(), (2, Some(0)));
    let end = async |settlement| settle(&orders, receive(&orders, &large).await, settlement).await;
    end(Settlement::DeadLetter { failure: failure() }).await;
    end(Settlement::Delete).await;
    assert_eq!(bodies(), (1, Some(0)));
    let letters = orders.dead_letters(None, 10).await.unwrap();
    assert_eq!(letters[0].message.body, large.as_bytes());
    assert_eq!(orders.redrive(None, 10).await.unwrap(), 1);
    end(Settlement::Delete).await;
    assert_eq!(bodies(), (0, None::<i64>));
    store.close().await;
}
