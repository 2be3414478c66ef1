//! The receives of one handler: how many are under way, and how many messages each asks for.
//!
//! One is parked when the queue is idle; more are under way as it shows itself busy, up to what free slots allow. Invariant:
//! the messages asked for by all of them together fit the slots that were free, so none is received that cannot start.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, timeout};

use crate::queue::{Delivery, Queue, QueueError, Wanted};

/// The longest that a receive waits for a message (the limit of SQS).
const RECEIVE_WAIT: Duration = Duration::from_secs(20);
/// A receive that is not back so long after it should be is given up and made anew.
const RECEIVE_MARGIN: Duration = Duration::from_secs(20);
/// How long free slots of a busy handler are collected, so that one request fills several.
const COLLECT_SLOTS: Duration = Duration::from_millis(20);
/// The part of the free slots that one receive may fill with messages of one group, which run one after another.
const PART_OF_A_GROUP: usize = 4;
/// How much longer than a failed message stays away messages of groups are received one at a time.
const CAREFUL_FOR: Duration = Duration::from_secs(20);

type Receive = Pin<Box<dyn Future<Output = Received> + Send>>;

/// A receive that has ended.
#[derive(Debug)]
pub struct Received {
    /// How many messages it asked for.
    pub asked: usize,
    slots: usize,
    /// What came.
    pub answer: Result<Vec<Delivery>, QueueError>,
}

/// A receive that may be made larger.
#[derive(Debug)]
struct Parked {
    wanted: Wanted,
    /// How many messages were added to what it was made for, and the slots for them.
    added: usize,
    added_slots: usize,
    batch_size: usize,
}

/// What to do about free slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Receive so many messages.
    Ask(usize),
    /// Look again then: more slots may be free.
    At(Instant),
    /// What is under way is enough.
    Enough,
}

/// The receives of one handler.
pub struct Poller {
    queue: Arc<dyn Queue>,
    receives: FuturesUnordered<Receive>,
    /// What the receive under way is for, where there is one at a time.
    parked: Option<Parked>,
    /// The slots that the receives under way may fill.
    reserved: usize,
    busy: bool,
    short_since: Option<Instant>,
    careful_until: Option<Instant>,
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
            receives: FuturesUnordered::new(),
            parked: None,
            reserved: 0,
            busy: false,
            short_since: None,
            careful_until: None,
        }
    }

    /// How many slots the receives under way may fill.
    pub fn reserved(&self) -> usize {
        self.reserved
    }

    /// A message was not handled, and comes back after `back_in` at the latest. Those of its group that were received with it
    /// spent a receive in vain; until it has come back they are not received again and again with it.
    pub fn be_careful(&mut self, back_in: Duration, now: Instant) {
        if self.queue.capabilities().returns_groups {
            self.careful_until = self.careful_until.max(Some(now + back_in + CAREFUL_FOR));
        }
    }

    /// Whether no receive is under way.
    pub fn is_idle(&self) -> bool {
        self.receives.is_empty()
    }

    /// What to do with slots for `free` more messages (1 or more) of `all`.
    pub fn next(&mut self, free: usize, all: usize, now: Instant) -> Next {
        let capabilities = self.queue.capabilities();
        let may_have_more = self.busy && capabilities.calls_cost;
        if !self.receives.is_empty() && !may_have_more {
            self.want_more(free, capabilities.receive_limit);
            return Next::Enough;
        }
        let ask = if !capabilities.returns_groups {
            free.min(capabilities.receive_limit)
        } else if self.careful_until.is_some_and(|until| until > now) {
            1
        } else {
            // A group runs one after another, so messages of one may not fill all slots: others would wait for it.
            (free / PART_OF_A_GROUP).clamp(1, capabilities.receive_limit)
        };
        // A busy handler frees slots all the time; a request for each would cost more than the wait.
        let enough = capabilities.receive_limit.min(all.div_ceil(2)).max(1);
        if capabilities.calls_cost && free < enough && (self.busy || !self.receives.is_empty()) {
            let since = *self.short_since.get_or_insert(now);
            if !self.receives.is_empty() {
                return Next::Enough;
            }
            if now < since + COLLECT_SLOTS {
                return Next::At(since + COLLECT_SLOTS);
            }
        }
        Next::Ask(ask)
    }

    /// Lets the receive under way fill these slots too, up to `limit` messages, if it has not been given its messages yet.
    fn want_more(&mut self, free: usize, limit: usize) {
        let Some(parked) = &mut self.parked else { return };
        let added = parked.wanted.add(free, limit);
        let slots = added.div_ceil(parked.batch_size);
        parked.added += added;
        parked.added_slots += slots;
        self.reserved += slots;
    }

    /// Starts a receive of `max` messages, which one call of a guest takes `batch_size` of.
    pub fn ask(&mut self, max: usize, batch_size: usize) {
        let queue = Arc::clone(&self.queue);
        // Each of a group's messages needs a call of its own.
        let slots = if queue.capabilities().returns_groups {
            max
        } else {
            max.div_ceil(batch_size)
        };
        self.reserved += slots;
        self.short_since = None;
        let wanted = Wanted::new(max);
        // Where a call is a request, the number goes out with it.
        self.parked = (!queue.capabilities().calls_cost).then(|| Parked {
            wanted: wanted.clone(),
            added: 0,
            added_slots: 0,
            batch_size,
        });
        self.receives.push(Box::pin(async move {
            let receive = queue.receive_wanted(&wanted, RECEIVE_WAIT);
            let answer = timeout(RECEIVE_WAIT + RECEIVE_MARGIN, receive)
                .await
                .unwrap_or_else(|_| {
                    let cause = std::io::Error::new(std::io::ErrorKind::TimedOut, "a receive did not return");
                    Err(QueueError::Unavailable {
                        queue: queue.name().clone(),
                        cause: Arc::new(cause),
                    })
                });
            Received {
                asked: max,
                slots,
                answer,
            }
        }));
    }

    /// The next receive that ends; for ever if none is under way.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn received(&mut self) -> Received {
        let Some(mut received) = self.receives.next().await else {
            return std::future::pending().await;
        };
        if let Some(parked) = self.parked.take() {
            received.asked += parked.added;
            received.slots += parked.added_slots;
        }
        self.reserved = self.reserved.saturating_sub(received.slots);
        let came = received.answer.as_ref().map_or(0, Vec::len);
        // Half of what was asked for is a sign of more: a queue in many parts does not look into all of them each time.
        self.busy = came > 0 && came >= received.asked.div_ceil(2);
        received
    }

    /// Drops the receives under way, which gives back what they may have taken.
    pub fn clear(&mut self) {
        self.receives = FuturesUnordered::new();
        self.parked = None;
        self.reserved = 0;
        self.busy = false;
        self.short_since = None;
    }
}
