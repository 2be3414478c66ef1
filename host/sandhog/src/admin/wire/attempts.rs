//! The form of attempts, and a message as an attempt gets it.

use serde::{Deserialize, Serialize};

use super::MessageForm;
use crate::journal::JournalEntry;
use sandhog_queue::message::{Attributes, InvalidMessage, Message, MessageId};

/// The answer of `GET /handlers/{name}/attempts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttemptList {
    /// The attempts, oldest first.
    pub attempts: Vec<JournalEntry>,
}

impl MessageForm {
    /// Returns the message as a queue hands it out.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`]: the server sent what can't be a message.
    pub fn to_message(&self) -> Result<Message, InvalidMessage> {
        let mut pairs = Vec::with_capacity(self.attributes.len());
        for (name, value) in &self.attributes {
            pairs.push((name.clone(), value.clone().into_value(name)?));
        }
        Ok(Message {
            id: MessageId::from_queue(&self.id),
            body: self.body_bytes().into(),
            attributes: Attributes::new(pairs)?,
            sent_at_ms: self.sent_at_ms,
            group_id: self.group_id.clone(),
            priority: self.priority,
        })
    }
}
