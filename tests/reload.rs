//! Components and manifests are replaced while the host runs.

use std::{
    fs,
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use harness::{
    guests::{embed, handler, no_op},
    host::{Host, Place},
    process::Resources,
    wait_for,
};
use serde_json::json;

const GRANT: &str = "[grant]\nsend = [\"out\"]\n[retry]\nmin = \"1ms\"\nmax = \"10ms\"\n";

/// Sends `version` to queue `out` for every message, whatever it says.
fn version(version: u32) -> Vec<u8> {
    let text = format!("{version:06}");
    let bytes = u64::from_le_bytes(format!("{text}  ").into_bytes().try_into().unwrap());
    handler(&format!(
        "(i64.store (i32.const 512) (i64.const {})) (call $send (i32.const 512) (i32.const 6) (i32.const 0) (i32.const 0) (i32.const 0)) (global.get $ok)",
        i64::from_le_bytes(bytes.to_le_bytes())
    ))
}

fn handled_by(host: &Host) -> String {
    host.send("in", b"x");
    host.wait_empty("in");
    host.take_all("out").pop().unwrap()
}

fn wait_for_versions(host: &Host, count: usize) {
    wait_for(&format!("version {count}"), || {
        (host.events("serving").len() >= count).then_some(())
    });
}

#[test]
fn a_file_that_is_added_serves_and_one_that_is_removed_stops() {
    let place = Place::new();
    let host = place.start();
    host.wait_ready();
    place.install("in", &version(1), GRANT);
    wait_for_versions(&host, 1);
    assert_eq!(handled_by(&host), "000001");
    fs::remove_file(place.plugin("in.wasm")).unwrap();
    wait_for("the handler to be gone", || {
        host.get("/handlers")["handlers"]
            .as_array()
            .unwrap()
            .is_empty()
            .then_some(())
    });
    host.send("in", b"waits");
    assert_eq!(host.count("in", "ready"), 1);
    place.install("in", &version(2), GRANT);
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), ["000002"]);
}

#[test]
fn a_file_is_replaced_in_place_by_rename_and_by_a_swapped_link() {
    let place = Place::new();
    place.install("in", &version(1), GRANT);
    let host = place.start();
    host.wait_ready();
    assert_eq!(handled_by(&host), "000001");
    fs::write(place.plugin("in.wasm"), version(2)).unwrap();
    wait_for_versions(&host, 2);
    assert_eq!(handled_by(&host), "000002");
    place.install("in", &version(3), GRANT);
    wait_for_versions(&host, 3);
    assert_eq!(handled_by(&host), "000003");
    // As a mounted ConfigMap: the file is a link through a directory link, which is swapped.
    for number in [4, 5] {
        let target = place.path().join(format!("data-{number}"));
        fs::create_dir(&target).unwrap();
        fs::write(target.join("in.wasm"), version(number)).unwrap();
        symlink(&target, place.path().join("next")).unwrap();
        fs::rename(place.path().join("next"), place.path().join("current")).unwrap();
        if number == 4 {
            fs::remove_file(place.plugin("in.wasm")).unwrap();
            symlink(place.path().join("current/in.wasm"), place.plugin("in.wasm")).unwrap();
        }
        wait_for("the link's target to serve", || {
            host.send("in", b"x");
            host.wait_empty("in");
            host.take_all("out").contains(&format!("{number:06}")).then_some(())
        });
    }
}

#[test]
fn a_half_written_or_broken_file_leaves_the_old_version_serving() {
    let place = Place::new();
    place.install("in", &version(1), GRANT);
    let host = place.start();
    host.wait_ready();
    let whole = version(2);
    let (half, _) = whole.split_at(whole.len() / 2);
    let wrong_world = embed(
        r#"(module (memory (export "memory") 1) (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
        (func (export "sandhog:worker/batch-handler@0.1.0#handle-batch") (param i32 i32) (result i32) unreachable)
        (func $spin (unreachable)) (start $spin))"#,
        "batch-worker",
    );
    for (number, bytes) in [half, b"not wasm", &wrong_world].into_iter().enumerate() {
        fs::write(place.plugin("in.wasm"), bytes).unwrap();
        wait_for("the refusal", || {
            (host.events("a handler was refused").len() > number).then_some(())
        });
        assert_eq!(handled_by(&host), "000001");
        let handlers = host.get("/handlers");
        assert!(handlers["handlers"][0]["last-error"].is_string(), "{handlers}");
    }
    fs::write(place.plugin("in.wasm"), &whole).unwrap();
    wait_for_versions(&host, 2);
    assert_eq!(handled_by(&host), "000002");
}

#[test]
fn a_manifest_is_reloaded_like_its_component() {
    let place = Place::new();
    place.install("in", &version(1), GRANT);
    let host = place.start();
    host.wait_ready();
    fs::write(place.plugin("in.toml"), "concurency = 3\ntimeout = \"never\"\n").unwrap();
    let refusal = wait_for("the refusal", || host.events("a handler was refused").pop());
    let reason = refusal["fields"]["reason"].as_str().unwrap();
    assert!(reason.contains("concurency") && reason.contains("never"), "{reason}");
    assert_eq!(handled_by(&host), "000001");
    // Without the grant the component's wish to send is refused, and the version before it goes on.
    fs::write(place.plugin("in.toml"), "").unwrap();
    wait_for("the second refusal", || {
        host.events("a handler was refused").get(1).cloned()
    });
    assert_eq!(handled_by(&host), "000001");
    // With a grant of no queue it is served, its send is refused, and it traps.
    let none = "[retry]\nmin = \"1ms\"\nmax = \"1ms\"\n[grant]\nsend = []\n";
    fs::write(place.plugin("in.toml"), none).unwrap();
    wait_for_versions(&host, 2);
    host.send("in", b"x");
    wait_for("the dead letter", || (host.dead("in").len() == 1).then_some(()));
    // A manifest that names another queue moves the handler there.
    fs::write(place.plugin("in.toml"), format!("queue = \"other\"\n{GRANT}")).unwrap();
    wait_for_versions(&host, 3);
    host.send("other", b"x");
    host.wait_empty("other");
    assert_eq!(host.take_all("out"), ["000001"]);
}

#[test]
fn a_queue_has_one_handler() {
    let place = Place::new();
    place.install("a", &no_op(), "queue = \"shared\"\n");
    let host = place.start();
    host.wait_ready();
    place.install("b", &no_op(), "queue = \"shared\"\n");
    let refusal = wait_for("the refusal", || host.events("a handler was refused").pop());
    assert!(
        refusal["fields"]["reason"]
            .as_str()
            .unwrap()
            .contains("has the handler a already")
    );
    // Once the queue is free, the other one serves it without being touched.
    fs::remove_file(place.plugin("a.wasm")).unwrap();
    let served = wait_for("the other handler", || host.events("serving").get(1).cloned());
    assert_eq!(
        (&served["fields"]["handler"], &served["fields"]["queue"]),
        (&json!("b"), &json!("shared"))
    );
}

#[test]
fn a_delivery_under_way_ends_on_the_version_it_started_with() {
    let place = Place::new();
    let slow = handler(
        "(local $n i64) (loop $l (local.set $n (i64.add (local.get $n) (i64.const 1))) (br_if $l (i64.lt_u (local.get $n) (i64.const 2000000000))))
        (i64.store (i32.const 512) (i64.const 0x20776f6c73)) (call $send (i32.const 512) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0)) (global.get $ok)",
    );
    place.install("in", &slow, GRANT);
    let host = place.start();
    host.wait_ready();
    host.send("in", b"x");
    wait_for("the attempt", || (host.count("in", "in-flight") == 1).then_some(()));
    place.install("in", &version(2), GRANT);
    wait_for_versions(&host, 2);
    host.wait_empty("in");
    assert_eq!(host.take_all("out"), ["slow"]);
}

/// Sends ten messages at a time, with some backlog but not one that grows for ever, until it is told to stop; how many.
fn send_until(stop: &AtomicBool, host: &Host) -> u64 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let messages: Vec<_> = (0..10).map(|_| json!({ "body": "x" })).collect();
        host.post("/queues/in/batch", &json!({ "messages": messages }));
        sent += 10;
        wait_for("the backlog to shrink", || {
            (host.count("in", "ready") < 100).then_some(())
        });
    }
    sent
}

#[test]
fn a_thousand_replacements_under_load_lose_nothing_and_leak_nothing() {
    let place = Place::new();
    place.install("in", &version(0), GRANT);
    let host = place.start();
    host.wait_ready();
    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let load = scope.spawn(|| send_until(&stop, &host));
        let mut base = None;
        for number in 1..=1000_u32 {
            let name = place.plugin(".next");
            fs::write(&name, version(number)).unwrap();
            fs::rename(&name, place.plugin("in.wasm")).unwrap();
            let digest = sandhog_executor::digest(&version(number));
            wait_for(&format!("version {number}"), || {
                (host.get("/handlers")["handlers"][0]["digest"] == digest).then_some(())
            });
            if number == 100 {
                base = Some(host.resources());
            }
        }
        let (memory, mappings, files) = host.resources();
        let (base_memory, base_mappings, base_files) = base.unwrap();
        assert!(
            memory < base_memory + 60 * 1024,
            "{base_memory} KiB grew to {memory} KiB"
        );
        assert!(
            mappings < base_mappings + 200,
            "{base_mappings} mappings grew to {mappings}"
        );
        assert!(files < base_files + 20, "{base_files} files grew to {files}");
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    host.wait_empty("in");
    assert!(host.dead("in").is_empty());
    assert_eq!(host.count("out", "ready"), sent);
    assert!(host.events("a handler was refused").is_empty());
}

/// Two that waited for the same queue once loaded each other again and again: each refusal of one was taken for a
/// chance of the other.
#[test]
fn handlers_refused_for_one_queue_are_not_loaded_again_before_it_is_free() {
    let place = Place::new();
    place.install("a", &no_op(), "queue = \"shared\"\n");
    let host = place.start();
    host.wait_ready();
    for name in ["b", "c"] {
        place.install(name, &no_op(), "queue = \"shared\"\n");
    }
    let refusals = || host.events("a handler was refused").len();
    wait_for("both refusals", || (refusals() == 2).then_some(()));
    // By the time that others were loaded one after another, a loop would have made many more.
    for (number, name) in ["d", "e", "f"].into_iter().enumerate() {
        place.install(name, &no_op(), "");
        wait_for_versions(&host, number + 2);
    }
    assert_eq!(refusals(), 2);
}

#[test]
fn a_lower_concurrency_holds_for_a_receive_that_waits_already() {
    let place = Place::new();
    let slow = handler(
        "(local $n i64) (loop $l (local.set $n (i64.add (local.get $n) (i64.const 1)))
        (br_if $l (i64.lt_u (local.get $n) (i64.const 300000000)))) (global.get $ok)",
    );
    place.install("in", &slow, "concurrency = 16\n");
    let host = place.start();
    host.wait_ready();
    place.install("in", &slow, "concurrency = 1\n");
    wait_for_versions(&host, 2);
    let messages: Vec<_> = (0..8).map(|_| json!({ "body": "x" })).collect();
    host.post("/queues/in/batch", &json!({ "messages": messages }));
    wait_for("the queue to be handled", || {
        let counts = host.counts("in");
        let [ready, in_flight] = ["ready", "in-flight"].map(|which| counts[which].as_u64().unwrap());
        assert!(in_flight <= 1, "{in_flight} in flight");
        (ready + in_flight == 0).then_some(())
    });
}

#[test]
fn a_directory_that_is_gone_for_a_while_stops_nothing() {
    let place = Place::new();
    place.install("in", &version(1), GRANT);
    let host = place.start();
    host.wait_ready();
    fs::rename(place.path().join("plugins"), place.path().join("elsewhere")).unwrap();
    wait_for("the host to notice", || {
        host.events("the plugin directory can't be read").pop()
    });
    assert_eq!(handled_by(&host), "000001");
    fs::rename(place.path().join("elsewhere"), place.path().join("plugins")).unwrap();
    place.install("in", &version(2), GRANT);
    wait_for_versions(&host, 2);
    assert_eq!(handled_by(&host), "000002");
}

/// The slack is what an allocator keeps of a thousand compilations; one version that stayed would cost a mapping or more each.
#[test]
fn a_thousand_deploys_and_removals_under_load_leave_the_host_as_it_was() {
    let slack = Resources {
        memory: 60 << 10,
        mappings: 200,
        files: 20,
        threads: 8,
    };
    let place = Place::new();
    place.install("in", &version(0), GRANT);
    let host = place.start();
    host.wait_ready();
    let serving = || {
        let handlers = host.get("/handlers")["handlers"].as_array().unwrap().clone();
        handlers.iter().filter(|handler| handler["state"] == "serving").count()
    };
    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let load = scope.spawn(|| send_until(&stop, &host));
        let mut before = None;
        for round in 0..100_u32 {
            for number in 0..10 {
                place.install(&format!("guest-{number}"), &version(1 + round * 10 + number), GRANT);
            }
            wait_for(&format!("deploys of round {round}"), || (serving() == 11).then_some(()));
            for number in 0..10 {
                for kind in ["wasm", "toml"] {
                    fs::remove_file(place.plugin(&format!("guest-{number}.{kind}"))).unwrap();
                }
            }
            wait_for(&format!("removals of round {round}"), || (serving() == 1).then_some(()));
            if round == 20 {
                before = Some(Resources::of(host.id()));
            }
        }
        let (before, after) = (before.unwrap(), Resources::of(host.id()));
        println!("{before:?}, then {after:?}");
        let grown = after.grown_since(&before, &slack);
        assert!(grown.is_empty(), "{grown}");
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    host.wait_empty("in");
    assert!(host.dead("in").is_empty());
    assert_eq!(host.count("out", "ready"), sent);
    assert!(host.events("a handler was refused").is_empty());
}
