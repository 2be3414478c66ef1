//! The JSON of messages that were looked at, and of what is done with chosen dead letters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{AttributeForm, FailureForm, attribute_forms, body_bytes, bounded, text_or_base64};
use sandhog_queue::{
    FailureRecord, SendingAttempt,
    message::{Attributes, CheckedMessage, InvalidMessage, Message, Outgoing},
    peek::{PeekPage, PeekedMessage},
};

/// The answer of `GET /queues/{name}/messages`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PeekedList {
    /// In the order in which they came to the queue.
    pub messages: Vec<PeekedForm>,
    /// Some messages were not looked at. A page ends at its limit, and earlier if it took long or the messages are large: it may
    /// then be empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// What the parameter `after` is to be for the page behind this one; absent if that was all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl From<PeekPage> for PeekedList {
    fn from(page: PeekPage) -> Self {
        Self {
            messages: page.messages.into_iter().map(Into::into).collect(),
            more: page.next.is_some(),
            next: page.next.map(|next| next.to_string()),
        }
    }
}

/// A message that was looked at.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PeekedForm {
    /// The id that the queue gave the message.
    pub id: String,
    /// `ready`, `held` (behind another one of its group), `in-flight`, `delayed`, `retry` or `damaged`.
    pub state: String,
    /// When it was sent: milliseconds since 1970-01-01T00:00:00Z.
    pub sent_at_ms: u64,
    /// The receives in this queue so far.
    pub receive_count: u32,
    /// The message group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    /// 0 to 9.
    pub priority: u8,
    /// The attributes, by name.
    pub attributes: BTreeMap<String, AttributeForm>,
    /// The body, if what is shown of it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body, if what is shown of it is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// The length of the whole body, in bytes.
    pub body_bytes: u64,
    /// Only the beginning of the body is shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// For a message with a delay: when it becomes visible, in milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visible_at_ms: Option<u64>,
    /// The id of the message that it was made from, or with whose end it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The attempt that sent it, at the message `parent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<SendingAttemptForm>)]
    pub sent_by: Option<SendingAttempt>,
    /// The last failure; for a dead letter, the one that made it one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<FailureForm>)]
    pub failure: Option<FailureRecord>,
    /// For a dead letter: the queue that it came from, if that is still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_of: Option<String>,
    /// For a dead letter: when it became one, in milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_at_ms: Option<u64>,
    /// For a dead letter: the receives by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_receive_count: Option<u32>,
    /// For a damaged message: what is damaged, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// The configuration hides a part of the body or of the attributes from this client.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
}

/// The attempt that sent a message.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "the macro reads the fields")]
struct SendingAttemptForm {
    /// The name of the handler.
    handler: String,
    /// The number of the handler's version.
    version: u64,
    /// The queue that the message of the attempt came from.
    queue: String,
    /// The receive count of the message in the attempt.
    receive_count: u32,
}

impl PeekedForm {
    /// Returns the bytes of what is shown of the body; empty if the server sent wrong base64.
    pub(crate) fn shown_bytes(&self) -> Vec<u8> {
        body_bytes(self.body.as_deref(), self.body_base64.as_deref())
    }
}

impl From<PeekedMessage> for PeekedForm {
    fn from(peeked: PeekedMessage) -> Self {
        let message = peeked.message;
        let cut = message.body.len() < peeked.body_bytes;
        let (body, body_base64) = text_or_base64(message.body.to_vec());
        let death = peeked.death;
        Self {
            id: message.id.to_string(),
            state: peeked.standing.as_str().to_owned(),
            sent_at_ms: message.sent_at_ms,
            receive_count: peeked.receive_count,
            group_id: message.group_id,
            priority: message.priority,
            attributes: attribute_forms(&message.attributes),
            body,
            body_base64,
            body_bytes: u64::try_from(peeked.body_bytes).unwrap_or(u64::MAX),
            cut,
            visible_at_ms: peeked.visible_at_ms,
            parent: peeked.parent.map(|parent| parent.to_string()),
            sent_by: peeked.sent_by,
            failure: peeked.failure,
            dead_at_ms: death.as_ref().map(|death| death.dead_at_ms),
            dead_receive_count: death.as_ref().map(|death| death.receive_count),
            dead_letter_of: death.and_then(|death| death.queue).map(|queue| queue.to_string()),
            damage: peeked.damage,
            redacted: false,
        }
    }
}

/// The request of `POST /queues/{name}/dead/redrive` and `POST /queues/{name}/dead/delete`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SweepRequest {
    /// The ids of the dead letters, at most 1000.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bounded::ids")]
    pub ids: Option<Vec<String>>,
    /// A filter that the dead letters pass, such as `reason ~ "timeout" and age > 1h`.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Say which they are, and change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// With `where`: the `next` of the answer before, or the `counted` of a dry run, for those dead letters that
    /// it counted; one whose state has changed since may pass a filter by `state` that it did not pass then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// The answer of both.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SweepAnswer {
    /// The number of dead letters that were put back or deleted, or would be.
    pub messages: u64,
    /// The time was too short for all dead letters; another request goes on with the others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// What `after` is to be in that request, if it has a `where`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// With `dry-run` and `where`: what `after` is to be in a request that is about the dead letters of this count, and about none that
    /// came later. Of several answers, that of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<String>,
    /// With `dry-run`: their ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
}

/// The request of `POST /queues/{name}/dead/{id}/edit`. What it leaves out stays as it was.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EditRequest {
    /// The new body, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The new body, if it is not text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Attributes that are added, or get another value.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "bounded::attributes"
    )]
    pub attributes: BTreeMap<String, AttributeForm>,
    /// The names of the attributes that are taken away.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "bounded::names")]
    pub unset_attributes: Vec<String>,
}

impl EditRequest {
    /// Returns the request with this body in the field that fits it.
    #[must_use]
    pub fn with_body(mut self, body: Vec<u8>) -> Self {
        (self.body, self.body_base64) = text_or_base64(body);
        self
    }

    /// Returns the message that is to be sent in the place of another one.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`] names the field and what is accepted.
    pub fn apply(self, message: Message) -> Result<CheckedMessage, InvalidMessage> {
        let mut pairs = message.attributes.pairs().to_vec();
        for name in &self.unset_attributes {
            let known = pairs.len();
            pairs.retain(|(other, _)| other != name);
            if pairs.len() == known {
                return Err(InvalidMessage(format!(
                    "the message has no attribute {name:?} to take away"
                )));
            }
        }
        for (name, value) in self.attributes {
            let value = value.into_value(&name)?;
            match pairs.iter_mut().find(|(other, _)| *other == name) {
                Some((_, former)) => *former = value,
                None => pairs.push((name, value)),
            }
        }
        let body = match (self.body, self.body_base64) {
            (None, None) => message.body,
            (text, base64) => super::body_of(text, base64)?,
        };
        Outgoing {
            attributes: Attributes::new(pairs)?,
            group_id: message.group_id,
            priority: Some(message.priority),
            ..Outgoing::new(body)
        }
        .check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_queue::message::{AttributeValue, MessageId};

    fn letter() -> Message {
        Message {
            id: MessageId::random(),
            body: "old".into(),
            attributes: Attributes::new(vec![
                ("a".to_owned(), AttributeValue::Text("1".to_owned())),
                ("b".to_owned(), AttributeValue::Binary(vec![0])),
            ])
            .unwrap(),
            sent_at_ms: 0,
            group_id: Some("g".to_owned()),
            priority: 3,
        }
    }

    #[test]
    fn an_edit_changes_what_it_names_and_leaves_the_rest() {
        let edited = EditRequest {
            attributes: BTreeMap::from([
                ("a".to_owned(), AttributeForm::Text("2".to_owned())),
                ("c".to_owned(), AttributeForm::Number("7".to_owned())),
            ]),
            unset_attributes: vec!["b".to_owned()],
            ..EditRequest::default()
        };
        let edited = edited.apply(letter()).unwrap();
        assert_eq!((&*edited.body, edited.priority), (&b"old"[..], Some(3)));
        assert_eq!(edited.group_id.as_deref(), Some("g"));
        let expected = [
            ("a".to_owned(), AttributeValue::Text("2".to_owned())),
            ("c".to_owned(), AttributeValue::Number("7".to_owned())),
        ];
        assert_eq!(edited.attributes.pairs(), expected);
        let body = EditRequest::default().with_body(vec![255]).apply(letter()).unwrap();
        assert_eq!((&*body.body, body.attributes.pairs().len()), (&[255][..], 2));
    }

    #[test]
    fn an_edit_that_takes_away_what_is_not_there_is_refused() {
        let edit = EditRequest {
            unset_attributes: vec!["z".to_owned()],
            ..EditRequest::default()
        };
        assert!(edit.apply(letter()).unwrap_err().to_string().contains("\"z\""));
    }
}
