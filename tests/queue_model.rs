//! Random histories of a Simple queue against a model that is obviously right: a list that is searched from end to end.
//!
//! Some receives take whole groups, hide their messages for a time of their own, and use their receipts late. A group is a line of
//! messages, and one of them leads it.
//!
//! Meanwhile somebody sets the wall clock, and the machine sleeps. The model knows nothing of the wall clock: no message ends
//! earlier, no delay lasts longer and no deduplication id is forgotten because of it.
//!
//! An operator looks at the messages, corrects, copies, deletes and puts back single dead letters, and deletes the queue. A peek shows
//! what the model has, with what each message was made from and who sent it. The store knows no pauses: the host holds those.

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
    Counts, Delivery, EffectSend, Effects, EffectsRefused, ExtendError, FailureKind, FailureRecord, Queue, Receipt,
    SendError, SendIds, SendOrigin, SendingAttempt, SentAgain, SettleError, SettleRequest, Settlement,
    message::{MessageId, Outgoing, QueueName},
    message_filter::{MessageFilter, MessageStanding},
    peek::{PeekRequest, PeekScope, PeekedMessage},
};
use sandhog_simple::{
    HistoricDelivery, ProcessedMessageSettings, SimpleQueue, SimpleStore, StoreOptions,
    receive_terms::ReceiveTerms,
    settings::{DeduplicationScope, Order, Settings},
};
use tokio::{task::JoinSet, time::Instant};

const VISIBILITY: u64 = 30;
const MAX_RECEIVES: u32 = 3;
const TIME_TO_LIVE: u64 = 400;
const MAX_MESSAGES: usize = 12;
const DEDUPLICATION: u64 = 300;
const DAY: i64 = 86_400;
const LONG: Duration = Duration::from_hours(1);
/// Takes all that there is, suspects too.
const WHOLE_OUTSIDE: ReceiveTerms = ReceiveTerms {
    whole_groups: true,
    ..ReceiveTerms::OUTSIDE
};

#[derive(Debug, Clone)]
enum Step {
    Send {
        group: Option<u8>,
        priority: u8,
        /// `None`: that of the queue.
        delay: Option<u64>,
        deduplication: Option<u8>,
    },
    Receive {
        max: usize,
        terms: ReceiveTerms,
    },
    SettleRequest {
        which: prop::sample::Index,
        how: How,
    },
    Extend {
        which: prop::sample::Index,
        by: u64,
    },
    /// As [`Step::Extend`], with a receipt whose time may be over.
    ExtendLate {
        which: prop::sample::Index,
        by: u64,
    },
    DeleteLate {
        which: prop::sample::Index,
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
    /// An operator looks at everything.
    Look,
    /// Somebody sends a message that is made from a dead letter, in the place of that one or beside it.
    SendAgain {
        which: prop::sample::Index,
        replaces: bool,
        group: Option<u8>,
    },
    RedriveOne {
        which: prop::sample::Index,
    },
    DeleteDead {
        which: prop::sample::Index,
    },
    PurgeDead,
    /// The queue is deleted, and another one gets its name.
    DeleteQueue,
    /// A receive that waits if it has to while something happens.
    Wait {
        max: usize,
        terms: ReceiveTerms,
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

fn send() -> impl Strategy<Value = Step> + Clone {
    let group = prop::option::of(0..3_u8);
    let delay = prop_oneof![4 => Just(Some(0)), 1 => Just(Some(5)), 1 => Just(Some(40)), 2 => Just(None)];
    let deduplication = prop::option::weighted(0.2, 0..3_u8);
    (group, 0..3_u8, delay, deduplication).prop_map(|(group, priority, delay, deduplication)| Step::Send {
        group,
        priority,
        delay,
        deduplication,
    })
}

fn terms() -> impl Strategy<Value = ReceiveTerms> + Clone {
    let seconds =
        prop_oneof![4 => Just(None), 4 => prop::sample::select(vec![1, 5, 20, 45]).prop_map(Some), 1 => Just(Some(0))];
    (seconds, any::<bool>(), any::<bool>()).prop_map(|(seconds, whole_groups, outside)| ReceiveTerms {
        visibility_timeout: seconds.map(Duration::from_secs),
        whole_groups,
        outside,
    })
}

/// What is done with a receipt.
fn settle() -> impl Strategy<Value = Step> + Clone {
    let how = prop_oneof![
        4 => Just(How::Delete),
        1 => Just(How::Follow),
        2 => prop_oneof![Just(0), Just(10), Just(50)].prop_map(How::Retry),
        1 => Just(How::DeadLetter),
        2 => Just(How::Release),
    ];
    let which = any::<prop::sample::Index>();
    let by = prop_oneof![1 => Just(0), 3 => 1..60_u64];
    prop_oneof![
        8 => (which.clone(), how).prop_map(|(which, how)| Step::SettleRequest { which, how }),
        2 => (which.clone(), by.clone()).prop_map(|(which, by)| Step::Extend { which, by }),
        2 => (which.clone(), by).prop_map(|(which, by)| Step::ExtendLate { which, by }),
        2 => which.prop_map(|which| Step::DeleteLate { which }),
    ]
}

/// What an operator does.
fn operate() -> impl Strategy<Value = Step> + Clone {
    let which = any::<prop::sample::Index>();
    let again = (which.clone(), any::<bool>(), prop::option::of(0..3_u8));
    prop_oneof![
        12 => Just(Step::Look),
        8 => again.prop_map(|(which, replaces, group)| Step::SendAgain { which, replaces, group }),
        6 => which.clone().prop_map(|which| Step::RedriveOne { which }),
        4 => which.prop_map(|which| Step::DeleteDead { which }),
        1 => Just(Step::PurgeDead),
        1 => Just(Step::DeleteQueue),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
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
    let meanwhile = prop_oneof![3 => send(), 3 => settle(), 1 => redrive.clone(), 2 => pass, 1 => jump.clone()];
    let receive = (1..6_usize, terms());
    let wait = (receive.clone(), meanwhile).prop_map(|((max, terms), step)| {
        let step = Box::new(step);
        Step::Wait { max, terms, step }
    });
    let step = prop_oneof![
        8 => send(),
        6 => receive.prop_map(|(max, terms)| Step::Receive { max, terms }),
        6 => wait,
        14 => settle(),
        4 => prop_oneof![5 => 1..20_u64, 1 => 20..200_u64].prop_map(|seconds| Step::Pass { seconds }),
        1 => redrive,
        1 => Just(Step::Purge),
        2 => jump,
        1 => sleep,
        10 => operate(),
    ];
    prop::collection::vec(step, 1..80)
}

/// The settings that differ from history to history.
#[derive(Debug, Clone, Copy)]
struct Shape {
    order: Order,
    scope: DeduplicationScope,
    /// The queue's own.
    delay: u64,
}

fn shape() -> impl Strategy<Value = Shape> {
    let order = prop_oneof![3 => Just(Order::Group), 1 => Just(Order::Queue), 1 => Just(Order::Ungrouped)];
    let scope = prop::sample::select(vec![DeduplicationScope::Queue, DeduplicationScope::Group]);
    let delay = prop_oneof![2 => Just(0), 1 => Just(7)];
    (order, scope, delay).prop_map(|(order, scope, delay)| Shape { order, scope, delay })
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

impl Place {
    fn is_in_flight(self) -> bool {
        matches!(self, Self::InFlight { .. })
    }

    /// Whether a message of a group has a place in the line of the group.
    fn is_in_line(self) -> bool {
        !matches!(self, Self::Delayed(_) | Self::Dead(_))
    }
}

#[derive(Debug, Clone)]
struct Entry {
    body: String,
    place: Place,
    lane: Option<String>,
    /// It leads its group: no other message of the group is handed out but together with it.
    leads: bool,
    priority: u8,
    /// The order in which it came to the queue.
    seq: usize,
    queued_at: u64,
    receives: u32,
    /// Its deliveries since it came to the queue.
    tokens: Vec<usize>,
    /// The last one, if its time ran out.
    lapsed: Option<usize>,
}

impl Entry {
    fn goes_before(&self, other: &Self) -> bool {
        (self.priority, Reverse(self.seq)) > (other.priority, Reverse(other.seq))
    }

    /// Whether it takes the lead from `head` when it gets into the line.
    fn displaces(&self, head: &Self) -> bool {
        head.place == Place::Visible && head.receives == 0 && self.goes_before(head)
    }
}

/// The whole queue as one list.
#[derive(Debug)]
struct Model {
    shape: Shape,
    now: u64,
    entries: Vec<Entry>,
    remembered: BTreeMap<(u8, Option<u8>), (String, u64)>,
    last_seq: usize,
    last_token: usize,
    last_dead: usize,
    expired: u64,
}

impl Model {
    fn new(shape: Shape) -> Self {
        let (entries, remembered) = (Vec::new(), BTreeMap::new());
        Self {
            shape,
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
        self.end_deliveries_until(self.now);
        self.end_delays();
        let now = self.now;
        let aged = |entry: &Entry| {
            let idle = !matches!(entry.place, Place::InFlight { .. } | Place::Dead(_));
            idle && entry.queued_at + TIME_TO_LIVE <= now
        };
        let before = self.entries.len();
        self.entries.retain(|entry| !aged(entry));
        self.expired += u64::try_from(before - self.entries.len()).unwrap();
        self.fill_leads();
    }

    fn end_deliveries_until(&mut self, now: u64) {
        let ended = |(index, entry): (usize, &Entry)| match entry.place {
            Place::InFlight { deadline, token } if deadline <= now => Some((deadline, entry.seq, index, token)),
            _ => None,
        };
        let mut ended: Vec<_> = self.entries.iter().enumerate().filter_map(ended).collect();
        ended.sort_unstable();
        for (.., index, token) in ended {
            self.entries[index].lapsed = Some(token);
            self.come_back(index);
        }
    }

    fn end_delays(&mut self) {
        for index in 0..self.entries.len() {
            match self.entries[index].place {
                Place::Retry(until) if until <= self.now => self.entries[index].place = Place::Visible,
                Place::Delayed(until) if until <= self.now => self.join(index),
                _ => {}
            }
        }
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
        self.expired = 0;
        self.end_deliveries_until(u64::MAX);
        for entry in &mut self.entries {
            entry.tokens.clear();
            entry.lapsed = None;
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

    fn deduplication_key(&self, id: u8, group: Option<u8>) -> (u8, Option<u8>) {
        match self.shape.scope {
            DeduplicationScope::Queue => (id, None),
            DeduplicationScope::Group => (id, group),
        }
    }

    fn add(&mut self, body: &str, group: Option<u8>, priority: u8, delay: Option<u64>) {
        self.last_seq += 1;
        let lane = match self.shape.order {
            Order::Queue => Some(String::new()),
            Order::Group => group.map(|group| group.to_string()),
            Order::Ungrouped => None,
        };
        let delay = delay.unwrap_or(self.shape.delay);
        self.entries.push(Entry {
            body: body.to_owned(),
            place: Place::Delayed(self.now + delay),
            lane,
            leads: false,
            priority,
            seq: self.last_seq,
            queued_at: self.now,
            receives: 0,
            tokens: Vec::new(),
            lapsed: None,
        });
        if delay == 0 {
            self.join(self.entries.len() - 1);
        }
    }

    /// The messages of the group of a message, in the order of the group, without the message itself.
    fn line_beside(&self, index: usize) -> Vec<usize> {
        let entry = &self.entries[index];
        let is_beside = |other: &usize| {
            let other = &self.entries[*other];
            entry.lane.is_some() && other.lane == entry.lane && other.seq != entry.seq && other.place.is_in_line()
        };
        let mut line: Vec<usize> = (0..self.entries.len()).filter(is_beside).collect();
        line.sort_unstable_by_key(|other| (Reverse(self.entries[*other].priority), self.entries[*other].seq));
        line
    }

    /// The message that leads the group of a message, if that is not the message itself.
    fn head_beside(&self, index: usize) -> Option<usize> {
        self.line_beside(index)
            .into_iter()
            .find(|other| self.entries[*other].leads)
    }

    /// Whether a message would be handed out beside one of its group that is in flight, which went before it when it was handed out.
    fn would_overtake(&self, index: usize) -> bool {
        let is_overtaken = |other: &usize| {
            let other = &self.entries[*other];
            other.place.is_in_flight() && !other.leads && other.priority < self.entries[index].priority
        };
        self.entries[index].receives == 0 && self.line_beside(index).iter().any(is_overtaken)
    }

    /// A message that was not in the line of its group gets into it.
    fn join(&mut self, index: usize) {
        self.entries[index].place = Place::Visible;
        let head = self.head_beside(index);
        let displaces = |head: usize| self.entries[index].displaces(&self.entries[head]) && !self.would_overtake(index);
        if head.is_none_or(displaces) {
            self.lead(index);
        }
    }

    /// A message that was in flight stays in its queue, and is visible.
    fn come_back(&mut self, index: usize) {
        if !self.entries[index].leads {
            self.join(index);
            return;
        }
        self.entries[index].place = Place::Visible;
        if let Some(&first) = self.line_beside(index).first()
            && self.entries[first].displaces(&self.entries[index])
            && !self.would_overtake(first)
        {
            self.lead(first);
        }
    }

    fn lead(&mut self, index: usize) {
        for other in self.line_beside(index) {
            self.entries[other].leads = false;
        }
        self.entries[index].leads = self.entries[index].lane.is_some();
    }

    /// Gives every group a leader that has lost its own.
    fn fill_leads(&mut self) {
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            let lacks =
                entry.lane.is_some() && entry.place.is_in_line() && !entry.leads && self.head_beside(index).is_none();
            if !lacks {
                continue;
            }
            let mut line = self.line_beside(index);
            line.push(index);
            line.sort_unstable_by_key(|other| (Reverse(self.entries[*other].priority), self.entries[*other].seq));
            let flying = line.iter().find(|other| self.entries[**other].place.is_in_flight());
            let first = line[0];
            let next = flying.filter(|_| self.would_overtake(first)).copied();
            self.lead(next.unwrap_or(first));
        }
    }

    /// Each group with messages in its line has one that leads.
    fn check(&self) {
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            if entry.lane.is_some() && entry.place.is_in_line() {
                assert_ne!(entry.leads, self.head_beside(index).is_some(), "{entry:?}");
            } else {
                assert!(!entry.leads, "{entry:?}");
            }
        }
    }

    /// Which message is handed out next.
    fn next(&self) -> Option<usize> {
        let may_go = |entry: &Entry| entry.place == Place::Visible && (entry.lane.is_none() || entry.leads);
        let candidates = self.entries.iter().enumerate().filter(|(_, entry)| may_go(entry));
        candidates
            .max_by_key(|(_, entry)| (entry.priority, Reverse(entry.seq)))
            .map(|(index, _)| index)
    }

    fn receive(&mut self, max: usize, terms: ReceiveTerms) -> Vec<(String, u32, usize)> {
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(index) = self.next()
        {
            if self.entries[index].receives >= MAX_RECEIVES {
                self.bury(index);
                continue;
            }
            let line = self.line_beside(index);
            taken.push(self.hand_out(index, terms));
            if !terms.whole_groups {
                continue;
            }
            for behind in line {
                if taken.len() == max || self.entries[behind].place != Place::Visible || self.would_overtake(behind) {
                    break;
                }
                if self.entries[behind].receives >= MAX_RECEIVES {
                    self.bury(behind);
                } else {
                    taken.push(self.hand_out(behind, terms));
                }
            }
        }
        taken
    }

    fn hand_out(&mut self, index: usize, terms: ReceiveTerms) -> (String, u32, usize) {
        self.last_token += 1;
        let (token, entry) = (self.last_token, &mut self.entries[index]);
        entry.receives += 1;
        entry.tokens.push(token);
        entry.lapsed = None;
        let hidden = terms.visibility_timeout.map_or(VISIBILITY, |timeout| timeout.as_secs());
        let deadline = self.now + hidden;
        entry.place = Place::InFlight { deadline, token };
        (entry.body.clone(), entry.receives, token)
    }

    fn remove(&mut self, index: usize) {
        self.entries.remove(index);
        self.fill_leads();
    }

    fn bury(&mut self, index: usize) {
        self.last_dead += 1;
        let entry = &mut self.entries[index];
        entry.place = Place::Dead(self.last_dead);
        entry.leads = false;
        entry.tokens.clear();
        self.fill_leads();
    }

    fn held(&self, token: usize) -> Option<usize> {
        let holds = |entry: &Entry| matches!(entry.place, Place::InFlight { token: known, .. } if known == token);
        self.entries.iter().position(holds)
    }

    /// As [`Model::held`], for a receipt that counts until its message is received again.
    fn held_late(&self, token: usize) -> Option<usize> {
        let lapsed =
            |entry: &Entry| entry.place == Place::Visible && entry.lane.is_none() && entry.lapsed == Some(token);
        self.held(token).or_else(|| self.entries.iter().position(lapsed))
    }

    fn has_message_of(&self, token: usize) -> bool {
        self.entries.iter().any(|entry| entry.tokens.contains(&token))
    }

    fn settle(&mut self, index: usize, how: &How) {
        let now = self.now;
        match how {
            How::Delete | How::Follow => self.remove(index),
            How::Retry(_) if self.entries[index].receives >= MAX_RECEIVES => self.bury(index),
            How::Retry(0) => self.come_back(index),
            How::Retry(delay) => self.entries[index].place = Place::Retry(now + delay),
            How::DeadLetter => self.bury(index),
            How::Release => {
                self.entries[index].receives -= 1;
                self.come_back(index);
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
            self.redrive_one(*index);
        }
        u64::try_from(chosen.len()).unwrap()
    }

    fn redrive_one(&mut self, index: usize) {
        self.last_seq += 1;
        let entry = &mut self.entries[index];
        entry.seq = self.last_seq;
        entry.queued_at = self.now;
        entry.receives = 0;
        entry.lapsed = None;
        self.join(index);
    }

    fn purge_dead(&mut self) -> u64 {
        let before = self.entries.len();
        self.entries.retain(|entry| !matches!(entry.place, Place::Dead(_)));
        u64::try_from(before - self.entries.len()).unwrap()
    }

    /// Another queue has the name, which knows nothing of this one.
    fn delete_queue(&mut self) {
        self.entries.clear();
        self.remembered.clear();
        self.expired = 0;
    }

    /// The messages of the queue in the order in which they came to it, as an operator is shown them.
    fn shown(&self) -> Vec<(&Entry, MessageStanding)> {
        let standing = |entry: &Entry| match entry.place {
            Place::InFlight { .. } => Some(MessageStanding::InFlight),
            Place::Delayed(_) => Some(MessageStanding::Delayed),
            Place::Dead(_) => None,
            Place::Visible | Place::Retry(_) if entry.lane.is_some() && !entry.leads => Some(MessageStanding::Held),
            Place::Visible => Some(MessageStanding::Ready),
            Place::Retry(_) => Some(MessageStanding::Retry),
        };
        let shown = self.entries.iter().filter_map(|entry| Some((entry, standing(entry)?)));
        let mut shown: Vec<_> = shown.collect();
        shown.sort_unstable_by_key(|(entry, _)| entry.seq);
        shown
    }

    fn purge(&mut self) -> u64 {
        let before = self.entries.len();
        self.entries
            .retain(|entry| matches!(entry.place, Place::InFlight { .. } | Place::Dead(_)));
        self.fill_leads();
        u64::try_from(before - self.entries.len()).unwrap()
    }

    fn counts(&self) -> Counts {
        let count =
            |is: fn(&Entry) -> bool| u64::try_from(self.entries.iter().filter(|entry| is(entry)).count()).unwrap();
        // A retry whose turn has not come waits for that as others do.
        let hidden = |entry: &Entry| match entry.place {
            Place::Delayed(_) => true,
            Place::Retry(_) => entry.lane.is_none() || entry.leads,
            _ => false,
        };
        let delayed = u64::try_from(self.entries.iter().filter(|entry| hidden(entry)).count()).unwrap();
        let waiting = count(|entry| !matches!(entry.place, Place::InFlight { .. } | Place::Dead(_)));
        let waits = |entry: &&Entry| !matches!(entry.place, Place::InFlight { .. } | Place::Dead(_));
        let oldest = self.entries.iter().filter(waits).map(|entry| entry.queued_at).min();
        Counts {
            ready: waiting - delayed,
            in_flight: count(|entry| entry.place.is_in_flight()),
            delayed,
            oldest_age_ms: oldest.map(|queued_at| (self.now - queued_at) * 1000),
            dead: count(|entry| matches!(entry.place, Place::Dead(_))),
            damaged: 0,
            expired: self.expired,
        }
    }
}

fn plain(received: Vec<HistoricDelivery>) -> Vec<Delivery> {
    received.into_iter().map(|received| received.delivery).collect()
}

/// Where a message comes from.
#[derive(Debug, Clone)]
struct Provenance {
    id: MessageId,
    parent: Option<MessageId>,
    sender: Option<SendingAttempt>,
}

/// A queue and its model, side by side.
struct Pair {
    store: SimpleStore,
    queue: Arc<SimpleQueue>,
    clock: SetClock,
    model: Model,
    /// When each body was sent, by the wall clock.
    sent_at: BTreeMap<String, u64>,
    /// By the body.
    provenance: BTreeMap<String, Provenance>,
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
    async fn new(store: &SimpleStore, clock: SetClock, shape: Shape) -> Self {
        Self {
            store: store.clone(),
            queue: declare(store, shape).await,
            clock,
            model: Model::new(shape),
            sent_at: BTreeMap::new(),
            provenance: BTreeMap::new(),
            receipts: Vec::new(),
            sent: 0,
        }
    }

    async fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step).await;
        }
        self.model.catch_up();
        self.look().await;
        self.compare_dead().await;
    }

    async fn step(&mut self, step: &Step) {
        self.model.catch_up();
        self.take(step).await;
        // What came back past its time to live is gone by now.
        self.model.catch_up();
        self.model.check();
        self.compare_counts().await;
    }

    async fn compare_counts(&self) {
        let mut counts = self.queue.counts().await.unwrap();
        // The thread of an earlier run was on another clock, which may have been some milliseconds ahead.
        counts.oldest_age_ms = counts.oldest_age_ms.map(|age| age / 1000 * 1000);
        assert_eq!(counts, self.model.counts());
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
            Step::Receive { max, terms } => self.receive(*max, *terms).await,
            Step::SettleRequest { which, how } => self.settle(which, how).await,
            Step::Extend { which, by } => self.extend(which, *by).await,
            Step::ExtendLate { which, by } => self.extend_late(which, *by).await,
            Step::DeleteLate { which } => self.delete_late(which).await,
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
                assert_eq!(self.queue.purge().await.unwrap(), self.model.purge());
            }
            Step::Wait { max, terms, step } => self.wait((*max, *terms), step).await,
            Step::Look | Step::PurgeDead | Step::DeleteQueue => self.operate(step).await,
            Step::SendAgain { which, replaces, group } => self.send_again(which, *replaces, *group).await,
            Step::RedriveOne { which } | Step::DeleteDead { which } => self.choose(step, which).await,
        }
    }

    async fn wait(&mut self, (max, terms): (usize, ReceiveTerms), step: &Step) {
        let (queue, mut receives) = (Arc::clone(&self.queue), JoinSet::new());
        receives.spawn(async move { queue.receive_on(max, LONG, terms).await.unwrap() });
        self.let_others_run().await;
        let mut expected = self.model.receive(max, terms);
        self.model.catch_up();
        Box::pin(self.take(step)).await;
        self.model.catch_up();
        if expected.is_empty() {
            expected = self.model.receive(max, terms);
        }
        let deliveries = if expected.is_empty() {
            self.let_others_run().await;
            assert!(receives.try_join_next().is_none(), "there is nothing to receive");
            receives.shutdown().await;
            Vec::new()
        } else {
            plain(receives.join_next().await.unwrap().unwrap())
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

    async fn send(&mut self, group: Option<u8>, priority: u8, delay: Option<u64>, deduplication: Option<u8>) {
        let body = self.body();
        let message = Outgoing {
            body: body.clone().into(),
            delay: delay.map(Duration::from_secs),
            group_id: group.map(|group| group.to_string()),
            deduplication_id: deduplication.map(|id| id.to_string()),
            priority: Some(priority),
            ..Outgoing::default()
        };
        let answer = self.queue.send(message.check().unwrap()).await;
        let key = deduplication.map(|id| self.model.deduplication_key(id, group));
        let first = key.and_then(|key| self.model.remembered.get(&key));
        match (answer, first) {
            (Ok(id), Some((first, until))) if *until > self.model.now => assert_eq!(id.as_str(), first),
            (Ok(id), _) => {
                assert!(!self.model.is_full());
                self.model.add(&body, group, priority, delay);
                self.note(&body, id.clone(), None, None);
                if let Some(key) = key {
                    let until = self.model.now + DEDUPLICATION;
                    self.model.remembered.insert(key, (id.to_string(), until));
                }
            }
            (Err(SendError::Full { .. }), _) => assert!(self.model.is_full()),
            (Err(other), _) => panic!("{other:?}"),
        }
    }

    async fn receive(&mut self, max: usize, terms: ReceiveTerms) {
        let deliveries = plain(self.queue.receive_on(max, Duration::ZERO, terms).await.unwrap());
        let expected = self.model.receive(max, terms);
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

    /// One of the receipts that there ever were.
    fn pick(&self, which: prop::sample::Index) -> Option<(Receipt, usize)> {
        (!self.receipts.is_empty()).then(|| self.receipts[which.index(self.receipts.len())].clone())
    }

    async fn settle(&mut self, which: &prop::sample::Index, how: &How) {
        let Some((receipt, token)) = self.pick(*which) else {
            return;
        };
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
        let origin = self.origin(token);
        let (id, parent) = (origin.ids.id(0), origin.message.clone());
        let sender = SendingAttempt {
            handler: origin.handler.clone(),
            version: origin.version,
            queue: origin.queue.to_string(),
            receive_count: origin.receive_count,
        };
        let effects = Effects {
            origin: Some(origin),
            ..sends.into()
        };
        let answer = self
            .queue
            .settle(vec![SettleRequest { receipt, settlement }], effects)
            .await
            .map(|mut answers| answers.pop().unwrap());
        match (self.model.held(token), answer) {
            (None, Ok(Err(SettleError::Expired))) => {}
            (Some(_), Err(EffectsRefused::SendRefused { .. })) => assert!(follows && self.model.is_full()),
            (Some(index), Ok(Ok(()))) => {
                if follows {
                    assert!(!self.model.is_full());
                    self.model.add(&child, None, 0, None);
                    self.note(&child, id, Some(parent), Some(sender));
                }
                self.model.settle(index, how);
            }
            (held, answer) => panic!("{answer:?}, but the model says {held:?}"),
        }
    }

    fn note(&mut self, body: &str, id: MessageId, parent: Option<MessageId>, sender: Option<SendingAttempt>) {
        self.provenance
            .insert(body.to_owned(), Provenance { id, parent, sender });
    }

    /// The attempt that a delivery stands for, which is no more if its message is not held.
    fn origin(&self, token: usize) -> SendOrigin {
        let entry = self.model.held(token).map(|index| &self.model.entries[index]);
        SendOrigin {
            message: entry.map_or_else(MessageId::random, |entry| self.provenance[&entry.body].id.clone()),
            queue: self.queue.name().clone(),
            handler: "model".to_owned(),
            version: 7,
            receive_count: entry.map_or(0, |entry| entry.receives),
            ids: SendIds::random(),
        }
    }

    /// A dead letter, as its place in the model and its id; if there is none, an id that nobody has.
    fn pick_dead(&self, which: prop::sample::Index) -> (Option<usize>, MessageId) {
        let dead = self.model.dead();
        if dead.is_empty() {
            return (None, MessageId::random());
        }
        let (_, index) = dead[which.index(dead.len())];
        (Some(index), self.provenance[&self.model.entries[index].body].id.clone())
    }

    async fn operate(&mut self, step: &Step) {
        match step {
            Step::PurgeDead => assert_eq!(self.queue.purge_dead().await.unwrap(), self.model.purge_dead()),
            Step::DeleteQueue => {
                self.queue.delete().await.unwrap();
                self.queue = declare(&self.store, self.model.shape).await;
                self.model.delete_queue();
            }
            _ => self.look().await,
        }
    }

    async fn choose(&mut self, step: &Step, which: &prop::sample::Index) {
        let (index, id) = self.pick_dead(*which);
        // An id that nobody has changes nothing about the others.
        let ids = vec![MessageId::random(), id];
        let done = match step {
            Step::RedriveOne { .. } => self.queue.redrive(Some(ids), 2).await.unwrap(),
            _ => self.queue.delete_dead(ids).await.unwrap(),
        };
        assert_eq!(done, u64::from(index.is_some()));
        match (step, index) {
            (Step::RedriveOne { .. }, Some(index)) => self.model.redrive_one(index),
            (_, Some(index)) => self.model.remove(index),
            (_, None) => {}
        }
    }

    async fn send_again(&mut self, which: &prop::sample::Index, replaces: bool, group: Option<u8>) {
        let (index, parent) = self.pick_dead(*which);
        let body = self.body();
        let message = Outgoing {
            body: body.clone().into(),
            group_id: group.map(|group| group.to_string()),
            priority: Some(1),
            // A message that is made from another one is no duplicate of any.
            deduplication_id: Some("0".to_owned()),
            ..Outgoing::default()
        };
        let again = SentAgain {
            message: message.check().unwrap(),
            parent: parent.clone(),
            replaces,
        };
        match self.queue.send_again(again).await {
            Ok(None) => assert!(replaces && index.is_none()),
            Ok(Some(id)) => {
                assert!(!self.model.is_full() && (index.is_some() || !replaces));
                if let Some(index) = index.filter(|_| replaces) {
                    self.model.remove(index);
                }
                self.model.add(&body, group, 1, None);
                self.note(&body, id, Some(parent), None);
            }
            Err(SendError::Full { .. }) => assert!(self.model.is_full()),
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn peek(&self, scope: PeekScope) -> Vec<PeekedMessage> {
        let request = PeekRequest {
            scope,
            filter: MessageFilter::default(),
            after: None,
            limit: 1000,
            body_limit: None,
        };
        let page = self.queue.peek(request).await.unwrap();
        assert_eq!(page.next, None);
        page.messages
    }

    /// The body of a message that has the id, the parent and the sender that it was sent with, whatever became of it since.
    fn checked_body(&self, peeked: &PeekedMessage) -> String {
        let body = String::from_utf8(peeked.message.body.to_vec()).unwrap();
        let Provenance { id, parent, sender } = &self.provenance[&body];
        assert_eq!(
            (&peeked.message.id, &peeked.parent, &peeked.sent_by),
            (id, parent, sender),
            "{body}"
        );
        body
    }

    /// What an operator is shown is what the model has.
    async fn look(&self) {
        let shown = self.peek(PeekScope::Messages).await;
        let got: Vec<(String, u32, MessageStanding)> = shown
            .iter()
            .map(|message| (self.checked_body(message), message.receive_count, message.standing))
            .collect();
        let wanted = self.model.shown().into_iter();
        let wanted: Vec<_> = wanted
            .map(|(entry, standing)| (entry.body.clone(), entry.receives, standing))
            .collect();
        assert_eq!(got, wanted);
    }

    async fn extend(&mut self, which: &prop::sample::Index, by: u64) {
        let Some((receipt, token)) = self.pick(*which) else {
            return;
        };
        let answers = self.queue.extend(vec![receipt], Duration::from_secs(by)).await;
        let held = self.model.held(token);
        self.compare_extended(held, token, by, answers);
    }

    async fn extend_late(&mut self, which: &prop::sample::Index, by: u64) {
        let Some((receipt, token)) = self.pick(*which) else {
            return;
        };
        let there = self.queue.has_message_of(receipt.clone()).await.unwrap();
        assert_eq!(there, self.model.has_message_of(token));
        let answers = self.queue.extend_late(vec![receipt], Duration::from_secs(by)).await;
        let held = self.model.held_late(token);
        self.compare_extended(held, token, by, answers);
    }

    fn compare_extended(
        &mut self,
        held: Option<usize>,
        token: usize,
        by: u64,
        mut answers: Vec<Result<Instant, ExtendError>>,
    ) {
        match (held, answers.pop().unwrap()) {
            (Some(index), Ok(_deadline)) => {
                let deadline = self.model.now + by;
                let entry = &mut self.model.entries[index];
                entry.place = Place::InFlight { deadline, token };
                entry.lapsed = None;
            }
            (None, Err(ExtendError::Expired)) => {}
            (held, answer) => panic!("{answer:?}, but the model says {held:?}"),
        }
    }

    async fn delete_late(&mut self, which: &prop::sample::Index) {
        let Some((receipt, token)) = self.pick(*which) else {
            return;
        };
        let answer = self.queue.delete_late(vec![receipt]).await.pop().unwrap();
        match (self.model.held_late(token), answer) {
            (Some(index), Ok(())) => self.model.remove(index),
            (None, Err(SettleError::Expired)) => {}
            (held, answer) => panic!("{answer:?}, but the model says {held:?}"),
        }
    }

    /// Takes everything that can be taken, group by group, and deletes it.
    async fn drain(&mut self) {
        loop {
            self.receive(100, WHOLE_OUTSIDE).await;
            if self.receipts.is_empty() {
                break;
            }
            let (receipts, tokens): (Vec<_>, Vec<_>) = self.receipts.drain(..).unzip();
            for answer in self.queue.delete_late(receipts).await {
                answer.unwrap();
            }
            for token in tokens {
                let index = self.model.held(token).unwrap();
                self.model.remove(index);
            }
        }
        self.compare_counts().await;
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
        let shown = self.peek(PeekScope::DeadLetters).await;
        let shown: Vec<String> = shown.iter().map(|message| self.checked_body(message)).collect();
        assert_eq!(shown, wanted);
    }
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
}

async fn declare(store: &SimpleStore, shape: Shape) -> Arc<SimpleQueue> {
    let name = QueueName::new("model").unwrap();
    let settings = Settings {
        visibility_timeout: Duration::from_secs(VISIBILITY),
        max_receives: NonZeroU32::new(MAX_RECEIVES).unwrap(),
        order: shape.order,
        time_to_live: Some(Duration::from_secs(TIME_TO_LIVE)),
        delay: Duration::from_secs(shape.delay),
        deduplication_scope: shape.scope,
        max_messages: u64::try_from(MAX_MESSAGES).unwrap(),
        ..Settings::defaults(&name)
    };
    store.queue(name, settings).await.unwrap()
}

/// The steps as a receiver outside of the host takes them, whose messages are no suspects when the host ends.
fn outside(steps: &[Step]) -> Vec<Step> {
    let mut steps = steps.to_vec();
    for step in &mut steps {
        if let Step::Receive { terms, .. } | Step::Wait { terms, .. } = step {
            terms.outside = true;
        }
    }
    steps
}

async fn run_durable(shape: Shape, steps: &[Step], later: &[Step]) {
    // Time stands still as long as a blocking task runs, so that it does not move while the store's thread works.
    let (end, ended) = std::sync::mpsc::channel::<()>();
    drop(tokio::task::spawn_blocking(move || ended.recv().is_err()));
    let directory = tempfile::tempdir().unwrap();
    let clock = SetClock::new();
    let options = StoreOptions {
        clock: clock.clock(),
        ..StoreOptions::new(directory.path())
    };
    let mut store = SimpleStore::open(&options).unwrap();
    let mut pair = Pair::new(&store, clock.clone(), shape).await;
    for steps in [steps, later] {
        pair.run(&outside(steps)).await;
        store.close().await;
        // What is counted in memory is what is on the disk, and every group goes on where it was.
        store = SimpleStore::open(&options).unwrap();
        pair.store = store.clone();
        pair.queue = declare(&store, shape).await;
        pair.model.restart();
        pair.receipts.clear();
        pair.compare_counts().await;
    }
    pair.drain().await;
    store.close().await;
    drop(end);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ephemeral_queue_does_what_the_model_does(shape in shape(), steps in steps()) {
        paused().block_on(async {
            let clock = SetClock::new();
            let store = SimpleStore::ephemeral_on(ProcessedMessageSettings::default(), clock.clock());
            let mut pair = Pair::new(&store, clock, shape).await;
            pair.run(&steps).await;
            pair.receipts.clear();
            pair.drain().await;
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_durable_queue_does_what_the_model_does(shape in shape(), steps in steps(), later in steps()) {
        paused().block_on(run_durable(shape, &steps, &later));
    }
}
