//! Compare-and-set in the key-value store: of attempts that compare the same value one wins, and the others are tried again.

#![expect(clippy::indexing_slicing, reason = "what is not as expected fails the test")]
#![expect(clippy::option_option, reason = "nothing is known, or that there is nothing")]

use std::{collections::BTreeMap, sync::Arc};

use harness::{
    host::{Host, Place},
    keeping::{Draft, keeper, keeper_of},
    sqs_host::Stage,
    wait_for,
};
use proptest::prelude::*;
use sandhog_executor::policy::Limits;
use sandhog_queue::{
    EffectsRefused,
    keyvalue::{
        Change, KeyValueWrite, MAX_VALUE_BYTES, NotedValue, Overlay, OverlayError, SwapRefused, Unchanged, WriteError,
    },
};
use sandhog_simple::{CommitError, SimpleStore};
use serde_json::json;

use crate::keyvalue::{ANY, MANIFEST, bucket, commit, on_both, overlay, ready, reasons, said, set, value, write};

/// A host with a handler `in` that does what its messages say, in the second draft.
fn begin(manifest: &str, configuration: &str) -> (Place, Host) {
    let place = Place::new();
    place.configure(configuration);
    place.install("in", &keeper_of(Draft::Second), &format!("{manifest}{MANIFEST}"));
    let host = ready(&place);
    (place, host)
}

/// The number of attempts of `in` that ended so.
fn attempts(host: &Host, outcome: &str) -> u64 {
    let (_, metrics) = host.text("/metrics");
    let line = format!("sandhog_attempts_total{{handler=\"in\",outcome=\"{outcome}\"}} ");
    let count = metrics.lines().find_map(|shown| shown.strip_prefix(&line));
    count.map_or(0, |count| count.parse().unwrap())
}

#[test]
fn a_value_is_replaced_if_the_attempt_still_sees_what_it_noted() {
    let (_place, host) = begin("", "");
    assert_eq!(
        said(&host, &["nk;v;xfirst;gk;", "nk;v;sk=own;xlost;v;xthird;", "gk;"]).join(" "),
        "- 1 first first 0 own 1 third"
    );
}

#[test]
fn fifty_messages_at_once_that_read_add_and_replace_come_to_the_exact_number_without_a_counted_receive() {
    // With one receive a message, any failure would be a dead letter.
    let (_place, host) = begin("concurrency = 16\n", "[queues.in]\nmax-receives = 1\n");
    let messages: Vec<_> = (0..50).map(|_| json!({ "body": "an=1;w2;" })).collect();
    host.post("/queues/in/batch", &json!({ "messages": messages }));
    host.wait_empty("in");
    assert!(reasons(&host).is_empty(), "{:?}", reasons(&host));
    assert_eq!(said(&host, &["gn;"]), ["50"]);
    assert!(attempts(&host, "conflict") > 0, "no two attempts met");
    assert_eq!(attempts(&host, "success"), 51);
}

#[test]
fn the_second_draft_does_what_the_first_does() {
    for draft in [Draft::First, Draft::Second] {
        let place = Place::new();
        place.install("in", &keeper_of(draft), MANIFEST);
        let host = ready(&place);
        let messages = [
            "gk;sk=value;gk;ek;",
            "dk;gk;ek;in=5;In=6;",
            "b=both;h;k;h;oother;sk=there;gk;o;gk;l;",
        ];
        assert_eq!(
            said(&host, &messages).join(" "),
            "- value 1 - 0 11 both - both - - - there - n",
            "{draft:?}"
        );
        // Both reach the same store.
        let other = if draft == Draft::First {
            Draft::Second
        } else {
            Draft::First
        };
        place.install("in", &keeper_of(other), MANIFEST);
        wait_for("the other draft", || host.events("serving").get(1).cloned());
        assert_eq!(said(&host, &["gn;"]), ["11"], "{draft:?}");
    }
}

#[test]
fn the_second_draft_lists_page_by_page() {
    let (_place, host) = begin("[limits]\nkeyvalue-writes = 5000\nsends = 5000\n", "");
    let steps: Vec<_> = (0..2500).map(|number| format!("s{number:04}=x;")).collect();
    said(&host, &[&steps.concat()]);
    let expected: Vec<_> = (0..2500).map(|number| format!("{number:04}")).collect();
    assert_eq!(said(&host, &["l;"]), expected);
    for cursor in ["cnone;", "c77;"] {
        assert!(said(&host, &[cursor]).is_empty());
        assert!(
            reasons(&host).pop().unwrap().contains("is no cursor"),
            "{:?}",
            reasons(&host)
        );
    }
}

#[test]
fn numbers_of_the_second_draft_are_signed_and_never_wrap() {
    let (place, host) = begin("", "");
    let (least, most) = (i64::MIN.to_string(), i64::MAX.to_string());
    assert_eq!(
        said(&host, &["In=-3;In=1;dn;in=7;In=-8;", &format!("Ia={least};Ib={most};")]),
        ["-3", "-2", "-1", &least, &most]
    );
    for (message, place) in [("ia=-1;", "a"), ("ib=1;", "b")] {
        assert!(said(&host, &[message]).is_empty());
        let expected = format!(
            "nothing can be added to key \"{place}\" of bucket \"default\": it holds no decimal number, or the sum is out of range"
        );
        assert_eq!(reasons(&host).pop().unwrap(), expected);
    }
    assert_eq!(said(&host, &["ga;gb;"]), [least, most]);
    // The first draft answers with numbers from 0.
    place.install("in", &keeper(), MANIFEST);
    wait_for("the first draft", || host.events("serving").get(1).cloned());
    assert!(said(&host, &["in=0;"]).is_empty(), "n is -1");
    assert_eq!(said(&host, &["In=1;Ib=1;"]), ["0", "9223372036854775808"]);
}

#[test]
fn an_attempt_has_as_many_noted_values_as_its_limits_say() {
    let (_place, host) = begin("", "");
    said(&host, &["Sk=1048576;"]);
    for (message, expected) in [
        (
            "Nk=1000000;",
            "the attempt has written and compared as many bytes as it may (limits.keyvalue-bytes)",
        ),
        ("Nnone=1000000;", "1000 values are noted, which is as many as may be"),
    ] {
        assert!(said(&host, &[message]).is_empty());
        assert_eq!(reasons(&host).pop().unwrap(), expected);
    }
    assert_eq!(
        said(&host, &["Nk=15;xdone;Nnone=980;"]),
        ["1"],
        "all of this is allowed"
    );
}

#[test]
fn what_an_instance_noted_for_an_earlier_message_is_told_and_not_compared() {
    let (_place, host) = begin("instance = \"reuse\"\nconcurrency = 1\n", "");
    for late in ["v;", "xlate;"] {
        said(&host, &["nk;", late]);
        assert_eq!(
            reasons(&host).pop().unwrap(),
            "the value was noted for an earlier message: note it again"
        );
    }
    assert_eq!(said(&host, &["nk;xgood;"]), ["1"]);
}

#[test]
fn on_sqs_attempts_that_compare_the_same_value_are_all_counted() {
    let mut stage = Stage::new("compare");
    let source = stage.queue("in", &[("VisibilityTimeout", "30")], "");
    let place = stage.place();
    place.install("in", &keeper_of(Draft::Second), &format!("concurrency = 8\n{MANIFEST}"));
    let host = ready(&place);
    for _ in 0..10 {
        source.put("an=1;w20;");
    }
    source.wait_gone();
    assert!(attempts(&host, "conflict") > 0, "no two attempts met");
    assert!(
        stage.handed(&source).iter().all(|each| each.count == 1),
        "a receive was counted"
    );
    source.put("gn;");
    wait_for("the number", || (host.count("out", "ready") == 1).then_some(()));
    assert_eq!(host.take_all("out"), ["10"]);
}

#[test]
fn invoke_shows_that_a_write_is_conditional() {
    let place = Place::new();
    place.install("in", &keeper_of(Draft::Second), MANIFEST);
    let shown = |arguments: &[&str]| {
        let output = place.command().args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        text
    };
    let message = "nk;xvalue;In=-2;";
    let text = shown(&["invoke", "plugins/in.wasm", message]);
    for line in [
        "wrote      k of bucket default: 5 bytes, if it is what was compared",
        "wrote      n of bucket default: minus 2",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    let shown: serde_json::Value =
        serde_json::from_str(&shown(&["invoke", "--json", "plugins/in.wasm", message])).unwrap();
    assert_eq!(shown["writes"][0]["conditional"], json!(true));
    assert_eq!(shown["writes"][1]["added"], json!(-2));
}

// The rules of the store, on both kinds of it.

fn conditional(key: &str, change: Change, condition: Option<&str>) -> KeyValueWrite {
    KeyValueWrite {
        condition: Some(Unchanged(condition.map(|value| value.to_owned().into()))),
        ..write(key, change)
    }
}

fn is_conflict(answer: &Result<(), CommitError>) -> bool {
    matches!(
        answer,
        Err(CommitError::Refused(EffectsRefused::WriteRefused(WriteError::Changed(
            _
        ))))
    )
}

#[tokio::test]
async fn if_one_condition_does_not_hold_nothing_of_a_transaction_happens() {
    on_both(async |store| {
        commit(&store, vec![set("a", "1"), set("b", "1")]).await.unwrap();
        let to = |text: &str| Change::Set(text.to_owned().into());
        for (condition, holds) in [(Some("1"), true), (Some("2"), false), (Some(""), false), (None, false)] {
            let changes = vec![set("a", "changed"), conditional("b", to("1"), condition)];
            let answer = commit(&store, changes).await;
            assert_eq!(answer.is_ok(), holds, "{condition:?}: {answer:?}");
            assert_eq!(is_conflict(&answer), !holds, "{condition:?}: {answer:?}");
            assert_eq!(
                value(&store, "a").await.as_deref(),
                Some(if holds { "changed" } else { "1" })
            );
            commit(&store, vec![set("a", "1")]).await.unwrap();
        }
        // A key that is not there has no value, in a store that has none either.
        commit(&store, vec![conditional("new", to("x"), None)]).await.unwrap();
        assert!(is_conflict(
            &commit(&store, vec![conditional("new", Change::Delete, None)]).await
        ));
        commit(&store, vec![conditional("new", Change::Delete, Some("x"))])
            .await
            .unwrap();
        assert_eq!(value(&store, "new").await, None);
        commit(&store, vec![conditional("b", Change::Add(2), Some("1"))])
            .await
            .unwrap();
        assert_eq!(value(&store, "b").await.as_deref(), Some("3"));
    })
    .await;
}

#[tokio::test]
async fn what_was_compared_stays_a_condition_whatever_the_attempt_does_with_the_key_afterwards() {
    on_both(async |store| {
        for later in ["", "set", "delete", "increment", "swap"] {
            for held in [Some("1"), None] {
                let reset = held.map_or(write("k", Change::Delete), |held| set("k", held));
                let mut lost = overlay(&store);
                commit(&store, vec![reset.clone()]).await.unwrap();
                compared(&mut lost, later).await;
                commit(&store, vec![set("k", "other")]).await.unwrap();
                let answer = commit(&store, lost.take()).await;
                assert!(is_conflict(&answer), "{later} {held:?}: {answer:?}");
                let mut won = overlay(&store);
                commit(&store, vec![reset]).await.unwrap();
                compared(&mut won, later).await;
                commit(&store, won.take()).await.unwrap();
            }
        }
    })
    .await;
}

/// Replaces the value of `k`, and then does this with it.
async fn compared(overlay: &mut Overlay, later: &str) {
    let key: Arc<str> = "k".into();
    let noted = overlay.note(&bucket(), Arc::clone(&key)).await.unwrap();
    overlay.swap(noted, "5".into()).await.unwrap();
    match later {
        "set" => overlay.set(&bucket(), vec![(key, "7".into())]).unwrap(),
        "delete" => overlay.delete(&bucket(), vec![key]).unwrap(),
        "increment" => assert_eq!(overlay.increment(&bucket(), key, -6, ANY).await.unwrap(), -1),
        "swap" => {
            let noted = overlay.note(&bucket(), key).await.unwrap();
            assert_eq!(noted.value().unwrap(), "5");
            overlay.swap(noted, "8".into()).await.unwrap();
        }
        _ => {}
    }
}

#[tokio::test]
async fn an_own_write_is_compared_and_makes_no_condition() {
    on_both(async |store| {
        let mut attempt = overlay(&store);
        attempt.set(&bucket(), vec![("k".into(), "own".into())]).unwrap();
        let noted = attempt.note(&bucket(), "k".into()).await.unwrap();
        commit(&store, vec![set("k", "other")]).await.unwrap();
        attempt.swap(noted, "mine".into()).await.unwrap();
        commit(&store, attempt.take()).await.unwrap();
        assert_eq!(value(&store, "k").await.as_deref(), Some("mine"));
    })
    .await;
}

#[tokio::test]
async fn a_value_that_another_attempt_changed_meanwhile_is_not_replaced_and_the_latest_is_noted() {
    on_both(async |store| {
        let mut attempt = overlay(&store);
        attempt.increment(&bucket(), "n".into(), 2, ANY).await.unwrap();
        let noted = attempt.note(&bucket(), "n".into()).await.unwrap();
        assert_eq!(noted.value().unwrap(), "2");
        commit(&store, vec![set("n", "40")]).await.unwrap();
        let Err(SwapRefused::Changed(latest)) = attempt.swap(noted, "x".into()).await else {
            panic!("the value was replaced");
        };
        assert_eq!(latest.value().unwrap(), "42");
        attempt.swap(latest, "43".into()).await.unwrap();
        commit(&store, attempt.take()).await.unwrap();
        assert_eq!(value(&store, "n").await.as_deref(), Some("43"));
    })
    .await;
}

#[tokio::test]
async fn noted_values_count_towards_the_bytes_of_an_attempt_until_they_are_forgotten() {
    on_both(async |store| {
        let large = "v".repeat(MAX_VALUE_BYTES);
        commit(&store, vec![set("k", &large)]).await.unwrap();
        let limits = Limits {
            keyvalue_bytes: 3 * 1024 * 1024,
            ..Limits::default()
        };
        let mut attempt = Overlay::new(store.keyvalue("h"), (&limits).into());
        let first = attempt.note(&bucket(), "k".into()).await.unwrap();
        let second = attempt.note(&bucket(), "k".into()).await.unwrap();
        let error = attempt.note(&bucket(), "k".into()).await.unwrap_err();
        assert!(matches!(error, OverlayError::Held), "{error:?}");
        attempt.forget(&first);
        // What was compared is kept with the change.
        attempt.swap(second, large.clone().into()).await.unwrap();
        let third = attempt.note(&bucket(), "k".into()).await;
        assert!(matches!(third, Err(OverlayError::Held)), "{third:?}");
        let written: usize = attempt.take().iter().map(KeyValueWrite::size).sum();
        assert_eq!(written, 2 + 2 * MAX_VALUE_BYTES);
    })
    .await;
}

#[tokio::test]
async fn of_attempts_that_compared_the_same_value_one_is_committed() {
    on_both(async |store| {
        let mut attempts = Vec::new();
        for number in 0..20 {
            let mut attempt = overlay(&store);
            let noted = attempt.note(&bucket(), "k".into()).await.unwrap();
            attempt.swap(noted, number.to_string().into()).await.unwrap();
            attempts.push(attempt.take());
        }
        let mut committed = 0;
        for changes in attempts {
            let answer = commit(&store, changes).await;
            committed += usize::from(answer.is_ok());
            assert!(answer.is_ok() || is_conflict(&answer), "{answer:?}");
        }
        assert_eq!(committed, 1);
    })
    .await;
}

// Any interleaving of attempts, compared with a model that remembers what each attempt did and looks at the committed values
// anew for every question.

const KEYS: [&str; 2] = ["a", "b"];
const ATTEMPTS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Set(u8),
    Delete,
    Add(i8),
    Get,
    Note,
    Swap(u8),
    Commit,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8).prop_map(Step::Set),
        Just(Step::Delete),
        (-3..4_i8).prop_map(Step::Add),
        Just(Step::Get),
        Just(Step::Note),
        Just(Step::Note),
        (0..4_u8).prop_map(Step::Swap),
        (0..4_u8).prop_map(Step::Swap),
        Just(Step::Commit),
        Just(Step::Commit),
    ]
}

/// A value: a number, or a word for one of them.
fn text(number: u8) -> String {
    if number == 3 {
        "word".to_owned()
    } else {
        number.to_string()
    }
}

/// What an attempt did with a key.
#[derive(Debug, Default)]
struct ModelKey {
    done: Vec<Step>,
    /// The committed value that the key must still have.
    condition: Option<Option<String>>,
    noted: Option<Option<String>>,
}

impl ModelKey {
    /// What comes of a committed value by what was done since the last step that makes it irrelevant; an error if something can't be added to it.
    fn fold(&self, committed: Option<&String>) -> Result<Option<String>, ()> {
        self.done.iter().try_fold(committed.cloned(), |held, step| match step {
            Step::Set(number) | Step::Swap(number) => Ok(Some(text(*number))),
            Step::Delete => Ok(None),
            Step::Add(delta) => {
                let held: i64 = held.map_or(Ok(0), |held| held.parse()).map_err(drop)?;
                Ok(Some((held + i64::from(*delta)).to_string()))
            }
            Step::Get | Step::Note | Step::Commit => Ok(held),
        })
    }

    /// Whether the committed value makes a difference to what the attempt sees.
    fn depends(&self) -> bool {
        self.done.iter().all(|step| matches!(step, Step::Add(_)))
    }
}

struct ModelAttempt {
    overlay: Overlay,
    keys: BTreeMap<&'static str, ModelKey>,
    noted: BTreeMap<&'static str, NotedValue>,
}

impl ModelAttempt {
    fn new(store: &SimpleStore) -> Self {
        Self {
            overlay: overlay(store),
            keys: BTreeMap::new(),
            noted: BTreeMap::new(),
        }
    }

    /// Takes one step in the overlay and in the model, and compares the answers.
    async fn take(&mut self, step: Step, name: &'static str, committed: &BTreeMap<&'static str, String>) {
        let (key, bucket): (Arc<str>, _) = (name.into(), bucket());
        let model = self.keys.entry(name).or_default();
        let seen = model.fold(committed.get(name));
        match step {
            Step::Set(number) => {
                self.overlay.set(&bucket, vec![(key, text(number).into())]).unwrap();
                model.done = vec![step];
            }
            Step::Delete => {
                self.overlay.delete(&bucket, vec![key]).unwrap();
                model.done = vec![step];
            }
            Step::Add(delta) => {
                let sum = self.overlay.increment(&bucket, key, delta.into(), ANY).await.ok();
                model.done.push(step);
                let expected = model.fold(committed.get(name)).ok().flatten();
                assert_eq!(sum.map(|sum| sum.to_string()), expected);
                if expected.is_none() {
                    model.done.pop();
                }
            }
            Step::Get => {
                let values = self.overlay.get(&bucket, &[key]).await.map_err(drop);
                assert_eq!(values.map(|values| shown(values[0].as_ref())), seen);
            }
            Step::Note => {
                if let Some(before) = self.noted.remove(name) {
                    self.overlay.forget(&before);
                }
                let noted = self.overlay.note(&bucket, key).await.map_err(drop);
                model.noted = seen.clone().ok();
                assert_eq!(
                    noted.as_ref().map(|noted| shown(noted.value())).map_err(|error| *error),
                    seen
                );
                self.noted.extend(noted.ok().map(|noted| (name, noted)));
            }
            Step::Swap(number) => {
                let (Some(noted), Some(expected)) = (self.noted.remove(name), model.noted.take()) else {
                    return;
                };
                match (self.overlay.swap(noted, text(number).into()).await, seen) {
                    (Ok(()), Ok(seen)) => {
                        assert_eq!(seen, expected);
                        if model.depends() && model.condition.is_none() {
                            model.condition = Some(committed.get(name).cloned());
                        }
                        model.done = vec![step];
                    }
                    (Err(SwapRefused::Changed(latest)), Ok(seen)) => {
                        assert_ne!(seen, expected);
                        assert_eq!(shown(latest.value()), seen);
                        model.noted = Some(seen);
                        self.noted.insert(name, latest);
                    }
                    (Err(SwapRefused::Error(OverlayError::NotANumber(_))), Err(())) => {}
                    other => panic!("{other:?}"),
                }
            }
            Step::Commit => unreachable!("an attempt does not commit itself"),
        }
    }

    /// Commits the attempt in the store and in the model.
    async fn end(mut self, store: &SimpleStore, committed: &mut BTreeMap<&'static str, String>) {
        let answer = commit(store, self.overlay.take()).await;
        let holds = |(name, model): (&&'static str, &ModelKey)| {
            model
                .condition
                .as_ref()
                .is_none_or(|condition| committed.get(name) == condition.as_ref())
        };
        let conflict = !self.keys.iter().all(holds);
        let results: Result<Vec<_>, ()> = self
            .keys
            .iter()
            .map(|(name, model)| Ok((*name, model.fold(committed.get(name))?)))
            .collect();
        match (&answer, results) {
            (Ok(()), Ok(results)) if !conflict => {
                for (name, value) in results {
                    match value {
                        Some(value) => committed.insert(name, value),
                        None => committed.remove(name),
                    };
                }
            }
            (Err(_), Err(())) => {}
            (Err(_), Ok(_)) => assert!(conflict && is_conflict(&answer), "{answer:?}"),
            (Ok(()), other) => panic!("it was committed: {conflict} {other:?}"),
        }
    }
}

fn shown(value: Option<&bytes::Bytes>) -> Option<String> {
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_interleaving_of_attempts_is_as_the_model_says(
        steps in prop::collection::vec((0..ATTEMPTS, prop::sample::select(&KEYS[..]), step()), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = SimpleStore::ephemeral();
            let mut committed = BTreeMap::new();
            let mut attempts: Vec<_> = (0..ATTEMPTS).map(|_| ModelAttempt::new(&store)).collect();
            for (number, key, step) in steps {
                if matches!(step, Step::Commit) {
                    let ended = std::mem::replace(&mut attempts[number], ModelAttempt::new(&store));
                    ended.end(&store, &mut committed).await;
                    for key in KEYS {
                        assert_eq!(value(&store, key).await.as_ref(), committed.get(key));
                    }
                } else {
                    attempts[number].take(step, key, &committed).await;
                }
            }
        });
    }
}
