//! `DeleteMessage`, `ChangeMessageVisibility` and their batches.

use std::time::Duration;

use super::{SqsEndpoint, failed};
use crate::queue_set::SimpleQueueEntry;
use sandhog_queue::{Effects, ExtendError, Queue as _, Receipt, SettleError, SettleRequest, Settlement};
use sandhog_sqs_wire::{
    SqsError, SqsResponse,
    input::{
        ChangeMessageVisibilityBatchInput, ChangeMessageVisibilityInput, DeleteMessageBatchInput, DeleteMessageInput,
    },
    output::{
        BatchFailure, ChangeMessageVisibilityBatchOutput, ChangeMessageVisibilityBatchSuccess,
        DeleteMessageBatchOutput, DeleteMessageBatchSuccess,
    },
    visibility_timeout,
};

impl SqsEndpoint {
    pub(super) async fn delete_message(&self, input: DeleteMessageInput) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        let mut answers = self.delete(&queue, &[&input.receipt_handle]).await;
        answers.pop().expect("one answer per handle")?;
        Ok(SqsResponse::DeleteMessage)
    }

    pub(super) async fn delete_batch(&self, input: DeleteMessageBatchInput) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        let handles: Vec<&str> = input
            .entries
            .iter()
            .map(|entry| entry.receipt_handle.as_str())
            .collect();
        let answers = self.delete(&queue, &handles).await;
        let mut output = DeleteMessageBatchOutput::default();
        for (entry, answer) in input.entries.iter().zip(answers) {
            let id = entry.id.clone();
            match answer {
                Ok(()) => output.successful.push(DeleteMessageBatchSuccess { id }),
                Err(error) => output.failed.push(BatchFailure::new(id, &error)),
            }
        }
        Ok(SqsResponse::DeleteMessageBatch(output))
    }

    pub(super) async fn change_visibility(&self, input: ChangeMessageVisibilityInput) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        let by = visibility_timeout(input.visibility_timeout)?;
        self.extend(&queue, &input.receipt_handle, by).await?;
        Ok(SqsResponse::ChangeMessageVisibility)
    }

    pub(super) async fn change_visibility_batch(
        &self,
        input: ChangeMessageVisibilityBatchInput,
    ) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        let mut output = ChangeMessageVisibilityBatchOutput::default();
        // In order, because a batch releases the messages of a group in their order.
        for entry in &input.entries {
            let answer = match visibility_timeout(entry.visibility_timeout) {
                Ok(by) => self.extend(&queue, &entry.receipt_handle, by).await,
                Err(error) => Err(error),
            };
            let id = entry.id.clone();
            match answer {
                Ok(()) => output.successful.push(ChangeMessageVisibilityBatchSuccess { id }),
                Err(error) => output.failed.push(BatchFailure::new(id, &error)),
            }
        }
        Ok(SqsResponse::ChangeMessageVisibilityBatch(output))
    }

    /// Deletes the messages of handles. Returns an answer for each.
    async fn delete(&self, queue: &SimpleQueueEntry, handles: &[&str]) -> Vec<Result<(), SqsError>> {
        let receipts: Vec<Option<Receipt>> = handles.iter().map(|handle| receipt_of(handle)).collect();
        let valid: Vec<Receipt> = receipts.iter().flatten().cloned().collect();
        self.replays.forget(queue, &valid);
        let mut answers = if queue.is_fifo() {
            delete_in_time(queue, valid).await
        } else {
            queue.queue.delete_late(valid).await
        }
        .into_iter();
        let mut deleted = Vec::with_capacity(handles.len());
        for (handle, receipt) in handles.iter().zip(receipts) {
            deleted.push(match receipt {
                None => Err(SqsError::receipt_handle_is_invalid(handle)),
                Some(receipt) => match answers.next() {
                    Some(Err(SettleError::Expired)) => gone(queue, handle, receipt).await,
                    Some(Err(SettleError::Queue(error))) => Err(failed(&error)),
                    Some(Err(SettleError::DeadLetterRefused { .. })) => Err(SqsError::internal_failure()),
                    Some(Ok(())) | None => Ok(()),
                },
            });
        }
        deleted
    }

    async fn extend(&self, queue: &SimpleQueueEntry, handle: &str, by: Duration) -> Result<(), SqsError> {
        let receipt = receipt_of(handle).ok_or_else(|| SqsError::receipt_handle_is_invalid(handle))?;
        self.replays.forget(queue, std::slice::from_ref(&receipt));
        let extended = queue.queue.extend_outside(receipt.clone(), by, !queue.is_fifo());
        match extended.await {
            Ok(_) => Ok(()),
            Err(ExtendError::Queue(error)) => Err(failed(&error)),
            Err(ExtendError::Expired) => Err(not_extended(queue, handle, receipt, by).await),
        }
    }
}

/// Returns why a message did not get another visibility timeout.
async fn not_extended(queue: &SimpleQueueEntry, handle: &str, receipt: Receipt, by: Duration) -> SqsError {
    match queue.queue.held_for(receipt).await {
        Ok(Some(_)) => SqsError::visibility_beyond_limit(by.as_secs()),
        Ok(None) => SqsError::visibility_cannot_change(handle),
        Err(error) => failed(&error),
    }
}

async fn delete_in_time(queue: &SimpleQueueEntry, receipts: Vec<Receipt>) -> Vec<Result<(), SettleError>> {
    let count = receipts.len();
    let delete = |receipt| SettleRequest {
        receipt,
        settlement: Settlement::Delete,
    };
    let deletes = receipts.into_iter().map(delete).collect();
    match queue.queue.settle(deletes, Effects::default()).await {
        Ok(answers) => answers,
        // Only effects are refused, and there are none.
        Err(_) => vec![Err(SettleError::Expired); count],
    }
}

/// Returns the answer to the deletion of a message that the receipt does not hold any more. A message that was deleted may be deleted
/// again; on a FIFO queue the handle of one that is there must be the current one.
async fn gone(queue: &SimpleQueueEntry, handle: &str, receipt: Receipt) -> Result<(), SqsError> {
    if !queue.is_fifo() {
        return Ok(());
    }
    match queue.queue.has_message_of(receipt).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(SqsError::receipt_handle_expired(handle)),
        Err(error) => Err(failed(&error)),
    }
}

/// Returns the handle of a receipt, the same as on the other routes of the listener.
pub(super) fn handle_of(receipt: &Receipt) -> String {
    crate::admin::wire::receipt_text(receipt)
}

fn receipt_of(handle: &str) -> Option<Receipt> {
    crate::admin::wire::parse_receipt(handle).filter(|receipt| receipt.as_numbered().is_some())
}
