//! The task behind a receiver: it extends the leases of its deliveries, and gives back those that were dropped unsettled.
//!
//! Invariants: the task lives as long as the receiver or one delivery of it, and ends by itself after that, once
//! every delivery was given back or has returned by itself; a lost lease is not given back, because another consumer may
//! have the message.

use std::{mem, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    Delivery, Queue, SettleError, Settlement,
    lease::{Lease, LeaseKeeper},
    printable::chain,
};

/// The state that a receiver and its deliveries share. The last of them to be dropped ends the task.
#[derive(Debug)]
pub(crate) struct Upkeep {
    keeper: Arc<LeaseKeeper>,
    dropped: Arc<DroppedLeases>,
    tasks: TaskTracker,
    _ends: DropGuard,
}

/// Leases whose deliveries were dropped. There are no more than deliveries were received and not settled, so the list needs no
/// bound of its own.
#[derive(Debug, Default)]
struct DroppedLeases {
    // Never held across an await.
    leases: Mutex<Vec<Lease>>,
    changed: Notify,
}

/// The lease of one delivery. Dropped unsettled, it gives the message back at once.
#[derive(Debug)]
pub(crate) struct HeldLease {
    // Taken only to be settled or dropped.
    lease: Option<Lease>,
    lost: CancellationToken,
    upkeep: Arc<Upkeep>,
}

impl Upkeep {
    /// Starts the task.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(crate) fn start(queue: &Arc<dyn Queue>) -> Arc<Self> {
        let keeper = LeaseKeeper::new(Arc::clone(queue), Arc::default());
        let dropped = Arc::new(DroppedLeases::default());
        let tasks = TaskTracker::new();
        let ended = CancellationToken::new();
        let extending = Arc::clone(&keeper);
        let giving_back = Arc::clone(&dropped);
        let last_call = queue.visibility_timeout();
        let stop = ended.clone();
        // The task is not aborted with its last owner: the drop of that owner may be the one whose message is to be given back.
        tasks.spawn(async move {
            tokio::select! {
                // The keeper extends leases until every delivery was given back.
                () = extending.run(CancellationToken::new()) => {}
                () = giving_back.run(&extending, &stop) => {}
                // By then a message that the queue would not take back returns by itself.
                () = async { stop.cancelled().await; sleep(last_call).await } => {}
            }
        });
        tasks.close();
        Arc::new(Self {
            keeper,
            dropped,
            tasks,
            _ends: ended.drop_guard(),
        })
    }

    /// Keeps a delivery that was received a moment ago.
    pub(crate) fn hold(self: &Arc<Self>, delivery: &Delivery) -> HeldLease {
        let lease = self.keeper.hold(delivery.receipt.clone(), &delivery.lease);
        HeldLease {
            lost: lease.lost().clone(),
            lease: Some(lease),
            upkeep: Arc::clone(self),
        }
    }

    /// Returns the tracker whose end is the end of the task.
    pub(crate) fn tasks(&self) -> TaskTracker {
        self.tasks.clone()
    }
}

impl DroppedLeases {
    async fn run(&self, keeper: &LeaseKeeper, stop: &CancellationToken) {
        loop {
            let mut leases = mem::take(&mut *self.leases.lock());
            // Another consumer may have the message by now, and a release would take it away.
            leases.retain(|lease| !lease.lost().is_cancelled());
            if !leases.is_empty() {
                give_back(keeper, leases).await;
                continue;
            }
            if stop.is_cancelled() {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

async fn give_back(keeper: &LeaseKeeper, leases: Vec<Lease>) {
    let batch = leases.into_iter().map(|lease| (lease, Settlement::Release)).collect();
    let (answers, _leases) = keeper.settle(batch).await;
    for answer in answers {
        match answer {
            // An expired message is visible to others already, which is the purpose of a release.
            Ok(()) | Err(SettleError::Expired) => {}
            Err(error @ (SettleError::DeadLetterRefused { .. } | SettleError::Queue(_))) => {
                tracing::warn!(error = %chain(&error), "a dropped delivery was not given back; it returns by itself");
            }
        }
    }
}

impl HeldLease {
    /// A token that is cancelled when the lease is lost.
    pub(crate) fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Ends the delivery; a lost one is [`SettleError::Expired`], and the queue is not asked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have settled; if not, the message returns by itself.
    pub(crate) async fn settle(mut self, settlement: Settlement) -> Result<(), SettleError> {
        let lease = self.lease.take().expect("taken by this function or drop alone");
        lease.settle(settlement).await
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        let dropped = &self.upkeep.dropped;
        dropped.leases.lock().push(lease);
        dropped.changed.notify_one();
    }
}
