//! The extensions of a keeper: started at the half-life of leases, several at a time.

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{LeaseKeeper, held::DueExtension};
use crate::alarm::wake_at;

/// The most extensions that are under way at a time. There are several, so that one that hangs does not make the others late.
const MAX_EXTENSIONS: usize = 16;

impl LeaseKeeper {
    /// Extends leases until `stop`. Leases that are held then are no longer extended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the extensions and nothing else.
    pub async fn run(&self, stop: CancellationToken) {
        let mut extensions = FuturesUnordered::new();
        while !stop.is_cancelled() {
            let may_extend = extensions.len() < MAX_EXTENSIONS;
            if may_extend && let Some(due) = self.next_extension() {
                extensions.push(self.extend(due));
                continue;
            }
            let capabilities = self.queue.capabilities();
            let next = self.held().plan(capabilities, may_extend);
            tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = extensions.next() => {}
                () = self.changed.notified() => {}
                () = wake_at(next) => {}
            }
        }
    }

    /// Chooses leases past their half-life that one call extends, if there are any. Leases past their deadline are lost.
    fn next_extension(&self) -> Option<DueExtension> {
        let now = Instant::now();
        let visibility_timeout = self.queue.visibility_timeout();
        let capabilities = self.queue.capabilities();
        let asleep = self.asleep();
        let mut held = self.held();
        if let Some((slept, leases)) = held.wake_up(asleep) {
            tracing::warn!(queue = %self.queue.name(), ?slept, leases, "the machine has slept, and the queue has not: what is over by now is lost");
        }
        held.lose_expired(now, capabilities.calls_overtake);
        let due = held.next_extension(now, visibility_timeout, capabilities)?;
        drop(held);
        for late in &due.late {
            self.metrics.extension_started(self.queue.name().as_str(), *late);
        }
        Some(due)
    }

    async fn extend(&self, due: DueExtension) {
        let started = Instant::now();
        let asleep = self.asleep();
        // The call may not outlast a deadline: the lease is lost then, and the keeper has to say so.
        let answers = match timeout_at(due.give_up_at, self.queue.extend(due.receipts, due.by)).await {
            Ok(answers) => answers.into_iter().map(Some).collect(),
            Err(_) => vec![None; due.keys.len()],
        };
        let mut extended = 0;
        let mut failed = 0;
        let now = Instant::now();
        let awake = self.asleep();
        let mut held = self.held();
        for (key, answer) in due.keys.into_iter().zip(answers) {
            let Some(lease) = held.get_mut(key) else {
                continue;
            };
            let is_lost = match answer {
                Some(Ok(deadline)) => {
                    extended += 1;
                    lease.extended(started, deadline, asleep);
                    // The machine may have slept over the answer.
                    lease.wake_up(awake);
                    false
                }
                Some(Err(error)) => {
                    failed += 1;
                    lease.not_extended(now, Some(&error))
                }
                None => {
                    failed += 1;
                    lease.not_extended(now, None)
                }
            };
            if is_lost {
                held.lose(key);
            }
        }
        drop(held);
        self.extended.notify_waiters();
        self.metrics.extended(self.queue.name().as_str(), extended, failed);
    }
}
