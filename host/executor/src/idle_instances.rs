//! Instances that have answered and wait for their next call, for handlers that are told to reuse them.
//!
//! An idle instance keeps its room (memory and slots of the pool), but never from a call that waits for room: the oldest one
//! is given up then. An instance is also given up when it has been idle for as long as its handler's manifest says, and with
//! its component.
//!
//! Knows nothing of instances: `T` is whatever is kept.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

/// Identifies a component for as long as it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ComponentId(u64);

impl ComponentId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// All idle instances of an executor.
pub(crate) struct IdleInstances<T> {
    /// The instance that became idle last is at the end.
    idle: Mutex<VecDeque<IdleInstance<T>>>,
    /// The length of `idle`, which is read without the lock.
    count: AtomicUsize,
    /// The number of calls that wait for room.
    waiting: AtomicUsize,
    changed: Notify,
}

struct IdleInstance<T> {
    component: ComponentId,
    until: Instant,
    instance: T,
}

impl<T> Default for IdleInstances<T> {
    fn default() -> Self {
        Self {
            idle: Mutex::default(),
            count: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }
}

impl<T> IdleInstances<T> {
    /// Registers a component, whose idle instances are given up when the answer is dropped.
    pub(crate) fn of_component(self: &Arc<Self>) -> ComponentInstances<T> {
        ComponentInstances {
            all: Arc::clone(self),
            component: ComponentId::next(),
        }
    }

    /// Returns a future that ends when an instance becomes idle while a call waits.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Drops the instance that has been idle for the longest time. Returns `false` if no instance is idle.
    pub(crate) fn give_up_oldest(&self) -> bool {
        let oldest = {
            let mut idle = self.idle.lock();
            let oldest = idle.pop_front();
            self.count.store(idle.len(), Ordering::SeqCst);
            oldest
        };
        // Dropped here, outside of the lock.
        oldest.is_some()
    }

    /// Takes out the instances that have been idle for as long as they may. Dropping the answer may take time.
    pub(crate) fn take_expired(&self) -> Option<GivenUp<T>> {
        let now = Instant::now();
        self.take_out(|idle| idle.until <= now)
    }

    fn take_out(&self, which: impl Fn(&IdleInstance<T>) -> bool) -> Option<GivenUp<T>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut idle = self.idle.lock();
        let (gone, left): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut *idle).into_iter().partition(which);
        *idle = left;
        self.count.store(idle.len(), Ordering::SeqCst);
        (!gone.is_empty()).then_some(GivenUp { _instances: gone })
    }

    /// Counts a call that waits for room, until the answer is dropped.
    pub(crate) fn wait(&self) -> WaitingCall<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        WaitingCall { waiting: &self.waiting }
    }

    /// Returns the number of idle instances.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// The idle instances of one component. Its drop gives them up.
pub(crate) struct ComponentInstances<T> {
    all: Arc<IdleInstances<T>>,
    component: ComponentId,
}

impl<T> ComponentInstances<T> {
    /// Keeps an instance for so long. A waiting call takes it, if it is for this component, or gives it up for its room.
    pub(crate) fn keep(&self, instance: T, time: Duration) {
        let idle = IdleInstance {
            component: self.component,
            until: Instant::now() + time,
            instance,
        };
        {
            let mut all = self.all.idle.lock();
            all.push_back(idle);
            self.all.count.store(all.len(), Ordering::SeqCst);
        }
        // A call that begins to wait from now on sees the instance; a call that began before is seen here.
        if self.all.waiting.load(Ordering::SeqCst) > 0 {
            self.all.changed.notify_waiters();
        }
    }

    /// Takes the instance that became idle last.
    pub(crate) fn take(&self) -> Option<T> {
        if self.all.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut all = self.all.idle.lock();
        let at = all.iter().rposition(|idle| idle.component == self.component)?;
        let idle = all.remove(at)?;
        self.all.count.store(all.len(), Ordering::SeqCst);
        Some(idle.instance)
    }
}

impl<T> Drop for ComponentInstances<T> {
    fn drop(&mut self) {
        drop(self.all.take_out(|idle| idle.component == self.component));
    }
}

/// Instances that are no longer used, and wait to be dropped.
pub(crate) struct GivenUp<T> {
    _instances: VecDeque<IdleInstance<T>>,
}

/// A call that waits for room.
pub(crate) struct WaitingCall<'a> {
    waiting: &'a AtomicUsize,
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn a_component_takes_its_own_instance_that_became_idle_last() {
        let all = Arc::new(IdleInstances::default());
        let (first, second) = (all.of_component(), all.of_component());
        first.keep("first, older", LONG);
        first.keep("first, newer", LONG);
        second.keep("second", LONG);
        assert_eq!(first.take(), Some("first, newer"));
        assert_eq!(first.take(), Some("first, older"));
        assert_eq!(first.take(), None);
        assert_eq!(all.count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_instance_is_given_up_first() {
        let all = Arc::new(IdleInstances::default());
        let (first, second) = (all.of_component(), all.of_component());
        first.keep("older", LONG);
        second.keep("newer", LONG);
        assert!(all.give_up_oldest());
        assert_eq!((first.take(), second.take()), (None, Some("newer")));
        assert!(!all.give_up_oldest());
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_instances_of_a_component_go_with_it() {
        let all = Arc::new(IdleInstances::default());
        let (first, second) = (all.of_component(), all.of_component());
        first.keep("first", LONG);
        second.keep("second", LONG);
        drop(first);
        assert_eq!((all.count(), second.take()), (1, Some("second")));
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_was_idle_for_as_long_as_it_may_is_taken_out() {
        let all = Arc::new(IdleInstances::default());
        let component = all.of_component();
        component.keep("short", LONG);
        component.keep("long", 2 * LONG);
        assert!(all.take_expired().is_none());
        tokio::time::advance(LONG).await;
        assert!(all.take_expired().is_some());
        assert_eq!((all.count(), component.take()), (1, Some("long")));
    }
}
