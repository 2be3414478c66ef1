//! The calls of one component that wait for room: a number that others may read.
//!
//! Invariant: a call that no longer waits, whether it got its room or was dropped, is not counted.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The number of calls of one component that wait until the host has room for an instance. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct WaitingCalls(Arc<AtomicUsize>);

/// One call that waits, until it is dropped.
#[derive(Debug)]
pub(crate) struct WaitingCall<'c>(&'c AtomicUsize);

impl WaitingCalls {
    /// Returns the number of calls that wait now.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(&self) -> WaitingCall<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        WaitingCall(&self.0)
    }
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
