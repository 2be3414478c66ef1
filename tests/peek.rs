//! An operator looks at messages without receiving them, and puts back, corrects and deletes chosen dead letters.

#![expect(clippy::indexing_slicing, reason = "a wrong answer fails the test")]

use std::{collections::BTreeSet, fs, process::Output};

use harness::{
    guests::{forward, handler, obedient},
    host::{Host, Place},
    wait_for,
};
use serde_json::{Value, json};

/// Runs a command on a host, and returns its exit code, its output and its complaint.
fn ask(place: &Place, host: &Host, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = place.command();
    let Output { status, stdout, stderr } = command.args(arguments).args(["--url", &host.url]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Looks at a queue page by page, and returns all messages.
fn peek(host: &Host, queue: &str, query: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let page = host.get(&format!("/queues/{queue}/messages?{query}{after}"));
        found.extend(page["messages"].as_array().unwrap_or_else(|| panic!("{page}")).clone());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return found,
        }
    }
}

fn ids(messages: &[Value]) -> Vec<String> {
    let id = |message: &Value| message["id"].as_str().unwrap().to_owned();
    messages.iter().map(id).collect()
}

#[test]
fn a_search_among_many_messages_finds_one_while_a_handler_works_and_receives_none() {
    const MESSAGES: usize = 20_000;
    let place = Place::new();
    place.fill("orders", MESSAGES, b"d", 1000);
    place.install("orders", &obedient("out"), "[grant]\nsend = [\"out\"]\n");
    let host = place.start();
    host.wait_ready();
    let needle = host.try_send("orders", b"the needle", "delay=1h").unwrap();
    let mut searches = 0;
    wait_for("the handler to work off the rest", || {
        let found = peek(&host, "orders", "contains=needle");
        assert_eq!(ids(&found), [&*needle]);
        assert_eq!(
            (&found[0]["state"], &found[0]["receive-count"]),
            (&json!("delayed"), &json!(0))
        );
        searches += 1;
        (host.count("orders", "ready") == 0).then_some(())
    });
    assert!(searches > 1);
    wait_for("the end of the last attempts", || {
        (host.count("orders", "in-flight") == 0).then_some(())
    });
    let left = peek(&host, "orders", "");
    assert_eq!((ids(&left), left[0]["receive-count"].clone()), (vec![needle], json!(0)));
    assert_eq!(host.count("orders", "dead"), 0);
}

#[test]
fn a_peek_page_by_page_sees_each_waiting_message_once_and_leaves_it_there() {
    let place = Place::new();
    place.fill("orders", 5000, b"x", 1000);
    place.configure("[queues.orders]\n");
    let host = place.start();
    host.wait_ready();
    let found = ids(&peek(&host, "orders", "limit=777"));
    assert_eq!(found.len(), 5000);
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 5000);
    assert_eq!(host.count("orders", "ready"), 5000);
    assert_eq!(host.count("orders", "in-flight"), 0);
}

#[test]
fn what_a_handler_sent_can_be_seen_in_a_queue_without_a_handler() {
    let place = Place::new();
    place.install("orders", &forward(), "[grant]\nsend = [\"out\"]\n");
    let host = place.start();
    host.wait_ready();
    let long = "x".repeat(5000);
    for body in ["one", &long] {
        host.send("orders", body.as_bytes());
    }
    wait_for("both to arrive", || (host.count("out", "ready") == 2).then_some(()));
    let (code, lines, _) = ask(&place, &host, &["peek", "out"]);
    assert_eq!(code, Some(0), "{lines}");
    let lines: Vec<Vec<&str>> = lines.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let bodies: BTreeSet<_> = lines.iter().map(|line| line[5]).collect();
    assert_eq!(bodies, BTreeSet::from(["one", &*format!("{}…", &long[..4096])]));
    assert!(
        lines.iter().all(|line| (line[1], line[3]) == ("ready", "0")),
        "{lines:?}"
    );
    let one = lines.iter().find(|line| line[5] == "one").unwrap()[0];
    let (_, json, _) = ask(&place, &host, &["peek", "out", "--id", one, "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["messages"][0]["body"], "one");
    let (_, whole, _) = ask(&place, &host, &["peek", "out", "--contains", "xx", "--whole"]);
    assert!(whole.ends_with(&format!("\t{long}\n")), "{whole}");
    assert_eq!(host.get(&format!("/queues/out/messages/{one}"))["body"], "one");
    // They can still be received, for the first time.
    let received = host.post("/queues/out/receive?max=9", &json!({}));
    let messages = received["messages"].as_array().unwrap();
    assert!(
        messages.iter().all(|message| message["receive-count"] == 1),
        "{received}"
    );
    assert_eq!(peek(&host, "out", "state=in-flight").len(), 2);
}

#[test]
fn a_host_in_memory_lets_an_operator_look_too() {
    let mut place = Place::new();
    place.arguments = vec!["--ephemeral".to_owned()];
    place.configure("[queues.orders]\n");
    let host = place.start();
    host.wait_ready();
    for number in 0..600 {
        host.send("orders", number.to_string().as_bytes());
    }
    assert_eq!(peek(&host, "orders", "limit=1000").len(), 600);
    assert_eq!(peek(&host, "orders", "where=body%20=%20599").len(), 1);
    assert_eq!(host.count("orders", "ready"), 600);
}

#[test]
fn a_wrong_question_is_answered_with_what_is_accepted() {
    let place = Place::new();
    place.configure("[queues.orders]\n");
    let host = place.start();
    host.wait_ready();
    for (query, error) in [
        (
            "state=gone",
            "state=gone: use one of ready, held, in-flight, delayed, retry, damaged",
        ),
        ("after=x", "after=x: use the \"next\" of the answer before"),
        ("body-limit=1&whole", "use either whole or body-limit"),
        ("limit=0", "limit=0: use a whole number from 1 to 1000"),
        ("where=age%20=%201h", "character 5 of the filter, \"= 1h\": use < or >"),
    ] {
        let (status, answer) = host.text(&format!("/queues/orders/messages?{query}"));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, &answer["error"]), (400, &json!(error)));
    }
    let (status, _) = host.text("/queues/orders/messages/nope");
    assert_eq!(status, 404);
    let (code, _, complaint) = ask(&place, &host, &["dead", "list", "orders", "--where", "reson = x"]);
    assert_eq!(code, Some(2));
    assert!(
        complaint.contains("character 1 of the filter, \"reson = x\": use a field: id, body"),
        "{complaint}"
    );
}

/// A host whose queue `orders` has the dead letters `one`, `two` and `three`, with the attribute `n`.
fn host_with_dead_letters() -> (Place, Host, Vec<String>) {
    let place = Place::new();
    let reject = handler("(call $fail (i32.const 2) (i32.const 272) (i32.const 7) (i32.const 0))");
    place.install("orders", &reject, "concurrency = 1\n");
    let host = place.start();
    host.wait_ready();
    for (n, body) in ["one", "two", "three"].into_iter().enumerate() {
        host.try_send("orders", body.as_bytes(), &format!("attr.n={n}"))
            .unwrap();
    }
    wait_for("three dead letters", || {
        (host.count("orders", "dead") == 3).then_some(())
    });
    let ids = ids(&host.dead("orders"));
    (place, host, ids)
}

#[test]
fn dead_letters_are_chosen_by_a_filter() {
    let (place, host, ids) = host_with_dead_letters();
    let list = |filter: &str| ask(&place, &host, &["dead", "list", "orders", "--where", filter]).1;
    let listed = list("body ~ t and attr.n != 1");
    assert!(listed.contains(&ids[2]) && listed.lines().count() == 2, "{listed}");
    assert_eq!(list("age > 1h"), "orders has no such dead letters.\n");
    let redrive = ["dead", "redrive", "orders", "--where", "kind = reject and body ~ t"];
    let (code, planned, _) = ask(&place, &host, &[&redrive[..], &["--dry-run"]].concat());
    let expected = format!("would put back 2 dead letters:\n{}\n{}\n", ids[1], ids[2]);
    assert_eq!((code, planned), (Some(0), expected));
    assert_eq!(host.count("orders", "dead"), 3);
    let (code, done, _) = ask(&place, &host, &redrive);
    assert_eq!((code, &*done), (Some(0), "put 2 dead letters back into orders\n"));
    // Both fail again, and so are the youngest now.
    wait_for("both to die again", || {
        let dead: Vec<_> = host
            .dead("orders")
            .iter()
            .map(|letter| letter["body"].clone())
            .collect();
        (dead == [json!("one"), json!("two"), json!("three")]).then_some(())
    });
}

#[test]
fn a_list_by_a_filter_goes_on_where_it_ended_and_one_after_an_unknown_id_is_refused() {
    let (place, host, ids) = host_with_dead_letters();
    let list = |arguments: &[&str]| ask(&place, &host, &[&["dead", "list", "orders"], arguments].concat());
    let two = ["--where", "kind = reject", "--limit", "2"];
    let (code, first, complaint) = list(&two);
    assert_eq!(code, Some(0), "{complaint}");
    let (letters, rest_is) = first.split_once("There may be more: --after ").expect("a part");
    assert!(letters.contains(&ids[1]) && !letters.contains(&ids[2]), "{letters}");
    let (code, rest, complaint) = list(&[&two[..], &["--after", rest_is.trim_end()]].concat());
    assert_eq!(code, Some(0), "{complaint}");
    assert!(rest.contains(&ids[2]) && !rest.contains(&ids[1]), "{rest}");
    let (code, nothing, complaint) = list(&["--after", "zzz"]);
    assert_eq!((code, &*nothing), (Some(1), ""));
    assert!(
        complaint.contains("after=zzz: queue orders has no dead letter with this id"),
        "{complaint}"
    );
}

#[test]
fn a_deletion_of_what_a_dry_run_has_counted_leaves_what_died_later() {
    let (_place, host, _) = host_with_dead_letters();
    let mut request = json!({ "where": "kind = reject", "dry-run": true });
    let counted = host.post("/queues/orders/dead/delete", &request);
    assert_eq!(counted["messages"], 3, "{counted}");
    host.send("orders", b"four");
    wait_for("a fourth dead letter", || {
        (host.count("orders", "dead") == 4).then_some(())
    });
    request = json!({ "where": "kind = reject", "after": counted["counted"] });
    let deleted = host.post("/queues/orders/dead/delete", &request);
    assert_eq!(deleted["messages"], 3, "{deleted}");
    let left: Vec<_> = host
        .dead("orders")
        .iter()
        .map(|letter| letter["body"].clone())
        .collect();
    assert_eq!(left, [json!("four")]);
}

#[test]
fn dead_letters_are_deleted_one_by_one_or_by_a_filter_and_only_on_confirmation() {
    let (place, host, ids) = host_with_dead_letters();
    let delete = |arguments: &[&str]| ask(&place, &host, &[&["dead", "delete", "orders"], arguments].concat());
    let (code, _, complaint) = delete(&[&ids[0]]);
    let expected = "sandhog: this deletes 1 dead letter of orders for good: repeat it with --yes\n";
    assert_eq!((code, &*complaint), (Some(2), expected));
    assert_eq!(host.count("orders", "dead"), 3);
    let (code, done, _) = delete(&[&ids[0], "--yes"]);
    assert_eq!((code, &*done), (Some(0), "deleted 1 dead letter of orders\n"));
    let (code, _, complaint) = delete(&[&ids[0], "--yes"]);
    let expected = "sandhog: this id is not that of a dead letter of orders\n";
    assert_eq!((code, &*complaint), (Some(1), expected));
    let (code, planned, _) = delete(&["--where", "body = three", "--dry-run"]);
    assert_eq!(
        (code, planned),
        (Some(0), format!("would delete 1 dead letter:\n{}\n", ids[2]))
    );
    let (code, done, _) = delete(&["--where", "body = three", "--yes"]);
    assert_eq!((code, &*done), (Some(0), "deleted 1 dead letter of orders\n"));
    let (code, _, complaint) = delete(&["--yes"]);
    assert_eq!(code, Some(2), "{complaint}");
    assert_eq!(ids_of_dead(&host), [&*ids[1]]);
}

fn ids_of_dead(host: &Host) -> Vec<String> {
    ids(&host.dead("orders"))
}

#[test]
fn a_dead_letter_is_corrected_and_sent_again_in_its_own_place() {
    let (place, host, ids) = host_with_dead_letters();
    place.install("orders", &forward(), "[grant]\nsend = [\"out\"]\n");
    wait_for("the handler that forwards", || {
        host.send("orders", b"probe");
        (host.counts("out")["ready"].as_u64()? > 0).then_some(())
    });
    host.wait_empty("orders");
    host.take_all("out");
    let dead_before = host.count("orders", "dead");
    fs::write(place.path().join("fixed.txt"), "fixed").unwrap();
    let edit = [
        "dead",
        "edit",
        "orders",
        &ids[1],
        "--body",
        "fixed.txt",
        "--attr",
        "n=9",
    ];
    let (code, new, complaint) = ask(&place, &host, &edit);
    assert_eq!(code, Some(0), "{complaint}");
    assert_ne!(new.trim(), ids[1]);
    wait_for("the corrected message to be handled", || {
        (host.take_one("out")? == "fixed").then_some(())
    });
    assert_eq!(host.count("orders", "dead"), dead_before - 1);
    assert!(!ids_of_dead(&host).contains(&ids[1]));
    let (code, _, complaint) = ask(&place, &host, &edit);
    assert_eq!(code, Some(1));
    assert!(complaint.contains("has no dead letter"), "{complaint}");
    let (code, _, complaint) = ask(&place, &host, &["dead", "edit", "orders", &ids[0]]);
    assert_eq!(code, Some(2));
    assert!(complaint.contains("say what is to change"), "{complaint}");
}

#[test]
fn a_message_that_was_looked_at_is_sent_again_and_names_the_old_one() {
    let place = Place::new();
    place.configure("[queues.orders]\n");
    let host = place.start();
    host.wait_ready();
    let first = host.try_send("orders", b"\xff\x00", "attr.n=1&priority=3").unwrap();
    let (code, new, complaint) = ask(&place, &host, &["send", "orders", "--again", &first]);
    assert_eq!(code, Some(0), "{complaint}");
    let both = peek(&host, "orders", "attr.n=1");
    assert_eq!(ids(&both), [&*first, new.trim()]);
    assert_eq!((&both[1]["parent"], &both[0]["parent"]), (&json!(first), &Value::Null));
    for key in ["body-base64", "priority", "attributes"] {
        assert_eq!(both[0][key], both[1][key], "{key}");
    }
    let (code, _, _) = ask(&place, &host, &["send", "orders", "--again", "nope"]);
    assert_eq!(code, Some(1));
}
