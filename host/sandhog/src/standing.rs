//! Why a queue, or a handler, stands still: one sentence from the facts, or none if nothing stands still.
//!
//! Pure; the time is passed in. Invariant: of several causes the sentence names the one that an operator has to lift first.

use std::time::Duration;

use crate::{
    date::to_the_second,
    halts::{DrainCause, Halt, HaltTarget},
    handler_status::HandlerState,
};
use sandhog_queue::machine_clock::whole_ms;

/// The time for which every slot has to be busy, with no attempt ending, before that is a standstill.
pub const BUSY_AFTER: Duration = Duration::from_secs(10);

/// What is known about a handler.
#[derive(Debug, Clone)]
pub struct HandlerFacts {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: HandlerState,
    /// Why its newest files are refused.
    pub last_error: Option<String>,
    /// When the host probes it next, if the host has paused it: milliseconds since 1970-01-01T00:00:00Z.
    pub next_probe_ms: Option<u64>,
    /// Why its last receive failed.
    pub queue_error: Option<String>,
    /// Its slots, and since when all of them are busy without an attempt that ended.
    pub slots: u32,
    /// See `slots`; milliseconds since 1970-01-01T00:00:00Z.
    pub full_since_ms: Option<u64>,
    /// Calls of guests wait because the host has no room for another instance.
    pub waits_for_room: bool,
}

/// The message group that a queue waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedGroup {
    /// The group; `None` if the whole queue is one.
    pub group: Option<String>,
    /// The id of the message that leads it.
    pub message: String,
    /// When that message comes back: milliseconds since 1970-01-01T00:00:00Z. `None` while it is in flight.
    pub retry_at_ms: Option<u64>,
}

/// What is known about the messages of a queue.
#[derive(Debug, Clone, Default)]
pub struct QueueFacts {
    /// Messages that wait.
    pub ready: u64,
    /// Messages that were received and not settled.
    pub in_flight: u64,
    /// Messages that are delayed, or wait for their retry.
    pub delayed: u64,
    /// When the first of them is due: milliseconds since 1970-01-01T00:00:00Z.
    pub next_due_ms: Option<u64>,
    /// No message can be received, because each of those that wait stands behind another one of its group.
    pub blocked: Option<BlockedGroup>,
    /// Why the queue can't be asked.
    pub error: Option<String>,
    /// Its messages are dead letters: nobody has to take them.
    pub is_dead_letter_queue: bool,
}

/// All that a sentence is made of.
#[derive(Debug, Clone, Default)]
pub struct StandingFacts {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub now_ms: u64,
    /// Why the host drains, if it does.
    pub drain: Option<DrainCause>,
    /// What an operator has halted: the handler, or its queue.
    pub halt: Option<(HaltTarget, Halt)>,
    /// The handler; `None` if the queue has none.
    pub handler: Option<HandlerFacts>,
    /// The queue; `None` if the handler has none yet.
    pub queue: Option<QueueFacts>,
}

/// Returns why nothing moves, for people; `None` if it does, or there is nothing to move.
pub fn standstill(facts: &StandingFacts) -> Option<String> {
    let queue = facts.queue.clone().unwrap_or_default();
    let is_empty = facts.queue.as_ref().is_some_and(|queue| {
        let QueueFacts {
            ready,
            in_flight,
            delayed,
            error,
            ..
        } = queue;
        error.is_none() && ready + in_flight + delayed == 0
    });
    let nothing = if is_empty { " (no message waits for that)" } else { "" };
    // Consumers outside go on while a drain is ordered, so a queue that no handler takes does not stand still for it.
    if let Some(cause) = facts
        .drain
        .filter(|cause| *cause == DrainCause::Stopping || facts.handler.is_some())
    {
        return Some(drains(cause) + nothing);
    }
    if let Some((target, halt)) = &facts.halt {
        return Some(halted(target, halt) + nothing);
    }
    let of_handler = facts
        .handler
        .as_ref()
        .and_then(|handler| stopped(handler, facts.now_ms));
    if of_handler.is_some() {
        return of_handler;
    }
    if let Some(error) = &queue.error {
        return Some(format!("the queue does not answer: {error}"));
    }
    let waiting = queue.ready + queue.delayed;
    let Some(handler) = &facts.handler else {
        let is_stranded = waiting > 0 && !queue.is_dead_letter_queue;
        return is_stranded.then(|| format!("no handler takes this queue: {} for somebody outside", waits(waiting)));
    };
    if waiting == 0 {
        return None;
    }
    busy(handler, facts.now_ms).or_else(|| hidden(&queue))
}

fn drains(cause: DrainCause) -> String {
    match cause {
        DrainCause::Stopping => "the host drains: it receives nothing more, and is about to stop".to_owned(),
        DrainCause::Ordered { since_ms } => format!(
            "the host is draining by an operator's order since {}: no handler receives until `sandhog drain --end`",
            to_the_second(since_ms)
        ),
    }
}

/// Says how many messages handlers have received and not settled, and which handlers those are: those with the most first.
pub fn in_flight<'h>(handlers: impl IntoIterator<Item = (&'h str, u64)>) -> String {
    /// The most handlers that are named.
    const NAMED: usize = 5;
    let mut handlers: Vec<(&str, u64)> = handlers.into_iter().filter(|(_, messages)| *messages > 0).collect();
    handlers.sort_by_key(|(_, messages)| std::cmp::Reverse(*messages));
    let all: u64 = handlers.iter().map(|(_, messages)| messages).sum();
    if handlers.is_empty() {
        return "nothing is in flight".to_owned();
    }
    let named = handlers.iter().take(NAMED);
    let mut named: Vec<String> = named.map(|(name, messages)| format!("{name} {messages}")).collect();
    if handlers.len() > NAMED {
        named.push(format!("{} other handlers", handlers.len() - NAMED));
    }
    format!("{all} in flight ({})", named.join(", "))
}

/// Says that somebody has paused a queue or a handler: since when, until when, and why.
pub fn halted(target: &HaltTarget, halt: &Halt) -> String {
    let what = match target {
        HaltTarget::Queue(queue) => format!("queue {queue} is paused"),
        HaltTarget::Handler(handler) => format!("handler {handler} is paused"),
    };
    let end = match halt.until_ms {
        Some(until) => format!("until {}", to_the_second(until)),
        None => "until it is resumed".to_owned(),
    };
    let reason = if halt.reason.is_empty() {
        String::new()
    } else {
        format!(": {}", halt.reason)
    };
    format!(
        "{what} by an operator since {}, {end}{reason}",
        to_the_second(halt.since_ms)
    )
}

/// Returns why a handler takes nothing, whatever its queue holds.
fn stopped(handler: &HandlerFacts, now_ms: u64) -> Option<String> {
    let HandlerFacts { name, last_error, .. } = handler;
    match &handler.state {
        HandlerState::Paused { reason } => {
            let probe = match handler.next_probe_ms {
                Some(at) if at > now_ms => format!("the next probe is at {}", to_the_second(at)),
                Some(_) | None => "a probe is due".to_owned(),
            };
            Some(format!("handler {name} is paused by the host, and {probe}: {reason}"))
        }
        HandlerState::Refused => Some(format!(
            "the file of handler {name} was refused, and no other version serves: {}",
            last_error.as_deref().unwrap_or("the log says why")
        )),
        HandlerState::Loading => Some(match last_error {
            Some(why) => format!("handler {name} has no version that serves yet: {why}"),
            None => format!("handler {name} is being compiled"),
        }),
        HandlerState::Stopping => Some(format!(
            "the file of handler {name} was removed, and no handler takes its place"
        )),
        HandlerState::Serving => handler
            .queue_error
            .as_ref()
            .map(|why| format!("the queue does not answer: {why}")),
    }
}

fn busy(handler: &HandlerFacts, now_ms: u64) -> Option<String> {
    let since_ms = handler.full_since_ms?;
    let long = now_ms.saturating_sub(since_ms) >= whole_ms(BUSY_AFTER);
    if !long {
        return None;
    }
    let (name, slots) = (&handler.name, handler.slots);
    let since = to_the_second(since_ms);
    Some(if handler.waits_for_room {
        format!(
            "the host has no room for another instance since {since}: lower memory in the manifests, or raise memory-budget or max-live-instances"
        )
    } else {
        format!("every slot of handler {name} is busy ({slots} of {slots}), and no attempt has ended since {since}")
    })
}

/// Returns why nothing in a queue can be received.
fn hidden(queue: &QueueFacts) -> Option<String> {
    if let Some(BlockedGroup {
        group,
        message,
        retry_at_ms,
    }) = queue.blocked.as_ref().filter(|_| queue.ready > 0)
    {
        let group = match group {
            Some(group) => format!("message group {group:?}"),
            None => "the whole queue, which is one group,".to_owned(),
        };
        let until = match retry_at_ms {
            Some(at) => format!("which waits for its retry at {}", to_the_second(*at)),
            None => "which is in flight".to_owned(),
        };
        return Some(format!("{group} waits for message {message}, {until}"));
    }
    let nothing_else = queue.ready == 0 && queue.in_flight == 0;
    let due = queue.next_due_ms.filter(|_| nothing_else && queue.delayed > 0)?;
    Some(format!(
        "all messages are delayed or wait for a retry, the first until {}",
        to_the_second(due)
    ))
}

fn waits(messages: u64) -> String {
    match messages {
        1 => "1 message waits".to_owned(),
        _ => format!("{messages} messages wait"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_queue::message::QueueName;

    const NOW_MS: u64 = 1_796_000_000_000;

    fn handler() -> HandlerFacts {
        HandlerFacts {
            name: "orders".to_owned(),
            state: HandlerState::Serving,
            last_error: None,
            next_probe_ms: None,
            queue_error: None,
            slots: 16,
            full_since_ms: None,
            waits_for_room: false,
        }
    }

    fn queue() -> QueueFacts {
        QueueFacts {
            ready: 5,
            ..QueueFacts::default()
        }
    }

    fn said(change: impl FnOnce(&mut StandingFacts, &mut HandlerFacts, &mut QueueFacts)) -> Option<String> {
        let mut facts = StandingFacts {
            now_ms: NOW_MS,
            ..StandingFacts::default()
        };
        let (mut handler, mut queue) = (handler(), queue());
        change(&mut facts, &mut handler, &mut queue);
        facts.handler = Some(handler);
        facts.queue = Some(queue);
        standstill(&facts)
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut StandingFacts, &mut HandlerFacts, &mut QueueFacts), expected: &str) {
        assert_eq!(said(change).as_deref(), Some(expected));
    }

    fn halt(until_ms: Option<u64>, reason: &str) -> Halt {
        Halt {
            reason: reason.to_owned(),
            since_ms: NOW_MS - 60_000,
            until_ms,
        }
    }

    #[test]
    fn what_moves_has_no_sentence() {
        assert_eq!(said(|_, _, _| {}), None);
    }

    #[test]
    fn a_pause_by_an_operator_is_told_with_its_time_its_end_and_its_reason() {
        let target = HaltTarget::Queue(QueueName::new("orders").unwrap());
        check(
            |facts, _, _| facts.halt = Some((target, halt(Some(NOW_MS + 60_000), "the bank is closed"))),
            "queue orders is paused by an operator since 2026-11-30T00:52:20Z, until 2026-11-30T00:54:20Z: the bank is closed",
        );
        let target = HaltTarget::Handler("orders".to_owned());
        check(
            |facts, _, queue| {
                facts.halt = Some((target, halt(None, "")));
                queue.ready = 0;
            },
            "handler orders is paused by an operator since 2026-11-30T00:52:20Z, until it is resumed (no message waits for that)",
        );
    }

    #[test]
    fn a_pause_by_the_host_is_told_with_its_next_probe_and_the_last_failure() {
        check(
            |_, handler, _| {
                handler.state = HandlerState::Paused {
                    reason: "20 messages in a row failed, the last with trap: oh".to_owned(),
                };
                handler.next_probe_ms = Some(NOW_MS + 8000);
            },
            "handler orders is paused by the host, and the next probe is at 2026-11-30T00:53:28Z: 20 messages in a row failed, the last with trap: oh",
        );
    }

    #[test]
    fn a_queue_that_nobody_takes_says_so_and_one_of_dead_letters_does_not() {
        let mut facts = StandingFacts {
            now_ms: NOW_MS,
            queue: Some(queue()),
            ..StandingFacts::default()
        };
        let expected = "no handler takes this queue: 5 messages wait for somebody outside";
        assert_eq!(standstill(&facts).as_deref(), Some(expected));
        facts.queue = Some(QueueFacts {
            is_dead_letter_queue: true,
            ..queue()
        });
        assert_eq!(standstill(&facts), None);
        facts.queue = Some(QueueFacts::default());
        assert_eq!(standstill(&facts), None);
    }

    #[test]
    fn a_refused_file_is_told_with_its_reason() {
        check(
            |_, handler, _| {
                handler.state = HandlerState::Refused;
                handler.last_error = Some("no such export".to_owned());
            },
            "the file of handler orders was refused, and no other version serves: no such export",
        );
    }

    #[test]
    fn a_handler_whose_fallback_serves_does_not_stand_still() {
        let fallback = said(|_, handler, _| {
            handler.last_error = Some("no such export".to_owned());
        });
        assert_eq!(fallback, None);
    }

    #[test]
    fn a_handler_that_compiles_says_so() {
        check(
            |_, handler, _| handler.state = HandlerState::Loading,
            "handler orders is being compiled",
        );
    }

    #[test]
    fn busy_slots_are_told_once_no_attempt_has_ended_for_long() {
        let since = |ms| {
            move |_: &mut StandingFacts, handler: &mut HandlerFacts, _: &mut QueueFacts| {
                handler.full_since_ms = Some(NOW_MS - ms);
            }
        };
        assert_eq!(said(since(9_000)), None);
        check(
            since(42_000),
            "every slot of handler orders is busy (16 of 16), and no attempt has ended since 2026-11-30T00:52:38Z",
        );
    }

    #[test]
    fn a_host_without_room_names_the_settings() {
        check(
            |_, handler, _| {
                handler.full_since_ms = Some(NOW_MS - 42_000);
                handler.waits_for_room = true;
            },
            "the host has no room for another instance since 2026-11-30T00:52:38Z: lower memory in the manifests, or raise memory-budget or max-live-instances",
        );
    }

    #[test]
    fn a_queue_that_does_not_answer_is_told_with_its_error() {
        let expected = "the queue does not answer: timed out";
        check(
            |_, handler, _| handler.queue_error = Some("timed out".to_owned()),
            expected,
        );
        check(|_, _, queue| queue.error = Some("timed out".to_owned()), expected);
    }

    #[test]
    fn delayed_messages_are_told_with_the_first_that_is_due() {
        check(
            |_, _, queue| {
                queue.ready = 0;
                queue.delayed = 3;
                queue.next_due_ms = Some(NOW_MS + 1000);
            },
            "all messages are delayed or wait for a retry, the first until 2026-11-30T00:53:21Z",
        );
    }

    #[test]
    fn a_group_that_waits_for_one_message_names_both() {
        let blocked = |group: Option<&str>, retry_at_ms| {
            let group = group.map(str::to_owned);
            move |_: &mut StandingFacts, _: &mut HandlerFacts, queue: &mut QueueFacts| {
                queue.blocked = Some(BlockedGroup {
                    group,
                    message: "m1".to_owned(),
                    retry_at_ms,
                });
            }
        };
        check(
            blocked(Some("7"), Some(NOW_MS + 1000)),
            "message group \"7\" waits for message m1, which waits for its retry at 2026-11-30T00:53:21Z",
        );
        check(
            blocked(None, None),
            "the whole queue, which is one group, waits for message m1, which is in flight",
        );
    }

    #[test]
    fn a_host_that_drains_says_so_before_all_else() {
        check(
            |facts, _, _| {
                facts.drain = Some(DrainCause::Stopping);
                facts.halt = Some((HaltTarget::Handler("orders".to_owned()), halt(None, "")));
            },
            "the host drains: it receives nothing more, and is about to stop",
        );
    }

    #[test]
    fn a_drain_that_an_operator_has_ordered_says_how_it_ends() {
        let since_ms = NOW_MS - 60_000;
        check(
            |facts, _, _| facts.drain = Some(DrainCause::Ordered { since_ms }),
            "the host is draining by an operator's order since 2026-11-30T00:52:20Z: no handler receives until `sandhog drain --end`",
        );
        let facts = StandingFacts {
            now_ms: NOW_MS,
            drain: Some(DrainCause::Ordered { since_ms }),
            queue: Some(QueueFacts::default()),
            ..StandingFacts::default()
        };
        assert_eq!(standstill(&facts), None, "consumers outside go on");
    }

    #[test]
    fn what_is_in_flight_is_told_by_handler_with_the_most_first() {
        assert_eq!(in_flight([("orders", 0)]), "nothing is in flight");
        assert_eq!(
            in_flight([("mail", 1), ("orders", 3)]),
            "4 in flight (orders 3, mail 1)"
        );
        let many = [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1), ("f", 9), ("g", 1)];
        assert_eq!(
            in_flight(many),
            "15 in flight (f 9, a 1, b 1, c 1, d 1, 2 other handlers)"
        );
    }
}
