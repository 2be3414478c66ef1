//! Dead letters on the pages: many, large ones, and reasons of several lines.

use harness::{
    browser,
    guests::{handler, handler_importing},
    host::{Host, Place},
    wait_for,
};
use serde_json::{Value, json};

use super::{Browser, READER, SECRET, between, secured, send_with};

const PAGE: &str = "/ui/queues/orders/dead";

/// A host whose handler of the queue `orders` fails, so that each of these messages is a dead letter.
fn host_with(wasm: &[u8], bodies: &[&str]) -> (Place, Host) {
    let place = Place::new();
    place.configure("[queues.orders]\nmax-receives = 1\n");
    place.install("orders", wasm, "");
    let host = place.start();
    host.wait_ready();
    for (number, body) in (1_u64..).zip(bodies) {
        host.send("orders", body.as_bytes());
        wait_for("a dead letter", || {
            (host.count("orders", "dead") == number).then_some(())
        });
    }
    (place, host)
}

#[test]
fn a_list_of_dead_letters_may_have_the_beginnings_of_the_bodies_alone() {
    let large = "\u{e9}".repeat(300_000);
    let (_place, host) = host_with(&handler("unreachable"), &[&large, "short"]);
    for list in ["?", "?where=id%20%21%3D%20x&"] {
        let letters = host.get(&format!("/queues/orders/dead{list}body-limit=11"));
        let letters = letters["dead-letters"].as_array().unwrap();
        let shown: Vec<_> = letters.iter().map(|letter| (&letter["body"], &letter["cut"])).collect();
        assert_eq!(
            shown,
            [
                (&json!("\u{e9}".repeat(5)), &json!(true)),
                (&json!("short"), &Value::Null)
            ],
            "{list}"
        );
        let whole = host.get(&format!("/queues/orders/dead{list}"));
        assert_eq!(whole["dead-letters"][0]["body"], large, "{list}");
    }
    assert_eq!(host.text("/queues/orders/dead?body-limit=x").0, 400);
    let page = Browser::new(&host).get(PAGE);
    assert!(
        page.text.contains("\u{e9}\u{e9}\u{e9}") && page.text.len() < 20_000,
        "{}",
        page.text.len()
    );
}

#[test]
fn the_beginning_of_a_body_shows_nothing_that_is_hidden() {
    let (place, host) = secured("max-receives = 1\n[redact]\npaths = [\"/card/number\"]\n");
    place.install("orders", &handler("unreachable"), "");
    let body = "{\"card\":{\"number\":\"4111111111111111\"},\"text\":\"a long text\"}";
    assert_eq!(send_with(&host, body, SECRET).status, 200);
    let reader = Browser::with(&host, &[("authorization", &format!("Bearer {READER}"))]);
    wait_for("a dead letter", || {
        let seen = reader.get("/queues/orders/dead?body-limit=36&where=id%20%21%3D%20x");
        assert!(!seen.text.contains("4111"), "{}", seen.text);
        let shown = "{\\\"card\\\":{\\\"number\\\":\\\"(redacted)\\\"},\\\"tex\"";
        seen.text.contains(shown).then_some(())
    });
}

/// A handler that traps, and has said the body as the reason.
fn saying() -> Vec<u8> {
    let report = r#"(import "sandhog:worker/crash@0.1.0" "report" (func $report (param i32 i32 i32 i32)))"#;
    let say = "(call $report (local.get $body) (local.get $body-len) (i32.const 1024) (i32.const 0)) unreachable";
    handler_importing(say, (report, ""))
}

#[test]
fn traps_are_grouped_by_the_first_line_of_their_reason() {
    let different = "assertion failed: \"a\" == b\n  left: 1\n right: 2";
    let same = "assertion failed: \"a\" == b\n  left: 7\n right: 2";
    let (_place, host) = host_with(&saying(), &[different, same, "no items"]);
    let reasons: Vec<String> = host
        .dead("orders")
        .iter()
        .map(|letter| letter["failure"]["reason"].to_string())
        .collect();
    assert!(
        reasons.iter().filter(|reason| reason.contains("\\n")).count() == 2,
        "{reasons:?}"
    );
    let person = Browser::new(&host);
    let page = person.get(PAGE).text;
    let groups = between(&page, "id=\"reasons\"", "</table>");
    assert!(
        groups.contains("<td class=\"num\">2</td>") && groups.contains("contains </span>"),
        "{groups}"
    );
    let link = between(groups, "<a href=\"", "\"").replace("&amp;", "&");
    let found = person.get(&link);
    assert_eq!(found.status, 200, "{}", found.text);
    assert_eq!(found.text.matches("<tr data-row").count(), 2, "{}", found.text);
    // As a browser sends it: a field holds no ends of lines.
    let filter = between(&found.text, "name=\"where\" value=\"", "\"").replace("&quot;", "\"");
    assert!(!filter.contains('\n') && filter.contains("reason ~"), "{filter}");
    let fields = [("scope", "all"), ("where", filter.as_str())];
    let question = person.act(PAGE, &format!("{PAGE}/delete"), &fields);
    assert!(question.text.contains("Delete 2 messages"), "{}", question.text);
}

#[test]
fn a_question_about_dead_letters_leaves_no_line_in_the_audit() {
    let (_place, host) = host_with(&handler("unreachable"), &["1", "2"]);
    let person = Browser::new(&host);
    for action in ["redrive", "delete"] {
        let question = person.act(PAGE, &format!("{PAGE}/{action}"), &[("scope", "all")]);
        assert!(question.text.contains("2 messages"), "{}", question.text);
    }
    // The line of something else is behind those that there would be.
    host.post("/queues/orders/pause", &Value::Null);
    let actions = || {
        let lines = host.events("audit");
        lines
            .iter()
            .map(|line| line["fields"]["action"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    wait_for("the line of the pause", || {
        actions().contains(&"pause queue".to_owned()).then_some(())
    });
    assert_eq!(actions(), ["pause queue"]);
    let answer = [("scope", "all"), ("expected", "2"), ("typed", "2")];
    let done = person.act(PAGE, &format!("{PAGE}/redrive"), &answer);
    assert!(person.notice(&done).contains("2 messages were put back"));
    wait_for("the line of the redrive", || {
        actions().contains(&"redrive queue dead".to_owned()).then_some(())
    });
}

#[test]
fn ten_thousand_dead_letters_are_a_page_at_a_time() {
    const ALL: usize = 10_000;
    let place = Place::new();
    place.configure("[queues.orders]\n");
    place.fill("orders", ALL, b"x", 1000);
    let host = place.start();
    host.wait_ready();
    for _ in 0..ALL / 1000 {
        let received = host.post("/queues/orders/receive?max=1000", &Value::Null);
        let settlements: Vec<Value> = received["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| json!({ "receipt": message["receipt"], "action": "reject", "reason": "no" }))
            .collect();
        host.post("/queues/orders/settle", &json!({ "settlements": settlements }));
    }
    assert_eq!(host.count("orders", "dead"), 10_000);
    let browser = browser::Browser::start();
    browser.open(&format!("{}{PAGE}", host.url));
    let rows = "return document.querySelectorAll('tr[data-row]').length";
    assert_eq!(browser.run(rows), 100);
    let first = browser.text("tr[data-row] a");
    browser.click("a[rel=next]");
    browser.wait_text("First page");
    assert_eq!(browser.run(rows), 100);
    assert_ne!(browser.text("tr[data-row] a"), first);
    browser.click("button[value=all]:not(.danger)");
    browser.wait_text("Redrive 10\u{202f}000 messages");
}
