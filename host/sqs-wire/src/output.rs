//! The outputs of the actions that have one.

use std::collections::BTreeMap;

use crate::shape::wire_shapes;

use crate::batch::MessageAttributeValue;
pub use crate::batch::{
    BatchFailure, ChangeMessageVisibilityBatchSuccess, DeleteMessageBatchSuccess, SendMessageBatchSuccess,
};

wire_shapes! {
    /// A move task was ended.
    CancelMessageMoveTaskOutput = "CancelMessageMoveTaskResult" {
        /// How many messages were moved before.
        approximate_number_of_messages_moved: i64 = "ApproximateNumberOfMessagesMoved";
    }

    /// What became of the entries.
    ChangeMessageVisibilityBatchOutput = "ChangeMessageVisibilityBatchResult" {
        /// The entries that worked.
        successful: Vec<ChangeMessageVisibilityBatchSuccess> = "Successful" / "ChangeMessageVisibilityBatchResultEntry";
        /// The entries that did not.
        failed: Vec<BatchFailure> = "Failed" / "BatchResultErrorEntry";
    }

    /// The queue that was made or found.
    CreateQueueOutput = "CreateQueueResult" {
        /// Its URL.
        queue_url: String = "QueueUrl";
    }

    /// What became of the entries.
    DeleteMessageBatchOutput = "DeleteMessageBatchResult" {
        /// The entries that worked.
        successful: Vec<DeleteMessageBatchSuccess> = "Successful" / "DeleteMessageBatchResultEntry";
        /// The entries that did not.
        failed: Vec<BatchFailure> = "Failed" / "BatchResultErrorEntry";
    }

    /// The attributes that were asked for.
    GetQueueAttributesOutput = "GetQueueAttributesResult" {
        /// The attributes by their names.
        attributes: BTreeMap<String, String> = "Attributes" / "Attribute";
    }

    /// The queue that was found.
    GetQueueUrlOutput = "GetQueueUrlResult" {
        /// Its URL.
        queue_url: String = "QueueUrl";
    }

    /// Queues that have this one as their dead-letter queue.
    ListDeadLetterSourceQueuesOutput = "ListDeadLetterSourceQueuesResult" {
        /// Their URLs.
        queue_urls: crate::value::StatedList = "queueUrls" / "QueueUrl";
        /// Where the next page begins, if there may be one.
        next_token: Option<String> = "NextToken";
    }

    /// The latest move tasks.
    ListMessageMoveTasksOutput = "ListMessageMoveTasksResult" {
        /// The tasks, the latest first.
        results: Vec<MoveTaskEntry> = "Results" / "ListMessageMoveTasksResultEntry";
    }

    /// A move task.
    MoveTaskEntry = "ListMessageMoveTasksResultEntry" {
        /// The handle, while the task runs.
        task_handle: Option<String> = "TaskHandle";
        /// `RUNNING`, `COMPLETED`, `CANCELLING`, `CANCELLED` or `FAILED`.
        status: String = "Status";
        /// The ARN of the dead-letter queue.
        source_arn: String = "SourceArn";
        /// The ARN of the queue to move to, if the start named one.
        destination_arn: Option<String> = "DestinationArn";
        /// The most messages in a second, if the start named a number.
        max_number_of_messages_per_second: Option<i64> = "MaxNumberOfMessagesPerSecond";
        /// How many messages were moved.
        approximate_number_of_messages_moved: i64 = "ApproximateNumberOfMessagesMoved";
        /// How many messages there were to move at the start.
        approximate_number_of_messages_to_move: Option<i64> = "ApproximateNumberOfMessagesToMove";
        /// Why a failed task failed.
        failure_reason: Option<String> = "FailureReason";
        /// When the task started, in milliseconds since 1970.
        started_timestamp: i64 = "StartedTimestamp";
    }

    /// The tags of a queue.
    ListQueueTagsOutput = "ListQueueTagsResult" {
        /// The tags by their keys.
        tags: BTreeMap<String, String> = "Tags" / "Tag";
    }

    /// Queues.
    ListQueuesOutput = "ListQueuesResult" {
        /// Their URLs.
        queue_urls: Vec<String> = "QueueUrls" / "QueueUrl";
        /// Where the next page begins, if there may be one.
        next_token: Option<String> = "NextToken";
    }

    /// The messages that were received.
    ReceiveMessageOutput = "ReceiveMessageResult" {
        /// The messages. None is no error.
        messages: Vec<ReceivedMessage> = "Messages" / "Message";
    }

    /// A message that was received.
    ReceivedMessage = "Message" {
        /// The id.
        message_id: String = "MessageId";
        /// The right to extend or delete this delivery.
        receipt_handle: String = "ReceiptHandle";
        /// The MD5 of the body.
        md5_of_body: String = "MD5OfBody";
        /// The body.
        body: String = "Body";
        /// The system attributes that were asked for.
        attributes: BTreeMap<String, String> = "Attributes" / "Attribute";
        /// The MD5 of the attributes that were asked for, if there are some.
        md5_of_message_attributes: Option<String> = "MD5OfMessageAttributes";
        /// The attributes that were asked for.
        message_attributes: BTreeMap<String, MessageAttributeValue> = "MessageAttributes" / "MessageAttribute";
    }

    /// The message that was stored.
    SendMessageOutput = "SendMessageResult" {
        /// The MD5 of the body.
        md5_of_message_body: String = "MD5OfMessageBody";
        /// The MD5 of the attributes, if the message has some.
        md5_of_message_attributes: Option<String> = "MD5OfMessageAttributes";
        /// The MD5 of the system attributes, if the message has some.
        md5_of_message_system_attributes: Option<String> = "MD5OfMessageSystemAttributes";
        /// The id of the message.
        message_id: String = "MessageId";
        /// The place in the order of a FIFO queue.
        sequence_number: Option<String> = "SequenceNumber";
    }

    /// What became of the entries.
    SendMessageBatchOutput = "SendMessageBatchResult" {
        /// The entries that worked.
        successful: Vec<SendMessageBatchSuccess> = "Successful" / "SendMessageBatchResultEntry";
        /// The entries that did not.
        failed: Vec<BatchFailure> = "Failed" / "BatchResultErrorEntry";
    }

    /// The move task that was started.
    StartMessageMoveTaskOutput = "StartMessageMoveTaskResult" {
        /// The handle to end it with.
        task_handle: String = "TaskHandle";
    }
}
