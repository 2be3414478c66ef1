//! The calls that end or extend deliveries, ten at a time.

use std::{slice::from_ref, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{
    failure::{Action, EntryFailure, Failure, whole_seconds},
    remote::Remote,
    wire::{Answers, BATCH, Hide, Patience},
};
use sandhog_queue::{ExtendError, QueueError, Receipt};

/// The number of tries of the SDK to end a delivery.
const ATTEMPTS: u32 = 2;
/// The most calls of one extension that are under way.
const CALLS: usize = 16;

/// A delivery, and its new visibility.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending<'a> {
    pub(crate) handle: &'a str,
    /// The seconds for which the message is hidden; `None` deletes it.
    pub(crate) hide_s: Option<u64>,
}

/// Why a delivery did not end, or was not extended.
#[derive(Debug, Clone)]
pub(crate) enum EndFailure {
    /// The receipt is no longer valid.
    Expired,
    /// Any other failure. The call may work when it is repeated.
    Trouble(QueueError),
}

impl Remote {
    /// Returns the time that a call may take that ends deliveries.
    pub(crate) fn ending(&self) -> Patience {
        Patience::new(self.call_timeout(2), ATTEMPTS)
    }

    /// Ends at most ten deliveries with one call: all of them deleted, or all of them hidden. One answer per entry, in order.
    pub(crate) async fn end_all(&self, entries: &[Ending<'_>], patience: Patience) -> Vec<Result<(), EndFailure>> {
        let url = match self.url().await {
            Ok(url) => url,
            Err(error) => return vec![Err(EndFailure::Trouble(error)); entries.len()],
        };
        match self.end_once(&url, entries, patience).await {
            Ok(answers) => self.ended(answers),
            // Some servers refuse the whole call for one bad receipt. The others are ended one by one then.
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
        self.on_entry_failures(&answers);
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

    /// See [`sandhog_queue::Queue::extend`].
    pub(crate) async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Vec<Result<Instant, ExtendError>> {
        let patience = Patience::new(self.call_timeout(4), 1);
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

/// Returns the seconds for which to hide a delivery that may be hidden for `left` more, or `None` if an extension is of no
/// use: a caller that extends by `wanted` extends again after half of it, and the twelve hours of SQS would be over by
/// then.
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
