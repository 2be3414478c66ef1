//! What every page has: a policy, a size, and texts of others that are texts.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use harness::host::{Host, Place};

use super::{Browser, Seen, between};

/// Markup, quotes, ends of lines, marks of direction, and a control sequence.
const HOSTILE: &str =
    "\"'><script>alert(1)</script><img src=x onerror=alert(1)>\u{202e}\u{2066}\u{1b}[2J\n</details></main>";

fn host() -> (Place, Host) {
    let place = Place::new();
    place.configure("[queues.orders]\n");
    let host = place.start();
    host.wait_ready();
    (place, host)
}

fn check_policy(seen: &Seen, what: &str) {
    let policy = seen.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
        "{what}: {policy}"
    );
    assert!(policy.contains("frame-ancestors 'none'"), "{what}: {policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(seen.header(name), value, "{what}");
    }
}

#[test]
fn every_answer_has_a_policy_under_which_nothing_inline_runs() {
    let (_place, host) = host();
    let id = host.send("orders", b"{}");
    let person = Browser::new(&host);
    for (path, status) in [
        ("/ui", 200),
        ("/ui/", 200),
        ("/ui/queues/orders", 200),
        ("/ui/queues/orders/dead", 200),
        ("/ui/queues/orders/purge", 200),
        (&format!("/ui/queues/orders/messages/{id}"), 200),
        (&format!("/ui/queues/orders/messages/{id}/raw"), 200),
        ("/ui/queues/nowhere", 404),
        ("/ui/queues/orders?where=x", 400),
        ("/ui/handlers/nobody", 404),
        ("/ui/messages/nothing", 200),
        ("/ui/nowhere", 404),
        ("/ui/assets/other.js", 404),
        ("/ui/live?page=/queues", 400),
    ] {
        let seen = person.get(path);
        assert_eq!(seen.status, status, "{path}: {}", seen.text);
        check_policy(&seen, path);
        assert_eq!(seen.header("cache-control"), "no-store", "{path}");
        let text = &seen.text;
        assert!(
            !text.contains(" style=") && !text.contains(" onclick") && !text.contains("javascript:"),
            "{path}"
        );
        let scripts = text.matches("<script").count();
        assert_eq!(scripts, text.matches("<script src=\"/ui/assets/ui-").count(), "{path}");
    }
    assert_eq!(person.get("/uix").status, 404);
}

#[test]
fn a_page_with_its_style_and_its_script_is_below_100_kilobytes() {
    let (_place, host) = host();
    for number in 0..50 {
        host.send(
            "orders",
            format!("{{\"number\":{number},\"text\":\"{}\"}}", "word ".repeat(100)).as_bytes(),
        );
    }
    let person = Browser::new(&host);
    let page = person.get("/ui/queues/orders");
    let mut whole = page.text.clone();
    for (before, kind) in [
        ("rel=\"stylesheet\" href=\"", "text/css"),
        ("<script src=\"", "text/javascript"),
        ("type=\"image/svg+xml\" href=\"", "image/svg+xml"),
    ] {
        let path = between(&page.text, before, "\"");
        let seen = person.get(path);
        assert!(seen.header("content-type").starts_with(kind), "{path}");
        assert!(seen.header("cache-control").contains("immutable"), "{path}");
        check_policy(&seen, path);
        let etag = seen.header("etag").to_owned();
        assert_eq!(
            Browser::with(&host, &[("if-none-match", &etag)]).get(path).status,
            304,
            "{path}"
        );
        whole.push_str(&seen.text);
    }
    let bytes = zipped(whole.as_bytes());
    assert!(bytes < 100_000, "{bytes} bytes");
    // Nothing in it is at another host.
    let elsewhere = ["http://", "https://", "url("].map(|begin| whole.matches(begin).count());
    assert_eq!(elsewhere, [whole.matches("http://www.w3.org/2000/svg").count(), 0, 0]);
}

/// The size after gzip.
fn zipped(bytes: &[u8]) -> usize {
    let gzip = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut gzip = gzip.expect("this test needs gzip on the PATH");
    let mut input = gzip.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes).unwrap());
        gzip.wait_with_output().unwrap().stdout.len()
    })
}

#[test]
fn texts_of_others_are_texts_on_every_page() {
    let (_place, host) = host();
    let query = "attr.kind=%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E%E2%80%AE&group=%3Cb%3E";
    let id = host.try_send("orders", HOSTILE.as_bytes(), query).unwrap();
    let json = serde_json::json!({ HOSTILE: [HOSTILE] }).to_string();
    let other = host.send("orders", json.as_bytes());
    let person = Browser::new(&host);
    let page = format!("/ui/queues/orders/messages/{id}");
    for path in [
        "/ui/queues/orders".to_owned(),
        page.clone(),
        format!("{page}?all=1"),
        format!("/ui/queues/orders/messages/{other}"),
        "/ui/queues/orders?contains=%3Cscript%3Ealert(1)".to_owned(),
        "/ui/queues/%3Cscript%3Ealert(1)".to_owned(),
        "/ui/messages/%3Cscript%3Ealert(1)".to_owned(),
        "/ui/handlers/%22%3E%3Cscript%3Ealert(1)".to_owned(),
    ] {
        let text = person.get(&path).text;
        assert!(
            !text.contains("<script>") && !text.contains("<img src=x"),
            "{path}: {text}"
        );
        assert!(!text.contains(['\u{202e}', '\u{2066}', '\u{1b}']), "{path}: {text}");
        assert_eq!(text.matches("</main>").count(), 1, "{path}");
    }
}

#[test]
fn a_body_is_shown_by_its_kind_and_never_runs() {
    let (_place, host) = host();
    let person = Browser::new(&host);
    for (body, shown, raw) in [
        (
            &b"{\"a\":[1,{\"b\":null}]}"[..],
            "<details open><summary>",
            "application/octet-stream",
        ),
        (
            b"plain text",
            "<pre><bdi>plain text</bdi></pre>",
            "application/octet-stream",
        ),
        (b"\x89PNG\r\n\x1a\nrest", "/raw?as=image\" alt=", "image/png"),
        (b"\xff\xfe\x00<script>", "ff fe 00 3c", "application/octet-stream"),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
            "&lt;svg",
            "application/octet-stream",
        ),
        (
            b"<html><script>alert(1)</script>",
            "&lt;html&gt;",
            "application/octet-stream",
        ),
        (b"%PDF-1.7\nx", "A PDF is not shown here", "application/octet-stream"),
        (b"", "The body is empty", "application/octet-stream"),
    ] {
        let id = host.send("orders", body);
        let page = format!("/ui/queues/orders/messages/{id}");
        let text = person.get(&page).text;
        assert!(text.contains(shown), "{shown}: {text}");
        let seen = person.get(&format!("{page}/raw?as=image"));
        assert_eq!(seen.header("content-type"), raw, "{shown}");
        check_policy(&seen, shown);
        assert!(seen.header("content-security-policy").contains("sandbox"), "{shown}");
        let plain = person.get(&format!("{page}/raw"));
        assert!(plain.header("content-disposition").starts_with("attachment"), "{shown}");
        assert_eq!(plain.header("content-type"), "application/octet-stream", "{shown}");
    }
}

#[test]
fn a_long_body_is_cut_and_shown_whole_when_asked_for() {
    let (_place, host) = host();
    let id = host.send("orders", "word ".repeat(200_000).as_bytes());
    let person = Browser::new(&host);
    let page = format!("/ui/queues/orders/messages/{id}");
    let short = person.get(&page).text;
    assert!(
        short.len() < 100_000 && short.contains("Show all"),
        "{} bytes",
        short.len()
    );
    assert!(person.get(&format!("{page}?all=1")).text.len() > 1_000_000);
    assert_eq!(person.get(&format!("{page}/raw")).text.len(), 1_000_000);
}
