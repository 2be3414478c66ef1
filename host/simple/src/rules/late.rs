//! Receipts whose visibility timeout ran out, for consumers to whom the queue promises more than the contract does.
//!
//! A standard queue of SQS takes a receipt until its message is received again: `DeleteMessage` and `ChangeMessageVisibility`
//! work although the message is visible by then. Handlers of the host never get that: their lease ends with its deadline.

use std::time::Duration;

use super::{
    super::{
        clock::StoreTime,
        row::{HandedOut, MessageState, QueueKey, StoreFault},
    },
    StoreRules,
};
use sandhog_queue::{Receipt, message::MAX_DELAY};

/// Longer than the command takes whose receipts are revived.
const REVIVED: Duration = Duration::from_secs(1);

impl StoreRules {
    /// Takes the messages back into flight that were received with these receipts, became visible, and have not been received again.
    /// A message in a group stays where it is: another one may lead the group by now. They are with a receiver outside of the host from
    /// then on: only such receivers use receipts late.
    pub(crate) fn revive(&mut self, key: QueueKey, receipts: &[Receipt], now: StoreTime) -> Result<(), StoreFault> {
        for receipt in receipts {
            // The passes that end visibility timeouts are bounded, and may not have come to this one.
            if let Some(overdue) = self.in_flight.overdue(receipt, now.instant).cloned() {
                self.end_expired(overdue)?;
            }
            if let Some(lapsed) = self.in_flight.lapsed(receipt)
                && let Some(mut meta) = self.rows.meta(lapsed.seq)?
                && meta.queue == key
                && meta.state == MessageState::Ready
                && meta.group.is_none()
                && !self.is_aged(&meta, now)
            {
                self.queue_mut(key)
                    .tally
                    .move_between(meta.state, MessageState::InFlight);
                meta.state = MessageState::InFlight;
                meta.visible_at_ms = HandedOut::Outside.number();
                self.rows.take(&meta)?;
                self.in_flight.revive(lapsed, meta, now.instant + REVIVED);
            }
        }
        Ok(())
    }

    /// Returns the receipt that counts now in the place of this one: where the message was received again, that of its last receive, if
    /// it was one outside of the host.
    pub(crate) fn successor(&self, key: QueueKey, receipt: Receipt) -> Receipt {
        let later = receipt.as_numbered().and_then(|(seq, number)| {
            let delivery = self.in_flight.get(seq)?;
            let is_later = delivery.number > number && delivery.meta.queue == key && delivery.meta.is_outside();
            is_later.then(|| Receipt::numbered(seq, delivery.number))
        });
        later.unwrap_or(receipt)
    }

    /// Returns whether an extension would let a receiver have its message for longer than it may. What is less than a second does not
    /// count, so that the longest extension works at once after the receive.
    pub(crate) fn would_hold_too_long(&self, receipt: &Receipt, by: Duration, now: StoreTime) -> bool {
        let delivery = self.in_flight.valid(receipt, now.instant);
        delivery.is_some_and(|delivery| {
            let held = now.instant.saturating_duration_since(delivery.received);
            held.as_secs() + by.as_secs() > MAX_DELAY.as_secs()
        })
    }

    /// Returns for how long the receiver of a valid receipt has had its message.
    pub(crate) fn held_for(&self, key: QueueKey, receipt: &Receipt, now: StoreTime) -> Option<Duration> {
        let delivery = self.in_flight.valid(receipt, now.instant)?;
        (delivery.meta.queue == key).then(|| now.instant.saturating_duration_since(delivery.received))
    }

    /// Returns whether the message of a receipt is in the queue, whoever has it.
    pub(crate) fn has_message_of(&mut self, key: QueueKey, receipt: &Receipt) -> Result<bool, StoreFault> {
        let Some((seq, _)) = receipt.as_numbered() else {
            return Ok(false);
        };
        Ok(self.rows.meta(seq)?.is_some_and(|meta| meta.queue == key))
    }
}
