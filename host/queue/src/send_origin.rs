//! The origin of messages that a handler sends: the attempt that sent them. Plain data.

use crate::message::{MessageId, QueueName};

/// The attempt from which a send comes, and the ids of what it sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendOrigin {
    /// The message of the attempt; the first one of a batch.
    pub message: MessageId,
    /// The queue that the message came from.
    pub queue: QueueName,
    /// The name of the handler.
    pub handler: String,
    /// The number of the handler's version.
    pub version: u64,
    /// The receive count of the message in the attempt.
    pub receive_count: u32,
    /// The ids of what it sends.
    pub ids: SendIds,
}

/// The ids of the messages that one attempt sends: UUIDs of version 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendIds {
    first: uuid::Uuid,
}

/// A [`SendOrigin`] as a store keeps it and as it is shown, without the message, which is kept beside it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SendingAttempt {
    /// The name of the handler.
    pub handler: String,
    /// The number of the handler's version.
    pub version: u64,
    /// The queue that the message of the attempt came from.
    pub queue: String,
    /// The receive count of the message in the attempt.
    pub receive_count: u32,
}

impl SendIds {
    /// Makes new ids.
    pub fn random() -> Self {
        Self {
            first: uuid::Uuid::now_v7(),
        }
    }

    /// Returns the id of the send with this place among those of the attempt, from 0. A queue that takes ids from its sender gives
    /// the message this one, unless it has a message with the same deduplication id.
    pub fn id(self, index: usize) -> MessageId {
        // The low half begins with the two bits of the variant, and the rest is random.
        const RANDOM: u128 = (1 << 62) - 1;
        let first = self.first.as_u128();
        let index = u128::try_from(index).unwrap_or(u128::MAX);
        let low = (first & RANDOM).wrapping_add(index) & RANDOM;
        let id = uuid::Uuid::from_u128(first & !RANDOM | low);
        MessageId::from_queue(&id.to_string())
    }
}

impl SendOrigin {
    /// Returns the origin as a store keeps it: a JSON object.
    #[expect(clippy::missing_panics_doc, reason = "texts and numbers have a JSON form")]
    pub fn to_json(&self) -> String {
        let attempt = SendingAttempt {
            handler: self.handler.clone(),
            version: self.version,
            queue: self.queue.as_str().to_owned(),
            receive_count: self.receive_count,
        };
        serde_json::to_string(&attempt).expect("texts and numbers have a JSON form")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_send_of_an_attempt_has_an_id_of_its_own_that_is_a_uuid_of_version_7() {
        let of_attempt = SendIds::random();
        let ids: Vec<_> = (0..1000).map(|index| of_attempt.id(index)).collect();
        let parsed: Vec<uuid::Uuid> = ids.iter().map(|id| id.as_str().parse().unwrap()).collect();
        assert!(parsed.iter().all(|id| id.get_version_num() == 7), "{parsed:?}");
        assert!(
            parsed.iter().all(|id| id.get_variant() == uuid::Variant::RFC4122),
            "{parsed:?}"
        );
        let unique: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len());
    }
}
