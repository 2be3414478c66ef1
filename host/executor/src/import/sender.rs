//! `sandhog:worker/sender`: collects the messages that a guest sends, until its verdict is known.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    bindings::worker::sandhog::worker::{
        sender::{Host, Outgoing as WitOutgoing, SendError},
        types::AttributeValue as WitValue,
    },
    policy::{Grants, Limits},
};
use sandhog_queue::{
    EffectSend,
    message::{AttributeValue, Attributes, Outgoing, QueueName},
    printable::{MAX_REASON_BYTES, printable},
};

/// The messages that an attempt has sent, and the room for those that it may still send.
#[derive(Debug)]
pub(crate) struct CollectedSends {
    /// The queues that the handler may send to.
    granted: Option<BTreeSet<QueueName>>,
    messages_left: u64,
    bytes_left: u64,
    sent: Vec<EffectSend>,
}

impl CollectedSends {
    pub(crate) fn new(grants: &Grants, limits: &Limits) -> Self {
        Self {
            granted: grants.send.clone(),
            messages_left: limits.sends,
            bytes_left: limits.send_bytes,
            sent: Vec::new(),
        }
    }

    /// Takes every sent message, in order.
    pub(crate) fn take(&mut self) -> Vec<EffectSend> {
        std::mem::take(&mut self.sent)
    }

    /// Sends messages in their order, all of them or none.
    ///
    /// # Errors
    ///
    /// The queue was not granted, a message can't be one, or the attempt has sent what it may.
    pub(crate) fn add(&mut self, queue: &str, messages: Vec<Outgoing>) -> Result<(), SendError> {
        self.collect(queue, messages, Ok)
    }

    fn collect<M>(
        &mut self,
        queue: &str,
        messages: Vec<M>,
        outgoing: fn(M) -> Result<Outgoing, SendError>,
    ) -> Result<(), SendError> {
        let queue = self.granted_queue(queue)?;
        let mut checked = Vec::with_capacity(messages.len().min(1024));
        let (mut messages_left, mut bytes_left) = (self.messages_left, self.bytes_left);
        for message in messages {
            let message = outgoing(message)?.check();
            let message = message.map_err(|error| SendError::Invalid(error.0))?;
            let cost = u64::try_from(message.size()).unwrap_or(u64::MAX);
            messages_left = messages_left.checked_sub(1).ok_or_else(|| {
                SendError::Limit("the attempt has sent as many messages as it may (limits.sends)".to_owned())
            })?;
            bytes_left = bytes_left.checked_sub(cost).ok_or_else(|| {
                SendError::Limit("the attempt has sent as many bytes as it may (limits.send-bytes)".to_owned())
            })?;
            checked.push(EffectSend {
                queue: queue.clone(),
                message,
            });
        }
        (self.messages_left, self.bytes_left) = (messages_left, bytes_left);
        self.sent.append(&mut checked);
        Ok(())
    }

    fn granted_queue(&self, queue: &str) -> Result<QueueName, SendError> {
        self.granted
            .iter()
            .flatten()
            .find(|granted| granted.as_str() == queue)
            .cloned()
            .ok_or_else(|| {
                let queue = printable(queue, MAX_REASON_BYTES);
                SendError::NotGranted(format!(
                    "queue {queue:?} is not granted: add it to [grant] send in the handler's manifest"
                ))
            })
    }
}

impl Host for CollectedSends {
    fn send(&mut self, queue: String, message: WitOutgoing) -> Result<(), SendError> {
        self.collect(&queue, vec![message], outgoing)
    }

    fn send_many(&mut self, queue: String, messages: Vec<WitOutgoing>) -> Result<(), SendError> {
        self.collect(&queue, messages, outgoing)
    }
}

fn outgoing(message: WitOutgoing) -> Result<Outgoing, SendError> {
    let invalid = |error: sandhog_queue::message::InvalidMessage| SendError::Invalid(error.0);
    let pairs = message
        .attributes
        .into_iter()
        .map(|(name, value)| {
            let value = match value {
                WitValue::Text(text) => AttributeValue::Text(text),
                WitValue::Number(number) => AttributeValue::Number(number),
                WitValue::Binary(bytes) => AttributeValue::Binary(bytes),
            };
            (name, value)
        })
        .collect();
    Ok(Outgoing {
        body: message.body.into(),
        attributes: Attributes::new(pairs).map_err(invalid)?,
        delay: message.delay_seconds.map(|seconds| Duration::from_secs(seconds.into())),
        group_id: message.group_id,
        deduplication_id: message.deduplication_id,
        priority: message.priority,
    })
}
