//! Decides when a handler asks its queue for messages, and for how many.
//!
//! Invariant: a receive asks for no more messages than there are free slots, and for no more than the queue returns. The plan is
//! pure: the time is passed in, and [`Poller`](super::Poller) makes the receives.

use std::time::Duration;

use tokio::time::Instant;

use super::ReceiveDecision;
use sandhog_queue::QueueCapabilities;

/// The time for which free slots of a busy handler are collected, so that one request fills several.
const COLLECT_SLOTS: Duration = Duration::from_millis(20);
/// The part of the free slots that one receive may fill with messages of one group, which run one after another.
const PART_OF_A_GROUP: usize = 4;
/// After a failure, messages of groups are received one at a time until so long after the failed message is back.
const CAREFUL_FOR: Duration = Duration::from_secs(20);

/// The receives of one handler, as far as the next one depends on them.
#[derive(Debug, Default)]
pub(crate) struct ReceivePlan {
    under_way: usize,
    /// The last receive that ended brought as much as a queue with more messages brings.
    busy: bool,
    /// The time from which free slots are collected.
    short_since: Option<Instant>,
    careful_until: Option<Instant>,
}

impl ReceivePlan {
    /// Decides on slots for `free` more messages (1 or more) of `all`.
    pub(crate) fn next(
        &mut self,
        capabilities: QueueCapabilities,
        free: usize,
        all: usize,
        now: Instant,
    ) -> ReceiveDecision {
        let is_idle = self.under_way == 0;
        let may_have_more = self.busy && capabilities.calls_cost;
        if !is_idle && !may_have_more {
            return ReceiveDecision::Enough;
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
        if capabilities.calls_cost && free < enough && (self.busy || !is_idle) {
            let since = *self.short_since.get_or_insert(now);
            if !is_idle {
                return ReceiveDecision::Enough;
            }
            if now < since + COLLECT_SLOTS {
                return ReceiveDecision::At(since + COLLECT_SLOTS);
            }
        }
        ReceiveDecision::Ask(ask)
    }

    /// Records that a receive is under way.
    pub(crate) fn started(&mut self) {
        self.under_way += 1;
        self.short_since = None;
    }

    /// Records that a receive brought `came` of the messages that it asked for.
    pub(crate) fn ended(&mut self, asked: usize, came: usize) {
        self.under_way -= 1;
        // Half of what was asked for is a sign of more: a queue in many parts does not look into all of them each time.
        self.busy = came > 0 && came >= asked.div_ceil(2);
    }

    /// Records that the receives under way were dropped. A wait for a failed message goes on.
    pub(crate) fn cleared(&mut self) {
        *self = Self {
            careful_until: self.careful_until,
            ..Self::default()
        };
    }

    /// Records that a message failed, and comes back after `back_in` at the latest. The messages of its group that were received
    /// with it spent a receive in vain; until it is back they are not received again and again with it.
    pub(crate) fn be_careful(&mut self, back_in: Duration, now: Instant) {
        self.careful_until = self.careful_until.max(Some(now + back_in + CAREFUL_FOR));
    }
}

#[cfg(test)]
mod tests {
    use super::{
        ReceiveDecision::{Ask, At, Enough},
        *,
    };

    const SECOND: Duration = Duration::from_secs(1);
    const REMOTE: QueueCapabilities = QueueCapabilities {
        receive_limit: 10,
        calls_cost: true,
        ..QueueCapabilities::LOCAL
    };
    const GROUPS: QueueCapabilities = QueueCapabilities {
        returns_groups: true,
        ..REMOTE
    };

    /// A plan after one receive that brought `came` of the messages that it asked for.
    fn after(asked: usize, came: usize) -> ReceivePlan {
        let mut plan = ReceivePlan::default();
        plan.started();
        plan.ended(asked, came);
        plan
    }

    /// What a plan without a receive under way asks for at once.
    fn check(capabilities: QueueCapabilities, free: usize, expected: usize) {
        let decision = ReceivePlan::default().next(capabilities, free, 100, Instant::now());
        assert_eq!(decision, Ask(expected), "{free} free slots");
    }

    #[test]
    fn a_receive_fills_the_free_slots_up_to_the_limit_of_the_queue() {
        check(REMOTE, 1, 1);
        check(REMOTE, 9, 9);
        check(REMOTE, 10, 10);
        check(REMOTE, 64, 10);
        check(QueueCapabilities::LOCAL, 64, 64);
        check(QueueCapabilities::LOCAL, 5000, 1000);
    }

    #[test]
    fn a_receive_leaves_most_slots_to_other_groups() {
        check(GROUPS, 1, 1);
        check(GROUPS, 7, 1);
        check(GROUPS, 8, 2);
        check(GROUPS, 64, 10);
    }

    #[test]
    fn a_queue_in_this_process_has_one_receive_under_way_however_busy() {
        let mut plan = after(10, 10);
        plan.started();
        assert_eq!(plan.next(QueueCapabilities::LOCAL, 64, 64, Instant::now()), Enough);
    }

    #[test]
    fn a_busy_remote_queue_has_as_many_receives_as_the_slots_are_worth() {
        let now = Instant::now();
        let mut plan = after(10, 10);
        for free in [64, 54, 44, 34, 24, 14] {
            assert_eq!(plan.next(REMOTE, free, 64, now), Ask(10));
            plan.started();
        }
        assert_eq!(plan.next(REMOTE, 4, 64, now), Enough);
    }

    #[test]
    fn half_of_what_was_asked_for_shows_that_a_queue_is_busy() {
        for (asked, came, busy) in [
            (10, 5, true),
            (10, 4, false),
            (1, 1, true),
            (1, 0, false),
            (3, 1, false),
        ] {
            let mut plan = after(asked, came);
            plan.started();
            let expected = if busy { Ask(10) } else { Enough };
            let decision = plan.next(REMOTE, 64, 64, Instant::now());
            assert_eq!(decision, expected, "{came} of {asked}");
        }
    }

    #[test]
    fn a_busy_handler_collects_free_slots_for_a_moment_that_begins_once() {
        let now = Instant::now();
        let mut plan = after(10, 10);
        let at = now + COLLECT_SLOTS;
        assert_eq!(plan.next(REMOTE, 1, 20, now), At(at));
        assert_eq!(plan.next(REMOTE, 2, 20, now + COLLECT_SLOTS / 2), At(at));
        assert_eq!(plan.next(REMOTE, 3, 20, at), Ask(3));
        plan.started();
        plan.ended(3, 3);
        assert_eq!(
            plan.next(REMOTE, 1, 20, at),
            At(at + COLLECT_SLOTS),
            "the next moment is another one"
        );
    }

    #[test]
    fn half_of_the_slots_are_worth_a_request_at_once() {
        let now = Instant::now();
        assert!(matches!(after(10, 10).next(REMOTE, 1, 4, now), At(_)));
        assert_eq!(after(10, 10).next(REMOTE, 2, 4, now), Ask(2));
        assert_eq!(after(10, 10).next(REMOTE, 1, 1, now), Ask(1));
        assert!(matches!(after(10, 10).next(REMOTE, 9, 200, now), At(_)));
        assert_eq!(
            after(10, 10).next(REMOTE, 10, 200, now),
            Ask(10),
            "as many as one receive returns"
        );
    }

    #[test]
    fn an_idle_queue_is_asked_for_a_single_message_at_once() {
        assert_eq!(after(10, 0).next(REMOTE, 1, 64, Instant::now()), Ask(1));
    }

    #[test]
    fn after_a_failure_messages_of_groups_come_one_at_a_time_until_the_message_is_back_for_a_while() {
        let now = Instant::now();
        let mut plan = ReceivePlan::default();
        plan.be_careful(5 * SECOND, now);
        plan.be_careful(SECOND, now);
        let end = now + 5 * SECOND + CAREFUL_FOR;
        assert_eq!(plan.next(GROUPS, 16, 16, now), Ask(1));
        assert_eq!(
            plan.next(GROUPS, 16, 16, end - SECOND),
            Ask(1),
            "the longer wait counts"
        );
        assert_eq!(plan.next(GROUPS, 16, 16, end), Ask(4));
    }

    #[test]
    fn dropped_receives_leave_nothing_but_the_wait_for_a_failed_message() {
        let now = Instant::now();
        let mut plan = after(10, 10);
        plan.started();
        plan.be_careful(SECOND, now);
        plan.cleared();
        assert_eq!(plan.next(REMOTE, 1, 64, now), Ask(1), "neither under way nor busy");
        assert_eq!(plan.next(GROUPS, 16, 16, now), Ask(1), "still careful");
    }
}
