//! Looks at dead letters. SQS has no way to look into a queue, so a look receives the dead letters and releases them again.
//!
//! During a look, for at most [`LOOK`], the dead letters are hidden from all other consumers, and each look counts as a
//! receive. Of a FIFO queue a look sees no more than the first few messages of each group.

use std::{collections::HashSet, num::NonZeroU32, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    asked::Asked,
    ending::Ending,
    facts::Facts,
    failure::{Action, Failure},
    form::{self, Content},
    provenance::Provenance,
    remote::Remote,
    wire::{Ask, BATCH, Patience, Received},
};
use sandhog_queue::{
    DeadLetter, FailureKind, FailureRecord, QueueError,
    message::{MessageId, QueueName},
    printable::{MAX_REASON_BYTES, printable, printable_lines},
};

/// The time for which a look hides the dead letters that it sees.
const LOOK: Duration = Duration::from_secs(30);
/// The longest time of a look. The first dead letters that it saw must still be hidden when it ends.
const LOOK_TIME: Duration = Duration::from_secs(20);
/// The most dead letters that a look sees.
pub(crate) const SEEN: usize = 1000;
/// The wait of a receive for more. A wait makes SQS ask all of its servers.
const MORE_WAIT: Duration = Duration::from_secs(1);
/// The longest time of one receive.
const TAKE: Patience = Patience::new(Duration::from_secs(10), 1);

/// A dead letter that a look holds.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) dead: DeadLetter,
    /// Its id in the dead-letter queue.
    pub(crate) id: String,
    pub(crate) handle: String,
    pub(crate) content: Content,
    /// Whether the message came from the queue that looks, as far as that can be told. Several queues may share a
    /// dead-letter queue.
    pub(crate) is_ours: bool,
    asked: Asked,
}

impl Letter {
    /// Whether `id` names the dead letter. People use the id of the original message, or the one that the dead letter has.
    pub(crate) fn is_called(&self, id: &MessageId) -> bool {
        self.dead.message.id == *id || self.id == id.as_str()
    }

    /// Whether the message stays hidden from all other consumers for this time. If not its receipt is of no use, or works
    /// on a delivery of another consumer.
    pub(crate) fn is_hidden_for(&self, longer: Duration) -> bool {
        self.asked.hidden_until(LOOK) > Instant::now() + longer
    }
}

/// The dead-letter queue of a queue, and the facts about both.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetterQueue {
    pub(crate) source: Arc<Remote>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) target: Arc<Remote>,
    pub(crate) there: Arc<Facts>,
}

impl Remote {
    /// Returns `None` if the queue has no dead-letter queue.
    pub(crate) async fn dead_letter_queue(self: &Arc<Self>) -> Result<Option<DeadLetterQueue>, QueueError> {
        let facts = self.facts().await?;
        let Some(target) = self.dead_letter_target(&facts) else {
            return Ok(None);
        };
        let there = target.facts().await?;
        Ok(Some(DeadLetterQueue {
            source: Arc::clone(self),
            facts,
            target,
            there,
        }))
    }

    /// See [`sandhog_queue::Queue::dead_letters`]. Returns the dead letters that SQS hands out first, which are not always
    /// the oldest.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the dead letters that were seen hidden for at most [`LOOK`].
    pub(crate) async fn dead_letters(self: &Arc<Self>, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        let mut letters = self.look(limit.min(SEEN), |_| false).await?;
        letters.sort_by_key(|letter| (letter.dead.dead_at_ms, letter.dead.message.sent_at_ms));
        Ok(letters.into_iter().map(|letter| letter.dead).collect())
    }

    /// See [`sandhog_queue::Queue::dead_letter`].
    ///
    /// # Cancel safety
    ///
    /// As [`Remote::dead_letters`].
    pub(crate) async fn dead_letter(self: &Arc<Self>, id: &MessageId) -> Result<Option<DeadLetter>, QueueError> {
        let letters = self.look(SEEN, |letter| letter.is_called(id)).await?;
        Ok(letters
            .into_iter()
            .find(|letter| letter.is_called(id))
            .map(|letter| letter.dead))
    }

    /// Looks at dead letters until there are `limit`, or until `enough` says so, or until there are no more.
    async fn look(
        self: &Arc<Self>,
        limit: usize,
        enough: impl Fn(&Letter) -> bool + Send,
    ) -> Result<Vec<Letter>, QueueError> {
        let Some(dead_letter_queue) = self.dead_letter_queue().await? else {
            return Ok(Vec::new());
        };
        let end = Instant::now() + LOOK_TIME;
        let mut letters: Vec<Letter> = Vec::new();
        let mut seen = HashSet::new();
        let mut looked = Ok(());
        while letters.len() < limit && Instant::now() < end {
            let taken = match dead_letter_queue.take(limit - letters.len()).await {
                Ok(taken) => taken,
                Err(error) => {
                    looked = Err(error);
                    break;
                }
            };
            let found = taken.iter().any(&enough);
            let before = letters.len();
            // A dead letter that is seen again has become visible again: the look has lasted too long to go on.
            letters.extend(taken.into_iter().filter(|letter| seen.insert(letter.id.clone())));
            if found || letters.len() == before {
                break;
            }
        }
        dead_letter_queue.release(&letters).await;
        looked.map(|()| letters)
    }
}

impl DeadLetterQueue {
    /// Receives at most ten dead letters.
    pub(crate) async fn take(&self, max: usize) -> Result<Vec<Letter>, QueueError> {
        let ask = Ask {
            max: max.clamp(1, BATCH),
            wait_s: MORE_WAIT.as_secs(),
            visibility_s: LOOK.as_secs(),
            attempt_id: None,
        };
        let asked = Asked::now();
        let received: Result<Vec<Received>, Failure> = self
            .target
            .call(Action::ReceiveMessage, async |wire| {
                wire.receive(&self.there.url, ask, TAKE).await
            })
            .await;
        let received = received.map_err(|failure| self.target.unavailable(failure))?;
        let letters = received.into_iter().map(|message| self.letter(message, asked));
        // Another consumer may have a message that came too late.
        Ok(letters.filter(|letter| letter.is_hidden_for(Duration::ZERO)).collect())
    }

    /// Releases dead letters, last first. Those that cannot be released come back by themselves.
    pub(crate) async fn release(&self, letters: &[Letter]) {
        for batch in letters.rchunks(BATCH) {
            let held = batch.iter().rev().filter(|letter| letter.is_hidden_for(Duration::ZERO));
            let endings: Vec<Ending<'_>> = held.map(|letter| ending(letter, Some(0))).collect();
            if endings.is_empty() {
                continue;
            }
            let answers = self.target.end_all(&endings, self.target.ending()).await;
            let failed = answers.iter().filter(|answer| answer.is_err()).count();
            if failed > 0 {
                tracing::debug!(queue = %self.target.name, failed, "dead letters stay hidden for a while after a look");
            }
        }
    }

    fn letter(&self, received: Received, asked: Asked) -> Letter {
        let id = received.id.clone();
        let handle = received.handle.clone();
        let sent_at_ms = received.sent_at_ms;
        let source_arn = received.source_arn.clone();
        let receive_count = received.receive_count.map_or(0, NonZeroU32::get);
        let opened = form::open(received);
        let mut content = opened.content;
        let own_name = self.source.address.name_and_account().0;
        let (dead, is_ours) = if let Some(provenance) = opened.provenance {
            let is_ours = match &provenance.source {
                Some(source) => source == own_name,
                None => provenance.queue == self.source.name.as_str(),
            };
            content.group_id.clone_from(&provenance.group);
            (self.told(&content, &provenance), is_ours)
        } else {
            let source_name = source_arn.as_deref().and_then(|arn| arn.rsplit(':').next());
            let is_ours = source_name.is_none_or(|name| name == own_name);
            let queue = source_name
                .filter(|_| !is_ours)
                .and_then(|name| QueueName::new(name).ok());
            let moved = source_arn.is_some() || self.facts.redrive.is_some();
            let redrive = self.facts.redrive.as_ref().filter(|_| is_ours);
            // Without the policy, count the receive by this look as well.
            let times = redrive
                .and_then(|redrive| u32::try_from(redrive.max_receive_count).ok())
                .unwrap_or(receive_count.saturating_sub(1));
            let dead = DeadLetter {
                message: content.message(MessageId::from_queue(&id), sent_at_ms),
                queue: queue.unwrap_or_else(|| self.source.name.clone()),
                receive_count: times,
                dead_at_ms: 0,
                failure: untold(moved, times),
            };
            (dead, is_ours)
        };
        Letter {
            dead,
            id,
            handle,
            content,
            is_ours,
            asked,
        }
    }

    /// Makes a dead letter of the message and its note of origin.
    fn told(&self, content: &Content, provenance: &Provenance) -> DeadLetter {
        DeadLetter {
            message: content.message(MessageId::from_queue(&provenance.id), provenance.sent_at_ms),
            queue: QueueName::new(&provenance.queue).unwrap_or_else(|_| self.source.name.clone()),
            receive_count: provenance.receive_count,
            dead_at_ms: provenance.dead_at_ms,
            failure: FailureRecord {
                kind: provenance.kind,
                // Another program may have written the note.
                reason: printable_lines(&provenance.reason, MAX_REASON_BYTES),
                handler: printable(&provenance.handler, MAX_REASON_BYTES),
                component: printable(&provenance.component, MAX_REASON_BYTES),
            },
        }
    }
}

/// Returns the failure of a dead letter without a note of origin: only the number of its receives is known.
fn untold(moved: bool, receives: u32) -> FailureRecord {
    let reason = if moved {
        format!("moved by the redrive policy of the queue after {receives} receives; SQS keeps no reason")
    } else {
        "put here by somebody else; SQS keeps no reason".to_owned()
    };
    FailureRecord {
        kind: FailureKind::Retry,
        reason,
        handler: String::new(),
        component: String::new(),
    }
}

pub(crate) fn ending(letter: &Letter, hide_s: Option<u64>) -> Ending<'_> {
    Ending {
        handle: &letter.handle,
        hide_s,
    }
}
