//! How-tos that are sessions with a host: the commands of a page, run from its first to its last, say what the page says.

use std::fs;

use harness::{
    guests::{FORWARD, body_starts_with, edited, forward, handler},
    host::{Host, Place},
    wait_for,
};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::{
    look_into_a_host::{run, run_amid_messages},
    readme::{between, blocks, page},
};

/// The id that pages show, which stands for that of a message.
const SHOWN_ID: &str = "0198f3a2-6d3e-7c51-b1f3-5d1c8a7e9f20";
/// A new version is proven after a few messages.
const MANIFEST: &str = "[rollout]\nattempts = 10\ntime = \"0s\"\n[grant]\nsend = [\"out\"]\n";

/// A host whose handler `orders` is this component, with another one in `build`.
fn host_with(wasm: &[u8], build: &[u8]) -> (Place, Host) {
    let place = Place::new();
    place.configure("[queues.orders]\nmax-receives = 1\n");
    place.install("orders", wasm, MANIFEST);
    fs::create_dir(place.path().join("build")).unwrap();
    fs::write(place.path().join("build/orders.wasm"), build).unwrap();
    fs::write(place.path().join("build/orders.toml"), MANIFEST).unwrap();
    let host = place.start();
    host.wait_ready();
    (place, host)
}

/// Runs the commands of a page. Each says what stands beside its beginning. `with_id` puts ids in place of the one that is shown.
fn session(path: &str, (place, host): &(Place, Host), answers: &[(&str, &str)], with_id: impl Fn(&str) -> String) {
    let page = page(path);
    let blocks = blocks(&page);
    let commands = blocks.iter().filter(|block| block.language.is_empty());
    let mut answers = answers.iter();
    for command in commands.flat_map(|block| block.text.lines()) {
        let (beginning, expected) = answers.next().unwrap_or_else(|| panic!("{command} is new"));
        assert!(command.starts_with(beginning), "{command} stands where {beginning} did");
        let command = with_id(command);
        let said = if command.starts_with("sandhog deploy") {
            run_amid_messages(place, host, &command)
        } else {
            run(place, host, &command)
        };
        assert!(said.contains(expected), "{command}: {expected:?} is not in {said}");
    }
    assert_eq!(answers.next(), None, "{path} has lost a command");
}

#[test]
fn the_commands_about_dead_letters_do_what_the_page_says() {
    let bug = format!(
        "(if {} (then unreachable))
        (if {} (then (return (call $fail (i32.const 2) (i32.const 272) (i32.const 7) (i32.const 0)))))
        {FORWARD} (global.get $ok)",
        body_starts_with('b'),
        body_starts_with('r')
    );
    let of = host_with(&handler(&bug), &forward());
    for body in ["by a bug this one is killed", "refused, as it says nothing"] {
        of.1.send("orders", body.as_bytes());
    }
    wait_for("two dead letters", || (of.1.count("orders", "dead") == 2).then_some(()));
    fs::write(of.0.path().join("corrected.json"), "customer-17 wants tea").unwrap();
    let id_of = |kind: &str| {
        let dead = of.1.dead("orders");
        let letter = dead
            .iter()
            .find(|letter| letter.pointer("/failure/kind").unwrap() == kind);
        letter.unwrap().get("id").and_then(Value::as_str).unwrap().to_owned()
    };
    let answers = [
        ("sandhog queues", "orders"),
        ("sandhog dead list orders", "reject"),
        ("sandhog dead list orders --where 'kind = trap", "by a bug"),
        ("sandhog dead show orders", "by a bug"),
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
        ("sandhog dead edit orders", ""),
        ("sandhog dead delete orders --where 'age > 30d' --yes", "0 dead letters"),
        ("sandhog dead purge orders --yes", "0 dead letters"),
    ];
    session("docs/how-to/dead-letters.md", &of, &answers, |command| {
        let kind = if command.contains(" edit ") { "reject" } else { "trap" };
        if command.contains(SHOWN_ID) {
            command.replace(SHOWN_ID, &id_of(kind))
        } else {
            command.to_owned()
        }
    });
    let handled = |body: &str| of.1.take_all("out").iter().any(|sent| sent.contains(body));
    wait_for("the one that was put back and the corrected one", || {
        (of.1.count("orders", "ready") == 0).then_some(())
    });
    assert!(handled("customer-17") || handled("by a bug"));
    assert_eq!(of.1.count("orders", "dead"), 0);
}

#[test]
fn the_commands_about_upgrades_do_what_the_page_says() {
    let of = host_with(&forward(), &edited(&forward(), 2));
    let answers = [
        ("sandhog check build/orders.wasm", "orders.wasm"),
        ("sandhog versions orders", "serving"),
        (
            "sandhog deploy build/orders.wasm",
            "version 2 is proven, and serves orders",
        ),
        ("sandhog versions orders", "retired"),
        ("sandhog tail orders --failed --no-follow", ""),
        ("sandhog rollback orders", "1"),
        ("sandhog promote orders", "2"),
    ];
    session("docs/how-to/upgrade-a-handler.md", &of, &answers, str::to_owned);
}

#[test]
fn the_format_of_the_queues_is_what_the_pages_say() {
    let place = Place::new();
    place.fill("orders", 10, b"x", 10);
    let page = page("docs/how-to/upgrade-the-host.md");
    let statement = between(&page, "sqlite3 -readonly .sandhog/queues.db '", "'");
    let file = place.data().join("queues.db");
    let database = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let format: i64 = database.query_row(statement, [], |row| row.get(0)).unwrap();
    assert!(
        page.contains(&format!("`queues.db`, format {format} | opens it;")),
        "format {format}"
    );
}
