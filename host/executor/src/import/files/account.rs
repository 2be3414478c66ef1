//! Counts the files, directories and streams that one attempt has open.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The account of one store.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    held: Arc<AtomicUsize>,
    limit: usize,
}

/// One open file, directory or stream. It counts until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenFile(Arc<AtomicUsize>);

impl OpenFiles {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            held: Arc::default(),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
        }
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Counts one more, if the limit allows it.
    pub(crate) fn take(&self) -> Option<OpenFile> {
        let more = |held: usize| (held < self.limit).then_some(held + 1);
        let taken = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| OpenFile(Arc::clone(&self.held)))
    }

    /// Counts one no longer, which [`OpenFile::until_given_back`] has kept.
    pub(crate) fn give_back(&self) {
        let fewer = |held: usize| held.checked_sub(1);
        let given_back = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        debug_assert!(given_back.is_ok(), "it was taken before");
    }
}

impl OpenFile {
    /// Lets it count until [`OpenFiles::give_back`]. This is for entries of the engine's table, which hold no [`OpenFile`].
    pub(crate) fn until_given_back(self) {
        // The drop of `self` takes one away.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_counts_until_it_is_closed_and_no_more_than_the_limit_is_open() {
        let open = OpenFiles::new(2);
        let (first, second) = (open.take().unwrap(), open.take().unwrap());
        assert!(open.take().is_none());
        drop(first);
        second.until_given_back();
        assert_eq!(open.held(), 1);
        open.give_back();
        assert_eq!(open.held(), 0);
    }
}
