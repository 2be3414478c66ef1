//! Parameters and bodies are taken for what they are or refused, and never cost more than they may.

use std::thread;

use harness::process::peak_memory;
use serde_json::{Value, json};

use super::{
    call, check_refused, host, raw, receive,
    served::{Served, patient},
};

#[test]
fn a_parameter_that_is_no_text_is_refused_by_its_name() {
    let (_place, host) = host("[queues.orders]");
    // Both became the same id, and the second message was gone.
    for (target, why) in [
        ("?dedup=%ff", "dedup: its bytes are not UTF-8"),
        ("?dedup=%fe", "dedup: its bytes are not UTF-8"),
        ("?attr.n=%c3", "attr.n: its bytes are not UTF-8"),
        (
            "?group=50%",
            "group: a % is followed by two hexadecimal digits; the sign itself is %25",
        ),
        ("?attr.n=1&attr.n=2", "attr.n is given twice"),
        ("/receive?max=1&max=1", "max is given twice"),
    ] {
        check_refused(&host, &format!("POST /queues/orders{target}"), b"x", (400, why));
    }
    let (status, answer) = call(&host, "GET /queues/%ff", &Value::Null);
    assert_eq!((status, answer["error"].is_string()), (400, true), "{answer}");
    assert_eq!(host.count("orders", "ready"), 0);
}

#[test]
fn a_body_that_is_coded_is_refused_and_not_stored() {
    let (_place, host) = host("[queues.orders]");
    let gzip = "content-encoding gzip: send the body as it is, without a coding";
    for head in ["POST /queues/orders", "POST /queues/orders/batch"] {
        check_refused(&host, &format!("{head}\nContent-Encoding: gzip"), b"x", (415, gzip));
    }
    let form = "content-type multipart/form-data; boundary=b: the parts of a form are not taken apart; send the content itself, as with curl --data-binary";
    let head = "POST /queues/orders\nContent-Type: multipart/form-data; boundary=b";
    check_refused(&host, head, b"x", (415, form));
    assert_eq!(host.count("orders", "ready"), 0);
    for header in [
        "Content-Encoding: identity",
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Type: text/plain; charset=iso-8859-1",
    ] {
        assert_eq!(
            raw(&host, &format!("POST /queues/orders\n{header}"), b"\xe9=%").0,
            200,
            "{header}"
        );
        // Byte for byte, whatever it is called.
        assert_eq!(receive(&host, "")[0]["body-base64"], json!("6T0l"));
    }
}

#[test]
fn a_transfer_coding_is_refused_and_not_stored() {
    let served = Served::new(patient());
    let ask = |coding: &str| {
        let head = format!("POST /queues/orders HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: {coding}\r\n");
        served
            .say(&format!("{head}connection: close\r\n\r\n1\r\nx\r\n0\r\n\r\n"))
            .status()
    };
    assert_eq!(ask("gzip, chunked"), 501);
    assert!((400..600).contains(&ask("gzip")));
    assert_eq!(ask("chunked"), 200);
}

#[test]
fn a_client_that_asks_before_it_sends_is_told_to_go_on_or_is_refused() {
    let served = Served::new(patient());
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\nexpect: 100-continue\r\nconnection: close\r\n"
        )
    };
    let mut client = served.say(&format!("{}\r\n", head("/queues/orders")));
    assert_eq!(client.hear(25), "HTTP/1.1 100 Continue\r\n\r\n");
    client.say(b"x");
    assert_eq!(client.status(), 200);
    let refused = served
        .say(&format!("{}content-encoding: gzip\r\n\r\n", head("/queues/orders")))
        .rest();
    assert!(refused.starts_with("HTTP/1.1 415"), "{refused}");
    assert!(refused.contains("accept-encoding: identity"), "{refused}");
}

#[test]
fn a_batch_of_millions_costs_no_more_than_its_bytes() {
    let (_place, host) = host("[queues.orders]");
    let mut bomb = b"{\"messages\":[".to_vec();
    while bomb.len() < 16 * 1024 * 1024 - 3 {
        bomb.extend_from_slice(b"{},");
    }
    // One took 1.5 GB, and sixteen 4 GB.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let (status, answer) = raw(&host, "POST /queues/orders/batch", &bomb);
                let why = "the body: more than 1000 messages: send 1 to 1000 at line 1 column 3016";
                assert_eq!((status, answer), (400, json!({ "error": why }).to_string()));
            });
        }
    });
    let peak = peak_memory(host.id()) / 1024;
    assert!(peak < 400, "{peak} MiB");
}

#[test]
fn a_redrive_names_a_thousand_ids_at_most() {
    let (_place, host) = host("[queues.orders]");
    let ids = json!({ "ids": vec!["x"; 1001] });
    let (status, answer) = call(&host, "POST /queues/orders/dead/redrive", &ids);
    assert_eq!(status, 400);
    let why = answer["error"].as_str().expect("a reason");
    assert!(why.starts_with("the body: more than 1000 ids: send 1 to 1000"), "{why}");
}

#[test]
fn a_refusal_does_not_repeat_all_of_what_it_refuses() {
    let (_place, host) = host("[queues.orders]");
    let body = json!({ "messages": [{ "x".repeat(1_000_000): 1 }] });
    let (status, answer) = call(&host, "POST /queues/orders/batch", &body);
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().is_some_and(|why| why.len() < 5000));
}
