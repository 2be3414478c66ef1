//! Copies of a store that works, opened as a store.

use std::{fs, num::NonZeroU32, pin::pin, sync::Arc};

use bytes::Bytes;
use sandhog_queue::{
    Effects, Queue as _, SettleRequest, Settlement,
    message::{MessageId, Outgoing, QueueName},
};
use tempfile::TempDir;

use super::*;
use crate::{OpenError, ProcessedMessageKey, SimpleQueue, StoreOptions, settings::Settings};

fn name() -> QueueName {
    QueueName::new("orders").unwrap()
}

fn opened(directory: &Path) -> SimpleStore {
    SimpleStore::open(&StoreOptions::new(directory)).unwrap()
}

async fn queue(store: &SimpleStore) -> Arc<SimpleQueue> {
    let settings = Settings {
        max_receives: NonZeroU32::MIN,
        ..Settings::defaults(&name())
    };
    store.queue(name(), settings).await.unwrap()
}

async fn send(queue: &SimpleQueue, count: usize) {
    let message = || Outgoing::new(Bytes::from(vec![b'x'; 1000])).check().unwrap();
    let sent = queue.send_many((0..count).map(|_| message()).collect()).await;
    assert!(sent.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_all_that_was_acknowledged_and_a_store_opens_it_as_it_is() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = opened(source.path());
    let orders = queue(&store).await;
    send(&orders, 5000).await;
    let in_flight = orders.receive(10, Duration::ZERO).await.unwrap();
    assert_eq!(in_flight.len(), 10);
    let busy = async {
        for _ in 0..20 {
            send(&orders, 50).await;
            let received = orders.receive(10, Duration::ZERO).await.unwrap();
            let delete = |receipt| SettleRequest {
                receipt,
                settlement: Settlement::Delete,
            };
            let settles = received.into_iter().map(|delivery| delete(delivery.receipt)).collect();
            assert!(
                orders
                    .settle(settles, Effects::default())
                    .await
                    .unwrap()
                    .iter()
                    .all(Result::is_ok)
            );
        }
    };
    let (copy, ()) = tokio::join!(store.copy_to(target.path()), busy);
    let copy = copy.unwrap();
    assert!((4800..=6000).contains(&copy.messages), "{copy:?}");
    let restored = opened(target.path());
    let again = queue(&restored).await;
    let counts = again.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight, counts.dead), (copy.messages, 0, 0));
    // One receive is all that a message of this queue gets, and that of the messages in flight did not count.
    let mut seen = 0;
    while seen < 20 {
        let received = again.receive(20, Duration::ZERO).await.unwrap();
        assert!(received.iter().all(|delivery| delivery.receive_count.get() == 1));
        seen += received.len();
    }
    restored.close().await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_and_the_files_of_another_time_are_refused_together() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = opened(source.path());
    let orders = queue(&store).await;
    send(&orders, 10).await;
    store.copy_to(target.path()).await.unwrap();
    send(&orders, 10).await;
    store.close().await;
    // The copied database beside the mark of the store that went on.
    fs::copy(source.path().join(HIGH_WATER_MARK), target.path().join(HIGH_WATER_MARK)).unwrap();
    let refused = SimpleStore::open(&StoreOptions::new(target.path())).unwrap_err();
    assert!(matches!(refused, OpenError::Missing { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_copy_replace_the_log_of_the_store_they_are_put_over() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = opened(source.path());
    let orders = queue(&store).await;
    send(&orders, 10).await;
    store.copy_to(target.path()).await.unwrap();
    send(&orders, 10).await;
    // As after a kill: the log has work of a later time than the copy.
    let killed = tempfile::tempdir().unwrap();
    let put = |from: &TempDir| {
        for entry in fs::read_dir(from.path()).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), killed.path().join(entry.file_name())).unwrap();
        }
    };
    put(&source);
    put(&target);
    let restored = opened(killed.path());
    assert_eq!(queue(&restored).await.counts().await.unwrap().ready, 10);
    restored.close().await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_knows_the_messages_that_were_handled_a_moment_before() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = opened(source.path());
    let key = ProcessedMessageKey::new(&name(), &MessageId::from_queue("7"));
    store.note_handled([key]);
    store.copy_to(target.path()).await.unwrap();
    let restored = opened(target.path());
    assert!(restored.was_handled(&key));
    restored.close().await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_copy_is_made_at_a_time_and_one_that_is_given_up_makes_room_for_the_next() {
    let places: Vec<TempDir> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let [source, first, second, third] = &places[..] else {
        panic!()
    };
    let store = opened(source.path());
    send(&*queue(&store).await, 10_000).await;
    {
        let mut under_way = pin!(store.copy_to(first.path()));
        // Polled until something is copied, and no further.
        while fs::metadata(first.path().join(DATABASE)).map_or(0, |file| file.len()) == 0 {
            assert!(poll_once(&mut under_way).await.is_none());
            sleep(Duration::from_millis(1)).await;
        }
        let refused = store.copy_to(second.path()).await.unwrap_err();
        assert!(matches!(refused, CopyError::Busy), "{refused}");
    }
    store.copy_to(third.path()).await.unwrap();
    store.close().await;
}

/// Polls once.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn a_store_in_memory_has_nothing_to_copy() {
    let target = tempfile::tempdir().unwrap();
    let refused = SimpleStore::ephemeral().copy_to(target.path()).await.unwrap_err();
    assert!(matches!(refused, CopyError::Ephemeral), "{refused}");
}

#[test]
fn a_copy_that_begins_again_and_again_is_given_up_with_what_to_do() {
    assert!((0..=MAX_RESTARTS).all(|restarts| bound_restarts(restarts).is_ok()));
    let given_up = bound_restarts(MAX_RESTARTS + 1).unwrap_err().to_string();
    assert!(
        given_up.contains("begin again 9 times") && given_up.contains("stop the host and copy its data directory"),
        "{given_up}"
    );
}
