//! Dead letters that are run through a version from a page, before they are put back.

#![expect(clippy::indexing_slicing, reason = "JSON that is not as expected fails the test")]

use std::{fs, path::Path};

use harness::{
    browser::Browser as RealBrowser,
    guests::no_op,
    host::{Host, Place},
    wait_for,
};

use sandhog_executor::digest;

use super::{Browser, READER, SECRET, deploying, rejecting, secured, send_with};

const PAGE: &str = "/ui/queues/orders/dead";

/// Two dead letters that version 1 rejects, and a version 2 that handles everything.
fn mended(place: &Place, host: &Host) {
    place.install("orders", &rejecting(), "");
    wait_for("version 1", || {
        (host.get("/handlers/orders/versions")["serving"] == 1).then_some(())
    });
    for body in ["x1", "x2"] {
        host.send("orders", body.as_bytes());
    }
    wait_for("the dead letters", || (host.count("orders", "dead") == 2).then_some(()));
    place.install("orders", &no_op(), "");
    wait_for("version 2", || {
        (host.get("/handlers/orders/versions")["serving"] == 2).then_some(())
    });
}

#[test]
fn a_replay_shows_what_would_become_of_dead_letters_and_changes_nothing() {
    let place = Place::new();
    place.configure("[queues.orders]\nmax-receives = 1\n");
    let host = place.start();
    mended(&place, &host);
    let person = Browser::new(&host);
    let seen = person.get(PAGE);
    assert!(
        seen.text.contains("Replay selected") && seen.text.contains("Replay the oldest 20"),
        "{}",
        seen.text
    );
    let replay = format!("{PAGE}/replay");
    let seen = person.act(PAGE, &replay, &[("scope", "all"), ("version", "2")]);
    assert_eq!(seen.status, 200, "{}", seen.text);
    assert!(
        seen.text.contains("2 of 2 dead letters would be handled"),
        "{}",
        seen.text
    );
    assert_eq!(seen.text.matches(" checked").count(), 2, "{}", seen.text);
    // Its own version rejects them again, and another one serves.
    let letter = host.dead("orders")[0]["id"].as_str().unwrap().to_owned();
    let fields = [("scope", "selected"), ("id", letter.as_str()), ("version", "1")];
    let seen = person.act(PAGE, &replay, &fields);
    assert!(
        seen.text.contains("0 of 1 dead letter would be handled"),
        "{}",
        seen.text
    );
    assert!(
        seen.text.contains("Version 2 serves, and gets what is put back"),
        "{}",
        seen.text
    );
    assert_eq!(seen.text.matches(" checked").count(), 0, "{}", seen.text);
    for wrong in [
        &[("scope", "selected"), ("version", "2")][..],
        &[("scope", "all")],
        &[("scope", "all"), ("version", "9")],
    ] {
        let seen = person.act(PAGE, &replay, wrong);
        assert!(seen.status == 400 || seen.status == 404, "{wrong:?}: {}", seen.status);
    }
    assert_eq!(host.count("orders", "dead"), 2);
    let audit = host.event("audit");
    assert_eq!(audit["fields"]["action"], "replay queue dead", "{audit}");
}

#[test]
fn who_may_only_look_replays_nothing() {
    let (place, host) = secured("max-receives = 1\n");
    place.install("orders", &rejecting(), "");
    let owner = Browser::session(&host, SECRET);
    send_with(&host, "x", SECRET);
    wait_for("a dead letter with its button", || {
        owner.get(PAGE).text.contains("Replay selected").then_some(())
    });
    let reader = Browser::session(&host, READER);
    assert!(!reader.get(PAGE).text.contains("Replay"), "no button");
    let tried = reader.post(&format!("{PAGE}/replay"), &[("scope", "all"), ("version", "1")]);
    assert_eq!(tried.status, 403);
}

#[test]
fn a_component_is_tried_with_dead_letters_before_it_is_deployed() {
    let place = deploying::place(deploying::SWITCHED_ON, "");
    place.install("orders", &rejecting(), "");
    let host = deploying::started(&place);
    send_with(&host, "x", SECRET);
    let owner = Browser::session(&host, SECRET);
    wait_for("a dead letter", || {
        owner.get(PAGE).text.contains("Replay selected").then_some(())
    });
    let wasm = no_op();
    let page = format!("/ui/handlers/orders/checked/{}", digest(&wasm));
    assert!(owner.checked(&wasm).text.contains("Replay the oldest 20 dead letters"));
    let seen = owner.act(&page, &format!("{page}/replay"), &[]);
    assert_eq!(seen.status, 200, "{}", seen.text);
    assert!(
        seen.text.contains("1 of 1 dead letter would be handled"),
        "{}",
        seen.text
    );
    assert!(seen.text.contains("This component does not serve"), "{}", seen.text);
    // It waits to be deployed, and the letter is where it was.
    assert_eq!(owner.get(&page).status, 200);
    assert!(owner.get(PAGE).text.contains("Redrive all 1"));
    let stranger = Browser::session(&host, SECRET);
    let refused = stranger.act("/ui/handlers/orders", &format!("{page}/replay"), &[]);
    assert_eq!(refused.status, 404, "{}", refused.text);
    let reader = Browser::session(&host, READER);
    assert_eq!(reader.post(&format!("{page}/replay"), &[]).status, 403);
}

#[test]
fn a_person_replays_and_puts_back_what_is_handled_now() {
    let place = Place::new();
    place.configure("[queues.orders]\nmax-receives = 1\n");
    let host = place.start();
    mended(&place, &host);
    let browser = RealBrowser::start();
    browser.open(&format!("{}{PAGE}", host.url));
    browser.click("#replay button[value=all]");
    browser.wait_text("2 of 2 dead letters would be handled");
    if let Some(directory) = std::env::var_os("SANDHOG_SCREENSHOTS") {
        fs::write(Path::new(&directory).join("replay.png"), browser.screenshot()).unwrap();
    }
    let found = browser.axe();
    assert!(found.is_empty(), "{found:#?}");
    browser.click("button.primary");
    browser.wait_text("2 messages were put back into the queue.");
    host.wait_empty("orders");
    assert_eq!(host.count("orders", "dead"), 0);
}
