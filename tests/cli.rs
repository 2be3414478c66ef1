//! The command line: what it says, what it does with a running host, and its exit codes.

#![expect(clippy::indexing_slicing, reason = "a wrong answer fails the test")]

use std::{
    io::{Read as _, Write as _},
    process::{Command, Output, Stdio},
};

use harness::{
    guests::handler,
    host::{Host, Place},
    wait_for,
};
use serde_json::{Value, json};

/// What a finished command has to say.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn said(output: Output) -> Said {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

fn sandhog(arguments: &[&str]) -> Said {
    said(
        Place::new()
            .command()
            .args(arguments)
            .output()
            .expect("the binary runs"),
    )
}

fn ask(place: &Place, host: &Host, arguments: &[&str]) -> Said {
    said(
        place
            .command()
            .args(arguments)
            .args(["--url", &host.url])
            .output()
            .expect("the binary runs"),
    )
}

fn ask_with_input(place: &Place, host: &Host, arguments: &[&str], input: &[u8]) -> Said {
    let mut command: Command = place.command();
    command.args(arguments).args(["--url", &host.url]);
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("the binary runs");
    child.stdin.take().expect("a pipe").write_all(input).expect("it reads");
    said(child.wait_with_output().expect("it ends"))
}

/// A host with an empty queue `orders` and no handler.
fn host_with_orders(settings: &str) -> (Place, Host) {
    let place = Place::new();
    place.configure(&format!("[queues.orders]\n{settings}"));
    let host = place.start();
    host.wait_ready();
    (place, host)
}

/// A host whose queue `orders` has three dead letters; the first one's body would clear a terminal.
fn host_with_dead_letters() -> (Place, Host) {
    let place = Place::new();
    let reject = handler("(call $fail (i32.const 2) (i32.const 272) (i32.const 7) (i32.const 0))");
    // One after another, so that they die in the order sent.
    place.install("orders", &reject, "concurrency = 1\n");
    let host = place.start();
    host.wait_ready();
    for body in [b"\x1b[2J\n".as_slice(), b"two", b"\xff\xfe"] {
        host.send("orders", body);
    }
    wait_for("three dead letters", || {
        (host.count("orders", "dead") == 3).then_some(())
    });
    (place, host)
}

fn dead_ids(place: &Place, host: &Host) -> Vec<String> {
    let said = ask(place, host, &["dead", "list", "orders", "--json"]);
    let answer: Value = serde_json::from_str(&said.out).expect("JSON");
    let letters = answer["dead-letters"].as_array().expect("a list").clone();
    letters
        .iter()
        .map(|letter| letter["id"].as_str().expect("an id").to_owned())
        .collect()
}

#[test]
fn the_help_lists_every_command_and_every_exit_code() {
    let help = sandhog(&["--help"]);
    assert_eq!(help.code, Some(0));
    for word in [
        "run",
        "send",
        "invoke",
        "check",
        "queues",
        "handlers",
        "peek",
        "tail",
        "trace",
        "profile",
        "pause",
        "resume",
        "drain",
        "purge",
        "delete",
        "reload",
        "versions",
        "deploy",
        "rollback",
        "promote",
        "dead",
        "replay",
        "health",
        "backup",
        "completions",
    ] {
        assert!(help.out.contains(&format!("\n  {word} ")), "{word} in {}", help.out);
    }
    for code in [0, 1, 2, 3, 4, 5, 6, 64, 69, 70, 74, 75, 130, 143] {
        assert!(help.out.contains(&format!("\n  {code:<3}  ")), "{code} in {}", help.out);
    }
}

#[test]
fn the_help_of_a_command_has_examples() {
    for command in [
        "run", "send", "invoke", "versions", "deploy", "rollback", "promote", "backup", "drain", "health",
    ] {
        let help = sandhog(&[command, "--help"]);
        assert!(
            help.out.contains(&format!("Examples:\n  sandhog {command} ")),
            "{}",
            help.out
        );
    }
}

#[test]
fn the_version_names_the_engine() {
    let version = sandhog(&["--version"]);
    assert_eq!(
        (version.code, version.out.as_str()),
        (Some(0), "sandhog 0.1.0 (engine: wasmtime 48)\n")
    );
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for arguments in [
        &["nope"][..],
        &["send", "orders"],
        &["send", "no/queue", "x"],
        &["send", "orders", "x", "--priority", "10"],
        &["send", "orders", "x", "--delay", "soon"],
        &["send", "orders", "x", "--lines"],
        &["run", "--ephemeral", "--data", "x"],
        &["dead", "list", "orders", "--limit", "0"],
    ] {
        let said = sandhog(arguments);
        assert_eq!(said.code, Some(2), "{arguments:?}: {said:?}");
        assert!(!said.err.is_empty());
    }
}

#[test]
fn without_a_host_a_command_says_how_to_start_one() {
    // Port 1 is nobody's.
    for arguments in [&["queues"][..], &["send", "orders", "x"], &["dead", "list", "orders"]] {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--listen", "127.0.0.1:1"]);
        let said = sandhog(&arguments);
        assert_eq!(said.code, Some(69), "{said:?}");
        let expected = "sandhog: no sandhog host answers at http://127.0.0.1:1: start one with `sandhog run`, or set SANDHOG_URL\n";
        assert!(said.err.starts_with(expected), "{}", said.err);
        assert_eq!(said.out, "");
    }
}

#[test]
fn a_wrong_configuration_ends_with_64_after_listing_every_mistake() {
    let place = Place::new();
    place.configure("grace-period = 30\n[queues.orders]\nmax-receives = 0\n");
    let said = said(
        place
            .command()
            .args(["run", "sandhog.toml"])
            .output()
            .expect("the binary runs"),
    );
    let expected = "sandhog: 2 mistakes in the configuration
  sandhog.toml:1: grace-period = 30: use a duration from 0s to 12h, such as \"30s\"
  sandhog.toml:3: queues.orders.max-receives = 0: use a whole number from 1 to 1000
";
    assert_eq!((said.code, said.err.as_str()), (Some(64), expected));
}

#[test]
fn an_address_that_is_taken_ends_with_69() {
    let (place, host) = host_with_orders("");
    let address = host.url.strip_prefix("http://").expect("a URL");
    let second = place
        .command()
        .args(["run", "plugins", "--ephemeral", "--listen", address])
        .output();
    let second = said(second.expect("the binary runs"));
    assert_eq!(second.code, Some(69), "{second:?}");
    assert!(second.err.contains(address), "{}", second.err);
}

#[test]
fn a_filter_that_is_none_ends_with_64() {
    let place = Place::new();
    let output = place
        .command()
        .arg("queues")
        .env("SANDHOG_LOG", "sandhog=loud")
        .output()
        .expect("the binary runs");
    let said = said(output);
    assert_eq!(said.code, Some(64), "{said:?}");
    assert!(
        said.err.contains("SANDHOG_LOG = \"sandhog=loud\" is not a filter"),
        "{}",
        said.err
    );
}

#[test]
fn a_message_is_sent_with_everything_the_command_line_says() {
    let (place, host) = host_with_orders("");
    let arguments = [
        "send",
        "orders",
        "hello",
        "--attr",
        "tenant=a=b",
        "--group",
        "g",
        "--priority",
        "7",
        "--dedup",
        "d",
    ];
    let said = ask(&place, &host, &arguments);
    assert_eq!(said.code, Some(0), "{said:?}");
    let id = said.out.trim_end();
    let message = host.post("/queues/orders/receive", &Value::Null)["messages"][0].clone();
    assert_eq!(
        (message["id"].as_str(), message["body"].as_str()),
        (Some(id), Some("hello"))
    );
    assert_eq!(message["attributes"], json!({ "tenant": { "text": "a=b" } }));
    assert_eq!((&message["group-id"], &message["priority"]), (&json!("g"), &json!(7)));
    let again = ask(&place, &host, &arguments);
    assert_eq!(
        again.out.trim_end(),
        id,
        "a duplicate is answered with the first one's id"
    );
}

#[test]
fn a_body_can_be_any_bytes_of_standard_input() {
    let (place, host) = host_with_orders("");
    let said = ask_with_input(&place, &host, &["send", "orders", "-"], b"\xff\0\n");
    assert_eq!(said.code, Some(0), "{said:?}");
    let message = host.post("/queues/orders/receive", &Value::Null)["messages"][0].clone();
    assert_eq!(message["body-base64"], json!("/wAK"));
}

#[test]
fn a_body_can_begin_with_a_hyphen() {
    let (place, host) = host_with_orders("");
    assert_eq!(ask(&place, &host, &["send", "orders", "-1"]).code, Some(0));
    assert_eq!(host.take_all("orders"), ["-1"]);
}

#[test]
fn every_line_is_a_message_in_order() {
    let (place, host) = host_with_orders("");
    let lines: Vec<String> = (0..2500).map(|number| format!("line {number}")).collect();
    let input = lines.join("\n").replace("line 7\n", "line 7\r\n");
    let said = ask_with_input(&place, &host, &["send", "orders", "--lines"], input.as_bytes());
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(0), "sent 2500 messages to orders\n"),
        "{}",
        said.err
    );
    assert_eq!(host.take_all("orders"), lines);
}

#[test]
fn a_line_that_is_not_accepted_is_named_with_how_many_were_sent() {
    let (place, host) = host_with_orders("max-messages = 2\n");
    let said = ask_with_input(&place, &host, &["send", "orders", "--lines"], b"1\n2\n3\n");
    let expected = "sandhog: line 3 was not sent: queue orders is full: it holds its limit of 2 messages (max-messages); 2 lines were sent\n";
    assert_eq!((said.code, said.err.as_str()), (Some(1), expected));
}

#[test]
fn a_message_that_the_store_can_not_take_now_ends_with_69() {
    let (place, host) = host_with_orders("");
    host.send("orders", b"first");
    let tool = rusqlite::Connection::open(place.data().join("queues.db")).expect("the database");
    tool.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    // It passes, and the message is not the reason: code 1 told scripts to give it up.
    let said = ask(&place, &host, &["send", "orders", "x"]);
    assert_eq!(said.code, Some(69), "{said:?}");
    assert!(
        said.err.contains("unavailable") && said.err.contains("try again later"),
        "{}",
        said.err
    );
    tool.execute_batch("ROLLBACK").expect("the end of it");
    let said = ask_with_input(&place, &host, &["send", "orders", "-", "--lines"], b"second\n");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(host.take_all("orders"), ["first", "second"]);
}

#[test]
fn what_a_server_says_is_escaped() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("its address").to_string();
    let answering = std::thread::spawn(move || {
        let (mut connection, _) = server.accept().expect("a client");
        let mut asked = [0; 4096];
        let read = connection.read(&mut asked).expect("a request");
        assert!(read > 0);
        let body = json!({ "error": "\u{1b}[2J\nsandhog: all is well" }).to_string();
        let length = body.len();
        write!(
            connection,
            "HTTP/1.1 400 No\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
        .expect("an answer");
    });
    let said = sandhog(&["queues", "--listen", &address]);
    answering.join().expect("the server ends");
    assert_eq!(
        (said.code, said.err.as_str()),
        (Some(1), "sandhog: \\u{1b}[2J\n  sandhog: all is well\n")
    );
}

#[test]
fn a_hidden_command_is_never_suggested() {
    let said = sandhog(&["completions"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(!said.err.contains("compile'"), "{}", said.err);
    assert!(sandhog(&["quees"]).err.contains("'queues'"));
}

#[test]
fn a_reason_of_several_lines_stays_one() {
    let place = Place::new();
    let text = "(data (i32.const 8192) \"one\\nsend = [\\22two\\22]\")";
    let reject = "(call $fail (i32.const 2) (i32.const 8192) (i32.const 18) (i32.const 0))";
    place.install("orders", &harness::guests::handler_with(reject, text, 16), "");
    let host = place.start();
    host.wait_ready();
    host.send("orders", b"x");
    wait_for("the dead letter", || (host.count("orders", "dead") == 1).then_some(()));
    // Its line end was stored as a backslash and an n, for good.
    assert_eq!(host.dead("orders")[0]["failure"]["reason"], "one\nsend = [\"two\"]");
    let ids = dead_ids(&place, &host);
    let shown = ask(&place, &host, &["dead", "show", "orders", &ids[0]]);
    assert!(
        shown.out.contains("reason      one\n            send = [\"two\"]\n"),
        "{}",
        shown.out
    );
    let listed = ask(&place, &host, &["dead", "list", "orders"]);
    assert!(listed.out.contains("  one …  "), "{}", listed.out);
}

#[test]
fn a_queue_that_does_not_exist_is_refused_with_the_names_of_those_that_do() {
    let (place, host) = host_with_orders("");
    let said = ask(&place, &host, &["send", "oders", "x"]);
    let expected = "sandhog: no queue \"oders\"; known queues: orders, orders-dead\n";
    assert_eq!((said.code, said.err.as_str()), (Some(1), expected));
}

#[test]
fn the_queues_are_a_table_for_people() {
    let (place, host) = host_with_orders("");
    host.send("orders", b"x");
    host.post("/queues/orders/receive", &Value::Null);
    let said = ask(&place, &host, &["queues"]);
    let expected = "\
QUEUE        READY  IN FLIGHT  DELAYED  OLDEST  DEAD  IN/MIN  DONE/MIN  FAILED/MIN
orders           0          1        0       -     0       1         0           0
orders-dead      0          0        0       -     0       0         0           0
";
    assert_eq!((said.code, said.out.as_str()), (Some(0), expected), "{}", said.err);
}

#[test]
fn the_queues_are_json_for_programs() {
    let (place, host) = host_with_orders("");
    let said = ask(&place, &host, &["queues", "--json"]);
    let answer: Value = serde_json::from_str(&said.out).expect("JSON");
    let orders = json!({
        "name": "orders", "ready": 0, "in-flight": 0, "delayed": 0, "oldest-age-ms": null, "dead": 0, "damaged": 0,
        "standstill": null, "halt": null, "last-minute": { "arrived": 0, "handled": 0, "failed": 0 },
    });
    assert_eq!(answer["queues"][0], orders);
}

#[test]
fn dead_letters_are_listed_without_what_a_terminal_would_obey() {
    let (place, host) = host_with_dead_letters();
    let said = ask(&place, &host, &["dead", "list", "orders"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!said.out.contains('\u{1b}'), "{:?}", said.out);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 4, "{}", said.out);
    assert!(lines[1].contains("  reject   because  \\u{1b}[2J\\n"), "{}", said.out);
    assert!(lines[2].ends_with("  two"), "{}", said.out);
    assert!(
        lines[3].ends_with("  (2 bytes that are not text; --json shows them)"),
        "{}",
        said.out
    );
}

#[test]
fn a_list_of_dead_letters_goes_on_where_it_ended() {
    let (place, host) = host_with_dead_letters();
    let ids = dead_ids(&place, &host);
    let first = ask(&place, &host, &["dead", "list", "orders", "--limit", "2"]);
    assert!(
        first.out.ends_with(&format!("There may be more: --after {}\n", ids[1])),
        "{}",
        first.out
    );
    let rest = ask(
        &place,
        &host,
        &["dead", "list", "orders", "--limit", "2", "--after", &ids[1]],
    );
    assert!(
        rest.out.contains(&ids[2]) && rest.out.lines().count() == 2,
        "{}",
        rest.out
    );
}

// A page of large letters ends before the limit, and was taken for the last one.
#[test]
fn a_list_of_large_dead_letters_says_that_it_is_a_part() {
    let (place, host) = {
        let place = Place::new();
        place.configure("[queues.orders]\nmax-receives = 1");
        let reject = handler("(call $fail (i32.const 2) (i32.const 272) (i32.const 7) (i32.const 0))");
        place.install("orders", &reject, "");
        let host = place.start();
        host.wait_ready();
        (place, host)
    };
    for _ in 0..20 {
        host.send("orders", &vec![b'a'; 1_000_000]);
    }
    wait_for("twenty dead letters", || {
        (host.count("orders", "dead") == 20).then_some(())
    });
    let list = |more: &[&str]| ask(&place, &host, &[&["dead", "list", "orders"], more].concat());
    let first = list(&["--limit", "100"]);
    let (letters, after) = first.out.split_once("There may be more: --after ").expect("a part");
    assert!(letters.lines().count() < 21, "{}", first.out);
    let rest = list(&["--after", after.trim_end()]);
    assert!(!rest.out.contains("There may be more"), "{}", rest.out);
    assert_eq!(letters.lines().count() + rest.out.lines().count(), 22, "{}", rest.out);
}

#[test]
fn a_dead_letter_is_shown_with_why_it_failed() {
    let (place, host) = host_with_dead_letters();
    let ids = dead_ids(&place, &host);
    let said = ask(&place, &host, &["dead", "show", "orders", &ids[1]]);
    for line in [
        &format!("id          {}\n", ids[1]),
        "queue       orders\n",
        "receives    1\n",
        "failure     reject\n",
        "reason      because\n",
        "handler     orders\n",
        "body        two\n",
    ] {
        assert!(said.out.contains(line), "{line:?} in {}", said.out);
    }
    let unknown = ask(&place, &host, &["dead", "show", "orders", "nope"]);
    assert_eq!(
        (unknown.code, unknown.err.as_str()),
        (Some(1), "sandhog: queue orders has no dead letter \"nope\"\n")
    );
}

#[test]
fn a_redriven_message_is_tried_again() {
    let (place, host) = host_with_dead_letters();
    let ids = dead_ids(&place, &host);
    let said = ask(&place, &host, &["dead", "redrive", "orders", &ids[1]]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(0), "put 1 dead letter back into orders\n"),
        "{}",
        said.err
    );
    // It is rejected again, and so it is now the youngest.
    wait_for("the second death", || {
        (dead_ids(&place, &host) == [&*ids[0], &ids[2], &ids[1]]).then_some(())
    });
    let all = ask(&place, &host, &["dead", "redrive", "orders"]);
    assert_eq!(all.out, "put 3 dead letters back into orders\n");
}

#[test]
fn an_id_that_cannot_be_redriven_ends_with_1() {
    let (place, host) = host_with_dead_letters();
    let said = ask(&place, &host, &["dead", "redrive", "orders", "nope"]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(1), "put 0 dead letters back into orders\n")
    );
    assert_eq!(said.err, "sandhog: this id is not that of a dead letter of orders\n");
}

#[test]
fn dead_letters_are_deleted_only_on_confirmation() {
    let (place, host) = host_with_dead_letters();
    let asked = ask(&place, &host, &["dead", "purge", "orders"]);
    let expected = "sandhog: this deletes all dead letters of orders for good (3 now): repeat it with --yes\n";
    assert_eq!((asked.code, asked.err.as_str()), (Some(2), expected));
    assert_eq!(host.count("orders", "dead"), 3);
    let done = ask(&place, &host, &["dead", "purge", "orders", "--yes"]);
    assert_eq!(
        (done.code, done.out.as_str()),
        (Some(0), "deleted 3 dead letters of orders\n"),
        "{}",
        done.err
    );
    let empty = ask(&place, &host, &["dead", "list", "orders"]);
    assert_eq!(empty.out, "orders has no dead letters.\n");
}

#[test]
fn a_host_with_a_secret_is_asked_with_it() {
    let place = Place::new();
    std::fs::write(place.path().join("secret"), "0123456789abcdef\n").expect("a file");
    place.configure("secret-file = \"secret\"\n[queues.orders]\n");
    let host = place.start();
    host.wait_ready();
    let without = ask(&place, &host, &["queues"]);
    let expected = format!(
        "sandhog: the host at {} has a secret: set SANDHOG_SECRET to it\n",
        host.url
    );
    assert_eq!((without.code, without.err), (Some(1), expected));
    let with = |secret: &str| {
        let mut command = place.command();
        command
            .env("SANDHOG_SECRET", secret)
            .args(["queues", "--url", &host.url]);
        said(command.output().expect("the binary runs")).code
    };
    assert_eq!(
        (with("0123456789abcdef"), with("0123456789abcdeX"), with("short")),
        (Some(0), Some(1), Some(64))
    );
    assert_eq!(with("0123456789abcdef\n"), Some(0), "a line end is no part of it");
    let mut command = place.command();
    command
        .envs([
            ("SANDHOG_SECRET", "0123456789abcdef"),
            ("SANDHOG_URL", &format!("{}\n", host.url)),
        ])
        .args(["queues"]);
    assert_eq!(said(command.output().expect("the binary runs")).code, Some(0));
}

#[test]
fn a_variable_for_the_host_that_is_set_to_nothing_is_not_set() {
    let place = Place::new();
    let mut command = place.command();
    // A host of somebody else may run at the address that it asks then.
    command.env("SANDHOG_URL", "").args(["queues"]);
    let answer = said(command.output().expect("the binary runs"));
    assert!(
        answer.code == Some(0) || answer.err.contains("http://127.0.0.1:9324"),
        "{}",
        answer.err
    );
}

#[test]
fn a_secret_that_is_not_unicode_is_not_taken_for_none() {
    use std::os::unix::ffi::OsStrExt as _;
    let place = Place::new();
    let mut command = place.run();
    command.env("SANDHOG_SECRET", std::ffi::OsStr::from_bytes(b"0123456789abcdef\xff"));
    let refused = said(command.output().expect("the binary runs"));
    assert!(
        refused
            .err
            .contains("SANDHOG_SECRET: it has a character beyond ASCII inside"),
        "{}",
        refused.err
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let (place, host) = host_with_orders("");
    let mut command = place.command();
    command
        .args(["queues", "--json", "--url", &host.url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    drop(child.stdout.take());
    let said = said(child.wait_with_output().expect("it ends"));
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
}

/// A place with one component, rejecting every message, and its path.
fn place_with_rejecting_component(manifest: &str) -> (Place, String) {
    let place = Place::new();
    let reject = handler("(call $fail (i32.const 2) (i32.const 272) (i32.const 7) (i32.const 0))");
    place.install("orders", &reject, manifest);
    let file = place.plugin("orders.wasm").display().to_string();
    (place, file)
}

fn run_in(place: &Place, arguments: &[&str]) -> Said {
    said(place.command().args(arguments).output().expect("the binary runs"))
}

#[test]
fn a_component_that_the_host_would_accept_is_described() {
    let (place, file) = place_with_rejecting_component("[grant]\nsend = [\"out\"]\n");
    let said = run_in(&place, &["check", &file, "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let facts: Value = serde_json::from_str(&said.out).expect("JSON");
    for (key, value) in [
        ("queue", json!("orders")),
        ("grant.send", json!(["out"])),
        ("timeout", json!("30s")),
    ] {
        assert_eq!(facts[key], value, "{key}");
    }
}

#[test]
fn a_grant_that_the_component_does_not_import_is_a_warning() {
    let manifest = "[grant]\nsend = [\"out\"]\nconfig = {}\nhttp = [\"https://example.com\"]\nkeyvalue = true\n";
    let (place, file) = place_with_rejecting_component(manifest);
    let said = run_in(&place, &["check", &file, "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let facts: Value = serde_json::from_str(&said.out).expect("JSON");
    let warning = |grant: &str, import: &str| {
        format!("grant.{grant}: the component imports no {import}; remove it, or build the handler with it")
    };
    let warnings = [
        warning("send", "sandhog:worker/sender"),
        warning("config", "wasi:config"),
        warning("http", "wasi:http"),
        warning("keyvalue", "wasi:keyvalue"),
    ];
    assert_eq!(facts["warnings"], json!(warnings));
    let said = run_in(&place, &["check", &file]);
    assert!(
        warnings.iter().all(|warning| said.out.contains(warning)),
        "{}",
        said.out
    );
    // The host says it, too, once it serves.
    let host = place.start();
    host.wait_ready();
    // The log comes by a way of its own.
    let told = wait_for("the warnings in the log", || {
        let events = host.events("a grant of the manifest is of no use");
        (events.len() >= warnings.len()).then_some(events)
    });
    let told: Vec<_> = told
        .iter()
        .map(|event| event["fields"]["warning"].as_str().expect("a text").to_owned())
        .collect();
    assert_eq!(told, warnings);
}

#[test]
fn a_grant_that_is_used_is_no_warning() {
    let place = Place::new();
    place.install("orders", &harness::guests::forward(), "[grant]\nsend = [\"out\"]\n");
    place.install("print", &harness::guests::program(), "stdout = \"out\"\n");
    for file in ["plugins/orders.wasm", "plugins/print.wasm"] {
        let said = run_in(&place, &["check", file, "--json"]);
        let facts: Value = serde_json::from_str(&said.out).expect("JSON");
        assert_eq!(facts["warnings"], json!([]), "{file}");
    }
}

#[test]
fn a_component_that_the_host_would_refuse_ends_with_1() {
    let (place, file) = place_with_rejecting_component("");
    std::fs::write(&file, "not a component").expect("a file");
    let said = run_in(&place, &["check", &file]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("size-bytes             15\n"), "{}", said.out);
    assert!(said.out.starts_with("refused: "), "{}", said.out);
    assert_eq!(said.err, "");
    let json = run_in(&place, &["check", &file, "--json"]);
    let facts: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!((json.code, &facts["accepted"]), (Some(1), &json!(false)));
    assert!(
        facts["refusal"]
            .as_str()
            .expect("a text")
            .contains("is not a WebAssembly component"),
        "{facts}"
    );
}

#[test]
fn a_component_without_its_grants_is_described_with_what_it_needs() {
    let place = Place::new();
    place.install("orders", &harness::guests::forward(), "");
    let said = run_in(&place, &["check", "plugins/orders.wasm"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    for words in ["(needs grant.send)", "flavour                handler", "cpu-time"] {
        assert!(said.out.contains(words), "{words} in {}", said.out);
    }
    assert!(said.out.contains("[grant]\nsend = [\"QUEUE\"]"), "{}", said.out);
    assert_eq!(said.err, "");
    // Once for what it is, and once more for what it wants.
    let told = place
        .command()
        .env("SANDHOG_LOG", "info")
        .args(["check", "plugins/orders.wasm"])
        .output();
    let told = self::said(told.expect("the binary runs"));
    assert_eq!(told.err.matches("compiled (fast)").count(), 1, "{}", told.err);
    let granting = place.path().join("granting.toml");
    std::fs::write(&granting, "[grant]\nsend = [\"out\"]\n").expect("a file");
    let granting = granting.to_str().expect("text");
    for command in [["check", "plugins/orders.wasm"], ["invoke", "plugins/orders.wasm"]] {
        let said = run_in(&place, &[command[0], command[1], "--manifest", granting]);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    }
    let said = run_in(&place, &["check", "plugins/orders.wasm", "--manifest", granting]);
    assert!(
        said.out.starts_with("ok: the host would run plugins/orders.wasm\n"),
        "{}",
        said.out
    );
    assert!(
        said.out.contains("sandhog:worker/sender@0.1.0 (granted by grant.send)"),
        "{}",
        said.out
    );
}

#[test]
fn a_manifest_with_mistakes_ends_with_64() {
    let (place, file) = place_with_rejecting_component("concurrency = 0\n");
    let said = run_in(&place, &["check", &file]);
    let expected = "sandhog: orders.toml:1: concurrency = 0: use a whole number from 1 to 1024\n";
    assert_eq!((said.code, said.err.as_str()), (Some(64), expected));
}

#[test]
fn a_message_that_would_not_be_deleted_ends_with_1() {
    let (place, file) = place_with_rejecting_component("");
    let said = run_in(&place, &["invoke", &file, "hello", "--json"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let answer: Value = serde_json::from_str(&said.out).expect("JSON");
    let outcome = (&answer["outcome"]["verdict"], &answer["outcome"]["reason"]);
    assert_eq!(outcome, (&json!("reject"), &json!("because")));
}

#[test]
fn a_message_that_would_be_deleted_ends_with_0() {
    let place = Place::new();
    place.install("orders", &handler("(global.get $ok)"), "");
    let said = run_in(&place, &["invoke", "plugins/orders.wasm"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("success"), "{}", said.out);
}

// Each call compiled the file anew, in the slowest way.
#[test]
fn a_component_that_is_invoked_again_is_not_compiled_again() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    place.install("orders", &handler("(global.get $ok)"), "");
    let code = || {
        let said = run_in(&place, &["invoke", "plugins/orders.wasm"]);
        let line = said.out.lines().find_map(|line| line.strip_prefix("code"));
        line.map_or_else(|| panic!("{said:?}"), |line| line.trim().to_owned())
    };
    let first = code();
    assert!(
        first.starts_with("compiled in ") && first.ends_with("(fast)"),
        "{first}"
    );
    assert_eq!(code(), "compiled before");
    let kept = place.path().join("cache/sandhog");
    for directory in [kept.join("artifacts"), kept] {
        let mode = std::fs::metadata(&directory).expect("a directory").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", directory.display());
    }
}

#[test]
fn with_json_a_change_writes_what_the_host_answered_and_nothing_else() {
    let (place, host) = host_with_dead_letters();
    let json = |arguments: &[&str]| -> Value {
        let said = ask(&place, &host, &[arguments, &["--json"]].concat());
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said:?}"))
    };
    assert_eq!(json(&["dead", "redrive", "orders", "--dry-run"])["messages"], 3);
    let edited = json(&["dead", "list", "orders"])["dead-letters"][0]["id"].clone();
    let edited = edited.as_str().unwrap();
    assert!(json(&["pause", "orders"])["since-ms"].is_u64());
    let sent = json(&["send", "orders", "x"])["id"].clone();
    assert!(sent.is_string());
    assert!(json(&["send", "orders", "--again", sent.as_str().unwrap()])["id"].is_string());
    assert!(json(&["dead", "edit", "orders", edited, "--attr", "a=b"])["id"].is_string());
    assert_eq!(
        json(&["dead", "delete", "orders", "--where", "age > 1h", "--yes"])["messages"],
        0
    );
    assert_eq!(json(&["dead", "purge", "orders", "--yes"])["messages"], 2);
    assert_eq!(json(&["purge", "orders", "--yes"])["messages"], 3);
    assert!(json(&["resume", "orders"])["ended"].is_object());
    assert_eq!(json(&["reload"])["changed"], json!([]));
    let lines = ask_with_input(&place, &host, &["send", "orders", "--lines", "--json"], b"a\nb\n");
    let ids: Vec<Value> = lines
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(ids.len(), 2, "{lines:?}");
    assert!(ids.iter().all(|line| line["id"].is_string()), "{lines:?}");
}

#[test]
fn a_pipe_gets_colours_only_on_request() {
    let (place, host) = host_with_dead_letters();
    let plain = ask(&place, &host, &["handlers"]);
    assert!(!plain.out.contains('\u{1b}'), "{plain:?}");
    let painted = ask(&place, &host, &["handlers", "--color", "always"]);
    assert!(
        painted.out.contains("\u{1b}[32mserving\u{1b}[0m") || painted.out.contains("\u{1b}[33mpaused\u{1b}[0m"),
        "{painted:?}"
    );
    let letters = ask(&place, &host, &["dead", "list", "orders", "--color=always"]);
    assert!(letters.out.contains("\u{1b}[31mreject\u{1b}[0m"), "{letters:?}");
    let json = ask(&place, &host, &["handlers", "--json", "--color=always"]);
    assert!(!json.out.contains('\u{1b}'), "{json:?}");
}
