//! What people do and meet in a browser: they log in and out, have several tabs, lose the network, and send what is wrong.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use harness::{
    browser,
    guests::no_op,
    host::{Host, Place},
    wait_for,
};
use serde_json::Value;

use super::{Browser, READER, SECRET, secured};

/// Asks for a live page, and returns the status and the answer, which goes on for as long as it is held.
fn stream(person: &Browser<'_>) -> (u16, ureq::http::Response<ureq::Body>) {
    let mut request = ureq::get(format!("{}/ui/live?page=/ui", person.host.url));
    for (name, value) in &person.headers {
        request = request.header(*name, value);
    }
    let answer = request.config().http_status_as_error(false).build().call().unwrap();
    (answer.status().as_u16(), answer)
}

#[test]
fn a_session_has_eight_live_pages_and_leaves_room_for_others() {
    let (_place, host) = secured("");
    let one = Browser::session(&host, SECRET);
    let mut open: Vec<_> = (0..8).map(|_| stream(&one)).collect();
    assert!(open.iter().all(|(status, _)| *status == 200));
    let (status, mut answer) = stream(&one);
    let why = answer.body_mut().read_to_string().unwrap();
    assert_eq!(status, 503);
    assert!(why.contains("8 pages of this session are live already"), "{why}");
    assert_eq!(stream(&Browser::session(&host, READER)).0, 200);
    drop(open.pop());
    wait_for("room for a page", || (stream(&one).0 == 200).then_some(()));
}

#[test]
fn a_send_from_a_page_has_its_parameters_in_the_audit_and_no_words_of_the_message() {
    let place = Place::new();
    place.configure("[queues.orders]\n");
    let host = place.start();
    host.wait_ready();
    let person = Browser::new(&host);
    let page = "/ui/queues/orders";
    let last = |number: usize| {
        wait_for("the line", || {
            let line = host.events("audit").get(number).cloned()?;
            let fields = &line["fields"];
            assert_eq!(fields["action"], "send message", "{line}");
            assert!(!line.to_string().contains("secret"), "{line}");
            Some(["what", "result"].map(|name| fields[name].as_str().unwrap().to_owned()))
        })
    };
    for (number, (delay, attributes, expected, result)) in [
        ("5s", "email=secret", "?group&delay=5s&attr.email", "done"),
        ("soon", "email=secret", "?group&delay=soon&attr.email", "refused: 400"),
        // The page refuses that itself.
        ("5s", "secret", "?group&delay=5s", "refused: 400"),
    ]
    .into_iter()
    .enumerate()
    {
        let fields = [
            ("body", "secret"),
            ("group", "secret"),
            ("delay", delay),
            ("attributes", attributes),
        ];
        person.act(page, &format!("{page}/send"), &fields);
        assert_eq!(last(number), [format!("/queues/orders{expected}"), result.to_owned()]);
    }
}

fn log_in(browser: &browser::Browser, host: &Host) {
    browser.open(&format!("{}/ui/queues/orders", host.url));
    browser.fill("input[name=secret]", SECRET);
    browser.click("main button[type=submit]");
    browser.wait_text("Send a message");
}

#[test]
fn a_person_logs_in_and_out_by_mouse() {
    let (_place, host) = secured("");
    let browser = browser::Browser::start();
    browser.open(&format!("{}/ui/queues/orders", host.url));
    browser.fill("input[name=secret]", "0123456789abcdeX");
    browser.click("main button[type=submit]");
    browser.wait_text("That is not the secret.");
    log_in(&browser, &host);
    assert!(browser.url().ends_with("/ui/queues/orders"), "{}", browser.url());
    browser.click("form[action='/ui/logout'] button");
    browser.wait_text("The secret of the listener opens everything");
    // Going back shows nothing that a cache has kept.
    browser.open(&format!("{}/ui/queues/orders", host.url));
    assert!(browser.has("input[name=secret]"), "{}", browser.url());
}

#[test]
fn a_tab_says_that_its_session_was_ended_in_another_one() {
    let (_place, host) = secured("");
    let browser = browser::Browser::start();
    log_in(&browser, &host);
    // Without updates, the page does not load itself again before somebody clicks.
    browser.press("p");
    assert_eq!(browser.text("#live"), "Paused");
    let first = browser.tab();
    let second = browser.open_tab();
    browser.go_to_tab(&second);
    browser.open(&format!("{}/ui/queues/orders", host.url));
    browser.click("form[action='/ui/logout'] button");
    browser.wait_text("The secret of the listener opens everything");
    browser.go_to_tab(&first);
    browser.click("#actions form[action$='/pause'] button");
    browser.wait_text("the session is over, and nothing was done: log in again");
}

/// A network between a browser and a host: slow, and sometimes away.
struct SlowNetwork {
    url: String,
    is_away: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl SlowNetwork {
    fn before(host: &Host) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let target = host.url.strip_prefix("http://").unwrap().to_owned();
        let (is_away, connections) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let network = Self {
            url,
            is_away: Arc::clone(&is_away),
            connections: Arc::clone(&connections),
        };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if is_away.load(Relaxed) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&target) else { break };
                let ends = [&client, &server].map(|stream| stream.try_clone().unwrap());
                connections.lock().unwrap().extend(ends);
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || carry(from, to));
                thread::spawn(move || carry(server, client));
            }
        });
        network
    }

    /// Ends all connections, and lets none begin.
    fn go_away(&self) {
        self.is_away.store(true, Relaxed);
        for stream in self.connections.lock().unwrap().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn come_back(&self) {
        self.is_away.store(false, Relaxed);
    }
}

/// Carries bytes, each piece late.
#[expect(
    clippy::disallowed_methods,
    reason = "the network is to be slow, and no test waits for that"
)]
fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; 4096];
    while let Ok(bytes @ 1..) = from.read(&mut piece) {
        thread::sleep(Duration::from_millis(100));
        if to.write_all(piece.get(..bytes).unwrap_or_default()).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}

#[test]
fn a_page_on_a_bad_network_says_that_it_is_not_live_and_is_so_again_by_itself() {
    let place = Place::new();
    place.install("mail", &no_op(), "");
    let host = place.start();
    host.wait_ready();
    let network = SlowNetwork::before(&host);
    let browser = browser::Browser::start();
    browser.open(&format!("{}/ui", network.url));
    wait_for("the page to be live", || {
        (browser.text("#live") == "Live").then_some(())
    });
    browser.run("window.here = true");
    host.post("/queues/mail/pause?reason=first", &Value::Null);
    browser.wait_text("first");
    network.go_away();
    wait_for("the page to say that it is not live", || {
        (browser.text("#live") == "Waiting for the host").then_some(())
    });
    host.post("/queues/mail/pause?reason=meanwhile", &Value::Null);
    network.come_back();
    browser.wait_text("meanwhile");
    assert_eq!(browser.text("#live"), "Live");
    assert_eq!(browser.run("return window.here"), true, "the page was loaded again");
}
