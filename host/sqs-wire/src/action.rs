//! The actions of SQS, by their names on the wire.

/// Makes the enum of the actions with their names, each of them written once.
macro_rules! actions {
    ($($action:ident),* $(,)?) => {
        /// One action of SQS. [`SqsAction::name`] is its name on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "a variant is the action of its name, and AWS documents it")]
        pub enum SqsAction {
            $($action),*
        }

        impl SqsAction {
            /// All actions, in the order of their names.
            pub const ALL: &'static [Self] = &[$(Self::$action),*];

            /// Returns the name on the wire, such as `SendMessage`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$action => stringify!($action)),*
                }
            }
        }
    };
}

actions![
    AddPermission,
    CancelMessageMoveTask,
    ChangeMessageVisibility,
    ChangeMessageVisibilityBatch,
    CreateQueue,
    DeleteMessage,
    DeleteMessageBatch,
    DeleteQueue,
    GetQueueAttributes,
    GetQueueUrl,
    ListDeadLetterSourceQueues,
    ListMessageMoveTasks,
    ListQueueTags,
    ListQueues,
    PurgeQueue,
    ReceiveMessage,
    RemovePermission,
    SendMessage,
    SendMessageBatch,
    SetQueueAttributes,
    StartMessageMoveTask,
    TagQueue,
    UntagQueue,
];

impl SqsAction {
    /// Returns the action with this name. Case matters, as on AWS.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.name() == name)
    }

    /// Returns whether the action works on no queue that its caller names with a URL.
    pub fn is_without_queue_url(self) -> bool {
        matches!(
            self,
            Self::CreateQueue
                | Self::GetQueueUrl
                | Self::ListQueues
                | Self::StartMessageMoveTask
                | Self::CancelMessageMoveTask
                | Self::ListMessageMoveTasks
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_found_by_its_name_and_no_other() {
        assert_eq!(SqsAction::ALL.len(), 23);
        for action in SqsAction::ALL {
            assert_eq!(SqsAction::from_name(action.name()), Some(*action));
        }
        assert_eq!(SqsAction::from_name("sendmessage"), None);
        assert_eq!(SqsAction::from_name(""), None);
    }
}
