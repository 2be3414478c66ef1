//! The key-value store of a handler: written as a part of the attempt, and seen by nobody else.

#![expect(clippy::indexing_slicing, reason = "what is not as expected fails the test")]

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use harness::{
    fault_proxy::{Fault, Rule},
    host::{Host, Place},
    keeping::{batch_keeper, keeper},
    pause,
    sqs_host::Stage,
    wait_for,
};
use sandhog_executor::policy::Limits;
use sandhog_queue::{
    Delivery, EffectSend, Effects, EffectsRefused, Queue as _, SettleRequest, Settlement,
    keyvalue::{Change, KeyValueWrite, MAX_VALUE_BYTES, Overlay, OverlayError, ReadError, WriteError, Writes},
    message::{MessageId, Outgoing, QueueName},
};
use sandhog_simple::{CommitError, ProcessedMessageKey, SimpleQueue, SimpleStore, StoreOptions, settings::Settings};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

pub(crate) const MANIFEST: &str =
    "[retry]\nmin = \"1ms\"\nmax = \"10ms\"\n[grant]\nsend = [\"out\"]\nkeyvalue = true\n";

/// The sums that a caller takes who takes all.
pub(crate) const ANY: RangeInclusive<i128> = i128::MIN..=i128::MAX;

/// A host with a handler `in` that does what its messages say.
pub(crate) fn begin(manifest: &str) -> (Place, Host) {
    let place = Place::new();
    place.install("in", &keeper(), &format!("{manifest}{MANIFEST}"));
    let host = ready(&place);
    (place, host)
}

pub(crate) fn ready(place: &Place) -> Host {
    let host = place.start();
    host.wait_ready();
    host
}

/// What messages make the handler say, one after another.
pub(crate) fn said(host: &Host, messages: &[&str]) -> Vec<String> {
    for message in messages {
        host.send("in", message.as_bytes());
        host.wait_empty("in");
    }
    host.take_all("out")
}

/// The reasons of the dead letters.
pub(crate) fn reasons(host: &Host) -> Vec<String> {
    let reason = |letter: &serde_json::Value| letter["failure"]["reason"].as_str().unwrap().to_owned();
    host.dead("in").iter().map(reason).collect()
}

// Seen from outside: the real binary, and a guest that speaks the interface.

#[test]
fn what_a_handler_writes_is_there_for_the_next_message() {
    let (_place, host) = begin("");
    assert_eq!(
        said(&host, &["gk;", "sk=value;", "gk;ek;", "dk;", "gk;ek;"]),
        ["-", "value", "1", "-", "0"]
    );
}

#[test]
fn writes_survive_a_restart() {
    let (place, host) = begin("");
    assert!(said(&host, &["sk=value;in=7;"]).is_empty());
    host.kill();
    let host = ready(&place);
    assert_eq!(said(&host, &["gk;gn;l;"]), ["value", "7", "k", "n"]);
}

#[test]
fn an_attempt_reads_what_it_wrote_itself() {
    let (_place, host) = begin("");
    said(&host, &["sa=old;sb=old;sd=old;"]);
    let message = "sa=new;db;sc=new;iz=5;Iz=6;ga;gb;gc;gd;gz;l;";
    assert_eq!(
        said(&host, &[message]),
        ["11", "new", "-", "new", "old", "11", "a", "c", "d", "z"]
    );
}

#[test]
fn the_calls_for_many_keys_do_what_those_for_one_do() {
    let (_place, host) = begin("");
    assert_eq!(
        said(&host, &["h;", "b=both;h;", "h;k;h;", "h;"]).join(" "),
        "- - - both - both both - both - - - - - -"
    );
}

#[test]
fn what_a_failed_attempt_wrote_is_dropped() {
    let (place, host) = begin("");
    place.configure("");
    assert_eq!(
        said(&host, &["sk=kept;in=1;", "sk=dropped;dn;r;", "gk;gn;"]),
        ["dropped", "-"],
        "the second receive succeeded"
    );
    host.send("in", b"sk=failed;in=9;sother=x;t;");
    wait_for("the dead letter", || host.dead("in").pop());
    assert_eq!(said(&host, &["gk;gn;l;"]), ["dropped", "-", "k"]);
}

#[test]
fn two_handlers_do_not_see_each_others_keys() {
    let place = Place::new();
    for name in ["in", "other"] {
        place.install(name, &keeper(), MANIFEST);
    }
    let host = ready(&place);
    host.send("other", b"oshared;sk=others;");
    host.wait_empty("other");
    assert_eq!(said(&host, &["oshared;gk;l;sk=mine;gk;"]), ["-", "mine"]);
    host.send("other", b"oshared;gk;");
    host.wait_empty("other");
    assert_eq!(host.take_all("out"), ["others"]);
}

#[test]
fn buckets_of_a_handler_are_apart_and_the_empty_name_is_the_default_bucket() {
    let (_place, host) = begin("");
    let messages = ["sk=none;oa;sk=a;ob;sk=b;", "gk;oa;gk;ob;gk;odefault;gk;oc;gk;"];
    assert_eq!(said(&host, &messages), ["none", "a", "b", "none", "-"]);
}

#[test]
fn two_hundred_increments_at_the_same_time_are_all_counted() {
    let (_place, host) = begin("concurrency = 32\n");
    let messages: Vec<_> = (0..200)
        .map(|number| json!({ "body": format!("in=1;sk{number}=x;") }))
        .collect();
    host.post("/queues/in/batch", &json!({ "messages": messages }));
    host.wait_empty("in");
    assert_eq!(said(&host, &["gn;"]), ["200"]);
}

#[test]
fn what_is_no_number_is_not_incremented() {
    let (_place, host) = begin("");
    said(&host, &["sword=ten;smost=18446744073709551615;"]);
    for (message, place) in [("iword=1;", "word"), ("imost=1;", "most"), ("sx= 1;ix=1;", "x")] {
        assert!(said(&host, &[message]).is_empty());
        let expected = format!(
            "nothing can be added to key \"{place}\" of bucket \"default\": it holds no decimal number, or the sum is out of range"
        );
        assert_eq!(reasons(&host).pop().unwrap(), expected);
    }
}

#[test]
fn each_limit_of_an_attempt_refuses_with_its_name() {
    let (_place, host) = begin("[limits]\nkeyvalue-writes = 3\nkeyvalue-bytes = \"1KiB\"\n");
    for (message, expected) in [
        (
            "sa=1;sb=2;sc=3;sd=4;",
            "the attempt has written as often as it may (limits.keyvalue-writes)",
        ),
        (
            "sa=1;b=x;da;",
            "the attempt has written as often as it may (limits.keyvalue-writes)",
        ),
        (
            "Sa=1000;Sb=1000;",
            "the attempt has written as many bytes as it may (limits.keyvalue-bytes)",
        ),
    ] {
        said(&host, &[message]);
        assert_eq!(reasons(&host).pop().unwrap(), expected, "{message}");
    }
    assert!(said(&host, &["l;"]).is_empty(), "nothing of them was kept");
    assert_eq!(said(&host, &["sa=1;sb=2;dc;", "l;"]), ["a", "b"]);
}

#[test]
fn what_is_too_long_or_too_much_is_refused_with_a_clear_error() {
    let (_place, host) = begin("");
    let (bucket, key) = ("b".repeat(257), "k".repeat(1025));
    for (message, expected) in [
        (
            "Sa=1048577;".to_owned(),
            "a value has 1048577 bytes, and may have 1 MiB at most",
        ),
        (format!("s{key}=x;"), "a key has 1025 bytes, and may have 1 to 1024"),
        ("s=x;".to_owned(), "a key has 0 bytes, and may have 1 to 1024"),
        ("g;".to_owned(), "a key has 0 bytes, and may have 1 to 1024"),
        (
            format!("o{bucket};"),
            "the name of a bucket has 257 bytes, and may have 1 to 256",
        ),
        ("O4000;".to_owned(), "64 buckets are open, which is as many as may be"),
        (
            "m1001;".to_owned(),
            "one call may be about 1000 keys, and not about 1001",
        ),
        (
            "m200000;".to_owned(),
            "one call may be about 1000 keys, and not about 200000",
        ),
        (
            "c18446744073709551615;".to_owned(),
            "18446744073709551615 is no cursor that this attempt was given for this bucket, or it was given too long ago",
        ),
    ] {
        assert!(said(&host, &[message.as_str()]).is_empty());
        assert_eq!(reasons(&host).pop().unwrap(), expected);
    }
    assert_eq!(
        said(&host, &["Sa=1048576;m1000;O63;", "l;"]),
        ["a"],
        "all of this is allowed"
    );
}

#[test]
fn a_store_that_is_full_fails_the_attempt_and_takes_deletions() {
    let (place, host) = begin("[limits]\nkeyvalue-total-bytes = \"100KiB\"\n");
    said(&host, &["Sa=90000;"]);
    host.send("in", b"Sb=20000;sc=x;");
    wait_for("the dead letter", || host.dead("in").pop());
    let reason = reasons(&host).pop().unwrap();
    assert_eq!(
        reason,
        "a write to the key-value store was refused: the key-value store of in would hold 110217 bytes, more than its \
         limit of 102400 (limits.keyvalue-total-bytes)"
    );
    assert_eq!(said(&host, &["l;", "da;Sb=20000;", "l;"]), ["a", "b"]);
    // A limit that was lowered below what is there refuses what grows, and nothing else.
    place.install(
        "in",
        &keeper(),
        &format!("[limits]\nkeyvalue-total-bytes = \"10KiB\"\n{MANIFEST}"),
    );
    wait_for("the new version", || host.events("serving").get(1).cloned());
    assert_eq!(said(&host, &["Sb=19000;", "l;"]), ["b"]);
    host.send("in", b"Sb=19001;");
    wait_for("the dead letter", || host.dead("in").get(1).cloned());
}

#[test]
fn a_handler_without_the_grant_is_refused_with_the_line_to_add() {
    let place = Place::new();
    place.install("in", &keeper(), "[grant]\nsend = [\"out\"]\n");
    let host = place.start();
    let refused = wait_for("the verdict", || host.events("a handler was refused").pop());
    let reason = refused["fields"]["reason"].as_str().unwrap();
    assert!(reason.contains("wasi:keyvalue/store@0.2.0-draft"), "{reason}");
    assert!(reason.contains("keyvalue = true"), "{reason}");
}

#[test]
fn a_batch_of_which_one_message_succeeds_keeps_what_was_written() {
    let place = Place::new();
    place.configure("[queues.in]\nmax-receives = 1\n");
    place.install("in", &batch_keeper(), &format!("batch-size = 10\n{MANIFEST}"));
    let host = ready(&place);
    // Alone it fails, and its write with it.
    host.send("in", b"alone");
    wait_for("the dead letter", || host.dead("in").pop());
    place.install("in", &keeper(), MANIFEST);
    wait_for("the next version", || host.events("serving").get(1).cloned());
    assert_eq!(said(&host, &["gfirst;"]), ["-"]);
    place.install("in", &batch_keeper(), &format!("batch-size = 10\n{MANIFEST}"));
    wait_for("the next version", || host.events("serving").get(2).cloned());
    host.post(
        "/queues/in/batch",
        &json!({ "messages": [{ "body": "a" }, { "body": "b" }] }),
    );
    wait_for("the dead letter", || host.dead("in").get(1).cloned());
    host.wait_empty("in");
    place.install("in", &keeper(), MANIFEST);
    wait_for("the next version", || host.events("serving").get(3).cloned());
    assert_eq!(said(&host, &["gfirst;"]), ["x"]);
}

#[test]
fn a_handler_that_goes_and_comes_back_finds_what_it_wrote() {
    let (place, host) = begin("");
    said(&host, &["sk=v;"]);
    std::fs::remove_file(place.plugin("in.wasm")).unwrap();
    wait_for("the removal", || host.events("a handler was removed").pop());
    place.install("in", &keeper(), MANIFEST);
    wait_for("its return", || host.events("serving").get(1).cloned());
    assert_eq!(said(&host, &["gk;"]), ["v"]);
}

#[test]
fn however_often_the_process_is_killed_each_message_is_counted_once() {
    let (place, mut host) = begin("concurrency = 8\n");
    let mut sent = 0;
    for round in 0..12_u64 {
        for _ in 0..3 {
            let messages: Vec<_> = (0..20).map(|_| json!({ "body": "in=1;In=0;" })).collect();
            host.post("/queues/in/batch", &json!({ "messages": messages }));
            sent += 20;
        }
        let until = std::time::Instant::now() + Duration::from_millis(3 * round);
        while std::time::Instant::now() < until {
            pause();
        }
        host.kill();
        host = place.start();
    }
    host.wait_ready();
    host.wait_empty("in");
    assert_eq!(said(&host, &["gn;"]).len(), sent + 1, "each has said one sum");
    assert_eq!(said(&host, &["gn;"]), [sent.to_string()]);
}

#[test]
fn on_sqs_a_write_is_committed_before_the_deletion_and_once_though_the_deletion_is_lost() {
    let mut stage = Stage::new("keyvalue");
    let source = stage.queue("in", &[("VisibilityTimeout", "2")], "");
    let place = stage.place();
    place.install("in", &keeper(), MANIFEST);
    let host = ready(&place);
    let pretended = stage
        .proxy
        .rule(Rule::new(Fault::pretend()).action("DeleteMessageBatch").times(2));
    source.put("in=1;sk=v;");
    wait_for("a deletion that was not done", || (pretended.used() > 0).then_some(()));
    let connection = rusqlite::Connection::open(place.data().join("queues.db")).unwrap();
    let sql =
        "SELECT CAST(value AS TEXT) FROM entries JOIN namespaces USING (namespace) WHERE name = 'in' ORDER BY key";
    let stored = || {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(stored(), ["v", "1"]);
    source.wait_gone();
    assert_eq!(pretended.used(), 2);
    source.put("In=1;");
    wait_for("the sum", || (host.count("out", "ready") == 1).then_some(()));
    assert_eq!(host.take_all("out"), ["2"]);
    source.wait_gone();
    assert_eq!(stored(), ["v", "2"]);
}

#[test]
fn invoke_shows_what_is_written_and_keeps_none_of_it() {
    let place = Place::new();
    place.install("in", &keeper(), MANIFEST);
    for _ in 0..2 {
        let output = place
            .command()
            .args(["invoke", "plugins/in.wasm", "In=2;sk=value;dgone;"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        for line in [
            "sent       to out, 1 bytes: 2",
            "wrote      gone of bucket default: deleted",
            "wrote      k of bucket default: 5 bytes",
            "wrote      n of bucket default: plus 2",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
        }
    }
    let output = place
        .command()
        .args(["invoke", "--json", "plugins/in.wasm", "in=2;sk=value;"])
        .output()
        .unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        shown["writes"],
        json!([
            {
                "bucket": "default", "key": "k", "change": "set", "value-bytes": 5, "added": null, "conditional": false,
            },
            {
                "bucket": "default", "key": "n", "change": "add", "value-bytes": null, "added": 2, "conditional": false,
            },
        ])
    );
}

// The rules of the store, on both kinds of it.

/// Runs a claim on a durable store and on one in memory.
pub(crate) async fn on_both<F: AsyncFn(SimpleStore)>(claim: F) {
    claim(SimpleStore::ephemeral()).await;
    let directory = TempDir::new().unwrap();
    let store = open(&directory).await;
    claim(store.clone()).await;
    store.close().await;
}

async fn open(directory: &TempDir) -> SimpleStore {
    let options = StoreOptions::new(directory.path());
    tokio::task::spawn_blocking(move || SimpleStore::open(&options))
        .await
        .unwrap()
        .unwrap()
}

fn name(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

async fn queue(store: &SimpleStore, queue: &str) -> Arc<SimpleQueue> {
    store
        .queue(name(queue), Settings::defaults(&name(queue)))
        .await
        .unwrap()
}

pub(crate) fn write(key: &str, change: Change) -> KeyValueWrite {
    KeyValueWrite {
        bucket: "b".into(),
        key: key.into(),
        change,
        condition: None,
    }
}

pub(crate) fn set(key: &str, value: &str) -> KeyValueWrite {
    write(key, Change::Set(value.to_owned().into()))
}

/// What is written into the store of `h`.
fn writes(changes: Vec<KeyValueWrite>) -> Writes {
    Writes {
        namespace: "h".into(),
        total_bytes: u64::MAX,
        changes,
    }
}

fn effects(changes: Vec<KeyValueWrite>) -> Effects {
    Effects {
        writes: writes(changes),
        ..Effects::default()
    }
}

pub(crate) async fn commit(store: &SimpleStore, changes: Vec<KeyValueWrite>) -> Result<(), CommitError> {
    store.commit(Vec::new(), effects(changes)).await
}

pub(crate) async fn value(store: &SimpleStore, key: &str) -> Option<String> {
    let values = store
        .keyvalue("h")
        .get("b", vec![key.into()], usize::MAX)
        .await
        .unwrap();
    let value = values.into_iter().next().unwrap();
    value.map(|value| String::from_utf8(value.into()).unwrap())
}

async fn received(queue: &SimpleQueue, body: &str) -> Delivery {
    queue
        .send(Outgoing::new(body.as_bytes().to_vec()).check().unwrap())
        .await
        .unwrap();
    queue.receive(1, Duration::ZERO).await.unwrap().pop().unwrap()
}

fn delete(delivery: &Delivery) -> SettleRequest {
    SettleRequest {
        receipt: delivery.receipt.clone(),
        settlement: Settlement::Delete,
    }
}

pub(crate) fn overlay(store: &SimpleStore) -> Overlay {
    Overlay::new(store.keyvalue("h"), (&Limits::default()).into())
}

pub(crate) fn bucket() -> Arc<str> {
    "b".into()
}

#[tokio::test]
async fn of_writes_a_send_and_a_deletion_all_happen_or_none() {
    on_both(async |store| {
        let orders = queue(&store, "orders").await;
        queue(&store, "out").await;
        let send = |queue: &str| EffectSend {
            queue: name(queue),
            message: Outgoing::new("x").check().unwrap(),
        };
        let delivery = received(&orders, "a").await;
        // The send is refused, then the write, and with either of them everything.
        let refused = Effects {
            sends: vec![send("nowhere")],
            ..effects(vec![set("k", "v")])
        };
        let answer = orders.settle(vec![delete(&delivery)], refused).await;
        assert!(matches!(answer, Err(EffectsRefused::SendRefused { .. })), "{answer:?}");
        let refused = Effects {
            sends: vec![send("out")],
            writes: Writes {
                total_bytes: 10,
                ..writes(vec![set("k", "v")])
            },
            ..Effects::default()
        };
        let answer = orders.settle(vec![delete(&delivery)], refused).await;
        assert!(
            matches!(
                answer,
                Err(EffectsRefused::WriteRefused(WriteError::Full {
                    bytes: 67,
                    limit: 10,
                    ..
                }))
            ),
            "{answer:?}"
        );
        assert_eq!(value(&store, "k").await, None);
        assert_eq!(orders.counts().await.unwrap().in_flight, 1);
        let all = Effects {
            sends: vec![send("out")],
            ..effects(vec![set("k", "v")])
        };
        orders
            .settle(vec![delete(&delivery)], all.clone())
            .await
            .unwrap()
            .pop()
            .unwrap()
            .unwrap();
        assert_eq!(value(&store, "k").await.as_deref(), Some("v"));
        // A second time the receipt is stale, and nothing happens.
        commit(&store, vec![set("k", "w")]).await.unwrap();
        orders
            .settle(vec![delete(&delivery)], all)
            .await
            .unwrap()
            .pop()
            .unwrap()
            .unwrap_err();
        assert_eq!(value(&store, "k").await.as_deref(), Some("w"));
        let out = queue(&store, "out").await;
        assert_eq!(out.counts().await.unwrap().ready, 1);
    })
    .await;
}

#[tokio::test]
async fn a_settlement_without_a_deletion_writes_nothing() {
    on_both(async |store| {
        let orders = queue(&store, "orders").await;
        let delivery = received(&orders, "a").await;
        let release = SettleRequest {
            receipt: delivery.receipt.clone(),
            settlement: Settlement::Release,
        };
        orders
            .settle(vec![release], effects(vec![set("k", "v")]))
            .await
            .unwrap()
            .pop()
            .unwrap()
            .unwrap();
        assert_eq!(value(&store, "k").await, None);
    })
    .await;
}

#[tokio::test]
async fn a_message_of_another_queue_that_was_handled_before_writes_nothing_again() {
    on_both(async |store| {
        let key = |id| ProcessedMessageKey::new(&name("elsewhere"), &MessageId::from_queue(id));
        let add = || effects(vec![write("n", Change::Add(1))]);
        store.commit(vec![key("1")], add()).await.unwrap();
        store.commit(vec![key("1")], add()).await.unwrap();
        assert_eq!(value(&store, "n").await.as_deref(), Some("1"));
        let error = store.commit(vec![key("1"), key("2")], add()).await.unwrap_err();
        assert!(matches!(error, CommitError::Incomplete), "{error:?}");
        store.commit(vec![key("2")], add()).await.unwrap();
        assert_eq!(value(&store, "n").await.as_deref(), Some("2"));
    })
    .await;
}

#[tokio::test]
async fn increments_of_attempts_that_began_together_are_added_up() {
    on_both(async |store| {
        let mut attempts = JoinSet::new();
        for _ in 0..50 {
            let store = store.clone();
            attempts.spawn(async move {
                let mut overlay = overlay(&store);
                overlay.increment(&bucket(), "n".into(), 1, ANY).await.unwrap();
                overlay.increment(&bucket(), "n".into(), 1, ANY).await.unwrap();
                let written = overlay.take();
                assert_eq!(written, [write("n", Change::Add(2))]);
                commit(&store, written).await.unwrap();
            });
        }
        attempts.join_all().await;
        assert_eq!(value(&store, "n").await.as_deref(), Some("100"));
    })
    .await;
}

#[tokio::test]
async fn an_increment_whose_number_became_a_word_meanwhile_is_refused_as_a_whole() {
    on_both(async |store| {
        let mut overlay = overlay(&store);
        assert_eq!(overlay.increment(&bucket(), "n".into(), 3, ANY).await.unwrap(), 3);
        overlay.set(&bucket(), vec![("a".into(), "x".into())]).unwrap();
        commit(&store, vec![set("n", "word")]).await.unwrap();
        let error = overlay.get(&bucket(), &["n".into()]).await.unwrap_err();
        assert!(matches!(error, OverlayError::NotANumber(_)), "{error:?}");
        let error = commit(&store, overlay.take()).await.unwrap_err();
        assert!(
            matches!(
                &error,
                CommitError::Refused(EffectsRefused::WriteRefused(WriteError::NotANumber(_)))
            ),
            "{error:?}"
        );
        assert_eq!(value(&store, "a").await, None);
        assert_eq!(value(&store, "n").await.as_deref(), Some("word"));
    })
    .await;
}

#[tokio::test]
async fn changes_of_one_key_see_each_other_in_order() {
    on_both(async |store| {
        let changes = vec![
            set("n", "5"),
            write("n", Change::Add(2)),
            set("gone", "x"),
            write("gone", Change::Delete),
            write("new", Change::Delete),
            write("new", Change::Add(4)),
        ];
        commit(&store, changes).await.unwrap();
        assert_eq!(value(&store, "n").await.as_deref(), Some("7"));
        assert_eq!(value(&store, "gone").await, None);
        assert_eq!(value(&store, "new").await.as_deref(), Some("4"));
    })
    .await;
}

#[tokio::test]
async fn what_a_store_holds_is_counted_through_every_change() {
    on_both(async |store| {
        let limited = |changes, total_bytes| {
            let writes = Writes {
                total_bytes,
                ..writes(changes)
            };
            Effects {
                writes,
                ..Effects::default()
            }
        };
        // Two names of a byte, the value, and 64 for the entry.
        let entry = 66;
        store
            .commit(Vec::new(), limited(vec![set("a", "12345")], entry + 5))
            .await
            .unwrap();
        store
            .commit(Vec::new(), limited(vec![set("a", "123")], entry + 3))
            .await
            .unwrap();
        let error = store
            .commit(Vec::new(), limited(vec![set("a", "1234")], entry + 3))
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                CommitError::Refused(EffectsRefused::WriteRefused(WriteError::Full { bytes: 70, .. }))
            ),
            "{error:?}"
        );
        let swap = vec![write("a", Change::Delete), set("b", "123")];
        store.commit(Vec::new(), limited(swap, entry + 3)).await.unwrap();
        store
            .commit(Vec::new(), limited(vec![write("b", Change::Delete)], 0))
            .await
            .unwrap();
        let error = store
            .commit(Vec::new(), limited(vec![set("c", "")], entry - 1))
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                CommitError::Refused(EffectsRefused::WriteRefused(WriteError::Full { bytes: 66, .. }))
            ),
            "{error:?}"
        );
        // Another namespace has its own account.
        let other = Writes {
            namespace: "other".into(),
            total_bytes: entry,
            changes: vec![set("c", "")],
        };
        let other = Effects {
            writes: other,
            ..Effects::default()
        };
        store.commit(Vec::new(), other).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_store_refuses_names_and_values_that_break_a_limit() {
    on_both(async |store| {
        let long = "v".repeat(MAX_VALUE_BYTES + 1);
        for bad in [
            set("", "x"),
            set(&"k".repeat(1025), "x"),
            set("k", &long),
            KeyValueWrite {
                bucket: "".into(),
                ..set("k", "x")
            },
        ] {
            let error = commit(&store, vec![set("good", "x"), bad]).await.unwrap_err();
            assert!(
                matches!(
                    error,
                    CommitError::Refused(EffectsRefused::WriteRefused(WriteError::Invalid(_)))
                ),
                "{error:?}"
            );
        }
        assert_eq!(value(&store, "good").await, None);
    })
    .await;
}

#[tokio::test]
async fn all_keys_are_listed_once_in_order_whatever_the_attempt_added_and_deleted() {
    on_both(async |store| {
        let committed = (0..3500).map(|number| set(&format!("k{number:05}"), "x")).collect();
        commit(&store, committed).await.unwrap();
        let limits = Limits {
            keyvalue_writes: 10_000,
            ..Limits::default()
        };
        let mut overlay = Overlay::new(store.keyvalue("h"), (&limits).into());
        // A thousand and more of them in a row are gone, others are new: before, between and behind.
        let gone = (900..2400).map(|number| format!("k{number:05}").into());
        overlay.delete(&bucket(), gone.collect()).unwrap();
        let new: Vec<Arc<str>> = ["a", "k00000x", "k01000x", "k02399x", "z"].map(Arc::from).to_vec();
        overlay
            .set(&bucket(), new.iter().map(|key| (Arc::clone(key), "y".into())).collect())
            .unwrap();
        overlay.set(&"c".into(), vec![("k5".into(), "y".into())]).unwrap();
        let (mut listed, mut cursor, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = overlay.list(&bucket(), cursor).await.unwrap();
            assert!(page.keys.len() <= 1000);
            listed.extend(page.keys);
            pages += 1;
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        let mut expected: Vec<Arc<str>> = (0..900)
            .chain(2400..3500)
            .map(|number| format!("k{number:05}").into())
            .collect();
        expected.extend(new);
        expected.sort();
        assert_eq!((listed, pages), (expected, 3));
    })
    .await;
}

#[tokio::test]
async fn an_attempt_that_writes_more_than_a_page_lists_it_page_by_page() {
    on_both(async |store| {
        let limits = Limits {
            keyvalue_writes: 100_000,
            ..Limits::default()
        };
        commit(
            &store,
            (0..500).map(|number| set(&format!("{number:04}c"), "x")).collect(),
        )
        .await
        .unwrap();
        let mut overlay = Overlay::new(store.keyvalue("h"), (&limits).into());
        let written = (0..2500)
            .map(|number| (Arc::from(format!("{number:04}")), "x".into()))
            .collect();
        overlay.set(&bucket(), written).unwrap();
        let (mut listed, mut cursor) = (Vec::new(), None);
        loop {
            let page = overlay.list(&bucket(), cursor).await.unwrap();
            listed.extend(page.keys);
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        let mut expected: Vec<Arc<str>> = (0..2500).map(|number| format!("{number:04}").into()).collect();
        expected.extend((0..500).map(|number| Arc::from(format!("{number:04}c"))));
        expected.sort();
        assert_eq!(listed, expected);
    })
    .await;
}

#[tokio::test]
async fn a_cursor_is_good_for_its_bucket_and_its_attempt_only() {
    on_both(async |store| {
        commit(&store, (0..1001).map(|number| set(&number.to_string(), "x")).collect())
            .await
            .unwrap();
        let mut first = overlay(&store);
        let cursor = first.list(&bucket(), None).await.unwrap().cursor.unwrap();
        assert_eq!(first.list(&bucket(), Some(cursor)).await.unwrap().keys.len(), 1);
        for wrong in [
            first.list(&"c".into(), Some(cursor)).await,
            overlay(&store).list(&bucket(), Some(cursor)).await,
        ] {
            assert!(matches!(wrong, Err(OverlayError::Cursor(_))), "{wrong:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn values_of_one_answer_are_bounded_together() {
    on_both(async |store| {
        let large = "v".repeat(MAX_VALUE_BYTES);
        commit(&store, vec![set("large", &large)]).await.unwrap();
        let limits = Limits {
            host_call_bytes: 3 * 1024 * 1024,
            ..Limits::default()
        };
        let mut overlay = Overlay::new(store.keyvalue("h"), (&limits).into());
        let asked: Vec<Arc<str>> = vec!["large".into(); 4];
        assert_eq!(overlay.get(&bucket(), &asked[..3]).await.unwrap().len(), 3);
        let error = overlay.get(&bucket(), &asked).await.unwrap_err();
        assert!(matches!(error, OverlayError::Read(ReadError::TooLarge(_))), "{error:?}");
        // The same of what the attempt has written itself.
        let mut own = Overlay::new(store.keyvalue("h"), (&limits).into());
        own.set(&bucket(), vec![("large".into(), large.clone().into())])
            .unwrap();
        let error = own.get(&bucket(), &asked).await.unwrap_err();
        assert!(matches!(error, OverlayError::Read(ReadError::TooLarge(_))), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn what_an_attempt_reads_is_bounded_in_number_and_in_bytes() {
    on_both(async |store| {
        let changes = (0..10).map(|number| set(&format!("key{number}"), "123456789"));
        commit(&store, changes.collect()).await.unwrap();
        let limits = Limits {
            keyvalue_reads: 5,
            keyvalue_read_bytes: 30,
            ..Limits::default()
        };
        let begin = || Overlay::new(store.keyvalue("h"), (&limits).into());
        let keys: Vec<Arc<str>> = (0..10).map(|number| format!("key{number}").into()).collect();
        let refused = |error: OverlayError, limit: &str| {
            let text = error.to_string();
            assert!(
                matches!(error, OverlayError::ReadLimit(_)) && text.contains(limit),
                "{text}"
            );
        };
        // By number: a key each, whether it is there or not, and pages.
        let mut by_number = begin();
        assert!(by_number.list(&"empty".into(), None).await.unwrap().keys.is_empty());
        assert_eq!(by_number.get(&bucket(), &keys[..2]).await.unwrap().len(), 2);
        refused(
            by_number.get(&bucket(), &keys[..3]).await.unwrap_err(),
            "limits.keyvalue-reads",
        );
        assert_eq!(
            by_number.get(&bucket(), &["none".into(), "gone".into()]).await.unwrap(),
            [None, None]
        );
        refused(
            by_number.list(&bucket(), None).await.unwrap_err(),
            "limits.keyvalue-reads",
        );
        refused(
            by_number.increment(&bucket(), "n".into(), 1, ANY).await.unwrap_err(),
            "limits.keyvalue-reads",
        );
        // By bytes, in one answer and in several.
        refused(
            begin().get(&bucket(), &keys[..4]).await.unwrap_err(),
            "limits.keyvalue-read-bytes",
        );
        refused(
            begin().list(&bucket(), None).await.unwrap_err(),
            "limits.keyvalue-read-bytes",
        );
        let mut by_bytes = begin();
        assert_eq!(by_bytes.get(&bucket(), &keys[..3]).await.unwrap().len(), 3);
        refused(
            by_bytes.get(&bucket(), &keys[..1]).await.unwrap_err(),
            "limits.keyvalue-read-bytes",
        );
        // What it can write is not bounded by what it has read.
        by_bytes.set(&bucket(), vec![("new".into(), "x".into())]).unwrap();
    })
    .await;
}

#[test]
fn a_handler_that_reads_more_than_it_may_is_told_the_limit() {
    let (_place, host) = begin("[limits]\nkeyvalue-reads = 2\n");
    host.send("in", b"gk;gk;gk;");
    let reason = wait_for("the dead letter", || reasons(&host).pop());
    assert!(reason.contains("limits.keyvalue-reads"), "{reason}");
}

#[tokio::test]
async fn a_store_made_before_there_were_key_values_opens_and_takes_some() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory).await;
    let orders = queue(&store, "orders").await;
    orders.send(Outgoing::new("kept").check().unwrap()).await.unwrap();
    store.close().await;
    let database = rusqlite::Connection::open(directory.path().join("queues.db")).unwrap();
    database
        .execute_batch("DROP TABLE entries; DROP TABLE namespaces;")
        .unwrap();
    drop(database);
    let store = open(&directory).await;
    commit(&store, vec![set("k", "v")]).await.unwrap();
    assert_eq!(value(&store, "k").await.as_deref(), Some("v"));
    assert_eq!(queue(&store, "orders").await.counts().await.unwrap().ready, 1);
    store.close().await;
}

#[tokio::test]
async fn a_value_that_the_disk_changed_is_an_error_until_it_is_written_anew() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory).await;
    commit(&store, vec![set("k", "1"), set("other", "1")]).await.unwrap();
    store.close().await;
    let database = rusqlite::Connection::open(directory.path().join("queues.db")).unwrap();
    database
        .execute("UPDATE entries SET value = x'32' WHERE key = 'k'", [])
        .unwrap();
    drop(database);
    let store = open(&directory).await;
    let keyvalue = store.keyvalue("h");
    let error = keyvalue.get("b", vec!["k".into()], 100).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the stored value of key \"k\" of bucket \"b\" is damaged"),
        "{error}"
    );
    let error = commit(&store, vec![write("k", Change::Add(1))]).await.unwrap_err();
    assert!(
        matches!(
            error,
            CommitError::Refused(EffectsRefused::WriteRefused(WriteError::NotANumber(_)))
        ),
        "{error:?}"
    );
    assert_eq!(value(&store, "other").await.as_deref(), Some("1"));
    commit(&store, vec![set("k", "3")]).await.unwrap();
    assert_eq!(value(&store, "k").await.as_deref(), Some("3"));
    store.close().await;
}

#[tokio::test]
async fn a_closed_store_is_an_error_that_names_no_directory_to_the_guest() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory).await;
    let mut overlay = overlay(&store);
    store.close().await;
    let error = overlay.get(&bucket(), &["k".into()]).await.unwrap_err();
    assert_eq!(error.to_string(), "the key-value store is not available now");
}
