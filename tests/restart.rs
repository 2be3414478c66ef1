//! A restart never makes things worse: what served last is kept, and serves where the files that are there do not pass.

#![expect(clippy::indexing_slicing, reason = "JSON that is not as expected fails the test")]

use std::{fs, path::PathBuf};

use harness::{
    guests::{edited, forward},
    host::{Host, Place},
    wait_for,
};
use serde_json::Value;

const GRANT: &str = "[grant]\nsend = [\"out\"]\n";

/// Waits until what serves is on disk as what served last.
fn wait_kept(place: &Place, wasm: &[u8]) {
    let digest = sandhog_executor::digest(wasm);
    wait_for("what serves to be kept", || {
        let history = fs::read(kept(place).join("history.json")).ok()?;
        let history: Value = serde_json::from_slice(&history).ok()?;
        let versions = history["versions"].as_array()?;
        let serving = versions
            .iter()
            .find(|version| version["number"] == history["serving"])?;
        (serving["component"] == digest.as_str()).then_some(())
    });
}

fn kept(place: &Place) -> PathBuf {
    place.data().join("versions/in")
}

fn handler(host: &Host) -> Value {
    host.get("/handlers")["handlers"][0].clone()
}

fn handles(host: &Host, body: &str) {
    host.send("in", body.as_bytes());
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), [body]);
}

/// A host that has served `forward` and ended, with what the plugin directory holds then.
fn served() -> Place {
    let place = Place::new();
    place.install("in", &forward(), GRANT);
    let host = place.start();
    host.wait_ready();
    wait_kept(&place, &forward());
    host.kill();
    place
}

/// The version before a broken one lived in memory only, so that the restart lost it.
#[test]
fn a_broken_file_is_served_around_after_a_restart_until_it_is_mended() {
    let place = served();
    fs::write(place.plugin("in.wasm"), "broken").unwrap();
    let host = place.start();
    host.wait_ready();
    handles(&host, "kept");
    let status = handler(&host);
    assert_eq!(
        (&status["fallback"], &status["state"]),
        (&true.into(), &"serving".into())
    );
    assert!(status["last-error"].as_str().unwrap().contains("in.wasm"), "{status}");
    let said = host.event("the version that served last serves");
    assert_eq!(
        (&said["level"], &said["fields"]["handler"]),
        (&"WARN".into(), &"in".into())
    );
    assert!(
        host.text("/metrics")
            .1
            .contains("sandhog_handler_fallback{handler=\"in\"} 1")
    );
    // A second restart is as good as the first.
    host.kill();
    let host = place.start();
    host.wait_ready();
    handles(&host, "again");
    let mended = edited(&forward(), 2);
    place.install("in", &mended, GRANT);
    wait_for("the mended file", || {
        (handler(&host)["fallback"] == false).then_some(())
    });
    wait_for("the metric to say so", || {
        let page = host.text("/metrics").1;
        page.contains("sandhog_handler_fallback{handler=\"in\"} 0")
            .then_some(())
    });
    wait_kept(&place, &mended);
}

#[test]
fn a_manifest_with_a_mistake_is_served_around_after_a_restart() {
    let place = served();
    fs::write(place.plugin("in.toml"), "concurency = 3\n").unwrap();
    let host = place.start();
    host.wait_ready();
    handles(&host, "kept");
    fs::remove_file(place.plugin("in.toml")).unwrap();
    fs::create_dir(place.plugin("in.toml")).unwrap();
    host.kill();
    let host = place.start();
    host.wait_ready();
    handles(&host, "kept");
}

#[test]
fn what_is_kept_gets_no_grant_back_that_a_newer_manifest_took_away() {
    let place = served();
    fs::write(place.plugin("in.wasm"), "broken").unwrap();
    fs::write(place.plugin("in.toml"), "concurrency = 3\n").unwrap();
    let host = place.start();
    wait_for("the refusal", || (handler(&host)["state"] == "refused").then_some(()));
    let said = host.event("the version that served last does not pass either");
    assert!(
        said["fields"]["refusal"].as_str().unwrap().contains("does not grant"),
        "{said}"
    );
    assert_eq!(host.text("/ready").0, 503);
    // What a newer manifest still grants is enough.
    fs::write(place.plugin("in.toml"), format!("concurrency = 3\n{GRANT}")).unwrap();
    host.wait_ready();
    handles(&host, "kept");
}

#[test]
fn a_half_written_file_is_served_around_after_a_restart() {
    let place = served();
    let writer = fs::File::create(place.plugin("in.wasm")).unwrap();
    let host = place.start();
    host.wait_ready();
    handles(&host, "kept");
    drop(writer);
}

#[test]
fn what_is_kept_is_gone_with_its_file() {
    let place = served();
    let host = place.start();
    host.wait_ready();
    fs::remove_file(place.plugin("in.wasm")).unwrap();
    wait_for("what is kept to be gone", || (!kept(&place).exists()).then_some(()));
    host.kill();
    fs::write(place.plugin("in.wasm"), "broken").unwrap();
    let host = place.start();
    wait_for("the refusal", || (handler(&host)["state"] == "refused").then_some(()));
}

#[test]
fn what_is_kept_and_damaged_is_never_used() {
    let place = served();
    fs::write(place.plugin("in.wasm"), "broken").unwrap();
    let digest = sandhog_executor::digest(&forward());
    fs::write(kept(&place).join(digest), edited(&forward(), 3)).unwrap();
    let host = place.start();
    wait_for("the refusal", || (handler(&host)["state"] == "refused").then_some(()));
    host.event("the version that served last can't be used");
    assert_eq!(host.events("the version that served last can't be used").len(), 1);
}

/// They were refused while the first version was compiled, and for ever where it was refused.
#[test]
fn messages_are_accepted_as_soon_as_a_file_is_there() {
    let place = Place::new();
    fs::write(place.plugin("junk.wasm"), "junk").unwrap();
    fs::write(place.plugin("named.wasm"), "junk").unwrap();
    fs::write(place.plugin("named.toml"), "queue = \"elsewhere\"\nmistake = 1\n").unwrap();
    let host = place.start();
    for queue in ["junk", "elsewhere"] {
        wait_for("the queue", || host.try_send(queue, b"x", "").map(drop));
        assert_eq!(host.count(queue, "ready"), 1);
    }
}
