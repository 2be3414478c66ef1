//! The receives of one handler that are under way, and the slots that they may fill.
//!
//! One receive is parked with an idle queue; more are under way while the queue is busy, up to what the free slots allow.
//! Invariant: the messages that all receives together ask for fit the slots that were free, so no message is received that
//! cannot start. `ReceivePlan` decides when to ask, and for how many messages.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, timeout};

use self::receive_plan::ReceivePlan;
use sandhog_queue::{Delivery, Queue, QueueError, ReceiveDemand};
use sandhog_traces::SpanStart;

mod receive_plan;

/// The longest that a receive waits for a message (the limit of SQS).
const RECEIVE_WAIT: Duration = Duration::from_secs(20);
/// A receive that has not ended so long after its wait is given up and made anew.
const RECEIVE_MARGIN: Duration = Duration::from_secs(20);

type Receive = Pin<Box<dyn Future<Output = FinishedReceive> + Send>>;

/// A receive that has ended.
#[derive(Debug)]
pub struct FinishedReceive {
    /// The number of messages that it asked for.
    pub asked: usize,
    /// The number of slots that were reserved for it.
    slots: usize,
    /// When it began, if it is a request to a remote queue.
    pub began: Option<SpanStart>,
    /// The messages that came.
    pub answer: Result<Vec<Delivery>, QueueError>,
}

/// A receive that may still ask for more messages.
#[derive(Debug)]
struct ParkedReceive {
    demand: ReceiveDemand,
    /// The number of messages that were added since it began.
    added: usize,
    /// The number of slots for the added messages.
    added_slots: usize,
    batch_size: usize,
}

/// The decision on free slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiveDecision {
    /// Receive so many messages.
    Ask(usize),
    /// Decide again at this time: more slots may be free.
    At(Instant),
    /// The receives under way are enough.
    Enough,
}

/// The receives of one handler.
pub struct Poller {
    queue: Arc<dyn Queue>,
    plan: ReceivePlan,
    receives: FuturesUnordered<Receive>,
    /// The receive under way, where there is one at a time.
    parked: Option<ParkedReceive>,
    /// The number of slots that the receives under way may fill.
    reserved: usize,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller")
            .field("queue", self.queue.name())
            .field("receives", &self.receives.len())
            .field("reserved", &self.reserved)
            .finish_non_exhaustive()
    }
}

impl Poller {
    /// A poller without a receive.
    pub fn new(queue: Arc<dyn Queue>) -> Self {
        Self {
            queue,
            plan: ReceivePlan::default(),
            receives: FuturesUnordered::new(),
            parked: None,
            reserved: 0,
        }
    }

    /// Returns the number of slots that the receives under way may fill.
    pub fn reserved(&self) -> usize {
        self.reserved
    }

    /// Records that a message was not handled, and comes back after `back_in` at the latest. Until then, messages of groups are
    /// received one at a time: the later ones of its group would spend a receive in vain.
    pub fn be_careful(&mut self, back_in: Duration, now: Instant) {
        if self.queue.capabilities().returns_groups {
            self.plan.be_careful(back_in, now);
        }
    }

    /// Whether no receive is under way.
    pub fn is_idle(&self) -> bool {
        self.receives.is_empty()
    }

    /// Decides on slots for `free` more messages (1 or more) of `all`. A parked receive takes them by itself.
    pub fn next(&mut self, free: usize, all: usize, now: Instant) -> ReceiveDecision {
        let capabilities = self.queue.capabilities();
        let decision = self.plan.next(capabilities, free, all, now);
        if decision == ReceiveDecision::Enough {
            self.want_more(free, capabilities.receive_limit);
        }
        decision
    }

    /// Lets the parked receive fill these slots too, up to `limit` messages, unless the queue has chosen its messages.
    fn want_more(&mut self, free: usize, limit: usize) {
        let Some(parked) = &mut self.parked else { return };
        let added = parked.demand.add(free, limit);
        let slots = added.div_ceil(parked.batch_size);
        parked.added += added;
        parked.added_slots += slots;
        self.reserved += slots;
    }

    /// Starts a receive of `max` messages, of which one call of a guest takes `batch_size`.
    pub fn ask(&mut self, max: usize, batch_size: usize) {
        let queue = Arc::clone(&self.queue);
        // Each of a group's messages needs a call of its own.
        let slots = if queue.capabilities().returns_groups {
            max
        } else {
            max.div_ceil(batch_size)
        };
        self.reserved += slots;
        self.plan.started();
        let demand = ReceiveDemand::new(max);
        // A request whose call costs carries the number, and cannot ask for more later.
        self.parked = (!queue.capabilities().calls_cost).then(|| ParkedReceive {
            demand: demand.clone(),
            added: 0,
            added_slots: 0,
            batch_size,
        });
        let began = queue.capabilities().calls_cost.then(SpanStart::now);
        self.receives.push(Box::pin(async move {
            let receive = queue.receive_on_demand(&demand, RECEIVE_WAIT);
            let answer = timeout(RECEIVE_WAIT + RECEIVE_MARGIN, receive)
                .await
                .unwrap_or_else(|_| {
                    let cause = std::io::Error::new(std::io::ErrorKind::TimedOut, "a receive did not return");
                    Err(QueueError::Unavailable {
                        queue: queue.name().clone(),
                        cause: Arc::new(cause),
                    })
                });
            FinishedReceive {
                asked: max,
                slots,
                began,
                answer,
            }
        }));
    }

    /// Waits for the next receive that ends; for ever if none is under way.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn received(&mut self) -> FinishedReceive {
        let Some(mut received) = self.receives.next().await else {
            return std::future::pending().await;
        };
        if let Some(parked) = self.parked.take() {
            received.asked += parked.added;
            received.slots += parked.added_slots;
        }
        self.reserved = self.reserved.saturating_sub(received.slots);
        let came = received.answer.as_ref().map_or(0, Vec::len);
        self.plan.ended(received.asked, came);
        received
    }

    /// Drops the receives under way. Their queue makes visible again what they may have taken.
    pub fn clear(&mut self) {
        self.receives = FuturesUnordered::new();
        self.plan.cleared();
        self.parked = None;
        self.reserved = 0;
    }
}
