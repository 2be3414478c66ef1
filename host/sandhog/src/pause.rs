//! Pauses a handler that is broken, or whose dependency is dead. When many different messages fail one after another, the handler
//! is paused and probed with single messages, so that a good queue is not drained into the dead letters. One poison message
//! pauses nothing.
//!
//! Pure; the time is passed in.

use std::{collections::HashSet, time::Duration};

use tokio::time::Instant;

use sandhog_executor::GuestFailure;
use sandhog_queue::{FailureKind, message::MessageId};

/// The number of different messages whose failures without a success between them pause a handler.
pub const MESSAGES_TO_PAUSE: usize = 20;
/// The first wait before a probe; it doubles per failed probe.
pub const FIRST_PROBE_AFTER: Duration = Duration::from_secs(1);
/// The longest wait before a probe.
pub const LAST_PROBE_AFTER: Duration = Duration::from_mins(1);

/// The recent failures of one handler, and its pause.
#[derive(Debug, Default)]
pub struct HandlerPause {
    /// The messages that failed since the last success; at most [`MESSAGES_TO_PAUSE`].
    failed: HashSet<MessageId>,
    /// The next probe, if the handler is paused.
    paused: Option<NextProbe>,
}

#[derive(Debug)]
struct NextProbe {
    at: Instant,
    /// The wait before the probe, which doubles if it fails.
    wait: Duration,
}

/// The change that a recorded outcome made.
#[derive(Debug, PartialEq, Eq)]
pub enum PauseChange {
    /// No change.
    None,
    /// The handler is paused from now on; the text contains the last failure.
    Paused(String),
    /// The handler works again.
    Resumed,
}

impl HandlerPause {
    /// Records a success: it ends a pause.
    pub fn succeeded(&mut self) -> PauseChange {
        self.failed.clear();
        if self.paused.take().is_some() {
            PauseChange::Resumed
        } else {
            PauseChange::None
        }
    }

    /// Records a failure.
    ///
    /// A `reject` says something about the message and nothing about the handler, so it changes nothing: malformed messages
    /// neither pause a handler that works nor hide that a handler is broken.
    pub fn failed(&mut self, id: &MessageId, failure: &GuestFailure, now: Instant) -> PauseChange {
        if failure.kind == FailureKind::Reject {
            return PauseChange::None;
        }
        if self.paused.is_some() {
            return self.probe_failed(now);
        }
        self.failed.insert(id.clone());
        if self.failed.len() < MESSAGES_TO_PAUSE {
            return PauseChange::None;
        }
        self.failed.clear();
        self.paused = Some(NextProbe {
            at: now + FIRST_PROBE_AFTER,
            wait: FIRST_PROBE_AFTER,
        });
        let kind = failure.kind;
        let reason = &failure.reason;
        PauseChange::Paused(format!(
            "{MESSAGES_TO_PAUSE} messages in a row failed, the last with {kind}: {reason}"
        ))
    }

    /// Records that a probe did not show that the handler works again: the next one comes later.
    pub fn probe_failed(&mut self, now: Instant) -> PauseChange {
        // A message that was in flight when the pause began is no probe.
        if let Some(probe) = self.paused.as_mut().filter(|probe| now >= probe.at) {
            probe.wait = (probe.wait * 2).min(LAST_PROBE_AFTER);
            probe.at = now + probe.wait;
        }
        PauseChange::None
    }

    /// Forgets all failures and ends a pause: a new version of the handler starts afresh.
    pub fn reset(&mut self) -> PauseChange {
        self.succeeded()
    }

    /// Returns the time of the next probe, if the handler is paused. A probe is one message, with no other one in flight.
    pub fn until(&self) -> Option<Instant> {
        self.paused.as_ref().map(|probe| probe.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: FailureKind, reason: &str) -> GuestFailure {
        GuestFailure {
            kind,
            reason: reason.to_owned(),
            retry_after: None,
            stack: None,
        }
    }

    fn fail(pause: &mut HandlerPause, number: usize, failure: &GuestFailure) -> PauseChange {
        pause.failed(&MessageId::from_queue(&number.to_string()), failure, Instant::now())
    }

    #[test]
    fn many_different_messages_that_fail_alike_pause_the_handler() {
        let mut pause = HandlerPause::default();
        let timeout = failure(FailureKind::Timeout, "30 s");
        for number in 1..MESSAGES_TO_PAUSE {
            assert_eq!(fail(&mut pause, number, &timeout), PauseChange::None);
        }
        assert!(matches!(fail(&mut pause, 0, &timeout), PauseChange::Paused(_)));
        assert!(pause.until().is_some());
        assert_eq!(pause.succeeded(), PauseChange::Resumed);
        assert_eq!(pause.until(), None);
    }

    #[test]
    fn one_poison_message_never_pauses_the_handler() {
        let mut pause = HandlerPause::default();
        for _ in 0..10 * MESSAGES_TO_PAUSE {
            assert_eq!(fail(&mut pause, 1, &failure(FailureKind::Trap, "")), PauseChange::None);
        }
    }

    #[test]
    fn a_success_between_keeps_the_handler_running() {
        let mut pause = HandlerPause::default();
        for number in 0..10 * MESSAGES_TO_PAUSE {
            assert_eq!(
                fail(&mut pause, number, &failure(FailureKind::Trap, "")),
                PauseChange::None
            );
            pause.succeeded();
        }
    }

    #[test]
    fn rejected_messages_between_do_not_hide_a_broken_handler() {
        let mut pause = HandlerPause::default();
        let mut paused = false;
        for number in 0..2 * MESSAGES_TO_PAUSE {
            let kind = if number.is_multiple_of(2) {
                FailureKind::Reject
            } else {
                FailureKind::Retry
            };
            paused |= fail(&mut pause, number, &failure(kind, &number.to_string())) != PauseChange::None;
        }
        assert!(paused);
    }

    #[test]
    fn what_was_in_flight_when_the_pause_began_does_not_lengthen_it() {
        let mut pause = HandlerPause::default();
        let now = Instant::now();
        for number in 0..3 * MESSAGES_TO_PAUSE {
            pause.failed(
                &MessageId::from_queue(&number.to_string()),
                &failure(FailureKind::Trap, ""),
                now,
            );
        }
        assert_eq!(pause.until(), Some(now + FIRST_PROBE_AFTER));
    }

    #[test]
    fn rejected_messages_never_pause_the_handler() {
        let mut pause = HandlerPause::default();
        for number in 0..10 * MESSAGES_TO_PAUSE {
            assert_eq!(
                fail(&mut pause, number, &failure(FailureKind::Reject, "malformed")),
                PauseChange::None
            );
        }
    }

    #[test]
    fn probes_get_rarer_while_they_fail() {
        let mut pause = HandlerPause::default();
        let trap = failure(FailureKind::Trap, "");
        let mut now = Instant::now();
        for number in 0..MESSAGES_TO_PAUSE {
            pause.failed(&MessageId::from_queue(&number.to_string()), &trap, now);
        }
        let mut waits = Vec::new();
        for _ in 0..8 {
            let until = pause.until().unwrap();
            waits.push((until - now).as_secs());
            now = until;
            pause.failed(&MessageId::from_queue("probe"), &trap, now);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
