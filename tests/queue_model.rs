//! Random histories of a Simple queue against a model that is obviously right: a list that is searched from end to end.
//!
//! Meanwhile somebody sets the wall clock, and the machine sleeps. The model knows nothing of the wall clock: no message ends
//! earlier, no delay lasts longer and no deduplication id is forgotten because of it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "the steps of a test must succeed"
)]

use std::{cmp::Reverse, collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use harness::set_clock::SetClock;
use proptest::prelude::*;
use sandhog_queue::{
    Counts, Delivery, EffectSend, EffectsRefused, FailureKind, FailureRecord, Queue, Receipt, SendError, SettleError,
    SettleRequest, Settlement,
    message::{Outgoing, QueueName},
};
use sandhog_simple::{
    ProcessedMessageSettings, SimpleQueue, SimpleStore, StoreOptions,
    settings::{Order, Settings},
};
use tokio::task::JoinSet;

const VISIBILITY: u64 = 30;
const MAX_RECEIVES: u32 = 3;
const TIME_TO_LIVE: u64 = 400;
const MAX_MESSAGES: usize = 12;
const DEDUPLICATION: u64 = 300;
const DAY: i64 = 86_400;
const LONG: Duration = Duration::from_hours(1);

#[derive(Debug, Clone)]
enum Step {
    Send {
        group: Option<u8>,
        priority: u8,
        delay: u64,
        deduplication: Option<u8>,
    },
    Receive {
        max: usize,
    },
    SettleRequest {
        which: prop::sample::Index,
        how: How,
    },
    Extend {
        which: prop::sample::Index,
        by: u64,
    },
    Pass {
        seconds: u64,
    },
    /// Somebody sets the wall clock.
    Jump {
        seconds: i64,
    },
    /// The machine sleeps.
    Sleep {
        seconds: u64,
    },
    Redrive {
        limit: usize,
    },
    Purge,
    /// A receive that waits if it has to while something happens.
    Wait {
        max: usize,
        step: Box<Self>,
    },
}

#[derive(Debug, Clone)]
enum How {
    Delete,
    /// Delete, and send one message to the same queue.
    Follow,
    Retry(u64),
    DeadLetter,
    Release,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let group = prop::option::of(0..3_u8);
    let delay = prop_oneof![4 => Just(0), 1 => Just(5), 1 => Just(40)];
    let deduplication = prop::option::weighted(0.2, 0..3_u8);
    let send = (group, 0..3_u8, delay, deduplication).prop_map(|(group, priority, delay, deduplication)| Step::Send {
        group,
        priority,
        delay,
        deduplication,
    });
    let how = prop_oneof![
        4 => Just(How::Delete),
        1 => Just(How::Follow),
        2 => prop_oneof![Just(0), Just(10), Just(50)].prop_map(How::Retry),
        1 => Just(How::DeadLetter),
        2 => Just(How::Release),
    ];
    let which = any::<prop::sample::Index>();
    let settle = (which.clone(), how).prop_map(|(which, how)| Step::SettleRequest { which, how });
    let redrive = (1..4_usize).prop_map(|limit| Step::Redrive { limit });
    let pass = (1..60_u64).prop_map(|seconds| Step::Pass { seconds });
    let jump = prop_oneof![
        -100_i64..100,
        Just(20 * DAY),
        Just(-20 * DAY),
        // To 1970 and, if it was there, back again.
        Just(-2_000_000_000_i64),
        Just(1_790_000_000_i64),
    ];
    let jump = jump.prop_map(|seconds| Step::Jump { seconds });
    let sleep = (1..100_u64).prop_map(|seconds| Step::Sleep { seconds });
    let meanwhile =
        prop_oneof![3 => send.clone(), 3 => settle.clone(), 1 => redrive.clone(), 2 => pass, 1 => jump.clone()];
    let step = prop_oneof![
        8 => send,
        6 => (1..4_usize).prop_map(|max| Step::Receive { max }),
        6 => (1..4_usize, meanwhile).prop_map(|(max, step)| Step::Wait { max, step: Box::new(step) }),
        8 => settle,
        2 => (which, 1..60_u64).prop_map(|(which, by)| Step::Extend { which, by }),
        4 => prop_oneof![5 => 1..20_u64, 1 => 20..200_u64].prop_map(|seconds| Step::Pass { seconds }),
        1 => redrive,
        1 => Just(Step::Purge),
        2 => jump,
        1 => sleep,
    ];
    prop::collection::vec(step, 1..80)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Visible,
    Delayed(u64),
    Retry(u64),
    InFlight {
        deadline: u64,
        token: usize,
    },
    /// In the dead-letter queue, since which dead letter.
    Dead(usize),
}

#[derive(Debug, Clone)]
struct Entry {
    body: String,
    place: Place,
    lane: Option<String>,
    priority: u8,
    /// The order in which it came to the queue.
    seq: usize,
    queued_at: u64,
    receives: u32,
}

/// The whole queue as one list.
#[derive(Debug)]
struct Model {
    order: Order,
    now: u64,
    entries: Vec<Entry>,
    remembered: BTreeMap<u8, (String, u64)>,
    last_seq: usize,
    last_token: usize,
    last_dead: usize,
    expired: u64,
}

impl Model {
    fn new(order: Order) -> Self {
        let (entries, remembered) = (Vec::new(), BTreeMap::new());
        Self {
            order,
            now: 0,
            entries,
            remembered,
            last_seq: 0,
            last_token: 0,
            last_dead: 0,
            expired: 0,
        }
    }

    /// What time did since the last step.
    fn catch_up(&mut self) {
        let now = self.now;
        for entry in &mut self.entries {
            match entry.place {
                Place::Delayed(until) | Place::Retry(until) | Place::InFlight { deadline: until, .. }
                    if until <= now =>
                {
                    entry.place = Place::Visible;
                }
                _ => {}
            }
        }
        let aged = |entry: &Entry| {
            let idle = !matches!(entry.place, Place::InFlight { .. } | Place::Dead(_));
            idle && entry.queued_at + TIME_TO_LIVE <= now
        };
        let before = self.entries.len();
        self.entries.retain(|entry| !aged(entry));
        self.expired += u64::try_from(before - self.entries.len()).unwrap();
    }

    /// As time that passes, but that what is in flight stays so: a guest does not work while the machine sleeps.
    fn sleep(&mut self, seconds: u64) {
        self.now += seconds;
        for entry in &mut self.entries {
            if let Place::InFlight { deadline, .. } = &mut entry.place {
                *deadline += seconds;
            }
        }
    }

    /// What was in flight is visible, and so may be past its time to live. Time stands still meanwhile.
    fn restart(&mut self) {
        for entry in &mut self.entries {
            if matches!(entry.place, Place::InFlight { .. }) {
                entry.place = Place::Visible;
            }
        }
        self.catch_up();
    }

    fn is_full(&self) -> bool {
        self.entries
            .iter()
            .filter(|entry| !matches!(entry.place, Place::Dead(_)))
            .count()
            >= MAX_MESSAGES
    }

    fn add(&mut self, body: &str, group: Option<u8>, priority: u8, delay: u64) {
        self.last_seq += 1;
        let lane = match self.order {
            Order::Queue => Some(String::new()),
            Order::Group => group.map(|group| group.to_string()),
        };
        self.entries.push(Entry {
            body: body.to_owned(),
            place: if delay == 0 {
                Place::Visible
            } else {
                Place::Delayed(self.now + delay)
            },
            lane,
            priority,
            seq: self.last_seq,
            queued_at: self.now,
            receives: 0,
        });
    }

    /// Which message is handed out next.
    fn next(&self) -> Option<usize> {
        let may_go = |entry: &Entry| {
            let others = || {
                self.entries
                    .iter()
                    .filter(|other| other.lane == entry.lane && other.seq != entry.seq)
            };
            let blocks = |other: &Entry| match other.place {
                Place::InFlight { .. } | Place::Retry(_) => true,
                Place::Visible => {
                    (other.receives > 0, other.priority, Reverse(other.seq))
                        > (entry.receives > 0, entry.priority, Reverse(entry.seq))
                }
                Place::Delayed(_) | Place::Dead(_) => false,
            };
            entry.place == Place::Visible && (entry.lane.is_none() || !others().any(blocks))
        };
        let candidates = self.entries.iter().enumerate().filter(|(_, entry)| may_go(entry));
        candidates
            .max_by_key(|(_, entry)| (entry.priority, Reverse(entry.seq)))
            .map(|(index, _)| index)
    }

    fn receive(&mut self, max: usize) -> Vec<(String, u32, usize)> {
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(index) = self.next()
        {
            if self.entries[index].receives >= MAX_RECEIVES {
                self.bury(index);
                continue;
            }
            self.last_token += 1;
            let entry = &mut self.entries[index];
            entry.receives += 1;
            entry.place = Place::InFlight {
                deadline: self.now + VISIBILITY,
                token: self.last_token,
            };
            taken.push((entry.body.clone(), entry.receives, self.last_token));
        }
        taken
    }

    fn bury(&mut self, index: usize) {
        self.last_dead += 1;
        self.entries[index].place = Place::Dead(self.last_dead);
    }

    fn held(&self, token: usize) -> Option<usize> {
        let holds = |entry: &Entry| matches!(entry.place, Place::InFlight { token: known, .. } if known == token);
        self.entries.iter().position(holds)
    }

    fn settle(&mut self, index: usize, how: &How) {
        let now = self.now;
        match how {
            How::Delete | How::Follow => drop(self.entries.remove(index)),
            How::Retry(_) if self.entries[index].receives >= MAX_RECEIVES => self.bury(index),
            How::Retry(0) => self.entries[index].place = Place::Visible,
            How::Retry(delay) => self.entries[index].place = Place::Retry(now + delay),
            How::DeadLetter => self.bury(index),
            How::Release => {
                self.entries[index].place = Place::Visible;
                self.entries[index].receives -= 1;
            }
        }
    }

    fn dead(&self) -> Vec<(usize, usize)> {
        let number = |(index, entry): (usize, &Entry)| match entry.place {
            Place::Dead(number) => Some((number, index)),
            _ => None,
        };
        let mut dead: Vec<(usize, usize)> = self.entries.iter().enumerate().filter_map(number).collect();
        dead.sort_unstable();
        dead
    }

    fn redrive(&mut self, limit: usize) -> u64 {
        let chosen: Vec<(usize, usize)> = self.dead().into_iter().take(limit).collect();
        for (_, index) in &chosen {
            self.last_seq += 1;
            let entry = &mut self.entries[*index];
            entry.place = Place::Visible;
            entry.seq = self.last_seq;
            entry.queued_at = self.now;
            entry.receives = 0;
        }
        u64::try_from(chosen.len()).unwrap()
    }

    fn purge(&mut self) -> u64 {
        let before = self.entries.len();
        self.entries
            .retain(|entry| matches!(entry.place, Place::InFlight { .. } | Place::Dead(_)));
        u64::try_from(before - self.entries.len()).unwrap()
    }

    fn counts(&self) -> Counts {
        let count = |is: fn(&Place) -> bool| {
            u64::try_from(self.entries.iter().filter(|entry| is(&entry.place)).count()).unwrap()
        };
        let waits = |entry: &&Entry| !matches!(entry.place, Place::InFlight { .. } | Place::Dead(_));
        let oldest = self.entries.iter().filter(waits).map(|entry| entry.queued_at).min();
        Counts {
            ready: count(|place| matches!(place, Place::Visible)),
            in_flight: count(|place| matches!(place, Place::InFlight { .. })),
            delayed: count(|place| matches!(place, Place::Delayed(_) | Place::Retry(_))),
            oldest_age_ms: oldest.map(|queued_at| (self.now - queued_at) * 1000),
            dead: count(|place| matches!(place, Place::Dead(_))),
            damaged: 0,
            expired: self.expired,
        }
    }
}

/// A queue and its model, side by side.
struct Pair {
    queue: Arc<SimpleQueue>,
    clock: SetClock,
    model: Model,
    /// When each body was sent, by the wall clock.
    sent_at: BTreeMap<String, u64>,
    receipts: Vec<(Receipt, usize)>,
    sent: usize,
}

fn failure() -> FailureRecord {
    let (reason, handler, component) = (String::new(), String::new(), String::new());
    FailureRecord {
        kind: FailureKind::Reject,
        reason,
        handler,
        component,
    }
}

impl Pair {
    async fn new(store: &SimpleStore, clock: SetClock, order: Order) -> Self {
        let name = QueueName::new("model").unwrap();
        let settings = Settings {
            visibility_timeout: Duration::from_secs(VISIBILITY),
            max_receives: NonZeroU32::new(MAX_RECEIVES).unwrap(),
            order,
            time_to_live: Some(Duration::from_secs(TIME_TO_LIVE)),
            max_messages: u64::try_from(MAX_MESSAGES).unwrap(),
            ..Settings::defaults(&name)
        };
        let queue = store.queue(name, settings).await.unwrap();
        Self {
            queue,
            clock,
            model: Model::new(order),
            sent_at: BTreeMap::new(),
            receipts: Vec::new(),
            sent: 0,
        }
    }

    async fn step(&mut self, step: &Step) {
        self.model.catch_up();
        self.take(step).await;
        // What came back past its time to live is gone by now.
        self.model.catch_up();
        assert_eq!(self.queue.counts().await.unwrap(), self.model.counts());
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Send {
                group,
                priority,
                delay,
                deduplication,
            } => {
                self.send(*group, *priority, *delay, *deduplication).await;
            }
            Step::Receive { max } => self.receive(*max).await,
            Step::SettleRequest { which, how } => self.settle(which, how).await,
            Step::Extend { which, by } => self.extend(which, *by).await,
            Step::Pass { seconds } => {
                self.clock.pass(Duration::from_secs(*seconds)).await;
                self.model.now += seconds;
                self.model.catch_up();
            }
            Step::Jump { seconds } => self.clock.move_wall(*seconds),
            Step::Sleep { seconds } => {
                self.clock.sleep(Duration::from_secs(*seconds));
                self.model.sleep(*seconds);
                self.model.catch_up();
            }
            Step::Redrive { limit } => {
                assert_eq!(
                    self.queue.redrive(None, *limit).await.unwrap(),
                    self.model.redrive(*limit)
                );
            }
            Step::Purge => {
                // What time has ended is gone before the purge counts.
                self.queue.counts().await.unwrap();
                assert_eq!(self.queue.purge().await.unwrap(), self.model.purge());
            }
            Step::Wait { max, step } => self.wait(*max, step).await,
        }
    }

    async fn wait(&mut self, max: usize, step: &Step) {
        let (queue, mut receives) = (Arc::clone(&self.queue), JoinSet::new());
        receives.spawn(async move { queue.receive(max, LONG).await.unwrap() });
        self.let_others_run().await;
        let mut expected = self.model.receive(max);
        Box::pin(self.take(step)).await;
        self.model.catch_up();
        if expected.is_empty() {
            expected = self.model.receive(max);
        }
        let deliveries = if expected.is_empty() {
            self.let_others_run().await;
            assert!(receives.try_join_next().is_none(), "there is nothing to receive");
            receives.shutdown().await;
            Vec::new()
        } else {
            receives.join_next().await.unwrap().unwrap()
        };
        self.compare_received(deliveries, &expected);
    }

    /// The answer to a question says that earlier ones were answered, too.
    async fn let_others_run(&self) {
        for _ in 0..3 {
            tokio::task::yield_now().await;
            self.queue.counts().await.unwrap();
        }
    }

    fn body(&mut self) -> String {
        self.sent += 1;
        let body = self.sent.to_string();
        self.sent_at.insert(body.clone(), self.clock.wall_ms());
        body
    }

    async fn send(&mut self, group: Option<u8>, priority: u8, delay: u64, deduplication: Option<u8>) {
        let body = self.body();
        let message = Outgoing {
            body: body.clone().into(),
            delay: Some(Duration::from_secs(delay)),
            group_id: group.map(|group| group.to_string()),
            deduplication_id: deduplication.map(|id| id.to_string()),
            priority: Some(priority),
            ..Outgoing::default()
        };
        let answer = self.queue.send(message.check().unwrap()).await;
        let first = deduplication.and_then(|id| self.model.remembered.get(&id));
        match (answer, first) {
            (Ok(id), Some((first, until))) if *until > self.model.now => assert_eq!(id.as_str(), first),
            (Ok(id), _) => {
                assert!(!self.model.is_full());
                self.model.add(&body, group, priority, delay);
                if let Some(deduplication) = deduplication {
                    let until = self.model.now + DEDUPLICATION;
                    self.model.remembered.insert(deduplication, (id.to_string(), until));
                }
            }
            (Err(SendError::Full { .. }), _) => assert!(self.model.is_full()),
            (Err(other), _) => panic!("{other:?}"),
        }
    }

    async fn receive(&mut self, max: usize) {
        let deliveries = self.queue.receive(max, Duration::ZERO).await.unwrap();
        let expected = self.model.receive(max);
        self.compare_received(deliveries, &expected);
    }

    fn compare_received(&mut self, deliveries: Vec<Delivery>, expected: &[(String, u32, usize)]) {
        let got: Vec<(String, u32)> = deliveries
            .iter()
            .map(|delivery| {
                let body = String::from_utf8(delivery.message.body.to_vec()).unwrap();
                assert_eq!(delivery.message.sent_at_ms, self.sent_at[&body], "{body}");
                (body, delivery.receive_count.get())
            })
            .collect();
        let wanted: Vec<(String, u32)> = expected.iter().map(|(body, count, _)| (body.clone(), *count)).collect();
        assert_eq!(got, wanted);
        let tokens = expected.iter().map(|(.., token)| *token);
        self.receipts
            .extend(deliveries.into_iter().map(|delivery| delivery.receipt).zip(tokens));
    }

    async fn settle(&mut self, which: &prop::sample::Index, how: &How) {
        if self.receipts.is_empty() {
            return;
        }
        let (receipt, token) = self.receipts[which.index(self.receipts.len())].clone();
        let settlement = match how {
            How::Delete | How::Follow => Settlement::Delete,
            How::Retry(delay) => Settlement::Retry {
                delay: Duration::from_secs(*delay),
                failure: failure(),
            },
            How::DeadLetter => Settlement::DeadLetter { failure: failure() },
            How::Release => Settlement::Release,
        };
        let child = self.body();
        let sends = match how {
            How::Follow => vec![EffectSend {
                queue: self.queue.name().clone(),
                message: Outgoing::new(child.clone()).check().unwrap(),
            }],
            _ => Vec::new(),
        };
        let follows = !sends.is_empty();
        let answer = self
            .queue
            .settle(vec![SettleRequest { receipt, settlement }], sends.into())
            .await
            .map(|mut answers| answers.pop().unwrap());
        match (self.model.held(token), answer) {
            (None, Ok(Err(SettleError::Expired))) => {}
            (Some(_), Err(EffectsRefused::SendRefused { .. })) => assert!(follows && self.model.is_full()),
            (Some(index), Ok(Ok(()))) => {
                if follows {
                    assert!(!self.model.is_full());
                    self.model.add(&child, None, 0, 0);
                }
                self.model.settle(index, how);
            }
            (held, answer) => panic!("{answer:?}, but the model says {held:?}"),
        }
    }

    async fn extend(&mut self, which: &prop::sample::Index, by: u64) {
        if self.receipts.is_empty() {
            return;
        }
        let (receipt, token) = self.receipts[which.index(self.receipts.len())].clone();
        let answer = self
            .queue
            .extend(vec![receipt], Duration::from_secs(by))
            .await
            .pop()
            .unwrap();
        match self.model.held(token) {
            Some(index) => {
                answer.unwrap();
                self.model.entries[index].place = Place::InFlight {
                    deadline: self.model.now + by,
                    token,
                };
            }
            None => assert!(answer.is_err()),
        }
    }

    /// The dead letters at the end, oldest first.
    async fn compare_dead(&self) {
        let dead = self.queue.dead_letters(None, 1000).await.unwrap();
        let got: Vec<String> = dead
            .iter()
            .map(|dead| String::from_utf8(dead.message.body.to_vec()).unwrap())
            .collect();
        let wanted: Vec<String> = self
            .model
            .dead()
            .into_iter()
            .map(|(_, index)| self.model.entries[index].body.clone())
            .collect();
        assert_eq!(got, wanted);
    }
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
}

async fn run(store: &SimpleStore, clock: SetClock, order: Order, steps: &[Step]) -> Pair {
    let mut pair = Pair::new(store, clock, order).await;
    for step in steps {
        pair.step(step).await;
    }
    pair.compare_dead().await;
    pair
}

async fn run_durable(order: Order, steps: &[Step]) {
    // Time stands still as long as a blocking task runs, so that it does not move while the store's thread works.
    let (end, ended) = std::sync::mpsc::channel::<()>();
    drop(tokio::task::spawn_blocking(move || ended.recv().is_err()));
    let directory = tempfile::tempdir().unwrap();
    let clock = SetClock::new();
    let options = StoreOptions {
        clock: clock.clock(),
        ..StoreOptions::new(directory.path())
    };
    let store = SimpleStore::open(&options).unwrap();
    let mut pair = run(&store, clock.clone(), order, steps).await;
    store.close().await;
    // What is counted in memory is what is on the disk.
    let store = SimpleStore::open(&options).unwrap();
    let again = Pair::new(&store, clock, order).await;
    pair.model.restart();
    let (before, after) = (pair.model.counts(), again.queue.counts().await.unwrap());
    assert_eq!(after.dead, before.dead);
    let all = |counts: Counts| counts.ready + counts.in_flight + counts.delayed;
    assert_eq!(all(after), all(before));
    store.close().await;
    drop(end);
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![3 => Just(Order::Group), 1 => Just(Order::Queue)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ephemeral_queue_does_what_the_model_does(order in order(), steps in steps()) {
        paused().block_on(async {
            let clock = SetClock::new();
            let store = SimpleStore::ephemeral_on(ProcessedMessageSettings::default(), clock.clock());
            drop(run(&store, clock, order, &steps).await);
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_durable_queue_does_what_the_model_does(order in order(), steps in steps()) {
        paused().block_on(run_durable(order, &steps));
    }
}
