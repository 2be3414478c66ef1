//! Every structure that SQS has, with the names of its members, so that no shape forgets one.
//!
//! The names are those of AWS's published model of the API version 2012-11-05.

use crate::{batch, error::SqsErrorCode, input, output};

/// The structures below the inputs and outputs of all actions, with their members: the name in JSON, and after a slash that in
/// the query protocol where it is another.
const STRUCTURES: &[(&str, &str)] = &[
    (
        "AddPermissionRequest",
        "AWSAccountIds/AWSAccountId Actions/ActionName Label QueueUrl",
    ),
    ("BatchResultErrorEntry", "Code Id Message SenderFault"),
    ("CancelMessageMoveTaskRequest", "TaskHandle"),
    ("CancelMessageMoveTaskResult", "ApproximateNumberOfMessagesMoved"),
    (
        "ChangeMessageVisibilityBatchRequest",
        "Entries/ChangeMessageVisibilityBatchRequestEntry QueueUrl",
    ),
    (
        "ChangeMessageVisibilityBatchRequestEntry",
        "Id ReceiptHandle VisibilityTimeout",
    ),
    (
        "ChangeMessageVisibilityBatchResult",
        "Failed/BatchResultErrorEntry Successful/ChangeMessageVisibilityBatchResultEntry",
    ),
    ("ChangeMessageVisibilityBatchResultEntry", "Id"),
    (
        "ChangeMessageVisibilityRequest",
        "QueueUrl ReceiptHandle VisibilityTimeout",
    ),
    ("CreateQueueRequest", "Attributes/Attribute QueueName tags/Tag"),
    ("CreateQueueResult", "QueueUrl"),
    (
        "DeleteMessageBatchRequest",
        "Entries/DeleteMessageBatchRequestEntry QueueUrl",
    ),
    ("DeleteMessageBatchRequestEntry", "Id ReceiptHandle"),
    (
        "DeleteMessageBatchResult",
        "Failed/BatchResultErrorEntry Successful/DeleteMessageBatchResultEntry",
    ),
    ("DeleteMessageBatchResultEntry", "Id"),
    ("DeleteMessageRequest", "QueueUrl ReceiptHandle"),
    ("DeleteQueueRequest", "QueueUrl"),
    ("GetQueueAttributesRequest", "AttributeNames/AttributeName QueueUrl"),
    ("GetQueueAttributesResult", "Attributes/Attribute"),
    ("GetQueueUrlRequest", "QueueName QueueOwnerAWSAccountId"),
    ("GetQueueUrlResult", "QueueUrl"),
    ("ListDeadLetterSourceQueuesRequest", "MaxResults NextToken QueueUrl"),
    ("ListDeadLetterSourceQueuesResult", "NextToken queueUrls/QueueUrl"),
    ("ListMessageMoveTasksRequest", "MaxResults SourceArn"),
    ("ListMessageMoveTasksResult", "Results/ListMessageMoveTasksResultEntry"),
    (
        "ListMessageMoveTasksResultEntry",
        "ApproximateNumberOfMessagesMoved ApproximateNumberOfMessagesToMove DestinationArn FailureReason MaxNumberOfMessagesPerSecond SourceArn StartedTimestamp Status TaskHandle",
    ),
    ("ListQueueTagsRequest", "QueueUrl"),
    ("ListQueueTagsResult", "Tags/Tag"),
    ("ListQueuesRequest", "MaxResults NextToken QueueNamePrefix"),
    ("ListQueuesResult", "NextToken QueueUrls/QueueUrl"),
    (
        "Message",
        "Attributes/Attribute Body MD5OfBody MD5OfMessageAttributes MessageAttributes/MessageAttribute MessageId ReceiptHandle",
    ),
    (
        "MessageAttributeValue",
        "BinaryListValues/BinaryListValue BinaryValue DataType StringListValues/StringListValue StringValue",
    ),
    (
        "MessageSystemAttributeValue",
        "BinaryListValues/BinaryListValue BinaryValue DataType StringListValues/StringListValue StringValue",
    ),
    ("PurgeQueueRequest", "QueueUrl"),
    (
        "ReceiveMessageRequest",
        "AttributeNames/AttributeName MaxNumberOfMessages MessageAttributeNames/MessageAttributeName MessageSystemAttributeNames/MessageSystemAttributeName QueueUrl ReceiveRequestAttemptId VisibilityTimeout WaitTimeSeconds",
    ),
    ("ReceiveMessageResult", "Messages/Message"),
    ("RemovePermissionRequest", "Label QueueUrl"),
    (
        "SendMessageBatchRequest",
        "Entries/SendMessageBatchRequestEntry QueueUrl",
    ),
    (
        "SendMessageBatchRequestEntry",
        "DelaySeconds Id MessageAttributes/MessageAttribute MessageBody MessageDeduplicationId MessageGroupId MessageSystemAttributes/MessageSystemAttribute",
    ),
    (
        "SendMessageBatchResult",
        "Failed/BatchResultErrorEntry Successful/SendMessageBatchResultEntry",
    ),
    (
        "SendMessageBatchResultEntry",
        "Id MD5OfMessageAttributes MD5OfMessageBody MD5OfMessageSystemAttributes MessageId SequenceNumber",
    ),
    (
        "SendMessageRequest",
        "DelaySeconds MessageAttributes/MessageAttribute MessageBody MessageDeduplicationId MessageGroupId MessageSystemAttributes/MessageSystemAttribute QueueUrl",
    ),
    (
        "SendMessageResult",
        "MD5OfMessageAttributes MD5OfMessageBody MD5OfMessageSystemAttributes MessageId SequenceNumber",
    ),
    ("SetQueueAttributesRequest", "Attributes/Attribute QueueUrl"),
    (
        "StartMessageMoveTaskRequest",
        "DestinationArn MaxNumberOfMessagesPerSecond SourceArn",
    ),
    ("StartMessageMoveTaskResult", "TaskHandle"),
    ("TagQueueRequest", "QueueUrl Tags/Tag"),
    ("UntagQueueRequest", "QueueUrl TagKeys/TagKey"),
];

/// The errors that the actions name.
const ERRORS: &str = "BatchEntryIdsNotDistinct BatchRequestTooLong EmptyBatchRequest InvalidAddress InvalidAttributeName InvalidAttributeValue InvalidBatchEntryId InvalidIdFormat InvalidMessageContents InvalidSecurity KmsAccessDenied KmsDisabled KmsInvalidKeyUsage KmsInvalidState KmsNotFound KmsOptInRequired KmsThrottled MessageNotInflight OverLimit PurgeQueueInProgress QueueDeletedRecently QueueDoesNotExist QueueNameExists ReceiptHandleIsInvalid RequestThrottled ResourceNotFoundException TooManyEntriesInBatchRequest UnsupportedOperation";

/// Returns the shapes of this package, by their names in the model.
fn ours() -> Vec<(&'static str, &'static [(&'static str, &'static str)])> {
    macro_rules! models {
        ($($path:path),* $(,)?) => { vec![$(<$path>::MODEL),*] };
    }
    models![
        batch::MessageAttributeValue,
        batch::SendMessageBatchEntry,
        batch::DeleteMessageBatchEntry,
        batch::ChangeMessageVisibilityBatchEntry,
        batch::SendMessageBatchSuccess,
        batch::DeleteMessageBatchSuccess,
        batch::ChangeMessageVisibilityBatchSuccess,
        batch::BatchFailure,
        input::AddPermissionInput,
        input::CancelMessageMoveTaskInput,
        input::ChangeMessageVisibilityInput,
        input::ChangeMessageVisibilityBatchInput,
        input::CreateQueueInput,
        input::DeleteMessageInput,
        input::DeleteMessageBatchInput,
        input::DeleteQueueInput,
        input::GetQueueAttributesInput,
        input::GetQueueUrlInput,
        input::ListDeadLetterSourceQueuesInput,
        input::ListMessageMoveTasksInput,
        input::ListQueueTagsInput,
        input::ListQueuesInput,
        input::PurgeQueueInput,
        input::ReceiveMessageInput,
        input::RemovePermissionInput,
        input::SendMessageInput,
        input::SendMessageBatchInput,
        input::SetQueueAttributesInput,
        input::StartMessageMoveTaskInput,
        input::TagQueueInput,
        input::UntagQueueInput,
        output::CancelMessageMoveTaskOutput,
        output::ChangeMessageVisibilityBatchOutput,
        output::CreateQueueOutput,
        output::DeleteMessageBatchOutput,
        output::GetQueueAttributesOutput,
        output::GetQueueUrlOutput,
        output::ListDeadLetterSourceQueuesOutput,
        output::ListMessageMoveTasksOutput,
        output::MoveTaskEntry,
        output::ListQueueTagsOutput,
        output::ListQueuesOutput,
        output::ReceiveMessageOutput,
        output::ReceivedMessage,
        output::SendMessageOutput,
        output::SendMessageBatchOutput,
        output::StartMessageMoveTaskOutput,
    ]
}

#[test]
fn every_member_of_every_shape_is_known_and_no_other() {
    let mut ours = ours();
    // AWS has two names for one form.
    ours.push(("MessageSystemAttributeValue", batch::MessageAttributeValue::MODEL.1));
    ours.sort_unstable();
    let ours: Vec<_> = ours
        .into_iter()
        .map(|(shape, members)| {
            let mut members: Vec<_> = members
                .iter()
                .map(|(json, query)| {
                    if json == query {
                        (*json).to_owned()
                    } else {
                        format!("{json}/{query}")
                    }
                })
                .collect();
            members.sort_unstable();
            (shape, members.join(" "))
        })
        .collect();
    let theirs: Vec<_> = STRUCTURES
        .iter()
        .map(|(shape, members)| (*shape, (*members).to_owned()))
        .collect();
    assert_eq!(ours, theirs);
}

#[test]
fn every_error_of_the_model_has_a_code() {
    for shape in ERRORS.split(' ') {
        let found = SqsErrorCode::ALL.iter().any(|code| code.shape() == shape);
        assert!(found, "{shape}");
    }
}
