//! Messages that were received, and for which no slot is free yet.
//!
//! A receive of a batch handler reserves slots for whole batches. Bodies that are too large for one batch need more calls than
//! that, and a new version may allow fewer. What is left over waits here, in order and under its leases, and is cut into calls
//! only when a slot is free. Nothing is received meanwhile, so it is never more than what the slots were reserved for.

use std::collections::VecDeque;

use crate::attempt::{Leased, Line};

/// The first message of each group, with the later ones behind it; and every message without a group.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    heads: VecDeque<Leased>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Adds messages in order. With `groups`, a later message of a group goes behind the first one.
    pub(super) fn add(&mut self, deliveries: impl Iterator<Item = Leased>, groups: bool) {
        for each in deliveries {
            let group = each.delivery.message.group_id.as_ref().filter(|_| groups);
            let head = group.and_then(|group| {
                let mut heads = self.heads.iter_mut();
                heads.find(|head| head.delivery.message.group_id.as_ref() == Some(group))
            });
            match head {
                Some(head) => head.followers.push_back(each),
                None => self.heads.push_back(each),
            }
        }
    }

    /// The messages of the next call: the first one, and those after it, up to `most` messages of so many bytes together. A
    /// message whose lease is lost never shares a call, since the others would be given back with it.
    pub(super) fn next_batch(&mut self, most: usize, bytes: usize) -> Option<Vec<Leased>> {
        let first = self.heads.pop_front()?;
        let mut left = bytes.saturating_sub(size(&first));
        let mut batch = vec![first];
        let is_lost = |each: &Leased| each.lease.lost().is_cancelled();
        while batch.len() < most && !batch.iter().any(is_lost) {
            let fits = self
                .heads
                .front()
                .is_some_and(|next| size(next) <= left && !is_lost(next));
            let Some(next) = self.heads.pop_front_if(|_| fits) else {
                break;
            };
            left = left.saturating_sub(size(&next));
            batch.push(next);
        }
        Some(batch)
    }

    /// Everything, in order.
    pub(super) fn take(&mut self) -> Line {
        let mut all = Line::new();
        for mut head in std::mem::take(&mut self.heads) {
            let followers = std::mem::take(&mut head.followers);
            all.push_back(head);
            all.extend(followers);
        }
        all
    }
}

fn size(each: &Leased) -> usize {
    each.delivery.message.body.len()
}
