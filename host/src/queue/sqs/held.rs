//! What this host holds of a queue: the deliveries that were handed out and neither settled nor dropped.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{failure::whole_seconds, form::Content};
use crate::{
    message::{MAX_DELAY, MessageId},
    queue::Receipt,
};

/// The receipt handles of all deliveries that are held.
#[derive(Debug, Default)]
pub(super) struct Held {
    // Never held across an await.
    handles: Mutex<Handles>,
}

#[derive(Debug, Default)]
struct Handles {
    next: u64,
    numbers: HashMap<Arc<str>, u64>,
}

impl Held {
    /// Holds a delivery, unless this very one is held already.
    pub(super) fn hold(self: &Arc<Self>, handle: &str) -> Option<Hold> {
        let mut handles = self.handles();
        if handles.numbers.contains_key(handle) {
            return None;
        }
        let number = handles.next;
        handles.next += 1;
        let handle: Arc<str> = handle.into();
        handles.numbers.insert(Arc::clone(&handle), number);
        drop(handles);
        Some(Hold {
            held: Arc::clone(self),
            handle,
            number,
        })
    }

    /// How many deliveries are held.
    pub(super) fn count(&self) -> usize {
        self.handles().numbers.len()
    }

    fn handles(&self) -> MutexGuard<'_, Handles> {
        // Every change is complete before the lock is given up.
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry of one delivery among those that are held. It goes when the delivery ends, or with the last receipt.
#[derive(Debug)]
pub(super) struct Hold {
    held: Arc<Held>,
    handle: Arc<str>,
    number: u64,
}

impl Hold {
    fn end(&self) {
        let mut handles = self.held.handles();
        // A server may hand the same handle out again after a release: that one is not ours to end.
        if handles.numbers.get(&self.handle) == Some(&self.number) {
            handles.numbers.remove(&self.handle);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.end();
    }
}

/// What is kept with a receipt: enough to make a dead letter of the message as it was received.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) id: MessageId,
    pub(super) content: Content,
    pub(super) sent_at_ms: u64,
    pub(super) receive_count: u32,
    received_at: Instant,
    /// It lies in the dead-letter queue already, and only remains to be deleted.
    buried: AtomicBool,
    hold: Hold,
}

impl Kept {
    /// Of a message that was asked for at `received_at`.
    pub(super) fn new(
        id: MessageId,
        content: Content,
        (sent_at_ms, receive_count): (u64, u32),
        (received_at, hold): (Instant, Hold),
    ) -> Self {
        Self {
            id,
            content,
            sent_at_ms,
            receive_count,
            received_at,
            buried: AtomicBool::new(false),
            hold,
        }
    }

    pub(super) fn of(receipt: &Receipt) -> Option<&Self> {
        receipt.kept()
    }

    /// The delivery has ended, whoever still has its receipt.
    pub(super) fn settled(&self) {
        self.hold.end();
    }

    pub(super) fn is_buried(&self) -> bool {
        self.buried.load(Ordering::Acquire)
    }

    pub(super) fn buried(&self) {
        self.buried.store(true, Ordering::Release);
    }
}

/// For how many more seconds a delivery may be hidden at all. SQS counts twelve hours from its receive; a second less is
/// left to the clocks. What was received in another life of the process is taken to be new.
pub(super) fn seconds_left(receipt: &Receipt) -> u64 {
    let elapsed = Kept::of(receipt).map_or(Duration::ZERO, |kept| kept.received_at.elapsed());
    MAX_DELAY
        .as_secs()
        .saturating_sub(1)
        .saturating_sub(whole_seconds(elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_held_until_it_ends_or_is_dropped() {
        let held = Arc::new(Held::default());
        let (a, b) = (held.hold("a").unwrap(), held.hold("b").unwrap());
        assert!(held.hold("a").is_none());
        assert_eq!(held.count(), 2);
        a.end();
        let again = held.hold("a").unwrap();
        drop(a);
        assert_eq!(held.count(), 2);
        drop((again, b));
        assert_eq!(held.count(), 0);
    }
}
