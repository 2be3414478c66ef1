//! What was handled from queues of other kinds is remembered with what was sent for it, through restarts and damage,
//! within its bounds.

use std::{fs, path::Path, sync::Arc, time::Duration};

use harness::{
    faulty_store::{Fault, FaultyStore},
    wait_for,
};
use sandhog_queue::{
    EffectSend, Effects, EffectsRefused, Queue as _, SendError,
    message::{MessageId, Outgoing, QueueName},
};
use sandhog_simple::{
    CommitError, ProcessedMessageKey, ProcessedMessageSettings, SimpleQueue, SimpleStore, StoreOptions,
    settings::Settings,
};
use tempfile::TempDir;
use tokio::{task::JoinSet, time::advance};

const DATABASE: &str = "queues.db";
const HOUR: Duration = Duration::from_hours(1);

fn name(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

fn key(id: &str) -> ProcessedMessageKey {
    ProcessedMessageKey::new(&name("elsewhere"), &MessageId::from_queue(id))
}

fn keys(numbers: std::ops::Range<u32>) -> impl Iterator<Item = ProcessedMessageKey> {
    numbers.map(|number| key(&number.to_string()))
}

async fn open(options: StoreOptions) -> SimpleStore {
    let open = move || SimpleStore::open(&options);
    tokio::task::spawn_blocking(open).await.unwrap().unwrap()
}

async fn reopen(directory: &TempDir) -> SimpleStore {
    open(StoreOptions::new(directory.path())).await
}

fn bounded(window: Duration, max_entries: usize) -> ProcessedMessageSettings {
    ProcessedMessageSettings { window, max_entries }
}

/// What is left of a store when its process is killed now.
fn killed(directory: &TempDir) -> TempDir {
    let copy = TempDir::new().unwrap();
    for file in [DATABASE, "queues.db-wal", "queues.commits"] {
        fs::copy(directory.path().join(file), copy.path().join(file)).unwrap();
    }
    copy
}

async fn out(store: &SimpleStore) -> Arc<SimpleQueue> {
    store
        .queue(name("out"), Settings::defaults(&name("out")))
        .await
        .unwrap()
}

fn send(queue: &str) -> EffectSend {
    EffectSend {
        queue: name(queue),
        message: Outgoing::new("sent").check().unwrap(),
    }
}

async fn waiting(queue: &SimpleQueue) -> u64 {
    queue.counts().await.unwrap().ready
}

fn rows(directory: &Path) -> i64 {
    let database = rusqlite::Connection::open(directory.join(DATABASE)).unwrap();
    database
        .query_row("SELECT count(*) FROM handled", [], |row| row.get(0))
        .unwrap()
}

/// Both kinds of store, with these bounds for their processed messages.
async fn both(directory: &TempDir, processed_messages: ProcessedMessageSettings) -> [SimpleStore; 2] {
    let options = StoreOptions {
        processed_messages,
        ..StoreOptions::new(directory.path())
    };
    [open(options).await, SimpleStore::ephemeral_with(processed_messages)]
}

#[tokio::test]
async fn what_was_committed_is_known_with_what_was_sent_even_after_a_kill() {
    let directory = TempDir::new().unwrap();
    let store = reopen(&directory).await;
    let queue = out(&store).await;
    store
        .commit(vec![key("a"), key("b")], vec![send("out"), send("out")].into())
        .await
        .unwrap();
    assert!(store.was_handled(&key("a")) && store.was_handled(&key("b")) && !store.was_handled(&key("c")));
    assert_eq!(waiting(&queue).await, 2);
    let copy = killed(&directory);
    store.close().await;
    for directory in [directory, copy] {
        let store = reopen(&directory).await;
        assert!(store.was_handled(&key("a")) && store.was_handled(&key("b")) && !store.was_handled(&key("c")));
        assert_eq!(waiting(&*out(&store).await).await, 2);
        store.close().await;
    }
}

#[tokio::test]
async fn what_was_noted_is_known_at_once_and_after_the_store_was_closed() {
    let directory = TempDir::new().unwrap();
    let store = reopen(&directory).await;
    store.note_handled(keys(0..10_000));
    assert!(keys(0..10_000).all(|key| store.was_handled(&key)));
    store.close().await;
    assert!(rows(directory.path()) < 100, "not one row per message");
    let store = reopen(&directory).await;
    assert!(keys(0..10_000).all(|key| store.was_handled(&key)));
    assert!(!store.was_handled(&key("10000")));
    store.close().await;
}

#[tokio::test]
async fn what_was_noted_is_on_the_disk_soon_though_nobody_asks_for_anything() {
    let directory = TempDir::new().unwrap();
    let store = reopen(&directory).await;
    for round in 0..2 {
        store.note_handled([key(&round.to_string())]);
        let path = directory.path().to_owned();
        let written = move || wait_for("the row", || (rows(&path) > round).then_some(()));
        tokio::task::spawn_blocking(written).await.unwrap();
    }
    let copy = killed(&directory);
    let again = reopen(&copy).await;
    assert!(keys(0..2).all(|key| again.was_handled(&key)));
    again.close().await;
    store.close().await;
}

#[tokio::test]
async fn notes_are_written_though_the_store_has_much_else_to_do() {
    let directory = TempDir::new().unwrap();
    let store = reopen(&directory).await;
    let queue = out(&store).await;
    store.note_handled([key("a")]);
    // Always something to do for the store's thread, from several sides.
    let mut busy = JoinSet::new();
    for _ in 0..4 {
        let queue = Arc::clone(&queue);
        busy.spawn(async move {
            loop {
                queue.send(Outgoing::new("sent").check().unwrap()).await.unwrap();
            }
        });
    }
    let path = directory.path().to_owned();
    let written = move || wait_for("the row", || (rows(&path) > 0).then_some(()));
    tokio::task::spawn_blocking(written).await.unwrap();
    busy.shutdown().await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_comes_from_all_sides_at_once_is_all_kept() {
    let directory = TempDir::new().unwrap();
    let store = reopen(&directory).await;
    let queue = out(&store).await;
    let mut sides = JoinSet::new();
    for side in 0..8_u32 {
        let store = store.clone();
        sides.spawn(async move {
            for round in 0..50 {
                let first = (side * 50 + round) * 100;
                store.note_handled(keys(first..first + 99));
                store
                    .commit(keys(first + 99..first + 100).collect(), vec![send("out")].into())
                    .await
                    .unwrap();
                assert!(keys(first..first + 100).all(|key| store.was_handled(&key)));
            }
        });
    }
    while let Some(side) = sides.join_next().await {
        side.unwrap();
    }
    assert_eq!(waiting(&queue).await, 400);
    store.close().await;
    let store = reopen(&directory).await;
    assert!(keys(0..40_000).all(|key| store.was_handled(&key)));
    store.close().await;
}

#[tokio::test]
async fn a_refused_send_leaves_nothing_behind() {
    let directory = TempDir::new().unwrap();
    for store in both(&directory, ProcessedMessageSettings::default()).await {
        let queue = out(&store).await;
        let full = Settings {
            max_messages: 1,
            ..Settings::defaults(&name("full"))
        };
        store
            .queue(name("full"), full)
            .await
            .unwrap()
            .send(Outgoing::new("first").check().unwrap())
            .await
            .unwrap();
        let error = store
            .commit(vec![key("a")], vec![send("out"), send("full")].into())
            .await
            .unwrap_err();
        let CommitError::Refused(EffectsRefused::SendRefused { queue: refusing, error }) = error else {
            panic!("{error:?}")
        };
        assert_eq!(refusing, name("full"));
        assert!(matches!(*error, SendError::Full { limit: 1, .. }), "{error:?}");
        let error = store
            .commit(vec![key("a")], vec![send("out"), send("nowhere")].into())
            .await
            .unwrap_err();
        assert!(
            matches!(&error, CommitError::Refused(EffectsRefused::SendRefused { queue, error })
                if *queue == name("nowhere") && matches!(**error, SendError::NoSuchQueue(_))),
            "{error:?}"
        );
        assert!(!store.was_handled(&key("a")));
        assert_eq!(waiting(&queue).await, 0);
        store.close().await;
    }
    let store = reopen(&directory).await;
    assert!(!store.was_handled(&key("a")));
    store.close().await;
    assert_eq!(rows(directory.path()), 0);
}

#[tokio::test]
async fn a_message_that_is_handled_twice_at_once_sends_once() {
    let directory = TempDir::new().unwrap();
    for store in both(&directory, ProcessedMessageSettings::default()).await {
        let queue = out(&store).await;
        let mut attempts = JoinSet::new();
        for _ in 0..20 {
            let store = store.clone();
            attempts.spawn(async move { store.commit(vec![key("a")], vec![send("out")].into()).await });
        }
        while let Some(answer) = attempts.join_next().await {
            answer.unwrap().unwrap();
        }
        assert_eq!(waiting(&queue).await, 1);
        store.close().await;
    }
}

#[tokio::test]
async fn a_batch_of_which_some_was_handled_before_is_not_committed_with_its_sends() {
    let directory = TempDir::new().unwrap();
    for store in both(&directory, ProcessedMessageSettings::default()).await {
        let queue = out(&store).await;
        store.note_handled([key("a")]);
        let error = store
            .commit(vec![key("a"), key("b")], vec![send("out")].into())
            .await
            .unwrap_err();
        assert!(matches!(error, CommitError::Incomplete), "{error:?}");
        assert!(!store.was_handled(&key("b")));
        assert_eq!(waiting(&queue).await, 0);
        // Without sends there is nothing that could happen twice.
        store
            .commit(vec![key("a"), key("b")], Effects::default())
            .await
            .unwrap();
        assert!(store.was_handled(&key("b")));
        // Sends that belong to no message always happen.
        store.commit(Vec::new(), vec![send("out")].into()).await.unwrap();
        assert_eq!(waiting(&queue).await, 1);
        store.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_the_window_is_forgotten() {
    let directory = TempDir::new().unwrap();
    let stores = both(&directory, bounded(2 * HOUR, 100)).await;
    for store in &stores {
        store.commit(vec![key("committed")], Effects::default()).await.unwrap();
        store.note_handled([key("noted")]);
    }
    advance(Duration::from_mins(119)).await;
    for store in &stores {
        assert!(store.was_handled(&key("committed")) && store.was_handled(&key("noted")));
        store.note_handled([key("later")]);
    }
    advance(Duration::from_mins(2)).await;
    for store in &stores {
        assert!(!store.was_handled(&key("committed")) && !store.was_handled(&key("noted")));
        assert!(store.was_handled(&key("later")));
    }
    for store in stores {
        // Forgotten in the course of this one, and then deleted.
        store.commit(vec![key("last")], Effects::default()).await.unwrap();
        store.commit(vec![key("last")], Effects::default()).await.unwrap();
        store.close().await;
    }
    assert_eq!(rows(directory.path()), 3, "later, last and last");
}

#[tokio::test]
async fn of_too_many_the_oldest_are_forgotten_on_the_disk_too() {
    let directory = TempDir::new().unwrap();
    for store in both(&directory, bounded(HOUR, 100)).await {
        for number in 0..300_u32 {
            store
                .commit(vec![key(&number.to_string())], Effects::default())
                .await
                .unwrap();
        }
        assert!(keys(0..200).all(|key| !store.was_handled(&key)));
        assert!(keys(200..300).all(|key| store.was_handled(&key)));
        store.close().await;
    }
    assert!(rows(directory.path()) <= 101, "{}", rows(directory.path()));
    // A smaller bound holds from the next start on.
    let [store, _] = both(&directory, bounded(HOUR, 10)).await;
    assert!(keys(0..290).all(|key| !store.was_handled(&key)));
    assert!(keys(290..300).all(|key| store.was_handled(&key)));
    store.close().await;
    assert_eq!(rows(directory.path()), 10);
}

#[tokio::test]
async fn a_store_of_processed_messages_that_is_off_remembers_nothing_and_sends_all_the_same() {
    let directory = TempDir::new().unwrap();
    let store = reopen(&directory).await;
    store.commit(vec![key("before")], Effects::default()).await.unwrap();
    store.close().await;
    for store in both(&directory, ProcessedMessageSettings::OFF).await {
        let queue = out(&store).await;
        store.note_handled([key("a")]);
        for _ in 0..2 {
            store.commit(vec![key("a")], vec![send("out")].into()).await.unwrap();
        }
        assert!(!store.was_handled(&key("before")) && !store.was_handled(&key("a")));
        assert_eq!(waiting(&queue).await, 2);
        store.close().await;
    }
    assert_eq!(rows(directory.path()), 0, "what was there before is gone too");
}

#[tokio::test]
async fn a_damaged_segment_is_dropped_and_the_others_are_known() {
    for damage in [
        "UPDATE handled SET keys = zeroblob(16) WHERE segment = 2",
        "UPDATE handled SET keys = substr(keys, 1, 15) WHERE segment = 2",
        "UPDATE handled SET keys = x'' WHERE segment = 2",
        "UPDATE handled SET noted_at = noted_at + 1 WHERE segment = 2",
        "UPDATE handled SET checksum = -1 WHERE segment = 2",
        "UPDATE handled SET segment = 9 WHERE segment = 2",
    ] {
        let directory = TempDir::new().unwrap();
        let store = reopen(&directory).await;
        for id in ["1", "2", "3"] {
            store.commit(vec![key(id)], Effects::default()).await.unwrap();
        }
        store.close().await;
        let database = rusqlite::Connection::open(directory.path().join(DATABASE)).unwrap();
        assert_eq!(database.execute(damage, []).unwrap(), 1);
        drop(database);
        let store = reopen(&directory).await;
        assert!(store.was_handled(&key("1")) && store.was_handled(&key("3")), "{damage}");
        assert!(!store.was_handled(&key("2")), "{damage}");
        store.commit(vec![key("2")], Effects::default()).await.unwrap();
        store.close().await;
        assert_eq!(rows(directory.path()), 3, "{damage}");
        let store = reopen(&directory).await;
        assert!(keys(1..4).all(|key| store.was_handled(&key)), "{damage}");
        store.close().await;
    }
}

#[tokio::test]
async fn a_data_directory_from_before_the_processed_messages_still_opens() {
    let directory = TempDir::new().unwrap();
    let store = reopen(&directory).await;
    out(&store)
        .await
        .send(Outgoing::new("kept").check().unwrap())
        .await
        .unwrap();
    store.close().await;
    let database = rusqlite::Connection::open(directory.path().join(DATABASE)).unwrap();
    database.execute_batch("DROP TABLE handled").unwrap();
    drop(database);
    let store = reopen(&directory).await;
    assert_eq!(waiting(&*out(&store).await).await, 1);
    store.commit(vec![key("a")], Effects::default()).await.unwrap();
    store.close().await;
    let store = reopen(&directory).await;
    assert!(store.was_handled(&key("a")));
    store.close().await;
}

#[tokio::test]
async fn notes_outlast_a_disk_that_is_full_for_a_while() {
    let (directory, disk) = (TempDir::new().unwrap(), FaultyStore::new());
    let options = StoreOptions {
        vfs: Some(disk.vfs()),
        ..StoreOptions::new(directory.path())
    };
    let store = open(options).await;
    disk.fail(0, Fault::Full);
    // So many that they are written at once, and fail to be before the second commit is looked at.
    store.note_handled(keys(0..5000));
    for _ in 0..2 {
        let error = store
            .commit(vec![key("committed")], Effects::default())
            .await
            .unwrap_err();
        assert!(
            matches!(&error, CommitError::Queue(error) if error.is_transient()),
            "{error:?}"
        );
    }
    assert!(!store.was_handled(&key("committed")));
    assert!(disk.heal());
    assert!(keys(0..5000).all(|key| store.was_handled(&key)));
    store.close().await;
    let store = reopen(&directory).await;
    assert!(keys(0..5000).all(|key| store.was_handled(&key)));
    assert!(!store.was_handled(&key("committed")));
    store.close().await;
}
