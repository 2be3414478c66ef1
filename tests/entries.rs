//! One entry of the plugin directory never disturbs another, whatever it is.

#![expect(clippy::indexing_slicing, reason = "JSON that is not as expected fails the test")]

use std::{
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink, net::UnixListener},
    path::Path,
    process::Command,
};

use harness::{
    guests::{forward, no_op},
    host::{Host, Place},
    sandhog_binary, wait_for,
};
use serde_json::Value;

const GRANT: &str = "[grant]\nsend = [\"out\"]\n";

fn status(host: &Host, name: &str) -> Option<Value> {
    let handlers = host.get("/handlers")["handlers"].as_array().unwrap().clone();
    handlers.into_iter().find(|handler| handler["name"] == name)
}

fn wait_for_state(host: &Host, name: &str, state: &str) -> Value {
    wait_for(&format!("{name} to be {state}"), || {
        status(host, name).filter(|handler| handler["state"] == state)
    })
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Puts an entry of each kind that can't be used at `NAME.extension`; the names, each with a word of the reason.
fn bad_entries(place: &Place, extension: &str) -> Vec<(&'static str, &'static str)> {
    let at = |name: &str| place.plugin(&format!("{name}.{extension}"));
    symlink(format!("loop.{extension}"), at("loop")).unwrap();
    symlink("/nowhere", at("dangling")).unwrap();
    symlink("/etc/passwd/x", at("through")).unwrap();
    symlink("x".repeat(300), at("long")).unwrap();
    symlink("/dev/null", at("device")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    fifo(&at("fifo"));
    drop(UnixListener::bind(at("socket")).unwrap());
    vec![
        ("loop", "back to itself"),
        ("dangling", "leads nowhere"),
        ("through", "no directory"),
        ("long", "too long"),
        ("device", "a device"),
        ("folder", "a directory"),
        ("fifo", "a FIFO"),
        ("socket", "a socket"),
    ]
}

/// One link that led to itself made every scan void: nothing was loaded, replaced or removed any more.
#[test]
fn an_entry_that_is_no_file_is_refused_by_name_and_all_others_load_change_and_go() {
    let place = Place::new();
    place.install("in", &forward(), GRANT);
    let bad = bad_entries(&place, "wasm");
    fs::write(place.plugin("\u{1b}[2J.wasm"), no_op()).unwrap();
    let not_utf8 = std::ffi::OsStr::from_bytes(b"\xff.wasm");
    // Not every file system has such names.
    let has_not_utf8 = fs::write(place.plugin("").join(not_utf8), no_op()).is_ok();
    let host = place.start();
    wait_for_state(&host, "in", "serving");
    host.send("in", b"x");
    host.wait_empty("in");
    for (name, word) in bad {
        let handler = wait_for_state(&host, name, "refused");
        let reason = handler["last-error"].as_str().unwrap();
        assert!(
            reason.contains(word) && reason.contains(&format!("{name}.wasm")),
            "{reason}"
        );
        let check = Command::new(sandhog_binary())
            .arg("check")
            .arg(place.plugin(&format!("{name}.wasm")))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&check.stderr);
        assert_eq!(check.status.code(), Some(1), "{name}: {text}");
        assert!(text.contains(word), "{text}");
    }
    if has_not_utf8 {
        wait_for_state(&host, "\\xff", "refused");
    }
    place.install("later", &no_op(), "");
    wait_for_state(&host, "later", "serving");
    fs::remove_file(place.plugin("in.wasm")).unwrap();
    wait_for("the removed handler to go", || {
        status(&host, "in").is_none().then_some(())
    });
    let of_loop = || {
        let refusals = host.events("a handler was refused");
        let of_loop = refusals.iter().filter(|event| event["fields"]["handler"] == "loop");
        of_loop.count()
    };
    wait_for("the refusal in the log", || (of_loop() > 0).then_some(()));
    assert_eq!(of_loop(), 1, "said more than once");
}

/// It served without its manifest: the default queue, no grants, the default limits, and not a word.
#[test]
fn a_manifest_that_cannot_be_read_stops_its_handler_from_being_deployed() {
    let place = Place::new();
    let mut bad = bad_entries(&place, "toml");
    fs::write(place.plugin("bytes.toml"), [0xff]).unwrap();
    bad.push(("bytes", "UTF-8"));
    for (name, _) in &bad {
        fs::write(place.plugin(&format!("{name}.wasm")), no_op()).unwrap();
    }
    let host = place.start();
    for (name, word) in bad {
        let handler = wait_for_state(&host, name, "refused");
        let reason = handler["last-error"].as_str().unwrap();
        assert!(
            reason.contains(word) && reason.contains(&format!("{name}.toml")),
            "{reason}"
        );
        let check = Command::new(sandhog_binary())
            .arg("check")
            .arg(place.plugin(&format!("{name}.wasm")))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&check.stderr);
        assert_eq!(check.status.code(), Some(1), "{name}: {text}");
        assert!(text.contains(&format!("{name}.toml")), "{text}");
    }
    // A manifest that was not UTF-8 was read again every five seconds, for ever.
    fs::write(place.plugin("bytes.toml"), "").unwrap();
    wait_for_state(&host, "bytes", "serving");
}

#[test]
fn what_serves_goes_on_when_its_entries_cannot_be_read_any_more() {
    let place = Place::new();
    for name in ["in", "other"] {
        place.install(name, &forward(), GRANT);
    }
    let host = place.start();
    host.wait_ready();
    fs::remove_file(place.plugin("in.toml")).unwrap();
    fs::create_dir(place.plugin("in.toml")).unwrap();
    symlink("/nowhere", place.plugin("link")).unwrap();
    fs::rename(place.plugin("link"), place.plugin("other.wasm")).unwrap();
    for name in ["in", "other"] {
        let handler = wait_for(&format!("{name} to be refused"), || {
            status(&host, name).filter(|handler| handler["last-error"].is_string())
        });
        assert_eq!(handler["state"], "serving");
        host.send(name, b"x");
        host.wait_empty(name);
    }
    assert_eq!(host.take_all("out").len(), 2);
}

#[test]
fn what_looks_like_a_handler_and_is_none_is_said_once() {
    let place = Place::new();
    place.install("in", &no_op(), "");
    fs::write(place.plugin("UPPER.WASM"), no_op()).unwrap();
    fs::write(place.plugin("alone.toml"), "queue = \"waits\"\n").unwrap();
    fs::create_dir(place.plugin("subfolder")).unwrap();
    let host = place.start();
    host.wait_ready();
    // The queue of a manifest exists before its component does.
    wait_for("the queue", || host.try_send("waits", b"x", "").map(drop));
    place.install("later", &no_op(), "");
    wait_for_state(&host, "later", "serving");
    // The log comes by a way of its own.
    let said = wait_for("the entries in the log", || {
        let said = host.events("an entry of the plugin directory is passed over");
        (said.len() >= 2).then_some(said)
    });
    let what: Vec<_> = said
        .iter()
        .map(|event| event["fields"]["what"].as_str().unwrap())
        .collect();
    assert_eq!(
        what,
        [
            "UPPER.WASM: its extension is not in lower case",
            "subfolder: folders are not looked into"
        ]
    );
    host.event("a manifest has no component");
    // A scan may see the manifest of `later` before its component.
    let alone = host.events("a manifest has no component").into_iter();
    let alone = alone.filter(|event| event["fields"]["handler"] == "alone");
    assert_eq!(alone.count(), 1);
}

#[test]
fn an_empty_plugin_directory_is_said() {
    let place = Place::new();
    let host = place.start();
    host.wait_ready();
    host.event("no component");
    assert_eq!(host.events("no component").len(), 1);
}

/// Each was refused because of the other's old queue, for ever, and a restart served what the running host refused.
#[test]
fn two_manifests_that_swap_queues_swap_them_in_any_order() {
    let place = Place::new();
    let queue = |name: &str| format!("queue = \"{name}\"\n");
    for (name, of) in [("a", "x"), ("b", "y")] {
        place.install(name, &no_op(), &queue(of));
    }
    let host = place.start();
    host.wait_ready();
    let serves = |name: &str, of: &str| {
        wait_for(&format!("{name} on {of}"), || {
            status(&host, name).filter(|handler| handler["state"] == "serving" && handler["queue"] == of)
        })
    };
    let put = |name: &str, of: &str| {
        fs::write(place.plugin(".next"), queue(of)).unwrap();
        fs::rename(place.plugin(".next"), place.plugin(&format!("{name}.toml"))).unwrap();
    };
    // Together.
    put("a", "y");
    put("b", "x");
    serves("a", "y");
    serves("b", "x");
    assert!(host.events("a handler was refused").is_empty(), "{:#?}", host.log());
    // One at a time: the first by name takes the queue, and the other waits for its own.
    put("a", "x");
    serves("a", "x");
    wait_for_state(&host, "b", "refused");
    put("b", "y");
    serves("b", "y");
    // The other way round: what serves goes on until its queue is free.
    put("b", "x");
    wait_for("b's refusal", || {
        status(&host, "b").filter(|handler| handler["last-error"].is_string())
    });
    serves("b", "y");
    put("a", "y");
    serves("a", "y");
    serves("b", "x");
    host.wait_ready();
}

/// The one whose load ended first had the queue, so a restart could change it.
#[test]
fn of_two_files_for_one_queue_the_first_by_name_has_it_at_any_time() {
    let place = Place::new();
    for name in ["z", "m"] {
        place.install(name, &no_op(), "queue = \"shared\"\n");
    }
    let host = place.start();
    wait_for_state(&host, "m", "serving");
    wait_for_state(&host, "z", "refused");
    host.event("serving");
    assert_eq!(host.events("serving").len(), 1, "the other one served for a while");
    place.install("a", &no_op(), "queue = \"shared\"\n");
    wait_for_state(&host, "a", "serving");
    wait_for_state(&host, "m", "refused");
    fs::remove_file(place.plugin("a.wasm")).unwrap();
    wait_for_state(&host, "m", "serving");
}

/// It was refused for good, so a volume that was mounted a moment later was never seen; a FIFO there stopped the load for ever.
#[test]
fn a_value_that_cannot_be_read_yet_is_read_once_it_can() {
    let place = Place::new();
    place.install(
        "in",
        &no_op(),
        "[grant]\nconfig = { token = { from-file = \"token\" } }\n",
    );
    fifo(&place.plugin("token"));
    let host = place.start();
    let handler = wait_for_state(&host, "in", "refused");
    let reason = handler["last-error"].as_str().unwrap();
    assert!(
        reason.contains("grant.config.token.from-file") && reason.contains("a FIFO"),
        "{reason}"
    );
    fs::remove_file(place.plugin("token")).unwrap();
    fs::write(place.plugin("token"), "secret").unwrap();
    wait_for_state(&host, "in", "serving");
}
