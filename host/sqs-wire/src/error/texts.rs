//! The errors that several rules answer, with the texts of AWS.

use super::{SqsError, SqsErrorCode};

impl SqsError {
    /// A parameter that must be there is not.
    pub fn missing_parameter(name: &str) -> Self {
        Self::new(
            SqsErrorCode::MissingParameter,
            format!("The request must contain the parameter {name}."),
        )
    }

    /// A parameter has a value that is not allowed.
    pub fn invalid_parameter(message: impl Into<String>) -> Self {
        Self::new(SqsErrorCode::InvalidParameterValue, message)
    }

    /// The parameter `name` has a value that is not allowed, for a reason with a full stop at its end if AWS has one.
    pub fn invalid_value(value: impl std::fmt::Display, name: &str, reason: &str) -> Self {
        Self::invalid_parameter(format!(
            "Value {value} for parameter {name} is invalid. Reason: {reason}"
        ))
    }

    /// The parameter `name` has no meaning on a queue of this kind.
    pub fn not_valid_for_queue_type(value: impl std::fmt::Display, name: &str) -> Self {
        Self::invalid_value(
            value,
            name,
            "The request include parameter that is not valid for this queue type.",
        )
    }

    /// The queue is not there. The query protocol adds words of its own when it is rendered.
    pub fn queue_does_not_exist() -> Self {
        Self::new(SqsErrorCode::QueueDoesNotExist, "The specified queue does not exist.")
    }

    /// The address of a queue is none.
    pub fn invalid_address(address: &str) -> Self {
        Self::new(
            SqsErrorCode::InvalidAddress,
            format!("The address {address} is not valid for this endpoint."),
        )
    }

    /// A queue of this name is there, and differs in an attribute.
    pub fn queue_name_exists(attribute: &str) -> Self {
        Self::new(
            SqsErrorCode::QueueNameExists,
            format!("A queue already exists with the same name and a different value for attribute {attribute}"),
        )
    }

    /// A queue of this name was deleted less than 60 seconds ago.
    pub fn queue_deleted_recently() -> Self {
        Self::new(
            SqsErrorCode::QueueDeletedRecently,
            "You must wait 60 seconds after deleting a queue before you can create another with the same name.",
        )
    }

    /// The queue was purged less than 60 seconds ago.
    pub fn purge_queue_in_progress(queue: &str) -> Self {
        Self::new(
            SqsErrorCode::PurgeQueueInProgress,
            format!("Only one PurgeQueue operation on {queue} is allowed every 60 seconds."),
        )
    }

    /// There is no attribute of this name.
    pub fn unknown_attribute(name: &str) -> Self {
        Self::new(SqsErrorCode::InvalidAttributeName, format!("Unknown Attribute {name}."))
    }

    /// An attribute of a queue has a value that is not allowed.
    pub fn invalid_attribute_value(name: &str) -> Self {
        Self::new(
            SqsErrorCode::InvalidAttributeValue,
            format!("Invalid value for the parameter {name}."),
        )
    }

    /// A queue stays standard or FIFO for as long as it is there.
    pub fn queue_type_is_fixed() -> Self {
        Self::new(
            SqsErrorCode::InvalidAttributeValue,
            "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.",
        )
    }

    /// The receipt handle is none that a queue gave.
    pub fn receipt_handle_is_invalid(handle: &str) -> Self {
        Self::new(
            SqsErrorCode::ReceiptHandleIsInvalid,
            format!("The input receipt handle \"{handle}\" is not a valid receipt handle."),
        )
    }

    /// The receipt handle is one that another queue gave.
    pub fn receipt_handle_of_another_queue(handle: &str) -> Self {
        Self::new(
            SqsErrorCode::ReceiptHandleIsInvalid,
            format!("The receipt handle \"{handle}\" is not valid for this queue."),
        )
    }

    /// The visibility timeout of a FIFO message ended before it was deleted.
    pub fn receipt_handle_expired(handle: &str) -> Self {
        Self::invalid_value(handle, "ReceiptHandle", "The receipt handle has expired.")
    }

    /// The message is deleted or not in flight, so that its visibility timeout can't change.
    pub fn visibility_cannot_change(handle: &str) -> Self {
        Self::invalid_value(
            handle,
            "ReceiptHandle",
            "Message does not exist or is not available for visibility timeout change.",
        )
    }

    /// A message was hidden for 12 hours, and an extension would go beyond them.
    pub fn visibility_beyond_limit(seconds: u64) -> Self {
        Self::invalid_value(
            seconds,
            "VisibilityTimeout",
            "Total VisibilityTimeout for the message is beyond the limit [43200 seconds].",
        )
    }

    /// A label of a permission is taken.
    pub fn label_exists(label: &str) -> Self {
        Self::invalid_value(label, "Label", "Already exists.")
    }

    /// No permission has this label.
    pub fn label_not_found(label: &str) -> Self {
        Self::invalid_value(label, "Label", "can't find label.")
    }

    /// Too many messages of a standard queue are in flight.
    pub fn too_many_in_flight() -> Self {
        Self::new(
            SqsErrorCode::OverLimit,
            "Too many messages are in flight. Delete messages before you receive more.",
        )
    }

    /// The dead-letter queue of a redrive policy is not there.
    pub fn dead_letter_target_missing(policy: &str) -> Self {
        Self::invalid_value(policy, "RedrivePolicy", "Dead letter target does not exist.")
    }

    /// The dead-letter queue of a redrive policy is FIFO and its source standard, or the reverse.
    pub fn dead_letter_target_of_other_type(policy: &str) -> Self {
        Self::invalid_value(
            policy,
            "RedrivePolicy",
            "Dead-letter queue must be same type of queue as the source.",
        )
    }

    /// The source of a move task is the dead-letter queue of no queue.
    pub fn source_is_no_dead_letter_queue() -> Self {
        Self::invalid_parameter("Source queue must be configured as a Dead Letter Queue.")
    }

    /// A move task of this source runs.
    pub fn move_task_runs() -> Self {
        Self::invalid_parameter(
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
        )
    }

    /// The handle of a move task is none.
    pub fn task_handle_is_invalid() -> Self {
        Self::invalid_parameter("Value for parameter TaskHandle is invalid.")
    }

    /// There is no such move task.
    pub fn task_does_not_exist() -> Self {
        Self::new(SqsErrorCode::ResourceNotFound, "Task does not exist.")
    }

    /// The queue that `parameter` (`SourceArn` or `DestinationArn`) names is not there.
    pub fn resource_not_found(parameter: &str) -> Self {
        Self::new(
            SqsErrorCode::ResourceNotFound,
            format!("The resource that you specified for the {parameter} parameter doesn't exist."),
        )
    }

    /// The caller may not do this: `caller` is its access key, `action` the name on the wire, `resource` an ARN or `*`.
    pub fn access_denied(caller: &str, action: &str, resource: &str) -> Self {
        Self::new(
            SqsErrorCode::AccessDenied,
            format!("User: {caller} is not authorized to perform: sqs:{action} on resource: {resource}"),
        )
    }

    /// The server failed. Details belong into its log.
    pub fn internal_failure() -> Self {
        Self::new(
            SqsErrorCode::InternalFailure,
            "We encountered an internal error. Please try again.",
        )
    }

    /// The server can't answer now, and may soon.
    pub fn service_unavailable() -> Self {
        Self::new(SqsErrorCode::ServiceUnavailable, "Service Unavailable")
    }

    /// The body, or what it says of a member, can't be read.
    pub(crate) fn serialization(message: impl Into<String>) -> Self {
        Self::new(SqsErrorCode::Serialization, message)
    }

    /// The query protocol knows no such action, or not at this address.
    pub(crate) fn invalid_action(action: &str) -> Self {
        Self::new(
            SqsErrorCode::InvalidAction,
            format!("The action {action} is not valid for this endpoint."),
        )
    }

    /// Nothing says which action is meant.
    pub(crate) fn unknown_operation() -> Self {
        Self::new(SqsErrorCode::UnknownOperation, "")
    }
}
