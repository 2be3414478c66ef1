//! Instances that have answered and wait for their next message, for handlers that are told to reuse them.
//!
//! An idle instance keeps its room (memory and slots of the pool), but never from anybody who waits for room: it is given up
//! then, the oldest first. It is also given up when it has been idle for as long as its handler's manifest says, and with
//! its component.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

use super::{admission::Permits, instance::Running};

/// A component, for as long as it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ComponentId(u64);

impl ComponentId {
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// All idle instances of an executor.
#[derive(Default)]
pub(super) struct IdleInstances {
    /// The one that became idle last is at the end.
    kept: Mutex<VecDeque<Idle>>,
    /// How many there are, to look without the lock.
    count: AtomicUsize,
    waiting: AtomicUsize,
    changed: Notify,
}

struct Idle {
    component: ComponentId,
    until: Instant,
    // Dropped in this order: the room is free when the instance is gone.
    running: Box<Running>,
    permits: Permits,
}

impl IdleInstances {
    fn kept(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an instance for so long. Whoever waits takes it, if it is of his component, or gives it up for its room.
    pub(super) fn keep(&self, component: ComponentId, running: Running, permits: Permits, time: Duration) {
        let idle = Idle {
            component,
            until: Instant::now() + time,
            running: Box::new(running),
            permits,
        };
        {
            let mut kept = self.kept();
            kept.push_back(idle);
            self.count.store(kept.len(), Ordering::SeqCst);
        }
        // Who begins to wait from now on sees the instance; who began before is seen here.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }

    /// Ends when an instance becomes idle while somebody waits.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// The instance of a component that became idle last.
    pub(super) fn take(&self, component: ComponentId) -> Option<(Running, Permits)> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut kept = self.kept();
        let at = kept.iter().rposition(|idle| idle.component == component)?;
        let idle = kept.remove(at)?;
        self.count.store(kept.len(), Ordering::SeqCst);
        Some((*idle.running, idle.permits))
    }

    /// Whether there was one.
    pub(super) fn give_up_oldest(&self) -> bool {
        let oldest = {
            let mut kept = self.kept();
            let oldest = kept.pop_front();
            self.count.store(kept.len(), Ordering::SeqCst);
            oldest
        };
        // Dropped here, outside of the lock.
        oldest.is_some()
    }

    /// Those that have been idle for too long, for somebody to drop who may take his time.
    pub(super) fn expired(&self) -> Option<GivenUp> {
        let now = Instant::now();
        self.without(|idle| idle.until <= now)
    }

    pub(super) fn give_up_all_of(&self, component: ComponentId) {
        drop(self.without(|idle| idle.component == component));
    }

    fn without(&self, which: impl Fn(&Idle) -> bool) -> Option<GivenUp> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut kept = self.kept();
        let (gone, left): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut *kept).into_iter().partition(which);
        *kept = left;
        self.count.store(kept.len(), Ordering::SeqCst);
        (!gone.is_empty()).then_some(GivenUp { _instances: gone })
    }

    /// Says that somebody waits for room, for as long as the answer is held.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// Instances that nobody uses any more.
pub(super) struct GivenUp {
    _instances: VecDeque<Idle>,
}

/// Somebody waits for room.
pub(super) struct Waiting<'a>(&'a IdleInstances);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
