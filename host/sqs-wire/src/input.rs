//! The inputs of the actions.
//!
//! A member that must be there is plain and empty where it is missing; [`parse`](crate::parse()) refuses the request
//! then. Numbers are as the client wrote them, and `parse` refuses those out of range.

use std::collections::BTreeMap;

use crate::shape::wire_shapes;

pub use crate::batch::{
    ChangeMessageVisibilityBatchEntry, DeleteMessageBatchEntry, MessageAttributeValue, SendMessageBatchEntry,
};

wire_shapes! {
    /// Allows other accounts to use a queue.
    AddPermissionInput = "AddPermissionRequest" {
        /// The queue.
        queue_url: String = "QueueUrl", required;
        /// The name of the permission, up to 80 characters.
        label: String = "Label", required;
        /// The accounts, up to 50, 12 digits each.
        aws_account_ids: Vec<String> = "AWSAccountIds" / "AWSAccountId", required;
        /// The names of actions, up to 7, or `*`.
        actions: Vec<String> = "Actions" / "ActionName", required;
    }

    /// Ends a move task.
    CancelMessageMoveTaskInput = "CancelMessageMoveTaskRequest" {
        /// The handle that the start gave.
        task_handle: String = "TaskHandle", required;
    }

    /// Changes how long a message that was received stays hidden.
    ChangeMessageVisibilityInput = "ChangeMessageVisibilityRequest" {
        /// The queue.
        queue_url: String = "QueueUrl", required;
        /// The receipt handle.
        receipt_handle: String = "ReceiptHandle", required;
        /// The visibility timeout from now on in seconds, 0 to 43,200.
        visibility_timeout: Option<i64> = "VisibilityTimeout", required;
    }

    /// Changes how long up to ten messages stay hidden.
    ChangeMessageVisibilityBatchInput = "ChangeMessageVisibilityBatchRequest" {
        /// The queue.
        queue_url: String = "QueueUrl", required;
        /// The messages.
        entries: Vec<ChangeMessageVisibilityBatchEntry> = "Entries" / "ChangeMessageVisibilityBatchRequestEntry";
    }

    /// Makes a queue, or finds the one that is just like it.
    CreateQueueInput = "CreateQueueRequest" {
        /// The name. It is `None` only if the request had no such member.
        queue_name: Option<String> = "QueueName", required;
        /// The attributes.
        attributes: BTreeMap<String, String> = "Attributes" / "Attribute";
        /// The tags.
        tags: BTreeMap<String, String> = "tags" / "Tag";
    }

    /// Deletes a message that was received.
    DeleteMessageInput = "DeleteMessageRequest" {
        /// The queue.
        queue_url: String = "QueueUrl", required;
        /// The receipt handle.
        receipt_handle: String = "ReceiptHandle", required;
    }

    /// Deletes up to ten messages.
    DeleteMessageBatchInput = "DeleteMessageBatchRequest" {
        /// The queue.
        queue_url: String = "QueueUrl", required;
        /// The messages.
        entries: Vec<DeleteMessageBatchEntry> = "Entries" / "DeleteMessageBatchRequestEntry";
    }

    /// Deletes a queue with its messages.
    DeleteQueueInput = "DeleteQueueRequest" {
        /// The queue.
        queue_url: String = "QueueUrl", required;
    }

    /// Asks for attributes of a queue.
    GetQueueAttributesInput = "GetQueueAttributesRequest" {
        /// The queue.
        queue_url: String = "QueueUrl", required;
        /// The names of the attributes, or `All`.
        attribute_names: Vec<String> = "AttributeNames" / "AttributeName";
    }

    /// Asks for the URL of a queue.
    GetQueueUrlInput = "GetQueueUrlRequest" {
        /// The name. It is `None` only if the request had no such member.
        queue_name: Option<String> = "QueueName", required;
        /// The account that owns the queue.
        queue_owner_aws_account_id: Option<String> = "QueueOwnerAWSAccountId";
    }

    /// Asks which queues have this one as their dead-letter queue.
    ListDeadLetterSourceQueuesInput = "ListDeadLetterSourceQueuesRequest" {
        /// The dead-letter queue.
        queue_url: String = "QueueUrl", required;
        /// Where the page before ended.
        next_token: Option<String> = "NextToken";
        /// The most queues of a page, 1 to 1,000.
        max_results: Option<i64> = "MaxResults";
    }

    /// Asks for the latest move tasks of a dead-letter queue.
    ListMessageMoveTasksInput = "ListMessageMoveTasksRequest" {
        /// The ARN of the dead-letter queue.
        source_arn: String = "SourceArn", required;
        /// The most tasks, 1 to 10. One without it.
        max_results: Option<i64> = "MaxResults";
    }

    /// Asks for the tags of a queue.
    ListQueueTagsInput = "ListQueueTagsRequest" {
        /// The queue.
        queue_url: String = "QueueUrl", required;
    }

    /// Asks for the queues.
    ListQueuesInput = "ListQueuesRequest" {
        /// What the names must begin with.
        queue_name_prefix: Option<String> = "QueueNamePrefix";
        /// Where the page before ended.
        next_token: Option<String> = "NextToken";
        /// The most queues of a page, 1 to 1,000.
        max_results: Option<i64> = "MaxResults";
    }

    /// Deletes all messages of a queue.
    PurgeQueueInput = "PurgeQueueRequest" {
        /// The queue.
        queue_url: String = "QueueUrl", required;
    }

    /// Takes messages.
    ReceiveMessageInput = "ReceiveMessageRequest" {
        /// The queue.
        queue_url: String = "QueueUrl", required;
        /// The old name of `message_system_attribute_names`.
        attribute_names: Vec<String> = "AttributeNames" / "AttributeName";
        /// The system attributes to give, or `All`.
        message_system_attribute_names: Vec<String> = "MessageSystemAttributeNames" / "MessageSystemAttributeName";
        /// The attributes to give: names, prefixes with `.*`, or `All`.
        message_attribute_names: Vec<String> = "MessageAttributeNames" / "MessageAttributeName";
        /// The most messages, 1 to 10. One without it.
        max_number_of_messages: Option<i64> = "MaxNumberOfMessages";
        /// The visibility timeout in seconds, 0 to 43,200. That of the queue without it.
        visibility_timeout: Option<i64> = "VisibilityTimeout";
        /// How long to wait for a message in seconds, 0 to 20. As long as the queue says without it.
        wait_time_seconds: Option<i64> = "WaitTimeSeconds";
        /// The same one within five minutes gives the same messages again, on a FIFO queue.
        receive_request_attempt_id: Option<String> = "ReceiveRequestAttemptId";
    }

    /// Takes back a permission.
    RemovePermissionInput = "RemovePermissionRequest" {
        /// The queue.
        queue_url: String = "QueueUrl", required;
        /// The name of the permission.
        label: String = "Label", required;
    }

    /// Sends a message.
    SendMessageInput = "SendMessageRequest" {
        /// The queue.
        queue_url: String = "QueueUrl", required;
        /// The body.
        message_body: String = "MessageBody", required;
        /// The delay in seconds, 0 to 900.
        delay_seconds: Option<i64> = "DelaySeconds";
        /// Up to ten attributes.
        message_attributes: BTreeMap<String, MessageAttributeValue> = "MessageAttributes" / "MessageAttribute";
        /// At most `AWSTraceHeader`.
        message_system_attributes: BTreeMap<String, MessageAttributeValue> = "MessageSystemAttributes" / "MessageSystemAttribute";
        /// The deduplication id, on a FIFO queue.
        message_deduplication_id: Option<String> = "MessageDeduplicationId";
        /// The message group.
        message_group_id: Option<String> = "MessageGroupId";
    }

    /// Sends up to ten messages.
    SendMessageBatchInput = "SendMessageBatchRequest" {
        /// The queue.
        queue_url: String = "QueueUrl", required;
        /// The messages.
        entries: Vec<SendMessageBatchEntry> = "Entries" / "SendMessageBatchRequestEntry";
    }

    /// Changes attributes of a queue.
    SetQueueAttributesInput = "SetQueueAttributesRequest" {
        /// The queue.
        queue_url: String = "QueueUrl", required;
        /// The attributes.
        attributes: BTreeMap<String, String> = "Attributes" / "Attribute", required;
    }

    /// Starts to move the messages of a dead-letter queue.
    StartMessageMoveTaskInput = "StartMessageMoveTaskRequest" {
        /// The ARN of the dead-letter queue.
        source_arn: String = "SourceArn", required;
        /// The ARN of the queue to move to. Each message goes to where it came from without it.
        destination_arn: Option<String> = "DestinationArn";
        /// The most messages in a second, 1 to 500.
        max_number_of_messages_per_second: Option<i64> = "MaxNumberOfMessagesPerSecond";
    }

    /// Adds tags to a queue, or changes them.
    TagQueueInput = "TagQueueRequest" {
        /// The queue.
        queue_url: String = "QueueUrl", required;
        /// The tags.
        tags: BTreeMap<String, String> = "Tags" / "Tag", required;
    }

    /// Takes tags from a queue.
    UntagQueueInput = "UntagQueueRequest" {
        /// The queue.
        queue_url: String = "QueueUrl", required;
        /// The keys of the tags.
        tag_keys: Vec<String> = "TagKeys" / "TagKey", required;
    }
}
