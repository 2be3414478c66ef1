//! Whoever sets the wall clock, and whatever it shows at a start, ends no message early, delays none for longer than was asked
//! for, and forgets no deduplication id. What passes while the machine sleeps counts.

#![expect(
    clippy::unwrap_used,
    clippy::unchecked_time_subtraction,
    reason = "the steps of a test must succeed"
)]

use std::{fs, path::Path, sync::Arc, sync::mpsc, time::Duration};

use harness::{
    faulty_store::{Fault, FaultyStore},
    set_clock::SetClock,
};
use sandhog_queue::{
    Effects, FailureKind, FailureRecord, Queue as _, SettleRequest, Settlement,
    message::{MessageId, Outgoing, QueueName},
};
use sandhog_simple::{ProcessedMessageKey, SimpleQueue, SimpleStore, StoreOptions, settings::Settings};
use tempfile::TempDir;
use tokio::time::Instant;

#[cfg(target_os = "linux")]
use {
    harness::{host::Place, repository, wait_for},
    std::process::Command,
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
const TIME_TO_LIVE: Duration = Duration::from_hours(14 * 24);
const TODAY: Duration = Duration::from_hours(500_000);
const IN_1970: Duration = Duration::from_secs(10);

/// A data directory on a machine whose clocks belong to the test.
struct Bench {
    directory: TempDir,
    machine: SetClock,
    #[expect(
        dead_code,
        reason = "dropping it ends the blocking task that keeps tokio's time still"
    )]
    still: mpsc::Sender<()>,
}

/// An open store.
struct Run {
    store: SimpleStore,
    queue: Arc<SimpleQueue>,
}

impl Bench {
    fn new() -> Self {
        let (still, ended) = mpsc::channel::<()>();
        // A test that waits in vain goes on after a minute, when time moves again, instead of hanging.
        drop(tokio::task::spawn_blocking(move || {
            ended.recv_timeout(60 * SECOND).is_err()
        }));
        let (directory, machine) = (TempDir::new().unwrap(), SetClock::new());
        Self {
            directory,
            machine,
            still,
        }
    }

    async fn open(&self) -> Run {
        self.open_at(self.directory.path()).await
    }

    async fn open_at(&self, directory: &Path) -> Run {
        let store = SimpleStore::open(&StoreOptions {
            clock: self.machine.clock(),
            ..StoreOptions::new(directory)
        });
        let (store, name) = (store.unwrap(), QueueName::new("orders").unwrap());
        let settings = Settings {
            time_to_live: Some(TIME_TO_LIVE),
            ..Settings::defaults(&name)
        };
        let queue = store.queue(name, settings).await.unwrap();
        Run { store, queue }
    }

    /// What a process that was killed in this moment leaves.
    fn killed(&self) -> TempDir {
        let copy = TempDir::new().unwrap();
        for entry in fs::read_dir(self.directory.path()).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        copy
    }

    /// Changes the files as another program would, while no store is open.
    fn alter(&self, sql: &str) {
        let database = rusqlite::Connection::open(self.directory.path().join("queues.db")).unwrap();
        database.execute_batch(sql).unwrap();
    }
}

fn key() -> ProcessedMessageKey {
    ProcessedMessageKey::new(&QueueName::new("elsewhere").unwrap(), &MessageId::from_queue("handled"))
}

impl Run {
    /// One of everything that is stored with a time: a message that waits, one with a deduplication id, one that is
    /// delayed by ten seconds, a retry in an hour, and a message of another queue that was handled.
    async fn fill(&self) {
        self.send("retried", 0, None).await;
        let delivery = self.queue.receive(1, Duration::ZERO).await.unwrap().pop().unwrap();
        let failure = FailureRecord {
            kind: FailureKind::Retry,
            reason: String::new(),
            handler: String::new(),
            component: String::new(),
        };
        let settlement = Settlement::Retry {
            delay: 3600 * SECOND,
            failure,
        };
        let receipt = delivery.receipt;
        let settled = self
            .queue
            .settle(vec![SettleRequest { receipt, settlement }], Effects::default());
        settled.await.unwrap().pop().unwrap().unwrap();
        self.send("waiting", 0, None).await;
        self.send("known", 0, Some("id")).await;
        self.send("delayed", 10, None).await;
        self.store.commit(vec![key()], Effects::default()).await.unwrap();
    }

    async fn send(&self, body: &str, delay: u64, deduplication: Option<&str>) -> MessageId {
        let outgoing = Outgoing {
            body: body.to_owned().into(),
            delay: Some(Duration::from_secs(delay)),
            deduplication_id: deduplication.map(str::to_owned),
            ..Outgoing::default()
        };
        self.queue.send(outgoing.check().unwrap()).await.unwrap()
    }

    /// Ready, delayed, and removed by the time to live.
    async fn counts(&self) -> (u64, u64, u64) {
        let counts = self.queue.counts().await.unwrap();
        (counts.ready, counts.delayed, counts.expired)
    }

    /// Nothing of what [`Run::fill`] stored was lost, held for too long or forgotten.
    async fn check_filled(&self, machine: &SetClock, why: &str) {
        assert_eq!(self.counts().await, (2, 2, 0), "{why}");
        self.send("known", 0, Some("id")).await;
        assert_eq!(self.counts().await, (2, 2, 0), "{why}: the id is forgotten");
        assert!(self.store.was_handled(&key()), "{why}: what was handled is forgotten");
        machine.pass(9 * SECOND).await;
        assert_eq!(self.counts().await, (2, 2, 0), "{why}: too early");
        // A sighting may be a second old.
        machine.pass(2 * SECOND).await;
        assert_eq!(self.counts().await, (3, 1, 0), "{why}: too late");
        machine.pass(3600 * SECOND).await;
        assert_eq!(self.counts().await, (4, 0, 0), "{why}: the retry is too late");
        machine.pass(TIME_TO_LIVE).await;
        assert_eq!(self.counts().await, (0, 0, 4), "{why}: what is old stays");
    }
}

/// Where the wall clock is set to, from where.
fn jumps() -> [(&'static str, Duration, Duration); 5] {
    [
        ("forward by 20 days", TODAY, TODAY + 20 * DAY),
        ("back by 20 days", TODAY, TODAY - 20 * DAY),
        ("from today to 1970", TODAY, IN_1970),
        ("from 1970 to today", IN_1970, TODAY),
        ("back by 400 days", TODAY + 400 * DAY, TODAY),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_while_the_store_is_open_changes_nothing() {
    for (why, before, after) in jumps() {
        let bench = Bench::new();
        bench.machine.set_wall(before);
        let run = bench.open().await;
        run.fill().await;
        bench.machine.set_wall(after);
        run.check_filled(&bench.machine, why).await;
        run.store.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_while_the_store_is_closed_changes_nothing() {
    for (why, before, after) in jumps() {
        let bench = Bench::new();
        bench.machine.set_wall(before);
        let run = bench.open().await;
        run.fill().await;
        run.store.close().await;
        bench.machine.set_wall(after);
        let run = bench.open().await;
        run.check_filled(&bench.machine, why).await;
        run.store.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_before_a_kill_changes_nothing() {
    for (why, before, after) in jumps() {
        let bench = Bench::new();
        bench.machine.set_wall(before);
        let run = bench.open().await;
        run.fill().await;
        bench.machine.set_wall(after);
        let copy = bench.killed();
        let again = bench.open_at(copy.path()).await;
        again.check_filled(&bench.machine, why).await;
        again.store.close().await;
        run.store.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_another_start_of_the_machine_nothing_ends_early_whatever_its_clock_shows() {
    for (why, before, after) in jumps() {
        for killed in [false, true] {
            let bench = Bench::new();
            bench.machine.set_wall(before);
            let run = bench.open().await;
            // Long after it was opened: nothing says when that was but what is written by then.
            bench.machine.pass(DAY).await;
            run.fill().await;
            let copy = bench.killed();
            run.store.close().await;
            bench.machine.reboot(SECOND);
            bench.machine.set_wall(after);
            let directory = if killed { copy.path() } else { bench.directory.path() };
            let run = bench.open_at(directory).await;
            run.check_filled(&bench.machine, why).await;
            run.store.close().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_that_was_waited_for_when_the_power_failed_does_not_begin_anew() {
    let bench = Bench::new();
    let run = bench.open().await;
    run.send("delayed", 3600, None).await;
    // Nobody sends anything; somebody looks now and then.
    for _ in 0..30 {
        bench.machine.pass(60 * SECOND).await;
        assert_eq!(run.counts().await, (0, 1, 0));
    }
    let copy = bench.killed();
    run.store.close().await;
    bench.machine.reboot(DAY);
    let run = bench.open_at(copy.path()).await;
    bench.machine.pass(1700 * SECOND).await;
    assert_eq!(run.counts().await, (0, 1, 0), "too early");
    bench.machine.pass(200 * SECOND).await;
    assert_eq!(run.counts().await, (1, 0, 0), "too late");
    run.store.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_passes_while_the_store_is_closed_counts() {
    let bench = Bench::new();
    let run = bench.open().await;
    run.fill().await;
    run.store.close().await;
    // The machine runs, and somebody plays with its clock.
    bench.machine.pass(12 * SECOND).await;
    bench.machine.set_wall(IN_1970);
    let run = bench.open().await;
    assert_eq!(run.counts().await, (3, 1, 0));
    run.store.close().await;
    bench.machine.pass(TIME_TO_LIVE).await;
    let run = bench.open().await;
    assert_eq!(run.counts().await, (0, 0, 4));
    run.store.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_passes_while_the_machine_sleeps_counts() {
    let bench = Bench::new();
    let run = bench.open().await;
    run.fill().await;
    bench.machine.sleep(11 * SECOND);
    assert_eq!(run.counts().await, (3, 1, 0));
    run.store.close().await;
    bench.machine.sleep(3600 * SECOND);
    let run = bench.open().await;
    assert_eq!(run.counts().await, (4, 0, 0));
    bench.machine.sleep(TIME_TO_LIVE);
    assert_eq!(run.counts().await, (0, 0, 4));
    run.store.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_waits_for_a_delay_notices_that_the_machine_has_slept() {
    let bench = Bench::new();
    let run = bench.open().await;
    run.send("delayed", 25, None).await;
    let (queue, mut receives) = (Arc::clone(&run.queue), tokio::task::JoinSet::new());
    receives.spawn(async move { queue.receive(1, 3600 * SECOND).await.unwrap() });
    tokio::task::yield_now().await;
    run.counts().await;
    let asleep = Instant::now();
    bench.machine.sleep(3600 * SECOND);
    bench.machine.pass(10 * SECOND).await;
    assert_eq!(receives.join_next().await.unwrap().unwrap().len(), 1);
    assert!(asleep.elapsed() <= 11 * SECOND, "{:?}", asleep.elapsed());
    run.store.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_told_when_a_message_was_sent_by_the_clock_of_then() {
    let bench = Bench::new();
    bench.machine.set_wall(IN_1970);
    let run = bench.open().await;
    bench.machine.pass(5 * SECOND).await;
    bench.machine.set_wall(TODAY);
    run.send("after", 0, None).await;
    let sent = run.queue.receive(1, Duration::ZERO).await.unwrap()[0]
        .message
        .sent_at_ms;
    assert_eq!(u128::from(sent), TODAY.as_millis());
    run.store.close().await;
    // The next run knows it as well.
    bench.machine.pass(7 * SECOND).await;
    let run = bench.open().await;
    run.queue.purge().await.unwrap();
    run.send("again", 0, None).await;
    let sent = run.queue.receive(1, Duration::ZERO).await.unwrap()[0]
        .message
        .sent_at_ms;
    assert_eq!(u128::from(sent), (TODAY + 7 * SECOND).as_millis());
    run.store.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_an_earlier_version_filled_goes_on() {
    // Versions before kept no time: what they stored was stamped by the wall clock of their start.
    for (why, before, after) in jumps() {
        let bench = Bench::new();
        bench.machine.set_wall(before);
        let run = bench.open().await;
        run.fill().await;
        run.store.close().await;
        bench.alter("DROP TABLE clock");
        bench.machine.set_wall(after);
        let run = bench.open().await;
        if after > before && before > IN_1970 {
            // Nothing says that it was set, so it is believed, as those versions did.
            assert_eq!(run.counts().await, (0, 0, 4), "{why}");
        } else {
            run.check_filled(&bench.machine, why).await;
        }
        run.store.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_earlier_versions_delay_under_a_clock_that_was_ahead_lasts_no_longer_than_was_asked_for() {
    let bench = Bench::new();
    bench.machine.set_wall(TODAY + 400 * DAY);
    let run = bench.open().await;
    run.send("delayed", 5, None).await;
    run.store.close().await;
    bench.alter("DROP TABLE clock");
    bench.machine.set_wall(TODAY);
    let run = bench.open().await;
    run.send("later", 0, None).await;
    run.store.close().await;
    // As if the clock had been right when that was sent.
    bench.alter("DROP TABLE clock; UPDATE messages SET queued_at = 1800000000000 WHERE body = CAST('later' AS BLOB)");
    let run = bench.open().await;
    bench.machine.pass(5 * SECOND).await;
    assert_eq!(run.counts().await, (2, 0, 0));
    run.store.close().await;
}

/// A library that moves the wall clock of the processes that load it by what a file says, in seconds.
#[cfg(target_os = "linux")]
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
static volatile long long *offset;
__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CLOCK_OFFSET"), O_RDONLY);
    void *map = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    offset = map == MAP_FAILED ? 0 : map;
}
int clock_gettime(clockid_t id, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, time);
    if (code == 0 && id == CLOCK_REALTIME && offset) time->tv_sec += *offset;
    return code;
}
"#;

/// Lets the hosts of a place have a wall clock of their own; returns the file that moves it.
#[cfg(target_os = "linux")]
fn give_clock(place: &mut Place) -> std::path::PathBuf {
    let (source, library) = (place.path().join("clock.c"), place.path().join("clock.so"));
    fs::write(&source, SHIM).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .args(["-ldl"])
        .current_dir(repository())
        .status();
    assert!(built.unwrap().success(), "this test needs a C compiler");
    let offset = place.path().join("offset");
    fs::write(&offset, 0_i64.to_ne_bytes()).unwrap();
    let environment = [("LD_PRELOAD", &library), ("CLOCK_OFFSET", &offset)];
    let texts = environment.map(|(name, path)| (name, path.to_str().unwrap().to_owned()));
    place.environment.extend(texts);
    offset
}

/// Moves the wall clock of whoever maps the file.
#[cfg(target_os = "linux")]
fn set(offset: &Path, seconds: i64) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::OpenOptions::new().write(true).open(offset).unwrap();
    file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_host_that_is_started_in_1970_loses_nothing_when_it_gets_the_time_and_is_started_again() {
    const FIFTY_YEARS: i64 = -50 * 365 * 86_400;
    let mut place = Place::new();
    place.configure("[queues.orders]\ntime-to-live = \"1d\"\n[queues.mayfly]\ntime-to-live = \"1s\"\n");
    let offset = give_clock(&mut place);
    set(&offset, FIFTY_YEARS);
    let host = place.start();
    host.send("orders", b"in 1970");
    host.try_send("orders", b"delayed", "delay=1s").unwrap();
    set(&offset, 0);
    host.send("orders", b"today");
    wait_for("the clock to be noticed", || {
        host.send("mayfly", b"gone");
        host.events("the wall clock was set").pop()
    });
    wait_for("the time to live", || {
        (host.count("mayfly", "ready") == 0).then_some(())
    });
    host.event("messages past their time to live were removed");
    let (_, page) = host.text("/metrics");
    assert!(
        page.contains("sandhog_queue_expired_messages_total{queue=\"orders\"} 0\n"),
        "{page}"
    );
    let mayflies = "sandhog_queue_expired_messages_total{queue=\"mayfly\"} ";
    let removed = page.lines().find_map(|line| line.strip_prefix(mayflies)).unwrap();
    assert!(removed.parse::<u64>().unwrap() > 0, "{page}");
    host.terminate();
    let host = place.start();
    wait_for("the delay", || (host.count("orders", "ready") == 3).then_some(()));
    host.kill();
    set(&offset, 20 * 86_400);
    let host = place.start();
    assert_eq!(host.take_all("orders"), ["in 1970", "delayed", "today"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_host_that_can_not_know_for_how_long_it_was_off_says_so_and_keeps_the_messages() {
    let place = Place::new();
    place.configure("[queues.orders]\ntime-to-live = \"1d\"\n");
    let host = place.start();
    host.send("orders", b"kept");
    host.terminate();
    let database = rusqlite::Connection::open(place.data().join("queues.db")).unwrap();
    // As if it had been noted on another machine, 20 days ago.
    let altered = database.execute("UPDATE clock SET boot = 'f', wall = wall - 1728000000", []);
    assert_eq!(altered.unwrap(), 1);
    drop(database);
    let host = place.start();
    let said = host.events("nobody knows for how long the store was closed");
    assert_eq!(said.len(), 1, "{:#?}", host.log());
    assert_eq!(said[0]["level"], "WARN");
    assert_eq!(host.take_all("orders"), ["kept"]);
}

// Keeping the time wrote in every transaction once a write had been refused, so that those that write nothing were refused too: whoever
// held a message lost it.
#[tokio::test(start_paused = true)]
async fn on_a_full_disk_what_writes_nothing_goes_on_while_something_is_delayed() {
    let (bench, disk) = (Bench::new(), FaultyStore::new());
    let store = SimpleStore::open(&StoreOptions {
        clock: bench.machine.clock(),
        vfs: Some(disk.vfs()),
        ..StoreOptions::new(bench.directory.path())
    });
    let (store, name) = (store.unwrap(), QueueName::new("orders").unwrap());
    let queue = store.queue(name.clone(), Settings::defaults(&name)).await.unwrap();
    let run = Run { store, queue };
    run.send("held", 0, None).await;
    let held = run.queue.receive(1, Duration::ZERO).await.unwrap().pop().unwrap();
    run.send("delayed", 3600, None).await;
    disk.fail(0, Fault::Full);
    assert!(
        run.queue.send(Outgoing::default().check().unwrap()).await.is_err(),
        "the disk has room"
    );
    for _ in 0..3 {
        disk.fail(0, Fault::Full);
        bench.machine.pass(10 * SECOND).await;
        let extended = run.queue.extend(vec![held.receipt.clone()], 60 * SECOND).await;
        assert!(extended.iter().all(Result::is_ok), "{extended:?}");
        disk.fail(0, Fault::Full);
        // The time is a minute old and would be noted.
        bench.machine.pass(40 * SECOND).await;
        assert_eq!(run.counts().await, (0, 1, 0));
        assert!(run.queue.receive(1, Duration::ZERO).await.unwrap().is_empty());
    }
    disk.heal();
    run.store.close().await;
}

// The earlier program stamps by the wall clock. The next start took its newest stamp for now and removed what was fresh.
#[tokio::test(start_paused = true)]
async fn what_an_earlier_version_wrote_in_between_ages_nothing() {
    let bench = Bench::new();
    let run = bench.open().await;
    run.send("fresh", 0, None).await;
    run.send("newest", 0, None).await;
    run.store.close().await;
    bench.alter("UPDATE messages SET queued_at = queued_at + 1728000000 WHERE seq = (SELECT max(seq) FROM messages)");
    let run = bench.open().await;
    assert_eq!(run.counts().await, (2, 0, 0));
    bench.machine.pass(TIME_TO_LIVE).await;
    assert_eq!(run.counts().await, (1, 0, 1), "what passes counts all the same");
    run.store.close().await;
}
