//! The contract suite on SQS: what `queue_contract.rs` says of every kind of queue, and what only SQS queues are asked, on
//! every real server that this machine can run.
//!
//! Time is real here, so all claims of a server run at once, in a process of their own: the SDK finds its endpoint in the
//! environment, which is that of a whole process. Between it and the server stands a proxy, whose log says what was asked.
//!
//! What SQS cannot hold, of the claims that the Simple queues hold:
//!
//! - the order of a queue, priorities, and what urgent messages overtake: SQS orders within groups, and only in FIFO queues;
//! - strict order, time to live, the limit of messages: SQS has no such settings, and the configuration refuses them;
//! - that a released receive is not counted: SQS counts it;
//! - that a receipt settles once: SQS takes any change of an unsettled message by its latest receipt, and the lease keeper
//!   sees to it that there is one only;
//! - that an expired receipt is refused: SQS takes it as long as there is no newer one, except for deletions from FIFO queues,
//!   and some of its servers take even older ones; the lease keeper does not use one past its deadline;
//! - the failure of an exhausted message: what fails on its last receive is settled as a dead letter by the host (a receive too
//!   many, which is the queue's own business, is held here);
//! - pages of dead letters and their order: SQS has no way to look into a queue, and no place to go on from;
//! - that a dead letter, received as a message, has its old id and time: it is a new message of its queue;
//! - that purging spares what is in flight: SQS deletes that as well;
//! - that a delayed message of a group waits alone: a FIFO queue delays all of its messages or none;
//! - that ids for deduplication are forgotten after five minutes: true, and too long for a test in real time;
//! - sends in the transaction of a settlement: SQS has no transactions;
//! - the age of the oldest message: SQS does not tell it to its clients.

#![expect(clippy::indexing_slicing, reason = "the steps of a test must succeed")]

mod world;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use harness::{
    fault_proxy::{Entry, Fault},
    sqs_behaviour::Behaviour,
    sqs_server::Kind,
};
use sandhog_queue::{
    DeadLetter, Delivery, Effects, ExtendError, FailureKind, FailureRecord, Queue, QueueCapabilities, QueueError,
    Receipt, SendError, SettleError, SettleRequest, Settlement,
    message::{AttributeValue, Attributes, MAX_BODY_BYTES, MessageId, Outgoing},
};
use sandhog_sqs::settings::{Location, SqsSettings};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use self::world::{FIFO, Made, PATIENCE, Sqs, hold, is_for, settings};
use crate::queue_contract::{
    Backend, a_delayed_message_is_hidden_until_its_delay_ends, a_deleted_message_never_returns,
    a_duplicate_is_answered_with_the_first_id, a_duplicate_is_dropped_though_the_first_is_gone,
    a_group_goes_on_after_a_dead_letter, a_group_waits_for_the_retry_of_its_first,
    a_message_that_breaks_a_limit_is_refused_alone, a_message_that_was_never_settled_dies_of_host_stopped,
    a_received_message_is_hidden_until_its_visibility_timeout, a_rejected_message_goes_to_the_dead_letters_at_once,
    a_retried_message_is_hidden_until_its_retry_delay_ends, a_retry_without_delay_is_visible_at_once,
    a_waiting_receive_ends_empty, a_waiting_receive_gets_a_delayed_message_when_it_is_due,
    a_waiting_receive_gets_an_expired_message, a_waiting_receive_is_woken_by_a_release,
    a_waiting_receive_is_woken_by_a_send, a_waiting_receive_is_woken_by_the_next_of_a_group,
    an_expired_receipt_does_not_disturb_the_others_of_its_batch, an_extension_can_shorten,
    an_extension_counts_from_now, bodies, bury, checked, deduplication_ids_are_per_queue, end,
    every_receive_is_counted, failure, grouped, message, purging_the_dead_spares_the_living,
    redrive_by_id_leaves_the_others, retry, send, send_each, take, take_one,
};

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any wait of SQS: the test ends first.
const LONG: Duration = Duration::from_hours(1);
/// Before a message comes back by itself, or a long poll of 20 s ends.
const SOON: Duration = Duration::from_secs(18);

/// Each claim on each server that does all of what stands in brackets, see [`Behaviour`].
macro_rules! contract {
    ($($claim:ident $([$($needs:ident)*])?),* $(,)?) => {
        contract! { @on rustack Rustack $($claim [$($($needs)*)?])* }
        contract! { @on localstack LocalStack $($claim [$($($needs)*)?])* }
        contract! { @on ministack MiniStack $($claim [$($($needs)*)?])* }
        contract! { @on sandhog Sandhog $($claim [$($($needs)*)?])* }
        const CLAIMS: &[&str] = &[$(stringify!($claim)),*];
    };
    (@on $server:ident $kind:ident $($claim:ident [$($needs:ident)*])*) => {
        mod $server {
            $(
                #[test]
                fn $claim() {
                    let does_all: bool = true $(&& super::Kind::$kind.does(super::Behaviour::$needs))*;
                    if does_all {
                        super::hold(super::Kind::$kind, stringify!($claim), |sqs| {
                            Box::pin(async move { super::$claim(&sqs).await })
                        });
                    }
                }
            )*
        }
    };
}

contract! {
    // Of every kind of queue.
    a_message_that_breaks_a_limit_is_refused_alone,
    a_deleted_message_never_returns,
    a_received_message_is_hidden_until_its_visibility_timeout,
    an_extension_counts_from_now,
    an_extension_can_shorten,
    every_receive_is_counted,
    a_delayed_message_is_hidden_until_its_delay_ends,
    a_retried_message_is_hidden_until_its_retry_delay_ends,
    a_retry_without_delay_is_visible_at_once,
    a_message_that_was_never_settled_dies_of_host_stopped,
    a_rejected_message_goes_to_the_dead_letters_at_once,
    redrive_by_id_leaves_the_others,
    purging_the_dead_spares_the_living,
    a_group_waits_for_the_retry_of_its_first,
    a_group_goes_on_after_a_dead_letter,
    a_duplicate_is_answered_with_the_first_id,
    a_duplicate_is_dropped_though_the_first_is_gone,
    deduplication_ids_are_per_queue,
    a_waiting_receive_is_woken_by_a_send,
    a_waiting_receive_is_woken_by_a_release,
    a_waiting_receive_is_woken_by_the_next_of_a_group,
    a_waiting_receive_gets_a_delayed_message_when_it_is_due,
    a_waiting_receive_gets_an_expired_message,
    a_waiting_receive_ends_empty,
    an_expired_receipt_does_not_disturb_the_others_of_its_batch [RefusesExpiredOnFifo],
    // Of SQS.
    every_body_comes_back_as_it_was_sent,
    text_goes_as_it_is_and_all_else_in_base64,
    a_body_that_is_not_written_as_it_says_comes_as_it_is,
    attributes_of_every_kind_come_back,
    ten_attributes_and_a_trace_header_come_back [KeepsTraceHeaders],
    labels_of_attributes_survive_the_dead_letter_queue,
    a_refused_send_names_its_limit,
    a_refused_send_to_a_fifo_queue_names_its_limit,
    sends_go_ten_a_call,
    ten_large_messages_go_as_many_a_call_as_fit [TakesBigBodies],
    a_refused_entry_does_not_take_the_others_with_it,
    a_call_refused_for_one_entry_is_repeated_entry_by_entry,
    an_entry_that_the_server_had_trouble_with_is_repeated,
    deletions_of_many_share_a_call,
    a_garbled_receipt_does_not_disturb_the_others [FailsEntriesAlone RefusesGarbage],
    messages_of_a_group_come_in_the_order_sent,
    one_receive_brings_several_of_a_group_in_order [BatchesGroups],
    a_released_group_comes_back_in_order [BatchesGroups],
    a_group_given_back_with_a_delay_comes_back_in_order [BatchesGroups],
    groups_do_not_wait_for_each_other,
    messages_without_an_id_for_deduplication_are_all_kept,
    a_queue_that_deduplicates_by_content_is_left_to_it,
    ids_for_deduplication_count_within_a_group_if_the_queue_says_so [DeduplicatesPerGroup],
    a_receive_whose_answer_was_lost_is_made_again_with_its_attempt_id,
    every_receive_of_a_fifo_queue_has_an_attempt_id_of_its_own,
    a_standard_queue_keeps_groups_and_does_not_order_them [TakesGroupsOnStandard],
    the_queue_says_what_is_special_about_it,
    a_dead_letter_says_where_it_comes_from,
    a_dead_letter_with_ten_attributes_keeps_them_all,
    a_dead_letter_without_room_for_its_story_arrives_without,
    a_rejected_message_goes_to_the_target_of_the_redrive_policy,
    a_message_moved_by_the_redrive_policy_is_listed,
    without_a_dead_letter_queue_a_dead_letter_is_refused,
    looking_at_dead_letters_leaves_them_visible,
    a_redriven_message_is_as_it_was,
    a_redriven_message_of_a_group_is_as_it_was,
    redrive_finds_a_dead_letter_by_the_id_that_it_has_now,
    redrive_stops_at_its_limit,
    redrive_of_all_is_left_to_the_server [MovesBack ListsSources],
    the_dead_letters_of_another_queue_are_left_alone,
    purge_empties_the_queue,
    a_second_purge_says_when_it_is_possible_again,
    counts_follow_a_message_through_its_life,
    a_queue_is_found_by_its_name,
    a_missing_queue_is_named_and_found_once_it_is_created,
    a_queue_that_was_deleted_and_created_again_is_found,
    an_abandoned_receive_is_taken_over_by_the_next_one,
    what_an_abandoned_receive_brings_beyond_the_next_one_is_released,
    what_nobody_waits_for_is_released,
    a_receive_that_nobody_takes_over_is_given_up,
    closing_ends_a_parked_poll,
    the_visibility_timeout_is_the_queues_own_unless_configured,
}

/// Receives until there are so many messages, and returns them in the order in which they came.
async fn gather(queue: &Arc<dyn Queue>, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        deliveries.extend(queue.receive(count - deliveries.len(), 20 * SECOND).await.unwrap());
    }
    deliveries
}

fn sorted(mut bodies: Vec<String>) -> Vec<String> {
    bodies.sort();
    bodies
}

/// The bodies of what is left in a queue, which is taken out of it.
async fn drain(queue: &Arc<dyn Queue>) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        let deliveries = queue.receive(10, SECOND).await.unwrap();
        if deliveries.is_empty() {
            return found;
        }
        found.extend(bodies(&deliveries));
        delete_all(queue, &deliveries).await;
    }
}

async fn settle_all(queue: &Arc<dyn Queue>, deliveries: impl Iterator<Item = &Delivery>, settlement: Settlement) {
    let settles = deliveries.map(|delivery| SettleRequest {
        receipt: delivery.receipt.clone(),
        settlement: settlement.clone(),
    });
    for answer in queue.settle(settles.collect(), Effects::default()).await.unwrap() {
        answer.unwrap();
    }
}

async fn delete_all(queue: &Arc<dyn Queue>, deliveries: &[Delivery]) {
    settle_all(queue, deliveries.iter(), Settlement::Delete).await;
}

fn dead_letter(reason: &str) -> Settlement {
    Settlement::DeadLetter {
        failure: failure(reason),
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::Text(value.to_owned())
}

fn with_attributes(
    body: impl Into<bytes::Bytes>,
    attributes: impl IntoIterator<Item = (String, AttributeValue)>,
) -> Outgoing {
    Outgoing {
        attributes: Attributes::new(attributes.into_iter().collect()).unwrap(),
        ..Outgoing::new(body)
    }
}

/// Ten attributes of all kinds.
fn ten() -> Vec<(String, AttributeValue)> {
    let numbered = |number: usize| (format!("text-{number}"), text(&format!("value {number}")));
    let mut all: Vec<_> = (1..=7).map(numbered).collect();
    all.push(("Weight.in_kg".to_owned(), AttributeValue::Number("1.50".to_owned())));
    all.push((
        "big".to_owned(),
        AttributeValue::Number("-12345678901234567890.5".to_owned()),
    ));
    all.push(("stamp".to_owned(), AttributeValue::Binary((0..=255).collect())));
    all
}

/// By name: SQS keeps no order.
fn by_name(attributes: &Attributes) -> BTreeMap<String, AttributeValue> {
    attributes.pairs().iter().cloned().collect()
}

fn named(pairs: &[(String, AttributeValue)]) -> BTreeMap<String, AttributeValue> {
    pairs.iter().cloned().collect()
}

/// Waits until that many requests of an action were made for a queue.
async fn wait_for_requests(sqs: &Sqs, action: &str, made: &Made, count: usize) {
    let end = Instant::now() + PATIENCE;
    while sqs.asked(action, made).len() < count {
        assert!(Instant::now() < end, "{count} requests {action} in vain");
        sleep(SECOND / 50).await;
    }
}

// Bodies.

/// The largest message that the server takes, in bytes.
fn largest(sqs: &Sqs) -> usize {
    if sqs.does(Behaviour::TakesBigBodies) {
        MAX_BODY_BYTES
    } else {
        256 * 1024
    }
}

async fn every_body_comes_back_as_it_was_sent(sqs: &Sqs) {
    let carried = "\t\n\r ~\u{7f}\u{85}\u{d7ff}\u{e000}\u{fffd}\u{10000}\u{1f600}\u{10ffff}";
    let sent: Vec<Vec<u8>> = [
        b"hello".to_vec(),
        b"\n leading and trailing \r\n".to_vec(),
        carried.into(),
        Vec::new(),
        b"(empty)".to_vec(),
        b"AAEC".to_vec(),
        (0..=255).collect(),
        b"a\0b".to_vec(),
        (1..32).collect(),
        "\u{fffe}".into(),
        "\u{ffff}".into(),
        vec![b'x'; largest(sqs)],
        vec![0xff; largest(sqs) / 4 * 3 - 100],
    ]
    .into();
    let queue = sqs.standard("orders").queue;
    let answers = send_each(&queue, sent.iter().cloned().map(Outgoing::new).collect()).await;
    let ids: Vec<MessageId> = answers.into_iter().map(Result::unwrap).collect();
    let received = gather(&queue, sent.len()).await;
    let mut received: HashMap<_, _> = received
        .into_iter()
        .map(|delivery| (delivery.message.id, delivery.message.body))
        .collect();
    for (id, body) in ids.iter().zip(&sent) {
        let shown = &body[..body.len().min(20)];
        assert!(
            received.remove(id).unwrap() == *body,
            "{shown:?} of {} bytes",
            body.len()
        );
    }
}

async fn text_goes_as_it_is_and_all_else_in_base64(sqs: &Sqs) {
    let made = sqs.standard("orders");
    for (sent, body, encoding) in [
        ("<grüße> \u{1f600}\r\n", "<grüße> \u{1f600}\r\n", Value::Null),
        ("", "(empty)", json!("empty")),
        ("\u{0}\u{1}\u{2}", "AAEC", json!("base64")),
        ("\u{ffff}", "77+/", json!("base64")),
    ] {
        send(&made.queue, [message(sent)]).await;
        let received = sqs.client().receive(&made.url, 1, 20).pop().unwrap();
        assert_eq!(received.body, body);
        assert_eq!(received.attributes["sandhog-encoding"]["StringValue"], encoding);
        sqs.client().delete(&made.url, &received.handle).unwrap();
    }
}

async fn a_body_that_is_not_written_as_it_says_comes_as_it_is(sqs: &Sqs) {
    let made = sqs.standard("orders");
    let encoding = |value: &str| json!({ "sandhog-encoding": { "DataType": "String", "StringValue": value } });
    for (body, value, meant) in [
        ("AAEC", "base64", Some(vec![0, 1, 2])),
        ("", "base64", None),
        ("what?", "base64", None),
        ("AAEC", "rot13", None),
    ] {
        let body = if body.is_empty() { "=" } else { body };
        sqs.client()
            .send_with(&made.url, body, json!({ "MessageAttributes": encoding(value) }));
        let delivery = take_one(&made.queue).await;
        let attribute = delivery.message.attributes.get("sandhog-encoding");
        match meant {
            Some(meant) => {
                assert_eq!((&*delivery.message.body, attribute), (&*meant, None));
            }
            None => {
                assert_eq!(
                    (&*delivery.message.body, attribute),
                    (body.as_bytes(), Some(&text(value)))
                );
            }
        }
        end(&made.queue, &delivery, Settlement::Delete).await.unwrap();
    }
}

// Attributes.

async fn attributes_of_every_kind_come_back(sqs: &Sqs) {
    let queue = sqs.standard("orders").queue;
    for attributes in [
        Vec::new(),
        vec![("one".to_owned(), text("päckchen\r\n\t\u{1f600}"))],
        ten(),
    ] {
        send(&queue, [with_attributes("a", attributes.clone())]).await;
        let delivery = take_one(&queue).await;
        assert_eq!(by_name(&delivery.message.attributes), named(&attributes));
        end(&queue, &delivery, Settlement::Delete).await.unwrap();
    }
}

async fn ten_attributes_and_a_trace_header_come_back(sqs: &Sqs) {
    if sqs.kind() == Kind::MiniStack {
        // Its SendMessage keeps the header, and its SendMessageBatch, which is what the host uses, drops it.
        return;
    }
    let made = sqs.standard("orders");
    let trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1";
    let mut attributes = ten();
    attributes.push(("AWSTraceHeader".to_owned(), text(trace)));
    // Only what comes from a queue has eleven: a sender is held to ten, on every kind of queue.
    let outgoing = Outgoing {
        attributes: Attributes::from_queue(attributes.clone()),
        ..message("a")
    };
    send(&made.queue, [outgoing]).await;
    let raw = sqs.client().receive(&made.url, 1, 20).pop().unwrap();
    assert_eq!(raw.system["AWSTraceHeader"], trace, "it is the one that X-Ray knows");
    sqs.client().change_visibility(&made.url, &raw.handle, 0).unwrap();
    let delivery = take_one(&made.queue).await;
    assert_eq!(by_name(&delivery.message.attributes), named(&attributes));
}

/// Receives one message past the host, and lets it go again.
fn peek(sqs: &Sqs, made: &Made) -> Value {
    let raw = sqs.client().receive(&made.url, 1, 20).pop().unwrap();
    sqs.client().change_visibility(&made.url, &raw.handle, 0).unwrap();
    raw.attributes
}

async fn labels_of_attributes_survive_the_dead_letter_queue(sqs: &Sqs) {
    let (orders, dead) = sqs.with_dead(&[]);
    let attributes = json!({
        "document": { "DataType": "String.json", "StringValue": "{}" },
        "price": { "DataType": "Number.eur", "StringValue": "9.90" },
        "image": { "DataType": "Binary.png", "BinaryValue": "AAEC" },
    });
    sqs.client()
        .send_with(&orders.url, "a", json!({ "MessageAttributes": attributes }));
    let delivery = bury(&orders.queue).await;
    let kinds = [
        ("document".to_owned(), text("{}")),
        ("image".to_owned(), AttributeValue::Binary(vec![0, 1, 2])),
        ("price".to_owned(), AttributeValue::Number("9.90".to_owned())),
    ];
    assert_eq!(delivery.message.attributes.pairs(), kinds);
    let types = |attributes: &Value| {
        ["document", "price", "image"].map(|name| attributes[name]["DataType"].as_str().unwrap().to_owned())
    };
    assert_eq!(types(&peek(sqs, &dead)), types(&attributes));
    assert_eq!(orders.queue.redrive(None, 1).await.unwrap(), 1);
    let back = peek(sqs, &orders);
    assert_eq!(types(&back), types(&attributes));
    assert_eq!(back.as_object().unwrap().len(), 3, "{back}");
}

// Refusals.

/// Sends each beside a good message, which arrives; the refusal has these words.
async fn check_refusals(sqs: &Sqs, made: &Made, good: &Outgoing, refused: Vec<(Outgoing, &str)>) {
    for (outgoing, words) in refused {
        let shown = format!("{outgoing:?}").chars().take(200).collect::<String>();
        let mut answers = send_each(&made.queue, vec![outgoing, good.clone()]).await;
        answers.pop().unwrap().unwrap();
        match answers.pop().unwrap() {
            Err(SendError::Invalid(invalid)) => {
                assert!(invalid.to_string().contains(words), "{invalid} of {shown}");
            }
            other => panic!("{other:?} of {shown}"),
        }
        assert_eq!(drain(&made.queue).await.len(), 1);
    }
    for entry in sqs.asked("SendMessageBatch", made) {
        assert_eq!(
            entry.request["Entries"].as_array().unwrap().len(),
            1,
            "the bad one was not even sent"
        );
    }
}

async fn a_refused_send_names_its_limit(sqs: &Sqs) {
    let made = sqs.standard("orders");
    let with = |name: &str, value: AttributeValue| with_attributes("a", [(name.to_owned(), value)]);
    let (largest, limit) = (largest(sqs), largest(sqs).to_string());
    let refused = vec![
        (with_attributes(vec![0, 1], ten()), "takes 10"),
        (Outgoing::new(vec![b'x'; largest + 1]), &limit),
        (
            with_attributes(vec![b'x'; largest - 5], [("k".to_owned(), text("v"))]),
            &limit,
        ),
        (Outgoing::new(vec![0xff; largest / 4 * 3 + 100]), &limit),
        (
            Outgoing {
                delay: Some(901 * SECOND),
                ..message("a")
            },
            "900 s",
        ),
        (
            Outgoing {
                priority: Some(1),
                ..message("a")
            },
            "no priorities",
        ),
        (grouped("a", "two words"), "group id"),
        (with("k", text("")), "no empty values"),
        (with("k", AttributeValue::Binary(Vec::new())), "no empty values"),
        (with("k", text("\u{7}")), "control characters"),
        (with("AWS.k", text("v")), "AWS."),
        (with("k..v", text("v")), "'.'"),
        (with("ä", text("v")), "letters"),
        (with("sandhog-encoding", text("v")), "taken"),
        (with("sandhog-dead-letter", text("v")), "taken"),
    ];
    check_refusals(sqs, &made, &message("good"), refused).await;
}

async fn a_refused_send_to_a_fifo_queue_names_its_limit(sqs: &Sqs) {
    let made = sqs.fifo("orders.fifo");
    let refused = vec![
        (message("a"), "group id"),
        (grouped("a", ""), "group id"),
        (
            Outgoing {
                delay: Some(SECOND),
                ..grouped("a", "g")
            },
            "DelaySeconds of the queue",
        ),
        (
            Outgoing {
                deduplication_id: Some("ä".to_owned()),
                ..grouped("a", "g")
            },
            "deduplication id",
        ),
    ];
    check_refusals(sqs, &made, &grouped("good", "g"), refused).await;
}

// Batches.

fn entries(asked: &[Entry]) -> Vec<usize> {
    asked
        .iter()
        .map(|entry| entry.request["Entries"].as_array().unwrap().len())
        .collect()
}

async fn sends_go_ten_a_call(sqs: &Sqs) {
    let made = sqs.standard("orders");
    let messages = (0..25).map(|number| Outgoing::new(format!("{number:02}")));
    send(&made.queue, messages.clone()).await;
    let mut sizes = entries(&sqs.asked("SendMessageBatch", &made));
    sizes.sort_unstable();
    assert_eq!(sizes, [5, 10, 10]);
    let sent: Vec<String> = (0..25).map(|number| format!("{number:02}")).collect();
    assert_eq!(sorted(drain(&made.queue).await), sent);
}

async fn ten_large_messages_go_as_many_a_call_as_fit(sqs: &Sqs) {
    let made = sqs.standard("orders");
    let large = |number: u8| Outgoing::new(vec![b'a' + number; 300 * 1024]);
    let answers = send_each(&made.queue, (0..10).map(large).collect()).await;
    let ids: HashSet<_> = answers.into_iter().map(Result::unwrap).collect();
    let mut sizes = entries(&sqs.asked("SendMessageBatch", &made));
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 3, 3, 3]);
    let received = gather(&made.queue, 10).await;
    let received: HashSet<_> = received.into_iter().map(|delivery| delivery.message.id).collect();
    assert_eq!(received, ids);
}

fn has_body(entry: &Value, body: &str) -> bool {
    entry["MessageBody"] == body
}

async fn a_refused_entry_does_not_take_the_others_with_it(sqs: &Sqs) {
    let made = sqs.standard("orders");
    let fault = Fault::FailEntries(Box::new(|entry| has_body(entry, "bad")), "InvalidMessageContents", true);
    let given = sqs.proxy().rule(Sqs::rule(fault, "SendMessageBatch", &made));
    let answers = send_each(&made.queue, ["a", "bad", "b"].map(message).to_vec()).await;
    let [Ok(_), Err(SendError::Invalid(invalid)), Ok(_)] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert!(invalid.to_string().contains("InvalidMessageContents"), "{invalid}");
    assert_eq!(given.used(), 1, "what is refused is not repeated");
    assert_eq!(sorted(drain(&made.queue).await), ["a", "b"]);
}

async fn a_call_refused_for_one_entry_is_repeated_entry_by_entry(sqs: &Sqs) {
    let made = sqs.fifo("orders.fifo");
    let fault = Fault::Status(400, "InvalidParameterValue", "chosen by the test");
    let rule = Sqs::rule(fault, "SendMessageBatch", &made);
    let url = made.url.clone();
    let has_bad = move |request: &Value| {
        let entries = request["Entries"].as_array();
        is_for(request, &url) && entries.is_some_and(|entries| entries.iter().any(|entry| has_body(entry, "bad")))
    };
    sqs.proxy().rule(rule.matching(has_bad));
    let messages = ["a", "bad", "b", "c"].map(|body| grouped(body, "g"));
    let answers = send_each(&made.queue, messages.to_vec()).await;
    assert!(
        matches!(answers[..], [Ok(_), Err(SendError::Invalid(_)), Ok(_), Ok(_)]),
        "{answers:?}"
    );
    assert_eq!(drain(&made.queue).await, ["a", "b", "c"]);
}

async fn an_entry_that_the_server_had_trouble_with_is_repeated(sqs: &Sqs) {
    let made = sqs.standard("orders");
    let fault = Fault::FailEntries(Box::new(|entry| has_body(entry, "b")), "InternalError", false);
    sqs.proxy().rule(Sqs::rule(fault, "SendMessageBatch", &made).times(1));
    let answers = send_each(&made.queue, ["a", "b", "c"].map(message).to_vec()).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(entries(&sqs.asked("SendMessageBatch", &made)), [3, 1]);
    assert_eq!(sorted(drain(&made.queue).await), ["a", "b", "c"]);
}

async fn deletions_of_many_share_a_call(sqs: &Sqs) {
    let made = sqs.standard("orders");
    send(&made.queue, (0..25).map(|number| Outgoing::new(format!("{number}")))).await;
    let deliveries = gather(&made.queue, 25).await;
    let mut settling = JoinSet::new();
    for delivery in deliveries {
        let queue = Arc::clone(&made.queue);
        settling.spawn(async move { end(&queue, &delivery, Settlement::Delete).await });
    }
    while let Some(answer) = settling.join_next().await {
        answer.unwrap().unwrap();
    }
    let sizes = entries(&sqs.asked("DeleteMessageBatch", &made));
    assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (3, 25), "{sizes:?}");
    assert!(drain(&made.queue).await.is_empty());
}

async fn a_garbled_receipt_does_not_disturb_the_others(sqs: &Sqs) {
    let made = sqs.standard("orders");
    send(&made.queue, ["a", "b"].map(message)).await;
    let held = gather(&made.queue, 2).await;
    let receipts = vec![
        held[0].receipt.clone(),
        Receipt::text("garbled"),
        held[1].receipt.clone(),
    ];
    let answers = made.queue.extend(receipts.clone(), 30 * SECOND).await;
    assert!(
        matches!(answers[..], [Ok(_), Err(ExtendError::Expired), Ok(_)]),
        "{answers:?}"
    );
    let settlement = Settlement::Delete;
    let settles = receipts.into_iter().map(|receipt| SettleRequest {
        receipt,
        settlement: settlement.clone(),
    });
    let answers = made.queue.settle(settles.collect(), Effects::default()).await.unwrap();
    assert!(
        matches!(answers[..], [Ok(()), Err(SettleError::Expired), Ok(())]),
        "{answers:?}"
    );
    assert_eq!(sqs.client().counts(&made.url), (0, 0, 0));
}

// FIFO queues.

async fn messages_of_a_group_come_in_the_order_sent(sqs: &Sqs) {
    let queue = sqs.fifo("orders.fifo").queue;
    let body = |number: usize| format!("{number:02}");
    let numbered = |number| Outgoing {
        body: body(number).into(),
        ..grouped("", "g")
    };
    send(&queue, (0..25).map(numbered)).await;
    send(&queue, (25..30).map(numbered)).await;
    let expected: Vec<String> = (0..30).map(body).collect();
    assert_eq!(drain(&queue).await, expected);
}

async fn one_receive_brings_several_of_a_group_in_order(sqs: &Sqs) {
    let queue = sqs.fifo("orders.fifo").queue;
    send(&queue, ["a", "b", "c", "d"].map(|body| grouped(body, "g"))).await;
    let deliveries = queue.receive(3, 20 * SECOND).await.unwrap();
    assert_eq!(bodies(&deliveries), ["a", "b", "c"]);
    assert!(take(&queue, 10).await.is_empty(), "the group is in flight");
}

/// Receives a group of four, gives it back, last first, and receives it again.
async fn check_given_back(sqs: &Sqs, settlement: Settlement) {
    let queue = sqs.fifo("orders.fifo").queue;
    send(&queue, ["a", "b", "c", "d"].map(|body| grouped(body, "g"))).await;
    let deliveries = queue.receive(4, 20 * SECOND).await.unwrap();
    assert_eq!(bodies(&deliveries), ["a", "b", "c", "d"]);
    settle_all(&queue, deliveries.iter().rev(), settlement).await;
    let mut again = Vec::new();
    while again.len() < 4 {
        let more = queue.receive(4, 20 * SECOND).await.unwrap();
        delete_all(&queue, &more).await;
        again.extend(more);
    }
    assert_eq!(bodies(&again), ["a", "b", "c", "d"]);
    let counts: Vec<u32> = again.iter().map(|delivery| delivery.receive_count.get()).collect();
    assert_eq!(counts, [2, 2, 2, 2], "none of them gained more than its one receive");
}

async fn a_released_group_comes_back_in_order(sqs: &Sqs) {
    check_given_back(sqs, Settlement::Release).await;
}

/// What is done when the first of a group is not handled: see `QueueCapabilities::returns_groups`.
async fn a_group_given_back_with_a_delay_comes_back_in_order(sqs: &Sqs) {
    let asked = Instant::now();
    check_given_back(sqs, retry(2 * SECOND)).await;
    assert!(asked.elapsed() >= 2 * SECOND);
}

async fn groups_do_not_wait_for_each_other(sqs: &Sqs) {
    let queue = sqs.fifo("orders.fifo").queue;
    send(&queue, [grouped("a1", "a")]).await;
    assert_eq!(bodies(&[take_one(&queue).await]), ["a1"]);
    send(&queue, [grouped("a2", "a"), grouped("b1", "b")]).await;
    assert_eq!(bodies(&[take_one(&queue).await]), ["b1"]);
    assert!(take(&queue, 10).await.is_empty());
}

async fn messages_without_an_id_for_deduplication_are_all_kept(sqs: &Sqs) {
    let queue = sqs.fifo("orders.fifo").queue;
    send(&queue, [grouped("same", "g"), grouped("same", "g")]).await;
    assert_eq!(drain(&queue).await, ["same", "same"]);
}

async fn a_queue_that_deduplicates_by_content_is_left_to_it(sqs: &Sqs) {
    let queue = sqs
        .queue_of("orders.fifo", &[FIFO, ("ContentBasedDeduplication", "true")], None)
        .queue;
    send(&queue, ["same", "same", "other"].map(|body| grouped(body, "g"))).await;
    let mine = Outgoing {
        deduplication_id: Some("mine".to_owned()),
        ..grouped("same", "g")
    };
    send(&queue, [mine]).await;
    assert_eq!(drain(&queue).await, ["same", "other", "same"]);
}

async fn ids_for_deduplication_count_within_a_group_if_the_queue_says_so(sqs: &Sqs) {
    let fast = [
        ("DeduplicationScope", "messageGroup"),
        ("FifoThroughputLimit", "perMessageGroupId"),
    ];
    let queue = sqs.queue_of("orders.fifo", &[FIFO, fast[0], fast[1]], None).queue;
    let once = |body, group| Outgoing {
        deduplication_id: Some("x".to_owned()),
        ..grouped(body, group)
    };
    let answers = send_each(&queue, vec![once("a", "g"), once("b", "h"), once("c", "g")]).await;
    let ids: Vec<MessageId> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(ids[0], ids[2]);
    assert_eq!(sorted(drain(&queue).await), ["a", "b"]);
}

fn attempt_ids(asked: &[Entry]) -> Vec<&str> {
    asked
        .iter()
        .filter_map(|entry| entry.request["ReceiveRequestAttemptId"].as_str())
        .collect()
}

async fn a_receive_whose_answer_was_lost_is_made_again_with_its_attempt_id(sqs: &Sqs) {
    let made = sqs.fifo("orders.fifo");
    send(&made.queue, ["a", "b"].map(|body| grouped(body, "g"))).await;
    sqs.proxy()
        .rule(Sqs::rule(Fault::DropAnswer, "ReceiveMessage", &made).times(1));
    let lost = made.queue.receive(1, SECOND).await;
    assert!(matches!(lost, Err(QueueError::Unavailable { .. })), "{lost:?}");
    let second = made.queue.receive(1, SECOND).await.unwrap();
    let third = made.queue.receive(1, SECOND).await.unwrap();
    if sqs.does(Behaviour::ReplaysAttempts) {
        assert_eq!(bodies(&second), ["a"], "the visibility timeout is 30 s");
    }
    assert!(third.is_empty(), "the group is in flight");
    let asked = sqs.asked("ReceiveMessage", &made);
    let ids = attempt_ids(&asked);
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2]);
}

async fn every_receive_of_a_fifo_queue_has_an_attempt_id_of_its_own(sqs: &Sqs) {
    let (fifo, standard) = (sqs.fifo("orders.fifo"), sqs.standard("invoices"));
    for made in [&fifo, &standard] {
        for _ in 0..3 {
            take(&made.queue, 1).await;
        }
    }
    let asked = sqs.asked("ReceiveMessage", &fifo);
    let ids: HashSet<&str> = attempt_ids(&asked).into_iter().collect();
    assert_eq!(ids.len(), 3);
    assert!(attempt_ids(&sqs.asked("ReceiveMessage", &standard)).is_empty());
}

async fn a_standard_queue_keeps_groups_and_does_not_order_them(sqs: &Sqs) {
    let queue = sqs.standard("orders").queue;
    let mut second = grouped("b", "g");
    second.deduplication_id = Some("x".to_owned());
    send(&queue, [grouped("a", "g"), second.clone(), second]).await;
    let held = gather(&queue, 3).await;
    assert_eq!(
        sorted(bodies(&held)),
        ["a", "b", "b"],
        "all in flight at once, and none taken for a duplicate"
    );
    assert!(
        held.iter()
            .all(|delivery| delivery.message.group_id.as_deref() == Some("g"))
    );
}

// What is special about a queue.

async fn the_queue_says_what_is_special_about_it(sqs: &Sqs) {
    let plain = QueueCapabilities {
        receive_limit: 10,
        calls_cost: true,
        calls_overtake: true,
        batches_settlements: true,
        has_own_clock: true,
        counts_releases: true,
        extension_shortens: true,
        longest_lease: Duration::from_hours(12),
        longest_retry_delay: Duration::from_hours(12),
        returns_groups: false,
        redelivers_deleted: true,
        has_dead_letter_queue: false,
        pages_dead_letters: false,
        keeps_failure: false,
        carries_trace_header: true,
        messaging_system: "aws_sqs",
        max_receives: None,
    };
    let (moved, dead) = sqs.with_policy();
    let configured = settings(Location::Url(sqs.make("configured", &[])), Some("dead"));
    let five = Some(configured.max_receives);
    let both = settings(Location::Url(moved.url.clone()), Some("dead"));
    for (queue, capabilities) in [
        (
            sqs.fifo("orders.fifo").queue,
            QueueCapabilities {
                returns_groups: true,
                ..plain
            },
        ),
        (dead.queue, plain),
        (
            moved.queue,
            QueueCapabilities {
                has_dead_letter_queue: true,
                ..plain
            },
        ),
        (
            sqs.connect_with("configured", configured),
            QueueCapabilities {
                has_dead_letter_queue: true,
                max_receives: five,
                ..plain
            },
        ),
        (
            sqs.connect_with("both", both),
            QueueCapabilities {
                has_dead_letter_queue: true,
                ..plain
            },
        ),
    ] {
        queue.counts().await.unwrap();
        assert_eq!(queue.capabilities(), capabilities, "{}", queue.name());
    }
}

async fn the_visibility_timeout_is_the_queues_own_unless_configured(sqs: &Sqs) {
    let url = sqs.make("orders", &[("VisibilityTimeout", "45")]);
    let own = sqs.connect("own", Location::Url(url.clone()), None);
    assert_eq!(own.visibility_timeout(), 30 * SECOND, "nothing is known yet");
    own.counts().await.unwrap();
    assert_eq!(own.visibility_timeout(), 45 * SECOND);
    let configured = SqsSettings {
        visibility_timeout: Some(2 * SECOND),
        ..settings(Location::Url(url), None)
    };
    let configured = sqs.connect_with("configured", configured);
    send(&own, [message("a")]).await;
    let asked = Instant::now();
    take_one(&configured).await;
    assert_eq!(configured.visibility_timeout(), 2 * SECOND);
    sqs.hidden(&own, asked, 2 * SECOND).await;
}

// Dead letters.

/// The dead letters of a queue, once there are so many.
async fn dead_letters(queue: &Arc<dyn Queue>, count: usize) -> Vec<DeadLetter> {
    let end = Instant::now() + PATIENCE;
    loop {
        let letters = queue.dead_letters(None, 100).await.unwrap();
        if letters.len() >= count {
            return letters;
        }
        assert!(Instant::now() < end, "{letters:?}");
    }
}

/// A group, where a message can have one.
fn group(sqs: &Sqs, made: &Made) -> Option<String> {
    let takes = made.queue.capabilities().returns_groups || sqs.does(Behaviour::TakesGroupsOnStandard);
    takes.then(|| "g".to_owned())
}

async fn a_dead_letter_says_where_it_comes_from(sqs: &Sqs) {
    for attributes in [&[][..], &[FIFO][..]] {
        let (orders, _dead) = sqs.with_dead(attributes);
        let outgoing = Outgoing {
            group_id: group(sqs, &orders),
            ..with_attributes(vec![0, 1, 2], [("k".to_owned(), text("v"))])
        };
        send(&orders.queue, [outgoing]).await;
        let first = take_one(&orders.queue).await;
        end(&orders.queue, &first, retry(Duration::ZERO)).await.unwrap();
        let second = take_one(&orders.queue).await;
        let why = FailureRecord {
            kind: FailureKind::Trap,
            reason: "unreachable \u{1b}\"\u{ffff}<ü>".to_owned(),
            ..failure("")
        };
        let reject = Settlement::DeadLetter { failure: why.clone() };
        end(&orders.queue, &second, reject).await.unwrap();
        let letter = dead_letters(&orders.queue, 1).await.pop().unwrap();
        assert_eq!(letter.message, second.message);
        assert_eq!((&letter.queue, letter.receive_count), (orders.queue.name(), 2));
        assert_eq!((letter.failure.kind, &letter.failure.handler), (why.kind, &why.handler));
        assert!(letter.failure.reason.contains("unreachable") && letter.failure.reason.contains("<ü>"));
        assert!(letter.dead_at_ms >= letter.message.sent_at_ms, "{letter:?}");
        let found = orders.queue.dead_letter(&second.message.id).await.unwrap();
        assert_eq!(found, Some(letter));
        assert_eq!(orders.queue.dead_letter(&MessageId::random()).await.unwrap(), None);
    }
}

async fn a_dead_letter_with_ten_attributes_keeps_them_all(sqs: &Sqs) {
    let (orders, _dead) = sqs.with_dead(&[]);
    // The last one in the order of names is the one that makes room: each kind is it once.
    for last in [
        text("v"),
        AttributeValue::Number("7".to_owned()),
        AttributeValue::Binary(vec![0, 255]),
    ] {
        let mut attributes = ten();
        attributes[9] = ("zzz".to_owned(), last);
        send(&orders.queue, [with_attributes("a", attributes.clone())]).await;
        bury(&orders.queue).await;
        let letter = dead_letters(&orders.queue, 1).await.pop().unwrap();
        assert_eq!(by_name(&letter.message.attributes), named(&attributes));
        assert_eq!(letter.failure, failure("bad"));
        assert_eq!(orders.queue.redrive(None, 1).await.unwrap(), 1);
        let back = take_one(&orders.queue).await;
        assert_eq!(by_name(&back.message.attributes), named(&attributes));
        end(&orders.queue, &back, Settlement::Delete).await.unwrap();
    }
}

async fn a_dead_letter_without_room_for_its_story_arrives_without(sqs: &Sqs) {
    let (orders, _dead) = sqs.with_dead(&[]);
    for (spare, reason) in [(700, Some("reason reason")), (0, None)] {
        let body = vec![b'x'; largest(sqs) - spare];
        send(&orders.queue, [Outgoing::new(body.clone())]).await;
        let delivery = take_one(&orders.queue).await;
        let long = dead_letter(&"reason ".repeat(140));
        end(&orders.queue, &delivery, long).await.unwrap();
        let letter = dead_letters(&orders.queue, 1).await.pop().unwrap();
        assert!(letter.message.body == body);
        match reason {
            Some(start) => {
                assert!(letter.failure.reason.starts_with(start), "{:?}", letter.failure);
                assert!(letter.failure.reason.len() < 700, "{:?}", letter.failure);
                assert_eq!(letter.message.id, delivery.message.id);
            }
            None => assert!(
                letter.failure.reason.contains("SQS keeps no reason"),
                "{:?}",
                letter.failure
            ),
        }
        assert_eq!(orders.queue.redrive(None, 1).await.unwrap(), 1);
        let back = take_one(&orders.queue).await;
        assert!(back.message.body == body && back.message.attributes.is_empty());
        end(&orders.queue, &back, Settlement::Delete).await.unwrap();
    }
}

async fn a_rejected_message_goes_to_the_target_of_the_redrive_policy(sqs: &Sqs) {
    let (orders, dead) = sqs.with_policy();
    let extended = SqsSettings {
        visibility_timeout: Some(30 * SECOND),
        ..settings(Location::Url(orders.url.clone()), None)
    };
    let queue = sqs.connect_with("extended", extended);
    send(&queue, [message("a")]).await;
    let buried = bury(&queue).await;
    assert_eq!(sqs.client().counts(&orders.url), (0, 0, 0));
    assert_eq!(bodies(&[take_one(&dead.queue).await]), ["a"]);
    let letters = queue.dead_letters(None, 1).await.unwrap();
    assert!(
        letters.is_empty(),
        "it is in flight in its queue: {letters:?}, of {buried:?}"
    );
}

async fn a_message_moved_by_the_redrive_policy_is_listed(sqs: &Sqs) {
    let (orders, dead) = sqs.with_policy();
    let id = orders
        .queue
        .send(checked(with_attributes("a", [("k".to_owned(), text("v"))])))
        .await
        .unwrap();
    assert_eq!(take_one(&orders.queue).await.receive_count.get(), 1);
    sqs.pass(SECOND).await;
    assert!(
        orders.queue.receive(1, 2 * SECOND).await.unwrap().is_empty(),
        "it was received once"
    );
    let letter = dead_letters(&orders.queue, 1).await.pop().unwrap();
    assert_eq!((&letter.message.id, &*letter.message.body), (&id, &b"a"[..]));
    if sqs.does(Behaviour::KeepsAttributesOfDead) {
        assert_eq!(letter.message.attributes.get("k"), Some(&text("v")));
    }
    assert_eq!((&letter.queue, letter.receive_count), (orders.queue.name(), 1));
    assert!(letter.failure.reason.contains("redrive policy"), "{:?}", letter.failure);
    assert_eq!(orders.queue.counts().await.unwrap().dead, 1);
    assert_eq!(orders.queue.redrive(None, 1).await.unwrap(), 1);
    assert_eq!(bodies(&[take_one(&orders.queue).await]), ["a"]);
    assert!(take(&dead.queue, 1).await.is_empty());
}

async fn without_a_dead_letter_queue_a_dead_letter_is_refused(sqs: &Sqs) {
    let queue = sqs.standard("orders").queue;
    send(&queue, [message("a")]).await;
    let delivery = take_one(&queue).await;
    let answer = end(&queue, &delivery, dead_letter("bad")).await;
    assert!(
        matches!(answer, Err(SettleError::DeadLetterRefused { .. })),
        "{answer:?}"
    );
    end(&queue, &delivery, Settlement::Release).await.unwrap();
    assert!(queue.dead_letters(None, 10).await.unwrap().is_empty());
    assert_eq!(queue.dead_letter(&delivery.message.id).await.unwrap(), None);
    assert_eq!(queue.redrive(None, 10).await.unwrap(), 0);
    assert_eq!(queue.purge_dead().await.unwrap(), 0);
    assert_eq!(bodies(&[take_one(&queue).await]), ["a"]);
}

async fn looking_at_dead_letters_leaves_them_visible(sqs: &Sqs) {
    for attributes in [&[][..], &[FIFO][..]] {
        let (orders, dead) = sqs.with_dead(attributes);
        let numbered = |number: usize| Outgoing {
            group_id: group(sqs, &orders).map(|group| format!("{group}{number}")),
            ..message("a")
        };
        send(&orders.queue, (0..12).map(numbered)).await;
        for _ in 0..12 {
            bury(&orders.queue).await;
        }
        assert_eq!(orders.queue.dead_letters(None, 100).await.unwrap().len(), 12);
        assert_eq!(sqs.client().counts(&dead.url), (12, 0, 0));
        assert_eq!(orders.queue.dead_letters(None, 5).await.unwrap().len(), 5);
        assert_eq!(orders.queue.counts().await.unwrap().dead, 12);
    }
}

/// Buries a message with all that a message can have, and redrives it.
async fn check_redrive(sqs: &Sqs, orders: &Made) {
    let outgoing = Outgoing {
        group_id: group(sqs, orders),
        ..with_attributes(vec![0, 1, 2], ten().into_iter().skip(1))
    };
    send(&orders.queue, [outgoing]).await;
    let first = take_one(&orders.queue).await;
    end(&orders.queue, &first, retry(Duration::ZERO)).await.unwrap();
    let buried = bury(&orders.queue).await;
    assert_eq!(orders.queue.redrive(None, 10).await.unwrap(), 1);
    let back = take_one(&orders.queue).await;
    assert_eq!(back.message.body, buried.message.body);
    assert_eq!(by_name(&back.message.attributes), by_name(&buried.message.attributes));
    assert_eq!(back.message.group_id, group(sqs, orders));
    assert_eq!(back.receive_count.get(), 1, "it starts anew");
    assert!(orders.queue.dead_letters(None, 10).await.unwrap().is_empty());
}

async fn a_redriven_message_is_as_it_was(sqs: &Sqs) {
    check_redrive(sqs, &sqs.with_dead(&[]).0).await;
}

async fn a_redriven_message_of_a_group_is_as_it_was(sqs: &Sqs) {
    check_redrive(sqs, &sqs.with_dead(&[FIFO]).0).await;
}

async fn redrive_finds_a_dead_letter_by_the_id_that_it_has_now(sqs: &Sqs) {
    let (orders, dead) = sqs.with_dead(&[]);
    send(&orders.queue, ["a", "b"].map(message)).await;
    let buried = [bury(&orders.queue).await, bury(&orders.queue).await];
    let seen = take_one(&dead.queue).await;
    end(&dead.queue, &seen, Settlement::Release).await.unwrap();
    assert!(buried.iter().all(|buried| buried.message.id != seen.message.id));
    let found = orders.queue.dead_letter(&seen.message.id).await.unwrap().unwrap();
    assert_eq!(found.message.body, seen.message.body);
    assert_eq!(
        orders
            .queue
            .redrive(Some(vec![seen.message.id.clone()]), 10)
            .await
            .unwrap(),
        1
    );
    assert_eq!(bodies(&[take_one(&orders.queue).await]), bodies(&[seen]));
    assert_eq!(orders.queue.counts().await.unwrap().dead, 1);
}

async fn redrive_stops_at_its_limit(sqs: &Sqs) {
    let (orders, _dead) = sqs.with_dead(&[]);
    send(&orders.queue, ["a", "b", "c"].map(message)).await;
    for _ in 0..3 {
        bury(&orders.queue).await;
    }
    assert_eq!(orders.queue.redrive(None, 2).await.unwrap(), 2);
    assert_eq!(gather(&orders.queue, 2).await.len(), 2);
    assert!(take(&orders.queue, 10).await.is_empty());
    assert_eq!(orders.queue.counts().await.unwrap().dead, 1);
}

async fn redrive_of_all_is_left_to_the_server(sqs: &Sqs) {
    let (orders, dead) = sqs.with_policy();
    send(&orders.queue, ["a", "b", "c"].map(message)).await;
    gather(&orders.queue, 3).await;
    sqs.pass(SECOND).await;
    assert!(orders.queue.receive(10, 2 * SECOND).await.unwrap().is_empty());
    assert_eq!(dead_letters(&orders.queue, 3).await.len(), 3);
    assert_eq!(orders.queue.redrive(None, usize::MAX).await.unwrap(), 3);
    let sends = sqs.asked("SendMessageBatch", &orders);
    if sqs.does(Behaviour::MovesBack) && sqs.does(Behaviour::ListsSources) {
        assert_eq!(entries(&sends), [3], "those were ours");
    }
    assert_eq!(sqs.client().counts(&dead.url), (0, 0, 0));
    assert_eq!(sorted(drain(&orders.queue).await), ["a", "b", "c"]);
}

async fn the_dead_letters_of_another_queue_are_left_alone(sqs: &Sqs) {
    let dead = sqs.queue_of("dead", &[], None);
    let (one, other) = (
        sqs.queue_of("one", &[], Some("dead")),
        sqs.queue_of("other", &[], Some("dead")),
    );
    for (made, body) in [(&one, "1"), (&other, "2")] {
        send(&made.queue, [message(body)]).await;
        bury(&made.queue).await;
    }
    assert_eq!(one.queue.redrive(None, usize::MAX).await.unwrap(), 1);
    assert_eq!(drain(&one.queue).await, ["1"]);
    assert_eq!(one.queue.purge_dead().await.unwrap(), 0);
    assert_eq!(sqs.client().counts(&dead.url), (1, 0, 0));
    assert_eq!(other.queue.purge_dead().await.unwrap(), 1);
    assert_eq!(sqs.client().counts(&dead.url), (0, 0, 0));
}

// Counting and emptying.

async fn purge_empties_the_queue(sqs: &Sqs) {
    let made = sqs.standard("orders");
    let later = Outgoing {
        delay: Some(2 * SECOND),
        ..message("c")
    };
    send(&made.queue, [message("a"), message("b"), later]).await;
    assert_eq!(made.queue.purge().await.unwrap(), 3);
    sqs.pass(2 * SECOND).await;
    assert_eq!(sqs.client().counts(&made.url), (0, 0, 0));
    send(&made.queue, [message("d")]).await;
    assert_eq!(bodies(&[take_one(&made.queue).await]), ["d"]);
}

async fn a_second_purge_says_when_it_is_possible_again(sqs: &Sqs) {
    let made = sqs.standard("orders");
    let fault = Fault::Status(403, "PurgeQueueInProgress", "chosen by the test");
    made.queue.purge().await.unwrap();
    sqs.proxy().rule(Sqs::rule(fault, "PurgeQueue", &made));
    let error = made.queue.purge().await.unwrap_err();
    assert!(cause(&error).contains("purged less than 60 s ago"), "{error:?}");
}

async fn counts_follow_a_message_through_its_life(sqs: &Sqs) {
    let (orders, _dead) = sqs.with_dead(&[]);
    let queue = &orders.queue;
    let now = async || {
        let counts = queue.counts().await.unwrap();
        assert_eq!((counts.oldest_age_ms, counts.damaged), (None, 0));
        (counts.ready, counts.in_flight, counts.delayed, counts.dead)
    };
    assert_eq!(now().await, (0, 0, 0, 0));
    let later = Outgoing {
        delay: Some(900 * SECOND),
        ..message("c")
    };
    send(queue, [message("a"), message("b"), later]).await;
    assert_eq!(now().await, (2, 0, 1, 0));
    let delivery = take_one(queue).await;
    assert_eq!(now().await, (1, 1, 1, 0));
    end(queue, &delivery, retry(60 * SECOND)).await.unwrap();
    assert_eq!(now().await, (1, 1, 1, 0), "to SQS, what waits for a retry is in flight");
    bury(queue).await;
    assert_eq!(now().await, (0, 1, 1, 1));
    queue.redrive(None, 1).await.unwrap();
    assert_eq!(now().await, (1, 1, 1, 0));
    end(queue, &take_one(queue).await, Settlement::Delete).await.unwrap();
    assert_eq!(now().await, (0, 1, 1, 0));
}

// Finding a queue.

/// What a queue says about a failure, to people.
fn cause(error: &QueueError) -> String {
    std::error::Error::source(error).unwrap().to_string()
}

async fn a_queue_is_found_by_its_name(sqs: &Sqs) {
    for (name, attributes) in [("orders", &[][..]), ("orders.fifo", &[FIFO][..])] {
        let url = sqs.make(name, attributes);
        let queue = sqs.connect(name, Location::Name(sqs.name(name)), None);
        let group_id = Some("g".to_owned()).filter(|_| queue.capabilities().returns_groups);
        let outgoing = Outgoing {
            group_id,
            ..message("a")
        };
        send(&queue, [outgoing]).await;
        assert_eq!(sqs.client().counts(&url), (1, 0, 0));
        assert_eq!(bodies(&[take_one(&queue).await]), ["a"]);
    }
}

async fn a_missing_queue_is_named_and_found_once_it_is_created(sqs: &Sqs) {
    let existing = sqs.make("other", &[]);
    let url = format!("{}/{}", existing.rsplit_once('/').unwrap().0, sqs.name("by-url"));
    for (name, location) in [
        ("by-name", Location::Name(sqs.name("by-name"))),
        ("by-url", Location::Url(url)),
    ] {
        let queue = sqs.connect(name, location, None);
        let error = queue.receive(1, SECOND).await.unwrap_err();
        assert!(error.is_transient());
        let said = cause(&error);
        assert!(
            said.contains("there is no queue") && said.contains(&sqs.name(name)),
            "{said}"
        );
        assert!(said.contains("create it or correct its url"), "{said}");
        assert!(queue.counts().await.is_err() && queue.send(checked(message("a"))).await.is_err());
        sqs.make(name, &[]);
        send(&queue, [message("a")]).await;
        assert_eq!(bodies(&[take_one(&queue).await]), ["a"]);
    }
}

async fn a_queue_that_was_deleted_and_created_again_is_found(sqs: &Sqs) {
    let name = sqs.name("orders");
    let url = sqs.make("orders", &[("VisibilityTimeout", "30")]);
    let by_name = sqs.connect("by-name", Location::Name(name), None);
    let by_url = sqs.connect("by-url", Location::Url(url.clone()), None);
    for queue in [&by_name, &by_url] {
        send(queue, [message("a")]).await;
        assert_eq!(queue.visibility_timeout(), 30 * SECOND);
    }
    sqs.client().delete_queue(&url);
    for queue in [&by_name, &by_url] {
        let said = cause(&queue.receive(1, SECOND).await.unwrap_err());
        assert!(said.contains("there is no queue"), "{said}");
    }
    sqs.make("orders", &[("VisibilityTimeout", "40")]);
    for queue in [&by_name, &by_url] {
        send(queue, [message("b")]).await;
        assert_eq!(bodies(&[take_one(queue).await]), ["b"]);
        assert_eq!(
            queue.visibility_timeout(),
            40 * SECOND,
            "what was known of the old one is forgotten"
        );
    }
}

// Receives that are dropped.

/// Starts a receive, and drops it once its request is on the way.
async fn drop_a_receive(sqs: &Sqs, made: &Made, max: usize) {
    let before = sqs.asked("ReceiveMessage", made).len();
    {
        let mut receiving = JoinSet::new();
        let queue = Arc::clone(&made.queue);
        receiving.spawn(async move { queue.receive(max, LONG).await });
        wait_for_requests(sqs, "ReceiveMessage", made, before + 1).await;
        receiving.shutdown().await;
    }
    assert_eq!(sqs.asked("ReceiveMessage", made).len(), before + 1);
}

async fn an_abandoned_receive_is_taken_over_by_the_next_one(sqs: &Sqs) {
    let made = sqs.standard("orders");
    drop_a_receive(sqs, &made, 10).await;
    // The receive is first.
    let (deliveries, id) = tokio::join!(
        made.queue.receive(10, 20 * SECOND),
        made.queue.send(checked(message("a")))
    );
    let first = &deliveries.unwrap()[0];
    assert_eq!((&first.message.id, first.receive_count.get()), (&id.unwrap(), 1));
    assert_eq!(sqs.asked("ReceiveMessage", &made).len(), 1, "one request served both");
}

async fn what_an_abandoned_receive_brings_beyond_the_next_one_is_released(sqs: &Sqs) {
    let made = sqs.standard("orders");
    let hold_back = Sqs::rule(Fault::Delay(SECOND / 2), "ReceiveMessage", &made).times(1);
    sqs.proxy().rule(hold_back);
    send(&made.queue, ["a", "b", "c"].map(message)).await;
    drop_a_receive(sqs, &made, 10).await;
    let received = made.queue.receive(1, 20 * SECOND).await.unwrap();
    assert_eq!((received.len(), received[0].receive_count.get()), (1, 1));
    // Hidden for 30 s, were they not released.
    let asked = Instant::now();
    let others = gather(&made.queue, 2).await;
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    assert!(
        others.iter().all(|delivery| delivery.receive_count.get() == 2),
        "SQS counts what is released"
    );
}

async fn what_nobody_waits_for_is_released(sqs: &Sqs) {
    let made = sqs.standard("orders");
    drop_a_receive(sqs, &made, 10).await;
    send(&made.queue, [message("a")]).await;
    let end = Instant::now() + PATIENCE;
    // Not for the answer of the receive: until that has been looked at, another receive may still take it over.
    let released = || sqs.asked("ChangeMessageVisibilityBatch", &made);
    while !released().iter().any(|asked| asked.answered_at.is_some()) {
        assert!(Instant::now() < end, "the receive that was dropped brings the message");
        sleep(SECOND / 50).await;
    }
    // Hidden for 30 s, were it not released.
    let asked = Instant::now();
    let delivery = take_one(&made.queue).await;
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    assert_eq!(delivery.receive_count.get(), 2, "SQS counts what is released");
}

/// A queue that gives a message again soon which a server has handed to a connection that is gone, and not so soon that its polls
/// end before they are given up.
fn forgiving(sqs: &Sqs) -> Made {
    sqs.queue_of("orders", &[("VisibilityTimeout", "8")], None)
}

async fn a_receive_that_nobody_takes_over_is_given_up(sqs: &Sqs) {
    let made = forgiving(sqs);
    drop_a_receive(sqs, &made, 10).await;
    sqs.pass(2 * SECOND).await;
    send(&made.queue, [message("a")]).await;
    take_one(&made.queue).await;
    let asked = sqs.asked("ReceiveMessage", &made);
    assert!(asked.len() > 1 && asked[0].status.is_none(), "{asked:?}");
}

async fn closing_ends_a_parked_poll(sqs: &Sqs) {
    let made = forgiving(sqs);
    drop_a_receive(sqs, &made, 10).await;
    made.queue.close().await;
    // The proxy hears of it a moment later.
    sqs.pass(Duration::ZERO).await;
    sqs.client().send(&made.url, "a");
    sqs.client().receive(&made.url, 1, 20).pop().unwrap();
    let asked = sqs.asked("ReceiveMessage", &made);
    assert!(asked.len() == 1 && asked[0].status.is_none(), "{asked:?}");
}
