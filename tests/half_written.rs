//! A file serves only once its writer is done with it.

#![expect(clippy::indexing_slicing, reason = "JSON that is not as expected fails the test")]

use std::{
    fs::{self, File},
    io::Write as _,
    time::Duration,
};

use harness::{
    guests::{edited, forward, no_op},
    host::{Host, Place},
    let_pass, wait_for,
};

const GRANT: &str = "[grant]\nsend = [\"out\"]\n";
/// Many times as long as a file has to be quiet.
const LONG: Duration = Duration::from_millis(800);

fn digest_of(host: &Host) -> String {
    host.get("/handlers")["handlers"][0]["digest"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn wait_for_digest(host: &Host, wasm: &[u8]) {
    let digest = sandhog_executor::digest(wasm);
    wait_for("the new version", || (digest_of(host) == digest).then_some(()));
}

/// After 100 ms without a change it was taken for complete, and a part of a module can be a module.
#[test]
fn a_file_whose_writer_pauses_does_not_serve_before_it_is_closed() {
    let place = Place::new();
    place.install("in", &forward(), GRANT);
    let host = place.start();
    host.wait_ready();
    let before = digest_of(&host);
    // As if the rest were still to come: what is there passes by itself.
    let mut writer = File::options()
        .write(true)
        .truncate(true)
        .open(place.plugin("in.wasm"))
        .unwrap();
    writer.write_all(&no_op()).unwrap();
    writer.sync_all().unwrap();
    wait_for("the host to wait", || host.events("a handler waits for its file").pop());
    let_pass(LONG);
    host.send("in", b"old");
    host.wait_empty("in");
    assert_eq!(
        (digest_of(&host), host.take_all("out")),
        (before, vec!["old".to_owned()])
    );
    let whole = edited(&forward(), 2);
    writer.set_len(0).unwrap();
    std::io::Seek::rewind(&mut writer).unwrap();
    writer.write_all(&whole).unwrap();
    drop(writer);
    wait_for_digest(&host, &whole);
}

#[test]
fn a_file_that_is_written_while_the_host_starts_serves_once_it_is_closed() {
    let place = Place::new();
    fs::write(place.plugin("in.toml"), GRANT).unwrap();
    let mut writer = File::create(place.plugin("in.wasm")).unwrap();
    writer.write_all(&no_op()).unwrap();
    let host = place.start();
    wait_for("the host to wait", || host.events("a handler waits for its file").pop());
    // Its queue is there all the same.
    host.send("in", b"waits");
    let_pass(LONG);
    assert!(host.events("serving").is_empty());
    assert_eq!(host.text("/ready").0, 503);
    writer.set_len(0).unwrap();
    std::io::Seek::rewind(&mut writer).unwrap();
    writer.write_all(&forward()).unwrap();
    drop(writer);
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), ["waits"]);
    host.wait_ready();
}

#[test]
fn a_manifest_that_is_being_written_is_not_taken() {
    let place = Place::new();
    place.install("in", &forward(), GRANT);
    let host = place.start();
    host.wait_ready();
    let mut writer = File::create(place.plugin("in.toml")).unwrap();
    // Complete by itself, and without the grant that comes last.
    writer.write_all(b"concurrency = 1\n").unwrap();
    wait_for("the host to wait", || host.events("a handler waits for its file").pop());
    let_pass(LONG);
    assert!(host.events("a handler was refused").is_empty());
    writer.write_all(GRANT.as_bytes()).unwrap();
    drop(writer);
    wait_for("the manifest", || host.events("serving").get(1).cloned());
    host.send("in", b"new");
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), ["new"]);
}
