//! The contract suite: what every kind of queue promises, once, run by each of them.
//!
//! A backend makes queues and lets time pass. The Simple queues run on paused time that moves only when a test says so; what
//! `sqs_contract.rs` runs on servers of SQS, in real time, is `pub(crate)`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unchecked_time_subtraction,
    reason = "the steps of a test must succeed"
)]

use std::{
    num::NonZeroU32,
    sync::{Arc, mpsc},
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use sandhog_queue::{
    Delivery, DeliveryLease, EffectSend, Effects, EffectsRefused, ExtendError, FailureKind, FailureRecord, Queue,
    Receipt, SendError, SettleError, SettleRequest, Settlement,
    message::{AttributeValue, Attributes, CheckedMessage, MAX_BODY_BYTES, MessageId, Outgoing, QueueName},
};
use sandhog_simple::{
    SimpleStore, StoreOptions,
    settings::{Order, Settings},
};
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, advance, sleep},
};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_hours(1);

/// A kind of queue under test.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    async fn queue_with(&self, name: &str, settings: Settings) -> Arc<dyn Queue>;

    async fn pass(&self, time: Duration);

    async fn queue(&self, name: &str) -> Arc<dyn Queue> {
        self.queue_with(name, defaults(name)).await
    }

    /// A queue for messages of groups only.
    async fn groups_with(&self, name: &str, settings: Settings) -> Arc<dyn Queue> {
        self.queue_with(name, settings).await
    }

    async fn groups(&self, name: &str) -> Arc<dyn Queue> {
        self.groups_with(name, defaults(name)).await
    }

    /// A visibility timeout that a test can wait for.
    fn short(&self) -> Duration {
        30 * SECOND
    }

    /// How much earlier than its queue a delivery says that it ends.
    fn deadline_margin(&self) -> Duration {
        Duration::ZERO
    }

    /// The first message to become visible, which is hidden for `time` counted from `since`, and not for less.
    async fn hidden(&self, queue: &Arc<dyn Queue>, since: Instant, time: Duration) -> Delivery {
        self.pass(since + time - SECOND - Instant::now()).await;
        assert!(take(queue, 1).await.is_empty(), "it is hidden for {time:?}");
        self.pass(SECOND).await;
        take_one(queue).await
    }
}

/// A backend that forgets everything but its disk.
pub(crate) struct Durable {
    pub(crate) store: SimpleStore,
    directory: TempDir,
    still: StillTime,
}

struct Ephemeral {
    store: SimpleStore,
    #[expect(dead_code, reason = "held for as long as the test runs")]
    still: StillTime,
}

/// Keeps paused time from moving by itself while the store's thread works: tokio does not advance it as long as a
/// blocking task runs.
struct StillTime(#[expect(dead_code, reason = "dropping it ends the blocking task")] mpsc::Sender<()>);

impl StillTime {
    fn new() -> Self {
        let (end, ended) = mpsc::channel();
        // A test that waits in vain fails after a minute, when time moves again, instead of hanging.
        drop(tokio::task::spawn_blocking(move || {
            ended.recv_timeout(60 * SECOND).is_err()
        }));
        Self(end)
    }
}

impl Durable {
    pub(crate) async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let still = StillTime::new();
        Self {
            store: open(&directory).await,
            directory,
            still,
        }
    }

    /// Ends the store with whatever is in flight, as a crash would, and opens it again.
    pub(crate) async fn restart(self) -> Self {
        let Self {
            store,
            directory,
            still,
        } = self;
        store.close().await;
        Self {
            store: open(&directory).await,
            directory,
            still,
        }
    }
}

async fn open(directory: &TempDir) -> SimpleStore {
    let options = StoreOptions::new(directory.path());
    tokio::task::spawn_blocking(move || SimpleStore::open(&options))
        .await
        .unwrap()
        .unwrap()
}

#[async_trait]
impl Backend for Durable {
    async fn queue_with(&self, name: &str, settings: Settings) -> Arc<dyn Queue> {
        self.store.queue(queue_name(name), settings).await.unwrap()
    }

    async fn pass(&self, time: Duration) {
        advance(time).await;
    }
}

#[async_trait]
impl Backend for Ephemeral {
    async fn queue_with(&self, name: &str, settings: Settings) -> Arc<dyn Queue> {
        self.store.queue(queue_name(name), settings).await.unwrap()
    }

    async fn pass(&self, time: Duration) {
        advance(time).await;
    }
}

pub(crate) fn queue_name(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

pub(crate) fn defaults(name: &str) -> Settings {
    Settings::defaults(&queue_name(name))
}

/// The settings of a queue whose visibility timeout a test can wait for.
fn brief(backend: &impl Backend, name: &str) -> Settings {
    Settings {
        visibility_timeout: backend.short(),
        ..defaults(name)
    }
}

pub(crate) fn message(body: &'static str) -> Outgoing {
    Outgoing::new(body)
}

pub(crate) fn grouped(body: &'static str, group: &str) -> Outgoing {
    Outgoing {
        group_id: Some(group.to_owned()),
        ..message(body)
    }
}

fn urgent(body: &'static str, priority: u8) -> Outgoing {
    Outgoing {
        priority: Some(priority),
        ..message(body)
    }
}

pub(crate) fn failure(reason: &str) -> FailureRecord {
    FailureRecord {
        kind: FailureKind::Retry,
        reason: reason.to_owned(),
        handler: "resize".to_owned(),
        component: "abc".to_owned(),
    }
}

pub(crate) fn retry(delay: Duration) -> Settlement {
    Settlement::Retry {
        delay,
        failure: failure("not yet"),
    }
}

pub(crate) fn checked(message: Outgoing) -> CheckedMessage {
    message.check().unwrap()
}

pub(crate) async fn send(queue: &Arc<dyn Queue>, messages: impl IntoIterator<Item = Outgoing>) {
    for answer in queue.send_many(messages.into_iter().map(checked).collect()).await {
        answer.unwrap();
    }
}

/// Sends together those messages that keep every limit. One answer per message, in order.
pub(crate) async fn send_each(queue: &Arc<dyn Queue>, messages: Vec<Outgoing>) -> Vec<Result<MessageId, SendError>> {
    let checked: Vec<_> = messages.into_iter().map(Outgoing::check).collect();
    let valid = checked.iter().flatten().cloned().collect();
    let mut sent = queue.send_many(valid).await.into_iter();
    let answers = checked.into_iter().map(|message| match message {
        Ok(_) => sent.next().unwrap(),
        Err(invalid) => Err(invalid.into()),
    });
    answers.collect()
}

pub(crate) async fn take(queue: &Arc<dyn Queue>, max: usize) -> Vec<Delivery> {
    queue.receive(max, Duration::ZERO).await.unwrap()
}

/// A moment for what is visible to come, behind a network.
fn moment(queue: &Arc<dyn Queue>, moment: Duration) -> Duration {
    if queue.capabilities().calls_cost {
        moment
    } else {
        Duration::ZERO
    }
}

async fn check_nothing_comes(queue: &Arc<dyn Queue>) {
    let deliveries = queue.receive(1, moment(queue, 3 * SECOND)).await.unwrap();
    assert!(deliveries.is_empty(), "{deliveries:?}");
}

pub(crate) async fn take_one(queue: &Arc<dyn Queue>) -> Delivery {
    let wait = moment(queue, 20 * SECOND);
    let mut deliveries = queue.receive(1, wait).await.unwrap();
    assert_eq!(deliveries.len(), 1, "one message of {} is visible", queue.name());
    deliveries.pop().unwrap()
}

pub(crate) async fn end(
    queue: &Arc<dyn Queue>,
    delivery: &Delivery,
    settlement: Settlement,
) -> Result<(), SettleError> {
    let settle = SettleRequest {
        receipt: delivery.receipt.clone(),
        settlement,
    };
    let answers = queue.settle(vec![settle], Effects::default()).await;
    answers.unwrap().pop().unwrap()
}

pub(crate) fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    deliveries
        .iter()
        .map(|delivery| String::from_utf8(delivery.message.body.to_vec()).unwrap())
        .collect()
}

pub(crate) async fn taken(queue: &Arc<dyn Queue>, max: usize) -> Vec<String> {
    bodies(&take(queue, max).await)
}

macro_rules! contract {
    ($($claim:ident),* $(,)?) => {
        mod ephemeral {
            use super::*;
            $(
                #[tokio::test(start_paused = true)]
                async fn $claim() {
                    super::$claim(&Ephemeral { store: SimpleStore::ephemeral(), still: StillTime::new() }).await;
                }
            )*
        }
        mod durable {
            use super::*;
            $(
                #[tokio::test(start_paused = true)]
                async fn $claim() {
                    super::$claim(&Durable::new().await).await;
                }
            )*
        }
    };
}

mod looking;

contract! {
    messages_are_received_in_the_order_sent,
    a_higher_priority_is_received_first,
    a_message_comes_back_as_it_was_sent,
    a_message_that_breaks_a_limit_is_refused_alone,
    a_deleted_message_never_returns,
    a_received_message_is_hidden_until_its_visibility_timeout,
    an_extension_counts_from_now,
    an_extension_can_shorten,
    an_expired_receipt_can_neither_be_extended_nor_settled,
    a_receipt_settles_once,
    a_stale_receipt_is_refused_though_the_message_is_in_flight_again,
    every_receive_is_counted,
    a_released_receive_is_not_counted,
    a_released_message_keeps_its_place,
    a_delayed_message_is_hidden_until_its_delay_ends,
    a_retried_message_is_hidden_until_its_retry_delay_ends,
    a_retry_without_delay_is_visible_at_once,
    an_exhausted_message_goes_to_the_dead_letters_with_its_last_failure,
    a_message_that_failed_for_the_last_time_is_a_dead_letter_at_once,
    a_message_that_was_never_settled_dies_of_host_stopped,
    a_rejected_message_goes_to_the_dead_letters_at_once,
    a_dead_letter_keeps_what_was_sent,
    dead_letters_are_listed_oldest_first_page_by_page,
    a_dead_letter_can_be_handled_like_any_message,
    an_exhausted_dead_letter_stays_in_its_queue,
    a_redriven_message_starts_anew,
    redrive_by_id_leaves_the_others,
    redrive_stops_at_its_limit,
    a_long_operation_lets_others_have_their_turn,
    redriving_some_of_a_group_leaves_the_rest_of_it_in_order,
    purge_spares_what_is_in_flight,
    purging_the_dead_spares_the_living,
    a_message_past_its_time_to_live_is_discarded,
    a_message_past_its_time_to_live_is_discarded_wherever_it_waits,
    a_message_past_its_time_to_live_is_discarded_when_its_attempt_fails,
    a_redriven_message_lives_its_time_again,
    a_group_is_handled_one_after_another,
    a_group_waits_for_the_retry_of_its_first,
    a_group_goes_on_after_a_dead_letter,
    groups_do_not_wait_for_each_other,
    a_delayed_message_does_not_hold_up_its_group,
    a_delayed_message_takes_its_place_in_its_group,
    an_urgent_message_overtakes_within_its_group_what_was_not_received,
    an_urgent_message_does_not_overtake_a_retry_of_its_group,
    a_released_message_of_a_group_lets_an_urgent_one_pass,
    a_queue_in_strict_order_is_one_group,
    changing_the_order_keeps_every_message,
    a_message_rejected_across_a_change_of_order_blocks_nothing,
        a_message_put_aside_across_a_change_of_order_keeps_its_lane,
    a_duplicate_is_answered_with_the_first_id,
    a_duplicate_is_dropped_though_the_first_is_gone,
    a_deduplication_id_is_forgotten_after_five_minutes,
    deduplication_ids_are_per_queue,
    a_full_queue_refuses_sends,
    dead_letters_do_not_fill_a_queue,
    a_waiting_receive_is_woken_by_a_send,
    a_waiting_receive_gets_the_most_urgent_of_those_that_come,
    a_waiting_receive_gets_what_comes_from_other_queues,
    a_waiting_receive_is_woken_by_a_release,
    a_waiting_receive_is_woken_by_the_next_of_a_group,
    a_waiting_receive_gets_a_delayed_message_when_it_is_due,
    a_waiting_receive_gets_an_expired_message,
    a_waiting_receive_ends_empty,
    a_cancelled_receive_takes_nothing,
    sends_of_a_settlement_arrive_with_the_delete,
    sends_of_an_expired_delete_are_dropped,
    sends_without_a_delete_are_dropped,
    a_refused_send_undoes_the_whole_settlement,
    sends_of_a_batch_with_an_expired_delete_do_not_happen_in_part,
    a_send_to_an_unknown_queue_is_refused,
    an_expired_receipt_does_not_disturb_the_others_of_its_batch,
    counts_follow_a_message_through_its_life,
    the_oldest_age_is_that_of_a_message_that_waits,
}

async fn messages_are_received_in_the_order_sent(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, ["a", "b", "c"].map(message)).await;
    send(&queue, [message("d")]).await;
    assert_eq!(taken(&queue, 3).await, ["a", "b", "c"]);
    assert_eq!(taken(&queue, 3).await, ["d"]);
}

async fn a_higher_priority_is_received_first(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(
        &queue,
        [
            urgent("low", 0),
            urgent("high", 9),
            urgent("high too", 9),
            urgent("middle", 5),
        ],
    )
    .await;
    assert_eq!(taken(&queue, 9).await, ["high", "high too", "middle", "low"]);
}

async fn a_message_comes_back_as_it_was_sent(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    let attributes = Attributes::new(vec![
        ("kind".to_owned(), AttributeValue::Text("päckchen".to_owned())),
        ("weight".to_owned(), AttributeValue::Number("1.50".to_owned())),
        ("stamp".to_owned(), AttributeValue::Binary(vec![0, 255, 128])),
    ]);
    let outgoing = Outgoing {
        body: vec![0, 1, 255].into(),
        attributes: attributes.unwrap(),
        group_id: Some("g".to_owned()),
        priority: Some(3),
        ..Outgoing::default()
    };
    let id = queue.send(checked(outgoing.clone())).await.unwrap();
    let delivery = take_one(&queue).await;
    assert_eq!(delivery.message.id, id);
    assert_eq!(delivery.message.body, outgoing.body);
    assert_eq!(delivery.message.attributes, outgoing.attributes);
    assert_eq!(delivery.message.group_id, outgoing.group_id);
    assert_eq!(delivery.message.priority, 3);
    assert!(delivery.message.sent_at_ms > 1_700_000_000_000);
}

pub(crate) async fn a_message_that_breaks_a_limit_is_refused_alone(backend: &impl Backend) {
    let queue = backend.groups("orders").await;
    let large = Outgoing {
        body: vec![b'x'; MAX_BODY_BYTES + 1].into(),
        ..grouped("", "h")
    };
    let answers = send_each(&queue, vec![grouped("a", "g"), large, grouped("b", "i")]).await;
    assert!(
        matches!(answers[..], [Ok(_), Err(SendError::Invalid(_)), Ok(_)]),
        "{answers:?}"
    );
    assert_eq!(taken(&queue, 9).await, ["a", "b"]);
}

pub(crate) async fn a_deleted_message_never_returns(backend: &impl Backend) {
    let queue = backend.queue_with("orders", brief(backend, "orders")).await;
    send(&queue, [message("a")]).await;
    let delivery = take_one(&queue).await;
    end(&queue, &delivery, Settlement::Delete).await.unwrap();
    backend.pass(queue.visibility_timeout()).await;
    check_nothing_comes(&queue).await;
}

pub(crate) async fn a_received_message_is_hidden_until_its_visibility_timeout(backend: &impl Backend) {
    let queue = backend.queue_with("orders", brief(backend, "orders")).await;
    send(&queue, [message("a")]).await;
    let (asked, timeout) = (Instant::now(), queue.visibility_timeout());
    let first = take_one(&queue).await;
    assert_eq!(timeout, backend.short());
    let DeliveryLease::Until(deadline) = first.lease else {
        panic!("{first:?}");
    };
    assert!(deadline <= Instant::now() + timeout, "{first:?}");
    assert!(deadline + backend.deadline_margin() >= asked + timeout, "{first:?}");
    let second = backend.hidden(&queue, asked, timeout).await;
    assert_eq!(second.message.id, first.message.id);
}

pub(crate) async fn an_extension_counts_from_now(backend: &impl Backend) {
    let queue = backend.queue_with("orders", brief(backend, "orders")).await;
    send(&queue, [message("a")]).await;
    let delivery = take_one(&queue).await;
    backend.pass(queue.visibility_timeout() / 2).await;
    let (asked, by) = (Instant::now(), 2 * queue.visibility_timeout());
    let answers = queue.extend(vec![delivery.receipt.clone()], by).await;
    let [Ok(granted)] = answers[..] else {
        panic!("{answers:?}");
    };
    assert!(granted <= Instant::now() + by, "{answers:?}");
    assert!(granted + backend.deadline_margin() >= asked + by, "{answers:?}");
    backend.hidden(&queue, asked, by).await;
}

pub(crate) async fn an_extension_can_shorten(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    assert!(queue.capabilities().extension_shortens);
    send(&queue, [message("a")]).await;
    let delivery = take_one(&queue).await;
    let asked = Instant::now();
    drop(queue.extend(vec![delivery.receipt], SECOND).await);
    backend.hidden(&queue, asked, SECOND).await;
}

pub(crate) async fn an_expired_receipt_can_neither_be_extended_nor_settled(backend: &impl Backend) {
    let queue = backend.groups_with("orders", brief(backend, "orders")).await;
    send(&queue, [grouped("a", "g")]).await;
    let delivery = take_one(&queue).await;
    backend.pass(queue.visibility_timeout()).await;
    let answers = queue.extend(vec![delivery.receipt.clone()], SECOND).await;
    assert!(matches!(answers[..], [Err(ExtendError::Expired)]));
    let answer = end(&queue, &delivery, Settlement::Delete).await;
    assert!(matches!(answer, Err(SettleError::Expired)));
    take_one(&queue).await;
}

async fn a_receipt_settles_once(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, [message("a")]).await;
    let delivery = take_one(&queue).await;
    let twice = [Settlement::Release, Settlement::Delete].map(|settlement| SettleRequest {
        receipt: delivery.receipt.clone(),
        settlement,
    });
    let answers = queue.settle(twice.to_vec(), Effects::default()).await.unwrap();
    assert!(
        matches!(answers[..], [Ok(()), Err(SettleError::Expired)]),
        "{answers:?}"
    );
    take_one(&queue).await;
}

pub(crate) async fn a_stale_receipt_is_refused_though_the_message_is_in_flight_again(backend: &impl Backend) {
    let queue = backend.groups_with("orders", brief(backend, "orders")).await;
    send(&queue, [grouped("a", "g")]).await;
    let first = take_one(&queue).await;
    backend.pass(queue.visibility_timeout()).await;
    let second = take_one(&queue).await;
    assert!(matches!(
        end(&queue, &first, Settlement::Delete).await,
        Err(SettleError::Expired)
    ));
    end(&queue, &second, Settlement::Delete).await.unwrap();
}

pub(crate) async fn every_receive_is_counted(backend: &impl Backend) {
    let queue = backend.queue_with("orders", brief(backend, "orders")).await;
    send(&queue, [message("a")]).await;
    for count in 1..=4 {
        assert_eq!(take_one(&queue).await.receive_count.get(), count);
        backend.pass(queue.visibility_timeout()).await;
    }
}

async fn a_released_receive_is_not_counted(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    assert!(!queue.capabilities().counts_releases);
    send(&queue, [message("a")]).await;
    for _ in 0..10 {
        let delivery = take_one(&queue).await;
        assert_eq!(delivery.receive_count.get(), 1);
        end(&queue, &delivery, Settlement::Release).await.unwrap();
    }
}

async fn a_released_message_keeps_its_place(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, ["a", "b", "c"].map(message)).await;
    let deliveries = take(&queue, 2).await;
    end(&queue, &deliveries[1], Settlement::Release).await.unwrap();
    end(&queue, &deliveries[0], Settlement::Release).await.unwrap();
    assert_eq!(taken(&queue, 3).await, ["a", "b", "c"]);
}

pub(crate) async fn a_delayed_message_is_hidden_until_its_delay_ends(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    let later = Outgoing {
        delay: Some(3 * SECOND),
        ..message("later")
    };
    let asked = Instant::now();
    send(&queue, [later, message("now")]).await;
    assert_eq!(bodies(&[take_one(&queue).await]), ["now"]);
    let delayed = backend.hidden(&queue, asked, 3 * SECOND).await;
    assert_eq!(bodies(&[delayed]), ["later"]);
}

pub(crate) async fn a_retried_message_is_hidden_until_its_retry_delay_ends(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, [message("a")]).await;
    let delivery = take_one(&queue).await;
    let asked = Instant::now();
    end(&queue, &delivery, retry(3 * SECOND)).await.unwrap();
    let again = backend.hidden(&queue, asked, 3 * SECOND).await;
    assert_eq!(again.receive_count.get(), 2);
}

pub(crate) async fn a_retry_without_delay_is_visible_at_once(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, [message("a")]).await;
    let delivery = take_one(&queue).await;
    end(&queue, &delivery, retry(Duration::ZERO)).await.unwrap();
    assert_eq!(take_one(&queue).await.receive_count.get(), 2);
}

/// Receives and retries until the message has been received `max_receives` times.
async fn exhaust(queue: &Arc<dyn Queue>, receives: u32) {
    for receive in 1..=receives {
        let delivery = take_one(queue).await;
        let failure = failure(&format!("failure {receive}"));
        end(
            queue,
            &delivery,
            Settlement::Retry {
                delay: Duration::ZERO,
                failure,
            },
        )
        .await
        .unwrap();
    }
    assert!(
        take(queue, 1).await.is_empty(),
        "the message of {} is exhausted",
        queue.name()
    );
}

async fn an_exhausted_message_goes_to_the_dead_letters_with_its_last_failure(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    assert!(queue.capabilities().keeps_failure);
    send(&queue, [message("a")]).await;
    exhaust(&queue, 5).await;
    let dead = queue.dead_letters(None, 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].failure, failure("failure 5"));
    assert_eq!(dead[0].receive_count, 5);
    assert_eq!(dead[0].queue, *queue.name());
}

/// It waited for its retry delay once more before.
async fn a_message_that_failed_for_the_last_time_is_a_dead_letter_at_once(backend: &impl Backend) {
    let settings = Settings {
        max_receives: NonZeroU32::MIN,
        ..brief(backend, "orders")
    };
    let queue = backend.queue_with("orders", settings).await;
    send(&queue, ["a", "b"].map(|body| grouped(body, "g"))).await;
    let delivery = take_one(&queue).await;
    end(&queue, &delivery, retry(LONG)).await.unwrap();
    let dead = queue.dead_letters(None, 10).await.unwrap();
    assert_eq!(dead[0].failure, failure("not yet"));
    assert_eq!(taken(&queue, 9).await, ["b"], "it leaves its group to the next");
}

pub(crate) async fn a_message_that_was_never_settled_dies_of_host_stopped(backend: &impl Backend) {
    let settings = Settings {
        max_receives: const { NonZeroU32::new(2).unwrap() },
        ..brief(backend, "orders")
    };
    let queue = backend.queue_with("orders", settings).await;
    send(&queue, [message("a")]).await;
    for _ in 0..2 {
        take_one(&queue).await;
        backend.pass(queue.visibility_timeout()).await;
    }
    check_nothing_comes(&queue).await;
    let dead = queue.dead_letters(None, 10).await.unwrap();
    assert_eq!(dead[0].failure.kind, FailureKind::HostStopped);
}

pub(crate) async fn a_rejected_message_goes_to_the_dead_letters_at_once(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    let id = queue.send(checked(message("a"))).await.unwrap();
    let delivery = take_one(&queue).await;
    end(
        &queue,
        &delivery,
        Settlement::DeadLetter {
            failure: failure("bad"),
        },
    )
    .await
    .unwrap();
    assert!(take(&queue, 1).await.is_empty());
    let dead = queue.dead_letter(&id).await.unwrap().unwrap();
    assert_eq!((dead.failure.reason.as_str(), dead.receive_count), ("bad", 1));
}

pub(crate) async fn bury(queue: &Arc<dyn Queue>) -> Delivery {
    let delivery = take_one(queue).await;
    end(
        queue,
        &delivery,
        Settlement::DeadLetter {
            failure: failure("bad"),
        },
    )
    .await
    .unwrap();
    delivery
}

async fn a_dead_letter_keeps_what_was_sent(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    let attributes = Attributes::new(vec![("k".to_owned(), AttributeValue::Text("v".to_owned()))]).unwrap();
    send(
        &queue,
        [Outgoing {
            attributes,
            priority: Some(4),
            ..grouped("a", "g")
        }],
    )
    .await;
    let delivery = bury(&queue).await;
    backend.pass(LONG).await;
    let dead = queue.dead_letters(None, 1).await.unwrap();
    assert_eq!(dead[0].message, delivery.message);
}

async fn dead_letters_are_listed_oldest_first_page_by_page(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    assert!(queue.capabilities().pages_dead_letters);
    send(&queue, ["a", "b", "c"].map(message)).await;
    let deliveries = take(&queue, 3).await;
    for delivery in [&deliveries[2], &deliveries[0], &deliveries[1]] {
        end(
            &queue,
            delivery,
            Settlement::DeadLetter {
                failure: failure("bad"),
            },
        )
        .await
        .unwrap();
    }
    let first = queue.dead_letters(None, 2).await.unwrap();
    let second = queue.dead_letters(Some(first[1].message.id.clone()), 2).await.unwrap();
    let bodies: Vec<&[u8]> = first.iter().chain(&second).map(|dead| &*dead.message.body).collect();
    assert_eq!(bodies, [b"c", b"a", b"b"]);
}

async fn a_dead_letter_can_be_handled_like_any_message(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    let dead = backend.queue("orders-dead").await;
    send(&queue, [message("a")]).await;
    let buried = bury(&queue).await;
    let delivery = take_one(&dead).await;
    assert_eq!((&delivery.message, delivery.receive_count.get()), (&buried.message, 1));
    end(&dead, &delivery, Settlement::Delete).await.unwrap();
    assert_eq!(queue.counts().await.unwrap().dead, 0);
}

async fn an_exhausted_dead_letter_stays_in_its_queue(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    let dead = backend.queue("orders-dead").await;
    send(&queue, [message("a")]).await;
    bury(&queue).await;
    exhaust(&dead, 5).await;
    assert_eq!(dead.counts().await.unwrap().dead, 0);
    let letters = queue.dead_letters(None, 10).await.unwrap();
    assert_eq!(
        letters[0].failure,
        failure("bad"),
        "why it died is not why it failed later"
    );
    backend.pass(12 * LONG).await;
    take_one(&dead).await;
}

async fn a_redriven_message_starts_anew(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, [message("a")]).await;
    let buried = bury(&queue).await;
    assert_eq!(queue.redrive(None, 10).await.unwrap(), 1);
    let delivery = take_one(&queue).await;
    assert_eq!((delivery.message, delivery.receive_count.get()), (buried.message, 1));
    assert!(queue.dead_letters(None, 10).await.unwrap().is_empty());
}

pub(crate) async fn redrive_by_id_leaves_the_others(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, ["a", "b"].map(message)).await;
    bury(&queue).await;
    let second = bury(&queue).await;
    assert_eq!(queue.redrive(Some(vec![second.message.id]), 10).await.unwrap(), 1);
    assert_eq!(taken(&queue, 9).await, ["b"]);
    assert_eq!(queue.counts().await.unwrap().dead, 1);
}

async fn redrive_stops_at_its_limit(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, ["a", "b", "c"].map(message)).await;
    for _ in 0..3 {
        bury(&queue).await;
    }
    assert_eq!(queue.redrive(None, 2).await.unwrap(), 2);
    assert_eq!(taken(&queue, 9).await, ["a", "b"]);
}

/// How often the work stops for others to have their turn.
async fn pauses(work: impl Future<Output = ()>) -> usize {
    let (mut work, mut pauses) = (std::pin::pin!(work), 0);
    std::future::poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(pauses),
        Poll::Pending => {
            pauses += 1;
            Poll::Pending
        }
    })
    .await
}

/// In memory the first poll did all of it, under the lock of the whole store.
async fn a_long_operation_lets_others_have_their_turn(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    let messages = 2000;
    let steps = messages / 256;
    let sent = async {
        let answers = queue.send_many(vec![checked(message("a")); messages]).await;
        assert!(answers.iter().all(Result::is_ok));
    };
    assert!(pauses(sent).await > 0, "sending");
    for _ in 0..messages / 500 {
        let bury = |delivery: Delivery| SettleRequest {
            receipt: delivery.receipt,
            settlement: Settlement::DeadLetter {
                failure: failure("bad"),
            },
        };
        let settles = take(&queue, 500).await.into_iter().map(bury).collect();
        queue.settle(settles, Effects::default()).await.unwrap();
    }
    let listed = async { assert_eq!(queue.dead_letters(None, messages).await.unwrap().len(), messages) };
    assert!(pauses(listed).await >= steps, "listing");
    let redriven = async { assert_eq!(queue.redrive(None, usize::MAX).await.unwrap(), 2000) };
    assert!(pauses(redriven).await >= steps, "redrive");
    let purged = async { assert_eq!(queue.purge().await.unwrap(), 2000) };
    assert!(pauses(purged).await >= steps, "purge");
}

async fn redriving_some_of_a_group_leaves_the_rest_of_it_in_order(backend: &impl Backend) {
    let (queue, dead) = (backend.queue("orders").await, backend.queue("orders-dead").await);
    send(&queue, ["a", "b", "c", "d"].map(|body| grouped(body, "g"))).await;
    for _ in 0..4 {
        bury(&queue).await;
    }
    assert_eq!(queue.redrive(None, 2).await.unwrap(), 2);
    for expected in ["c", "d"] {
        let delivery = take_one(&dead).await;
        assert_eq!(bodies(std::slice::from_ref(&delivery)), [expected]);
        end(&dead, &delivery, Settlement::Delete).await.unwrap();
    }
    let counts = dead.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight, counts.delayed), (0, 0, 0));
    assert_eq!(taken(&queue, 9).await, ["a"]);
}

async fn purge_spares_what_is_in_flight(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, [grouped("a", "g"), grouped("b", "g"), message("c")]).await;
    send(
        &queue,
        [Outgoing {
            delay: Some(SECOND),
            ..message("d")
        }],
    )
    .await;
    let delivery = take_one(&queue).await;
    assert_eq!(queue.purge().await.unwrap(), 3);
    backend.pass(2 * SECOND).await;
    assert!(take(&queue, 9).await.is_empty());
    end(&queue, &delivery, Settlement::Delete).await.unwrap();
    send(&queue, [grouped("e", "g")]).await;
    assert_eq!(taken(&queue, 9).await, ["e"]);
}

pub(crate) async fn purging_the_dead_spares_the_living(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, ["a", "b", "c"].map(message)).await;
    bury(&queue).await;
    bury(&queue).await;
    assert_eq!(queue.purge_dead().await.unwrap(), 2);
    assert!(queue.dead_letters(None, 9).await.unwrap().is_empty());
    assert_eq!(taken(&queue, 9).await, ["c"]);
}

async fn mortal(backend: &impl Backend) -> Arc<dyn Queue> {
    let settings = Settings {
        time_to_live: Some(60 * SECOND),
        ..defaults("news")
    };
    backend.queue_with("news", settings).await
}

async fn a_message_past_its_time_to_live_is_discarded(backend: &impl Backend) {
    let queue = mortal(backend).await;
    send(&queue, [message("old")]).await;
    backend.pass(59 * SECOND).await;
    send(&queue, [message("new")]).await;
    backend.pass(SECOND).await;
    assert_eq!(taken(&queue, 9).await, ["new"]);
    assert_eq!(queue.counts().await.unwrap().dead, 0);
}

async fn a_message_past_its_time_to_live_is_discarded_wherever_it_waits(backend: &impl Backend) {
    let queue = mortal(backend).await;
    send(
        &queue,
        [
            grouped("first", "g"),
            grouped("held", "g"),
            message("retried"),
            urgent("visible", 1),
        ],
    )
    .await;
    send(
        &queue,
        [Outgoing {
            delay: Some(LONG),
            ..message("delayed")
        }],
    )
    .await;
    let taken = take(&queue, 3).await;
    assert_eq!(bodies(&taken), ["visible", "first", "retried"]);
    end(&queue, &taken[0], Settlement::Release).await.unwrap();
    end(&queue, &taken[2], retry(LONG)).await.unwrap();
    let counts = queue.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight, counts.delayed), (2, 1, 2));
    drop(queue.extend(vec![taken[1].receipt.clone()], LONG).await);
    backend.pass(60 * SECOND).await;
    let counts = queue.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight, counts.delayed), (0, 1, 0));
    end(&queue, &taken[1], Settlement::Release).await.unwrap();
    assert!(take(&queue, 9).await.is_empty());
    assert_eq!(queue.counts().await.unwrap().ready, 0);
}

async fn a_message_past_its_time_to_live_is_discarded_when_its_attempt_fails(backend: &impl Backend) {
    let queue = mortal(backend).await;
    send(&queue, [message("a")]).await;
    let delivery = take_one(&queue).await;
    drop(queue.extend(vec![delivery.receipt.clone()], LONG).await);
    backend.pass(60 * SECOND).await;
    assert_eq!(queue.counts().await.unwrap().in_flight, 1);
    end(&queue, &delivery, retry(LONG)).await.unwrap();
    assert_eq!(queue.counts().await.unwrap().delayed, 0);
}

async fn a_redriven_message_lives_its_time_again(backend: &impl Backend) {
    let queue = mortal(backend).await;
    send(&queue, [message("a")]).await;
    bury(&queue).await;
    backend.pass(LONG).await;
    assert_eq!(queue.redrive(None, 9).await.unwrap(), 1);
    assert_eq!(taken(&queue, 9).await, ["a"]);
}

async fn a_group_is_handled_one_after_another(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, [grouped("a", "g"), grouped("b", "g"), grouped("c", "g")]).await;
    for expected in ["a", "b", "c"] {
        let deliveries = take(&queue, 9).await;
        assert_eq!(bodies(&deliveries), [expected]);
        end(&queue, &deliveries[0], Settlement::Delete).await.unwrap();
    }
}

pub(crate) async fn a_group_waits_for_the_retry_of_its_first(backend: &impl Backend) {
    let queue = backend.groups("orders").await;
    send(&queue, [grouped("a", "g"), grouped("b", "g")]).await;
    let delivery = take_one(&queue).await;
    let asked = Instant::now();
    end(&queue, &delivery, retry(3 * SECOND)).await.unwrap();
    let first = backend.hidden(&queue, asked, 3 * SECOND).await;
    assert_eq!(bodies(&[first]), ["a"]);
}

pub(crate) async fn a_group_goes_on_after_a_dead_letter(backend: &impl Backend) {
    let queue = backend.groups("orders").await;
    send(&queue, [grouped("a", "g"), grouped("b", "g")]).await;
    bury(&queue).await;
    assert_eq!(bodies(&[take_one(&queue).await]), ["b"]);
}

async fn groups_do_not_wait_for_each_other(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(
        &queue,
        [
            grouped("a1", "a"),
            grouped("a2", "a"),
            grouped("b1", "b"),
            message("free"),
        ],
    )
    .await;
    assert_eq!(taken(&queue, 9).await, ["a1", "b1", "free"]);
}

async fn a_delayed_message_does_not_hold_up_its_group(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(
        &queue,
        [
            Outgoing {
                delay: Some(SECOND),
                ..grouped("later", "g")
            },
            grouped("now", "g"),
        ],
    )
    .await;
    assert_eq!(taken(&queue, 9).await, ["now"]);
}

async fn a_delayed_message_takes_its_place_in_its_group(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(
        &queue,
        [Outgoing {
            delay: Some(SECOND),
            ..grouped("later", "g")
        }],
    )
    .await;
    send(&queue, [grouped("b", "g"), grouped("c", "g")]).await;
    let first = take_one(&queue).await;
    backend.pass(SECOND).await;
    assert!(take(&queue, 9).await.is_empty());
    end(&queue, &first, Settlement::Delete).await.unwrap();
    assert_eq!(taken(&queue, 9).await, ["later"]);
}

async fn an_urgent_message_overtakes_within_its_group_what_was_not_received(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(
        &queue,
        [
            grouped("a", "g"),
            Outgoing {
                priority: Some(9),
                ..grouped("urgent", "g")
            },
        ],
    )
    .await;
    assert_eq!(taken(&queue, 9).await, ["urgent"]);
}

async fn an_urgent_message_does_not_overtake_a_retry_of_its_group(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, [grouped("a", "g")]).await;
    let delivery = take_one(&queue).await;
    send(
        &queue,
        [Outgoing {
            priority: Some(9),
            ..grouped("urgent", "g")
        }],
    )
    .await;
    end(&queue, &delivery, retry(SECOND)).await.unwrap();
    assert!(take(&queue, 9).await.is_empty());
    backend.pass(SECOND).await;
    assert_eq!(taken(&queue, 9).await, ["a"]);
}

async fn a_released_message_of_a_group_lets_an_urgent_one_pass(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, [grouped("a", "g")]).await;
    let delivery = take_one(&queue).await;
    send(
        &queue,
        [Outgoing {
            priority: Some(9),
            ..grouped("urgent", "g")
        }],
    )
    .await;
    end(&queue, &delivery, Settlement::Release).await.unwrap();
    assert_eq!(taken(&queue, 9).await, ["urgent"]);
}

async fn a_queue_in_strict_order_is_one_group(backend: &impl Backend) {
    let settings = Settings {
        order: Order::Queue,
        ..defaults("ledger")
    };
    let queue = backend.queue_with("ledger", settings).await;
    send(&queue, [message("a"), grouped("b", "g")]).await;
    let first = take(&queue, 9).await;
    assert_eq!(bodies(&first), ["a"]);
    end(&queue, &first[0], retry(SECOND)).await.unwrap();
    assert!(take(&queue, 9).await.is_empty());
    backend.pass(SECOND).await;
    assert_eq!(taken(&queue, 9).await, ["a"]);
}

async fn changing_the_order_keeps_every_message(backend: &impl Backend) {
    let queue = backend.queue("ledger").await;
    send(
        &queue,
        [grouped("a", "g"), message("b"), grouped("c", "h"), grouped("d", "g")],
    )
    .await;
    let flying = take(&queue, 2).await;
    assert_eq!(bodies(&flying), ["a", "b"]);
    let strict = Settings {
        order: Order::Queue,
        ..defaults("ledger")
    };
    let queue = backend.queue_with("ledger", strict).await;
    let third = take(&queue, 9).await;
    assert_eq!(bodies(&third), ["c"]);
    end(&queue, &flying[0], retry(SECOND)).await.unwrap();
    end(&queue, &flying[1], Settlement::Release).await.unwrap();
    backend.pass(SECOND).await;
    assert!(take(&queue, 9).await.is_empty(), "c is in flight");
    end(&queue, &third[0], Settlement::Delete).await.unwrap();
    for expected in ["a", "b", "d"] {
        let deliveries = take(&queue, 9).await;
        assert_eq!(bodies(&deliveries), [expected]);
        end(&queue, &deliveries[0], Settlement::Delete).await.unwrap();
    }
    send(&queue, [message("e"), message("f")]).await;
    let queue = backend.queue("ledger").await;
    assert_eq!(taken(&queue, 9).await, ["e", "f"]);
}

async fn a_message_rejected_across_a_change_of_order_blocks_nothing(backend: &impl Backend) {
    let queue = backend.queue("ledger").await;
    send(&queue, ["a", "b", "c"].map(message)).await;
    let flying = take(&queue, 1).await;
    let strict = Settings {
        order: Order::Queue,
        ..defaults("ledger")
    };
    let queue = backend.queue_with("ledger", strict).await;
    let reject = Settlement::DeadLetter {
        failure: failure("bad"),
    };
    end(&queue, &flying[0], reject).await.unwrap();
    for expected in ["b", "c"] {
        let deliveries = take(&queue, 9).await;
        assert_eq!(bodies(&deliveries), [expected]);
        end(&queue, &deliveries[0], Settlement::Delete).await.unwrap();
    }
}

// It came back without a lane, and went beside the lane's head.
async fn a_message_put_aside_across_a_change_of_order_keeps_its_lane(backend: &impl Backend) {
    let terminal = Settings {
        dead_letter: queue_name("ledger"),
        ..defaults("ledger")
    };
    let queue = backend.queue_with("ledger", terminal.clone()).await;
    send(&queue, ["a", "b"].map(message)).await;
    let flying = take(&queue, 1).await;
    let strict = Settings {
        order: Order::Queue,
        ..terminal
    };
    let queue = backend.queue_with("ledger", strict).await;
    let reject = Settlement::DeadLetter {
        failure: failure("bad"),
    };
    end(&queue, &flying[0], reject).await.unwrap();
    backend.pass(Duration::from_hours(12)).await;
    assert_eq!(take(&queue, 9).await.len(), 1, "the queue is one lane");
}

fn once(body: &'static str, id: &str) -> Outgoing {
    Outgoing {
        deduplication_id: Some(id.to_owned()),
        ..grouped(body, body)
    }
}

pub(crate) async fn a_duplicate_is_answered_with_the_first_id(backend: &impl Backend) {
    let queue = backend.groups("orders").await;
    let first = queue.send(checked(once("a", "x"))).await.unwrap();
    assert_eq!(queue.send(checked(once("b", "x"))).await.unwrap(), first);
    assert_eq!(taken(&queue, 9).await, ["a"]);
}

pub(crate) async fn a_duplicate_is_dropped_though_the_first_is_gone(backend: &impl Backend) {
    let queue = backend.groups("orders").await;
    let first = queue.send(checked(once("a", "x"))).await.unwrap();
    let delivery = take_one(&queue).await;
    end(&queue, &delivery, Settlement::Delete).await.unwrap();
    assert_eq!(queue.send(checked(once("b", "x"))).await.unwrap(), first);
    check_nothing_comes(&queue).await;
}

async fn a_deduplication_id_is_forgotten_after_five_minutes(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, [once("a", "x")]).await;
    backend.pass(299 * SECOND).await;
    send(&queue, [once("b", "x")]).await;
    backend.pass(SECOND).await;
    send(&queue, [once("c", "x")]).await;
    assert_eq!(taken(&queue, 9).await, ["a", "c"]);
}

pub(crate) async fn deduplication_ids_are_per_queue(backend: &impl Backend) {
    let (one, other) = (backend.groups("one").await, backend.groups("other").await);
    send(&one, [once("a", "x")]).await;
    send(&other, [once("b", "x")]).await;
    assert_eq!(taken(&other, 9).await, ["b"]);
}

async fn shallow(backend: &impl Backend) -> Arc<dyn Queue> {
    let settings = Settings {
        max_messages: 2,
        max_receives: NonZeroU32::MIN,
        ..defaults("shallow")
    };
    backend.queue_with("shallow", settings).await
}

async fn a_full_queue_refuses_sends(backend: &impl Backend) {
    let queue = shallow(backend).await;
    let answers = send_each(&queue, ["a", "b", "c"].map(message).to_vec()).await;
    assert!(
        matches!(&answers[2], Err(SendError::Full { limit: 2, .. })),
        "{answers:?}"
    );
    let delivery = take_one(&queue).await;
    assert!(
        queue.send(checked(message("d"))).await.is_err(),
        "what is in flight counts"
    );
    end(&queue, &delivery, Settlement::Delete).await.unwrap();
    queue.send(checked(message("e"))).await.unwrap();
}

async fn dead_letters_do_not_fill_a_queue(backend: &impl Backend) {
    let queue = shallow(backend).await;
    let settings = Settings {
        max_messages: 2,
        ..defaults("shallow-dead")
    };
    let dead = backend.queue_with("shallow-dead", settings).await;
    for _ in 0..3 {
        send(&queue, [message("a")]).await;
        bury(&queue).await;
    }
    assert_eq!(queue.counts().await.unwrap().dead, 3);
    dead.send(checked(message("b"))).await.unwrap();
}

/// Starts a receive that waits, and lets it register.
pub(crate) async fn waiting(queue: &Arc<dyn Queue>, wait: Duration) -> JoinSet<Vec<String>> {
    let mut receives = JoinSet::new();
    let queue = Arc::clone(queue);
    let asking = Arc::clone(&queue);
    receives.spawn(async move { bodies(&queue.receive(9, wait).await.unwrap()) });
    tokio::task::yield_now().await;
    // The answer to a later question says that the first one was answered too.
    asking.counts().await.unwrap();
    tokio::task::yield_now().await;
    if asking.capabilities().calls_cost {
        sleep(SECOND / 2).await;
    }
    receives
}

/// Waits for a receive that gets a message now, and not by a later poll.
async fn check_woken(mut receives: JoinSet<Vec<String>>, body: &str) {
    let asked = Instant::now();
    assert_eq!(receives.join_next().await.unwrap().unwrap(), [body]);
    // The shortest of the long polls of remote queues ends later.
    assert!(asked.elapsed() < 18 * SECOND, "after {:?}", asked.elapsed());
}

pub(crate) async fn a_waiting_receive_is_woken_by_a_send(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    let receives = waiting(&queue, LONG).await;
    send(&queue, [message("a")]).await;
    check_woken(receives, "a").await;
}

async fn a_waiting_receive_gets_the_most_urgent_of_those_that_come(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    let mut receives = JoinSet::new();
    for _ in 0..2 {
        let queue = Arc::clone(&queue);
        receives.spawn(async move { bodies(&queue.receive(2, LONG).await.unwrap()) });
    }
    tokio::task::yield_now().await;
    queue.counts().await.unwrap();
    let burst = vec![
        urgent("a", 0),
        urgent("b", 5),
        grouped("c", "g"),
        urgent("d", 9),
        urgent("e", 0),
    ];
    assert!(send_each(&queue, burst).await.iter().all(Result::is_ok));
    let mut got = [
        receives.join_next().await.unwrap().unwrap(),
        receives.join_next().await.unwrap().unwrap(),
    ];
    got.sort();
    assert_eq!(got, [["a", "c"], ["d", "b"]]);
    let counts = queue.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight), (1, 4));
    assert_eq!(bodies(&take(&queue, 9).await), ["e"]);
}

async fn a_waiting_receive_gets_what_comes_from_other_queues(backend: &impl Backend) {
    let (queue, dead) = (backend.queue("orders").await, backend.queue("orders-dead").await);
    send(&queue, [message("a"), message("c")]).await;
    let (delivery, receives) = (take_one(&queue).await, waiting(&dead, LONG).await);
    let settled = queue.settle(vec![delete(&delivery)], vec![to("orders-dead", "b")].into());
    assert!(settled.await.unwrap()[0].is_ok());
    check_woken(receives, "b").await;
    let receives = waiting(&dead, LONG).await;
    // The last of these receives buries it.
    exhaust(&queue, 5).await;
    check_woken(receives, "c").await;
}

pub(crate) async fn a_waiting_receive_is_woken_by_a_release(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, [message("a")]).await;
    let delivery = take_one(&queue).await;
    let receives = waiting(&queue, LONG).await;
    end(&queue, &delivery, Settlement::Release).await.unwrap();
    check_woken(receives, "a").await;
}

pub(crate) async fn a_waiting_receive_is_woken_by_the_next_of_a_group(backend: &impl Backend) {
    let queue = backend.groups("orders").await;
    send(&queue, [grouped("a", "g"), grouped("b", "g")]).await;
    let delivery = take_one(&queue).await;
    let receives = waiting(&queue, LONG).await;
    end(&queue, &delivery, Settlement::Delete).await.unwrap();
    check_woken(receives, "b").await;
}

pub(crate) async fn a_waiting_receive_gets_a_delayed_message_when_it_is_due(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    let receives = waiting(&queue, LONG).await;
    send(
        &queue,
        [Outgoing {
            delay: Some(2 * SECOND),
            ..message("a")
        }],
    )
    .await;
    backend.pass(2 * SECOND).await;
    check_woken(receives, "a").await;
}

pub(crate) async fn a_waiting_receive_gets_an_expired_message(backend: &impl Backend) {
    let queue = backend.queue_with("orders", brief(backend, "orders")).await;
    let mut receives = waiting(&queue, LONG).await;
    let rival = Arc::clone(&queue);
    // The rival is first: nothing is left for the one that waits, and nobody tells it.
    let (_, stolen) = tokio::join!(rival.send(checked(message("a"))), rival.receive(1, Duration::ZERO));
    let waited = if stolen.unwrap().is_empty() {
        Duration::ZERO
    } else {
        queue.visibility_timeout()
    };
    backend.pass(waited).await;
    assert_eq!(receives.join_next().await.unwrap().unwrap(), ["a"]);
}

pub(crate) async fn a_waiting_receive_ends_empty(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    let mut receives = waiting(&queue, 2 * SECOND).await;
    backend.pass(2 * SECOND).await;
    assert!(receives.join_next().await.unwrap().unwrap().is_empty());
}

async fn a_cancelled_receive_takes_nothing(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, [message("a")]).await;
    {
        let mut receive = std::pin::pin!(queue.receive(1, LONG));
        let polled = futures_poll_once(receive.as_mut()).await;
        if let Some(Ok(deliveries)) = polled {
            // A backend that answers at once can't be cancelled in between.
            end(&queue, &deliveries[0], Settlement::Release).await.unwrap();
        } else {
            // The answer lies ready, unread, when the receive is dropped.
            queue.counts().await.unwrap();
        }
    }
    let deliveries = queue.receive(1, LONG).await.unwrap();
    assert_eq!(deliveries[0].receive_count.get(), 1);
}

async fn futures_poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

fn delete(delivery: &Delivery) -> SettleRequest {
    SettleRequest {
        receipt: delivery.receipt.clone(),
        settlement: Settlement::Delete,
    }
}

fn to(queue: &str, body: &'static str) -> EffectSend {
    EffectSend {
        queue: queue_name(queue),
        message: checked(message(body)),
    }
}

async fn sends_of_a_settlement_arrive_with_the_delete(backend: &impl Backend) {
    let (queue, next) = (backend.queue("orders").await, backend.queue("invoices").await);
    assert!(queue.commits_sends_to(next.name()));
    send(&queue, [message("a")]).await;
    let delivery = take_one(&queue).await;
    let answers = queue
        .settle(
            vec![delete(&delivery)],
            vec![to("invoices", "b"), to("orders", "c")].into(),
        )
        .await
        .unwrap();
    assert!(matches!(answers[..], [Ok(())]));
    assert_eq!(taken(&next, 9).await, ["b"]);
    assert_eq!(taken(&queue, 9).await, ["c"]);
}

async fn sends_of_an_expired_delete_are_dropped(backend: &impl Backend) {
    let (queue, next) = (backend.queue("orders").await, backend.queue("invoices").await);
    send(&queue, [message("a")]).await;
    let delivery = take_one(&queue).await;
    backend.pass(queue.visibility_timeout()).await;
    let answers = queue
        .settle(vec![delete(&delivery)], vec![to("invoices", "b")].into())
        .await
        .unwrap();
    assert!(matches!(answers[..], [Err(SettleError::Expired)]));
    assert!(take(&next, 9).await.is_empty());
}

async fn sends_without_a_delete_are_dropped(backend: &impl Backend) {
    let (queue, next) = (backend.queue("orders").await, backend.queue("invoices").await);
    send(&queue, [message("a")]).await;
    let delivery = take_one(&queue).await;
    let release = SettleRequest {
        receipt: delivery.receipt,
        settlement: Settlement::Release,
    };
    drop(queue.settle(vec![release], vec![to("invoices", "b")].into()).await);
    assert!(take(&next, 9).await.is_empty());
}

async fn a_refused_send_undoes_the_whole_settlement(backend: &impl Backend) {
    let (queue, full) = (backend.queue("orders").await, shallow(backend).await);
    let next = backend.queue("invoices").await;
    send(&full, [message("x")]).await;
    send(&queue, ["a", "b"].map(message)).await;
    let deliveries = take(&queue, 2).await;
    let sends = vec![to("invoices", "c"), to("shallow", "y"), to("shallow", "z")];
    let answer = queue
        .settle(deliveries.iter().map(delete).collect(), sends.into())
        .await;
    assert!(matches!(answer, Err(EffectsRefused::SendRefused { .. })), "{answer:?}");
    assert!(take(&next, 9).await.is_empty());
    assert_eq!(taken(&full, 9).await, ["x"]);
    let answers = queue
        .extend(
            deliveries.iter().map(|delivery| delivery.receipt.clone()).collect(),
            SECOND,
        )
        .await;
    assert!(answers.iter().all(Result::is_ok), "both are still held");
}

async fn sends_of_a_batch_with_an_expired_delete_do_not_happen_in_part(backend: &impl Backend) {
    let (queue, next) = (backend.queue("orders").await, backend.queue("invoices").await);
    send(&queue, ["a", "b"].map(message)).await;
    let first = take_one(&queue).await;
    backend.pass(queue.visibility_timeout() - SECOND).await;
    let second = take_one(&queue).await;
    backend.pass(SECOND).await;
    let answer = queue
        .settle(vec![delete(&first), delete(&second)], vec![to("invoices", "x")].into())
        .await;
    assert!(matches!(answer, Err(EffectsRefused::Incomplete)), "{answer:?}");
    assert!(take(&next, 9).await.is_empty());
    let answer = end(&queue, &first, Settlement::Delete).await;
    assert!(matches!(answer, Err(SettleError::Expired)), "{answer:?}");
    // The other one is still held, and can be settled in another way.
    end(&queue, &second, Settlement::Release).await.unwrap();
}

async fn a_send_to_an_unknown_queue_is_refused(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    assert!(!queue.commits_sends_to(&queue_name("nowhere")));
    assert!(
        queue.commits_sends_to(&queue_name("orders-dead")),
        "dead-letter queues are made with their queue"
    );
    send(&queue, [message("a")]).await;
    let delivery = take_one(&queue).await;
    let answer = queue
        .settle(vec![delete(&delivery)], vec![to("nowhere", "b")].into())
        .await;
    let Err(EffectsRefused::SendRefused { error, .. }) = answer else {
        panic!("{answer:?}")
    };
    assert!(matches!(*error, SendError::NoSuchQueue(_)));
}

pub(crate) async fn an_expired_receipt_does_not_disturb_the_others_of_its_batch(backend: &impl Backend) {
    let settings = Settings {
        visibility_timeout: 2 * backend.short(),
        ..defaults("orders")
    };
    let queue = backend.groups_with("orders", settings).await;
    send(&queue, [grouped("a", "g"), grouped("b", "h")]).await;
    let first = take_one(&queue).await;
    backend.pass(queue.visibility_timeout() - SECOND).await;
    let second = take_one(&queue).await;
    backend.pass(SECOND).await;
    let answers = queue
        .settle(vec![delete(&first), delete(&second)], Effects::default())
        .await
        .unwrap();
    assert!(
        matches!(answers[..], [Err(SettleError::Expired), Ok(())]),
        "{answers:?}"
    );
    let receipts: Vec<Receipt> = [&first, &second].map(|delivery| delivery.receipt.clone()).to_vec();
    assert_eq!(queue.extend(receipts, SECOND).await.len(), 2);
    assert_eq!(taken(&queue, 9).await, ["a"]);
}

async fn counts_follow_a_message_through_its_life(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    let now = async || {
        let counts = queue.counts().await.unwrap();
        (counts.ready, counts.in_flight, counts.delayed, counts.dead)
    };
    assert_eq!(now().await, (0, 0, 0, 0));
    send(&queue, [grouped("a", "g"), grouped("b", "g")]).await;
    assert_eq!(now().await, (2, 0, 0, 0));
    let delivery = take_one(&queue).await;
    assert_eq!(now().await, (1, 1, 0, 0));
    end(&queue, &delivery, retry(SECOND)).await.unwrap();
    assert_eq!(now().await, (1, 0, 1, 0));
    backend.pass(SECOND).await;
    assert_eq!(now().await, (2, 0, 0, 0));
    bury(&queue).await;
    assert_eq!(now().await, (1, 0, 0, 1));
    let delivery = take_one(&queue).await;
    end(&queue, &delivery, Settlement::Delete).await.unwrap();
    assert_eq!(now().await, (0, 0, 0, 1));
    queue.redrive(None, 1).await.unwrap();
    assert_eq!(now().await, (1, 0, 0, 0));
}

async fn the_oldest_age_is_that_of_a_message_that_waits(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    assert_eq!(queue.counts().await.unwrap().oldest_age_ms, None);
    send(&queue, [message("a")]).await;
    backend.pass(3 * SECOND).await;
    send(&queue, [urgent("b", 9)]).await;
    backend.pass(2 * SECOND).await;
    assert_eq!(queue.counts().await.unwrap().oldest_age_ms, Some(5000));
    let deliveries = take(&queue, 2).await;
    end(&queue, &deliveries[0], Settlement::Release).await.unwrap();
    assert_eq!(queue.counts().await.unwrap().oldest_age_ms, Some(2000));
}

// What only a queue that outlives its process can promise.

#[tokio::test(start_paused = true)]
async fn what_was_sent_survives_a_restart_in_order() {
    let backend = Durable::new().await;
    let queue = backend.queue("orders").await;
    send(&queue, [grouped("a", "g"), grouped("b", "g"), urgent("c", 2)]).await;
    send(
        &queue,
        [
            once("d", "x"),
            Outgoing {
                delay: Some(5 * SECOND),
                ..message("e")
            },
        ],
    )
    .await;
    let backend = backend.restart().await;
    let queue = backend.queue("orders").await;
    send(&queue, [once("again", "x")]).await;
    assert_eq!(taken(&queue, 9).await, ["c", "a", "d"]);
    backend.pass(5 * SECOND).await;
    assert_eq!(taken(&queue, 9).await, ["e"]);
}

#[tokio::test(start_paused = true)]
async fn queues_of_an_earlier_run_are_listed() {
    let backend = Durable::new().await;
    backend.queue("orders").await;
    let backend = backend.restart().await;
    let names = backend.store.queue_names().await.unwrap();
    assert_eq!(names, [queue_name("orders"), queue_name("orders-dead")]);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_of_an_earlier_run_is_stale() {
    let backend = Durable::new().await;
    let queue = backend.queue("orders").await;
    send(&queue, [message("a")]).await;
    let old = take_one(&queue).await;
    let backend = backend.restart().await;
    let queue = backend.queue("orders").await;
    take_one(&queue).await;
    assert!(matches!(
        end(&queue, &old, Settlement::Delete).await,
        Err(SettleError::Expired)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_kills_the_host_reaches_the_dead_letters_alone() {
    let mut backend = Durable::new().await;
    let queue = backend.queue("orders").await;
    send(&queue, ["innocent 1", "killer", "innocent 2"].map(message)).await;
    let mut handled = Vec::new();
    // Whoever receives the killer dies with all that is in flight.
    for _run in 0..20 {
        let queue = backend.queue("orders").await;
        loop {
            let deliveries = take(&queue, 9).await;
            if deliveries.is_empty() || bodies(&deliveries).contains(&"killer".to_owned()) {
                break;
            }
            for delivery in &deliveries {
                handled.extend(bodies(&deliveries));
                end(&queue, delivery, Settlement::Delete).await.unwrap();
            }
        }
        backend = backend.restart().await;
    }
    handled.sort();
    assert_eq!(handled, ["innocent 1", "innocent 2"]);
    let dead = backend.queue("orders").await.dead_letters(None, 9).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (&*dead[0].message.body, dead[0].failure.kind),
        (&b"killer"[..], FailureKind::HostStopped)
    );
    assert!(dead[0].receive_count >= 5, "{}", dead[0].receive_count);
    assert!(dead[0].failure.reason.contains("while this message was in flight"));
}

#[tokio::test(start_paused = true)]
async fn a_closed_store_says_so() {
    let backend = Durable::new().await;
    let queue = backend.queue("orders").await;
    backend.store.clone().close().await;
    let error = queue.send(checked(message("a"))).await.unwrap_err();
    let SendError::Queue(error) = error else {
        panic!("{error:?}")
    };
    assert!(!error.is_transient());
    assert!(
        std::error::Error::source(&error)
            .unwrap()
            .to_string()
            .contains("closed"),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_waits_ends_with_the_store() {
    let backend = Durable::new().await;
    let queue = backend.queue("orders").await;
    let mut receives = JoinSet::new();
    let waiting = Arc::clone(&queue);
    receives.spawn(async move { waiting.receive(1, LONG).await.is_err() });
    tokio::task::yield_now().await;
    backend.store.clone().close().await;
    assert!(receives.join_next().await.unwrap().unwrap());
}
