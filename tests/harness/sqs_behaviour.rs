//! What SQS does and the servers of the tests do not: differences are listed here, and not hidden in tests that happen to
//! pass. `tests/sqs_servers.rs` checks every line on every server.

use crate::sqs_server::Kind;

macro_rules! behaviours {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Something that SQS does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Behaviour {
            $($(#[$doc])* $name,)*
        }

        impl Behaviour {
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

behaviours! {
    /// While a message of a FIFO group is in flight, no other of that group is handed out.
    BlocksGroups,
    /// One receive may hand out several messages of a group.
    BatchesGroups,
    /// Deleting one of two messages of a group that are in flight does not free the group.
    HoldsGroups,
    /// A deletion that frees a group wakes a poll that waits for it.
    WakesGroups,
    /// Messages of a group whose visibility ends return in their order.
    KeepsOrderOnExpiry,
    /// Messages of a group that are released in one call return in their order.
    KeepsOrderOnRelease,
    /// A message of a group that is released returns, while a later one is still in flight.
    ReleasesAlone,
    /// A message of a group that is released does not let those pass that come after one that is still in flight.
    ReleasesNoLater,
    /// A message of a group that is extended keeps the later ones from returning.
    ExtensionBlocksLater,
    /// A receive with the `ReceiveRequestAttemptId` of an earlier one returns the same messages again.
    ReplaysAttempts,
    /// A second message with the same id for deduplication is dropped, also after the first was deleted.
    Deduplicates,
    /// With `DeduplicationScope` `messageGroup`, the id counts within its group.
    DeduplicatesPerGroup,
    /// A batch with an entry that has no id for deduplication is refused as a whole.
    RefusesWholeBatches,
    /// `DelaySeconds` of a FIFO queue holds its messages back.
    DelaysGroups,
    /// A message to a standard queue may have a `MessageGroupId`, which comes back with it.
    TakesGroupsOnStandard,

    /// A FIFO queue refuses to delete by the handle of a receive that has expired.
    RefusesExpiredOnFifo,
    /// A standard queue deletes by the handle of an expired receive, as long as there is no newer one.
    DeletesExpired,
    /// A standard queue extends by the handle of an expired receive, as long as there is no newer one.
    ExtendsExpired,
    /// The handle of an earlier receive releases a message of a standard queue under its new owner.
    ReleasesByOldHandle,
    /// The visibility of a deleted message cannot be changed: `InvalidParameterValue`.
    RefusesDeleted,
    /// What is no handle is refused: `ReceiptHandleIsInvalid`.
    RefusesGarbage,
    /// A batch answers for each entry: one bad handle fails alone.
    FailsEntriesAlone,
    /// An entry that fails because of its handle is the sender's fault, so that nobody tries it again.
    BlamesSenders,
    /// A poll whose client has left takes no message with it.
    ForgetsClosedPolls,
    /// A poll that waits is given a message whose visibility ends.
    WakesOnExpiry,
    /// A poll that waits is given a message whose delay ends.
    WakesOnDelay,

    /// The type of an attribute may have a label of the sender's own, such as `Number.int`.
    KeepsLabels,
    /// Attributes may be binary.
    KeepsBinary,
    /// Nobody is told the attributes of a message, the system's or the sender's, who does not ask for them.
    HidesUnasked,
    /// Attributes can be asked for by a prefix, `trace.*`.
    SelectsByPrefix,
    /// The system attribute `AWSTraceHeader` comes back.
    KeepsTraceHeaders,
    /// A message to a dead-letter queue keeps its attributes.
    KeepsAttributesOfDead,
    /// The receives of a dead letter are counted on.
    CountsOnInDeadLetters,
    /// A dead letter names the queue that it comes from.
    NamesSourceOfDead,
    /// A FIFO group goes on when its first message becomes a dead letter.
    FreesGroupsOfDead,
    /// `ListDeadLetterSourceQueues`.
    ListsSources,
    /// `StartMessageMoveTask` and `ListMessageMoveTasks`.
    MovesBack,

    /// A body of 1 MiB is taken without asking for it.
    TakesBigBodies,
    /// A message of more is refused (`InvalidParameterValue`), and so is a batch (`BatchRequestTooLong`).
    RefusesTooBig,
    /// Attributes count towards the size.
    CountsAttributes,
    /// A control character is refused: `InvalidMessageContents`.
    RefusesControlCharacters,
    /// An empty body is refused: `MissingParameter`.
    RefusesEmptyBodies,
    /// An eleventh attribute is refused.
    RefusesManyAttributes,
    /// What is out of its range is refused: a wait of 21 s, 11 messages, a delay of 901 s, a visibility of 43201 s.
    RefusesOutOfRange,
    /// A second purge within a minute is refused: `PurgeQueueInProgress`.
    PurgesOnceAMinute,
    /// The `__type` of an error is the code of this protocol, such as `QueueDoesNotExist`.
    NamesCodes,
    /// An error has the header `x-amzn-query-error`, with the code that SDKs report.
    NamesLegacyCodes,
}

impl Kind {
    /// What SQS does and this server does not.
    pub fn lacks(self) -> &'static [Behaviour] {
        match self {
            Self::Rustack => &[
                Behaviour::BatchesGroups,
                Behaviour::HoldsGroups,
                Behaviour::ReleasesAlone,
                Behaviour::ReleasesNoLater,
                Behaviour::ExtensionBlocksLater,
                Behaviour::ReplaysAttempts,
                Behaviour::RefusesWholeBatches,
                Behaviour::DelaysGroups,
                Behaviour::TakesGroupsOnStandard,
                Behaviour::RefusesExpiredOnFifo,
                Behaviour::DeletesExpired,
                Behaviour::ExtendsExpired,
                Behaviour::ReleasesByOldHandle,
                Behaviour::RefusesDeleted,
                Behaviour::RefusesGarbage,
                Behaviour::FailsEntriesAlone,
                Behaviour::BlamesSenders,
                Behaviour::SelectsByPrefix,
                Behaviour::KeepsTraceHeaders,
                Behaviour::CountsOnInDeadLetters,
                Behaviour::ListsSources,
                Behaviour::MovesBack,
                Behaviour::TakesBigBodies,
                Behaviour::RefusesTooBig,
                Behaviour::RefusesControlCharacters,
                Behaviour::RefusesEmptyBodies,
                Behaviour::RefusesOutOfRange,
                Behaviour::NamesCodes,
            ],
            Self::LocalStack => &[
                Behaviour::ReleasesNoLater,
                Behaviour::ReplaysAttempts,
                Behaviour::DeduplicatesPerGroup,
                Behaviour::ExtendsExpired,
                Behaviour::BlamesSenders,
                Behaviour::ForgetsClosedPolls,
                Behaviour::RefusesManyAttributes,
                Behaviour::RefusesOutOfRange,
            ],
            Self::MiniStack => &[
                Behaviour::ReleasesAlone,
                Behaviour::ExtensionBlocksLater,
                Behaviour::ReplaysAttempts,
                Behaviour::RefusesWholeBatches,
                Behaviour::RefusesExpiredOnFifo,
                Behaviour::ReleasesByOldHandle,
                Behaviour::RefusesDeleted,
                Behaviour::ListsSources,
                Behaviour::MovesBack,
                Behaviour::CountsAttributes,
                Behaviour::RefusesManyAttributes,
                Behaviour::RefusesOutOfRange,
                Behaviour::PurgesOnceAMinute,
            ],
            Self::Sandhog => &[],
        }
    }

    /// Whether it does what SQS does.
    pub fn does(self, behaviour: Behaviour) -> bool {
        !self.lacks().contains(&behaviour)
    }
}
