//! The questions of somebody who comes to a host that he does not know: the commands of the page that answers them, run from its
//! first to its last.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use harness::{
    guests::{FORWARD, body_starts_with, forward, handler},
    host::{Host, Place},
    wait_for,
};

use crate::readme::{blocks, page};

const PAGE: &str = "docs/how-to/look-into-a-host.md";
/// The id that the page shows, which stands for that of a message that the handler sent.
const SHOWN_ID: &str = "0198f3a2-6d3e-7c51-b1f3-5d1c8a7e9f20";
/// A new version is proven after a few messages.
const MANIFEST: &str = "[rollout]\nattempts = 10\ntime = \"0s\"\n[grant]\nsend = [\"out\"]\n";

/// What the commands of the page say, by their beginnings. Each one is there.
const ANSWERS: [(&str, &str); 17] = [
    ("sandhog queues", "queue orders is paused by an operator"),
    ("sandhog peek orders", "customer-17 wants tea"),
    ("sandhog peek orders --contains customer-17", "customer-17 wants tea"),
    ("sandhog handlers", "until it is resumed: stocktaking"),
    ("sandhog resume orders", "Queue orders goes on; it was paused at 2"),
    ("sandhog tail orders --no-follow", "sent to out: "),
    ("sandhog tail orders --failed", "reason | "),
    ("sandhog trace", "now in queue out: ready"),
    ("sandhog versions orders", "VERSION  STATE"),
    (
        "sandhog profile orders",
        "No samples: the handler computed next to nothing",
    ),
    ("sandhog dead list orders", "by a bug"),
    ("sandhog replay orders", "1 of 1: trap, now success"),
    (
        "sandhog deploy build/orders.wasm",
        "version 2 is proven, and serves orders",
    ),
    (
        "sandhog dead redrive orders --where 'kind = trap' --dry-run",
        "would put back 1 dead letter:",
    ),
    (
        "sandhog dead redrive orders --where 'kind = trap'",
        "put 1 dead letter back into orders",
    ),
    ("sandhog pause orders", "Queue orders is paused until 2"),
    ("sandhog resume orders", "Queue orders goes on"),
];

/// A host with a paused queue `orders`, whose handler traps at one of two messages.
fn host_with_a_bug() -> (Place, Host) {
    let place = Place::new();
    place.configure("[queues.orders]\nmax-receives = 1\n");
    let bug = format!(
        "(if {} (then unreachable)) {FORWARD} (global.get $ok)",
        body_starts_with('b')
    );
    place.install("orders", &handler(&bug), MANIFEST);
    fs::create_dir(place.path().join("build")).unwrap();
    fs::write(place.path().join("build/orders.wasm"), forward()).unwrap();
    fs::write(place.path().join("build/orders.toml"), MANIFEST).unwrap();
    let host = place.start();
    host.wait_ready();
    host.post("/queues/orders/pause?reason=stocktaking", &serde_json::Value::Null);
    for body in ["customer-17 wants tea", "by a bug this one is killed"] {
        host.send("orders", body.as_bytes());
    }
    (place, host)
}

/// Runs a command of the page, as its shell would. It has to succeed.
pub(crate) fn run(place: &Place, host: &Host, line: &str) -> String {
    let words = line.strip_prefix("sandhog ").unwrap_or_else(|| panic!("{line}"));
    let binary = harness::sandhog_binary();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("exec {} {words}", binary.display())]);
    let cache = place.path().join("cache");
    shell
        .current_dir(place.path())
        .env("SANDHOG_URL", &host.url)
        .env("XDG_CACHE_HOME", cache);
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Ends the messages, also if a command fails.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Runs a deploy while messages come, without which no version proves itself.
pub(crate) fn run_amid_messages(place: &Place, host: &Host, line: &str) -> String {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                host.send("orders", b"customer-18 wants tea, too");
                host.wait_empty("orders");
            }
        });
        let _over = Over(&is_over);
        run(place, host, line)
    })
}

#[test]
fn each_command_of_the_page_answers_its_question() {
    let (place, host) = host_with_a_bug();
    let mut answers = ANSWERS.iter();
    let page = page(PAGE);
    let blocks = blocks(&page);
    let commands = blocks.iter().flat_map(|block| block.text.lines());
    for command in commands {
        let (beginning, expected) = answers.next().unwrap_or_else(|| panic!("{command} is new"));
        assert!(command.starts_with(beginning), "{command} stands where {beginning} did");
        let said = if command.starts_with("sandhog deploy") {
            run_amid_messages(&place, &host, command)
        } else if command.starts_with("sandhog trace") {
            let sent = host.get("/queues/out/messages?contains=customer-17");
            let id = sent
                .pointer("/messages/0/id")
                .and_then(serde_json::Value::as_str)
                .unwrap();
            let command = command.replace(SHOWN_ID, id);
            wait_for(&command, || {
                Some(run(&place, &host, &command)).filter(|said| said.contains("sent by orders v1"))
            })
        } else {
            wait_for(command, || {
                // What a command shows may be on its way. One that changes something has been told so at once.
                let said = run(&place, &host, command);
                let changes = ["resume", "pause", "redrive"].iter().any(|word| command.contains(word));
                (changes || said.contains(expected)).then_some(said)
            })
        };
        assert!(said.contains(expected), "{command}: {expected:?} is not in {said}");
    }
    assert_eq!(answers.next(), None, "the page has lost a command");
    assert_eq!(host.count("orders", "dead"), 0);
}
