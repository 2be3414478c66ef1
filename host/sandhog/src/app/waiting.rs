//! Looks at the messages that wait in the queues, for a host that ends once they are empty, and for the readiness of paused
//! handlers. Changes nothing in the queues.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use crate::{
    handler_set::HostContext,
    handler_status::{HandlerState, HandlerStatus},
};
use sandhog_queue::{Queue, message::QueueName};

/// The time between two looks at the queues of a host with `--until-empty`.
const EMPTY_INTERVAL: Duration = Duration::from_millis(50);
/// The time between two looks at the queues of paused handlers.
const PAUSED_INTERVAL: Duration = Duration::from_secs(1);

/// The longest time for the answer of a paused handler's queue, so that a queue that hangs does not hold up the others.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// The longest time that an idle host waits for a handler that can't be loaded now and is tried again.
const TRIED_AGAIN_LIMIT: Duration = Duration::from_mins(2);

/// The queues of a host once every queue that a handler serves was empty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EmptyQueues {
    /// A handler was refused, so the host did not wait for its queue.
    pub(crate) refused: bool,
    /// Queues with messages that no handler serves, or whose handler an operator has halted, as a drain halts all.
    pub(crate) unserved: Vec<QueueName>,
}

/// Waits until every queue that a handler serves is empty, with nothing in flight or delayed. What an operator has halted until
/// somebody resumes it is waited for as far as it is in flight: the host ends, and says what is left.
pub(crate) async fn empty(host: &HostContext) -> EmptyQueues {
    let mut empty_before = false;
    let mut busy_at = Instant::now();
    loop {
        sleep(EMPTY_INTERVAL).await;
        let handlers = host.statuses.list();
        let mut waiting = host.statuses.is_first_load_under_way();
        let served = handlers.iter().filter(|handler| handler.state != HandlerState::Refused);
        for handler in served {
            if let Some(queue) = handler.queue.as_ref().and_then(|name| host.queues.get(name)) {
                waiting |= if is_halted_for_good(host, handler) {
                    has_messages_in_flight(&*queue).await
                } else {
                    holds_messages(&*queue).await
                };
            }
        }
        if waiting {
            busy_at = Instant::now();
        }
        // The messages of such a handler wait for a trouble that may pass, but the host does not wait for ever.
        let tried_again = handlers.iter().any(HandlerStatus::is_tried_again);
        waiting |= tried_again && busy_at.elapsed() < TRIED_AGAIN_LIMIT;
        // A message may move from a queue that comes later in a look to one that came before, so two empty looks in a row count.
        if !waiting && empty_before {
            return EmptyQueues {
                refused: handlers.iter().any(|handler| handler.state == HandlerState::Refused),
                unserved: unserved(host, &handlers).await,
            };
        }
        empty_before = !waiting;
    }
}

/// Returns the queues of the store with messages that no handler serves. Other programs take the messages that handlers send,
/// and the dead letters.
async fn unserved(host: &HostContext, handlers: &[HandlerStatus]) -> Vec<QueueName> {
    let served = handlers
        .iter()
        .filter(|handler| !is_halted_for_good(host, handler))
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

/// Returns whether an operator has halted the handler, its queue or the whole host, without an end.
fn is_halted_for_good(host: &HostContext, handler: &HandlerStatus) -> bool {
    if host.halts.draining_since().is_some() {
        return true;
    }
    let of_queue = handler.queue.as_ref().and_then(|queue| host.halts.of_queue(queue));
    let halts = [host.halts.of_handler(&handler.name), of_queue];
    halts.iter().flatten().any(|halt| halt.until_ms.is_none())
}

async fn has_messages_in_flight(queue: &dyn Queue) -> bool {
    queue.counts().await.map_or(true, |counts| counts.in_flight > 0)
}

/// Returns whether the queue may hold messages. A queue that can't be asked may hold some.
async fn holds_messages(queue: &dyn Queue) -> bool {
    let counts = queue.counts().await;
    counts.map_or(true, |counts| counts.ready + counts.in_flight + counts.delayed > 0)
}

/// Notes, for as long as the future is polled, which paused handlers have an empty queue. There the pause holds nothing back, and
/// only a new message can end it.
pub(crate) async fn watch_paused(host: &HostContext) -> std::convert::Infallible {
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
