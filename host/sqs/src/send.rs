//! Sends messages: as few calls as the limits of SQS allow, in the order given.

use std::{ops::Range, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::time::sleep;

use super::{
    facts::Facts,
    failure::{Action, Class, EntryFailure, Failure},
    form,
    remote::Remote,
    wire::{Answers, BATCH, Patience, Sendable},
};
use sandhog_queue::{
    SendError,
    message::{CheckedMessage, InvalidMessage, MessageId},
};

/// The most bytes of one batch call, all of its messages together (limit of SQS).
const BATCH_BYTES: usize = 1024 * 1024;
/// The most calls of one `send_many` under way. A FIFO queue gets one at a time, for the sake of order.
const CALLS: usize = 4;
/// The longest time of a send.
const SEND: Patience = Patience::new(Duration::from_secs(10), 3);
/// The wait before entries are sent again with which SQS had trouble.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

impl Remote {
    /// See [`sandhog_queue::Queue::check_sends`].
    pub(crate) async fn check_sends(&self, messages: &[CheckedMessage]) -> Result<(), SendError> {
        let facts = self.facts().await?;
        for message in messages {
            form::outgoing(message, &facts)?;
        }
        Ok(())
    }

    /// See [`sandhog_queue::Queue::send_many`].
    pub(crate) async fn send_many(&self, messages: Vec<CheckedMessage>) -> Vec<Result<MessageId, SendError>> {
        let facts = match self.facts().await {
            Ok(facts) => facts,
            Err(error) => return vec![Err(error.into()); messages.len()],
        };
        let mut answers: Vec<Option<Result<MessageId, SendError>>> = Vec::with_capacity(messages.len());
        let mut indices = Vec::new();
        let mut sendables = Vec::new();
        for (index, message) in messages.into_iter().enumerate() {
            match form::outgoing(&message, &facts) {
                Ok(sendable) => {
                    indices.push(index);
                    sendables.push(sendable);
                    answers.push(None);
                }
                Err(invalid) => answers.push(Some(Err(invalid.into()))),
            }
        }
        let sent = self.send_all(&facts, &sendables).await;
        for (index, answer) in indices.into_iter().zip(sent) {
            if let Some(slot) = answers.get_mut(index) {
                *slot = Some(answer);
            }
        }
        let silent = || self.unavailable(Failure::local(Action::SendMessageBatch, Class::Server, "no answer"));
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|| Err(silent().into())))
            .collect()
    }

    /// Sends messages that SQS takes as they are. One answer per message, in order.
    pub(crate) async fn send_all(&self, facts: &Facts, messages: &[Sendable]) -> Vec<Result<MessageId, SendError>> {
        let sizes: Vec<usize> = messages.iter().map(Sendable::size).collect();
        let batches: Vec<Vec<&Sendable>> = batches(&sizes)
            .into_iter()
            .filter_map(|range| messages.get(range))
            .map(|batch| batch.iter().collect())
            .collect();
        if facts.fifo {
            return self.send_in_order(facts, batches).await;
        }
        let calls: Vec<_> = batches.iter().map(|batch| self.send_batch(facts, batch)).collect();
        let answers: Vec<Vec<_>> = stream::iter(calls).buffered(CALLS).collect().await;
        answers.into_iter().flatten().collect()
    }

    /// Sends one batch after another. Once the queue did not answer for one, the rest is not sent, so that it overtakes
    /// none.
    async fn send_in_order(&self, facts: &Facts, batches: Vec<Vec<&Sendable>>) -> Vec<Result<MessageId, SendError>> {
        let mut answers = Vec::new();
        let mut stopped = None;
        for batch in batches {
            let sent = match &stopped {
                None => self.send_batch(facts, &batch).await,
                Some(error) => batch.iter().map(|_| Err(SendError::clone(error))).collect(),
            };
            stopped = stopped.or_else(|| first_unanswered(&sent));
            answers.extend(sent);
        }
        answers
    }

    async fn send_batch(&self, facts: &Facts, batch: &[&Sendable]) -> Vec<Result<MessageId, SendError>> {
        let answers = match self.send_twice(facts, batch).await {
            Ok(answers) => answers,
            // One bad entry of a FIFO queue makes SQS refuse all: the good ones are sent one by one.
            Err(failure) if failure.is_refusal() && batch.len() > 1 => return self.send_singly(facts, batch).await,
            Err(failure) if failure.is_refusal() => {
                let text = format!("{} refused the message: {}", self.subject(), failure.said());
                return vec![Err(InvalidMessage(text).into()); batch.len()];
            }
            Err(failure) => return vec![Err(self.unavailable(failure).into()); batch.len()],
        };
        let subject = self.subject();
        answers
            .into_iter()
            .map(|answer| match answer {
                Ok(id) => Ok(MessageId::from_queue(&id)),
                Err(failure) => Err(failure.refused(&self.name, &subject)),
            })
            .collect()
    }

    async fn send_singly(&self, facts: &Facts, batch: &[&Sendable]) -> Vec<Result<MessageId, SendError>> {
        let mut answers = Vec::new();
        let mut stopped = None;
        for message in batch {
            let answer = match &stopped {
                None => Box::pin(self.send_batch(facts, &[message])).await,
                Some(error) => vec![Err(SendError::clone(error))],
            };
            if facts.fifo {
                stopped = stopped.or_else(|| first_unanswered(&answer));
            }
            answers.extend(answer);
        }
        answers
    }

    /// Makes one call, and another one for the entries with which SQS had trouble. A FIFO queue gets no second call, whose
    /// entries would come after the later ones of their group.
    async fn send_twice(&self, facts: &Facts, batch: &[&Sendable]) -> Result<Answers<String>, Failure> {
        let url = &facts.url;
        let mut answers = self.send_once(url, batch).await?;
        let again: Vec<usize> = answers
            .iter()
            .enumerate()
            .filter(|(_, answer)| answer.as_ref().is_err_and(is_worth_repeating))
            .map(|(index, _)| index)
            .collect();
        if again.is_empty() || facts.fifo {
            return Ok(answers);
        }
        sleep(AGAIN_AFTER).await;
        let repeated: Vec<&Sendable> = again.iter().filter_map(|index| batch.get(*index).copied()).collect();
        // If this call fails as a whole, the first answers stand.
        let second = self.send_once(url, &repeated).await.unwrap_or_default();
        for (index, answer) in again.into_iter().zip(second) {
            if let Some(slot) = answers.get_mut(index) {
                *slot = answer;
            }
        }
        Ok(answers)
    }

    async fn send_once(&self, url: &str, batch: &[&Sendable]) -> Result<Answers<String>, Failure> {
        let answers = self
            .call(Action::SendMessageBatch, async |wire| wire.send(url, batch, SEND).await)
            .await?;
        self.on_entry_failures(&answers);
        Ok(answers)
    }
}

fn is_worth_repeating(failure: &EntryFailure) -> bool {
    !(failure.sender_fault && failure.failure.is_refusal())
}

fn first_unanswered(answers: &[Result<MessageId, SendError>]) -> Option<SendError> {
    answers.iter().find_map(|answer| match answer {
        Err(error @ SendError::Queue(_)) => Some(error.clone()),
        Ok(_) | Err(SendError::Invalid(_) | SendError::Full { .. } | SendError::NoSuchQueue(_)) => None,
    })
}

/// Cuts messages of these sizes into batches, in order: as many as one call takes, by number and by bytes.
fn batches(sizes: &[usize]) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (index, size) in sizes.iter().enumerate() {
        if index > start && (index - start == BATCH || bytes + size > BATCH_BYTES) {
            batches.push(start..index);
            start = index;
            bytes = 0;
        }
        bytes += size;
    }
    if start < sizes.len() {
        batches.push(start..sizes.len());
    }
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn batches_keep_the_order_and_the_limits(sizes in prop::collection::vec(0..=BATCH_BYTES, 0..60)) {
            let batches = batches(&sizes);
            let all: Vec<usize> = batches.iter().cloned().flatten().collect();
            prop_assert_eq!(all, (0..sizes.len()).collect::<Vec<_>>());
            for batch in &batches {
                prop_assert!((1..=BATCH).contains(&batch.len()));
                prop_assert!(sizes[batch.clone()].iter().sum::<usize>() <= BATCH_BYTES);
            }
            for (batch, next) in batches.iter().zip(batches.iter().skip(1)) {
                let with_next = sizes[batch.start..=next.start].iter().sum::<usize>();
                prop_assert!(batch.len() == BATCH || with_next > BATCH_BYTES, "a batch ends early");
            }
        }
    }

    #[test]
    fn nothing_to_send_makes_no_call() {
        assert!(batches(&[]).is_empty());
    }
}
