//! Tests of the cost of a step, counted in the rows that it looks at: a time would differ on every machine.

use tokio::time::Instant;

use super::{
    super::{
        memory::MemoryRows,
        processed::ProcessedMessageSettings,
        receive_terms::ReceiveTerms,
        row::QueueKey,
        settings::{Order, Settings},
    },
    DeadLetterChoice, StoreRules,
};
use sandhog_queue::{Effects, FailureKind, FailureRecord, SettleRequest, Settlement};
use sandhog_queue::{
    machine_clock::MachineClock,
    message::{CheckedMessage, Outgoing, QueueName},
};

/// The number of messages that one step may change.
const STEP: usize = 256;
/// The number of looks at rows that a message may cost: it is found, read, taken out of its place and put into another, and its group
/// handed on.
const LOOKS: u64 = 12;

struct Store {
    rules: StoreRules<MemoryRows>,
    queue: QueueKey,
}

fn failure() -> FailureRecord {
    FailureRecord {
        kind: FailureKind::Reject,
        reason: String::new(),
        handler: String::new(),
        component: String::new(),
    }
}

fn settings(order: Order) -> Settings {
    Settings {
        order,
        ..Settings::defaults(&name())
    }
}

fn name() -> QueueName {
    QueueName::new("orders").unwrap()
}

fn outgoing(priority: u8) -> CheckedMessage {
    let draft = Outgoing {
        priority: Some(priority),
        ..Outgoing::new("x")
    };
    draft.check().unwrap()
}

impl Store {
    fn with(messages: usize) -> Self {
        let mut rules = StoreRules::new(
            MemoryRows::default(),
            false,
            ProcessedMessageSettings::default(),
            MachineClock::default(),
        );
        let queue = rules
            .with_any_rows()
            .declare(&name(), settings(Order::Group))
            .unwrap()
            .key;
        let mut store = Self { rules, queue };
        store.send(messages, 0);
        store
    }

    fn send(&mut self, messages: usize, priority: u8) {
        for _ in 0..messages {
            let rules = self.rules.with_any_rows();
            let now = rules.tick(Instant::now());
            rules.send(self.queue, outgoing(priority), now).unwrap().unwrap();
        }
    }

    /// A store with as many messages, all of them dead letters.
    fn with_dead(messages: usize) -> Self {
        let mut store = Self::with(messages);
        loop {
            let rules = store.rules.with_any_rows();
            let now = rules.tick(Instant::now());
            let received = rules
                .receive(store.queue, STEP, ReceiveTerms::default(), now)
                .unwrap()
                .deliveries;
            if received.is_empty() {
                return store;
            }
            let dead_letter = |receipt| SettleRequest {
                receipt,
                settlement: Settlement::DeadLetter { failure: failure() },
            };
            let settles = received
                .into_iter()
                .map(|delivery| dead_letter(delivery.delivery.receipt))
                .collect();
            rules
                .settle(store.queue, settles, Effects::default(), now)
                .unwrap()
                .unwrap();
        }
    }

    fn cost(&mut self, step: impl FnOnce(&mut StoreRules, QueueKey)) -> u64 {
        let before = self.rules.rows.visited();
        step(&mut self.rules, self.queue);
        self.rules.rows.visited() - before
    }
}

/// Checks that a step costs as much in a small store as in a large one, and no more than it may.
fn check(what: &str, make: impl Fn(usize) -> Store, step: impl Fn(&mut StoreRules, QueueKey)) {
    let costs = [2 * STEP, 16 * STEP].map(|messages| make(messages).cost(&step));
    let most = u64::try_from(STEP).unwrap() * LOOKS;
    assert!(
        costs.iter().all(|cost| *cost <= most),
        "{what} looked at {costs:?} rows, and may at {most}"
    );
    assert!(costs[1] <= costs[0] + 64, "{what} depends on the backlog: {costs:?}");
}

// Each message of a redrive copied and sorted all that were behind it, and the whole store stood still for minutes.
#[test]
fn a_step_of_a_long_operation_costs_the_same_whatever_the_backlog() {
    let oldest = || DeadLetterChoice::oldest(0, u64::MAX, usize::MAX);
    check("redrive", Store::with_dead, |rules, queue| {
        let now = rules.tick(Instant::now());
        assert_eq!(rules.redrive(queue, &oldest(), now).unwrap().0, 256);
    });
    check("purging dead letters", Store::with_dead, |rules, queue| {
        let now = rules.tick(Instant::now());
        assert_eq!(rules.purge_dead(queue, &oldest(), now).unwrap().0, 256);
    });
    check("listing dead letters", Store::with_dead, |rules, queue| {
        assert_eq!(rules.dead_letters(queue, 0, usize::MAX).unwrap().0.len(), STEP);
    });
    check("purging", Store::with, |rules, queue| {
        assert_eq!(rules.purge(queue, u64::MAX, STEP).unwrap(), 256);
    });
    check("counting", Store::with, |rules, queue| {
        let now = rules.tick(Instant::now());
        rules.counts(queue, now).unwrap();
    });
    check("receiving", Store::with, |rules, queue| {
        let now = rules.tick(Instant::now());
        assert_eq!(
            rules
                .receive(queue, 9, ReceiveTerms::default(), now)
                .unwrap()
                .deliveries
                .len(),
            9
        );
    });
}

#[test]
fn what_came_after_a_purge_began_costs_it_nothing() {
    let with_newer = |messages| {
        let mut store = Store::with(1);
        store.send(messages, 9);
        store
    };
    check("the end of a purge", with_newer, |rules, queue| {
        assert_eq!(rules.purge(queue, 1, STEP).unwrap(), 1);
        assert_eq!(rules.purge(queue, 1, STEP).unwrap(), 0);
    });
}

#[test]
fn a_change_of_the_order_is_done_in_steps_and_nothing_is_handed_out_before_its_end() {
    check("declaring with another order", Store::with, |rules, _| {
        rules.declare(&name(), settings(Order::Queue)).unwrap();
    });
    let mut store = Store::with(3 * STEP);
    let queue = store.queue;
    let rules = store.rules.with_any_rows();
    rules.declare(&name(), settings(Order::Queue)).unwrap();
    for _ in 0..2 {
        // A message that comes meanwhile joins its group behind the others.
        let now = rules.tick(Instant::now());
        rules.send(queue, outgoing(0), now).unwrap().unwrap();
        let received = rules.receive(queue, 9, ReceiveTerms::default(), now).unwrap();
        assert!(received.deliveries.is_empty());
        assert_eq!(received.again, Some(now.instant));
    }
    let mut last = 0;
    for _ in 0..3 * STEP + 2 {
        let now = rules.tick(Instant::now());
        let received = rules
            .receive(queue, 9, ReceiveTerms::default(), now)
            .unwrap()
            .deliveries;
        let [delivery] = &received[..] else {
            panic!("one at a time: {received:?}")
        };
        let (seq, _) = delivery.delivery.receipt.as_numbered().unwrap();
        assert!(seq > last, "in the order sent");
        last = seq;
        let settle = SettleRequest {
            receipt: delivery.delivery.receipt.clone(),
            settlement: Settlement::Delete,
        };
        rules
            .settle(queue, vec![settle], Effects::default(), now)
            .unwrap()
            .unwrap();
    }
}

#[test]
fn a_step_over_large_dead_letters_takes_few_of_them() {
    let mut store = Store::with(0);
    let queue = store.queue;
    let rules = store.rules.with_any_rows();
    let now = rules.tick(Instant::now());
    for _ in 0..20 {
        let large = Outgoing::new(vec![0; 1_000_000]).check().unwrap();
        rules.send(queue, large, now).unwrap().unwrap();
    }
    for delivery in rules
        .receive(queue, 20, ReceiveTerms::default(), now)
        .unwrap()
        .deliveries
        .into_iter()
        .chain(
            rules
                .receive(queue, 20, ReceiveTerms::default(), now)
                .unwrap()
                .deliveries,
        )
    {
        let settle = SettleRequest {
            receipt: delivery.delivery.receipt,
            settlement: Settlement::DeadLetter { failure: failure() },
        };
        rules
            .settle(queue, vec![settle], Effects::default(), now)
            .unwrap()
            .unwrap();
    }
    let (count, next) = rules
        .redrive(queue, &DeadLetterChoice::oldest(0, u64::MAX, usize::MAX), now)
        .unwrap();
    assert_eq!(count, 9);
    let which = DeadLetterChoice::oldest(next.unwrap(), u64::MAX, usize::MAX);
    assert_eq!(rules.redrive(queue, &which, now).unwrap().0, 9);
}
