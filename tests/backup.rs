//! A backup of a host that works: nothing acknowledged is missing in it, and whatever ends it leaves nothing behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Output,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use harness::{
    guests::forward,
    host::{Host, Place},
    wait_for,
};
use serde_json::{Value, json};

const GRANT: &str = "[grant]\nsend = [\"out\"]\n";

fn backup(place: &Place, host: &Host, to: &Path) -> Output {
    let mut command = place.command();
    command.args(["backup", "--json", "--url", &host.url]).arg(to);
    command.output().unwrap()
}

fn done(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(output: &Output, code: i32, why: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(why), "{error}");
}

/// The directory in which the host makes its copies.
fn staging(place: &Place) -> PathBuf {
    place.data().join("backup.tmp")
}

/// Waits until a copy is begun.
fn wait_for_copy(place: &Place) {
    wait_for("the copy", || {
        let mut copies = fs::read_dir(staging(place)).ok()?.flatten();
        copies.find(|copy| copy.path().join("queues.db").exists())
    });
}

/// Asks for a backup and reads nothing of it.
fn deaf_client(host: &Host) -> TcpStream {
    let address = host.url.strip_prefix("http://").unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    client
        .write_all(format!("POST /backup HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n").as_bytes())
        .unwrap();
    client
}

/// A place with more messages than the buffers between a host and its client hold.
fn filled(queue: &str) -> Place {
    let place = Place::new();
    place.fill(queue, 2000, &vec![b'x'; 20_000], 100);
    place
}

fn group(body: &str) -> String {
    format!("g{}", body.parse::<u64>().unwrap() % 7)
}

#[derive(Default)]
struct SentBodies {
    all: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
}

/// Sends until it is told to stop.
fn send(host: &Host, sent: &Mutex<SentBodies>, stop: &AtomicBool) {
    for batch in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let bodies: Vec<String> = (batch * 20..(batch + 1) * 20)
            .map(|number: u64| number.to_string())
            .collect();
        sent.lock().unwrap().all.extend(bodies.iter().cloned());
        let message = |body: &String| json!({ "body": body, "group": group(body) });
        let messages: Vec<_> = bodies.iter().map(message).collect();
        host.post("/queues/in/batch", &json!({ "messages": messages }));
        sent.lock().unwrap().acknowledged.extend(bodies);
    }
}

#[test]
fn a_host_on_a_backup_has_every_message_that_was_acknowledged_before_and_keeps_the_order_of_groups() {
    let place = filled("ballast");
    place.install("in", &forward(), GRANT);
    let restored = Place::new();
    restored.install("in", &forward(), GRANT);
    let host = place.start();
    host.wait_ready();
    let (sent, stop) = (Mutex::new(SentBodies::default()), AtomicBool::new(false));
    let before = thread::scope(|scope| {
        scope.spawn(|| send(&host, &sent, &stop));
        let before = wait_for("messages to be sent and handled", || {
            let acknowledged = sent.lock().unwrap().acknowledged.clone();
            (acknowledged.len() >= 200 && host.count("out", "ready") > 20).then_some(acknowledged)
        });
        let answer = done(&backup(&place, &host, &restored.data()));
        stop.store(true, Ordering::Relaxed);
        assert!(answer["bytes"].as_u64().unwrap() > 40_000_000, "{answer}");
        assert!(answer["messages"].as_u64().unwrap() >= 2000 + 200, "{answer}");
        println!("{answer}");
        before
    });
    assert!(!staging(&place).exists());
    drop(host);
    let host = restored.start();
    host.wait_ready();
    host.wait_empty("in");
    assert_eq!(host.count("ballast", "ready"), 2000);
    assert_eq!(host.count("in", "dead"), 0);
    let (status, log) = host.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(
        !log.iter().any(|line| line.contains("handed out again, alone")),
        "{log:#?}"
    );
    let out = restored.stored("out");
    let handled: BTreeSet<String> = out.iter().cloned().collect();
    assert_eq!(handled.len(), out.len(), "something was handled twice");
    let lost: Vec<_> = before.difference(&handled).collect();
    assert!(lost.is_empty(), "acknowledged before the backup, and lost: {lost:?}");
    assert!(
        handled.is_subset(&sent.into_inner().unwrap().all),
        "something was never sent"
    );
    let mut latest: BTreeMap<String, u64> = BTreeMap::new();
    for body in out {
        let number = body.parse().unwrap();
        let former = latest.insert(group(&body), number);
        assert!(
            former.is_none_or(|former| former < number),
            "group {} at {number}",
            group(&body)
        );
    }
}

#[test]
fn a_host_on_a_backup_serves_the_version_that_served_though_its_plugin_directory_has_none_that_passes() {
    let place = Place::new();
    place.install("in", &forward(), GRANT);
    let host = place.start();
    host.wait_ready();
    let restored = Place::new();
    // Settings and files of handlers are not in a backup; this one has a file that does not pass.
    restored.install("in", b"no component", GRANT);
    wait_for("the version to be recorded", || {
        fs::read(place.data().join("versions/in/history.json")).ok()
    });
    done(&backup(&place, &host, &restored.data()));
    let copied = restored.data();
    assert!(!copied.join("artifacts").exists() && copied.join("backup.json").exists());
    drop(host);
    let host = restored.start();
    host.send("in", b"hello");
    wait_for("the older version to serve", || {
        (host.count("out", "ready") == 1).then_some(())
    });
    assert_eq!(host.terminate().0.code(), Some(0));
}

#[test]
fn a_kill_during_a_backup_leaves_a_data_directory_that_starts_and_nothing_else() {
    let place = filled("ballast");
    let host = place.start();
    let client = deaf_client(&host);
    wait_for_copy(&place);
    host.kill();
    drop(client);
    assert!(staging(&place).exists(), "it was under way");
    let host = place.start();
    assert!(!staging(&place).exists());
    assert_eq!(host.count("ballast", "ready"), 2000);
    done(&backup(&place, &host, &place.path().join("monday")));
    assert_eq!(host.terminate().0.code(), Some(0));
}

#[test]
fn one_backup_is_made_at_a_time_and_a_client_that_goes_away_ends_its_own() {
    let place = filled("ballast");
    let host = place.start();
    let client = deaf_client(&host);
    wait_for_copy(&place);
    let monday = place.path().join("monday");
    refused(
        &backup(&place, &host, &monday),
        1,
        "another backup of this host is being made",
    );
    assert!(!monday.exists());
    drop(client);
    wait_for("the end of the backup that nobody reads", || {
        (!staging(&place).exists()).then_some(())
    });
    done(&backup(&place, &host, &monday));
    refused(&backup(&place, &host, &monday), 1, "not an empty directory");
    assert_eq!(host.terminate().0.code(), Some(0));
}

#[test]
fn a_host_that_keeps_nothing_refuses_a_backup_and_says_why() {
    let mut place = Place::new();
    place.arguments = vec!["--ephemeral".to_owned()];
    let host = place.start();
    refused(&backup(&place, &host, &place.path().join("monday")), 1, "--ephemeral");
    assert!(!place.path().join("monday").exists());
}

/// The largest size of a file stands for a full disk: the system refuses the same writes.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_without_room_ends_a_backup_with_a_clear_error_and_disturbs_nothing() {
    let mut place = filled("ballast");
    place.configure("[queues.ballast]\n[queues.kept]\n");
    place.prefix = vec!["prlimit".to_owned(), "--fsize=16000000".to_owned()];
    let host = place.start();
    host.send("kept", b"before");
    let free = Place::new();
    let output = backup(&free, &host, &free.path().join("monday"));
    refused(&output, 69, "the queues can't be copied to");
    refused(&output, 69, "the disk is full for this process");
    assert!(!free.path().join("monday").exists());
    wait_for("the copy to be removed", || (!staging(&place).exists()).then_some(()));
    host.send("kept", b"after");
    assert_eq!(host.take_all("kept"), ["before", "after"]);
    assert_eq!(host.text("/ready").0, 200);
    assert_eq!(host.terminate().0.code(), Some(0));
}
