//! The loop of one handler: receives as many messages as it has free slots, starts attempts, and hears how they
//! ended. Never waits for a guest.
//!
//! Invariants: no more deliveries are held than `concurrency` attempts can take at once, so nothing waits in memory
//! while its visibility runs out; a delivery runs to its end on the version it started with; the loop ends only
//! when every attempt has.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    alarm,
    attempt::{AttemptContext, Leased, Outcomes, Version, attempt},
    handler_status::HandlerBoard,
    pause::{Change, Pause},
    printable::chain,
    queue::{Delivery, QueueError},
    settlement::Outcome,
};

/// The longest that a receive waits for a message (the limit of SQS).
const RECEIVE_WAIT: Duration = Duration::from_secs(20);
/// The most messages of one receive, so that what is received at once stays in bounds.
const MAX_RECEIVE: usize = 1000;
/// A receive that is not back so long after it should be is given up and made anew.
const RECEIVE_MARGIN: Duration = Duration::from_secs(20);
/// The wait after a receive that failed.
const RECEIVE_AGAIN_AFTER: Duration = Duration::from_secs(1);

type Receive = Pin<Box<dyn Future<Output = Result<Vec<Delivery>, QueueError>> + Send>>;

/// Runs one handler on one queue.
#[derive(Debug)]
pub struct Dispatcher {
    context: Arc<AttemptContext>,
    board: Arc<HandlerBoard>,
    versions: watch::Receiver<Arc<Version>>,
    stop_receiving: CancellationToken,
    attempts: JoinSet<Result<Outcomes, QueueError>>,
    pause: Pause,
    receive_at: Instant,
    receive_failed: bool,
}

impl Dispatcher {
    /// A dispatcher that has received nothing yet. New versions come through `versions`; `stop_receiving` starts the drain.
    pub fn new(
        context: AttemptContext,
        board: Arc<HandlerBoard>,
        versions: watch::Receiver<Arc<Version>>,
        stop_receiving: CancellationToken,
    ) -> Self {
        Self {
            context: Arc::new(context),
            board,
            versions,
            stop_receiving,
            attempts: JoinSet::new(),
            pause: Pause::default(),
            receive_at: Instant::now(),
            receive_failed: false,
        }
    }

    /// Receives and handles messages until `stop_receiving`, then waits for what is in flight.
    ///
    /// # Errors
    ///
    /// [`QueueError::Failed`]: the queue has failed for good, and attempts under way could not be settled.
    ///
    /// # Cancel safety
    ///
    /// Not to be dropped before it ends: attempts under way would be.
    pub async fn run(mut self) -> Result<(), QueueError> {
        let stop = self.stop_receiving.clone();
        let mut receive: Option<Receive> = None;
        loop {
            if stop.is_cancelled() {
                // Dropping a receive gives back what it may have taken.
                drop(receive.take());
                break;
            }
            if receive.is_none() {
                receive = self.next_receive();
            }
            let wake_at = self.wake_at(receive.is_some());
            let receiving = async {
                match &mut receive {
                    Some(receive) => receive.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(joined) = self.attempts.join_next() => {
                    if self.joined(joined)? {
                        // It was made for what the handler could take before. Dropping it gives back what it may have taken.
                        receive = None;
                    }
                }
                changed = self.versions.changed() => {
                    // The sender outlives the dispatcher unless it is being removed, and then `stop` follows.
                    if changed.is_err() {
                        stop.cancelled().await;
                    }
                    let change = self.pause.reset();
                    self.tell(&change);
                    receive = None;
                }
                received = receiving => {
                    receive = None;
                    self.received(received)?;
                }
                () = alarm::wake_at(wake_at) => {}
            }
        }
        while let Some(joined) = self.attempts.join_next().await {
            self.joined(joined)?;
        }
        Ok(())
    }

    /// A receive for all free slots, unless there is none, or a pause or a failed receive forbids it.
    fn next_receive(&mut self) -> Option<Receive> {
        let now = Instant::now();
        let version = Arc::clone(&self.versions.borrow());
        let concurrency = match self.pause.until() {
            Some(_) => 1,
            None => version.manifest.concurrency.get(),
        };
        let free = concurrency.saturating_sub(self.attempts.len());
        let held_back = self.receive_at > now || self.pause.until().is_some_and(|until| until > now);
        if free == 0 || held_back {
            // A wait after a failed receive is not on purpose: the time of the last good one stands.
            if !self.receive_failed {
                self.board.not_listening(&self.context.handler);
            }
            return None;
        }
        let max = match self.pause.until() {
            Some(_) => 1,
            None => free.saturating_mul(version.batch_size()).min(MAX_RECEIVE),
        };
        if !self.receive_failed {
            self.board.received(&self.context.handler);
        }
        let queue = Arc::clone(&self.context.queue);
        Some(Box::pin(async move {
            let receive = queue.receive(max, RECEIVE_WAIT);
            let received = tokio::time::timeout(RECEIVE_WAIT + RECEIVE_MARGIN, receive).await;
            received.unwrap_or_else(|_| {
                let cause = Arc::new(std::io::Error::new(
                    std::io::ErrorKind::TimedOut,
                    "a receive did not return",
                ));
                Err(QueueError::Unavailable {
                    queue: queue.name().clone(),
                    cause,
                })
            })
        }))
    }

    /// When to look again although nothing has happened.
    fn wake_at(&self, receiving: bool) -> Option<Instant> {
        if receiving {
            return None;
        }
        let times = [Some(self.receive_at), self.pause.until()];
        times.into_iter().flatten().max().filter(|at| *at > Instant::now())
    }

    fn received(&mut self, received: Result<Vec<Delivery>, QueueError>) -> Result<(), QueueError> {
        let handler = &self.context.handler;
        let deliveries = match received {
            Ok(deliveries) => deliveries,
            Err(error) if error.is_transient() => {
                tracing::warn!(
                    handler,
                    error = %chain(&error),
                    "a receive failed; trying again"
                );
                self.board.receive_failed(handler, &error.to_string());
                self.receive_at = Instant::now() + RECEIVE_AGAIN_AFTER;
                self.receive_failed = true;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.receive_failed = false;
        self.board.received(handler);
        if deliveries.is_empty() {
            return Ok(());
        }
        let count = u64::try_from(deliveries.len()).unwrap_or(u64::MAX);
        self.context.metrics.received(self.context.queue.name().as_str(), count);
        // The version is chosen now and kept: a reload does not touch a delivery under way.
        let version = Arc::clone(&self.versions.borrow());
        let mut leased = deliveries.into_iter().map(|delivery| {
            let lease = self.context.keeper.hold(delivery.receipt.clone(), delivery.deadline);
            Leased { delivery, lease }
        });
        let mut next = leased.next();
        while let Some(first) = next {
            let mut bytes = first.delivery.message.body.len();
            let mut batch = vec![first];
            next = leased.next();
            while let Some(more) = next.take_if(|more| {
                batch.len() < version.batch_size() && bytes + more.delivery.message.body.len() <= version.batch_bytes()
            }) {
                bytes += more.delivery.message.body.len();
                batch.push(more);
                next = leased.next();
            }
            self.attempts
                .spawn(attempt(Arc::clone(&self.context), Arc::clone(&version), batch));
        }
        self.count_in_flight();
        Ok(())
    }

    /// Hears how an attempt ended; answers whether that paused or resumed the handler.
    fn joined(&mut self, joined: Result<Result<Outcomes, QueueError>, JoinError>) -> Result<bool, QueueError> {
        self.count_in_flight();
        let outcomes = match joined {
            Ok(outcomes) => outcomes?,
            Err(error) => {
                // Its leases went with it, so its messages come back by themselves.
                tracing::error!(handler = self.context.handler, %error, "an attempt failed inside of the host");
                return Ok(false);
            }
        };
        let mut changed = false;
        for (id, outcome) in outcomes {
            let change = match outcome {
                Outcome::Success => self.pause.succeeded(),
                Outcome::Failed(failure) => self.pause.failed(&id, &failure, Instant::now()),
                Outcome::HostFault(_) => {
                    // The message is visible again at once: without a pause the host would spin on its own fault.
                    self.receive_at = Instant::now() + RECEIVE_AGAIN_AFTER;
                    Change::None
                }
                Outcome::Interrupted | Outcome::LeaseLost => Change::None,
            };
            changed |= change != Change::None;
            self.tell(&change);
        }
        Ok(changed)
    }

    fn tell(&self, change: &Change) {
        // A handler that drains may have a successor of the same name already, whose state this is not.
        if self.stop_receiving.is_cancelled() {
            return;
        }
        let handler = &self.context.handler;
        match change {
            Change::None => return,
            Change::Paused(reason) => {
                tracing::error!(
                    handler,
                    reason,
                    "the handler is paused, and probed with single messages"
                );
                self.board.paused(handler, reason);
            }
            Change::Resumed => {
                tracing::info!(handler, "the handler goes on after a pause");
                self.board.resumed(handler);
            }
        }
        self.context
            .metrics
            .handler_paused(handler, matches!(change, Change::Paused(_)));
    }

    fn count_in_flight(&self) {
        if self.stop_receiving.is_cancelled() {
            return;
        }
        let attempts = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        self.board.in_flight(&self.context.handler, attempts);
        self.context.metrics.in_flight(&self.context.handler, attempts);
    }
}
