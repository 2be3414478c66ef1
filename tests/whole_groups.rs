//! What a consumer outside of the host may rely on: receives that take whole message groups, as those of a FIFO queue of SQS do, times
//! of their own, receipts that count late, and the settings of a queue that only such consumers expect. On paused time.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::unchecked_time_subtraction,
    reason = "the steps of a test must succeed"
)]

use std::{
    fs,
    num::NonZeroU32,
    sync::{Arc, mpsc},
    time::Duration,
};

use sandhog_queue::{
    Delivery, Effects, ExtendError, Queue as _, Receipt, SettleError, SettleRequest, Settlement, message::Outgoing,
};
use sandhog_simple::{
    HistoricDelivery, SimpleQueue, SimpleStore, StoreOptions,
    receive_terms::ReceiveTerms,
    settings::{DeduplicationScope, Order, Settings},
};
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, advance},
};

use crate::queue_contract::{bodies, checked, defaults, failure, grouped, message, queue_name, retry};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_hours(1);
/// The visibility timeout of the queues here.
const HIDDEN: Duration = Duration::from_secs(30);
const WHOLE: ReceiveTerms = ReceiveTerms {
    whole_groups: true,
    ..ReceiveTerms::OUTSIDE
};
const HANDLER: ReceiveTerms = ReceiveTerms {
    visibility_timeout: None,
    whole_groups: false,
    outside: false,
};

/// A store of one of the two kinds.
struct Bench {
    store: SimpleStore,
    /// Of a durable store.
    directory: Option<TempDir>,
    /// Dropping it ends the blocking task that keeps tokio's time still.
    still: mpsc::Sender<()>,
}

impl Bench {
    fn on(store: SimpleStore, directory: Option<TempDir>) -> Self {
        let (still, ended) = mpsc::channel::<()>();
        // A test that waits in vain fails after a minute, when time moves again, instead of hanging.
        drop(tokio::task::spawn_blocking(move || {
            ended.recv_timeout(60 * SECOND).is_err()
        }));
        Self {
            store,
            directory,
            still,
        }
    }

    fn ephemeral() -> Self {
        Self::on(SimpleStore::ephemeral(), None)
    }

    fn durable() -> Self {
        Self::open(TempDir::new().unwrap())
    }

    fn open(directory: TempDir) -> Self {
        let store = SimpleStore::open(&StoreOptions::new(directory.path())).unwrap();
        Self::on(store, Some(directory))
    }

    /// The queue `orders`, with its defaults but for what is changed.
    async fn queue_with(&self, change: impl FnOnce(&mut Settings)) -> Arc<SimpleQueue> {
        let mut settings = defaults("orders");
        change(&mut settings);
        self.store.queue(queue_name("orders"), settings).await.unwrap()
    }

    async fn queue(&self) -> Arc<SimpleQueue> {
        self.queue_with(|_| {}).await
    }

    /// The store as another process finds it after this one was killed now.
    fn kill(self) -> Self {
        let copy = TempDir::new().unwrap();
        for entry in fs::read_dir(self.directory.as_ref().unwrap()).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        drop(self.still);
        Self::open(copy)
    }

    /// Closes the store, changes the file as another program would, and opens the store again.
    async fn alter(self, sql: &str) -> Self {
        self.store.close().await;
        let directory = self.directory.unwrap();
        let database = rusqlite::Connection::open(directory.path().join("queues.db")).unwrap();
        database.execute_batch(sql).unwrap();
        drop(database);
        drop(self.still);
        Self::open(directory)
    }
}

/// Sends messages of the group `g`.
async fn send(queue: &SimpleQueue, bodies: &[&'static str]) {
    send_each(queue, bodies.iter().map(|body| grouped(body, "g"))).await;
}

async fn send_each(queue: &SimpleQueue, messages: impl IntoIterator<Item = Outgoing>) {
    for answer in queue.send_many(messages.into_iter().map(checked).collect()).await {
        answer.unwrap();
    }
}

async fn take(queue: &SimpleQueue, max: usize, terms: ReceiveTerms) -> Vec<Delivery> {
    plain(queue.receive_on(max, Duration::ZERO, terms).await.unwrap())
}

fn plain(received: Vec<HistoricDelivery>) -> Vec<Delivery> {
    received.into_iter().map(|received| received.delivery).collect()
}

/// What a receive of whole groups takes, which are at most ten messages.
async fn taken(queue: &SimpleQueue) -> Vec<String> {
    bodies(&take(queue, 10, WHOLE).await)
}

async fn assert_nothing_comes(queue: &SimpleQueue) {
    assert_eq!(taken(queue).await, [""; 0]);
}

fn counts_of(deliveries: &[Delivery]) -> Vec<u32> {
    deliveries.iter().map(|delivery| delivery.receive_count.get()).collect()
}

async fn end(queue: &SimpleQueue, delivery: &Delivery, settlement: Settlement) {
    let receipt = delivery.receipt.clone();
    let answers = queue
        .settle(vec![SettleRequest { receipt, settlement }], Effects::default())
        .await;
    answers.unwrap().pop().unwrap().unwrap();
}

async fn delete(queue: &SimpleQueue, delivery: &Delivery) {
    end(queue, delivery, Settlement::Delete).await;
}

async fn extend(queue: &SimpleQueue, delivery: &Delivery, by: Duration) {
    let answers = queue.extend(vec![delivery.receipt.clone()], by).await;
    assert!(answers[0].is_ok(), "{answers:?}");
}

async fn delete_late(queue: &SimpleQueue, receipt: &Receipt) -> Result<(), SettleError> {
    queue.delete_late(vec![receipt.clone()]).await.pop().unwrap()
}

async fn extend_late(queue: &SimpleQueue, receipt: &Receipt, by: Duration) -> Result<Instant, ExtendError> {
    queue.extend_late(vec![receipt.clone()], by).await.pop().unwrap()
}

/// The answer to a question says that earlier ones were answered, too.
async fn let_others_run(queue: &SimpleQueue) {
    for _ in 0..3 {
        tokio::task::yield_now().await;
        queue.counts().await.unwrap();
    }
}

/// Starts a receive that finds nothing and waits.
async fn waiting(queue: &Arc<SimpleQueue>, terms: ReceiveTerms) -> JoinSet<Vec<String>> {
    let (waiting, mut receives) = (Arc::clone(queue), JoinSet::new());
    receives.spawn(async move { bodies(&plain(waiting.receive_on(10, LONG, terms).await.unwrap())) });
    let_others_run(queue).await;
    assert!(receives.try_join_next().is_none(), "there is nothing to receive");
    receives
}

/// What the receive got.
async fn got(mut receives: JoinSet<Vec<String>>) -> Vec<String> {
    receives.join_next().await.unwrap().unwrap()
}

macro_rules! claims {
    ($($claim:ident),* $(,)?) => {
        mod ephemeral {
            use super::*;
            $(
                #[tokio::test(start_paused = true)]
                async fn $claim() {
                    super::$claim(&Bench::ephemeral()).await;
                }
            )*
        }
        mod durable {
            use super::*;
            $(
                #[tokio::test(start_paused = true)]
                async fn $claim() {
                    super::$claim(&Bench::durable()).await;
                }
            )*
        }
    };
}

claims! {
    a_receive_takes_up_to_its_number_of_a_group_in_order,
    a_receive_takes_one_group_after_another,
    a_receive_of_a_handler_takes_one_of_each_group,
    a_queue_in_one_order_is_one_group,
    while_some_of_a_group_are_in_flight_no_more_of_it_come,
    deleting_some_keeps_the_group_blocked,
    deleting_the_last_frees_the_group_and_wakes_a_receive,
    what_ran_out_comes_again_in_order,
    what_ran_out_comes_again_with_those_behind_it,
    a_first_message_given_back_comes_without_the_second,
    a_middle_message_given_back_waits_for_those_before_it,
    extending_a_middle_message_blocks_it_and_those_behind_it,
    a_retried_message_is_overtaken_by_none_behind_it,
    a_retry_delay_counts_while_others_lead_the_group,
    a_dead_lettered_first_message_leaves_the_group_to_the_second,
    exhausted_messages_leave_the_group_to_the_next,
    exhausted_messages_take_no_room_in_a_receive,
    a_first_message_past_its_time_to_live_frees_the_next,
    an_urgent_message_does_not_overtake_one_in_flight,
    an_urgent_message_is_not_handed_out_beside_one_in_flight,
    a_purge_leaves_what_is_in_flight_in_order,
    a_new_order_counts_what_is_in_flight_once,
    a_new_order_ends_no_retry_delay_early,
    a_receive_hides_for_a_time_of_its_own,
    a_shorter_time_wakes_a_receive_that_waits_already,
    a_receive_that_hides_nothing_leaves_it_visible_and_counts,
    a_late_receipt_deletes_until_the_message_is_received_again,
    a_late_receipt_extends_until_the_message_is_received_again,
    a_late_extension_of_nothing_leaves_the_message_visible,
    a_late_receipt_of_a_group_does_nothing,
    a_receipt_that_has_settled_does_nothing_late,
    a_late_receipt_counts_however_many_ran_out_together,
    a_late_receipt_does_not_save_a_message_past_its_time_to_live,
    deduplication_may_look_at_the_group_only,
    the_delay_of_the_queue_is_for_messages_without_their_own,
    a_stale_receipt_of_an_outside_receiver_extends_the_last_delivery,
    a_stale_receipt_extends_no_delivery_of_the_host,
    an_outside_receiver_has_a_message_for_twelve_hours_in_all,
    what_is_cleared_away_leaves_its_deduplication_id_free,
    a_dead_letter_without_a_group_keeps_its_age,
}

async fn a_stale_receipt_of_an_outside_receiver_extends_the_last_delivery(bench: &Bench) {
    let queue = bench.queue().await;
    send_each(&queue, [message("a")]).await;
    let first = take(&queue, 1, WHOLE).await;
    advance(HIDDEN).await;
    take(&queue, 1, WHOLE).await;
    let receipt = || first[0].receipt.clone();
    queue.extend_outside(receipt(), 3 * HIDDEN, true).await.unwrap();
    advance(2 * HIDDEN).await;
    assert_nothing_comes(&queue).await;
    queue.extend_outside(receipt(), Duration::ZERO, true).await.unwrap();
    assert_eq!(taken(&queue).await, ["a"]);
    let strict = queue.extend_outside(receipt(), HIDDEN, false).await;
    assert!(matches!(strict, Err(ExtendError::Expired)), "{strict:?}");
}

async fn a_stale_receipt_extends_no_delivery_of_the_host(bench: &Bench) {
    let queue = bench.queue().await;
    send_each(&queue, [message("a")]).await;
    let first = take(&queue, 1, WHOLE).await;
    advance(HIDDEN).await;
    take(&queue, 1, HANDLER).await;
    let stale = queue
        .extend_outside(first[0].receipt.clone(), Duration::ZERO, true)
        .await;
    assert!(matches!(stale, Err(ExtendError::Expired)), "{stale:?}");
    assert_nothing_comes(&queue).await;
}

async fn an_outside_receiver_has_a_message_for_twelve_hours_in_all(bench: &Bench) {
    let queue = bench.queue().await;
    send_each(&queue, [message("a")]).await;
    let first = take(&queue, 1, WHOLE).await;
    let extend = |by| queue.extend_outside(first[0].receipt.clone(), by, true);
    extend(12 * LONG).await.unwrap();
    advance(6 * LONG).await;
    let beyond = extend(6 * LONG + SECOND).await;
    assert!(matches!(beyond, Err(ExtendError::Expired)), "{beyond:?}");
    assert_eq!(queue.held_for(first[0].receipt.clone()).await.unwrap(), Some(6 * LONG));
    extend(6 * LONG).await.unwrap();
    advance(6 * LONG).await;
    assert_eq!(taken(&queue).await, ["a"]);
}

async fn what_is_cleared_away_leaves_its_deduplication_id_free(bench: &Bench) {
    let queue = bench.queue().await;
    let once = |id: &str| Outgoing {
        deduplication_id: Some(id.to_owned()),
        ..message("a")
    };
    send_each(&queue, (0..600).map(|id| once(&id.to_string()))).await;
    send_each(&queue, [once("0")]).await;
    assert_eq!(queue.clear().await.unwrap(), 600);
    send_each(&queue, [once("0"), once("599"), once("599")]).await;
    assert_eq!(queue.counts().await.unwrap().ready, 2);
}

async fn a_dead_letter_without_a_group_keeps_its_age(bench: &Bench) {
    let name = queue_name("dead");
    let mortal = Settings {
        order: Order::Ungrouped,
        time_to_live: Some(2 * LONG),
        ..Settings::defaults(&name)
    };
    let dead = bench.store.queue(name.clone(), mortal).await.unwrap();
    let queue = bench
        .queue_with(|settings| {
            settings.max_receives = NonZeroU32::new(1).unwrap();
            settings.dead_letter = name;
        })
        .await;
    send_each(&queue, [message("a")]).await;
    advance(LONG).await;
    take(&queue, 1, WHOLE).await;
    advance(HIDDEN).await;
    assert_nothing_comes(&queue).await;
    assert_eq!(dead.counts().await.unwrap().ready, 1);
    advance(LONG).await;
    assert_eq!(dead.counts().await.unwrap().ready, 0);
}

async fn a_receive_takes_up_to_its_number_of_a_group_in_order(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]).await;
    let first = take(&queue, 10, WHOLE).await;
    assert_eq!(bodies(&first), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(counts_of(&first), [1; 10]);
    for delivery in &first {
        delete(&queue, delivery).await;
    }
    assert_eq!(taken(&queue).await, ["10", "11"]);
}

async fn a_receive_takes_one_group_after_another(bench: &Bench) {
    let queue = bench.queue().await;
    let of = |group: &'static str| move |body: &&'static str| grouped(body, group);
    send_each(&queue, ["a1"].iter().map(of("a"))).await;
    send_each(&queue, [message("alone")]).await;
    send_each(&queue, ["b1", "b2"].iter().map(of("b"))).await;
    send_each(&queue, ["a2", "a3"].iter().map(of("a"))).await;
    assert_eq!(bodies(&take(&queue, 5, WHOLE).await), ["a1", "a2", "a3", "alone", "b1"]);
    assert_nothing_comes(&queue).await;
}

async fn a_receive_of_a_handler_takes_one_of_each_group(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b"]).await;
    send_each(&queue, [grouped("c", "other"), grouped("d", "other")]).await;
    assert_eq!(bodies(&take(&queue, 10, HANDLER).await), ["a", "c"]);
    assert!(queue.receive(10, Duration::ZERO).await.unwrap().is_empty());
    assert_nothing_comes(&queue).await;
}

async fn a_queue_in_one_order_is_one_group(bench: &Bench) {
    let queue = bench.queue_with(|settings| settings.order = Order::Queue).await;
    send_each(&queue, [message("a"), grouped("b", "g"), message("c")]).await;
    assert_eq!(bodies(&take(&queue, 2, WHOLE).await), ["a", "b"]);
    assert_nothing_comes(&queue).await;
}

async fn while_some_of_a_group_are_in_flight_no_more_of_it_come(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b", "c"]).await;
    assert_eq!(bodies(&take(&queue, 2, WHOLE).await), ["a", "b"]);
    assert_nothing_comes(&queue).await;
    send(&queue, &["d"]).await;
    send_each(&queue, [grouped("e", "other"), message("alone")]).await;
    assert_eq!(taken(&queue).await, ["e", "alone"]);
    assert!(take(&queue, 10, HANDLER).await.is_empty());
}

async fn deleting_some_keeps_the_group_blocked(bench: &Bench) {
    for last in 0..3 {
        let queue = bench.queue().await;
        send(&queue, &["a", "b", "c", "d"]).await;
        let first = take(&queue, 3, WHOLE).await;
        for place in (0..3).filter(|place| *place != last) {
            delete(&queue, &first[place]).await;
            assert_nothing_comes(&queue).await;
        }
        delete(&queue, &first[last]).await;
        let rest = take(&queue, 10, WHOLE).await;
        assert_eq!(bodies(&rest), ["d"]);
        delete(&queue, &rest[0]).await;
    }
}

async fn deleting_the_last_frees_the_group_and_wakes_a_receive(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b", "c", "d"]).await;
    let first = take(&queue, 2, WHOLE).await;
    let receives = waiting(&queue, WHOLE).await;
    delete(&queue, &first[1]).await;
    delete(&queue, &first[0]).await;
    assert_eq!(got(receives).await, ["c", "d"]);
}

async fn what_ran_out_comes_again_in_order(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b", "c"]).await;
    assert_eq!(taken(&queue).await, ["a", "b", "c"]);
    let receives = waiting(&queue, WHOLE).await;
    advance(HIDDEN).await;
    assert_eq!(got(receives).await, ["a", "b", "c"]);
    advance(HIDDEN).await;
    assert_eq!(counts_of(&take(&queue, 10, WHOLE).await), [3; 3]);
}

async fn what_ran_out_comes_again_with_those_behind_it(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b", "c", "d"]).await;
    let first = take(&queue, 3, WHOLE).await;
    delete(&queue, &first[0]).await;
    advance(HIDDEN).await;
    let again = take(&queue, 10, WHOLE).await;
    assert_eq!(bodies(&again), ["b", "c", "d"]);
    assert_eq!(counts_of(&again), [2, 2, 1]);
}

async fn a_first_message_given_back_comes_without_the_second(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b", "c"]).await;
    let first = take(&queue, 2, WHOLE).await;
    extend(&queue, &first[0], Duration::ZERO).await;
    let again = take(&queue, 10, WHOLE).await;
    assert_eq!(bodies(&again), ["a"]);
    assert_eq!(counts_of(&again), [2]);
    delete(&queue, &again[0]).await;
    assert_nothing_comes(&queue).await;
    delete(&queue, &first[1]).await;
    assert_eq!(taken(&queue).await, ["c"]);
}

async fn a_middle_message_given_back_waits_for_those_before_it(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b", "c", "d"]).await;
    let first = take(&queue, 3, WHOLE).await;
    extend(&queue, &first[1], Duration::ZERO).await;
    assert_nothing_comes(&queue).await;
    delete(&queue, &first[0]).await;
    let again = take(&queue, 10, WHOLE).await;
    assert_eq!(bodies(&again), ["b"]);
    delete(&queue, &again[0]).await;
    assert_nothing_comes(&queue).await;
    delete(&queue, &first[2]).await;
    assert_eq!(taken(&queue).await, ["d"]);
}

async fn extending_a_middle_message_blocks_it_and_those_behind_it(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b", "c", "d"]).await;
    let first = take(&queue, 3, WHOLE).await;
    extend(&queue, &first[1], 3 * HIDDEN).await;
    advance(HIDDEN).await;
    let again = take(&queue, 10, WHOLE).await;
    assert_eq!(bodies(&again), ["a"]);
    delete(&queue, &again[0]).await;
    assert_nothing_comes(&queue).await;
    let receives = waiting(&queue, WHOLE).await;
    advance(2 * HIDDEN).await;
    assert_eq!(got(receives).await, ["b", "c", "d"]);
}

async fn a_retried_message_is_overtaken_by_none_behind_it(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b", "c", "d"]).await;
    let first = take(&queue, 3, WHOLE).await;
    end(&queue, &first[1], retry(2 * HIDDEN)).await;
    delete(&queue, &first[2]).await;
    delete(&queue, &first[0]).await;
    assert_nothing_comes(&queue).await;
    let receives = waiting(&queue, WHOLE).await;
    advance(2 * HIDDEN).await;
    assert_eq!(got(receives).await, ["b", "d"]);
}

async fn a_retry_delay_counts_while_others_lead_the_group(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b", "c"]).await;
    let first = take(&queue, 3, WHOLE).await;
    extend(&queue, &first[0], 10 * HIDDEN).await;
    end(&queue, &first[1], retry(HIDDEN)).await;
    advance(HIDDEN).await;
    assert_nothing_comes(&queue).await;
    delete(&queue, &first[0]).await;
    assert_eq!(taken(&queue).await, ["b", "c"]);
}

async fn a_dead_lettered_first_message_leaves_the_group_to_the_second(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b", "c"]).await;
    let first = take(&queue, 2, WHOLE).await;
    let failure = failure("no");
    end(&queue, &first[0], Settlement::DeadLetter { failure }).await;
    assert_nothing_comes(&queue).await;
    delete(&queue, &first[1]).await;
    assert_eq!(taken(&queue).await, ["c"]);
    assert_eq!(queue.counts().await.unwrap().dead, 1);
}

async fn exhausted_messages_leave_the_group_to_the_next(bench: &Bench) {
    let once = |settings: &mut Settings| settings.max_receives = NonZeroU32::new(1).unwrap();
    let queue = bench.queue_with(once).await;
    send(&queue, &["a", "b", "c"]).await;
    assert_eq!(bodies(&take(&queue, 2, WHOLE).await), ["a", "b"]);
    advance(HIDDEN).await;
    assert_eq!(taken(&queue).await, ["c"]);
    assert_eq!(queue.counts().await.unwrap().dead, 2);
}

// One that was put aside left its place in the receive empty.
async fn exhausted_messages_take_no_room_in_a_receive(bench: &Bench) {
    let twice = |settings: &mut Settings| settings.max_receives = NonZeroU32::new(2).unwrap();
    let queue = bench.queue_with(twice).await;
    send(&queue, &["a", "b", "c", "d", "e"]).await;
    let first = take(&queue, 2, WHOLE).await;
    end(&queue, &first[0], Settlement::Release).await;
    advance(HIDDEN).await;
    let second = take(&queue, 2, WHOLE).await;
    assert_eq!(bodies(&second), ["a", "b"]);
    advance(HIDDEN).await;
    // The second message has been received twice.
    assert_eq!(bodies(&take(&queue, 3, WHOLE).await), ["a", "c", "d"]);
    assert_eq!(queue.counts().await.unwrap().dead, 1);
}

async fn a_first_message_past_its_time_to_live_frees_the_next(bench: &Bench) {
    let mortal = |settings: &mut Settings| settings.time_to_live = Some(2 * HIDDEN);
    let queue = bench.queue_with(mortal).await;
    send(&queue, &["a"]).await;
    advance(HIDDEN).await;
    send(&queue, &["b", "c"]).await;
    let first = take(&queue, 2, WHOLE).await;
    extend(&queue, &first[1], 2 * HIDDEN).await;
    advance(HIDDEN).await;
    // The first message is gone, and the second one is in flight.
    assert_nothing_comes(&queue).await;
    assert_eq!(queue.counts().await.unwrap().expired, 1);
    delete(&queue, &first[1]).await;
    assert_eq!(taken(&queue).await, ["c"]);
}

fn urgent(body: &'static str) -> Outgoing {
    Outgoing {
        priority: Some(9),
        ..grouped(body, "g")
    }
}

// It led the group as soon as the first of two messages was gone, and was handed out beside the second.
async fn an_urgent_message_does_not_overtake_one_in_flight(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b", "c"]).await;
    let first = take(&queue, 2, WHOLE).await;
    send_each(&queue, [urgent("urgent")]).await;
    delete(&queue, &first[0]).await;
    assert_nothing_comes(&queue).await;
    assert!(take(&queue, 10, HANDLER).await.is_empty());
    delete(&queue, &first[1]).await;
    assert_eq!(taken(&queue).await, ["urgent", "c"]);
}

async fn an_urgent_message_is_not_handed_out_beside_one_in_flight(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b"]).await;
    let first = take(&queue, 2, WHOLE).await;
    end(&queue, &first[0], Settlement::Release).await;
    send_each(&queue, [urgent("urgent")]).await;
    // The first message leads the group.
    let again = take(&queue, 10, WHOLE).await;
    assert_eq!(bodies(&again), ["a"]);
    end(&queue, &again[0], Settlement::Release).await;
    assert_eq!(taken(&queue).await, ["a"]);
}

async fn a_purge_leaves_what_is_in_flight_in_order(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b", "c", "d"]).await;
    let first = take(&queue, 3, WHOLE).await;
    extend(&queue, &first[0], Duration::ZERO).await;
    assert_eq!(queue.counts().await.unwrap().in_flight, 2);
    assert_eq!(queue.purge().await.unwrap(), 2);
    send(&queue, &["e"]).await;
    assert_nothing_comes(&queue).await;
    advance(HIDDEN).await;
    assert_eq!(taken(&queue).await, ["b", "c", "e"]);
}

// Those behind the first were counted as in flight for ever.
async fn a_new_order_counts_what_is_in_flight_once(bench: &Bench) {
    let queue = bench.queue().await;
    // So many that groups in memory are derived anew in several steps.
    send_each(&queue, (0..600).map(|_| message("other"))).await;
    let first = |body| Outgoing {
        priority: Some(9),
        ..grouped(body, "g")
    };
    send_each(&queue, [first("a"), first("b"), first("c")]).await;
    let taken = take(&queue, 3, WHOLE).await;
    assert_eq!(bodies(&taken), ["a", "b", "c"]);
    let settle = async {
        for delivery in &taken {
            delete(&queue, delivery).await;
        }
    };
    let (_queue, ()) = tokio::join!(bench.queue_with(|settings| settings.order = Order::Queue), settle);
    let counts = queue.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight), (600, 0));
}

// One that waited behind others was visible at once.
async fn a_new_order_ends_no_retry_delay_early(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b"]).await;
    let first = take(&queue, 2, WHOLE).await;
    end(&queue, &first[1], retry(2 * HIDDEN)).await;
    let queue = bench.queue_with(|settings| settings.order = Order::Queue).await;
    delete(&queue, &first[0]).await;
    assert_nothing_comes(&queue).await;
    advance(2 * HIDDEN).await;
    assert_eq!(taken(&queue).await, ["b"]);
}

fn hiding_for(timeout: Duration) -> ReceiveTerms {
    ReceiveTerms {
        visibility_timeout: Some(timeout),
        ..WHOLE
    }
}

async fn a_receive_hides_for_a_time_of_its_own(bench: &Bench) {
    let queue = bench.queue().await;
    for timeout in [5 * SECOND, 3 * HIDDEN] {
        send_each(&queue, [message("a")]).await;
        let first = take(&queue, 10, hiding_for(timeout)).await;
        assert_eq!(bodies(&first), ["a"]);
        advance(timeout - SECOND).await;
        assert_nothing_comes(&queue).await;
        advance(SECOND).await;
        let again = take(&queue, 10, WHOLE).await;
        assert_eq!(bodies(&again), ["a"]);
        delete(&queue, &again[0]).await;
    }
}

async fn a_shorter_time_wakes_a_receive_that_waits_already(bench: &Bench) {
    let queue = bench.queue().await;
    let first = waiting(&queue, hiding_for(2 * SECOND)).await;
    let second = waiting(&queue, WHOLE).await;
    send_each(&queue, [message("a")]).await;
    assert_eq!(got(first).await, ["a"]);
    let_others_run(&queue).await;
    let started = Instant::now();
    advance(2 * SECOND).await;
    assert_eq!(got(second).await, ["a"]);
    assert!(started.elapsed() < HIDDEN, "{:?}", started.elapsed());
}

async fn a_receive_that_hides_nothing_leaves_it_visible_and_counts(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b"]).await;
    for count in 1..4 {
        let peek = take(&queue, 10, hiding_for(Duration::ZERO)).await;
        assert_eq!(
            (bodies(&peek), counts_of(&peek)),
            (vec!["a".into(), "b".into()], vec![count; 2])
        );
        let settle = queue.delete_late(vec![peek[0].receipt.clone()]).await;
        assert!(matches!(settle[..], [Err(SettleError::Expired)]), "{settle:?}");
    }
}

async fn a_late_receipt_deletes_until_the_message_is_received_again(bench: &Bench) {
    let queue = bench.queue().await;
    send_each(&queue, [message("a"), message("b")]).await;
    let first = take(&queue, 10, WHOLE).await;
    advance(2 * HIDDEN).await;
    delete_late(&queue, &first[0].receipt).await.unwrap();
    let again = take(&queue, 10, WHOLE).await;
    assert_eq!(bodies(&again), ["b"]);
    let stale = delete_late(&queue, &first[1].receipt).await;
    assert!(matches!(stale, Err(SettleError::Expired)), "{stale:?}");
    assert!(queue.has_message_of(first[1].receipt.clone()).await.unwrap());
    assert!(!queue.has_message_of(first[0].receipt.clone()).await.unwrap());
    advance(HIDDEN).await;
    let stale = delete_late(&queue, &first[1].receipt).await;
    assert!(matches!(stale, Err(SettleError::Expired)), "{stale:?}");
    // Nor does it count again once that receive has ended.
    let released = take(&queue, 10, WHOLE).await;
    end(&queue, &released[0], Settlement::Release).await;
    for receipt in [&first[1].receipt, &again[0].receipt] {
        let stale = delete_late(&queue, receipt).await;
        assert!(matches!(stale, Err(SettleError::Expired)), "{stale:?}");
    }
    assert_eq!(queue.counts().await.unwrap().ready, 1);
}

async fn a_late_receipt_extends_until_the_message_is_received_again(bench: &Bench) {
    let queue = bench.queue().await;
    send_each(&queue, [message("a")]).await;
    let first = take(&queue, 10, WHOLE).await;
    advance(2 * HIDDEN).await;
    extend_late(&queue, &first[0].receipt, 2 * HIDDEN).await.unwrap();
    advance(HIDDEN).await;
    assert_nothing_comes(&queue).await;
    advance(HIDDEN).await;
    let again = take(&queue, 10, WHOLE).await;
    assert_eq!(counts_of(&again), [2]);
    let stale = extend_late(&queue, &first[0].receipt, HIDDEN).await;
    assert!(matches!(stale, Err(ExtendError::Expired)), "{stale:?}");
}

async fn a_late_extension_of_nothing_leaves_the_message_visible(bench: &Bench) {
    let queue = bench.queue().await;
    send_each(&queue, [message("a")]).await;
    let first = take(&queue, 10, WHOLE).await;
    for _ in 0..2 {
        extend_late(&queue, &first[0].receipt, Duration::ZERO).await.unwrap();
        assert_eq!(queue.counts().await.unwrap().ready, 1);
    }
    assert_eq!(taken(&queue).await, ["a"]);
}

async fn a_late_receipt_of_a_group_does_nothing(bench: &Bench) {
    let queue = bench.queue().await;
    send(&queue, &["a", "b"]).await;
    let first = take(&queue, 10, WHOLE).await;
    advance(HIDDEN).await;
    for delivery in &first {
        let deleted = delete_late(&queue, &delivery.receipt).await;
        assert!(matches!(deleted, Err(SettleError::Expired)), "{deleted:?}");
        let extended = extend_late(&queue, &delivery.receipt, HIDDEN).await;
        assert!(matches!(extended, Err(ExtendError::Expired)), "{extended:?}");
    }
    assert_eq!(taken(&queue).await, ["a", "b"]);
}

// After a retry that had ended it counted again.
async fn a_receipt_that_has_settled_does_nothing_late(bench: &Bench) {
    let queue = bench.queue().await;
    send_each(&queue, [message("a")]).await;
    let first = take(&queue, 10, WHOLE).await;
    advance(HIDDEN).await;
    extend_late(&queue, &first[0].receipt, HIDDEN).await.unwrap();
    end(&queue, &first[0], retry(SECOND)).await;
    advance(SECOND).await;
    let stale = delete_late(&queue, &first[0].receipt).await;
    assert!(matches!(stale, Err(SettleError::Expired)), "{stale:?}");
    assert_eq!(taken(&queue).await, ["a"]);
}

// The message was not visible yet, because one pass ends a few hundred timeouts, and neither was the receipt valid any more.
async fn a_late_receipt_counts_however_many_ran_out_together(bench: &Bench) {
    let queue = bench.queue().await;
    send_each(&queue, (0..1000).map(|_| message("a"))).await;
    let first = take(&queue, 1000, WHOLE).await;
    assert_eq!(first.len(), 1000);
    advance(HIDDEN).await;
    let receipts = first.iter().rev().map(|delivery| delivery.receipt.clone());
    for answer in queue.delete_late(receipts.collect()).await {
        answer.unwrap();
    }
    assert_eq!(queue.counts().await.unwrap().ready, 0);
}

async fn a_late_receipt_does_not_save_a_message_past_its_time_to_live(bench: &Bench) {
    let mortal = |settings: &mut Settings| settings.time_to_live = Some(HIDDEN);
    let queue = bench.queue_with(mortal).await;
    send_each(&queue, [message("a")]).await;
    let first = take(&queue, 10, WHOLE).await;
    advance(HIDDEN).await;
    let extended = extend_late(&queue, &first[0].receipt, HIDDEN).await;
    assert!(matches!(extended, Err(ExtendError::Expired)), "{extended:?}");
    assert_eq!(queue.counts().await.unwrap().expired, 1);
}

/// A message with the deduplication id `d`.
fn unique(body: &'static str, group: Option<&str>) -> Outgoing {
    Outgoing {
        group_id: group.map(str::to_owned),
        deduplication_id: Some("d".to_owned()),
        ..message(body)
    }
}

async fn deduplication_may_look_at_the_group_only(bench: &Bench) {
    let sends = || {
        [
            unique("a", Some("g")),
            unique("b", Some("h")),
            unique("c", None),
            unique("again", Some("h")),
            unique("again", None),
        ]
    };
    let queue = bench
        .queue_with(|settings| settings.deduplication_scope = DeduplicationScope::Group)
        .await;
    send_each(&queue, sends()).await;
    assert_eq!(taken(&queue).await, ["a", "b", "c"]);
    queue.purge().await.unwrap();
    let queue = bench.queue().await;
    send_each(&queue, sends()).await;
    assert_eq!(queue.counts().await.unwrap().ready, 1, "the queue is one scope");
}

async fn the_delay_of_the_queue_is_for_messages_without_their_own(bench: &Bench) {
    let queue = bench.queue_with(|settings| settings.delay = 10 * SECOND).await;
    let delayed = |body, seconds| Outgoing {
        delay: Some(Duration::from_secs(seconds)),
        ..message(body)
    };
    send_each(&queue, [message("usual"), delayed("at once", 0), delayed("late", 20)]).await;
    assert_eq!(taken(&queue).await, ["at once"]);
    advance(9 * SECOND).await;
    assert_nothing_comes(&queue).await;
    advance(SECOND).await;
    assert_eq!(taken(&queue).await, ["usual"]);
    advance(10 * SECOND).await;
    assert_eq!(taken(&queue).await, ["late"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_a_group_comes_again_in_order_and_counted() {
    let bench = Bench::durable();
    let queue = bench.queue().await;
    send(&queue, &["a", "b", "c", "d", "e"]).await;
    let first = take(&queue, 4, WHOLE).await;
    delete(&queue, &first[0]).await;
    extend(&queue, &first[2], Duration::ZERO).await;
    // The second message leads, the third waits behind it and the fourth is in flight there.
    assert_eq!(queue.counts().await.unwrap().in_flight, 2);
    let bench = bench.kill();
    let queue = bench.queue().await;
    assert_eq!(queue.counts().await.unwrap().in_flight, 0);
    let again = take(&queue, 10, WHOLE).await;
    assert_eq!(bodies(&again), ["b", "c", "d", "e"]);
    assert_eq!(counts_of(&again), [2, 2, 2, 1]);
    let stale = delete_late(&queue, &first[1].receipt).await;
    assert!(matches!(stale, Err(SettleError::Expired)), "{stale:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_a_retry_behind_others_still_waits() {
    let bench = Bench::durable();
    let queue = bench.queue().await;
    send(&queue, &["a", "b", "c"]).await;
    let first = take(&queue, 2, WHOLE).await;
    end(&queue, &first[1], retry(LONG)).await;
    let bench = bench.kill();
    let queue = bench.queue().await;
    let again = take(&queue, 10, WHOLE).await;
    assert_eq!(bodies(&again), ["a"]);
    delete(&queue, &again[0]).await;
    assert_nothing_comes(&queue).await;
    advance(LONG).await;
    assert_eq!(taken(&queue).await, ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_outside_in_a_crash_is_no_suspect() {
    let bench = Bench::durable();
    let queue = bench.queue().await;
    send(&queue, &["a", "b"]).await;
    send_each(&queue, [message("c"), message("d")]).await;
    assert_eq!(taken(&queue).await, ["a", "b", "c", "d"]);
    let bench = bench.kill();
    let queue = bench.queue().await;
    let again = take(&queue, 10, HANDLER).await;
    assert_eq!(bodies(&again), ["a", "c", "d"], "a suspect would be alone");
}

#[tokio::test(start_paused = true)]
async fn what_was_outside_late_in_a_crash_is_no_suspect() {
    let bench = Bench::durable();
    let queue = bench.queue().await;
    send_each(&queue, [message("a"), message("b")]).await;
    let first = take(&queue, 10, WHOLE).await;
    advance(HIDDEN).await;
    for delivery in &first {
        extend_late(&queue, &delivery.receipt, HIDDEN).await.unwrap();
    }
    let bench = bench.kill();
    let queue = bench.queue().await;
    assert_eq!(bodies(&take(&queue, 10, HANDLER).await), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_blamed_on_the_one_message_that_was_inside() {
    let once = |settings: &mut Settings| settings.max_receives = NonZeroU32::new(1).unwrap();
    let bench = Bench::durable();
    let queue = bench.queue_with(once).await;
    send_each(&queue, [message("inside"), message("outside")]).await;
    assert_eq!(bodies(&take(&queue, 1, HANDLER).await), ["inside"]);
    assert_eq!(taken(&queue).await, ["outside"]);
    let bench = bench.kill();
    let queue = bench.queue_with(|_| {}).await;
    assert_eq!(taken(&queue).await, ["inside", "outside"]);
    let bench = bench.kill();
    let queue = bench.queue_with(once).await;
    // Both have been received more often than they may, and nothing excuses either.
    assert_nothing_comes(&queue).await;
    assert_eq!(queue.counts().await.unwrap().dead, 2);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_holds_no_receiver_outside_back() {
    let bench = Bench::durable();
    let queue = bench.queue().await;
    send_each(&queue, [message("a"), message("b")]).await;
    assert_eq!(take(&queue, 2, HANDLER).await.len(), 2);
    let bench = bench.kill();
    let queue = bench.queue().await;
    send_each(&queue, [message("c")]).await;
    assert_eq!(bodies(&take(&queue, 10, HANDLER).await), ["a"], "a suspect is alone");
    assert!(take(&queue, 10, HANDLER).await.is_empty());
    assert_eq!(taken(&queue).await, ["b", "c"]);
}

// A receiver that went away gave it back, and it was taken for harmless.
#[tokio::test(start_paused = true)]
async fn a_suspect_that_was_outside_meanwhile_is_still_alone_inside() {
    let bench = Bench::durable();
    let queue = bench.queue().await;
    send_each(&queue, [message("a"), message("b")]).await;
    assert_eq!(take(&queue, 2, HANDLER).await.len(), 2);
    let bench = bench.kill();
    let queue = bench.queue().await;
    for delivery in take(&queue, 10, WHOLE).await {
        end(&queue, &delivery, Settlement::Release).await;
    }
    assert_eq!(bodies(&take(&queue, 10, HANDLER).await), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_message_leaves_its_group_to_the_next() {
    let bench = Bench::durable();
    let queue = bench.queue().await;
    send(&queue, &["a", "b", "c", "d", "e"]).await;
    drop(queue);
    let bench = bench
        .alter("UPDATE messages SET body = X'00' WHERE CAST(body AS TEXT) IN ('a', 'c')")
        .await;
    let queue = bench.queue().await;
    assert_eq!(bodies(&take(&queue, 2, WHOLE).await), ["b", "d"]);
    assert_nothing_comes(&queue).await;
    assert_eq!(queue.counts().await.unwrap().damaged, 2);
}

// It kept the time for which it had been held in the place of how it was handed out.
#[tokio::test(start_paused = true)]
async fn a_message_in_flight_says_how_it_was_handed_out() {
    let bench = Bench::durable();
    let queue = bench.queue().await;
    send(&queue, &["a", "b"]).await;
    let first = take(&queue, 2, WHOLE).await;
    end(&queue, &first[1], retry(SECOND)).await;
    extend(&queue, &first[0], Duration::ZERO).await;
    advance(SECOND).await;
    let inside = ReceiveTerms {
        whole_groups: true,
        ..HANDLER
    };
    assert_eq!(bodies(&take(&queue, 10, inside).await), ["a", "b"]);
    let directory = bench.directory.as_ref().unwrap();
    let database = rusqlite::Connection::open(directory.path().join("queues.db")).unwrap();
    let mut statement = database
        .prepare("SELECT state, visible_at FROM messages ORDER BY seq")
        .unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(rows.collect::<Result<Vec<(i64, i64)>, _>>().unwrap(), [(2, 0), (6, 0)]);
}
