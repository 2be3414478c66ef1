//! Backups that are given up, and the directories that they leave to the next one.

use std::time::Duration;

use sandhog_queue::{
    Queue as _,
    message::{Outgoing, QueueName},
};
use sandhog_simple::{StoreOptions, settings::Settings};

use super::*;

fn staged(data: &Path, number: u64) -> StagedCopy {
    let one = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    StagedCopy::make(data.to_owned(), number, 0, one).unwrap()
}

#[test]
fn what_an_abandoned_backup_still_writes_never_gets_into_the_next_one() {
    let data = tempfile::tempdir().unwrap();
    let first = staged(data.path(), 1);
    let late = first.path.join("queues.commits");
    drop(first);
    let second = staged(data.path(), 2);
    fs::write(&late, "of the first").unwrap_err();
    assert_eq!(fs::read_dir(&second.path).unwrap().count(), 0);
    drop(second);
    assert!(!data.path().join(STAGING).exists());
}

#[test]
fn a_backup_removes_what_former_ones_left() {
    let data = tempfile::tempdir().unwrap();
    let left = data.path().join(STAGING).join("1");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("queues.db"), "left").unwrap();
    let second = staged(data.path(), 2);
    assert!(!left.exists() && second.path.exists());
    drop(second);
    fs::create_dir_all(&left).unwrap();
    BackupDesk::remove_left(data.path());
    assert!(!data.path().join(STAGING).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_that_are_given_up_at_any_moment_leave_nothing_and_the_next_one_is_whole() {
    let data = tempfile::tempdir().unwrap();
    let store = SimpleStore::open(&StoreOptions::new(data.path())).unwrap();
    let name = QueueName::new("orders").unwrap();
    let orders = store.queue(name.clone(), Settings::defaults(&name)).await.unwrap();
    let message = || Outgoing::new(Bytes::from(vec![b'x'; 1000])).check().unwrap();
    let sent = orders.send_many((0..300).map(|_| message()).collect()).await;
    assert!(sent.iter().all(Result::is_ok));
    let desk = BackupDesk::new(store.clone(), Some(data.path().to_owned()));
    let tasks = TaskTracker::new();
    let mut begun = 0;
    for micros in (0..6000).step_by(150) {
        // The one before may still end.
        let archive = loop {
            match desk.begin(&tasks).await {
                Err(BackupRefused::Busy) => tokio::time::sleep(Duration::from_millis(1)).await,
                begun => break begun.unwrap(),
            }
        };
        begun += 1;
        tokio::time::sleep(Duration::from_micros(micros)).await;
        drop(archive);
    }
    assert_eq!(begun, 40);
    tasks.close();
    tasks.wait().await;
    let gone = async {
        while data.path().join(STAGING).exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone)
        .await
        .expect("nothing is left of them");
    tasks.reopen();
    let mut pieces = desk.begin(&tasks).await.unwrap();
    let mut archive = Vec::new();
    while let Some(piece) = pieces.recv().await {
        archive.extend_from_slice(&piece);
    }
    let mut files = tar::Archive::new(&*archive);
    let names: Vec<_> = files
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().into_owned())
        .collect();
    let expected = ["queues.commits", "queues.db", "queues.db-wal", FACTS];
    assert_eq!(names, expected.map(PathBuf::from));
    store.close().await;
}
