//! The shapes of batches: their entries, and what became of each.

use std::collections::BTreeMap;

use crate::{error::SqsError, shape::wire_shapes};

wire_shapes! {
    /// The value of an attribute of a message, and of a system attribute, for which AWS has a shape of the same form.
    MessageAttributeValue = "MessageAttributeValue" {
        /// `String`, `Number` or `Binary`, with a label of the sender's own after a dot.
        data_type: String = "DataType", required;
        /// The value of a `String` or a `Number`.
        string_value: Option<String> = "StringValue";
        /// The value of a `Binary`.
        binary_value: Option<crate::value::BinaryValue> = "BinaryValue";
        /// SQS has the member and does not use it.
        string_list_values: Vec<String> = "StringListValues" / "StringListValue";
        /// SQS has the member and does not use it.
        binary_list_values: Vec<crate::value::BinaryValue> = "BinaryListValues" / "BinaryListValue";
    }

    /// One message of a `SendMessageBatch`.
    SendMessageBatchEntry = "SendMessageBatchRequestEntry" {
        /// The name of the entry in this call.
        id: String = "Id", required;
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

    /// One message of a `DeleteMessageBatch`.
    DeleteMessageBatchEntry = "DeleteMessageBatchRequestEntry" {
        /// The name of the entry in this call.
        id: String = "Id", required;
        /// The receipt handle.
        receipt_handle: String = "ReceiptHandle", required;
    }

    /// One message of a `ChangeMessageVisibilityBatch`.
    ChangeMessageVisibilityBatchEntry = "ChangeMessageVisibilityBatchRequestEntry" {
        /// The name of the entry in this call.
        id: String = "Id", required;
        /// The receipt handle.
        receipt_handle: String = "ReceiptHandle", required;
        /// The visibility timeout from now on in seconds, 0 to 43,200.
        visibility_timeout: Option<i64> = "VisibilityTimeout";
    }

    /// A message of a batch that was stored.
    SendMessageBatchSuccess = "SendMessageBatchResultEntry" {
        /// The name of the entry in this call.
        id: String = "Id", required;
        /// The id of the message.
        message_id: String = "MessageId", required;
        /// The MD5 of the body.
        md5_of_message_body: String = "MD5OfMessageBody", required;
        /// The MD5 of the attributes, if the message has some.
        md5_of_message_attributes: Option<String> = "MD5OfMessageAttributes";
        /// The MD5 of the system attributes, if the message has some.
        md5_of_message_system_attributes: Option<String> = "MD5OfMessageSystemAttributes";
        /// The place in the order of a FIFO queue.
        sequence_number: Option<String> = "SequenceNumber";
    }

    /// A message of a batch that was deleted.
    DeleteMessageBatchSuccess = "DeleteMessageBatchResultEntry" {
        /// The name of the entry in this call.
        id: String = "Id", required;
    }

    /// A message of a batch whose visibility timeout was changed.
    ChangeMessageVisibilityBatchSuccess = "ChangeMessageVisibilityBatchResultEntry" {
        /// The name of the entry in this call.
        id: String = "Id", required;
    }

    /// An entry of a batch that failed.
    BatchFailure = "BatchResultErrorEntry" {
        /// The name of the entry in this call.
        id: String = "Id", required;
        /// Whether the client is to blame, so that sending the entry again helps nobody.
        sender_fault: bool = "SenderFault", required;
        /// The code, as in the query protocol.
        code: String = "Code", required;
        /// The text.
        message: Option<String> = "Message";
    }
}

impl BatchFailure {
    /// Returns the failure of the entry `id`.
    pub fn new(id: impl Into<String>, error: &SqsError) -> Self {
        Self {
            id: id.into(),
            sender_fault: error.code().is_sender_fault(),
            code: error.code().query_code().to_owned(),
            message: Some(error.message().to_owned()),
        }
    }
}
