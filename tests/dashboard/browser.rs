//! The dashboard in a real browser: with a script and without one, by mouse and by keyboard, on a phone, and under attack.

#![expect(clippy::indexing_slicing, reason = "JSON that is not as expected fails the test")]

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    thread,
};

use harness::{
    browser::Browser,
    guests::{forward, no_op},
    host::{Host, Place},
    wait_for,
};
use serde_json::{Value, json};

use super::rejecting;

/// The keys of the protocol.
const ENTER: char = '\u{e007}';
const TAB: char = '\u{e004}';
const ESCAPE: char = '\u{e00c}';

/// A host with what there is to see: handlers that work and that fail, queues that wait, dead letters.
fn host() -> (Place, Host) {
    let place = Place::new();
    place.configure("[queues.orders]\nmax-receives = 1\n[queues.mail]\n[queues.out]\n");
    place.install("orders", &rejecting(), "");
    place.install("mail", &no_op(), "");
    place.install("resize", &forward(), "[grant]\nsend = [\"out\"]\n");
    let host = place.start();
    host.wait_ready();
    for number in 0..12 {
        host.send("mail", b"hello");
        // What is handled in between keeps the host from a pause.
        if number < 6 {
            host.send("orders", format!("x{number}").as_bytes());
        }
        host.send("orders", b"good");
        host.send(
            "resize",
            format!(
                "{{\"order\":{number},\"items\":[{{\"sku\":\"a-{number}\",\"count\":2}}],\"paid\":true,\"note\":null}}"
            )
            .as_bytes(),
        );
    }
    wait_for("dead letters", || (host.count("orders", "dead") == 6).then_some(()));
    host.wait_idle();
    (place, host)
}

/// A page of each kind.
fn all_pages(host: &Host) -> Vec<(&'static str, String)> {
    let message = host.get("/queues/out/messages?limit=1")["messages"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let letter = host.dead("orders")[0]["id"].as_str().unwrap().to_owned();
    vec![
        ("overview", "/ui".to_owned()),
        ("queue", "/ui/queues/out".to_owned()),
        ("message", format!("/ui/queues/out/messages/{message}")),
        ("dead", "/ui/queues/orders/dead".to_owned()),
        ("letter", format!("/ui/queues/orders/dead/{letter}")),
        ("edit", format!("/ui/queues/orders/dead/{letter}/edit")),
        ("purge", "/ui/queues/out/purge".to_owned()),
        ("handler", "/ui/handlers/orders".to_owned()),
        ("way", format!("/ui/messages/{letter}")),
    ]
}

pub(crate) fn keep_picture(browser: &Browser, name: &str) {
    if let Some(directory) = env::var_os("SANDHOG_SCREENSHOTS") {
        fs::write(Path::new(&directory).join(format!("{name}.png")), browser.screenshot()).unwrap();
    }
}

pub(crate) fn check_axe(browser: &Browser, page: &str) {
    let found = browser.axe();
    assert!(found.is_empty(), "{page}: {found:#?}");
}

#[test]
fn every_page_is_accessible_in_light_and_dark() {
    let (_place, host) = host();
    let browser = Browser::start();
    for scheme in ["light", "dark"] {
        browser.prefers(scheme);
        for (name, path) in all_pages(&host) {
            browser.open(&format!("{}{path}", host.url));
            keep_picture(&browser, &format!("{name}-{scheme}"));
            check_axe(&browser, &format!("{name}, {scheme}"));
        }
    }
}

#[test]
fn no_page_is_wider_than_a_phone() {
    let (_place, host) = host();
    let browser = Browser::start();
    browser.resize(360, 740);
    for (name, path) in all_pages(&host) {
        browser.open(&format!("{}{path}", host.url));
        keep_picture(&browser, &format!("{name}-phone"));
        let width = browser.run("return document.documentElement.scrollWidth");
        assert_eq!(width, 360, "{name}");
    }
}

#[test]
fn what_happens_is_seen_without_loading_the_page_again() {
    let (_place, host) = host();
    let browser = Browser::start();
    browser.open(&format!("{}/ui", host.url));
    browser.run("window.here = true");
    host.post("/queues/mail/pause?reason=stocktaking", &Value::Null);
    browser.wait_text("stocktaking");
    assert_eq!(browser.run("return window.here"), true, "the page was loaded again");
    // Who pauses the updates sees the page as it was.
    browser.press("p");
    assert_eq!(browser.text("#live"), "Paused");
    host.post("/queues/mail/resume", &Value::Null);
    browser.press("p");
    wait_for("the pause to go", || {
        let text = browser.run("return document.body.innerText");
        (!text.as_str()?.contains("stocktaking")).then_some(())
    });
    // A search as one types, without a button.
    browser.open(&format!("{}/ui/queues/out", host.url));
    browser.run("window.here = true");
    browser.fill("input[name=contains]", "a-7");
    wait_for("one message", || {
        let rows = browser.run("return document.querySelectorAll('tr[data-row]').length");
        (rows == 1).then_some(())
    });
    assert!(browser.url().ends_with("?contains=a-7"), "{}", browser.url());
    browser.fill("input[name=where]", "nonsense");
    browser.wait_text("character 1 of the filter");
    assert_eq!(browser.run("return window.here"), true);
}

/// Sends a message, pauses and resumes, purges and redrives, as a person does with a mouse.
fn do_everything(host: &Host, browser: &Browser) {
    browser.open(&format!("{}/ui", host.url));
    browser.click("#queues a[href='/ui/queues/out']");
    browser.click("#send summary");
    browser.fill("#send textarea[name=body]", "from a page");
    browser.fill("#send textarea[name=attributes]", "kind=refund");
    browser.click("#send button[type=submit]");
    browser.wait_text("1 message was sent");
    let sent = host.get("/queues/out/messages?where=attr.kind%20%3D%20refund");
    assert_eq!(sent["messages"][0]["body"], "from a page", "{sent}");
    browser.fill("#actions input[name=reason]", "stocktaking");
    browser.click("#actions form[action$='/pause'] button");
    browser.wait_text("The queue is paused");
    browser.click("#actions form[action$='/resume'] button");
    browser.wait_text("is not paused any more");
    browser.click("#actions a[href$='/purge']");
    browser.fill("input[name=typed]", "13");
    browser.click("button.danger");
    browser.wait_text("13 messages were deleted.");
    assert_eq!(host.count("out", "ready"), 0);
    // Dead letters: one that is edited, two that are selected, and the others by a filter.
    browser.open(&format!("{}/ui/queues/orders/dead", host.url));
    browser.click("tr[data-row] a");
    browser.click("a[href$='/edit']");
    browser.fill("textarea[name=body]", "good");
    browser.click("main button.primary");
    browser.wait_text("was sent in the place of the dead letter");
    browser.click("tr[data-row]:nth-of-type(1) input[type=checkbox]");
    browser.click("tr[data-row]:nth-of-type(2) input[type=checkbox]");
    browser.click("button.danger[value=selected]");
    browser.wait_text("Delete the selected dead letters?");
    browser.fill("input[name=typed]", "2");
    browser.click("form.panel button.danger");
    browser.wait_text("2 messages were deleted.");
    browser.fill("input[name=where]", "kind = reject");
    browser.press(&ENTER.to_string());
    browser.wait_text("all that pass the filter");
    browser.click("button.danger[value=all]");
    browser.wait_text("Type 3 to go on");
    browser.fill("input[name=typed]", "3");
    browser.click("form.panel button.danger");
    browser.wait_text("3 messages were deleted.");
    assert_eq!(host.count("orders", "dead"), 0);
    browser.open(&format!("{}/ui/handlers/orders", host.url));
    browser.click("#actions form[action$='/pause'] button");
    browser.wait_text("The handler is paused");
    browser.click("#actions form[action$='/resume'] button");
    browser.wait_text("is not paused any more");
}

#[test]
fn everything_is_done_with_a_script() {
    let (_place, host) = host();
    do_everything(&host, &Browser::start());
}

#[test]
fn everything_is_done_without_a_script() {
    let (_place, host) = host();
    let browser = Browser::start();
    browser.without_scripts();
    do_everything(&host, &browser);
    assert!(!browser.has("#live:not([hidden])"), "a button that does nothing");
}

#[test]
fn a_keyboard_is_enough() {
    let (_place, host) = host();
    let browser = Browser::start();
    browser.open(&format!("{}/ui", host.url));
    browser.press("?");
    assert_eq!(browser.run("return document.getElementById('help').open"), true);
    browser.press(&ESCAPE.to_string());
    assert_eq!(browser.run("return document.getElementById('help').open"), false);
    // The first row, then the second, and into it.
    browser.press("jj");
    browser.press(&ENTER.to_string());
    wait_for("a handler", || {
        browser.url().contains("/ui/handlers/orders").then_some(())
    });
    browser.press("u");
    wait_for("the overview", || browser.url().ends_with("/ui").then_some(()));
    browser.open(&format!("{}/ui/queues/out", host.url));
    browser.press("/");
    browser.press("a-3");
    wait_for("one message", || {
        let rows = browser.run("return document.querySelectorAll('tr[data-row]').length");
        (rows == 1).then_some(())
    });
    browser.press(&ESCAPE.to_string());
    browser.press("go");
    wait_for("the overview", || browser.url().ends_with("/ui").then_some(()));
    // The first stop of the tabulator leads past the bar.
    browser.press(&TAB.to_string());
    assert_eq!(
        browser.run("return document.activeElement.getAttribute('href')"),
        "#main"
    );
    // Whatever can be clicked can be reached.
    let unreachable = browser.run(
        "return [...document.querySelectorAll('a, button, input, summary')].filter((one) => one.tabIndex < 0).map((one) => one.outerHTML)",
    );
    assert_eq!(unreachable, json!([]));
}

#[test]
fn texts_of_others_run_nothing_in_a_browser() {
    let place = Place::new();
    place.configure("[queues.orders]\n");
    let host = place.start();
    host.wait_ready();
    let hostile =
        "\"'><script>window.ran=1</script><img src=x onerror=window.ran=1><svg onload=window.ran=1>\u{202e}</main>";
    let query =
        "attr.kind=%22%3E%3Cscript%3Ewindow.ran%3D1%3C%2Fscript%3E&group=%3Cscript%3Ewindow.ran%3D1%3C%2Fscript%3E";
    let ids = [hostile.to_owned(), json!({ hostile: [hostile] }).to_string()]
        .map(|body| host.try_send("orders", body.as_bytes(), query).unwrap());
    let svg = host.send(
        "orders",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>window.ran=1</script></svg>",
    );
    let browser = Browser::start();
    let mut pages = vec![
        "/ui".to_owned(),
        "/ui/queues/orders".to_owned(),
        "/ui/queues/%3Cscript%3Ewindow.ran=1".to_owned(),
    ];
    for id in ids.iter().chain([&svg]) {
        pages.push(format!("/ui/queues/orders/messages/{id}"));
        pages.push(format!("/ui/queues/orders/messages/{id}?all=1"));
    }
    for path in pages {
        browser.open(&format!("{}{path}", host.url));
        // The live page and the search put markup of the host into the page: they run nothing either.
        if path == "/ui/queues/orders" {
            browser.fill("input[name=contains]", "script");
            wait_for("the search", || browser.url().contains("contains=script").then_some(()));
        }
        assert_eq!(browser.run("return window.ran ?? null"), Value::Null, "{path}");
        assert_eq!(
            browser.run("return document.querySelectorAll('main').length"),
            1,
            "{path}"
        );
        assert_eq!(
            browser.run("return document.querySelectorAll('main script, main svg script').length"),
            0,
            "{path}"
        );
    }
}

#[test]
fn a_page_of_another_origin_can_send_no_form() {
    let place = Place::new();
    place.configure("[queues.orders]\n");
    let host = place.start();
    host.wait_ready();
    let target = host.url.clone();
    // The page knows the token, which no page elsewhere does.
    let browser = Browser::start();
    browser.open(&format!("{target}/ui/queues/orders"));
    let token = browser.run("return document.querySelector('input[name=token]').value");
    let page = format!(
        "<form method=post action=\"{target}/ui/queues/orders/send\"><input name=body value=x><input name=token value={}></form>\
         <script>document.forms[0].submit()</script><iframe src=\"{target}/ui\"></iframe>",
        token.as_str().unwrap()
    );
    browser.open(&served(page));
    browser.wait_text("web page elsewhere");
    assert_eq!(host.count("orders", "ready"), 0);
}

/// Serves a page on a port of its own, and so an origin of its own, until the tests end. Returns its address.
fn served(page: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            drop(stream.read(&mut [0; 8192]));
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                page.len()
            );
            drop(stream.write_all(format!("{head}{page}").as_bytes()));
        }
    });
    format!("http://{address}/")
}
