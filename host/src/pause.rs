//! Tells a broken handler, or a dead dependency, from a poison message: when many different messages fail in the
//! same way one after another, the handler is paused and probed, so that a good queue is not drained into the
//! dead letters. Pure; the time is passed in.

use std::{collections::HashSet, time::Duration};

use tokio::time::Instant;

use crate::{executor::Failure, message::MessageId, queue::FailureKind};

/// So many different messages have to fail in the same way, without a success between, to pause a handler.
pub const MESSAGES_TO_PAUSE: usize = 20;
/// The first wait before a probe; it doubles per failed probe.
pub const FIRST_PROBE_AFTER: Duration = Duration::from_secs(1);
/// The longest wait before a probe.
pub const LAST_PROBE_AFTER: Duration = Duration::from_mins(1);

/// The failures of one handler, as far as they matter.
#[derive(Debug, Default)]
pub struct Pause {
    streak: Option<Streak>,
    paused: Option<Probing>,
}

#[derive(Debug)]
struct Streak {
    kind: FailureKind,
    reason: String,
    messages: HashSet<MessageId>,
}

#[derive(Debug)]
struct Probing {
    until: Instant,
    wait: Duration,
}

/// What a recorded attempt changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The handler is paused from now on; the text is the failure that repeats.
    Paused(String),
    /// The handler works again.
    Resumed,
}

impl Pause {
    /// Records a success: it ends a pause.
    pub fn succeeded(&mut self) -> Change {
        self.streak = None;
        if self.paused.take().is_some() {
            Change::Resumed
        } else {
            Change::None
        }
    }

    /// Records a failure.
    ///
    /// A `reject` says that the guest works and the message is bad, so it counts as a success here. Failures that the
    /// guest did not word (a trap, a timeout) are the same if their kind is.
    pub fn failed(&mut self, id: &MessageId, failure: &Failure, now: Instant) -> Change {
        let reason = match failure.kind {
            FailureKind::Reject => return self.succeeded(),
            FailureKind::Retry => failure.reason.as_str(),
            FailureKind::Trap
            | FailureKind::Timeout
            | FailureKind::Memory
            | FailureKind::WrongAnswer
            | FailureKind::HostStopped => "",
        };
        if let Some(probing) = &mut self.paused {
            probing.wait = (probing.wait * 2).min(LAST_PROBE_AFTER);
            probing.until = now + probing.wait;
            return Change::None;
        }
        let streak = self
            .streak
            .take_if(|streak| streak.kind == failure.kind && streak.reason == reason);
        let mut streak = streak.unwrap_or_else(|| Streak {
            kind: failure.kind,
            reason: reason.to_owned(),
            messages: HashSet::new(),
        });
        streak.messages.insert(id.clone());
        let reached = streak.messages.len() >= MESSAGES_TO_PAUSE;
        self.streak = (!reached).then_some(streak);
        if reached {
            self.paused = Some(Probing {
                until: now + FIRST_PROBE_AFTER,
                wait: FIRST_PROBE_AFTER,
            });
            return Change::Paused(format!(
                "{MESSAGES_TO_PAUSE} messages in a row failed with {}: {}",
                failure.kind, failure.reason
            ));
        }
        Change::None
    }

    /// Forgets everything: a new version of the handler starts afresh.
    pub fn reset(&mut self) -> Change {
        self.succeeded()
    }

    /// When the next probe may be received, if the handler is paused. A probe is one message, with nothing else in flight.
    pub fn until(&self) -> Option<Instant> {
        self.paused.as_ref().map(|probing| probing.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: FailureKind, reason: &str) -> Failure {
        Failure {
            kind,
            reason: reason.to_owned(),
            retry_after: None,
            backtrace: None,
        }
    }

    fn fail(pause: &mut Pause, number: usize, failure: &Failure) -> Change {
        pause.failed(&MessageId::from_queue(&number.to_string()), failure, Instant::now())
    }

    #[test]
    fn many_different_messages_that_fail_alike_pause_the_handler() {
        let mut pause = Pause::default();
        let timeout = failure(FailureKind::Timeout, "30 s");
        for number in 1..MESSAGES_TO_PAUSE {
            assert_eq!(fail(&mut pause, number, &timeout), Change::None);
        }
        assert!(matches!(fail(&mut pause, 0, &timeout), Change::Paused(_)));
        assert!(pause.until().is_some());
        assert_eq!(pause.succeeded(), Change::Resumed);
        assert_eq!(pause.until(), None);
    }

    #[test]
    fn one_poison_message_never_pauses_the_handler() {
        let mut pause = Pause::default();
        for _ in 0..10 * MESSAGES_TO_PAUSE {
            assert_eq!(fail(&mut pause, 1, &failure(FailureKind::Trap, "")), Change::None);
        }
    }

    #[test]
    fn different_failures_or_a_success_between_do_not_pause_the_handler() {
        let mut pause = Pause::default();
        for number in 0..10 * MESSAGES_TO_PAUSE {
            let reason = if number.is_multiple_of(2) { "a" } else { "b" };
            assert_eq!(
                fail(&mut pause, number, &failure(FailureKind::Retry, reason)),
                Change::None
            );
        }
        for number in 0..10 * MESSAGES_TO_PAUSE {
            assert_eq!(fail(&mut pause, number, &failure(FailureKind::Trap, "")), Change::None);
            pause.succeeded();
        }
    }

    #[test]
    fn rejected_messages_never_pause_the_handler() {
        let mut pause = Pause::default();
        for number in 0..10 * MESSAGES_TO_PAUSE {
            assert_eq!(
                fail(&mut pause, number, &failure(FailureKind::Reject, "malformed")),
                Change::None
            );
        }
    }

    #[test]
    fn probes_get_rarer_while_they_fail() {
        let mut pause = Pause::default();
        let trap = failure(FailureKind::Trap, "");
        let now = Instant::now();
        for number in 0..MESSAGES_TO_PAUSE {
            pause.failed(&MessageId::from_queue(&number.to_string()), &trap, now);
        }
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.push((pause.until().unwrap() - now).as_secs());
            pause.failed(&MessageId::from_queue("probe"), &trap, now);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
