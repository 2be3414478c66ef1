//! Decides when an instance may be made: the host has a budget of memory, of descriptors, and of slots for instances.
//!
//! A quarter of each is a reserve. A call takes from the rest, in the order in which calls come. While it waits there, one
//! call of each component waits for the reserve too. So one component may fill the rest, and a component that is too large for
//! what is free may be first in the queue there: as long as the reserve has room for a call of each of the others, none of
//! them waits for it. A call that is larger than the rest takes from both.
//!
//! Knows nothing of policies, components or instances: it counts.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit in which memory is counted: 1 MiB.
const MEMORY_UNIT: u64 = 1024 * 1024;
/// More than any machine has; a semaphore can't count further.
const MAX_UNITS: u32 = u32::MAX >> 4;
/// The reserve is one part of so many.
const RESERVE: u32 = 4;

/// The memory, the descriptors and the slots that one instance takes of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InstanceCost {
    /// In units of [`MEMORY_UNIT`].
    memory: u32,
    descriptors: u32,
    slots: u32,
}

/// An instance costs more than the host has, so that it can never be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TooCostly {
    #[error(
        "by its limits it may take {cost} MiB, and the host's memory-budget is {host} MiB: lower its memory or raise the budget"
    )]
    Memory { cost: u32, host: u32 },
    #[error(
        "by its limits it may open {cost} files and connections, and guests have {host} descriptors: lower its \
         limits.open-files or limits.http-concurrent, or raise the host's limit on open files (ulimit -n)"
    )]
    Descriptors { cost: u32, host: u32 },
}

/// Admits instances, as long as the host has room for them.
pub(crate) struct Admission {
    open: Share,
    reserve: Share,
    live: Arc<AtomicUsize>,
}

/// A part of what the host has.
struct Share {
    all: InstanceCost,
    memory: Arc<Semaphore>,
    descriptors: Arc<Semaphore>,
    slots: Arc<Semaphore>,
}

/// The place of one component in the queue for the reserve: one of its calls at a time.
pub(crate) struct ReserveTurn(Arc<Semaphore>);

impl Default for ReserveTurn {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// The room of an instance, given back on drop.
pub(crate) type RoomPermits = Vec<OwnedSemaphorePermit>;

/// The room of an instance that is alive.
pub(crate) struct LivePermits {
    // Dropped first: there are never more live instances than permits.
    _live: LiveCount,
    permits: RoomPermits,
}

impl InstanceCost {
    /// The cost of an instance that takes so many bytes of memory, so many descriptors, and so many slots of the pool.
    pub(crate) fn new(memory_bytes: u64, descriptors: u32, slots: u32) -> Self {
        Self {
            memory: u32::try_from(memory_bytes.div_ceil(MEMORY_UNIT)).unwrap_or(u32::MAX),
            descriptors,
            slots,
        }
    }

    fn fits(self, into: Self) -> bool {
        self.memory <= into.memory && self.descriptors <= into.descriptors && self.slots <= into.slots
    }

    fn at_most(self, other: Self) -> Self {
        Self {
            memory: self.memory.min(other.memory),
            descriptors: self.descriptors.min(other.descriptors),
            slots: self.slots.min(other.slots),
        }
    }

    fn without(self, other: Self) -> Self {
        Self {
            memory: self.memory.saturating_sub(other.memory),
            descriptors: self.descriptors.saturating_sub(other.descriptors),
            slots: self.slots.saturating_sub(other.slots),
        }
    }
}

impl Share {
    fn new(all: InstanceCost) -> Self {
        let permits = |count: u32| Arc::new(Semaphore::new(usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS)));
        Self {
            all,
            memory: permits(all.memory),
            descriptors: permits(all.descriptors),
            slots: permits(all.slots),
        }
    }

    /// Waits until there is room. Takes memory, descriptors and slots always in this order, so that two calls can't wait for
    /// each other. `None` if the share is too small.
    async fn take(&self, cost: InstanceCost) -> Option<RoomPermits> {
        if !cost.fits(self.all) {
            return None;
        }
        let memory = Arc::clone(&self.memory).acquire_many_owned(cost.memory).await.ok()?;
        let mut taken = vec![memory];
        if cost.descriptors > 0 {
            let descriptors = Arc::clone(&self.descriptors).acquire_many_owned(cost.descriptors);
            taken.push(descriptors.await.ok()?);
        }
        taken.push(Arc::clone(&self.slots).acquire_many_owned(cost.slots).await.ok()?);
        Some(taken)
    }
}

impl Admission {
    /// Admits instances that come to `all` together. Counts those that are alive in `live`.
    pub(crate) fn new(all: InstanceCost, live: Arc<AtomicUsize>) -> Self {
        let all = all.at_most(InstanceCost {
            memory: MAX_UNITS,
            descriptors: MAX_UNITS,
            slots: MAX_UNITS,
        });
        let reserve = InstanceCost {
            memory: all.memory / RESERVE,
            descriptors: all.descriptors / RESERVE,
            slots: all.slots / RESERVE,
        };
        Self {
            open: Share::new(all.without(reserve)),
            reserve: Share::new(reserve),
            live,
        }
    }

    fn all(&self) -> InstanceCost {
        let [open, reserve] = [self.open.all, self.reserve.all];
        InstanceCost {
            memory: open.memory + reserve.memory,
            descriptors: open.descriptors + reserve.descriptors,
            slots: open.slots + reserve.slots,
        }
    }

    /// Refuses an instance that costs more than the host has.
    ///
    /// # Errors
    ///
    /// See [`TooCostly`].
    pub(crate) fn check(&self, cost: InstanceCost) -> Result<(), TooCostly> {
        let all = self.all();
        if cost.memory > all.memory {
            return Err(TooCostly::Memory {
                cost: cost.memory,
                host: all.memory,
            });
        }
        if cost.descriptors > all.descriptors {
            return Err(TooCostly::Descriptors {
                cost: cost.descriptors,
                host: all.descriptors,
            });
        }
        Ok(())
    }

    /// Returns the number of instances of this cost that can run at one time, of one component and if no other component has
    /// any; at least one.
    pub(crate) fn most_at_once(&self, cost: InstanceCost) -> usize {
        let open = self.open.all;
        let by_memory = open.memory / cost.memory.max(1);
        let by_descriptors = open.descriptors.checked_div(cost.descriptors).unwrap_or(u32::MAX);
        let by_slots = open.slots / cost.slots.max(1);
        let reserved = u32::from(cost.fits(self.reserve.all));
        let most = by_memory.min(by_descriptors).min(by_slots) + reserved;
        usize::try_from(most.max(1)).unwrap_or(usize::MAX)
    }

    /// Waits until there is room for an instance of this cost. `None` if the host is stopping.
    ///
    /// # Cancel safety
    ///
    /// Safe: the call loses its place in the queue.
    pub(crate) async fn take(&self, turn: &ReserveTurn, cost: InstanceCost) -> Option<RoomPermits> {
        let cost = cost.at_most(self.all());
        if !cost.fits(self.open.all) {
            // A call that holds a part of the reserve never waits for the rest.
            let mut permits = self.open.take(cost.at_most(self.open.all)).await?;
            permits.extend(self.reserve.take(cost.without(self.open.all)).await?);
            return Some(permits);
        }
        let reserved = async {
            let turn = Arc::clone(&turn.0).acquire_owned().await.ok()?;
            let mut permits = self.reserve.take(cost).await?;
            permits.push(turn);
            Some(permits)
        };
        tokio::select! {
            biased;
            permits = self.open.take(cost) => permits,
            Some(permits) = reserved => Some(permits),
        }
    }

    /// Counts an instance that has this room as alive.
    pub(crate) fn live(&self, permits: RoomPermits) -> LivePermits {
        LivePermits {
            _live: LiveCount::new(&self.live),
            permits,
        }
    }
}

impl LivePermits {
    /// Returns the room of an instance that is kept and no longer alive.
    pub(crate) fn into_idle(self) -> RoomPermits {
        self.permits
    }
}

/// Counts one live instance until it is dropped.
struct LiveCount(Arc<AtomicUsize>);

impl LiveCount {
    fn new(live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(live))
    }
}

impl Drop for LiveCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

    use tokio::time::timeout;

    use super::*;
    use crate::policy::{Grants, Limits};
    use crate::{GuestPolicy, worst_case};

    const LARGE: InstanceCost = cost(500, 1);
    const SMALL: InstanceCost = cost(50, 1);

    const fn cost(memory: u32, descriptors: u32) -> InstanceCost {
        InstanceCost {
            memory,
            descriptors,
            slots: 1,
        }
    }

    fn of(slots: u32, descriptors: u32) -> Admission {
        Admission::new(
            InstanceCost::new(1000 * MEMORY_UNIT, descriptors, slots),
            Arc::default(),
        )
    }

    /// 1000 units: 750 and a reserve of 250; as many descriptors; 16 slots: 12 and a reserve of 4.
    fn admission() -> Admission {
        of(16, 1000)
    }

    /// Returns the permits if they are there now. The time is paused, so that the timeout takes none.
    async fn now(admission: &Admission, turn: &ReserveTurn, cost: InstanceCost) -> Option<RoomPermits> {
        let taken = timeout(Duration::from_secs(1), admission.take(turn, cost)).await;
        taken.ok().map(|permits| permits.expect("the host is not stopping"))
    }

    async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
    }

    async fn fill(admission: &Admission, turn: &ReserveTurn, cost: InstanceCost) -> Vec<RoomPermits> {
        let mut held = Vec::new();
        while let Some(permits) = now(admission, turn, cost).await {
            held.push(permits);
        }
        held
    }

    #[tokio::test(start_paused = true)]
    async fn a_component_that_takes_all_it_can_leaves_a_call_to_each_of_the_others() {
        for greedy in [SMALL, LARGE, cost(1, 1), cost(1, 500)] {
            let (admission, turns) = (admission(), [(); 4].map(|()| ReserveTurn::default()));
            let [first, others @ ..] = &turns;
            let _held = fill(&admission, first, greedy).await;
            for other in others {
                assert!(now(&admission, other, SMALL).await.is_some(), "{greedy:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_call_does_not_stand_in_line_behind_a_large_one() {
        let (admission, turns) = (admission(), [(); 3].map(|()| ReserveTurn::default()));
        let [first, second, small] = &turns;
        let running = now(&admission, first, LARGE).await.unwrap();
        let mut waiting = Box::pin(admission.take(second, LARGE));
        assert!(poll_once(waiting.as_mut()).await.is_pending());
        assert!(now(&admission, small, SMALL).await.is_some());
        drop(running);
        assert!(waiting.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_call_is_not_overtaken_for_ever() {
        let (admission, turns) = (admission(), [(); 2].map(|()| ReserveTurn::default()));
        let [small, large] = &turns;
        let mut held = fill(&admission, small, SMALL).await;
        let mut waiting = Box::pin(admission.take(large, LARGE));
        assert!(poll_once(waiting.as_mut()).await.is_pending());
        // Each call that ends is followed by one that wants its place.
        let mut more: Vec<_> = held.iter().map(|_| Box::pin(admission.take(small, SMALL))).collect();
        for next in &mut more {
            drop(held.remove(0));
            if let Poll::Ready(Some(permits)) = poll_once(next.as_mut()).await {
                held.push(permits);
            }
        }
        assert!(poll_once(waiting.as_mut()).await.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_can_be_taken_again_and_all_of_it_at_once() {
        let (admission, turns) = (admission(), [(); 2].map(|()| ReserveTurn::default()));
        let [small, all] = &turns;
        for _ in 0..3 {
            drop(fill(&admission, small, SMALL).await);
            let whole = admission.all();
            assert!(now(&admission, all, whole).await.is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_calls_run_at_once_as_are_asked_for_from_the_queue() {
        let limits = |memory: u64| Limits {
            memory: memory * MEMORY_UNIT,
            ..Limits::default()
        };
        for (memory, slots, expected) in [
            (24, 16, 13),
            (219, 16, 4),
            (424, 16, 1),
            (824, 16, 1),
            (24, 1, 1),
            (24, 4, 4),
        ] {
            let admission = of(slots, 1000);
            let policy = GuestPolicy {
                handler: "test".to_owned(),
                timeout: Duration::from_secs(1),
                limits: limits(memory),
                grants: Grants::default(),
                reuse: None,
            };
            let cost = worst_case::instance_cost(&policy, 1);
            let held = fill(&admission, &ReserveTurn::default(), cost).await.len();
            assert_eq!(
                (admission.most_at_once(cost), held),
                (expected, expected),
                "{memory} MiB"
            );
        }
    }
}
