//! The time of one call: its deadline and its processor time, and the errors that end a guest which has used up either.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::{GuestPolicy, cpu::CpuAccount, epoch::TICK};

/// The deadline of the call has passed.
#[derive(Debug, thiserror::Error)]
#[error("the deadline passed")]
pub(crate) struct DeadlinePassed;

/// The processor time of the call is used up.
#[derive(Debug, thiserror::Error)]
#[error("the processor time is used up")]
pub(crate) struct CpuTimePassed;

/// The time that one call may take.
#[derive(Debug, Clone)]
pub(crate) struct TimeLimits {
    pub(crate) cpu: Arc<CpuAccount>,
    deadline: Instant,
}

impl TimeLimits {
    /// Starts the time of a call under this policy.
    pub(crate) fn start(policy: &GuestPolicy) -> Self {
        Self {
            cpu: CpuAccount::new(policy.limits.cpu_time),
            deadline: Instant::now() + policy.timeout,
        }
    }

    /// Ends a guest that computes for too long. The epoch callback asks this at each tick.
    ///
    /// # Errors
    ///
    /// [`DeadlinePassed`] or [`CpuTimePassed`].
    pub(crate) fn check(&self) -> wasmtime::Result<()> {
        if Instant::now() >= self.deadline {
            return Err(DeadlinePassed.into());
        }
        if self.cpu.is_used_up() {
            return Err(CpuTimePassed.into());
        }
        Ok(())
    }

    /// Runs a call within the limits. [`TimeLimits::check`] gives the better reason for a guest that computes, so this timer
    /// leaves it two ticks; the timer ends a guest that waits in a host call.
    ///
    /// # Errors
    ///
    /// The errors of `call`, and [`DeadlinePassed`].
    ///
    /// # Cancel safety
    ///
    /// As safe as `call`.
    pub(crate) async fn hold<T>(&self, call: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
        let call = timeout_at(self.deadline + 2 * TICK, self.cpu.measure(call));
        call.await.unwrap_or_else(|_| Err(DeadlinePassed.into()))
    }
}
