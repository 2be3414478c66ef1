//! Counts the random bytes that a guest draws. The engine bounds each call by itself, but not the sum of all calls.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rand::{Rng, SeedableRng as _, TryRng, rngs::StdRng};

/// The account of one store.
#[derive(Debug)]
pub(crate) struct RandomAccount {
    limit: u64,
    drawn: AtomicU64,
}

/// A guest has drawn more random bytes than it may.
#[derive(Debug, thiserror::Error)]
#[error("the random bytes are used up")]
pub(crate) struct RandomUsedUp;

impl RandomAccount {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            drawn: AtomicU64::new(0),
        })
    }

    /// Returns a generator as good as the engine's own, whose bytes are counted. It can't refuse, and never gives bad bytes:
    /// [`RandomAccount::check`] ends a guest that has drawn too many.
    pub(crate) fn generator(self: &Arc<Self>) -> impl Rng + Send + use<> {
        CountedGenerator {
            generator: StdRng::from_rng(&mut rand::rng()),
            account: Arc::clone(self),
        }
    }

    /// Begins another call of the same instance.
    pub(crate) fn begin_call(&self) {
        self.drawn.store(0, Ordering::Relaxed);
    }

    /// Checks that the guest has not drawn more than it may.
    ///
    /// # Errors
    ///
    /// [`RandomUsedUp`].
    pub(crate) fn check(&self) -> Result<(), RandomUsedUp> {
        if self.drawn.load(Ordering::Relaxed) > self.limit {
            return Err(RandomUsedUp);
        }
        Ok(())
    }

    fn count(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.drawn.fetch_add(bytes, Ordering::Relaxed);
    }
}

struct CountedGenerator {
    generator: StdRng,
    account: Arc<RandomAccount>,
}

impl TryRng for CountedGenerator {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        // The engine draws a single byte by this function.
        self.account.count(1);
        Ok(self.generator.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.account.count(8);
        Ok(self.generator.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.account.count(bytes.len());
        self.generator.fill_bytes(bytes);
        Ok(())
    }
}
