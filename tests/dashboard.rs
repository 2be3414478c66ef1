//! The dashboard as a browser's requests see it: its headers, its forms, who may do what, and texts of others.

use harness::{
    guests::{body_starts_with, handler, no_op},
    host::{Host, Place},
    sqs_host::Stage,
    wait_for,
};
use serde_json::json;
use ureq::http::Response;

mod browser;
mod deploying;
mod letters;
mod pages;
mod people;
mod profile;
mod replaying;
mod versions;

const SECRET: &str = "0123456789abcdef";
const READER: &str = "fedcba9876543210";

/// An answer to a browser.
struct Seen {
    status: u16,
    headers: ureq::http::HeaderMap,
    text: String,
}

impl Seen {
    fn of(answer: Result<Response<ureq::Body>, ureq::Error>) -> Self {
        let mut answer = answer.unwrap();
        Self {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            text: answer.body_mut().read_to_string().unwrap_or_default(),
        }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The value of the hidden field with the token.
    fn token(&self) -> String {
        between(&self.text, "name=\"token\" value=\"", "\"").to_owned()
    }

    fn cookie(&self) -> String {
        self.header("set-cookie").split(';').next().unwrap().to_owned()
    }
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let (_, rest) = text
        .split_once(before)
        .unwrap_or_else(|| panic!("no {before} in {text}"));
    rest.split(after).next().unwrap()
}

/// A browser without a script: it keeps its cookie and follows nothing.
struct Browser<'h> {
    host: &'h Host,
    headers: Vec<(&'static str, String)>,
}

impl<'h> Browser<'h> {
    fn new(host: &'h Host) -> Self {
        Self {
            host,
            headers: Vec::new(),
        }
    }

    fn with(host: &'h Host, headers: &[(&'static str, &str)]) -> Self {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        Self { host, headers }
    }

    /// Logs in.
    fn session(host: &'h Host, secret: &str) -> Self {
        let seen = Self::new(host).post("/ui/login", &[("secret", secret)]);
        assert_eq!(seen.status, 303, "{}", seen.text);
        let headers = vec![("cookie", seen.cookie())];
        Self { host, headers }
    }

    fn get(&self, path: &str) -> Seen {
        let mut request = ureq::get(format!("{}{path}", self.host.url));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        Seen::of(
            request
                .config()
                .http_status_as_error(false)
                .max_redirects(0)
                .build()
                .call(),
        )
    }

    fn post(&self, path: &str, fields: &[(&str, &str)]) -> Seen {
        let mut request = ureq::post(format!("{}{path}", self.host.url));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.config().http_status_as_error(false).max_redirects(0).build();
        Seen::of(request.send_form(fields.iter().copied()))
    }

    /// Sends the form of a page, with its token.
    fn act(&self, page: &str, action: &str, fields: &[(&str, &str)]) -> Seen {
        let token = self.get(page).token();
        self.post(action, &[fields, &[("token", token.as_str())]].concat())
    }

    /// What the page says after an action.
    fn notice(&self, done: &Seen) -> String {
        assert_eq!(done.status, 303, "{}", done.text);
        let page = self.get(done.header("location"));
        between(&page.text, "class=\"notice\" role=\"status\"><bdi>", "</bdi>").to_owned()
    }
}

fn secured(more: &str) -> (Place, Host) {
    let place = Place::new();
    std::fs::write(place.path().join("secret"), SECRET).unwrap();
    std::fs::write(place.path().join("reader"), READER).unwrap();
    place.configure(&format!(
        "secret-file = \"secret\"\nread-only-secret-file = \"reader\"\n[queues.orders]\n{more}"
    ));
    let host = place.start();
    host.wait_ready();
    (place, host)
}

fn send_with(host: &Host, body: &str, secret: &str) -> Seen {
    let request = ureq::post(format!("{}/queues/orders", host.url))
        .header("authorization", format!("Bearer {secret}"))
        .config()
        .http_status_as_error(false)
        .build();
    Seen::of(request.send(body))
}

#[test]
fn without_a_session_there_is_the_form_for_the_secret_alone() {
    let (_place, host) = secured("");
    let stranger = Browser::new(&host);
    for path in [
        "/ui",
        "/ui/queues/orders?state=ready",
        "/ui/queues/orders/messages/x/raw",
        "/ui/live?page=/ui",
    ] {
        let seen = stranger.get(path);
        assert_eq!(seen.status, 303, "{path}");
        assert!(
            seen.header("location").starts_with("/ui/login?to=%2Fui"),
            "{path}: {}",
            seen.header("location")
        );
    }
    assert_eq!(stranger.post("/ui/queues/orders/send", &[("body", "x")]).status, 401);
    let form = stranger.get("/ui/login?to=%2F%2Fevil.example");
    assert!(form.text.contains("name=\"to\" value=\"/ui\""), "{}", form.text);
    let wrong = stranger.post("/ui/login", &[("secret", "0123456789abcdeX")]);
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, ""));
    let done = stranger.post("/ui/login", &[("secret", SECRET), ("to", "/ui/queues/orders")]);
    assert_eq!((done.status, done.header("location")), (303, "/ui/queues/orders"));
    let cookie = done.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/ui"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let session = Browser::session(&host, SECRET);
    assert_eq!(session.get("/ui/queues/orders").status, 200);
    // The cookie opens pages alone.
    assert_eq!(session.get("/queues/orders").status, 401);
    let out = session.act("/ui", "/ui/logout", &[]);
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(session.get("/ui").status, 303);
    host.event("audit");
    let lines = host.events("audit");
    let said: Vec<_> = lines
        .iter()
        .map(|line| (&line["fields"]["action"], &line["fields"]["result"]))
        .collect();
    for expected in [
        ("log in", "refused: a wrong secret"),
        ("log in", "done"),
        ("log out", "done"),
    ] {
        assert!(said.contains(&(&json!(expected.0), &json!(expected.1))), "{said:?}");
    }
    assert!(!host.log().concat().contains(SECRET), "the log has the secret");
}

#[test]
fn who_tries_secrets_has_to_wait_and_keeps_nobody_else_out() {
    let (_place, host) = secured("");
    let stranger = Browser::new(&host);
    for _ in 0..10 {
        assert_eq!(
            stranger.post("/ui/login", &[("secret", "wrong-wrong-wrong")]).status,
            401
        );
    }
    for _ in 0..10 {
        let seen = stranger.post("/ui/login", &[("secret", "wrong-wrong-wrong")]);
        assert_eq!((seen.status, seen.header("set-cookie")), (429, ""), "{}", seen.text);
    }
    let lines = host.log().concat().matches("refused: a wrong secret").count();
    assert_eq!(lines, 10, "one line for each try that was looked at");
    let owner = Browser::session(&host, SECRET);
    assert_eq!(owner.get("/ui").status, 200);
}

#[test]
fn a_login_behind_tls_gets_a_cookie_for_tls_alone_and_ends_the_session_before() {
    let (_place, host) = secured("");
    let login = |headers: &[(&'static str, &str)]| {
        let seen = Browser::with(&host, headers).post("/ui/login", &[("secret", SECRET)]);
        assert_eq!(seen.status, 303, "{}", seen.text);
        (seen.header("set-cookie").to_owned(), seen.cookie())
    };
    let (plain, first) = login(&[]);
    assert!(!plain.contains("Secure"), "{plain}");
    let name = host.url.strip_prefix("http://").unwrap();
    let (by_tls, _) = login(&[("origin", &format!("https://{name}")), ("cookie", &first)]);
    assert!(by_tls.contains("; Secure"), "{by_tls}");
    assert_eq!(Browser::with(&host, &[("cookie", &first)]).get("/ui").status, 303);
}

#[test]
fn the_body_of_somebody_who_has_not_logged_in_is_not_read() {
    let (_place, host) = secured("");
    let stranger = Browser::new(&host);
    let large = "x".repeat(100_000);
    for path in ["/ui/assets/ui.js", "/ui/queues/orders/send", "/ui/logout"] {
        let seen = stranger.post(path, &[("body", &large)]);
        assert_eq!(seen.status, 401, "{path}: {}", seen.text);
    }
    assert_eq!(stranger.post("/ui/login", &[("secret", &large)]).status, 413);
    let reader = Browser::session(&host, READER);
    let seen = reader.post("/ui/queues/orders/send", &[("body", &large)]);
    assert_eq!(seen.status, 403, "{}", seen.text);
    assert_eq!(reader.get("/ui/queues/orders/purge").status, 403);
}

#[test]
fn a_deletion_of_all_is_one_of_those_that_were_counted() {
    let place = Place::new();
    place.configure("[queues.orders]\nmax-receives = 1\n");
    place.install("orders", &handler("unreachable"), "");
    let host = place.start();
    host.wait_ready();
    let dead = |number: u64| {
        wait_for("dead letters", || {
            (host.count("orders", "dead") == number).then_some(())
        });
    };
    host.send("orders", b"1");
    host.send("orders", b"2");
    dead(2);
    let person = Browser::new(&host);
    let token = person.get("/ui/queues/orders/dead").token();
    let delete = "/ui/queues/orders/dead/delete";
    let asked = person.post(delete, &[("token", &token), ("scope", "all")]);
    assert!(asked.text.contains("Delete 2 messages"), "{}", asked.text);
    let after = between(&asked.text, "name=\"after\" value=\"", "\"").to_owned();
    host.send("orders", b"3");
    dead(3);
    let fields = [
        ("token", token.as_str()),
        ("scope", "all"),
        ("after", &after),
        ("expected", "2"),
        ("typed", "2"),
    ];
    let done = person.post(delete, &fields);
    assert!(person.notice(&done).contains("2 messages were deleted"));
    assert_eq!(host.count("orders", "dead"), 1);
}

#[test]
fn the_read_only_secret_shows_everything_and_changes_nothing() {
    let (_place, host) = secured("");
    assert_eq!(send_with(&host, "{\"a\":1}", SECRET).status, 200);
    let refused = send_with(&host, "x", READER);
    assert_eq!(refused.status, 403);
    assert!(refused.text.contains("may look and change nothing"), "{}", refused.text);
    let api = Browser::with(&host, &[("authorization", &format!("Bearer {READER}"))]);
    for path in ["/queues", "/handlers", "/metrics", "/queues/orders/messages"] {
        assert_eq!(api.get(path).status, 200, "{path}");
    }
    for path in [
        "/queues/orders/pause",
        "/queues/orders/receive",
        "/drain",
        "/reload",
        "/backup",
    ] {
        assert_eq!(api.post(path, &[]).status, 403, "{path}");
    }
    let reader = Browser::session(&host, READER);
    let page = reader.get("/ui/queues/orders");
    assert!(
        page.text.contains("read-only") && !page.text.contains("action=\"/ui/queues/orders/pause\""),
        "{}",
        page.text
    );
    let token = page.token();
    for action in ["send", "pause", "resume", "purge", "dead/redrive", "dead/delete"] {
        let seen = reader.post(
            &format!("/ui/queues/orders/{action}"),
            &[("token", &token), ("typed", "1"), ("expected", "1")],
        );
        assert_eq!(seen.status, 403, "{action}");
    }
    // The endpoint of SQS knows no such key.
    let sqs = Browser::with(
        &host,
        &[
            ("authorization", &format!("Bearer {READER}")),
            ("x-amz-target", "AmazonSQS.ListQueues"),
        ],
    );
    assert_eq!(sqs.post("/", &[]).status, 403);
}

#[test]
fn a_form_needs_the_token_of_its_session() {
    let (_place, host) = secured("");
    let (one, other) = (Browser::session(&host, SECRET), Browser::session(&host, SECRET));
    let foreign = other.get("/ui/queues/orders").token();
    for fields in [
        &[("body", "x")][..],
        &[("body", "x"), ("token", "")],
        &[("body", "x"), ("token", &foreign)],
    ] {
        let seen = one.post("/ui/queues/orders/send", fields);
        assert_eq!(seen.status, 403, "{fields:?}");
        assert!(seen.text.contains("nothing was done"), "{}", seen.text);
    }
    assert!(
        one.notice(&one.act("/ui/queues/orders", "/ui/queues/orders/send", &[("body", "x")]))
            .starts_with("1 message was sent")
    );
}

#[test]
fn a_page_elsewhere_can_neither_see_nor_do_anything() {
    let place = Place::new();
    place.configure("[queues.orders]\n");
    let host = place.start();
    host.wait_ready();
    let token = Browser::new(&host).get("/ui/queues/orders").token();
    for headers in [
        &[("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")][..],
        &[("origin", "null")],
        &[("origin", "http://127.0.0.1:1")],
        &[("sec-fetch-site", "same-site")],
        &[("host", "rebound.example")],
        &[("host", "rebound.example"), ("origin", "http://rebound.example")],
    ] {
        let page = Browser::with(&host, headers);
        assert_eq!(page.get("/ui/queues/orders").status, 403, "{headers:?}");
        let seen = page.post("/ui/queues/orders/send", &[("body", "x"), ("token", &token)]);
        assert_eq!(seen.status, 403, "{headers:?}");
        assert!(
            seen.header("content-security-policy")
                .contains("frame-ancestors 'none'")
        );
    }
    assert_eq!(host.count("orders", "ready"), 0);
    // A link of another page leads to a question, and not to the page.
    let link = Browser::with(
        &host,
        &[
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ],
    );
    let seen = link.get("/ui/queues/orders?contains=%22%3E%3Cscript%3E");
    assert_eq!(seen.status, 403);
    assert!(
        seen.text.contains("A link from elsewhere") && !seen.text.contains("<script>"),
        "{}",
        seen.text
    );
}

#[test]
fn what_cannot_be_undone_asks_for_the_number() {
    let place = Place::new();
    place.configure("[queues.orders]\n");
    let host = place.start();
    host.wait_ready();
    for _ in 0..3 {
        host.send("orders", b"x");
    }
    let person = Browser::new(&host);
    let question = person.get("/ui/queues/orders/purge");
    assert!(question.text.contains("Delete 3 messages"), "{}", question.text);
    let token = question.token();
    // Without a number it asks.
    assert!(
        person
            .post("/ui/queues/orders/purge", &[("token", &token)])
            .text
            .contains("Delete 3 messages")
    );
    let wrong = person.post(
        "/ui/queues/orders/purge",
        &[("token", &token), ("expected", "3"), ("typed", "2")],
    );
    assert_eq!((wrong.status, host.count("orders", "ready")), (400, 3));
    let done = person.post(
        "/ui/queues/orders/purge",
        &[("token", &token), ("expected", "3"), ("typed", "3")],
    );
    assert_eq!(person.notice(&done), "3 messages were deleted.");
    assert_eq!(host.count("orders", "ready"), 0);
    let line = host.event("audit");
    assert_eq!(line["fields"]["who"], "local dashboard", "{line}");
    assert_eq!(
        (&line["fields"]["action"], &line["fields"]["count"]),
        (&json!("delete queue messages"), &json!(3)),
        "{line}"
    );
}

#[test]
fn a_pause_from_a_page_is_undone_from_it() {
    let place = Place::new();
    place.install("orders", &no_op(), "");
    let host = place.start();
    host.wait_ready();
    let person = Browser::new(&host);
    for (kind, page) in [("queue", "/ui/queues/orders"), ("handler", "/ui/handlers/orders")] {
        let reason = [("reason", "stocktaking <b>"), ("for", "2h")];
        let done = person.act(page, &format!("{page}/pause"), &reason);
        assert!(person.notice(&done).contains("is paused"), "{kind}");
        let text = person.get(page).text;
        assert!(
            text.contains("stocktaking &lt;b&gt;") && text.contains("Resume"),
            "{text}"
        );
        assert!(person.get("/ui").text.contains("paused"), "{kind}");
        let done = person.act(page, &format!("{page}/resume"), &[]);
        assert_eq!(person.notice(&done), format!("The {kind} is not paused any more."));
    }
    let wrong = person.act("/ui/queues/orders", "/ui/queues/orders/pause", &[("for", "soon")]);
    assert_eq!(wrong.status, 400);
    assert!(wrong.text.contains("for=soon"), "{}", wrong.text);
}

#[test]
fn dead_letters_are_chosen_by_a_filter_and_put_back_edited_or_deleted() {
    let place = Place::new();
    place.configure("[queues.orders]\nmax-receives = 1\n");
    // Messages that begin with x are rejected, with a reason.
    place.install("orders", &rejecting(), "");
    let host = place.start();
    host.wait_ready();
    for body in ["x1", "x2", "x3"] {
        host.send("orders", body.as_bytes());
    }
    wait_for("three dead letters", || {
        (host.count("orders", "dead") == 3).then_some(())
    });
    let person = Browser::new(&host);
    let page = "/ui/queues/orders/dead";
    let seen = person.get(page);
    assert!(
        seen.text.contains("reject") && seen.text.contains("Redrive all 3"),
        "{}",
        seen.text
    );
    let letters = host.dead("orders");
    let ids: Vec<&str> = letters.iter().map(|letter| letter["id"].as_str().unwrap()).collect();
    // One of them, edited so that it passes.
    let edit = format!("{page}/{}/edit", ids[0]);
    let fields = [("body", "good"), ("has-body", "1"), ("attributes", "a=b")];
    assert!(
        person
            .notice(&person.act(&edit, &edit, &fields))
            .starts_with("1 message was sent in the place")
    );
    wait_for("the edited message", || {
        (host.count("orders", "dead") == 2).then_some(())
    });
    // Those that pass a filter, after a question with their number.
    let filter = [("scope", "all"), ("where", "body ~ \"x2\"")];
    let question = person.act(page, &format!("{page}/delete"), &filter);
    assert!(question.text.contains("Delete 1 message"), "{}", question.text);
    let after = between(&question.text, "name=\"after\" value=\"", "\"");
    let answer = [
        filter.as_slice(),
        &[("after", after), ("expected", "1"), ("typed", "1")],
    ]
    .concat();
    let done = person.act(page, &format!("{page}/delete"), &answer);
    assert_eq!(person.notice(&done), "1 message was deleted.");
    assert_eq!(host.count("orders", "dead"), 1);
    // A redrive of those that are selected needs no question: what fails again is dead again.
    let done = person.act(
        page,
        &format!("{page}/redrive"),
        &[("scope", "selected"), ("id", ids[2])],
    );
    assert_eq!(person.notice(&done), "1 message was put back into the queue.");
    let none = person.act(page, &format!("{page}/redrive"), &[("scope", "selected")]);
    assert_eq!(none.status, 400);
}

/// A handler that rejects what begins with `x`.
fn rejecting() -> Vec<u8> {
    handler(&format!(
        "(if {} (then (return (call $fail (i32.const 2) (i32.const 272) (i32.const 7) (i32.const 0))))) (global.get $ok)",
        body_starts_with('x')
    ))
}

#[test]
fn what_the_configuration_hides_is_on_no_page() {
    let (_place, host) = secured("[redact]\npaths = [\"/card/number\"]\nattributes = [\"email\"]\n");
    let body = "{\"card\":{\"number\":\"4111111111111111\",\"kind\":\"visa\"}}";
    let request = ureq::post(format!(
        "{}/queues/orders?attr.email=a%40b.example&attr.kind=x",
        host.url
    ));
    let mut sent = request
        .header("authorization", format!("Bearer {SECRET}"))
        .send(body)
        .unwrap();
    let sent: serde_json::Value = serde_json::from_str(&sent.body_mut().read_to_string().unwrap()).unwrap();
    let id = sent["id"].as_str().unwrap();
    assert_eq!(send_with(&host, "number=4111111111111111", SECRET).status, 200);
    let person = Browser::session(&host, SECRET);
    let api = Browser::with(&host, &[("authorization", &format!("Bearer {READER}"))]);
    let pages = [
        person.get("/ui/queues/orders"),
        person.get(&format!("/ui/queues/orders/messages/{id}")),
        person.get(&format!("/ui/queues/orders/messages/{id}/raw")),
        api.get("/queues/orders/messages"),
        api.get(&format!("/queues/orders/messages/{id}")),
    ];
    for seen in pages {
        assert_eq!(seen.status, 200, "{}", seen.text);
        assert!(
            !seen.text.contains("4111") && !seen.text.contains("b.example"),
            "{}",
            seen.text
        );
        assert!(seen.text.contains("(redacted)"), "{}", seen.text);
    }
    // A search would tell what is there.
    for query in ["contains=4111", "where=attr.email%20%3D%20x", "attr.email=x"] {
        let seen = api.get(&format!("/queues/orders/messages?{query}"));
        assert_eq!(seen.status, 400, "{query}");
        assert!(seen.text.contains("[redact] hides"), "{}", seen.text);
    }
    assert_eq!(person.get("/ui/queues/orders?contains=4111").status, 400);
    // The owner of the secret sees it with the command line.
    let owner = Browser::with(&host, &[("authorization", &format!("Bearer {SECRET}"))]);
    assert!(
        owner
            .get("/queues/orders/messages?contains=4111")
            .text
            .contains("4111111111111111")
    );
}

#[test]
fn a_queue_of_sqs_is_on_the_same_pages() {
    let mut stage = Stage::new("dashboard");
    let queue = stage.queue("in", &[], "");
    queue.put("hello");
    let place = stage.place();
    let host = place.start();
    let person = Browser::new(&host);
    wait_for("the message to be counted", || {
        person.get("/ui").text.contains("href=\"/ui/queues/in\"").then_some(())
    });
    let page = person.get("/ui/queues/in");
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.text.contains("looked at without receiving them"), "{}", page.text);
    let done = person.act("/ui/queues/in", "/ui/queues/in/pause", &[("reason", "stocktaking")]);
    assert!(person.notice(&done).contains("is paused"));
    assert!(person.get("/ui/queues/in").text.contains("stocktaking"));
    // Looking at dead letters receives them, so that page does not go on doing so.
    let dead = person.get("/ui/queues/in/dead");
    assert_eq!(dead.status, 200, "{}", dead.text);
    assert!(
        dead.text.contains("does not update itself") && !dead.text.contains("data-live"),
        "{}",
        dead.text
    );
    assert_eq!(person.get("/ui/live?page=/ui/queues/in/dead").status, 400);
}

#[test]
fn the_read_only_secret_receives_no_dead_letters_of_amazon_sqs() {
    let mut stage = Stage::new("reader");
    stage.queue("in", &[], "");
    stage.set("secret-file = \"secret\"\nread-only-secret-file = \"reader\"\n");
    let place = stage.place();
    std::fs::write(place.path().join("secret"), SECRET).unwrap();
    std::fs::write(place.path().join("reader"), READER).unwrap();
    let host = place.start();
    for (secret, status) in [(READER, 403), (SECRET, 200)] {
        let api = Browser::with(&host, &[("authorization", &format!("Bearer {secret}"))]);
        let seen = api.get("/queues/in/dead");
        assert_eq!(seen.status, status, "{}", seen.text);
    }
}
