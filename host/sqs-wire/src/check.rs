//! The rules that a request can be held against without knowing its queue.
//!
//! [`parse`](crate::parse()) applies them. What a message may be depends on its queue: [`crate::OutgoingMessage`].

use std::collections::BTreeSet;

use crate::{
    action::SqsAction,
    address::QueueArn,
    error::{SqsError, SqsErrorCode},
    input::{AddPermissionInput, SendMessageBatchInput, StartMessageMoveTaskInput, UntagQueueInput},
    limits::{check_tags, listed_tasks, page_size, visibility_timeout},
    message::OutgoingMessage,
    request::SqsRequest,
    selection::selected_queue_attributes,
    settings::WantedQueue,
    wishes::ReceiveWishes,
};

/// The most entries of a batch.
const MAX_ENTRIES: usize = 10;
/// The most characters of the id of an entry, and of the label of a permission.
const MAX_ID_LENGTH: usize = 80;
/// The most bytes of a batch of messages, with their attributes.
const MAX_BATCH_BYTES: usize = 1_048_576;
/// The actions that a permission can name.
const PERMITTED_ACTIONS: [SqsAction; 7] = [
    SqsAction::SendMessage,
    SqsAction::ReceiveMessage,
    SqsAction::DeleteMessage,
    SqsAction::ChangeMessageVisibility,
    SqsAction::GetQueueAttributes,
    SqsAction::GetQueueUrl,
    SqsAction::ListDeadLetterSourceQueues,
];

/// Refuses what no queue would take.
pub(crate) fn check(request: &SqsRequest) -> Result<(), SqsError> {
    match request {
        SqsRequest::AddPermission(input) => permission(input),
        SqsRequest::ChangeMessageVisibility(input) => visibility_timeout(input.visibility_timeout).map(drop),
        SqsRequest::ChangeMessageVisibilityBatch(input) => {
            let ids = input.entries.iter().map(|entry| entry.id.as_str());
            batch(SqsAction::ChangeMessageVisibilityBatch, ids)
        }
        SqsRequest::CreateQueue(input) => WantedQueue::of(input).map(drop),
        SqsRequest::DeleteMessageBatch(input) => {
            let ids = input.entries.iter().map(|entry| entry.id.as_str());
            batch(SqsAction::DeleteMessageBatch, ids)
        }
        SqsRequest::GetQueueAttributes(input) => selected_queue_attributes(&input.attribute_names).map(drop),
        SqsRequest::ListDeadLetterSourceQueues(input) => page_size(input.max_results).map(drop),
        SqsRequest::ListMessageMoveTasks(input) => listed_tasks(input).map(drop),
        SqsRequest::ListQueues(input) => page_size(input.max_results).map(drop),
        SqsRequest::ReceiveMessage(input) => ReceiveWishes::of(input).map(drop),
        SqsRequest::SendMessageBatch(input) => send_batch(input),
        SqsRequest::StartMessageMoveTask(input) => move_task(input),
        SqsRequest::TagQueue(input) => check_tags(&input.tags),
        SqsRequest::UntagQueue(input) => tag_keys(input),
        SqsRequest::CancelMessageMoveTask(_)
        | SqsRequest::DeleteMessage(_)
        | SqsRequest::DeleteQueue(_)
        | SqsRequest::GetQueueUrl(_)
        | SqsRequest::ListQueueTags(_)
        | SqsRequest::PurgeQueue(_)
        | SqsRequest::RemovePermission(_)
        | SqsRequest::SendMessage(_)
        | SqsRequest::SetQueueAttributes(_) => Ok(()),
    }
}

/// Refuses a batch that is empty or too large, or whose ids are none or not distinct.
fn batch<'a>(action: SqsAction, ids: impl ExactSizeIterator<Item = &'a str>) -> Result<(), SqsError> {
    let count = ids.len();
    if count == 0 {
        return Err(SqsError::new(
            SqsErrorCode::EmptyBatchRequest,
            format!(
                "There should be at least one {}RequestEntry in the request.",
                action.name()
            ),
        ));
    }
    if count > MAX_ENTRIES {
        return Err(SqsError::new(
            SqsErrorCode::TooManyEntriesInBatchRequest,
            format!("Maximum number of entries per request are {MAX_ENTRIES}. You have sent {count}."),
        ));
    }
    let mut seen = BTreeSet::new();
    for id in ids {
        if !is_id(id) {
            return Err(SqsError::new(
                SqsErrorCode::InvalidBatchEntryId,
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 \
                 letters long.",
            ));
        }
        if !seen.insert(id) {
            return Err(SqsError::new(
                SqsErrorCode::BatchEntryIdsNotDistinct,
                format!("Id {id} repeated."),
            ));
        }
    }
    Ok(())
}

fn is_id(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=MAX_ID_LENGTH).contains(&id.len()) && id.bytes().all(is_allowed)
}

fn send_batch(input: &SendMessageBatchInput) -> Result<(), SqsError> {
    let ids = input.entries.iter().map(|entry| entry.id.as_str());
    batch(SqsAction::SendMessageBatch, ids)?;
    let bytes: usize = input
        .entries
        .iter()
        .map(|entry| OutgoingMessage::of_entry(entry).size())
        .sum();
    if bytes > MAX_BATCH_BYTES {
        return Err(SqsError::new(
            SqsErrorCode::BatchRequestTooLong,
            format!("Batch requests cannot be longer than {MAX_BATCH_BYTES} bytes. You have sent {bytes} bytes."),
        ));
    }
    Ok(())
}

fn permission(input: &AddPermissionInput) -> Result<(), SqsError> {
    if !is_id(&input.label) {
        return Err(SqsError::invalid_value(
            &input.label,
            "Label",
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length.",
        ));
    }
    let count = input.actions.len();
    if count > PERMITTED_ACTIONS.len() {
        return Err(SqsError::new(
            SqsErrorCode::OverLimit,
            format!(
                "{count} Actions were found, maximum allowed is {}.",
                PERMITTED_ACTIONS.len()
            ),
        ));
    }
    for action in &input.actions {
        let reason = match SqsAction::from_name(action) {
            Some(known) if PERMITTED_ACTIONS.contains(&known) => continue,
            None if action == "*" => continue,
            Some(_) => "Only the queue owner is allowed to invoke this action.",
            None => "Please refer to the appropriate WSDL for a list of valid actions.",
        };
        return Err(SqsError::invalid_value(
            format_args!("SQS:{action}"),
            "ActionName",
            reason,
        ));
    }
    for account in &input.aws_account_ids {
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(SqsError::invalid_value(
                format_args!("[{account}]"),
                "PrincipalId",
                "Unable to verify.",
            ));
        }
    }
    Ok(())
}

fn arn(value: &str, name: &str) -> Result<(), SqsError> {
    if QueueArn::parse(value).is_some() {
        return Ok(());
    }
    Err(SqsError::invalid_parameter(format!(
        "You must use this format to specify the {name}: arn:<partition>:<service>:<region>:<account-id>:<resource-id>"
    )))
}

fn move_task(input: &StartMessageMoveTaskInput) -> Result<(), SqsError> {
    arn(&input.source_arn, "SourceArn")?;
    if let Some(destination) = &input.destination_arn {
        arn(destination, "DestinationArn")?;
    }
    match input.max_number_of_messages_per_second {
        Some(rate) if !(1..=500).contains(&rate) => Err(SqsError::invalid_value(
            rate,
            "MaxNumberOfMessagesPerSecond",
            "Must be an integer between 1 and 500.",
        )),
        _ => Ok(()),
    }
}

fn tag_keys(input: &UntagQueueInput) -> Result<(), SqsError> {
    if input
        .tag_keys
        .iter()
        .all(|key| (1..=128).contains(&key.chars().count()))
    {
        return Ok(());
    }
    Err(SqsError::invalid_parameter(
        "Tag keys must be between 1 and 128 characters in length.",
    ))
}

#[cfg(test)]
mod tests;
