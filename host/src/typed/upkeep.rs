//! The task behind a receiver: renews its leases, and gives back the deliveries that were dropped unsettled.
//!
//! Invariants: the task lives as long as the receiver or one delivery of it, and ends by itself after that, once
//! everything was given back or has returned by itself; a lost lease is not given back: it is someone else's.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::Notify, time::sleep};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    lease::{Lease, LeaseKeeper},
    printable::chain,
    queue::{Delivery, Effects, Queue, SettleError, Settlement},
};

/// What a receiver and its deliveries share. The last of them to go ends the task.
#[derive(Debug)]
pub(super) struct Upkeep {
    keeper: Arc<LeaseKeeper>,
    dropped: Arc<Dropped>,
    tasks: TaskTracker,
    _ends: DropGuard,
}

/// Leases whose deliveries were dropped. No more than were received and not settled, so it needs no bound of its own.
#[derive(Debug, Default)]
struct Dropped {
    // Never held across an await.
    leases: Mutex<Vec<Lease>>,
    changed: Notify,
}

/// The lease of one delivery. Dropped unsettled, it gives the message back at once.
#[derive(Debug)]
pub(super) struct Held {
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
    pub(super) fn start(queue: &Arc<dyn Queue>) -> Arc<Self> {
        let keeper = LeaseKeeper::new(Arc::clone(queue), Arc::default());
        let dropped = Arc::new(Dropped::default());
        let (tasks, ended) = (TaskTracker::new(), CancellationToken::new());
        let (renewing, giving_back, last_call) =
            (Arc::clone(&keeper), Arc::clone(&dropped), queue.visibility_timeout());
        let stop = ended.clone();
        // Not aborted with its last owner: that may be the very drop whose message it is to give back.
        tasks.spawn(async move {
            tokio::select! {
                // Renewal goes on until everything was given back.
                () = renewing.run(CancellationToken::new()) => {}
                () = giving_back.run(&renewing, &stop) => {}
                // By then whatever a queue would not take back returns by itself.
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
    pub(super) fn hold(self: &Arc<Self>, delivery: &Delivery) -> Held {
        let lease = self.keeper.hold(delivery.receipt.clone(), delivery.deadline);
        Held {
            lost: lease.lost().clone(),
            lease: Some(lease),
            upkeep: Arc::clone(self),
        }
    }

    /// What to wait for to see the end of the task.
    pub(super) fn tasks(&self) -> TaskTracker {
        self.tasks.clone()
    }
}

impl Dropped {
    async fn run(&self, keeper: &LeaseKeeper, stop: &CancellationToken) {
        loop {
            let mut leases = mem::take(&mut *self.leases.lock().unwrap_or_else(PoisonError::into_inner));
            // It may be someone else's by now, and releasing it would take it from them.
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
    let (answers, _leases) = keeper.settle(batch, Effects::default()).await;
    for answer in answers {
        match answer {
            // Expired: it is visible to others already, which is all that was wanted.
            Ok(()) | Err(SettleError::Expired) => {}
            Err(
                error @ (SettleError::SendRefused { .. }
                | SettleError::WriteRefused(_)
                | SettleError::DeadLetterRefused { .. }
                | SettleError::Incomplete
                | SettleError::Queue(_)),
            ) => {
                tracing::warn!(error = %chain(&error), "a dropped delivery was not given back; it returns by itself");
            }
        }
    }
}

impl Held {
    /// A token that is cancelled when the lease is lost.
    pub(super) fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Ends the delivery; a lost one is [`SettleError::Expired`], and the queue is not asked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have settled; if not, the message returns by itself.
    pub(super) async fn settle(mut self, settlement: Settlement) -> Result<(), SettleError> {
        let lease = self.lease.take().expect("taken by this function or drop alone");
        lease.settle(settlement).await
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        let dropped = &self.upkeep.dropped;
        dropped
            .leases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(lease);
        dropped.changed.notify_one();
    }
}
