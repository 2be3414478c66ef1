//! The halts as those see them who receive: a dispatcher for its handler, and the listener for consumers outside.
//!
//! Invariant: who looks after a change sees it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::Halts;
use sandhog_queue::message::QueueName;

/// Why a handler receives nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HaltCause {
    /// The host drains, by an operator's order.
    Drain,
    /// An operator has halted the handler or its queue.
    Operator,
}

/// Watches the halts of one handler and of its queue, and the drain of the host.
#[derive(Debug)]
pub struct HaltWatch {
    halts: Arc<Halts>,
    handler: String,
    queue: QueueName,
    changes: watch::Receiver<()>,
}

impl HaltWatch {
    /// Begins to watch.
    pub fn new(halts: Arc<Halts>, handler: &str, queue: &QueueName) -> Self {
        Self {
            changes: halts.changes(),
            handler: handler.to_owned(),
            queue: queue.clone(),
            halts,
        }
    }

    /// Returns why the handler receives nothing, and takes the changes so far as seen. Of both causes it is the drain.
    pub fn cause(&mut self) -> Option<HaltCause> {
        self.changes.mark_unchanged();
        if self.halts.draining_since().is_some() {
            return Some(HaltCause::Drain);
        }
        let halt = self.halts.stopping(&self.handler, &self.queue);
        halt.map(|_| HaltCause::Operator)
    }

    /// Returns whether halts have changed since the last look. Costs next to nothing.
    pub fn has_changed(&self) -> bool {
        self.changes.has_changed().unwrap_or(false)
    }

    /// Waits until halts have changed since the last look.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn changed(&mut self) {
        // The sender is in `self`.
        drop(self.changes.changed().await);
    }
}

/// Receives for a consumer outside, for at most `wait`: nothing while the queue is halted. A halt that comes meanwhile drops the
/// receive, and its end begins another.
///
/// # Errors
///
/// That of `receive`.
///
/// # Cancel safety
///
/// That of what `receive` returns.
pub async fn receive_unhalted<T, E, F>(
    halts: &Halts,
    queue: &QueueName,
    wait: Duration,
    mut receive: impl FnMut(Duration) -> F,
) -> Result<Vec<T>, E>
where
    F: Future<Output = Result<Vec<T>, E>>,
{
    let end = Instant::now() + wait;
    let mut changes = halts.changes();
    loop {
        changes.mark_unchanged();
        let left = end.saturating_duration_since(Instant::now());
        if halts.of_queue(queue).is_some() {
            if timeout_at(end, changes.changed()).await.is_err() || left.is_zero() {
                return Ok(Vec::new());
            }
            continue;
        }
        let halted = async {
            // The sender outlives this.
            while halts.of_queue(queue).is_none() && changes.changed().await.is_ok() {}
        };
        tokio::select! {
            biased;
            () = halted => {}
            received = receive(left) => return received,
        }
    }
}
