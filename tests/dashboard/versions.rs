//! Versions of a handler on its page: one that is promoted has a name, and a person sees which one serves then.

use harness::{
    browser,
    guests::{edited, no_op},
    host::{Host, Place},
    versions::VersionsTold,
    wait_for,
};

use super::Browser;

const PAGE: &str = "/ui/handlers/orders";
/// A version is on probation until somebody decides.
const MANIFEST: &str = "[rollout]\nattempts = 1000\ntime = \"1h\"\n";

fn host() -> (Place, Host) {
    let place = Place::new();
    place.install("orders", &no_op(), MANIFEST);
    let host = place.start();
    host.wait_ready();
    deploy(&place, &host, 2);
    (place, host)
}

/// Puts another file into the plugin directory, and waits until it is on probation.
fn deploy(place: &Place, host: &Host, number: u64) {
    let wasm = edited(&no_op(), u32::try_from(number).unwrap());
    place.install("orders", &wasm, MANIFEST);
    wait_for("the version", || {
        let told = VersionsTold::of(host, "orders");
        (told.serving() == Some(number) && told.state(number) == "probation").then_some(())
    });
}

#[test]
fn a_promotion_names_its_version_and_is_refused_if_another_one_is_the_newest() {
    let (place, host) = host();
    let person = Browser::new(&host);
    let page = person.get(PAGE);
    assert!(
        page.text.contains("name=\"version\" value=\"2\"") && page.text.contains("Promote version 2"),
        "{}",
        page.text
    );
    deploy(&place, &host, 3);
    let promote = format!("{PAGE}/promote");
    let late = person.post(&promote, &[("token", &page.token()), ("version", "2")]);
    assert_eq!(late.status, 409);
    assert!(
        late.text
            .contains("version 3 is the newest by now, and not version 2, so nothing was promoted"),
        "{}",
        late.text
    );
    assert_eq!(VersionsTold::of(&host, "orders").state(3), "probation");
    assert_eq!(person.act(PAGE, &promote, &[]).status, 400, "no version is named");
    let done = person.act(PAGE, &promote, &[("version", "3")]);
    assert!(person.notice(&done).starts_with("Version 3 serves"));
    assert_eq!(VersionsTold::of(&host, "orders").state(3), "serving");
    assert!(!person.get(PAGE).text.contains("Promote version"));
}

#[test]
fn versions_are_rolled_back_and_promoted_by_mouse() {
    let (_place, host) = host();
    let browser = browser::Browser::start();
    browser.open(&format!("{}{PAGE}", host.url));
    browser.click("#actions form[action$='/rollback'] button");
    browser.wait_text("Version 1 serves. Promote the newest version to undo that.");
    let told = VersionsTold::of(&host, "orders");
    assert_eq!((told.serving(), told.state(2)), (Some(1), "set-aside"));
    assert_eq!(
        browser.text("#actions form[action$='/promote'] button"),
        "Promote version 2"
    );
    browser.click("#actions form[action$='/promote'] button");
    browser.wait_text("Version 2 serves, and is not on probation.");
    let told = VersionsTold::of(&host, "orders");
    assert_eq!((told.serving(), told.state(2)), (Some(2), "serving"));
}
