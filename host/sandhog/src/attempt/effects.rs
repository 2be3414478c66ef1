//! The effects of a guest: sends and key-value writes, which happen before the deletion of what it handled or together with it.

use std::collections::BTreeMap;

use super::{AttemptContext, FinishedMessage, HandlerAttempt, derived::derived_deduplication_id, traced::SendSpan};
use crate::{journal::JournalSend, settlement::AttemptOutcome};
use sandhog_executor::GuestFailure;
use sandhog_queue::{
    EffectSend, Effects, EffectsRefused, FailureKind, SendIds, SendOrigin,
    keyvalue::Writes,
    message::{MessageId, Outgoing, QueueName},
    printable::{MAX_REASON_BYTES, chain, printable_lines},
};
use sandhog_simple::CommitError;

impl HandlerAttempt {
    /// Whether the next message of the handler, if it starts now, finds and does nothing out of turn: the guest has written
    /// nothing that the next one could miss, and all its sends go with the deletion.
    pub(crate) fn is_settled_in_turn(&self, effects: &Effects) -> bool {
        effects.writes.is_empty() && effects.sends.iter().all(|send| self.goes_with_deletion(send))
    }

    /// Whether a send is part of the transaction that deletes what it was sent for.
    fn goes_with_deletion(&self, send: &EffectSend) -> bool {
        let AttemptContext { queue, queues, .. } = &*self.context;
        queue.commits_sends_to(&send.queue) && queues.commits_sends_to(&send.queue)
    }

    /// Makes the effects happen that the source queue cannot commit together with a deletion, so that they happen at least once:
    /// sends to remote queues, then in one transaction of the store the note that the messages were handled, the sends to the
    /// store's own queues and the writes to its key-value store. Returns the effects that go with the deletion. A refusal turns
    /// the successes into failures.
    pub(crate) async fn commit_before_deletion(
        &self,
        messages: &mut [FinishedMessage],
        effects: Effects,
    ) -> CommittedEffects {
        let context = &self.context;
        if effects.is_empty() && !context.queue.capabilities().redelivers_deleted {
            return CommittedEffects::default();
        }
        let Effects { sends, writes, origin } = effects;
        let (mut together, before): (Vec<_>, Vec<_>) =
            sends.into_iter().partition(|send| self.goes_with_deletion(send));
        if !messages
            .iter()
            .any(|message| message.outcome == AttemptOutcome::Success)
        {
            return CommittedEffects::default();
        }
        let (mut stored, remote): (Vec<_>, Vec<_>) = before
            .into_iter()
            .partition(|send| context.queues.commits_sends_to(&send.queue));
        // A remote send cannot be taken back. Most conflicts are known before it.
        if !remote.is_empty()
            && !writes.is_empty()
            && let Err(error) = context.queues.check_writes(writes.clone()).await
        {
            self.fail_successes(messages, &RefusedEffects::from(&error));
            return CommittedEffects::default();
        }
        let mut sent = Vec::new();
        if let Err(reason) = self.send_remote(messages, remote, &mut sent).await {
            self.fail_successes(messages, &RefusedEffects::refused(reason));
            return CommittedEffects::sent(sent);
        }
        let (writes_before, writes_together) = if context.queue.commits_writes() {
            (Writes::default(), writes)
        } else {
            (writes, Writes::default())
        };
        let handled: Vec<MessageId> = messages
            .iter()
            .filter(|message| message.outcome == AttemptOutcome::Success)
            .map(|message| message.id.clone())
            .collect();
        let stored_spans = self.trace_sends(&mut stored);
        let in_store = Effects {
            sends: stored.clone(),
            writes: writes_before,
            // The ids of the others go with the deletion.
            origin: origin.clone().map(|origin| SendOrigin {
                ids: SendIds::random(),
                ..origin
            }),
        };
        let mut stored_sends = JournalSend::of(&in_store);
        let committed = context.queues.note_handled(&*context.queue, &handled, in_store).await;
        let refused = committed.as_ref().err().map(|error| chain(error));
        self.end_sends(stored_spans, &stored_sends, refused.as_deref());
        if let Err(error) = committed {
            self.fail_successes(messages, &RefusedEffects::from(&error));
            return CommittedEffects::sent(sent);
        }
        context.count_sends(&stored);
        sent.append(&mut stored_sends);
        let traced = self.trace_sends(&mut together);
        CommittedEffects {
            with_deletion: Effects {
                sends: together,
                writes: writes_together,
                origin,
            },
            sends: sent,
            traced,
        }
    }

    /// Sends to remote queues. What they have taken is in `sent`, also if another send is refused: it can't be taken back.
    async fn send_remote(
        &self,
        messages: &[FinishedMessage],
        sends: Vec<EffectSend>,
        sent: &mut Vec<JournalSend>,
    ) -> Result<(), String> {
        let mut entries = JournalSend::of(&sends.clone().into());
        entries.sort_by(|one, other| one.queue.cmp(&other.queue));
        let mut entries = entries.into_iter();
        let mut by_queue: BTreeMap<QueueName, Vec<_>> = BTreeMap::new();
        for (index, mut send) in sends.into_iter().enumerate() {
            if send.message.deduplication_id.is_none() {
                let id = derived_deduplication_id(self.context.queue.name(), messages, index, &send);
                let identified = Outgoing {
                    deduplication_id: Some(id),
                    ..send.message.into_outgoing()
                };
                send.message = identified.check().expect("a digest is a deduplication id");
            }
            by_queue.entry(send.queue).or_default().push(send.message);
        }
        // All messages are checked before the first is sent, since a repeat of the attempt would send it again.
        for (name, messages) in &by_queue {
            let Some(queue) = self.context.queues.get(name) else {
                continue;
            };
            let refused = |error| format!("a send to queue {name} was refused: {}", chain(&error));
            queue.check_sends(messages).await.map_err(refused)?;
        }
        for (name, mut messages) in by_queue {
            let queue = self
                .context
                .queues
                .get(&name)
                .ok_or_else(|| format!("queue {name} does not exist"))?;
            let span = self.trace_remote_sends(&*queue, &mut messages).await;
            let mut taken = 0;
            let mut refused = None;
            for (answer, entry) in queue.send_many(messages).await.into_iter().zip(&mut entries) {
                match answer {
                    Ok(id) => {
                        taken += 1;
                        sent.push(JournalSend {
                            message: id.as_str().to_owned(),
                            ..entry
                        });
                    }
                    Err(error) => drop(refused.get_or_insert(error)),
                }
            }
            self.context.metrics.sends(name.as_str(), taken);
            let refused = refused.map(|error| format!("a send to queue {name} was refused: {}", chain(&error)));
            self.end_sends(span.into_iter().collect(), sent, refused.as_deref());
            if let Some(refused) = refused {
                return Err(refused);
            }
        }
        Ok(())
    }

    /// Turns the successes into failures, since the effects of the guest were refused.
    fn fail_successes(&self, messages: &mut [FinishedMessage], refused: &RefusedEffects) {
        self.log_refused_effects(refused);
        for message in messages {
            if message.outcome == AttemptOutcome::Success {
                message.outcome = refused.outcome();
            }
        }
    }

    pub(crate) fn log_refused_effects(&self, refused: &RefusedEffects) {
        let handler = &self.context.handler;
        let RefusedEffects { reason, is_conflict } = refused;
        // A conflict is nothing that somebody has to mend, and is logged with its message.
        if !is_conflict {
            tracing::warn!(
                handler,
                reason,
                "what the handler sent or wrote was refused; the messages will be tried again"
            );
        }
    }
}

impl AttemptContext {
    pub(crate) fn count_sends(&self, sends: &[EffectSend]) {
        let mut counts: BTreeMap<&QueueName, u64> = BTreeMap::new();
        for send in sends {
            *counts.entry(&send.queue).or_default() += 1;
        }
        for (queue, count) in counts {
            self.metrics.sends(queue.as_str(), count);
        }
    }
}

/// The effects of a guest, as far as they happened before the deletion.
#[derive(Debug, Default)]
pub(crate) struct CommittedEffects {
    /// Those that go with the deletion.
    pub(crate) with_deletion: Effects,
    /// What was sent before it.
    pub(crate) sends: Vec<JournalSend>,
    /// The spans of the sends that go with it.
    pub(crate) traced: Vec<SendSpan>,
}

impl CommittedEffects {
    /// These sends have happened, and nothing else will: something was refused.
    fn sent(sends: Vec<JournalSend>) -> Self {
        Self {
            sends,
            ..Self::default()
        }
    }
}

/// The refusal of the effects of a guest that succeeded.
#[derive(Debug)]
pub(crate) struct RefusedEffects {
    reason: String,
    /// Another attempt has changed what this one had compared.
    is_conflict: bool,
}

impl RefusedEffects {
    fn refused(reason: String) -> Self {
        Self {
            reason,
            is_conflict: false,
        }
    }

    /// Returns the outcome of each message that the guest had handled.
    pub(crate) fn outcome(&self) -> AttemptOutcome {
        let reason = printable_lines(&self.reason, MAX_REASON_BYTES);
        if self.is_conflict {
            return AttemptOutcome::Conflict(reason);
        }
        AttemptOutcome::Failed(GuestFailure {
            kind: FailureKind::Retry,
            reason,
            retry_after: None,
            stack: None,
        })
    }
}

impl From<&EffectsRefused> for RefusedEffects {
    fn from(error: &EffectsRefused) -> Self {
        Self {
            reason: chain(error),
            is_conflict: error.is_conflict(),
        }
    }
}

impl From<&CommitError> for RefusedEffects {
    fn from(error: &CommitError) -> Self {
        Self {
            reason: chain(error),
            is_conflict: error.is_conflict(),
        }
    }
}
