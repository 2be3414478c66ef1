//! The calls that end or prolong deliveries, ten at a time.

use std::{slice::from_ref, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{
    failure::{Action, EntryFailure, Failure, whole_seconds},
    remote::Remote,
    wire::{Answers, BATCH, Hide, Patience},
};
use crate::queue::{ExtendError, QueueError, Receipt};

/// How often the SDK tries to end a delivery.
const ATTEMPTS: u32 = 2;
/// How many calls one extension has under way at most.
const CALLS: usize = 16;

/// A delivery, and what becomes of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending<'a> {
    pub(super) handle: &'a str,
    /// For how long it is hidden; `None`: the message is deleted.
    pub(super) hide_s: Option<u64>,
}

/// Why a delivery did not end, or was not prolonged.
#[derive(Debug, Clone)]
pub(super) enum EndFailure {
    /// The receipt is no longer valid.
    Expired,
    /// Anything else; it may work when it is repeated.
    Trouble(QueueError),
}

impl Remote {
    /// How long a call may take that ends deliveries.
    pub(super) fn ending(&self) -> Patience {
        Patience::new(self.hasty(2), ATTEMPTS)
    }

    /// Ends at most ten deliveries with one call: all of them deleted, or all of them hidden. One answer per entry, in order.
    pub(super) async fn end_all(&self, entries: &[Ending<'_>], patience: Patience) -> Vec<Result<(), EndFailure>> {
        let url = match self.url().await {
            Ok(url) => url,
            Err(error) => return vec![Err(EndFailure::Trouble(error)); entries.len()],
        };
        match self.end_once(&url, entries, patience).await {
            Ok(answers) => self.ended(answers),
            // Some servers refuse the whole call for one bad receipt: the others are ended one by one.
            Err(failure) if failure.is_of_receipt() && entries.len() > 1 => {
                let mut answers = Vec::new();
                for entry in entries {
                    match self.end_once(&url, from_ref(entry), patience).await {
                        Ok(answer) => answers.extend(self.ended(answer)),
                        Err(failure) => answers.push(Err(self.end_failure(failure))),
                    }
                }
                answers
            }
            Err(failure) => vec![Err(self.end_failure(failure)); entries.len()],
        }
    }

    async fn end_once(&self, url: &str, entries: &[Ending<'_>], patience: Patience) -> Result<Answers<()>, Failure> {
        let hides: Option<Vec<Hide<'_>>> = entries
            .iter()
            .map(|entry| {
                Some(Hide {
                    handle: entry.handle,
                    seconds: entry.hide_s?,
                })
            })
            .collect();
        let answers = if let Some(hides) = hides {
            let action = Action::ChangeMessageVisibilityBatch;
            self.call(action, async |wire| wire.hide(url, &hides, patience).await)
                .await
        } else {
            let handles: Vec<&str> = entries.iter().map(|entry| entry.handle).collect();
            let action = Action::DeleteMessageBatch;
            self.call(action, async |wire| wire.delete(url, &handles, patience).await)
                .await
        }?;
        self.heard_entries(&answers);
        Ok(answers)
    }

    fn ended(&self, answers: Answers<()>) -> Vec<Result<(), EndFailure>> {
        let ended = answers.into_iter();
        ended
            .map(|answer| answer.map_err(|EntryFailure { failure, .. }| self.end_failure(failure)))
            .collect()
    }

    fn end_failure(&self, failure: Failure) -> EndFailure {
        if failure.is_of_receipt() {
            EndFailure::Expired
        } else {
            EndFailure::Trouble(self.unavailable(failure))
        }
    }

    /// See [`crate::queue::Queue::extend`].
    pub(super) async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Vec<Result<Instant, ExtendError>> {
        let patience = Patience::new(self.hasty(4), 1);
        let wanted = whole_seconds(by);
        let batches: Vec<_> = receipts
            .chunks(BATCH)
            .map(|batch| self.extend_batch(batch, wanted, patience))
            .collect();
        let answers: Vec<_> = stream::iter(batches).buffered(CALLS).collect().await;
        answers.into_iter().flatten().collect()
    }

    async fn extend_batch(
        &self,
        batch: &[Receipt],
        wanted: u64,
        patience: Patience,
    ) -> Vec<Result<Instant, ExtendError>> {
        let started = Instant::now();
        let entries: Vec<Option<Ending<'_>>> = batch
            .iter()
            .map(|receipt| {
                let hide_s = Some(extension(wanted, self.held.seconds_left(receipt))?);
                let handle = receipt.as_text()?;
                Some(Ending { handle, hide_s })
            })
            .collect();
        let valid: Vec<Ending<'_>> = entries.iter().copied().flatten().collect();
        let mut answers = if valid.is_empty() {
            Vec::new()
        } else {
            self.end_all(&valid, patience).await
        }
        .into_iter();
        let answer = |entry: Option<Ending<'_>>| {
            let hide_s = entry.and_then(|entry| entry.hide_s).ok_or(ExtendError::Expired)?;
            match answers.next() {
                Some(Ok(())) => Ok(started + Duration::from_secs(hide_s)),
                Some(Err(EndFailure::Trouble(error))) => Err(error.into()),
                Some(Err(EndFailure::Expired)) | None => Err(ExtendError::Expired),
            }
        };
        entries.into_iter().map(answer).collect()
    }
}

/// For how many seconds to hide a delivery that may be hidden for `left` more. `None` if that is too little to be of use: who
/// extends by `wanted` comes back after half of it, and would find the twelve hours of SQS over.
fn extension(wanted: u64, left: u64) -> Option<u64> {
    // The clocks take a little of the half away.
    let least = (wanted / 2).saturating_sub(wanted / 100);
    (left >= least.max(1)).then(|| wanted.clamp(1, left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_ends_within_twelve_hours_of_the_receive() {
        assert_eq!(extension(30, 43_199), Some(30));
        assert_eq!(extension(30, 20), Some(20));
        assert_eq!(extension(30, 14), None);
        assert_eq!(extension(1, 0), None);
        assert_eq!(extension(43_200, 43_199), Some(43_199));
        assert_eq!(extension(43_200, 21_590), Some(21_590));
    }
}
