//! Makes a dead letter of a message: it is sent to the dead-letter queue as it was received, with a note of its origin, and
//! only then deleted.
//!
//! A send whose answer was lost may or may not have happened, so a dead letter may be there twice, or be there and be tried
//! again. It is never lost.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use super::{
    form::is_id,
    held::HeldDelivery,
    provenance::{self, Provenance},
    remote::Remote,
};
use sandhog_queue::{
    FailureRecord, SendError, SettleError,
    machine_clock::wall_ms,
    message::{InvalidMessage, QueueName},
    printable::hex,
};

impl Remote {
    /// Sends a message to the dead-letter queue, unless that has been done.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have sent it.
    pub(crate) async fn send_dead_letter(
        &self,
        held: &HeldDelivery,
        failure: &FailureRecord,
    ) -> Result<(), SettleError> {
        if held.dead_letter.is_sent() {
            return Ok(());
        }
        let facts = self.facts().await?;
        let Some(target) = self.dead_letter_target(&facts) else {
            return Err(self.cannot_dead_letter("the queue has no dead-letter queue"));
        };
        let refused = |error: SendError| SettleError::DeadLetterRefused {
            queue: target.name.clone(),
            error: Box::new(error),
        };
        let there = target.facts().await.map_err(|error| refused(error.into()))?;
        let mut message = held.content.sendable();
        if !provenance::put_on(&mut message, self.provenance(held, failure), there.max_message_bytes) {
            tracing::warn!(
                queue = %self.name, id = %held.id,
                "a dead letter is too large to say where it comes from"
            );
        }
        if there.fifo {
            message.group_id = Some(group_of(held.content.group_id.as_deref(), held.id.as_str()).into_owned());
            message.deduplication_id = Some(stable_id("dead-letter", self.name.as_str(), held.id.as_str()));
        }
        let sent = target.send_all(&there, &[message]).await.pop();
        match sent {
            Some(Ok(_)) => {
                held.dead_letter.sent();
                Ok(())
            }
            Some(Err(error)) => Err(refused(error)),
            None => Err(self.cannot_dead_letter("nothing was sent")),
        }
    }

    fn provenance(&self, held: &HeldDelivery, failure: &FailureRecord) -> Provenance {
        Provenance {
            id: held.id.to_string(),
            queue: self.name.to_string(),
            source: Some(self.address.name_and_account().0.to_owned()),
            sent_at_ms: held.sent_at_ms,
            receive_count: held.receive_count,
            dead_at_ms: wall_ms(),
            kind: failure.kind,
            reason: failure.reason.clone(),
            handler: failure.handler.clone(),
            component: failure.component.clone(),
            group: held.content.group_id.clone(),
            attribute: None,
        }
    }

    /// Makes the error of a message that cannot become a dead letter, for a reason other than the dead-letter queue's.
    pub(crate) fn cannot_dead_letter(&self, why: &str) -> SettleError {
        SettleError::DeadLetterRefused {
            queue: self.dead_letter_target_name(),
            error: Box::new(InvalidMessage(why.to_owned()).into()),
        }
    }

    fn dead_letter_target_name(&self) -> QueueName {
        let target = self.facts.last().and_then(|facts| self.dead_letter_target(&facts));
        target.map_or_else(|| self.name.clone(), |target| target.name.clone())
    }
}

/// Returns the group of a dead letter. A message that had none is a group of its own.
pub(crate) fn group_of<'a>(group: Option<&'a str>, id: &str) -> Cow<'a, str> {
    match group.filter(|group| is_id(group)) {
        Some(group) => Cow::Borrowed(group),
        None => Cow::Owned(id.to_owned()),
    }
}

/// Returns a deduplication id that is the same whenever the same thing is done to the same message.
pub(crate) fn stable_id(what: &str, queue: &str, id: &str) -> String {
    let mut hash = Sha256::new();
    for part in [what, queue, id] {
        hash.update(part.as_bytes());
        // A separator, so that no part can end where another one begins.
        hash.update([0]);
    }
    hex(&hash.finalize())
}
