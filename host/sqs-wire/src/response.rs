//! A response: one action with its output, if it has one.

use serde::Serialize;

use crate::{
    action::SqsAction,
    output::{
        CancelMessageMoveTaskOutput, ChangeMessageVisibilityBatchOutput, CreateQueueOutput, DeleteMessageBatchOutput,
        GetQueueAttributesOutput, GetQueueUrlOutput, ListDeadLetterSourceQueuesOutput, ListMessageMoveTasksOutput,
        ListQueueTagsOutput, ListQueuesOutput, ReceiveMessageOutput, SendMessageBatchOutput, SendMessageOutput,
        StartMessageMoveTaskOutput,
    },
    value::WireValue,
    xml::XmlWriter,
};

/// Makes the enum of responses, with how each is written.
macro_rules! responses {
    ($($action:ident($output:ident),)* ; $($bare:ident,)*) => {
        /// What an action answers.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "a variant is the action of its name, and its output says what it means")]
        pub enum SqsResponse {
            $($action($output),)*
            $($bare,)*
        }

        impl SqsResponse {
            /// Returns the action.
            pub fn action(&self) -> SqsAction {
                match self {
                    $(Self::$action(_) => SqsAction::$action,)*
                    $(Self::$bare => SqsAction::$bare,)*
                }
            }

            /// Returns the body in JSON: nothing for an action without an output, as on AWS.
            pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
                match self {
                    $(Self::$action(output) => json(output),)*
                    $(Self::$bare => Ok(Vec::new()),)*
                }
            }

            /// Writes the element of the result in XML. An action without an output has none.
            pub(crate) fn write_result(&self, xml: &mut XmlWriter) {
                match self {
                    $(Self::$action(output) => output.write_xml(xml, concat!(stringify!($action), "Result")),)*
                    $(Self::$bare => (),)*
                }
            }
        }
    };
}

fn json<T: Serialize>(output: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(output)
}

responses! {
    CancelMessageMoveTask(CancelMessageMoveTaskOutput),
    ChangeMessageVisibilityBatch(ChangeMessageVisibilityBatchOutput),
    CreateQueue(CreateQueueOutput),
    DeleteMessageBatch(DeleteMessageBatchOutput),
    GetQueueAttributes(GetQueueAttributesOutput),
    GetQueueUrl(GetQueueUrlOutput),
    ListDeadLetterSourceQueues(ListDeadLetterSourceQueuesOutput),
    ListMessageMoveTasks(ListMessageMoveTasksOutput),
    ListQueueTags(ListQueueTagsOutput),
    ListQueues(ListQueuesOutput),
    ReceiveMessage(ReceiveMessageOutput),
    SendMessage(SendMessageOutput),
    SendMessageBatch(SendMessageBatchOutput),
    StartMessageMoveTask(StartMessageMoveTaskOutput),
    ;
    AddPermission,
    ChangeMessageVisibility,
    DeleteMessage,
    DeleteQueue,
    PurgeQueue,
    RemovePermission,
    SetQueueAttributes,
    TagQueue,
    UntagQueue,
}
