//! What the durable queue keeps when the disk, the power or somebody's hand fails.
//!
//! A workload runs once on a disk that logs every change. For every point of the log the directory is built that a power
//! loss at that point would have left; the store must open it and hold all that was acknowledged by then: nothing that
//! was deleted, what was retried as a retry and what was dead-lettered as a dead letter, and of a chained send and a write all or nothing; the same of what was sent and written with a note that
//! something was handled.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the steps of a test must succeed"
)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use harness::{
    faulty_store::{Change, Entry, Fault, FaultyStore, Loss, crash},
    wait_for,
};
use sandhog_queue::{
    Delivery, EffectSend, Effects, FailureKind, FailureRecord, Queue, QueueError, SendError, SettleError,
    SettleRequest, Settlement,
    keyvalue::{self, KeyValueWrite, Writes},
    message::{MessageId, Outgoing, QueueName},
};
use sandhog_simple::{
    CommitError, OpenError, ProcessedMessageKey, SimpleQueue, SimpleStore, StoreOptions, settings::Settings,
};
use tempfile::TempDir;
use tokio::task::JoinSet;

const DATABASE: &str = "queues.db";
const LOG: &str = "queues.db-wal";
const HIGH_WATER_MARK: &str = "queues.commits";
const DELAY: Duration = Duration::from_hours(1);
/// The body of a message, which a large one has in a table of its own.
const BODY: &str = "CASE WHEN body_key IS NULL THEN body
    ELSE (SELECT bodies.body FROM bodies WHERE bodies.body_key = messages.body_key) END";

/// What the workload did to one message, and after how many changes of the disk it began and was acknowledged.
#[derive(Debug, Clone, Default)]
struct Story {
    sent: Option<Step>,
    deleted: Option<Step>,
    /// That it waits for a retry.
    retried: Option<Step>,
    /// That it is a dead letter.
    buried: Option<Step>,
    /// That a message of this name in another queue was handled.
    handled: Option<Step>,
    /// The body of the message with whose delete it was sent.
    parent: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    begun: usize,
    acknowledged: Option<usize>,
}

impl Step {
    fn may_have_happened(self, n: usize) -> bool {
        self.begun <= n
    }

    fn has_happened(self, n: usize) -> bool {
        self.acknowledged.is_some_and(|acknowledged| acknowledged <= n)
    }
}

/// What happened so far, by body.
#[derive(Debug, Default)]
struct Journal {
    stories: BTreeMap<String, Story>,
}

/// A store on a faulty disk, and the journal of what was done to it.
struct Bench {
    disk: FaultyStore,
    directory: TempDir,
    journal: Journal,
}

fn options(directory: &Path, vfs: Option<String>) -> StoreOptions {
    StoreOptions {
        vfs,
        ..StoreOptions::new(directory)
    }
}

async fn open(options: StoreOptions) -> Result<SimpleStore, OpenError> {
    // A process that another test starts holds a copy of each descriptor until it becomes its program: of the store's lock, too.
    let opened = move || match SimpleStore::open(&options) {
        Err(OpenError::InUse { .. }) => None,
        opened => Some(opened),
    };
    tokio::task::spawn_blocking(move || wait_for("the lock of the store", opened))
        .await
        .unwrap()
}

fn name(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

async fn queue(store: &SimpleStore, queue: &str) -> Result<Arc<SimpleQueue>, QueueError> {
    store.queue(name(queue), Settings::defaults(&name(queue))).await
}

fn key(body: &str) -> ProcessedMessageKey {
    ProcessedMessageKey::new(&name("elsewhere"), &MessageId::from_queue(body))
}

/// Writes the body of what was handled under its own name, and counts it.
fn writes(handled: Option<&str>) -> Writes {
    let write = |key: &str, change| KeyValueWrite {
        bucket: "handled".into(),
        key: key.into(),
        change,
        condition: None,
    };
    let changes = handled.map(|body| {
        [
            write(body, keyvalue::Change::Set(body.to_owned().into())),
            write("count", keyvalue::Change::Add(1)),
        ]
    });
    Writes {
        namespace: "handler".into(),
        total_bytes: u64::MAX,
        changes: changes.into_iter().flatten().collect(),
    }
}

/// What is written, without the count, which is checked.
async fn written(store: &SimpleStore) -> Vec<String> {
    let keyvalue = store.keyvalue("handler");
    let mut keys = keyvalue.list("handled", None, usize::MAX).await.unwrap();
    let values = keyvalue.get("handled", keys.clone(), usize::MAX).await.unwrap();
    let values: Vec<_> = values.into_iter().map(|value| text(&value.unwrap())).collect();
    let count = keys.iter().position(|key| &**key == "count");
    let counted = count.map_or(0, |index| values[index].parse().unwrap());
    if let Some(index) = count {
        keys.remove(index);
    }
    assert_eq!(counted, keys.len(), "{keys:?}");
    for key in &keys {
        assert!(values.iter().any(|value| **value == **key), "{key} has another value");
    }
    keys.iter().map(ToString::to_string).collect()
}

fn failure() -> FailureRecord {
    FailureRecord {
        kind: FailureKind::Retry,
        reason: "later".to_owned(),
        handler: "h".to_owned(),
        component: "c".to_owned(),
    }
}

impl Bench {
    fn new() -> Self {
        let (disk, directory) = (FaultyStore::new(), TempDir::new().unwrap());
        disk.watch(directory.path().join(HIGH_WATER_MARK));
        Self {
            disk,
            directory,
            journal: Journal::default(),
        }
    }

    async fn open(&self) -> Result<SimpleStore, OpenError> {
        open(options(self.directory.path(), Some(self.disk.vfs()))).await
    }

    async fn send(&mut self, queue: &SimpleQueue, messages: Vec<Outgoing>) -> Result<(), QueueError> {
        let begun = self.disk.changes();
        let bodies: Vec<String> = messages.iter().map(|message| text(&message.body)).collect();
        for body in &bodies {
            let story = Story {
                sent: Some(Step {
                    begun,
                    acknowledged: None,
                }),
                ..Story::default()
            };
            self.journal.stories.insert(body.clone(), story);
        }
        let messages = messages.into_iter().map(|message| message.check().unwrap()).collect();
        for (body, answer) in bodies.iter().zip(queue.send_many(messages).await) {
            match answer {
                Ok(_) => self.note(body, |story| story.sent.as_mut()),
                Err(SendError::Queue(error)) => return Err(error),
                Err(other) => panic!("{other:?}"),
            }
        }
        Ok(())
    }

    /// Ends a delivery; a delete sends `children` with it.
    async fn end(
        &mut self,
        queue: &SimpleQueue,
        delivery: &Delivery,
        settlement: Settlement,
        children: &[&str],
    ) -> Result<(), QueueError> {
        let begun = self.disk.changes();
        let body = text(&delivery.message.body);
        let step = Some(Step {
            begun,
            acknowledged: None,
        });
        let deletes = settlement == Settlement::Delete;
        let ended: fn(&mut Story) -> &mut Option<Step> = match settlement {
            Settlement::Delete => |story| &mut story.deleted,
            Settlement::Retry { .. } => |story| &mut story.retried,
            Settlement::DeadLetter { .. } => |story| &mut story.buried,
            Settlement::Release => panic!("the workload releases nothing"),
        };
        *ended(self.journal.stories.get_mut(&body).unwrap()) = step;
        for child in children {
            let story = Story {
                sent: step,
                parent: Some(body.clone()),
                ..Story::default()
            };
            self.journal.stories.insert((*child).to_owned(), story);
        }
        let sends = children
            .iter()
            .map(|child| EffectSend {
                queue: name("next"),
                message: message(child).check().unwrap(),
            })
            .collect();
        let settle = SettleRequest {
            receipt: delivery.receipt.clone(),
            settlement,
        };
        let effects = Effects {
            sends,
            writes: writes(deletes.then_some(&*body)),
            ..Effects::default()
        };
        match queue.settle(vec![settle], effects).await.unwrap().pop().unwrap() {
            Ok(()) => {}
            Err(SettleError::Queue(error)) => return Err(error),
            Err(other) => panic!("{other:?}"),
        }
        self.note(&body, |story| ended(story).as_mut());
        for child in children {
            self.note(child, |story| story.sent.as_mut());
        }
        Ok(())
    }

    /// Handles a message of another queue, which sends one of the same name.
    async fn commit(&mut self, store: &SimpleStore, body: &str) -> Result<(), QueueError> {
        let step = Some(Step {
            begun: self.disk.changes(),
            acknowledged: None,
        });
        let begun = Story {
            sent: step,
            handled: step,
            ..Story::default()
        };
        self.journal.stories.insert(body.to_owned(), begun);
        let sends = vec![EffectSend {
            queue: name("next"),
            message: message(body).check().unwrap(),
        }];
        let effects = Effects {
            sends,
            writes: writes(Some(body)),
            ..Effects::default()
        };
        match store.commit(vec![key(body)], effects).await {
            Ok(()) => {}
            Err(CommitError::Queue(error)) => return Err(error),
            Err(other) => panic!("{other:?}"),
        }
        self.note(body, |story| story.sent.as_mut());
        self.note(body, |story| story.handled.as_mut());
        Ok(())
    }

    /// Handles a message of another queue, which sends nothing.
    fn note_handled(&mut self, store: &SimpleStore, body: &str) {
        let handled = Some(Step {
            begun: self.disk.changes(),
            acknowledged: None,
        });
        let begun = Story {
            handled,
            ..Story::default()
        };
        self.journal.stories.insert(body.to_owned(), begun);
        store.note_handled([key(body)]);
    }

    /// Closes the store, after which everything is on the disk.
    async fn close(&mut self, store: SimpleStore) {
        store.close().await;
        let changes = self.disk.changes();
        for story in self.journal.stories.values_mut() {
            if let Some(handled) = &mut story.handled {
                handled.acknowledged.get_or_insert(changes);
            }
        }
    }

    fn note(&mut self, body: &str, step: impl Fn(&mut Story) -> Option<&mut Step>) {
        let acknowledged = Some(self.disk.changes());
        step(self.journal.stories.get_mut(body).unwrap()).unwrap().acknowledged = acknowledged;
    }

    /// Every kind of change, so often that an error anywhere shows. `round` keeps the bodies apart.
    async fn work(&mut self, store: &SimpleStore, round: usize) -> Result<(), QueueError> {
        let orders = queue(store, "orders").await?;
        queue(store, "next").await?;
        let body = |what: &str| format!("{what} {round}");
        let deleted = Outgoing {
            priority: Some(8),
            ..message(&body("deleted"))
        };
        self.send(&orders, vec![message(&body("kept")), deleted]).await?;
        let grouped = |what: &str| Outgoing {
            group_id: Some(body("group")),
            priority: Some(9),
            ..message(&body(what))
        };
        self.send(&orders, vec![grouped("first"), grouped("second"), grouped("third")])
            .await?;
        self.send(
            &orders,
            vec![Outgoing {
                delay: Some(DELAY),
                ..message(&body("delayed"))
            }],
        )
        .await?;
        let first = receive(&orders, &body("first")).await?;
        self.end(&orders, &first, Settlement::Delete, &[&body("child"), &body("sibling")])
            .await?;
        let second = receive(&orders, &body("second")).await?;
        self.end(&orders, &second, Settlement::DeadLetter { failure: failure() }, &[])
            .await?;
        let third = receive(&orders, &body("third")).await?;
        self.end(
            &orders,
            &third,
            Settlement::Retry {
                delay: DELAY,
                failure: failure(),
            },
            &[],
        )
        .await?;
        let deleted = receive(&orders, &body("deleted")).await?;
        self.end(&orders, &deleted, Settlement::Delete, &[]).await?;
        self.note_handled(store, &body("noted"));
        self.commit(store, &body("committed")).await?;
        let large = Outgoing::new(format!("{:60000}", body("large")));
        self.send(&orders, vec![large]).await?;
        Ok(())
    }
}

fn message(body: &str) -> Outgoing {
    Outgoing::new(body.as_bytes().to_vec())
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim_end().to_owned()
}

/// Receives the message that is next.
async fn receive(queue: &SimpleQueue, body: &str) -> Result<Delivery, QueueError> {
    let delivery = queue
        .receive(1, Duration::ZERO)
        .await?
        .pop()
        .unwrap_or_else(|| panic!("no {body}"));
    assert_eq!(text(&delivery.message.body), body);
    Ok(delivery)
}

/// What is in a directory.
struct Present {
    /// The body of every message.
    bodies: Vec<String>,
    /// Of those the ones that wait for a retry after a failure, and the dead letters.
    retried: Vec<String>,
    buried: Vec<String>,
    /// What of the journal is known to have been handled.
    handled: Vec<String>,
    /// The keys that were written with the end of what was handled.
    written: Vec<String>,
}

/// Opens the directory, and returns the body of every message in it.
async fn reopened(directory: &Path) -> Result<Vec<String>, OpenError> {
    Ok(examined(directory, &Journal::default()).await?.bodies)
}

/// Opens the directory, and returns what is in it.
async fn examined(directory: &Path, journal: &Journal) -> Result<Present, OpenError> {
    let store = open(options(directory, None)).await?;
    let bodies = journal.stories.keys();
    let handled = bodies.filter(|body| store.was_handled(&key(body))).cloned().collect();
    let written = written(&store).await;
    store.close().await;
    let database = rusqlite::Connection::open(directory.join(DATABASE)).unwrap();
    let intact: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(intact, "ok");
    let bodies = |which: &str| -> Vec<String> {
        let mut statement = database
            .prepare(&format!("SELECT {BODY} FROM messages WHERE {which}"))
            .unwrap();
        let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        rows.map(|body| text(&body.unwrap())).collect()
    };
    let damaged = bodies("state = 5");
    assert!(damaged.is_empty(), "{damaged:?} are damaged");
    let buried = "origin IS NOT NULL AND dead_failure IS NOT NULL AND queue != origin AND receive_count = 0";
    Ok(Present {
        bodies: bodies("TRUE"),
        retried: bodies("state = 4 AND failure IS NOT NULL AND visible_at > queued_at AND receive_count = 1"),
        buried: bodies(buried),
        handled,
        written,
    })
}

impl Journal {
    /// What is wrong with what a crash after `n` changes left.
    fn complaints(&self, n: usize, present: &Present) -> Vec<String> {
        let mut complaints = Vec::new();
        let times = |body: &str| present.bodies.iter().filter(|other| *other == body).count();
        for body in &present.bodies {
            if times(body) > 1 {
                complaints.push(format!("{body} is there twice"));
            }
            if !self
                .stories
                .get(body)
                .and_then(|story| story.sent)
                .is_some_and(|sent| sent.may_have_happened(n))
            {
                complaints.push(format!("{body} was never sent"));
            }
        }
        for (body, story) in &self.stories {
            let is_there = times(body) > 0;
            let is_gone = story.deleted.is_some_and(|deleted| deleted.may_have_happened(n));
            if story.sent.is_some_and(|sent| sent.has_happened(n)) && !is_there && !is_gone {
                complaints.push(format!("{body} was sent and is lost"));
            }
            if story.deleted.is_some_and(|deleted| deleted.has_happened(n)) && is_there {
                complaints.push(format!("{body} was deleted and is back"));
            }
            for (what, ended, present) in [
                ("a retry", story.retried, &present.retried),
                ("a dead letter", story.buried, &present.buried),
            ] {
                let is_so = present.contains(body);
                if ended.is_some_and(|ended| ended.has_happened(n)) && !is_so {
                    complaints.push(format!("{body} was {what} and is back"));
                }
                if is_so && !ended.is_some_and(|ended| ended.may_have_happened(n)) {
                    complaints.push(format!("{body} is {what} and was not settled"));
                }
            }
            let is_written = present.written.contains(body);
            if story.deleted.is_some() && is_gone && is_written == is_there {
                complaints.push(format!("the delete of {body} and what it wrote are not one"));
            }
            if is_written && !is_gone && story.handled.is_none() {
                complaints.push(format!("{body} was written and not handled"));
            }
            if let Some(handled) = story.handled {
                let is_known = present.handled.contains(body);
                if handled.has_happened(n) && !is_known {
                    complaints.push(format!("{body} was handled and is forgotten"));
                }
                if is_known && !handled.may_have_happened(n) {
                    complaints.push(format!("{body} was not handled and is known"));
                }
                if story.sent.is_some() && is_known != is_there {
                    complaints.push(format!("handling {body} and what it sent are not one"));
                }
                if story.sent.is_some() && is_known != is_written {
                    complaints.push(format!("handling {body} and what it wrote are not one"));
                }
            }
            if let Some(parent) = &story.parent {
                // Children are never deleted in this workload.
                let begun = story.sent.is_some_and(|sent| sent.may_have_happened(n));
                if begun && is_there == (times(parent) > 0) {
                    complaints.push(format!("{body} and the delete of {parent} are not one"));
                }
            }
        }
        complaints
    }
}

/// All points of a short log; of a long one those around the end of a checkpoint and a sample of the rest.
fn points(log: &[Entry]) -> Vec<usize> {
    let stride = (log.len() / 300).max(1);
    let is_sync = |n: usize| {
        log.get(n)
            .is_some_and(|entry| entry.file == DATABASE && matches!(entry.change, Change::Sync))
    };
    let near_sync = |n: usize| (n.saturating_sub(1)..=n + 1).any(is_sync);
    (0..=log.len()).filter(|n| n % stride == 0 || near_sync(*n)).collect()
}

async fn survives_power_loss_at_every_point(bench: &Bench, loss: Loss) {
    let log = bench.disk.log();
    let points = points(&log);
    assert!(points.len() > 100, "the workload is worth the name: {}", points.len());
    for n in points {
        let directory = TempDir::new_in(memory()).unwrap();
        crash(&log, n, loss, directory.path());
        // What is noted without a sync may be there, all of it: the store must not be alarmed by that.
        let watched = log.get(n).map_or_else(
            || fs::read(bench.directory.path().join(HIGH_WATER_MARK)).ok(),
            |entry| entry.watched.clone(),
        );
        if let Some(watched) = watched {
            fs::write(directory.path().join(HIGH_WATER_MARK), watched).unwrap();
        }
        let present = match examined(directory.path(), &bench.journal).await {
            Ok(present) => present,
            Err(error) => panic!("{loss:?} after {n} of {} changes: {error:?}", log.len()),
        };
        let complaints = bench.journal.complaints(n, &present);
        assert!(
            complaints.is_empty(),
            "{loss:?} after {n} of {} changes: {complaints:?}",
            log.len()
        );
    }
}

/// A directory in memory, where nothing needs to be waited for.
fn memory() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}

/// Two runs, so that the log is emptied in between and begun anew.
async fn short_workload() -> Bench {
    let mut bench = Bench::new();
    for round in 0..2 {
        let store = bench.open().await.unwrap();
        bench.work(&store, round).await.unwrap();
        bench.close(store).await;
    }
    bench
}

/// So much that `SQLite` empties its log by itself, more than once.
async fn long_workload() -> Bench {
    let mut bench = Bench::new();
    let store = bench.open().await.unwrap();
    for round in 0..40 {
        bench.work(&store, round).await.unwrap();
    }
    bench.close(store).await;
    bench
}

#[tokio::test]
async fn a_power_loss_that_loses_all_unsynced_writes_loses_nothing_acknowledged() {
    survives_power_loss_at_every_point(&short_workload().await, Loss::All).await;
}

#[tokio::test]
async fn a_power_loss_that_tears_a_write_loses_nothing_acknowledged() {
    survives_power_loss_at_every_point(&short_workload().await, Loss::TornTail).await;
}

#[tokio::test]
async fn a_power_loss_that_keeps_some_sectors_loses_nothing_acknowledged() {
    survives_power_loss_at_every_point(&short_workload().await, Loss::Sectors).await;
}

#[tokio::test]
async fn a_power_loss_during_a_checkpoint_loses_nothing_acknowledged() {
    let bench = long_workload().await;
    let writes_database = |entry: &Entry| entry.file == DATABASE && matches!(entry.change, Change::Sync);
    assert!(
        bench.disk.log().iter().filter(|entry| writes_database(entry)).count() > 2,
        "there were checkpoints"
    );
    survives_power_loss_at_every_point(&bench, Loss::Sectors).await;
    survives_power_loss_at_every_point(&bench, Loss::All).await;
}

#[tokio::test]
async fn after_an_io_error_the_store_refuses_everything_until_it_is_reopened() {
    let mut refused = 0;
    for nth in 0.. {
        let mut bench = Bench::new();
        bench.disk.fail(nth, Fault::Io);
        if let Ok(store) = bench.open().await {
            let worked = bench.work(&store, 0).await;
            if let Err(error) = &worked {
                refused += 1;
                assert!(!error.is_transient(), "{nth}: {error:?}");
                // Whatever is asked now is refused: the queue itself, and every operation of one.
                assert!(queue(&store, "orders").await.is_err(), "{nth}");
            }
            store.close().await;
        }
        let hit = bench.disk.heal();
        let present = examined(bench.directory.path(), &bench.journal)
            .await
            .unwrap_or_else(|error| panic!("{nth}: {error:?}"));
        let complaints = bench.journal.complaints(usize::MAX - 1, &present);
        assert!(complaints.is_empty(), "{nth}: {complaints:?}");
        if !hit {
            break;
        }
    }
    assert!(refused > 50, "only {refused} of the errors were noticed");
}

#[tokio::test]
async fn a_failed_store_answers_with_its_directory_in_the_cause() {
    let mut bench = Bench::new();
    let store = bench.open().await.unwrap();
    let orders = queue(&store, "orders").await.unwrap();
    bench.disk.fail(0, Fault::Io);
    bench.send(&orders, vec![message("a")]).await.unwrap_err();
    let error = orders.receive(1, Duration::ZERO).await.unwrap_err();
    let QueueError::Failed { cause, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        cause
            .to_string()
            .contains(&bench.directory.path().display().to_string()),
        "{cause}"
    );
    assert!(cause.source().is_some(), "the first error is kept");
}

/// Starts a receive that waits. The answer to a later question says that it does.
async fn wait_for_one(queue: &Arc<SimpleQueue>) -> JoinSet<Result<Vec<Delivery>, QueueError>> {
    let (waiting, mut receives) = (Arc::clone(queue), JoinSet::new());
    receives.spawn(async move { waiting.receive(1, DELAY).await });
    tokio::task::yield_now().await;
    queue.counts().await.unwrap();
    receives
}

#[tokio::test]
async fn a_message_that_a_receive_waits_for_is_stored_and_handed_out_in_one_commit() {
    let mut bench = Bench::new();
    let store = bench.open().await.unwrap();
    let orders = queue(&store, "orders").await.unwrap();
    let mut receives = wait_for_one(&orders).await;
    let commits = || {
        let mark = fs::read(bench.directory.path().join(HIGH_WATER_MARK)).unwrap();
        u64::from_le_bytes(mark[..8].try_into().unwrap())
    };
    let before = commits();
    let sent = orders.send(message("a").check().unwrap()).await.unwrap();
    let got = receives.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(commits(), before + 1);
    assert_eq!((&got[0].message.id, got[0].receive_count.get()), (&sent, 1));
    // After a crash in this moment it is there, and known to have been received.
    let crashed = TempDir::new().unwrap();
    for file in [DATABASE, LOG, HIGH_WATER_MARK] {
        fs::copy(bench.directory.path().join(file), crashed.path().join(file)).unwrap();
    }
    let again = open(options(crashed.path(), None)).await.unwrap();
    let delivery = receive(&queue(&again, "orders").await.unwrap(), "a").await.unwrap();
    assert_eq!(delivery.receive_count.get(), 2);
    again.close().await;
    bench.send(&orders, vec![message("b")]).await.unwrap();
    assert_eq!(orders.counts().await.unwrap().ready, 1, "nobody waits any more");
    store.close().await;
}

#[tokio::test]
async fn a_receive_that_waits_learns_that_its_store_has_failed() {
    let mut bench = Bench::new();
    let store = bench.open().await.unwrap();
    let (orders, others) = (
        queue(&store, "orders").await.unwrap(),
        queue(&store, "others").await.unwrap(),
    );
    let (mut receives, mut elsewhere) = (wait_for_one(&orders).await, wait_for_one(&others).await);
    bench.disk.fail(0, Fault::Io);
    bench.send(&orders, vec![message("a")]).await.unwrap_err();
    for receives in [&mut receives, &mut elsewhere] {
        let error = receives.join_next().await.unwrap().unwrap().unwrap_err();
        let QueueError::Failed { cause, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(cause.to_string().contains("check its disk"), "{cause}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_send_that_the_disk_refuses_leaves_a_receive_alone_that_waits() {
    let mut bench = Bench::new();
    let store = bench.open().await.unwrap();
    let orders = queue(&store, "orders").await.unwrap();
    let mut receives = wait_for_one(&orders).await;
    for _ in 0..2 {
        bench.disk.fail(0, Fault::Full);
        let error = bench.send(&orders, vec![message("a")]).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        bench.disk.heal();
    }
    bench.send(&orders, vec![message("b")]).await.unwrap();
    let got = receives.join_next().await.unwrap().unwrap().unwrap();
    let seen = (text(&got[0].message.body), got[0].receive_count.get());
    assert_eq!(seen, ("b".to_owned(), 1));
    store.close().await;
}

#[tokio::test]
async fn what_is_sent_while_a_store_closes_is_not_handed_out() {
    for _ in 0..20 {
        let directory = TempDir::new().unwrap();
        let store = open(options(directory.path(), None)).await.unwrap();
        let orders = queue(&store, "orders").await.unwrap();
        let receives = wait_for_one(&orders).await;
        // The commands lie in this order, if the store is not closed before it comes to the last.
        let ((), sent, asked, more) = tokio::join!(
            store.close(),
            orders.send(message("a").check().unwrap()),
            orders.receive(1, DELAY),
            orders.send(message("b").check().unwrap()),
        );
        assert!(asked.is_err(), "{asked:?}");
        for waited in receives.join_all().await {
            assert!(waited.is_err(), "{waited:?}");
        }
        let expected = [sent.is_ok(), more.is_ok()].into_iter().filter(|sent| *sent).count();
        let again = open(options(directory.path(), None)).await.unwrap();
        let counts = queue(&again, "orders").await.unwrap().counts().await.unwrap();
        assert_eq!((counts.ready, counts.in_flight), (expected.try_into().unwrap(), 0));
        let left = queue(&again, "orders").await.unwrap().receive(2, Duration::ZERO).await;
        let counts: Vec<u32> = left
            .unwrap()
            .iter()
            .map(|delivery| delivery.receive_count.get())
            .collect();
        assert_eq!(counts, vec![1; expected]);
        again.close().await;
    }
}

#[tokio::test]
async fn a_full_disk_refuses_for_a_while_and_loses_nothing() {
    let mut refused = 0;
    for nth in 0.. {
        let mut bench = Bench::new();
        bench.disk.fail(nth, Fault::Full);
        let Ok(store) = bench.open().await else {
            bench.disk.heal();
            continue;
        };
        let worked = bench.work(&store, 0).await;
        if let Err(error) = &worked {
            refused += 1;
            assert!(error.is_transient(), "{nth}: {error:?}");
        }
        let hit = bench.disk.heal();
        // Space is free again: the same store goes on, and counts what is really there.
        let orders = queue(&store, "orders").await.unwrap();
        bench.send(&orders, vec![message("afterwards")]).await.unwrap();
        let counts = orders.counts().await.unwrap();
        let dead = counts.dead;
        let counted = counts.ready + counts.in_flight + counts.delayed;
        store.close().await;
        let present = examined(bench.directory.path(), &bench.journal).await.unwrap();
        let complaints = bench.journal.complaints(usize::MAX - 1, &present);
        assert!(complaints.is_empty(), "{nth}: {complaints:?}");
        let bodies = present.bodies;
        let is_elsewhere = |body: &&String| {
            ["child", "sibling", "committed"]
                .iter()
                .any(|sent| body.starts_with(sent))
        };
        let elsewhere = bodies.iter().filter(is_elsewhere).count();
        let held = u64::try_from(bodies.len() - elsewhere).unwrap();
        assert_eq!(counted + dead, held, "{nth}: {bodies:?}");
        if !hit {
            break;
        }
    }
    assert!(refused > 30, "only {refused} of the writes were missed");
}

/// A directory with `count` messages, closed; or, with `log`, ended without its write-ahead log being emptied.
async fn filled(count: usize, log: bool) -> TempDir {
    let directory = TempDir::new_in(memory()).unwrap();
    let store = open(options(directory.path(), None)).await.unwrap();
    let orders = queue(&store, "orders").await.unwrap();
    for index in 0..count {
        orders
            .send(message(&format!("message {index}")).check().unwrap())
            .await
            .unwrap();
    }
    if !log {
        store.close().await;
        return directory;
    }
    let copy = TempDir::new_in(memory()).unwrap();
    for file in [DATABASE, LOG, HIGH_WATER_MARK] {
        fs::copy(directory.path().join(file), copy.path().join(file)).unwrap();
    }
    store.close().await;
    copy
}

async fn refusal(directory: &Path) -> OpenError {
    match open(options(directory, None)).await {
        Ok(_) => panic!("the store opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_killed_store_opens_with_all_that_was_sent() {
    let directory = filled(20, true).await;
    assert_eq!(reopened(directory.path()).await.unwrap().len(), 20);
}

#[tokio::test]
async fn a_deleted_log_is_missed() {
    let directory = filled(20, true).await;
    fs::remove_file(directory.path().join(LOG)).unwrap();
    let error = refusal(directory.path()).await;
    assert!(
        matches!(error, OpenError::Missing { .. } | OpenError::Foreign { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_deleted_log_is_missed_though_the_database_has_its_tables() {
    let directory = filled(5, false).await;
    let store = open(options(directory.path(), None)).await.unwrap();
    queue(&store, "orders")
        .await
        .unwrap()
        .send(message("in the log").check().unwrap())
        .await
        .unwrap();
    let copy = TempDir::new_in(memory()).unwrap();
    for file in [DATABASE, HIGH_WATER_MARK] {
        fs::copy(directory.path().join(file), copy.path().join(file)).unwrap();
    }
    store.close().await;
    let error = refusal(copy.path()).await;
    assert!(matches!(error, OpenError::Missing { .. }), "{error:?}");
    assert!(error.to_string().contains(HIGH_WATER_MARK), "{error}");
    // Whoever accepts the loss may go on.
    fs::remove_file(copy.path().join(HIGH_WATER_MARK)).unwrap();
    assert_eq!(reopened(copy.path()).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_deleted_database_is_missed() {
    let directory = filled(5, false).await;
    fs::remove_file(directory.path().join(DATABASE)).unwrap();
    assert!(matches!(
        refusal(directory.path()).await,
        OpenError::Missing { found: 0, .. }
    ));
}

#[tokio::test]
async fn an_older_copy_of_the_database_is_noticed() {
    let directory = filled(5, false).await;
    let copy = fs::read(directory.path().join(DATABASE)).unwrap();
    let store = open(options(directory.path(), None)).await.unwrap();
    queue(&store, "orders")
        .await
        .unwrap()
        .send(message("later").check().unwrap())
        .await
        .unwrap();
    store.close().await;
    fs::write(directory.path().join(DATABASE), copy).unwrap();
    assert!(matches!(refusal(directory.path()).await, OpenError::Missing { .. }));
}

#[tokio::test]
async fn a_lost_or_torn_high_water_mark_does_not_keep_the_store_from_opening() {
    let directory = filled(5, false).await;
    fs::write(directory.path().join(HIGH_WATER_MARK), [1, 2, 3]).unwrap();
    assert_eq!(reopened(directory.path()).await.unwrap().len(), 5);
    fs::remove_file(directory.path().join(HIGH_WATER_MARK)).unwrap();
    assert_eq!(reopened(directory.path()).await.unwrap().len(), 5);
}

/// Opens a damaged store and receives all that it gives. Returns the bodies and how many are damaged, or the error.
async fn salvage(directory: &Path) -> Result<(Vec<String>, u64), String> {
    let store = open(options(directory, None))
        .await
        .map_err(|error| error.to_string())?;
    let read = async {
        let orders = queue(&store, "orders").await?;
        let deliveries = orders.receive(1000, Duration::ZERO).await?;
        let bodies = deliveries.iter().map(|delivery| text(&delivery.message.body)).collect();
        Ok::<_, QueueError>((bodies, orders.counts().await?.damaged))
    };
    let read = read.await.map_err(|error| error.to_string());
    store.close().await;
    read
}

#[tokio::test]
async fn a_flipped_bit_is_never_delivered_nor_silently_dropped() {
    let directory = filled(40, false).await;
    let path = directory.path().join(DATABASE);
    let (whole, mark) = (
        fs::read(&path).unwrap(),
        fs::read(directory.path().join(HIGH_WATER_MARK)).unwrap(),
    );
    let (mut refused, mut set_apart, mut harmless) = (0, 0, 0);
    // Not the length of a row, or each row would be hit at the same place.
    for position in (0..whole.len()).step_by(101) {
        let mut damaged = whole.clone();
        damaged[position] ^= 1 << (position % 8);
        fs::write(&path, damaged).unwrap();
        fs::write(directory.path().join(HIGH_WATER_MARK), &mark).unwrap();
        drop(fs::remove_file(directory.path().join(LOG)));
        match salvage(directory.path()).await {
            Err(_) => refused += 1,
            Ok((bodies, damaged)) => {
                for body in &bodies {
                    let number = body
                        .strip_prefix("message ")
                        .and_then(|number| number.parse::<usize>().ok());
                    assert!(
                        number.is_some_and(|number| number < 40),
                        "byte {position}: {body:?} was delivered"
                    );
                }
                if damaged > 0 {
                    set_apart += 1;
                } else {
                    harmless += 1;
                }
            }
        }
    }
    assert!(
        refused > 0 && set_apart > 0 && harmless > 0,
        "{refused} {set_apart} {harmless}"
    );
}

#[tokio::test]
async fn a_damaged_row_is_kept_and_counted_while_the_others_are_delivered() {
    let directory = filled(3, false).await;
    let database = rusqlite::Connection::open(directory.path().join(DATABASE)).unwrap();
    database
        .execute("UPDATE messages SET body = X'00' WHERE seq = 2", [])
        .unwrap();
    drop(database);
    let (bodies, damaged) = salvage(directory.path()).await.unwrap();
    assert_eq!(
        (bodies, damaged),
        (vec!["message 0".to_owned(), "message 2".to_owned()], 1)
    );
    let database = rusqlite::Connection::open(directory.path().join(DATABASE)).unwrap();
    let kept: i64 = database
        .query_row("SELECT count(*) FROM messages WHERE state = 5", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn unreadable_attributes_are_damage() {
    let directory = filled(1, false).await;
    let database = rusqlite::Connection::open(directory.path().join(DATABASE)).unwrap();
    database.execute("UPDATE messages SET attributes = '{'", []).unwrap();
    drop(database);
    assert_eq!(salvage(directory.path()).await.unwrap(), (Vec::new(), 1));
}

#[tokio::test]
async fn a_damaged_log_is_missed_wherever_the_damage_is() {
    let directory = filled(10, true).await;
    let log = fs::read(directory.path().join(LOG)).unwrap();
    for position in (0..log.len()).step_by(1013) {
        let copy = TempDir::new_in(memory()).unwrap();
        for file in [DATABASE, HIGH_WATER_MARK] {
            fs::copy(directory.path().join(file), copy.path().join(file)).unwrap();
        }
        let mut damaged = log.clone();
        damaged[position] ^= 0x10;
        fs::write(copy.path().join(LOG), damaged).unwrap();
        if let Ok(present) = reopened(copy.path()).await {
            assert_eq!(present.len(), 10, "byte {position} of {}", log.len());
        }
    }
}

#[tokio::test]
async fn a_truncated_log_is_missed_unless_only_unacknowledged_work_is_cut_off() {
    let directory = filled(10, true).await;
    let log = fs::read(directory.path().join(LOG)).unwrap();
    for length in (0..log.len()).step_by(2039) {
        let copy = TempDir::new_in(memory()).unwrap();
        for file in [DATABASE, HIGH_WATER_MARK] {
            fs::copy(directory.path().join(file), copy.path().join(file)).unwrap();
        }
        fs::write(copy.path().join(LOG), &log[..length]).unwrap();
        if let Ok(present) = reopened(copy.path()).await {
            assert_eq!(present.len(), 10, "{length} of {}", log.len());
        }
    }
}

#[tokio::test]
async fn a_truncated_database_is_refused_or_delivers_nothing_wrong() {
    let directory = filled(200, false).await;
    let path = directory.path().join(DATABASE);
    let whole = fs::read(&path).unwrap();
    let mark = fs::read(directory.path().join(HIGH_WATER_MARK)).unwrap();
    for length in (0..whole.len()).step_by(4096) {
        fs::write(&path, &whole[..length]).unwrap();
        fs::write(directory.path().join(HIGH_WATER_MARK), &mark).unwrap();
        drop(fs::remove_file(directory.path().join(LOG)));
        assert!(
            salvage(directory.path()).await.is_err(),
            "{length} of {} bytes",
            whole.len()
        );
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join(DATABASE), "dear diary, ".repeat(1000)).unwrap();
    let error = refusal(directory.path()).await;
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains(DATABASE), "{error}");
}

#[tokio::test]
async fn a_database_of_something_else_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(DATABASE);
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE recipes (name TEXT)")
        .unwrap();
    let before = fs::read(&path).unwrap();
    assert!(matches!(refusal(directory.path()).await, OpenError::Foreign { .. }));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn another_format_version_is_refused_with_both_numbers() {
    let directory = filled(1, false).await;
    let database = rusqlite::Connection::open(directory.path().join(DATABASE)).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let error = refusal(directory.path()).await;
    assert!(
        matches!(
            error,
            OpenError::Version {
                found: 99,
                supported: 2,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("99") && error.to_string().contains("version 2"),
        "{error}"
    );
}

#[tokio::test]
async fn a_second_store_in_the_same_directory_is_refused() {
    let directory = TempDir::new().unwrap();
    let store = open(options(directory.path(), None)).await.unwrap();
    let of_second = options(directory.path(), None);
    let second = tokio::task::spawn_blocking(move || SimpleStore::open(&of_second)).await;
    let error = second.unwrap().unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    assert!(
        error.to_string().contains(&directory.path().display().to_string()),
        "{error}"
    );
    store.close().await;
    open(options(directory.path(), None)).await.unwrap().close().await;
}

#[tokio::test]
async fn the_data_directory_is_made_for_its_owner_only() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("deep/data");
    open(options(&data, None)).await.unwrap().close().await;
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(
        fs::metadata(data.join(DATABASE)).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn a_directory_that_can_not_be_made_is_named() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = refusal(&file.join("data")).await;
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    assert!(error.to_string().contains("file/data"), "{error}");
}

#[tokio::test]
async fn an_operator_may_read_the_file_while_the_store_works() {
    let directory = TempDir::new().unwrap();
    let store = open(options(directory.path(), None)).await.unwrap();
    let orders = queue(&store, "orders").await.unwrap();
    orders.send(message("a").check().unwrap()).await.unwrap();
    let tool = rusqlite::Connection::open(directory.path().join(DATABASE)).unwrap();
    let reading = tool.unchecked_transaction().unwrap();
    let count = || {
        reading
            .query_row("SELECT count(*) FROM messages", [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(count(), 1);
    orders.send(message("b").check().unwrap()).await.unwrap();
    assert_eq!(count(), 1, "a reader sees one moment");
    drop(reading);
    store.close().await;
}

#[tokio::test]
async fn a_tool_that_holds_the_write_lock_makes_the_queue_unavailable_for_a_while() {
    let directory = TempDir::new().unwrap();
    let store = open(options(directory.path(), None)).await.unwrap();
    let orders = queue(&store, "orders").await.unwrap();
    let tool = rusqlite::Connection::open(directory.path().join(DATABASE)).unwrap();
    tool.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = orders.send(message("a").check().unwrap()).await.unwrap_err();
    let SendError::Queue(error) = error else {
        panic!("{error:?}")
    };
    assert!(error.is_transient(), "{error:?}");
    tool.execute_batch("ROLLBACK").unwrap();
    orders.send(message("a").check().unwrap()).await.unwrap();
    store.close().await;
}
