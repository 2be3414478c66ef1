//! The form of attempts, and a message as an attempt gets it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{AttributeForm, MessageForm, PeekedForm, body_of};
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
        Ok(Message {
            id: MessageId::from_queue(&self.id),
            body: self.body_bytes().into(),
            attributes: values(&self.attributes)?,
            sent_at_ms: self.sent_at_ms,
            group_id: self.group_id.clone(),
            priority: self.priority,
        })
    }
}

impl PeekedForm {
    /// As [`MessageForm::to_message`], with as much of the body as is shown.
    ///
    /// # Errors
    ///
    /// See there.
    pub fn to_message(&self) -> Result<Message, InvalidMessage> {
        Ok(Message {
            id: MessageId::from_queue(&self.id),
            body: body_of(self.body.clone(), self.body_base64.clone())?,
            attributes: values(&self.attributes)?,
            sent_at_ms: self.sent_at_ms,
            group_id: self.group_id.clone(),
            priority: self.priority,
        })
    }
}

fn values(forms: &BTreeMap<String, AttributeForm>) -> Result<Attributes, InvalidMessage> {
    let mut pairs = Vec::with_capacity(forms.len());
    for (name, value) in forms {
        pairs.push((name.clone(), value.clone().into_value(name)?));
    }
    Attributes::new(pairs)
}
