//! Decides who may make an instance when: a budget of memory, of descriptors, and a number of instances, for the whole host.
//!
//! A quarter of each is a reserve. A call takes from the rest, in the order in which calls come. While it waits there, one
//! call of each component waits for the reserve too. So one component may fill the rest, and one that is too large for
//! what is free may stand first in line there: as long as the reserve has room for a call of each of the others, none of
//! them waits for it. A call that is larger than the rest takes from both.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::FutureExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::coop::unconstrained,
};

use super::{
    Policy, descriptors,
    import::{files, http, messaging::MAX_LETTER_BYTES},
    instance::Running,
    reuse::{ComponentId, IdleInstances},
};

/// In what the memory budget is counted: 1 MiB.
const UNIT: u64 = 1024 * 1024;
/// More than any machine has: a semaphore can count no further.
const MAX_UNITS: u32 = u32::MAX >> 4;
/// How large a part the reserve is: one of so many.
const RESERVE: u32 = 4;

/// What the instances of one component may take for their globals, functions and bookkeeping; the pool refuses more. The
/// largest program of Go, of which every function is in a table, takes a megabyte.
pub(super) const MAX_CONTEXT_BYTES: usize = 4 * 1024 * 1024;
/// The engine's own stack of a call, of which a guest can touch a quarter.
const STACK_BYTES: u64 = 2 * 1024 * 1024;

/// What one handle or one call that is under way takes of the host beside what the guest put into it: its entry, what it
/// waits for, and the engine's bookkeeping.
const HANDLE_BYTES: u64 = 2 * 1024;
/// The same for a message that was sent, and for a change of the key-value store.
const ENTRY_BYTES: u64 = 512;

/// What the host has for guests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Instances.
    pub(super) slots: usize,
    /// Bytes.
    pub(super) memory: u64,
    pub(super) descriptors: u32,
}

/// What all live instances may come to.
pub(super) struct Admission {
    open: Part,
    reserve: Part,
    live: Arc<AtomicUsize>,
}

/// A part of what the host has.
struct Part {
    all: Need,
    /// In units.
    memory: Arc<Semaphore>,
    descriptors: Arc<Semaphore>,
    slots: Arc<Semaphore>,
}

/// What one call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Need {
    /// In units.
    memory: u32,
    descriptors: u32,
    slots: u32,
}

/// The place of one component in the line for the reserve: one of its calls at a time.
pub(super) struct Turn(Arc<Semaphore>);

impl Default for Turn {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// What a call holds. Everything is given back with it.
pub(super) struct Admitted {
    // The first to be dropped: there are never more live instances than permits.
    _live: Live,
    permits: Permits,
}

/// Who wants to run.
pub(super) struct Claim<'a> {
    /// The component's place in the line for the reserve.
    pub(super) turn: &'a Turn,
    /// How many slots of the pool its instance takes.
    pub(super) slots: u32,
    /// Whose idle instances will do.
    pub(super) reuses: Option<ComponentId>,
}

/// What somebody got who waited.
pub(super) enum Entered {
    /// Room for an instance.
    New(Admitted),
    /// An instance that was idle.
    Kept(Running, Admitted),
}

/// The room that an instance takes.
pub(super) type Permits = Vec<OwnedSemaphorePermit>;

impl Need {
    fn of(policy: &Policy, slots: u32) -> Self {
        Self {
            memory: worst_case(policy),
            descriptors: descriptors::worst_case(policy),
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

impl Part {
    fn new(all: Need) -> Self {
        let permits = |count: u32| Arc::new(Semaphore::new(usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS)));
        Self {
            all,
            memory: permits(all.memory),
            descriptors: permits(all.descriptors),
            slots: permits(all.slots),
        }
    }

    /// Waits until there is room. Always in this order, so that two that wait can't wait for each other. `None` if there
    /// will never be.
    async fn take(&self, need: Need) -> Option<Permits> {
        if !need.fits(self.all) {
            return None;
        }
        let memory = Arc::clone(&self.memory).acquire_many_owned(need.memory).await.ok()?;
        let mut taken = vec![memory];
        if need.descriptors > 0 {
            let descriptors = Arc::clone(&self.descriptors).acquire_many_owned(need.descriptors);
            taken.push(descriptors.await.ok()?);
        }
        taken.push(Arc::clone(&self.slots).acquire_many_owned(need.slots).await.ok()?);
        Some(taken)
    }
}

impl Admission {
    /// Instances that have this room together. Counts those that live in `live`.
    pub(super) fn new(room: Room, live: Arc<AtomicUsize>) -> Self {
        let all = Need {
            memory: units(room.memory).min(MAX_UNITS),
            descriptors: room.descriptors.min(MAX_UNITS),
            slots: u32::try_from(room.slots).unwrap_or(MAX_UNITS).min(MAX_UNITS),
        };
        let reserve = Need {
            memory: all.memory / RESERVE,
            descriptors: all.descriptors / RESERVE,
            slots: all.slots / RESERVE,
        };
        Self {
            open: Part::new(all.without(reserve)),
            reserve: Part::new(reserve),
            live,
        }
    }

    fn all(&self) -> Need {
        let [open, reserve] = [self.open.all, self.reserve.all];
        Need {
            memory: open.memory + reserve.memory,
            descriptors: open.descriptors + reserve.descriptors,
            slots: open.slots + reserve.slots,
        }
    }

    /// Refuses a policy of which one call needs more than there is.
    pub(super) fn check(&self, policy: &Policy) -> Result<(), String> {
        let (need, all) = (Need::of(policy, 1), self.all());
        if need.memory > all.memory {
            return Err(format!(
                "by its limits it may take {} MiB, and the host's memory-budget is {} MiB: lower its memory or raise the budget",
                need.memory, all.memory
            ));
        }
        if need.descriptors > all.descriptors {
            return Err(format!(
                "by its limits it may open {} files and connections, and guests have {} descriptors: lower its \
                limits.open-files or limits.http-concurrent, or raise the host's limit on open files (ulimit -n)",
                need.descriptors, all.descriptors
            ));
        }
        Ok(())
    }

    /// How many calls with this policy can run at one time, of one component with so many slots for each instance and if no
    /// other has any. At least one.
    pub(super) fn most_at_once(&self, policy: &Policy, slots: u32) -> usize {
        let (need, open) = (Need::of(policy, slots.max(1)), self.open.all);
        let by_memory = open.memory / need.memory.max(1);
        let by_descriptors = open.descriptors.checked_div(need.descriptors).unwrap_or(u32::MAX);
        let by_slots = open.slots / need.slots;
        let reserved = u32::from(need.fits(self.reserve.all));
        let most = by_memory.min(by_descriptors).min(by_slots) + reserved;
        usize::try_from(most.max(1)).unwrap_or(usize::MAX)
    }

    /// Waits until there is room for an instance under this policy, or an idle one of the component. Idle instances of
    /// others are given up rather than waited for. `None` if the host is stopping.
    pub(super) async fn enter(&self, claim: Claim<'_>, policy: &Policy, idle: &IdleInstances) -> Option<Entered> {
        let need = Need::of(policy, claim.slots);
        let kept = || {
            let (running, permits) = idle.take(claim.reuses?)?;
            Some(Entered::Kept(running, self.resume(permits)))
        };
        let new = |permits: Option<Permits>| Some(Entered::New(self.resume(permits?)));
        if let Some(kept) = kept() {
            return Some(kept);
        }
        let mut room = pin!(self.take(claim.turn, need));
        // Whatever else this task has done: what is free is free.
        if let Some(permits) = unconstrained(room.as_mut()).now_or_never() {
            return new(permits);
        }
        // Whoever has an instance to keep sees from now on that somebody waits.
        let _waiting = idle.wait();
        loop {
            let mut changed = pin!(idle.changed());
            changed.as_mut().enable();
            if let Some(kept) = kept() {
                return Some(kept);
            }
            while idle.give_up_oldest() {
                if let Some(permits) = unconstrained(room.as_mut()).now_or_never() {
                    return new(permits);
                }
            }
            tokio::select! {
                biased;
                permits = room.as_mut() => return new(permits),
                () = changed => {}
            }
        }
    }

    /// Counts an instance as live that has this room.
    fn resume(&self, permits: Permits) -> Admitted {
        Admitted {
            _live: Live::count(&self.live),
            permits,
        }
    }

    async fn take(&self, turn: &Turn, need: Need) -> Option<Permits> {
        let need = need.at_most(self.all());
        if !need.fits(self.open.all) {
            // Nobody who has something of the reserve waits for the rest.
            let mut permits = self.open.take(need.at_most(self.open.all)).await?;
            permits.extend(self.reserve.take(need.without(self.open.all)).await?);
            return Some(permits);
        }
        let reserved = async {
            let turn = Arc::clone(&turn.0).acquire_owned().await.ok()?;
            let mut permits = self.reserve.take(need).await?;
            permits.push(turn);
            Some(permits)
        };
        tokio::select! {
            biased;
            permits = self.open.take(need) => permits,
            Some(permits) = reserved => Some(permits),
        }
    }
}

impl Admitted {
    /// The room of an instance that is kept and does not run.
    pub(super) fn into_permits(self) -> Permits {
        self.permits
    }
}

/// What an attempt can make the host hold at most, in units of [`UNIT`]: memories, tables (a pointer for each element), the
/// instances themselves, handles and calls under way, one call of the host with the longest answer, buffers of files, and
/// what it sends and writes before it ends. Bodies of HTTP are streamed.
fn worst_case(policy: &Policy) -> u32 {
    let Policy { limits, grants, .. } = policy;
    let contexts = u64::try_from(MAX_CONTEXT_BYTES).unwrap_or(u64::MAX);
    let parts = [
        limits.memory,
        limits.table_elements.saturating_mul(8),
        contexts,
        STACK_BYTES,
        limits.handles.saturating_mul(HANDLE_BYTES),
        limits.host_call_bytes.max(limits.random_bytes),
        MAX_LETTER_BYTES,
        files::worst_case(policy),
        grants
            .send
            .as_ref()
            .map_or(0, |_| held(limits.send_bytes, limits.sends)),
        grants.http.as_ref().map_or(0, |_| http::worst_case(limits)),
        if grants.keyvalue {
            // One answer, too.
            held(limits.keyvalue_bytes, limits.keyvalue_writes).saturating_add(limits.host_call_bytes)
        } else {
            0
        },
    ];
    units(parts.into_iter().fold(0, u64::saturating_add))
}

fn held(bytes: u64, entries: u64) -> u64 {
    bytes.saturating_add(entries.saturating_mul(ENTRY_BYTES))
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// Counts one live instance for as long as it is held.
struct Live(Arc<AtomicUsize>);

impl Live {
    fn count(live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(live))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

    use tokio::time::timeout;

    use super::*;
    use crate::executor::policy::{Grants, Limits};

    const LARGE: Need = need(500, 1);
    const SMALL: Need = need(50, 1);

    const fn need(memory: u32, descriptors: u32) -> Need {
        Need {
            memory,
            descriptors,
            slots: 1,
        }
    }

    fn of(slots: usize, descriptors: u32) -> Admission {
        let room = Room {
            slots,
            memory: 1000 * UNIT,
            descriptors,
        };
        Admission::new(room, Arc::default())
    }

    /// 1000 units: 750 and a reserve of 250; as many descriptors; 16 slots: 12 and a reserve of 4.
    fn admission() -> Admission {
        of(16, 1000)
    }

    /// What is taken now; time is paused, so that nobody waits in truth.
    async fn now(admission: &Admission, turn: &Turn, need: Need) -> Option<Permits> {
        let taken = timeout(Duration::from_secs(1), admission.take(turn, need)).await;
        taken.ok().map(|permits| permits.expect("the host is not stopping"))
    }

    async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
    }

    async fn fill(admission: &Admission, turn: &Turn, need: Need) -> Vec<Permits> {
        let mut held = Vec::new();
        while let Some(permits) = now(admission, turn, need).await {
            held.push(permits);
        }
        held
    }

    #[tokio::test(start_paused = true)]
    async fn a_component_that_takes_all_it_can_leaves_a_call_to_each_of_the_others() {
        for greedy in [SMALL, LARGE, need(1, 1), need(1, 500)] {
            let (admission, turns) = (admission(), [(); 4].map(|()| Turn::default()));
            let [first, others @ ..] = &turns;
            let _held = fill(&admission, first, greedy).await;
            for other in others {
                assert!(now(&admission, other, SMALL).await.is_some(), "{greedy:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_call_does_not_stand_in_line_behind_a_large_one() {
        let (admission, turns) = (admission(), [(); 3].map(|()| Turn::default()));
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
        let (admission, turns) = (admission(), [(); 2].map(|()| Turn::default()));
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
        let (admission, turns) = (admission(), [(); 2].map(|()| Turn::default()));
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
            memory: memory * UNIT,
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
            let policy = Policy {
                handler: "test".to_owned(),
                timeout: Duration::from_secs(1),
                limits: limits(memory),
                grants: Grants::default(),
                reuse: None,
            };
            let held = fill(&admission, &Turn::default(), Need::of(&policy, 1)).await.len();
            assert_eq!(
                (admission.most_at_once(&policy, 1), held),
                (expected, expected),
                "{memory} MiB"
            );
        }
    }
}
