//! A new version proves itself, or the host goes back from it: which versions come to which end was stated before they were
//! tried, in [`TABLE`]; and no message pays for a version that breaks.

#![expect(clippy::indexing_slicing, reason = "JSON that is not as expected fails the test")]

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use harness::{
    host::{Host, Place},
    http_server::HttpServer,
    let_pass,
    versions::{HandledMessage, Trial, VersionsTold, batch, calling, keeping, plain},
    wait_for,
};
use serde_json::Value;
use tokio::runtime::Runtime;

mod behaviours;
mod by_hand;
mod identity;
mod restarts;
mod shares;

/// How a rollout has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The host goes back by itself after so many calls of the new version at most, besides [`UNDER_WAY`]. No message has spent a
    /// receive on it.
    BackWithin(u64),
    /// The host goes back by itself when the handler was paused and probed. Each message has spent so many receives at most.
    BackFromPause(u64),
    /// The new version is proven, although the host was free to go back. No message has spent a receive on it.
    Proven,
    /// The handler is paused, the host does not go back, and the version is proven once the world is whole again.
    ProvenAfterPause,
    /// The version never serves: its file is refused, with a text that says this.
    Refused(&'static str),
    /// The version does not serve while its file is being written, and is proven once it is whole.
    ProvenOnceWhole,
}

/// The bounds of the table are those that the simulation of the rule holds in 95 of 100 rollouts, rounded up, for one call at a
/// time. The tests have four: three may be under way when a doubt is raised, and three more when the host goes back.
const UNDER_WAY: u64 = 6;

/// What each kind of version comes to.
const TABLE: [(&str, End); 17] = [
    ("traps on everything", End::BackWithin(30)),
    ("traps on one message in ten", End::BackWithin(600)),
    // The watch that follows the probation is for those that are so rare.
    ("traps on one message in a thousand", End::Proven),
    ("traps only under load", End::BackWithin(300)),
    ("traps only on one group of 19", End::BackWithin(1500)),
    // 1000 messages stand for ten minutes of reuse: `reuse-max` is 1000 unless the manifest says otherwise.
    ("traps after 999 messages of one instance", End::Proven),
    ("is slow", End::Proven),
    ("is slow, and the manifest asks", End::BackWithin(300)),
    ("is slower than its timeout", End::BackWithin(30)),
    ("takes all memory", End::BackWithin(30)),
    ("answers a batch with one answer too few", End::BackWithin(30)),
    ("needs a grant", End::Refused("keyvalue = true")),
    ("is half a file", End::ProvenOnceWhole),
    // The 20 messages that paused the handler, and the five probes.
    ("answers retry to everything", End::BackFromPause(5)),
    ("traps because a server is dead", End::ProvenAfterPause),
    ("answers retry because a server is dead", End::ProvenAfterPause),
    ("is good after a bad one", End::Proven),
];

/// Few calls prove a version, and their time does not count.
const QUICK: &str =
    "concurrency = 4\n[rollout]\nattempts = 50\ntime = \"0s\"\n[retry]\nmin = \"1ms\"\nmax = \"10ms\"\n";
/// As many calls as without a word about it.
const USUAL: &str =
    "concurrency = 4\n[rollout]\nattempts = 300\ntime = \"0s\"\n[retry]\nmin = \"1ms\"\nmax = \"10ms\"\n";

/// A rollout that has ended.
#[derive(Debug)]
struct EndedRollout {
    number: u64,
    told: VersionsTold,
    handled: Vec<HandledMessage>,
}

fn expected(version: &str) -> End {
    let mut rows = TABLE.iter().filter(|(name, _)| *name == version);
    rows.next()
        .unwrap_or_else(|| panic!("{version:?} is not in the table"))
        .1
}

/// Deploys a version under load, and holds what comes of it against the table.
fn tried(trial: &mut Trial, host: &Host, version: &str, wasm: &[u8]) -> EndedRollout {
    let (end, predecessor) = (expected(version), VersionsTold::of(host, "in").serving());
    trial.handled(host);
    let number = trial.deploy(host, wasm);
    let (state, calls) = match end {
        End::BackWithin(calls) => ("quarantined", calls + UNDER_WAY),
        End::Proven => ("serving", u64::MAX),
        End::BackFromPause(_) | End::ProvenAfterPause | End::Refused(_) | End::ProvenOnceWhole => {
            panic!("{version:?} has a test of its own")
        }
    };
    trial.send_until(host, 5000, |told| {
        let now = told.state(number);
        assert!(now == "probation" || now == state, "{version}: {told:#?}");
        (now == state).then_some(())
    });
    let handled = trial.handled(host);
    let told = VersionsTold::of(host, "in");
    assert!(
        told.calls(number) <= calls,
        "{version}: more than {calls} calls: {told:#?}"
    );
    let serving = if state == "serving" { Some(number) } else { predecessor };
    assert_eq!(told.serving(), serving, "{version}: {told:#?}");
    check_receives(&handled, 1);
    print_line(&format!(
        "{version}: {state} after {} calls, {} of which broke; {}",
        told.calls(number),
        told.breaks(number),
        told.reason(number)
    ));
    EndedRollout { number, told, handled }
}

#[expect(
    clippy::print_stdout,
    reason = "how a rollout went, for whoever reads the log of the tests"
)]
fn print_line(line: &str) {
    println!("{line}");
}

fn check_receives(handled: &[HandledMessage], most: u64) {
    let spent: Vec<_> = handled.iter().filter(|message| message.receives > most).collect();
    assert!(spent.is_empty(), "received more than {most} times: {spent:?}");
}

/// How many messages versions with this tag have handled.
fn by_tag(handled: &[HandledMessage], tag: &str) -> usize {
    handled.iter().filter(|message| message.tag == tag).count()
}

/// The only handler.
fn handler(host: &Host) -> Value {
    host.get("/handlers")["handlers"][0].clone()
}

fn handler_is(host: &Host, state: &str) {
    wait_for(state, || (handler(host)["state"] == state).then_some(()));
}

#[test]
fn a_version_that_traps_on_everything_is_rolled_back_at_no_cost_to_any_message() {
    let mut trial = Trial::new(QUICK);
    let host = trial.start(&plain("good"));
    let ended = tried(&mut trial, &host, "traps on everything", &plain("bad; trap"));
    assert_eq!(by_tag(&ended.handled, "good"), ended.handled.len());
    assert!(
        !ended.told.reason(ended.number).is_empty(),
        "it says why: {:#?}",
        ended.told
    );
    assert_eq!(handler(&host)["state"], "serving");
}

#[test]
fn a_version_that_traps_on_one_message_in_ten_is_rolled_back() {
    let mut trial = Trial::new(USUAL);
    let host = trial.start(&plain("good"));
    let ended = tried(
        &mut trial,
        &host,
        "traps on one message in ten",
        &plain("bad; trap every 10"),
    );
    let broken = ended.handled.iter().filter(|message| message.number % 10 == 0);
    assert!(broken.into_iter().all(|message| message.tag == "good"));
}

#[test]
fn a_version_that_traps_on_one_message_in_a_thousand_is_proven_and_its_predecessor_handles_that_message() {
    let mut trial = Trial::new(USUAL);
    let host = trial.start(&plain("good"));
    trial.next = 900;
    let ended = tried(
        &mut trial,
        &host,
        "traps on one message in a thousand",
        &plain("new; trap every 1000"),
    );
    assert!(ended.told.calls(ended.number) >= 300);
    assert_eq!(ended.told.breaks(ended.number), 1, "{:#?}", ended.told);
    let (broken, others): (Vec<_>, Vec<_>) = ended.handled.iter().partition(|message| message.number == 1000);
    assert!(broken.iter().all(|message| message.tag == "good"), "{broken:?}");
    assert!(others.iter().all(|message| message.tag == "new"));
}

/// The new version does without what the one before does when a server of four workers says that it is busy: ask again.
#[test]
fn a_version_that_traps_only_under_load_is_rolled_back_under_load() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(HttpServer::start());
    let (url, origin) = (server.url("/pool/4"), server.url(""));
    let manifest = format!(
        "concurrency = 12\n[rollout]\nattempts = 1000\ntime = \"0s\"\n[retry]\nmin = \"1ms\"\nmax = \"10ms\"\n[grant]\nhttp = [\"{origin}\"]\n"
    );
    let mut trial = Trial::new(&manifest);
    let host = trial.start(&calling(&format!("good; call {url} again")));
    trial.handled(&host);
    let bad = calling(&format!("bad; call {url} trap"));
    let number = trial.deploy(&host, &bad);
    // One at a time, the server is never busy.
    for _ in 0..20 {
        trial.send(&host, 1);
        host.wait_empty("in");
    }
    let told = VersionsTold::of(&host, "in");
    assert_eq!((told.state(number), told.breaks(number)), ("probation", 0), "{told:#?}");
    trial.handled(&host);
    let End::BackWithin(calls) = expected("traps only under load") else {
        panic!("the table says otherwise")
    };
    trial.send_until(&host, 3000, |told| (told.state(number) == "quarantined").then_some(()));
    let handled = trial.handled(&host);
    check_receives(&handled, 1);
    let told = VersionsTold::of(&host, "in");
    assert!(told.calls(number) <= calls, "{told:#?}");
}

#[test]
fn a_version_that_traps_only_on_one_group_is_rolled_back_and_the_group_is_in_order() {
    let mut trial = Trial::new(USUAL);
    let host = trial.start(&plain("good"));
    let ended = tried(
        &mut trial,
        &host,
        "traps only on one group of 19",
        &plain("bad; trap group g3"),
    );
    let of_group = ended.handled.iter().filter(|message| message.group == "g3");
    assert!(of_group.into_iter().all(|message| message.tag == "good"));
    assert!(by_tag(&ended.handled, "bad") > 0);
}

#[test]
fn a_version_whose_instances_break_when_they_are_old_is_proven_if_that_is_rare() {
    let manifest =
        "concurrency = 1\ninstance = \"reuse\"\nreuse-max = 100000\n[rollout]\nattempts = 1200\ntime = \"0s\"\n";
    let mut trial = Trial::new(manifest);
    let host = trial.start(&plain("good"));
    let ended = tried(
        &mut trial,
        &host,
        "traps after 999 messages of one instance",
        &plain("new; trap after 999"),
    );
    // Better code that is ready meanwhile starts with new instances.
    let breaks = ended.told.breaks(ended.number);
    assert!(breaks <= 1, "{:#?}", ended.told);
    assert_eq!(by_tag(&ended.handled, "good"), usize::try_from(breaks).unwrap());
}

#[test]
fn a_slower_version_is_proven_unless_the_manifest_asks() {
    let mut trial = Trial::new(QUICK);
    let host = trial.start(&plain("good; wait 5"));
    let ended = tried(&mut trial, &host, "is slow", &plain("slow; wait 100"));
    assert_eq!(by_tag(&ended.handled, "slow"), ended.handled.len());
}

#[test]
fn a_slower_version_is_rolled_back_if_the_manifest_asks() {
    let manifest = USUAL.replace("[retry]", "slower = 3\n[retry]");
    let mut trial = Trial::new(&manifest);
    let host = trial.start(&plain("good; wait 10"));
    let ended = tried(
        &mut trial,
        &host,
        "is slow, and the manifest asks",
        &plain("slow; wait 150"),
    );
    // Slow is not broken: what it handled is handled.
    assert!(by_tag(&ended.handled, "slow") > 0);
    assert_eq!(ended.told.breaks(ended.number), 0);
}

#[test]
fn a_version_that_is_slower_than_its_timeout_is_rolled_back() {
    let mut trial = Trial::new(&format!("timeout = \"500ms\"\n{QUICK}"));
    let host = trial.start(&plain("good"));
    let bad = plain("bad; wait 60000");
    let ended = tried(&mut trial, &host, "is slower than its timeout", &bad);
    assert_eq!(by_tag(&ended.handled, "good"), ended.handled.len());
}

#[test]
fn a_version_that_takes_all_memory_is_rolled_back() {
    let mut trial = Trial::new(&format!("memory = \"16MiB\"\n{QUICK}"));
    let host = trial.start(&plain("good"));
    let ended = tried(&mut trial, &host, "takes all memory", &plain("bad; memory"));
    assert_eq!(by_tag(&ended.handled, "good"), ended.handled.len());
}

#[test]
fn a_batch_handler_that_traps_or_answers_wrongly_is_rolled_back_and_its_batches_are_handled() {
    for (version, behaviour) in [
        ("traps on everything", "bad; trap"),
        ("answers a batch with one answer too few", "bad; short"),
    ] {
        let mut trial = Trial::new(&format!("batch-size = 5\n{QUICK}"));
        let host = trial.start(&batch("good"));
        let ended = tried(&mut trial, &host, version, &batch(behaviour));
        assert_eq!(by_tag(&ended.handled, "good"), ended.handled.len(), "{version}");
    }
}

#[test]
fn a_version_that_needs_a_grant_is_refused_with_the_line_to_add_and_the_one_before_serves() {
    let mut trial = Trial::new(QUICK);
    let host = trial.start(&plain("good"));
    trial.place.install("in", &keeping("new"), &trial.manifest);
    let refusal = host.event("a handler was refused");
    let reason = refusal["fields"]["reason"].as_str().unwrap();
    let End::Refused(line) = expected("needs a grant") else {
        panic!("the table says otherwise")
    };
    assert!(reason.contains(line), "{reason}");
    trial.handled(&host);
    trial.send(&host, 40);
    let handled = trial.handled(&host);
    assert_eq!(by_tag(&handled, "good"), 40);
    check_receives(&handled, 1);
}

#[test]
fn half_a_file_never_serves_and_the_whole_one_is_proven() {
    assert_eq!(expected("is half a file"), End::ProvenOnceWhole);
    let mut trial = Trial::new(QUICK);
    let host = trial.start(&plain("good"));
    let (number, whole) = (VersionsTold::of(&host, "in").serving(), plain("new"));
    let mut writer = File::options()
        .write(true)
        .truncate(true)
        .open(trial.place.plugin("in.wasm"))
        .unwrap();
    let (half, _) = whole.split_at(whole.len() / 2);
    writer.write_all(half).unwrap();
    writer.sync_all().unwrap();
    wait_for("the host to wait", || host.events("a handler waits for its file").pop());
    // Many times as long as a file has to be quiet.
    let_pass(Duration::from_millis(800));
    trial.handled(&host);
    trial.send(&host, 20);
    assert_eq!(by_tag(&trial.handled(&host), "good"), 20);
    assert_eq!(VersionsTold::of(&host, "in").serving(), number);
    assert!(host.events("a handler was refused").is_empty());
    writer.rewind().unwrap();
    writer.write_all(&whole).unwrap();
    drop(writer);
    let number = trial.serves(&host, &whole);
    trial.send_until(&host, 200, |told| (told.state(number) == "serving").then_some(()));
    trial.handled(&host);
}

/// `retry` is an answer, and no fault by itself: only when nothing is handled any more is the one before asked.
#[test]
fn a_version_that_answers_retry_to_everything_is_rolled_back_after_the_pause_and_nothing_is_dead() {
    let End::BackFromPause(receives) = expected("answers retry to everything") else {
        panic!("the table says otherwise")
    };
    let mut trial = Trial::new("concurrency = 4\n[rollout]\nattempts = 300\ntime = \"0s\"\n");
    let host = trial.start(&plain("good"));
    trial.handled(&host);
    let number = trial.deploy(&host, &plain("bad; retry"));
    // Each message in a group of its own, so that 20 different ones fail before any comes back.
    trial.groups = 1000;
    trial.send(&host, 40);
    wait_for("the pause", || host.events("the handler is paused").pop());
    wait_for("the way back", || {
        let told = VersionsTold::of(&host, "in");
        (told.state(number) == "quarantined").then_some(())
    });
    let handled = trial.handled(&host);
    assert_eq!(by_tag(&handled, "good"), 40);
    check_receives(&handled, receives);
    let told = VersionsTold::of(&host, "in");
    assert!(told.reason(number).contains("probes"), "{told:#?}");
    handler_is(&host, "serving");
}

#[test]
fn a_version_that_traps_because_a_server_is_dead_is_paused_and_not_rolled_back() {
    beside_a_dead_server("traps because a server is dead", "trap", 3);
}

/// As many probes fail as would convict a version whose predecessor handled them.
#[test]
fn a_version_that_answers_retry_because_a_server_is_dead_is_paused_and_not_rolled_back() {
    beside_a_dead_server("answers retry because a server is dead", "retry", 5);
}

fn beside_a_dead_server(version: &str, otherwise: &str, probes: u64) {
    assert_eq!(expected(version), End::ProvenAfterPause);
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(HttpServer::start());
    let (url, address) = (server.url("/"), server.address);
    let grant = format!("[grant]\nhttp = [\"{}\"]\n", server.url(""));
    let mut trial = Trial::new(&format!(
        "concurrency = 4\n[rollout]\nattempts = 50\ntime = \"0s\"\n{grant}"
    ));
    // Several probes may take the same message.
    trial.place.configure("[queues.in]\nmax-receives = 20\n");
    let host = trial.start(&calling(&format!("good; call {url} {otherwise}")));
    trial.handled(&host);
    drop(server);
    wait_for("the server's end", || {
        TcpStream::connect(address).is_err().then_some(())
    });
    let number = trial.deploy(&host, &calling(&format!("new; call {url} {otherwise}")));
    // Each message in a group of its own, so that 20 different ones fail before any comes back.
    trial.groups = 1000;
    trial.send(&host, 60);
    wait_for("the pause", || host.events("the handler is paused").pop());
    wait_for("the calls under way", || {
        (handler(&host)["in-flight"] == 0).then_some(())
    });
    let calls = VersionsTold::of(&host, "in").calls(number);
    wait_for("the probes", || {
        (VersionsTold::of(&host, "in").calls(number) >= calls + probes).then_some(())
    });
    let told = VersionsTold::of(&host, "in");
    assert_eq!(
        (told.state(number), told.serving()),
        ("probation", Some(number)),
        "{told:#?}"
    );
    assert_eq!(handler(&host)["state"], "paused");
    let server = runtime.block_on(HttpServer::on(address)).unwrap();
    assert_eq!(by_tag(&trial.handled(&host), "new"), 60);
    trial.send_until(&host, 500, |told| (told.state(number) == "serving").then_some(()));
    trial.handled(&host);
    drop(server);
}

#[test]
fn a_good_version_after_a_bad_one_is_proven_and_the_bad_one_stays_quarantined() {
    let mut trial = Trial::new(QUICK);
    let host = trial.start(&plain("good"));
    let bad = tried(&mut trial, &host, "traps on everything", &plain("bad; trap"));
    let good = tried(&mut trial, &host, "is good after a bad one", &plain("better"));
    assert_eq!(by_tag(&good.handled, "better"), good.handled.len());
    assert_eq!(good.told.state(bad.number), "quarantined");
    assert!(good.number > bad.number);
}

#[test]
fn every_row_of_the_table_has_its_own_name() {
    let names: std::collections::BTreeSet<_> = TABLE.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), TABLE.len());
}

/// The answer of an order over HTTP, with its status.
fn order(host: &Host, what: &str) -> (u16, Value) {
    let mut response = ureq::post(format!("{}/handlers/in/{what}", host.url))
        .config()
        .http_status_as_error(false)
        .build()
        .send_empty()
        .unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    (response.status().as_u16(), serde_json::from_str(&text).unwrap())
}

/// What a place says on the command line about its host.
fn sandhog(place: &Place, host: &Host, arguments: &[&str]) -> (Option<i32>, String) {
    let output = place
        .command()
        .args(arguments)
        .args(["--url", &host.url])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}
