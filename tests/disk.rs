//! A disk that is full, read-only, damaged or gone: a clear error or a full recovery, never a panic, never a silent loss.

#![expect(clippy::indexing_slicing, reason = "JSON that is not as expected fails the test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use harness::{guests::forward, host::Place, wait_for};

const GRANT: &str = "[grant]\nsend = [\"out\"]\n";

/// The text with which a host ends that cannot start, and its exit code.
fn refusal(place: &Place) -> (Option<i32>, String) {
    let output = place.run().output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    (output.status.code(), text)
}

fn filled() -> Place {
    let place = Place::new();
    place.install("in", &forward(), GRANT);
    let host = place.start();
    host.wait_ready();
    for number in 0..200 {
        host.send("in", format!("message {number}").as_bytes());
    }
    host.wait_empty("in");
    // Killed, so that the log of the database is left as it is.
    host.kill();
    place
}

#[test]
fn a_file_where_the_data_directory_should_be_is_refused_by_name() {
    let place = Place::new();
    fs::write(place.data(), "").unwrap();
    let (code, text) = refusal(&place);
    assert_eq!(code, Some(74), "{text}");
    assert!(text.contains(place.data().to_str().unwrap()), "{text}");
}

/// A place whose queues hold something, without what a killed host leaves.
fn stopped() -> Place {
    let mut place = Place::new();
    place.configure("[queues.kept]\n");
    let host = place.start();
    host.send("kept", b"kept");
    host.terminate();
    place.prefix = namespace(&[]);
    place
}

/// Starts the host, which can't write to `what`, and then again as it is.
fn refused_by_name(mut place: Place, what: &str, restore: impl FnOnce(&Place)) {
    let (code, text) = refusal(&place);
    assert_eq!(code, Some(74), "{text}");
    assert!(text.contains(place.data().join(what).to_str().unwrap()), "{text}");
    restore(&place);
    place.prefix.clear();
    assert_eq!(place.start().take_all("kept"), ["kept"]);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_data_directory_on_a_read_only_mount_is_refused_by_name() {
    let mut place = stopped();
    place.prefix = namespace(&[
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        "mount --bind data data && mount -o remount,bind,ro data || exit 99; exec \"$0\" \"$@\"",
    ]);
    refused_by_name(place, "queues.lock", |_| ());
}

#[test]
fn a_data_directory_that_may_not_be_written_is_refused_by_name() {
    // In a namespace that maps nobody even root has the rights of the files' owner and no more.
    let place = stopped();
    fs::remove_file(place.data().join("queues.lock")).unwrap();
    set_mode(&place.data(), 0o500);
    refused_by_name(place, "queues.lock", |place| set_mode(&place.data(), 0o700));
}

#[test]
fn files_that_may_not_be_written_are_refused_by_name() {
    for file in ["queues.db", "queues.commits", "queues.lock"] {
        let place = stopped();
        set_mode(&place.data().join(file), 0o400);
        refused_by_name(place, file, |place| set_mode(&place.data().join(file), 0o600));
    }
}

#[test]
fn a_data_directory_that_can_not_be_made_is_refused_by_name() {
    let mut place = Place::new();
    place.prefix = namespace(&[]);
    set_mode(place.path(), 0o500);
    let (code, text) = refusal(&place);
    set_mode(place.path(), 0o700);
    assert_eq!(code, Some(74), "{text}");
    assert!(text.contains(place.data().to_str().unwrap()), "{text}");
}

#[test]
fn a_deleted_database_is_not_silently_begun_anew() {
    let place = filled();
    for file in fs::read_dir(place.data()).unwrap().map(|entry| entry.unwrap().path()) {
        if file.to_str().unwrap().contains(".db") {
            fs::remove_file(file).unwrap();
        }
    }
    let (code, text) = refusal(&place);
    assert_eq!(code, Some(74), "{text}");
    assert!(text.contains("commits"), "{text}");
}

#[test]
fn a_deleted_log_is_noticed() {
    let place = filled();
    let log = fs::read_dir(place.data())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_str().unwrap().ends_with("-wal"));
    fs::remove_file(log.unwrap()).unwrap();
    let (code, text) = refusal(&place);
    assert_eq!(code, Some(74), "{text}");
}

#[test]
fn damage_anywhere_is_an_error_or_leaves_every_message_there() {
    let place = filled();
    let files: Vec<_> = fs::read_dir(place.data())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().contains(".db") && !path.to_str().unwrap().ends_with("-shm"))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    let restore = || {
        for file in fs::read_dir(place.data()).unwrap().map(|entry| entry.unwrap().path()) {
            if file.to_str().unwrap().contains(".db") {
                fs::remove_file(file).unwrap();
            }
        }
        for (path, bytes) in &files {
            fs::write(path, bytes).unwrap();
        }
    };
    let (mut refused, mut recovered) = (0, 0);
    for (path, bytes) in &files {
        for step in 0..8 {
            restore();
            let mut damaged = bytes.clone();
            let at = bytes.len() * step / 8 + 40;
            let Some(byte) = damaged.get_mut(at) else { continue };
            *byte ^= 0x10;
            fs::write(path, &damaged).unwrap();
            if survives(&place) {
                recovered += 1;
            } else {
                refused += 1;
            }
            restore();
            fs::write(path, bytes.get(..bytes.len() * step / 8).unwrap()).unwrap();
            if survives(&place) { recovered += 1 } else { refused += 1 }
        }
    }
    println!("{refused} refused, {recovered} recovered");
    assert!(refused > 0);
}

/// Whether a host starts and hands every message out that was acknowledged; `false` if it says that it can't.
fn survives(place: &Place) -> bool {
    let log = place.path().join("log");
    // The log of the run before must not be taken for this one's.
    fs::write(&log, "").unwrap();
    let mut child = place
        .run()
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut file = fs::File::create(log).unwrap();
        std::io::copy(&mut stderr, &mut file).unwrap();
    });
    let text = || fs::read_to_string(place.path().join("log")).unwrap_or_default();
    let address = wait_for("the host to listen or to end", || {
        let line = text()
            .lines()
            .find(|line| line.contains("\"listening\""))
            .and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        match line {
            Some(event) => Some(Some(event["fields"]["address"].as_str().unwrap().to_owned())),
            None => child.try_wait().unwrap().map(|_| None),
        }
    });
    let survived = address.is_some_and(|address| whole(&format!("http://{address}")));
    drop(child.kill());
    let status = child.wait().unwrap();
    reader.join().unwrap();
    let text = text();
    assert!(!text.contains("panicked"), "{text}");
    if !survived {
        assert!(
            text.lines()
                .any(|line| line.contains("ERROR") || line.contains("sandhog: ")),
            "silent, {status}: {text}"
        );
    }
    survived
}

/// Every message is handed out, or the host says that it is damaged.
fn whole(url: &str) -> bool {
    let get = |path: &str| -> Option<serde_json::Value> {
        let text = ureq::get(format!("{url}{path}"))
            .call()
            .ok()?
            .body_mut()
            .read_to_string()
            .ok()?;
        serde_json::from_str(&text).ok()
    };
    let Some(counts) = get("/queues/out") else { return false };
    let (ready, damaged) = (counts["ready"].as_u64().unwrap(), counts["damaged"].as_u64().unwrap());
    let mut seen = 0;
    let all = ready + damaged;
    loop {
        let Ok(mut answer) = ureq::post(format!("{url}/queues/out/receive?max=10&wait=0s")).send_empty() else {
            return false;
        };
        let Ok(text) = answer.body_mut().read_to_string() else {
            return false;
        };
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        let messages = answer["messages"].as_array().unwrap();
        if messages.is_empty() {
            break;
        }
        for message in messages {
            assert!(message["body"].as_str().unwrap().starts_with("message "), "{message}");
            seen += 1;
        }
    }
    let Some(counts) = get("/queues/out") else { return false };
    assert_eq!(all, 200, "messages are missing and nobody said so: {counts}");
    assert_eq!(
        seen + counts["damaged"].as_u64().unwrap(),
        200,
        "messages are missing and nobody said so: {counts}"
    );
    true
}

/// Gives the hosts of a place a small disk in a mount namespace of its own; what is on it is saved before it goes.
fn give_small_disk(place: &mut Place, megabytes: u32) {
    let script = format!(
        "mkdir data saved && mount -t tmpfs -o size={megabytes}m tmpfs data || exit 99
        \"$0\" \"$@\" & host=$!
        trap 'kill -TERM $host' TERM
        wait $host; wait $host; code=$?
        cp -r data/. saved && exit $code"
    );
    place.prefix = namespace(&["--map-root-user", "--mount", "sh", "-c", &script]);
}

/// What runs a command in a user namespace of its own.
fn namespace(arguments: &[&str]) -> Vec<String> {
    let probe = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "true"])
        .status();
    assert!(
        probe.is_ok_and(|status| status.success()),
        "this test needs unshare (util-linux) and user namespaces"
    );
    let words = ["unshare", "--user"].iter().chain(arguments);
    words.map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_log_that_can_not_be_copied_into_the_database_is_complained_about_once() {
    let mut place = Place::new();
    place.configure("[queues.kept]\n");
    // Room for the log until it is to be copied, and none for the copy.
    give_small_disk(&mut place, 6);
    let host = place.start();
    let body = vec![b'x'; 20_000];
    let acknowledged = (0..1000)
        .take_while(|_| host.try_send("kept", &body, "").is_some())
        .count();
    assert!(acknowledged > 50 && acknowledged < 1000, "{acknowledged}");
    let complaint =
        "the write-ahead log can't be copied into the database: nothing is lost, but the log grows until it can";
    // The log is written behind the host's back.
    wait_for("the complaint", || (!host.events(complaint).is_empty()).then_some(()));
    assert_eq!(host.events(complaint).len(), 1, "{:#?}", host.log());
    host.terminate();
}

#[test]
fn a_full_disk_refuses_sends_and_keeps_what_was_acknowledged() {
    let mut place = Place::new();
    place.install("in", &forward(), GRANT);
    place.configure("[queues.kept]\n");
    give_small_disk(&mut place, 2);
    let host = place.start();
    host.wait_ready();
    let body = vec![b'x'; 20_000];
    let acknowledged = (0..1000)
        .take_while(|_| host.try_send("kept", &body, "").is_some())
        .count();
    let refusal = ureq::post(format!("{}/queues/kept", host.url))
        .config()
        .http_status_as_error(false)
        .build()
        .send(&body);
    let refusal = refusal.unwrap().body_mut().read_to_string().unwrap();
    assert!(refusal.contains("full"), "{refusal}");
    assert!(acknowledged > 10 && acknowledged < 1000, "{acknowledged}");
    host.terminate();
    place.prefix.clear();
    fs::remove_dir(place.data()).unwrap();
    fs::rename(place.path().join("saved"), place.data()).unwrap();
    let host = place.start();
    host.wait_ready();
    // A send that was refused may be there all the same, but only that one.
    let kept = host.count("kept", "ready");
    let acknowledged = u64::try_from(acknowledged).unwrap();
    assert!(
        kept == acknowledged || kept == acknowledged + 1,
        "{acknowledged} acknowledged, {kept} kept"
    );
    host.send("in", b"works again");
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), ["works again"]);
}

#[test]
fn a_disk_without_room_for_compiled_code_is_complained_about_and_the_component_serves() {
    let mut place = Place::new();
    place.install("in", &forward(), GRANT);
    give_small_disk(&mut place, 8);
    let host = place.start();
    let complaint = "a compiled artifact could not be kept";
    wait_for("the complaint", || (!host.events(complaint).is_empty()).then_some(()));
    host.send("in", b"served");
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), ["served"]);
    host.terminate();
}

/// Starts hosts with a largest size of files, as `ulimit -f` and containers set it. The signal that comes with it is ignored, as the host does.
fn give_largest_file(place: &mut Place, kibibytes: u32) {
    // dash counts blocks of 512 bytes, bash kibibytes unless it is told to be like the standard.
    let script = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$0\" \"$@\"", kibibytes * 2);
    place.prefix = ["sh", "-c", &script].map(str::to_owned).to_vec();
}

// The system calls it EFBIG (and a used-up quota EDQUOT), which SQLite takes for a broken disk: the store failed for good.
#[test]
fn the_largest_size_of_a_file_is_a_full_disk() {
    let mut place = Place::new();
    place.configure("[queues.kept]\n");
    give_largest_file(&mut place, 4096);
    let host = place.start();
    let body = vec![b'x'; 100_000];
    let acknowledged = (0..1000)
        .take_while(|_| host.try_send("kept", &body, "").is_some())
        .count();
    assert!(acknowledged > 10 && acknowledged < 1000, "{acknowledged}");
    let refusal = ureq::post(format!("{}/queues/kept", host.url))
        .config()
        .http_status_as_error(false)
        .build()
        .send(&body)
        .unwrap();
    assert_eq!(refusal.status(), 503);
    let refusal = refusal.into_body().read_to_string().unwrap();
    assert!(refusal.contains("full"), "{refusal}");
    // It goes on, and works again as soon as there is room.
    let kept = host.count("kept", "ready");
    let larger = ["--fsize=unlimited:unlimited", "--pid", &host.id().to_string()].map(str::to_owned);
    assert!(Command::new("prlimit").args(larger).status().unwrap().success());
    host.send("kept", b"room");
    assert_eq!(host.count("kept", "ready"), kept + 1);
    let (status, log) = host.terminate();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    assert!(kept >= u64::try_from(acknowledged).unwrap(), "{kept} of {acknowledged}");
}

// The log grew behind a reader without a word, until the disk was full.
#[test]
fn a_reader_that_pins_the_log_is_named_and_measured() {
    let place = Place::new();
    place.configure("[queues.kept]\n");
    let host = place.start();
    host.send("kept", b"first");
    let reader = rusqlite::Connection::open(place.data().join("queues.db")).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = "SELECT count(*) FROM messages";
    reader.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap();
    let body = vec![b'x'; 200_000];
    let warning = "the write-ahead log can't be emptied, because somebody reads the database in a transaction that does not end: \
                   nothing is lost, but the log grows until that reader ends";
    let complaint = wait_for("the complaint", || {
        host.send("kept", &body);
        host.events(warning).into_iter().next()
    });
    let metric = |name: &str| {
        let (_, page) = host.text("/metrics");
        let line = page.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(metric("sandhog_store_pinned_log_bytes") > 1e6);
    assert!(metric("sandhog_store_log_bytes") > 1e7);
    if cfg!(target_os = "linux") {
        let own = format!("process {}", std::process::id());
        assert!(complaint.to_string().contains(&own), "{complaint}");
    }
    reader.execute_batch("ROLLBACK").unwrap();
    wait_for("the log to be copied", || {
        host.send("kept", &body);
        (metric("sandhog_store_pinned_log_bytes") < 1.0).then_some(())
    });
    assert_eq!(host.count("kept", "damaged"), 0);
}

// The file kept its size for ever.
#[test]
fn a_store_that_is_nearly_empty_is_small_again_after_a_restart() {
    let place = Place::new();
    place.configure("[queues.kept]\n[queues.gone]\n");
    place.fill("gone", 40, &vec![b'x'; 1_000_000], 8);
    place.fill("kept", 1, b"kept", 1);
    let database = place.data().join("queues.db");
    let length = || fs::metadata(&database).unwrap().len();
    let host = place.start();
    host.take_all("gone");
    assert_eq!(host.terminate().0.code(), Some(0));
    assert!(length() > 32 << 20, "{}", length());
    let host = place.start();
    assert!(length() < 1 << 20, "{}", length());
    assert_eq!(host.take_all("kept"), ["kept"]);
    assert_eq!(host.terminate().0.code(), Some(0));
}

#[test]
fn compacting_gives_back_what_a_backlog_took_and_keeps_every_message() {
    let place = Place::new();
    place.configure("[queues.kept]\n[queues.gone]\n");
    let host = place.start();
    host.send("kept", b"kept");
    for _ in 0..100 {
        host.send("gone", &vec![b'x'; 100_000]);
    }
    let compact = || {
        let mut command = place.command();
        command.args(["compact", "--data"]).arg(place.data());
        command.output().unwrap()
    };
    let in_use = compact();
    assert_eq!(in_use.status.code(), Some(75), "the host has it");
    while host.take_one("gone").is_some() {}
    assert_eq!(host.terminate().0.code(), Some(0));
    let database = place.data().join("queues.db");
    let length = || fs::metadata(&database).unwrap().len();
    assert!(length() > 5_000_000, "{}", length());
    let done = compact();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(
        done.status.code(),
        Some(0),
        "{text}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(text.contains(&format!("{} bytes now", length())), "{text}");
    assert!(length() < 200_000, "{}", length());
    let host = place.start();
    assert_eq!(host.take_all("kept"), ["kept"]);
    assert_eq!(host.terminate().0.code(), Some(0));
    let nowhere = place.command().args(["compact", "--data", "nowhere"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(74));
    assert!(!place.path().join("nowhere").exists(), "nothing is made");
}
