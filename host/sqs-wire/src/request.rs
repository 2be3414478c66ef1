//! A request: one action with its input.

use serde::Deserialize;

use crate::{
    action::SqsAction,
    error::SqsError,
    form::FormNode,
    input::{
        AddPermissionInput, CancelMessageMoveTaskInput, ChangeMessageVisibilityBatchInput,
        ChangeMessageVisibilityInput, CreateQueueInput, DeleteMessageBatchInput, DeleteMessageInput, DeleteQueueInput,
        GetQueueAttributesInput, GetQueueUrlInput, ListDeadLetterSourceQueuesInput, ListMessageMoveTasksInput,
        ListQueueTagsInput, ListQueuesInput, PurgeQueueInput, ReceiveMessageInput, RemovePermissionInput,
        SendMessageBatchInput, SendMessageInput, SetQueueAttributesInput, StartMessageMoveTaskInput, TagQueueInput,
        UntagQueueInput,
    },
    value::WireValue,
};

/// Makes the enum of requests, with how each is read.
macro_rules! requests {
    ($($action:ident($input:ident),)*) => {
        /// A request, with the input of its action.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "a variant is the action of its name, and its input says what it does")]
        pub enum SqsRequest {
            $($action($input)),*
        }

        impl SqsRequest {
            /// Returns the action.
            pub fn action(&self) -> SqsAction {
                match self {
                    $(Self::$action(_) => SqsAction::$action),*
                }
            }

            /// Reads the input of an action from JSON.
            pub(crate) fn from_json(action: SqsAction, body: &[u8]) -> Result<Self, serde_json::Error> {
                let mut deserializer = serde_json::Deserializer::from_slice(body);
                let request = match action {
                    $(SqsAction::$action => Self::$action($input::deserialize(&mut deserializer)?)),*
                };
                deserializer.end()?;
                Ok(request)
            }

            /// Reads the input of an action from the parameters of the query protocol.
            pub(crate) fn from_form(action: SqsAction, form: &FormNode) -> Result<Self, SqsError> {
                match action {
                    $(SqsAction::$action => $input::from_form(form, "").map(Self::$action)),*
                }
            }

            /// Returns the first member that must be there and is not.
            pub(crate) fn missing(&self) -> Option<&'static str> {
                match self {
                    $(Self::$action(input) => input.missing()),*
                }
            }
        }
    };
}

requests! {
    AddPermission(AddPermissionInput),
    CancelMessageMoveTask(CancelMessageMoveTaskInput),
    ChangeMessageVisibility(ChangeMessageVisibilityInput),
    ChangeMessageVisibilityBatch(ChangeMessageVisibilityBatchInput),
    CreateQueue(CreateQueueInput),
    DeleteMessage(DeleteMessageInput),
    DeleteMessageBatch(DeleteMessageBatchInput),
    DeleteQueue(DeleteQueueInput),
    GetQueueAttributes(GetQueueAttributesInput),
    GetQueueUrl(GetQueueUrlInput),
    ListDeadLetterSourceQueues(ListDeadLetterSourceQueuesInput),
    ListMessageMoveTasks(ListMessageMoveTasksInput),
    ListQueueTags(ListQueueTagsInput),
    ListQueues(ListQueuesInput),
    PurgeQueue(PurgeQueueInput),
    ReceiveMessage(ReceiveMessageInput),
    RemovePermission(RemovePermissionInput),
    SendMessage(SendMessageInput),
    SendMessageBatch(SendMessageBatchInput),
    SetQueueAttributes(SetQueueAttributesInput),
    StartMessageMoveTask(StartMessageMoveTaskInput),
    TagQueue(TagQueueInput),
    UntagQueue(UntagQueueInput),
}

impl SqsRequest {
    /// Returns the place of the URL of the queue, for the actions that have one.
    fn queue_url_slot(&mut self) -> Option<&mut String> {
        match self {
            Self::AddPermission(input) => Some(&mut input.queue_url),
            Self::ChangeMessageVisibility(input) => Some(&mut input.queue_url),
            Self::ChangeMessageVisibilityBatch(input) => Some(&mut input.queue_url),
            Self::DeleteMessage(input) => Some(&mut input.queue_url),
            Self::DeleteMessageBatch(input) => Some(&mut input.queue_url),
            Self::DeleteQueue(input) => Some(&mut input.queue_url),
            Self::GetQueueAttributes(input) => Some(&mut input.queue_url),
            Self::ListDeadLetterSourceQueues(input) => Some(&mut input.queue_url),
            Self::ListQueueTags(input) => Some(&mut input.queue_url),
            Self::PurgeQueue(input) => Some(&mut input.queue_url),
            Self::ReceiveMessage(input) => Some(&mut input.queue_url),
            Self::RemovePermission(input) => Some(&mut input.queue_url),
            Self::SendMessage(input) => Some(&mut input.queue_url),
            Self::SendMessageBatch(input) => Some(&mut input.queue_url),
            Self::SetQueueAttributes(input) => Some(&mut input.queue_url),
            Self::TagQueue(input) => Some(&mut input.queue_url),
            Self::UntagQueue(input) => Some(&mut input.queue_url),
            Self::CancelMessageMoveTask(_)
            | Self::CreateQueue(_)
            | Self::GetQueueUrl(_)
            | Self::ListMessageMoveTasks(_)
            | Self::ListQueues(_)
            | Self::StartMessageMoveTask(_) => None,
        }
    }

    /// Names the queue with `path` if the request names none.
    pub(crate) fn default_queue_url(&mut self, path: &str) {
        if let Some(url) = self.queue_url_slot()
            && url.is_empty()
        {
            path.clone_into(url);
        }
    }

    /// Returns the URL of the queue as the client wrote it, or the path of the request, for the actions that have one.
    pub fn queue_url(&self) -> Option<&str> {
        match self {
            Self::AddPermission(input) => Some(&input.queue_url),
            Self::ChangeMessageVisibility(input) => Some(&input.queue_url),
            Self::ChangeMessageVisibilityBatch(input) => Some(&input.queue_url),
            Self::DeleteMessage(input) => Some(&input.queue_url),
            Self::DeleteMessageBatch(input) => Some(&input.queue_url),
            Self::DeleteQueue(input) => Some(&input.queue_url),
            Self::GetQueueAttributes(input) => Some(&input.queue_url),
            Self::ListDeadLetterSourceQueues(input) => Some(&input.queue_url),
            Self::ListQueueTags(input) => Some(&input.queue_url),
            Self::PurgeQueue(input) => Some(&input.queue_url),
            Self::ReceiveMessage(input) => Some(&input.queue_url),
            Self::RemovePermission(input) => Some(&input.queue_url),
            Self::SendMessage(input) => Some(&input.queue_url),
            Self::SendMessageBatch(input) => Some(&input.queue_url),
            Self::SetQueueAttributes(input) => Some(&input.queue_url),
            Self::TagQueue(input) => Some(&input.queue_url),
            Self::UntagQueue(input) => Some(&input.queue_url),
            Self::CancelMessageMoveTask(_)
            | Self::CreateQueue(_)
            | Self::GetQueueUrl(_)
            | Self::ListMessageMoveTasks(_)
            | Self::ListQueues(_)
            | Self::StartMessageMoveTask(_) => None,
        }
    }
}
