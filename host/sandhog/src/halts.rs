//! The halts of this host: what an operator has ordered to stand still, until somebody resumes it or its end comes.
//!
//! They are kept in one file of the data directory, which is replaced as a whole. Invariants: a halt counts, and is answered, once
//! it is on the disk; a halt whose end has come counts no more, wherever the clock goes afterwards. The file holds no messages, so
//! no state of it can lose one. Knows nothing of dispatchers and of HTTP.
//!
//! An ordered drain is told here as well, because those who receive have to see both at once. It is on no disk: a host that is
//! started again receives.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::sleep};

use self::record::HaltFile;
pub use self::{
    drain::DrainCause,
    record::{Halt, HaltTarget, MAX_REASON_BYTES},
    watched::{HaltCause, HaltWatch, receive_unhalted},
};
use crate::whole_file::{self, WriteEnd};
use sandhog_queue::{machine_clock::wall_ms, message::QueueName};

mod drain;
mod record;
mod watched;

/// The name of the file in the data directory.
const FILE: &str = "halts.json";
/// The name of a file that could not be understood.
const DAMAGED: &str = "halts.damaged.json";
/// The most halts at a time: an operator gives each by hand.
const MAX_HALTS: usize = 1000;
/// The largest file, in bytes: 1000 halts with the longest reasons and names take less.
const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;
/// The time between two looks at the clock while a halt has an end: somebody may set the clock.
const LOOK: Duration = Duration::from_millis(500);

/// Copies the halts of a data directory to another one, as they are on the disk.
///
/// # Errors
///
/// Those of the disk.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    match whole_file::read(&from.join(FILE), MAX_FILE_BYTES)? {
        Some(bytes) => whole_file::write(to, FILE, &bytes, WriteEnd::Synced),
        None => Ok(()),
    }
}

/// Why a halt was not given or taken back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HaltRefused {
    /// There are as many halts as there may be.
    #[error("{MAX_HALTS} queues and handlers are paused, the most that this host keeps: resume some")]
    TooMany,
    /// The file could not be replaced. What was halted before still is, and nothing else.
    #[error("{path} can't be written, so nothing has changed")]
    Disk {
        /// The file.
        path: PathBuf,
        /// The error of the disk.
        #[source]
        source: io::Error,
    },
    /// The file was replaced, and the disk does not confirm it. The change is in force.
    #[error("the change is in force, but a loss of power may undo it: the disk does not confirm {path}")]
    Unconfirmed {
        /// The file.
        path: PathBuf,
        /// The error of the disk.
        #[source]
        source: io::Error,
    },
}

/// The halts of a host.
#[derive(Debug)]
pub struct Halts {
    /// The data directory; `None` keeps the halts in memory.
    directory: Option<PathBuf>,
    table: Mutex<BTreeMap<HaltTarget, Halt>>,
    /// Held while the file is replaced, on a thread that may wait for the disk.
    writing: Mutex<()>,
    /// The disk has not confirmed the last change.
    unconfirmed: AtomicBool,
    /// Since when the host drains by an order: milliseconds since 1970-01-01T00:00:00Z.
    draining_since: Mutex<Option<u64>>,
    changes: watch::Sender<()>,
}

impl Default for Halts {
    /// No halts, in memory.
    fn default() -> Self {
        Self::with(None, BTreeMap::new())
    }
}

/// The halts of a data directory.
#[derive(Debug)]
pub struct OpenedHalts {
    /// The halts that were found.
    pub halts: Halts,
    /// What was wrong with the file, and where it is now.
    pub damage: Option<String>,
}

impl Halts {
    fn with(directory: Option<PathBuf>, table: BTreeMap<HaltTarget, Halt>) -> Self {
        Self {
            directory,
            table: Mutex::new(table),
            writing: Mutex::new(()),
            unconfirmed: AtomicBool::new(false),
            draining_since: Mutex::new(None),
            changes: watch::Sender::new(()),
        }
    }

    /// Reads the halts of a data directory. A file that can't be understood is moved aside, and nothing is halted: nobody knows what
    /// was, and a host that halts everything would stand still without anybody's order. Blocks.
    ///
    /// # Errors
    ///
    /// The file can't be read, so what it says is unknown.
    pub fn open(directory: &Path) -> io::Result<OpenedHalts> {
        let path = directory.join(FILE);
        let Some(bytes) = whole_file::read(&path, MAX_FILE_BYTES)? else {
            let halts = Self::with(Some(directory.to_owned()), BTreeMap::new());
            return Ok(OpenedHalts { halts, damage: None });
        };
        let (table, damage) = match serde_json::from_slice::<HaltFile>(&bytes) {
            Ok(file) => (file.into_table(wall_ms()), None),
            Err(error) => {
                let aside = directory.join(DAMAGED);
                let now_at = match std::fs::rename(&path, &aside) {
                    Ok(()) => format!("it is {} now", aside.display()),
                    Err(error) => format!("it can't be moved aside: {error}"),
                };
                let damage = format!("{} can't be understood: {error}; {now_at}", path.display());
                (BTreeMap::new(), Some(damage))
            }
        };
        let halts = Self::with(Some(directory.to_owned()), table);
        Ok(OpenedHalts { halts, damage })
    }

    /// Returns the halt of a queue.
    pub fn of_queue(&self, queue: &QueueName) -> Option<Halt> {
        self.of(&HaltTarget::Queue(queue.clone()))
    }

    /// Returns the halt of a handler by its name, whatever queue it takes.
    pub fn of_handler(&self, handler: &str) -> Option<Halt> {
        self.of(&HaltTarget::Handler(handler.to_owned()))
    }

    /// Returns the halt of exactly this.
    pub fn of(&self, target: &HaltTarget) -> Option<Halt> {
        self.table
            .lock()
            .get(target)
            .filter(|halt| halt.is_in_force(wall_ms()))
            .cloned()
    }

    /// Returns what keeps a handler from receiving: its own halt, or else that of its queue.
    pub fn stopping(&self, handler: &str, queue: &QueueName) -> Option<(HaltTarget, Halt)> {
        let targets = [
            HaltTarget::Handler(handler.to_owned()),
            HaltTarget::Queue(queue.clone()),
        ];
        targets.into_iter().find_map(|target| {
            let halt = self.of(&target)?;
            Some((target, halt))
        })
    }

    /// Returns all halts.
    pub fn list(&self) -> BTreeMap<HaltTarget, Halt> {
        let now = wall_ms();
        let mut all = self.table.lock().clone();
        all.retain(|_, halt| halt.is_in_force(now));
        all
    }

    /// Returns a receiver that sees that halts, or a drain, were ordered or taken back.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Halts a queue or a handler, in place of an earlier halt of it. It is on the disk when the future ends.
    ///
    /// # Errors
    ///
    /// See [`HaltRefused`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have given the halt, as a whole.
    pub async fn halt(self: &Arc<Self>, target: HaltTarget, halt: Halt) -> Result<(), HaltRefused> {
        self.change(move |table| {
            if table.len() >= MAX_HALTS && !table.contains_key(&target) {
                return Err(HaltRefused::TooMany);
            }
            table.insert(target, halt);
            Ok(())
        })
        .await
    }

    /// Takes a halt back, and returns it; `None` if there was none. That is on the disk when the future ends.
    ///
    /// # Errors
    ///
    /// See [`HaltRefused`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have taken the halt back.
    pub async fn resume(self: &Arc<Self>, target: HaltTarget) -> Result<Option<Halt>, HaltRefused> {
        if self.of(&target).is_none() && !self.unconfirmed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.change(move |table| Ok(table.remove(&target))).await
    }

    /// Takes exactly this halt back, and none that was given in its place.
    ///
    /// # Errors
    ///
    /// See [`HaltRefused`].
    ///
    /// # Cancel safety
    ///
    /// As [`Halts::resume`].
    pub async fn take_back(self: &Arc<Self>, target: HaltTarget, halt: Halt) -> Result<(), HaltRefused> {
        self.change(move |table| {
            if table.get(&target) == Some(&halt) {
                table.remove(&target);
            }
            Ok(())
        })
        .await
    }

    /// Changes the table, once the file says the same. A thread that may wait for the disk does both, so that a request that ends
    /// early leaves no half of it.
    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut BTreeMap<HaltTarget, Halt>) -> Result<T, HaltRefused> + Send + 'static,
    ) -> Result<T, HaltRefused> {
        let halts = Arc::clone(self);
        let changed = tokio::task::spawn_blocking(move || {
            let _writing = halts.writing.lock();
            let mut table = halts.list();
            let done = change(&mut table)?;
            let written = halts.write(&table);
            // Whoever asks again gets an answer about the disk, though nothing is to be changed.
            halts.unconfirmed.store(written.is_err(), Ordering::Relaxed);
            if !matches!(written, Err(HaltRefused::Disk { .. })) {
                *halts.table.lock() = table;
                halts.changes.send_replace(());
            }
            written.map(|()| done)
        });
        changed.await.expect("the change of a halt does not panic")
    }

    fn write(&self, table: &BTreeMap<HaltTarget, Halt>) -> Result<(), HaltRefused> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let bytes = serde_json::to_vec_pretty(&HaltFile::of(table)).expect("our own types have a JSON form");
        let path = directory.join(FILE);
        // A host without Simple queues has made no directory so far.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        let written = made.and_then(|()| whole_file::write(directory, FILE, &bytes, WriteEnd::Synced));
        if let Err(source) = written {
            return Err(HaltRefused::Disk { path, source });
        }
        whole_file::sync_names(directory).map_err(|source| HaltRefused::Unconfirmed { path, source })
    }

    /// Takes back the halts whose end has come, for as long as the future is polled. By the wall clock: a clock that is set makes a
    /// halt longer or shorter, and nothing else.
    pub async fn watch_ends(self: Arc<Self>) -> Infallible {
        let mut changes = self.changes();
        loop {
            // Any change may bring an end.
            changes.mark_unchanged();
            let has_end = self.table.lock().values().any(|halt| halt.until_ms.is_some());
            if has_end {
                sleep(LOOK).await;
                self.end_some().await;
            } else {
                // The sender is in `self`.
                drop(changes.changed().await);
            }
        }
    }

    async fn end_some(self: &Arc<Self>) {
        let now = wall_ms();
        let ended: Vec<HaltTarget> = {
            let table = self.table.lock();
            let ended = table.iter().filter(|(_, halt)| !halt.is_in_force(now));
            ended.map(|(target, _)| target.clone()).collect()
        };
        if ended.is_empty() {
            return;
        }
        for target in &ended {
            tracing::info!(%target, "the pause by an operator has come to its end");
        }
        // What is in force is written, which leaves out what has ended.
        if let Err(refused) = self.change(|_| Ok(())).await {
            let error = sandhog_queue::printable::chain(&refused);
            tracing::warn!(error, "the end of a pause could not be written; it counts all the same");
            self.table.lock().retain(|_, halt| halt.is_in_force(now));
            self.changes.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str) -> HaltTarget {
        HaltTarget::Queue(QueueName::new(name).unwrap())
    }

    fn halt(until_ms: Option<u64>) -> Halt {
        Halt {
            reason: "the bank is closed".to_owned(),
            since_ms: 1,
            until_ms,
        }
    }

    fn reopened(directory: &Path) -> Arc<Halts> {
        let opened = Halts::open(directory).unwrap();
        assert_eq!(opened.damage, None);
        Arc::new(opened.halts)
    }

    #[tokio::test]
    async fn a_halt_that_was_answered_is_there_after_a_restart() {
        let place = tempfile::tempdir().unwrap();
        let halts = reopened(place.path());
        let handler = HaltTarget::Handler("orders".to_owned());
        halts.halt(queue("orders"), halt(None)).await.unwrap();
        halts.halt(handler.clone(), halt(Some(u64::MAX))).await.unwrap();
        let halts = reopened(place.path());
        assert_eq!(halts.of(&queue("orders")), Some(halt(None)));
        assert_eq!(halts.of(&handler), Some(halt(Some(u64::MAX))));
        halts.resume(queue("orders")).await.unwrap();
        assert_eq!(reopened(place.path()).of(&queue("orders")), None);
    }

    #[tokio::test]
    async fn a_halt_that_can_not_be_written_does_not_count() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("file"), "x").unwrap();
        let below_a_file = place.path().join("file/data");
        let halts = Arc::new(Halts::with(Some(below_a_file), BTreeMap::new()));
        let refused = halts.halt(queue("orders"), halt(None)).await.unwrap_err();
        assert!(refused.to_string().contains("halts.json can't be written"), "{refused}");
        assert_eq!(halts.of(&queue("orders")), None);
    }

    #[tokio::test]
    async fn a_damaged_file_is_named_and_halts_nothing() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join(FILE), "{\"halts\": [").unwrap();
        let opened = Halts::open(place.path()).unwrap();
        let damage = opened.damage.unwrap();
        assert!(damage.contains("halts.json can't be understood"), "{damage}");
        assert!(place.path().join(DAMAGED).exists(), "{damage}");
        assert_eq!(opened.halts.list(), BTreeMap::new());
    }

    #[tokio::test]
    async fn a_halt_whose_end_has_come_counts_no_more_and_leaves_the_file() {
        let place = tempfile::tempdir().unwrap();
        let halts = reopened(place.path());
        halts.halt(queue("orders"), halt(Some(2))).await.unwrap();
        assert_eq!(halts.of(&queue("orders")), None);
        halts.end_some().await;
        assert!(halts.table.lock().is_empty());
        let text = std::fs::read_to_string(place.path().join(FILE)).unwrap();
        assert!(!text.contains("orders"), "{text}");
    }

    #[tokio::test]
    async fn a_host_keeps_a_bounded_number_of_halts() {
        let halts = Arc::new(Halts::default());
        for number in 0..MAX_HALTS {
            halts.halt(queue(&format!("q{number}")), halt(None)).await.unwrap();
        }
        assert!(matches!(
            halts.halt(queue("more"), halt(None)).await,
            Err(HaltRefused::TooMany)
        ));
        halts.halt(queue("q1"), halt(Some(u64::MAX))).await.unwrap();
    }
}
