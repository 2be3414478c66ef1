//! Looks at what waits in the queues: for a host that ends once they are empty, and for the readiness of paused handlers.
//! Changes nothing in them.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use crate::{
    handler_set::HostContext,
    handler_status::{HandlerState, HandlerStatus},
    message::QueueName,
    queue::Queue,
};

/// How often a host that ends when its queues are empty looks at them.
const EMPTY_INTERVAL: Duration = Duration::from_millis(50);
/// How often the queues of paused handlers are looked at.
const PAUSED_INTERVAL: Duration = Duration::from_secs(1);

/// How long the queue of a paused handler may take to answer, so that one that hangs keeps no other from being asked.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// For how long a handler is waited for that can't be loaded now and is tried again, while nothing else is to be done.
const TRIED_AGAIN_LIMIT: Duration = Duration::from_mins(2);

/// What was found once every queue that a handler serves was empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EmptyQueues {
    /// A handler was refused, so its queue was not waited for.
    pub(super) refused: bool,
    /// Queues with messages that no handler serves.
    pub(super) unserved: Vec<QueueName>,
}

/// Waits until every queue that a handler serves is empty, with nothing in flight or delayed.
pub(super) async fn empty(host: &HostContext) -> EmptyQueues {
    let (mut empty_before, mut busy_at) = (false, Instant::now());
    loop {
        sleep(EMPTY_INTERVAL).await;
        let handlers = host.statuses.list();
        let mut waiting = host.statuses.is_first_load_under_way();
        let served = handlers.iter().filter(|handler| handler.state != HandlerState::Refused);
        for queue in served
            .filter_map(|handler| handler.queue.as_ref())
            .filter_map(|name| host.queues.get(name))
        {
            waiting |= holds_messages(&*queue).await;
        }
        if waiting {
            busy_at = Instant::now();
        }
        // Its messages wait for what may pass; for a right that is missing nobody waits for ever.
        let tried_again = handlers.iter().any(HandlerStatus::is_tried_again);
        waiting |= tried_again && busy_at.elapsed() < TRIED_AGAIN_LIMIT;
        // A message may have gone from a queue not looked at yet to one that was: only two empty looks in a row count.
        if !waiting && empty_before {
            return EmptyQueues {
                refused: handlers.iter().any(|handler| handler.state == HandlerState::Refused),
                unserved: unserved(host, &handlers).await,
            };
        }
        empty_before = !waiting;
    }
}

/// The queues of the store that hold messages and that no handler serves. What handlers send is for somebody else to take,
/// and so are dead letters.
async fn unserved(host: &HostContext, handlers: &[HandlerStatus]) -> Vec<QueueName> {
    let served = handlers
        .iter()
        .flat_map(|handler| handler.queue.iter().chain(&handler.sends_to));
    let served: BTreeSet<&QueueName> = served.collect();
    let mut unserved = Vec::new();
    for queue in host.queues.list() {
        let name = queue.name();
        let expected = served.contains(name) || host.queues.is_dead_letter_queue(name);
        let in_store = host.queues.commits_sends_to(name);
        if !expected && in_store && holds_messages(&*queue).await {
            unserved.push(name.clone());
        }
    }
    unserved
}

/// A queue that can't be asked is not known to be empty.
async fn holds_messages(queue: &dyn Queue) -> bool {
    let counts = queue.counts().await;
    counts.map_or(true, |counts| counts.ready + counts.in_flight + counts.delayed > 0)
}

/// Notes for as long as it is polled whether anything waits for paused handlers. Where nothing does, the pause holds nothing
/// back, and only a new message can end it.
pub(super) async fn watch_paused(host: &HostContext) -> std::convert::Infallible {
    loop {
        sleep(PAUSED_INTERVAL).await;
        for (handler, queue) in host.statuses.paused_queues() {
            if let Some(queue) = host.queues.get(&queue) {
                let idle = timeout(ANSWER_LIMIT, holds_messages(&*queue)).await == Ok(false);
                host.statuses.idle(&handler, idle);
            }
        }
    }
}
