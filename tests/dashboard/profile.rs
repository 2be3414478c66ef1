//! Where the time goes: a profile as a flame graph and as a table, one at a time, and none for somebody who has gone.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use harness::{
    browser,
    guests::{handler_with, no_op},
    host::{Host, Place},
    wait_for,
};

use super::{
    Browser, READER, between,
    browser::{check_axe, keep_picture},
    secured,
};

const PAGE: &str = "/ui/handlers/orders/profile";

/// A handler that computes in functions whose names are an attack.
fn burning() -> Vec<u8> {
    let functions = r#"
        (func $burn (param $rounds i32) (local $n i32) (local $x i32)
            (loop $l
                (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 1664525)) (local.get $n)))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $l (i32.lt_u (local.get $n) (local.get $rounds))))
            (i32.store (i32.const 500) (local.get $x)))
        (func $often (@name "</title></svg><script>window.ran=1</script>\u{202e}evil") (call $burn (i32.const 2000000)))
        (func $seldom (@name "orders::parse::seldom") (call $burn (i32.const 400000)))"#;
    handler_with("(call $often) (call $seldom) (global.get $ok)", functions, 16)
}

fn host(wasm: &[u8]) -> (Place, Host) {
    let place = Place::new();
    place.configure("[queues.orders]\n");
    place.install("orders", wasm, "");
    let host = place.start();
    host.wait_ready();
    (place, host)
}

/// Does something while the handler has messages.
fn while_busy<T>(host: &Host, act: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                if host.count("orders", "ready") < 50 {
                    host.post(
                        "/queues/orders/batch",
                        &serde_json::json!({ "messages": vec![serde_json::json!({ "body": "x" }); 50] }),
                    );
                }
            }
        });
        let result = act();
        done.store(true, Relaxed);
        result
    })
}

#[test]
fn a_profile_is_a_flame_graph_and_a_table() {
    let (_place, host) = host(&burning());
    let person = Browser::new(&host);
    assert!(
        person
            .get("/ui/handlers/orders")
            .text
            .contains(&format!("href=\"{PAGE}\""))
    );
    let form = person.get(PAGE);
    assert!(
        form.text.contains("takes as long to load: 5 seconds") && !form.text.contains("<svg width"),
        "{}",
        form.text
    );
    let seen = while_busy(&host, || person.get(&format!("{PAGE}?for=2")));
    assert_eq!(seen.status, 200, "{}", seen.text);
    let graph = between(&seen.text, "<div class=\"flame\"", "</div>");
    assert!(graph.contains("role=\"img\" aria-label=\"Flame graph of"), "{graph}");
    for name in [
        "orders::parse::seldom",
        "&lt;/title&gt;&lt;/svg&gt;&lt;script&gt;",
        "\\u{202e}evil",
    ] {
        assert!(graph.contains(name), "{name}: {graph}");
    }
    let table = between(&seen.text, "id=\"functions\"", "</table>");
    assert!(
        table.contains("<bdi>burn</bdi>") && table.contains("orders::parse::seldom"),
        "{table}"
    );
    assert!(
        !seen.text.contains("<script>") && !seen.text.contains('\u{202e}'),
        "{}",
        seen.text
    );
    assert_eq!(seen.text.matches("</main>").count(), 1);
}

#[test]
fn a_profile_without_samples_says_why() {
    let (_place, host) = host(&no_op());
    let person = Browser::new(&host);
    let seen = person.get(&format!("{PAGE}?for=1"));
    assert!(
        seen.text
            .contains("No samples: the handler handled nothing in this second."),
        "{}",
        seen.text
    );
    for (path, status, why) in [
        (format!("{PAGE}?for=21"), 400, "whole seconds from 1 to 20"),
        ("/ui/handlers/nobody/profile".to_owned(), 404, "nobody"),
        // A page that updates itself would take one profile after the other.
        (
            "/ui/live?page=/ui/handlers/orders/profile%3Ffor%3D5".to_owned(),
            400,
            "when somebody asks for it",
        ),
    ] {
        let seen = person.get(&path);
        assert_eq!(seen.status, status, "{path}: {}", seen.text);
        assert!(seen.text.contains(why), "{path}: {}", seen.text);
    }
}

/// Asks for a profile of 20 seconds, and returns the connection when it is being taken.
fn begin(host: &Host) -> TcpStream {
    let address = host.url.strip_prefix("http://").unwrap();
    wait_for("a profile to begin", || {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {PAGE}?for=20 HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
        while host.text("/handlers/orders/profile?for=0s").0 != 409 {
            stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            match stream.read_exact(&mut [0]) {
                // The question of this test was the one that was under way.
                Ok(()) => return None,
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                    "{error}"
                ),
            }
        }
        Some(stream)
    })
}

#[test]
fn one_profile_is_taken_at_a_time_and_ends_when_its_reader_goes_away() {
    let (_place, host) = host(&no_op());
    let person = Browser::new(&host);
    let reader = begin(&host);
    let second = person.get(&format!("{PAGE}?for=1"));
    assert_eq!(second.status, 409);
    assert!(
        second.text.contains("handler orders is being profiled") && second.text.contains("Take samples"),
        "{}",
        second.text
    );
    let start = Instant::now();
    drop(reader);
    wait_for("the profiler", || {
        (host.text("/handlers/orders/profile?for=0s").0 == 200).then_some(())
    });
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "the profile went on for nobody"
    );
}

#[test]
fn who_may_only_look_may_take_a_profile() {
    let (place, host) = secured("");
    place.install("orders", &no_op(), "");
    let reader = Browser::session(&host, READER);
    wait_for("the handler", || (reader.get(PAGE).status == 200).then_some(()));
    let seen = reader.get(&format!("{PAGE}?for=1"));
    assert!(seen.status == 200 && seen.text.contains("No samples"), "{}", seen.text);
}

#[test]
fn a_flame_graph_is_there_for_everybody() {
    let (_place, host) = host(&burning());
    let browser = browser::Browser::start();
    browser.without_scripts();
    while_busy(&host, || {
        browser.open(&format!("{}/ui/handlers/orders", host.url));
        browser.click("a[href$='/profile']");
        browser.fill("input[name=for]", "1");
        browser.click("main button[type=submit]");
        browser.wait_text("By function");
    });
    // The checker is a script.
    browser.devtools(
        "Emulation.setScriptExecutionDisabled",
        &serde_json::json!({ "value": false }),
    );
    for scheme in ["light", "dark"] {
        browser.prefers(scheme);
        keep_picture(&browser, &format!("profile-{scheme}"));
        check_axe(&browser, &format!("the profile, {scheme}"));
    }
    browser.resize(360, 740);
    keep_picture(&browser, "profile-phone");
    let widths = browser.run(
        "const box = document.querySelector('.flame'); return [document.documentElement.scrollWidth, box.clientWidth < 360, box.scrollWidth > 1000]",
    );
    assert_eq!(widths, serde_json::json!([360, true, true]));
    // A keyboard can scroll it, and a reader of the screen has the table.
    let reachable = browser.run("document.querySelector('.flame').focus(); return document.activeElement.className");
    assert_eq!(reachable, "flame");
    let heads = browser.run("return [...document.querySelectorAll('th[scope=col]')].map((one) => one.textContent)");
    assert_eq!(heads[0], "self", "{heads}");
    assert_eq!(browser.run("return window.ran ?? null"), serde_json::Value::Null);
}
