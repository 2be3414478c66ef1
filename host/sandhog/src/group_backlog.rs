//! The messages that a handler has received and whose guests have not started: messages without a free slot, and messages that
//! wait behind an earlier one of their group.
//!
//! A receive may bring several messages of one group. The first of them is the group's head; the others are its followers, and
//! wait under leases of their own until the message before them is settled. Messages for which no slot is free wait too: large
//! bodies need more calls than the receive reserved slots for, and a new version may allow fewer calls. Nothing is received
//! meanwhile, so the backlog never holds more messages than slots were reserved for.
//!
//! Invariants: a follower starts only after every earlier message of its group was handled; messages that are given back go last
//! first, so that no server hands out a message before an earlier one of its group. The followers of a message that failed are
//! settled in the call that settles the message, before it: whether it failed is known only when the effects of its guest are
//! committed or refused, its retry delay is theirs, and a call of their own would be one more request to a remote queue. So
//! [`GroupBacklog::finished`] hands the followers over to the settlement, and [`GroupBacklog::settled`] takes back the groups
//! that go on.
//!
//! The backlog knows neither queues nor tasks.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use sandhog_queue::{Delivery, lease::Lease};

/// The most messages of other calls that are passed over for one call (1024, as many as a receive returns).
const MOST_PASSED_OVER: usize = 1024;

/// A delivery with its lease.
#[derive(Debug)]
pub struct LeasedDelivery {
    /// The received message.
    pub delivery: Delivery,
    /// The right to settle the delivery.
    pub lease: Lease,
    /// The call of the newest version that broke, if the delivery waits for a second opinion of the predecessor.
    pub first_call: Option<Box<FirstCall>>,
    /// An attempt at the same delivery came before.
    pub is_repeat: bool,
}

/// A call of the newest version that did not handle a message, about which the predecessor is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstCall {
    /// The number of the version.
    pub version: u64,
    /// When the call began.
    pub began: Instant,
    /// The guest broke; otherwise it answered.
    pub broke: bool,
    /// The handler was paused, and the call was to show whether it works again.
    pub is_probe: bool,
    /// The message speaks for its call: it was the first of its batch, so that a call counts once.
    pub counts: bool,
}

/// The earliest message of a group that the handler has, with the later ones; or a message without a group.
#[derive(Debug)]
pub struct GroupHead {
    /// The message whose turn it is.
    pub first: LeasedDelivery,
    /// The messages that wait for it.
    pub followers: Followers,
}

/// Later messages of one group, in order.
#[derive(Debug, Default)]
pub struct Followers(VecDeque<LeasedDelivery>);

/// The bounds of one call of a guest.
#[derive(Debug, Clone, Copy)]
pub struct CallLimits {
    /// The most messages.
    pub messages: usize,
    /// The most bytes that the bodies have together, if there is more than one message.
    pub bytes: usize,
}

/// The messages of one call of a guest.
#[derive(Debug)]
pub struct NextCall {
    /// One message of each group at most, in order.
    pub batch: Vec<LeasedDelivery>,
    /// The number of messages that wait behind those of the batch.
    pub followers: usize,
}

/// The messages of one handler that wait.
#[derive(Debug, Default)]
pub struct GroupBacklog {
    /// Messages for which no slot is free yet, in order.
    waiting: VecDeque<GroupHead>,
    /// The followers of the messages of each attempt that runs, by the attempt's key and in the order of its messages. An
    /// attempt without followers has no entry.
    running: HashMap<u64, Vec<Followers>>,
}

impl Followers {
    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The head of the group after the message before these was handled.
    pub fn into_head(mut self) -> Option<GroupHead> {
        let first = self.0.pop_front()?;
        Some(GroupHead { first, followers: self })
    }

    /// The messages in the order in which they are given back.
    pub fn last_first(self) -> impl Iterator<Item = LeasedDelivery> {
        self.0.into_iter().rev()
    }
}

impl GroupBacklog {
    /// Whether a message waits for a slot.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Adds messages of one receive, in order. If the queue `returns_groups`, a message goes behind an earlier one of its group.
    pub fn received(&mut self, deliveries: impl IntoIterator<Item = LeasedDelivery>, returns_groups: bool) {
        for leased in deliveries {
            let group = leased.delivery.message.group_id.as_ref().filter(|_| returns_groups);
            let head = group.and_then(|group| {
                let mut heads = self.waiting.iter_mut();
                heads.find(|head| head.first.delivery.message.group_id.as_ref() == Some(group))
            });
            match head {
                Some(head) => head.followers.0.push_back(leased),
                None => self.waiting.push_back(GroupHead {
                    first: leased,
                    followers: Followers::default(),
                }),
            }
        }
    }

    /// Returns the first message that waits for a slot.
    pub fn next(&self) -> Option<&LeasedDelivery> {
        self.waiting.front().map(|head| &head.first)
    }

    /// Takes the messages of the next call, for the attempt `key`: the first that waits and those after it, as far as they belong
    /// to the call, and within its limits. A message whose lease is lost never shares a call, since the others would be given
    /// back with it.
    pub fn next_call(
        &mut self,
        key: u64,
        most: CallLimits,
        belongs: impl Fn(&LeasedDelivery) -> bool,
    ) -> Option<NextCall> {
        let heads = self.next_heads(most, belongs)?;
        let followers = heads.iter().map(|head| head.followers.0.len()).sum();
        let mut batch = Vec::with_capacity(heads.len());
        let mut behind = Vec::new();
        for head in heads {
            batch.push(head.first);
            // Most queues hand out no groups.
            if followers > 0 {
                behind.push(head.followers);
            }
        }
        if followers > 0 {
            self.running.insert(key, behind);
        }
        Some(NextCall { batch, followers })
    }

    fn next_heads(&mut self, most: CallLimits, belongs: impl Fn(&LeasedDelivery) -> bool) -> Option<Vec<GroupHead>> {
        let first = self.waiting.pop_front()?;
        let mut bytes_left = most.bytes.saturating_sub(body_size(&first));
        let mut heads = vec![first];
        // The messages of other calls stay where they are.
        let mut index = 0;
        while heads.len() < most.messages && index < MOST_PASSED_OVER && !heads.iter().any(has_lost_lease) {
            let Some(next) = self.waiting.get(index) else {
                break;
            };
            if !belongs(&next.first) {
                index += 1;
                continue;
            }
            if body_size(next) > bytes_left || has_lost_lease(next) {
                break;
            }
            let Some(next) = self.waiting.remove(index) else {
                break;
            };
            bytes_left = bytes_left.saturating_sub(body_size(&next));
            heads.push(next);
        }
        Some(heads)
    }

    /// Hands over the followers of an attempt whose guest is done, in the order of its messages; nothing if no message waits
    /// behind it.
    pub fn finished(&mut self, key: u64) -> Vec<Followers> {
        self.running.remove(&key).unwrap_or_default()
    }

    /// Takes back the groups whose heads were handled. They wait for a slot like all others: the version of now may allow
    /// fewer calls than the one that received them.
    pub fn settled(&mut self, heads: Vec<GroupHead>) {
        self.waiting.extend(heads);
    }

    /// Removes every message that waits for a slot, to be given back: the last one first.
    pub fn take_waiting(&mut self) -> Vec<LeasedDelivery> {
        let mut last_first = Vec::with_capacity(self.waiting.len());
        for head in std::mem::take(&mut self.waiting).into_iter().rev() {
            last_first.extend(head.followers.last_first());
            last_first.push(head.first);
        }
        last_first
    }

    /// Removes every message that waits for a slot and not for a second opinion, to be given back: the last one first.
    pub fn take_undisputed(&mut self) -> Vec<LeasedDelivery> {
        let waiting = std::mem::take(&mut self.waiting);
        let (disputed, others) = waiting.into_iter().partition(|head| head.first.first_call.is_some());
        self.waiting = others;
        let taken = self.take_waiting();
        self.waiting = disputed;
        taken
    }

    /// Removes the followers of every attempt that runs, to be given back: each group by itself, the last message first.
    pub fn take_followers(&mut self) -> Vec<Vec<LeasedDelivery>> {
        let groups = std::mem::take(&mut self.running).into_values().flatten();
        groups
            .filter(|followers| !followers.is_empty())
            .map(|followers| followers.last_first().collect())
            .collect()
    }
}

fn body_size(head: &GroupHead) -> usize {
    head.first.delivery.message.body.len()
}

fn has_lost_lease(head: &GroupHead) -> bool {
    head.first.lease.lost().is_cancelled()
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, sync::Arc, time::Duration};

    use super::*;
    use sandhog_queue::{
        DeliveryLease, Receipt,
        lease::LeaseKeeper,
        message::{Attributes, Message, MessageId, QueueName},
    };
    use sandhog_simple::{SimpleStore, settings::Settings};

    const ALL: usize = usize::MAX;

    fn limits(messages: usize, bytes: usize) -> CallLimits {
        CallLimits { messages, bytes }
    }

    async fn keeper() -> Arc<LeaseKeeper> {
        let name = QueueName::new("orders").unwrap();
        let settings = Settings::defaults(&name);
        let queue = SimpleStore::ephemeral().queue(name, settings).await.unwrap();
        LeaseKeeper::new(queue, Arc::default())
    }

    /// Messages whose ids are these words. The first letter of a word is the message's group, unless the word has one letter.
    fn leased(keeper: &Arc<LeaseKeeper>, ids: &str) -> Vec<LeasedDelivery> {
        let one = |id: &str| {
            let receipt = Receipt::text(id);
            let held = DeliveryLease::Until(Instant::now() + Duration::from_secs(30));
            LeasedDelivery {
                lease: keeper.hold(receipt.clone(), &held),
                first_call: None,
                is_repeat: false,
                delivery: Delivery {
                    message: Message {
                        id: MessageId::from_queue(id),
                        body: "12345678".into(),
                        attributes: Attributes::default(),
                        sent_at_ms: 0,
                        group_id: (id.len() > 1).then(|| id[..1].to_owned()),
                        priority: 0,
                    },
                    receipt,
                    receive_count: NonZeroU32::MIN,
                    lease: held,
                },
            }
        };
        ids.split_whitespace().map(one).collect()
    }

    fn ids(batch: &[LeasedDelivery]) -> Vec<&str> {
        batch.iter().map(|leased| leased.delivery.message.id.as_str()).collect()
    }

    /// A backlog that has received these messages, and the keeper of their leases.
    async fn backlog(ids: &str) -> (GroupBacklog, Arc<LeaseKeeper>) {
        let keeper = keeper().await;
        let mut backlog = GroupBacklog::default();
        backlog.received(leased(&keeper, ids), true);
        (backlog, keeper)
    }

    #[tokio::test]
    async fn a_call_takes_one_message_of_each_group() {
        let (mut backlog, _keeper) = backlog("a1 b1 a2 x a3 b2 y").await;
        let call = backlog.next_call(7, limits(ALL, ALL), |_| true).unwrap();
        assert_eq!(ids(&call.batch), ["a1", "b1", "x", "y"]);
        assert_eq!(call.followers, 3);
        assert!(!backlog.has_waiting());
        assert!(backlog.next_call(8, limits(ALL, ALL), |_| true).is_none());
    }

    #[tokio::test]
    async fn where_a_receive_returns_no_groups_a_group_is_no_reason_to_wait() {
        let keeper = keeper().await;
        let mut backlog = GroupBacklog::default();
        backlog.received(leased(&keeper, "a1 a2"), false);
        let call = backlog.next_call(7, limits(ALL, ALL), |_| true).unwrap();
        assert_eq!((ids(&call.batch), call.followers), (vec!["a1", "a2"], 0));
        assert!(backlog.finished(7).is_empty());
    }

    #[tokio::test]
    async fn a_group_goes_on_in_order_after_its_head_was_handled() {
        let (mut backlog, _keeper) = backlog("a1 a2 a3").await;
        for (key, expected) in [(1, "a1"), (2, "a2"), (3, "a3")] {
            let call = backlog.next_call(key, limits(ALL, ALL), |_| true).unwrap();
            assert_eq!(ids(&call.batch), [expected]);
            assert!(!backlog.has_waiting(), "the later ones wait for {expected}");
            let heads = backlog.finished(key).into_iter().filter_map(Followers::into_head);
            backlog.settled(heads.collect());
        }
        assert!(!backlog.has_waiting());
    }

    #[tokio::test]
    async fn the_followers_of_each_message_are_handed_over_once_in_the_order_of_the_batch() {
        let (mut backlog, _keeper) = backlog("a1 x b1 b2 a2 b3").await;
        backlog.next_call(7, limits(ALL, ALL), |_| true).unwrap();
        let groups: Vec<Vec<_>> = backlog
            .finished(7)
            .into_iter()
            .map(|followers| followers.last_first().collect())
            .collect();
        let groups: Vec<_> = groups.iter().map(|group| ids(group)).collect();
        assert_eq!(groups, [vec!["a2"], vec![], vec!["b3", "b2"]]);
        assert!(backlog.finished(7).is_empty());
        assert!(backlog.take_followers().is_empty());
    }

    #[tokio::test]
    async fn what_waits_for_a_slot_is_given_back_last_first() {
        let (mut backlog, _keeper) = backlog("a1 x a2 b1 a3").await;
        assert_eq!(ids(&backlog.take_waiting()), ["b1", "x", "a3", "a2", "a1"]);
        assert!(!backlog.has_waiting());
    }

    #[tokio::test]
    async fn what_waits_behind_running_attempts_is_given_back_group_by_group() {
        let (mut backlog, _keeper) = backlog("a1 a2 a3 x b1 b2").await;
        backlog.next_call(1, limits(2, ALL), |_| true).unwrap();
        backlog.next_call(2, limits(2, ALL), |_| true).unwrap();
        let mut groups = backlog.take_followers();
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        let groups: Vec<_> = groups.iter().map(|group| ids(group)).collect();
        assert_eq!(groups, [vec!["a3", "a2"], vec!["b2"]]);
        assert!(backlog.finished(1).is_empty());
    }

    #[tokio::test]
    async fn a_call_ends_before_the_message_that_does_not_fit() {
        // Each body has 8 bytes.
        let (mut backlog, _keeper) = backlog("v w x y z").await;
        assert_eq!(
            ids(&backlog.next_call(1, limits(ALL, 23), |_| true).unwrap().batch),
            ["v", "w"]
        );
        assert_eq!(
            ids(&backlog.next_call(2, limits(1, ALL), |_| true).unwrap().batch),
            ["x"]
        );
        assert_eq!(
            ids(&backlog.next_call(3, limits(ALL, 1), |_| true).unwrap().batch),
            ["y"],
            "at least one"
        );
    }

    #[tokio::test]
    async fn a_message_whose_lease_is_lost_never_shares_a_call() {
        let (mut backlog, _keeper) = backlog("v w x").await;
        backlog.waiting[1].first.lease.lost().cancel();
        for (key, expected) in [(1, "v"), (2, "w"), (3, "x")] {
            assert_eq!(
                ids(&backlog.next_call(key, limits(ALL, ALL), |_| true).unwrap().batch),
                [expected]
            );
        }
    }

    /// A call of a version took messages that belonged to the other one.
    #[tokio::test]
    async fn a_call_passes_over_the_messages_of_other_calls_which_keep_their_order() {
        let keeper = keeper().await;
        let mut backlog = GroupBacklog::default();
        backlog.received(leased(&keeper, "v w x y z"), false);
        let belongs = |leased: &LeasedDelivery| ["v", "x", "z"].contains(&leased.delivery.message.id.as_str());
        let call = backlog.next_call(1, limits(2, ALL), belongs).unwrap();
        assert_eq!(ids(&call.batch), ["v", "x"]);
        let call = backlog.next_call(2, limits(ALL, ALL), |_| true).unwrap();
        assert_eq!(ids(&call.batch), ["w", "y", "z"]);
    }
}
