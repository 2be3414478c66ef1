//! The table of settlements: the outcome of an attempt decides how a delivery is settled.
//!
//! The table is pure and total. It settles every message of an attempt, and every message that waits behind one of them; a
//! message whose attempt never started is released. The queue adds the rows that it decides by itself: a message that fails
//! with its last receive, or was received as often as it may be, becomes a dead letter, and a queue that can take a receive back
//! does so on a release. Where the queue keeps no failure with a message, the table makes a dead letter of the last failure,
//! while its reason is known.

use std::num::NonZeroU32;

use crate::{
    backoff::Backoff,
    rollout::{SecondOpinions, is_break},
};
use sandhog_executor::GuestFailure;
use sandhog_queue::{FailureKind, FailureRecord, Settlement};

/// The outcome of an attempt for one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The guest handled the message.
    Success,
    /// This host handled the message before, and its deletion was lost: the guest did not run again.
    AlreadyHandled,
    /// The guest said that it did not handle the message, or broke, or ran into a limit.
    Failed(GuestFailure),
    /// The guest did not handle the message, and the predecessor of its version is asked under the same lease.
    Disputed(GuestFailure),
    /// The guest handled the message, and nothing of it happened, because another attempt was first to change a value that this
    /// one had compared; the text names the key.
    Conflict(String),
    /// The host could not run the guest to its end; the text says why.
    HostFault(String),
    /// The host ended the attempt because it stops.
    Interrupted,
    /// The message became visible to other consumers while the guest ran.
    LeaseLost,
}

impl AttemptOutcome {
    /// Returns the outcome of an attempt after which the predecessor is asked about these failures. `is_last` says that the message
    /// would become a dead letter.
    #[must_use]
    pub fn with_second_opinion(self, opinions: SecondOpinions, is_last: bool) -> Self {
        match self {
            Self::Failed(failure) if opinions.ask_about(failure.kind, is_last) => Self::Disputed(failure),
            outcome => outcome,
        }
    }

    /// Whether the guest broke, or ran into a limit.
    pub fn is_break(&self) -> bool {
        match self {
            Self::Failed(failure) | Self::Disputed(failure) => is_break(failure.kind),
            Self::Success
            | Self::AlreadyHandled
            | Self::Conflict(_)
            | Self::HostFault(_)
            | Self::Interrupted
            | Self::LeaseLost => false,
        }
    }

    /// Whether the message was handled, now or before.
    pub fn is_handled(&self) -> bool {
        matches!(self, Self::Success | Self::AlreadyHandled)
    }

    /// The word in metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::AlreadyHandled => "already-handled",
            Self::Failed(failure) | Self::Disputed(failure) => failure.kind.as_str(),
            Self::Conflict(_) => "conflict",
            Self::HostFault(_) => "host-fault",
            Self::Interrupted => "interrupted",
            Self::LeaseLost => "lease-lost",
        }
    }
}

/// What the table depends on besides the outcome.
#[derive(Debug, Clone, Copy)]
pub struct SettlementPolicy<'a> {
    /// The wait before a retry.
    pub backoff: Backoff,
    /// Whether the queue has a place for a dead letter.
    pub has_dead_letter_queue: bool,
    /// The number of receives after which a failed message becomes a dead letter; `None` if the queue counts by itself.
    pub max_receives: Option<NonZeroU32>,
    /// Whether a receive counts although its message was released.
    pub counts_releases: bool,
    /// The name of the handler, for the failure record.
    pub handler: &'a str,
    /// The digest of the component, for the failure record.
    pub component: &'a str,
}

impl SettlementPolicy<'_> {
    fn record(&self, kind: FailureKind, reason: &str) -> FailureRecord {
        FailureRecord {
            kind,
            reason: reason.to_owned(),
            handler: self.handler.to_owned(),
            component: self.component.to_owned(),
        }
    }
}

/// Returns how to settle a delivery, or `None` if it must not be settled: another consumer may hold the message, or the next attempt
/// of the same delivery settles it.
/// `random` is uniform in 0 ..= 1.
pub fn settlement(
    outcome: &AttemptOutcome,
    receive_count: NonZeroU32,
    policy: &SettlementPolicy<'_>,
    random: f64,
) -> Option<Settlement> {
    let failure = match outcome {
        AttemptOutcome::Success | AttemptOutcome::AlreadyHandled => return Some(Settlement::Delete),
        // A released message would be received again at once, and become a dead letter before the fault is over.
        AttemptOutcome::HostFault(reason) if policy.counts_releases => {
            return Some(Settlement::Retry {
                delay: policy.backoff.delay(receive_count, random),
                failure: policy.record(FailureKind::HostStopped, reason),
            });
        }
        AttemptOutcome::HostFault(_) | AttemptOutcome::Interrupted => return Some(Settlement::Release),
        AttemptOutcome::Conflict(_) | AttemptOutcome::Disputed(_) | AttemptOutcome::LeaseLost => return None,
        AttemptOutcome::Failed(failure) => failure,
    };
    let record = policy.record(failure.kind, &failure.reason);
    let exhausted = policy.max_receives.is_some_and(|max| receive_count >= max);
    if exhausted || failure.kind == FailureKind::Reject {
        // A message without a dead-letter queue is never deleted: it stays, and comes back as rarely as possible.
        return Some(if policy.has_dead_letter_queue {
            Settlement::DeadLetter { failure: record }
        } else {
            Settlement::Retry {
                delay: policy.backoff.max(),
                failure: record,
            }
        });
    }
    let delay = failure
        .retry_after
        .unwrap_or_else(|| policy.backoff.delay(receive_count, random));
    Some(Settlement::Retry { delay, failure: record })
}

/// Returns how to settle the messages that wait behind one of their group, which is settled by `head`. They come back with it:
/// messages that are released at once have to wait for it all the same, and not every server makes them. Handled messages have
/// no followers to settle: the next of them takes its turn.
pub fn follower_settlement(head: &Settlement) -> Settlement {
    match head {
        Settlement::Retry { .. } => head.clone(),
        Settlement::Delete | Settlement::DeadLetter { .. } | Settlement::Release => Settlement::Release,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn failed(kind: FailureKind) -> AttemptOutcome {
        AttemptOutcome::Failed(GuestFailure {
            kind,
            reason: "why".to_owned(),
            retry_after: None,
            stack: None,
        })
    }

    fn record(kind: FailureKind) -> FailureRecord {
        FailureRecord {
            kind,
            reason: "why".to_owned(),
            handler: "h".to_owned(),
            component: "c".to_owned(),
        }
    }

    fn check(outcome: &AttemptOutcome, has_dead_letter_queue: bool, expected: Option<&Settlement>) {
        check_counted(outcome, has_dead_letter_queue, None, expected);
    }

    fn check_counted(
        outcome: &AttemptOutcome,
        has_dead_letter_queue: bool,
        max_receives: Option<NonZeroU32>,
        expected: Option<&Settlement>,
    ) {
        let policy = SettlementPolicy {
            backoff: Backoff::new(SECOND, 60 * SECOND),
            has_dead_letter_queue,
            max_receives,
            counts_releases: false,
            handler: "h",
            component: "c",
        };
        let second = NonZeroU32::new(2).unwrap();
        let settled = settlement(outcome, second, &policy, 1.0);
        assert_eq!(settled.as_ref(), expected, "{outcome:?}");
    }

    #[test]
    fn success_deletes_the_message() {
        check(&AttemptOutcome::Success, true, Some(&Settlement::Delete));
    }

    #[test]
    fn a_message_handled_before_is_deleted() {
        check(&AttemptOutcome::AlreadyHandled, true, Some(&Settlement::Delete));
    }

    #[test]
    fn where_the_queue_does_not_count_the_last_failure_makes_a_dead_letter_of_it() {
        for kind in [FailureKind::Retry, FailureKind::Trap, FailureKind::Timeout] {
            let dead = Settlement::DeadLetter { failure: record(kind) };
            let retry = Settlement::Retry {
                delay: 4 * SECOND,
                failure: record(kind),
            };
            // The delivery is the second.
            check_counted(&failed(kind), true, NonZeroU32::new(2), Some(&dead));
            check_counted(&failed(kind), true, NonZeroU32::new(3), Some(&retry));
            let rare = Settlement::Retry {
                delay: 60 * SECOND,
                failure: record(kind),
            };
            check_counted(&failed(kind), false, NonZeroU32::new(2), Some(&rare));
        }
        check_counted(
            &AttemptOutcome::Interrupted,
            true,
            NonZeroU32::new(1),
            Some(&Settlement::Release),
        );
    }

    #[test]
    fn retry_makes_it_visible_again_after_the_backoff_of_its_receive_count() {
        let kind = FailureKind::Retry;
        check(
            &failed(kind),
            true,
            Some(&Settlement::Retry {
                delay: 4 * SECOND,
                failure: record(kind),
            }),
        );
    }

    #[test]
    fn retry_after_makes_it_visible_again_after_the_seconds_asked_for() {
        let kind = FailureKind::Retry;
        let AttemptOutcome::Failed(failure) = failed(kind) else {
            unreachable!()
        };
        let outcome = AttemptOutcome::Failed(GuestFailure {
            retry_after: Some(Duration::ZERO),
            ..failure
        });
        check(
            &outcome,
            true,
            Some(&Settlement::Retry {
                delay: Duration::ZERO,
                failure: record(kind),
            }),
        );
    }

    #[test]
    fn reject_makes_it_a_dead_letter_at_once() {
        let kind = FailureKind::Reject;
        check(
            &failed(kind),
            true,
            Some(&Settlement::DeadLetter { failure: record(kind) }),
        );
    }

    #[test]
    fn reject_without_a_dead_letter_queue_leaves_it_with_the_longest_backoff() {
        let kind = FailureKind::Reject;
        check(
            &failed(kind),
            false,
            Some(&Settlement::Retry {
                delay: 60 * SECOND,
                failure: record(kind),
            }),
        );
    }

    #[test]
    fn a_guest_that_broke_is_retried_as_if_it_had_asked_for_it() {
        for kind in [
            FailureKind::Trap,
            FailureKind::Timeout,
            FailureKind::Memory,
            FailureKind::WrongAnswer,
        ] {
            check(
                &failed(kind),
                true,
                Some(&Settlement::Retry {
                    delay: 4 * SECOND,
                    failure: record(kind),
                }),
            );
        }
    }

    #[test]
    fn the_hosts_own_fault_releases_it() {
        check(
            &AttemptOutcome::HostFault("no instance is free".to_owned()),
            true,
            Some(&Settlement::Release),
        );
    }

    #[test]
    fn where_a_release_counts_the_hosts_own_fault_waits_for_its_backoff() {
        let policy = SettlementPolicy {
            backoff: Backoff::new(SECOND, 60 * SECOND),
            has_dead_letter_queue: true,
            max_receives: NonZeroU32::new(1),
            counts_releases: true,
            handler: "h",
            component: "c",
        };
        let fault = AttemptOutcome::HostFault("no instance is free".to_owned());
        let settled = settlement(&fault, NonZeroU32::MIN, &policy, 1.0);
        assert!(
            matches!(settled, Some(Settlement::Retry { delay, .. }) if delay == 2 * SECOND),
            "{settled:?}"
        );
    }

    #[test]
    fn a_conflict_settles_nothing_however_often_it_happens() {
        let conflict = AttemptOutcome::Conflict("why".to_owned());
        check_counted(&conflict, true, NonZeroU32::new(1), None);
    }

    #[test]
    fn an_attempt_interrupted_by_shutdown_releases_it() {
        check(&AttemptOutcome::Interrupted, true, Some(&Settlement::Release));
    }

    #[test]
    fn a_lost_lease_settles_nothing() {
        check(&AttemptOutcome::LeaseLost, true, None);
    }

    #[test]
    fn followers_come_back_with_a_message_that_is_retried() {
        let retry = Settlement::Retry {
            delay: SECOND,
            failure: record(FailureKind::Retry),
        };
        assert_eq!(follower_settlement(&retry), retry);
        let dead = Settlement::DeadLetter {
            failure: record(FailureKind::Reject),
        };
        assert_eq!(follower_settlement(&dead), Settlement::Release);
        assert_eq!(follower_settlement(&Settlement::Release), Settlement::Release);
    }
}
