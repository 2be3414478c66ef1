//! Looking at dead letters. SQS has no way to look into a queue, so a look receives them, and releases them again.
//!
//! While somebody looks, for at most [`LOOK`], the dead letters are hidden from everybody else, and each look counts as a
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
use crate::{
    message::{MessageId, QueueName},
    printable::{MAX_REASON_BYTES, printable, printable_lines},
    queue::{DeadLetter, FailureKind, FailureRecord, QueueError},
};

/// For how long a look hides what it sees.
const LOOK: Duration = Duration::from_secs(30);
/// How long a look takes at most: what it saw first must still be hidden when it ends.
const LOOK_TIME: Duration = Duration::from_secs(20);
/// How many dead letters a look sees at most.
pub(super) const SEEN: usize = 1000;
/// How long a receive waits for more. Waiting at all makes SQS ask all of its servers.
const MORE_WAIT: Duration = Duration::from_secs(1);
/// How long one receive may take.
const TAKE: Patience = Patience::new(Duration::from_secs(10), 1);

/// A dead letter in the hand.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) dead: DeadLetter,
    /// Its id in the dead-letter queue.
    pub(super) id: String,
    pub(super) handle: String,
    pub(super) content: Content,
    /// It came from the queue that looks, as far as anybody can say. Several queues may share a dead-letter queue.
    pub(super) is_ours: bool,
    asked: Asked,
}

impl Letter {
    /// People name a dead letter by the id that they know: that of the message, or the one that it has now.
    pub(super) fn is_called(&self, id: &MessageId) -> bool {
        self.dead.message.id == *id || self.id == id.as_str()
    }

    /// Whether it is hidden from everybody else for so much longer. If not its receipt is of no use, or works on what somebody
    /// else has in the hand.
    pub(super) fn is_in_the_hand_for(&self, longer: Duration) -> bool {
        self.asked.hidden_until(LOOK) > Instant::now() + longer
    }
}

/// Where the dead letters of a queue lie, and what is known of both.
#[derive(Debug, Clone)]
pub(super) struct Graveyard {
    pub(super) source: Arc<Remote>,
    pub(super) facts: Arc<Facts>,
    pub(super) grave: Arc<Remote>,
    pub(super) there: Arc<Facts>,
}

impl Remote {
    /// `None` if the queue has no dead-letter queue.
    pub(super) async fn graveyard(self: &Arc<Self>) -> Result<Option<Graveyard>, QueueError> {
        let facts = self.facts().await?;
        let Some(grave) = self.grave(&facts) else {
            return Ok(None);
        };
        let there = grave.facts().await?;
        Ok(Some(Graveyard {
            source: Arc::clone(self),
            facts,
            grave,
            there,
        }))
    }

    /// See [`crate::queue::Queue::dead_letters`]. Those that SQS hands out first, which are not always the oldest.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves what was seen hidden for at most [`LOOK`].
    pub(super) async fn dead_letters(self: &Arc<Self>, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        let mut letters = self.look(limit.min(SEEN), |_| false).await?;
        letters.sort_by_key(|letter| (letter.dead.dead_at_ms, letter.dead.message.sent_at_ms));
        Ok(letters.into_iter().map(|letter| letter.dead).collect())
    }

    /// See [`crate::queue::Queue::dead_letter`].
    ///
    /// # Cancel safety
    ///
    /// As [`Remote::dead_letters`].
    pub(super) async fn dead_letter(self: &Arc<Self>, id: &MessageId) -> Result<Option<DeadLetter>, QueueError> {
        let letters = self.look(SEEN, |letter| letter.is_called(id)).await?;
        Ok(letters
            .into_iter()
            .find(|letter| letter.is_called(id))
            .map(|letter| letter.dead))
    }

    /// Looks at dead letters until there are `limit`, or `enough`, or no more of them.
    async fn look(
        self: &Arc<Self>,
        limit: usize,
        enough: impl Fn(&Letter) -> bool + Send,
    ) -> Result<Vec<Letter>, QueueError> {
        let Some(yard) = self.graveyard().await? else {
            return Ok(Vec::new());
        };
        let end = Instant::now() + LOOK_TIME;
        let mut letters: Vec<Letter> = Vec::new();
        let mut seen = HashSet::new();
        let mut looked = Ok(());
        while letters.len() < limit && Instant::now() < end {
            let taken = match yard.take(limit - letters.len()).await {
                Ok(taken) => taken,
                Err(error) => {
                    looked = Err(error);
                    break;
                }
            };
            let found = taken.iter().any(&enough);
            let before = letters.len();
            // What is seen again has become visible again: the look has lasted too long to go on.
            letters.extend(taken.into_iter().filter(|letter| seen.insert(letter.id.clone())));
            if found || letters.len() == before {
                break;
            }
        }
        yard.put_down(&letters).await;
        looked.map(|()| letters)
    }
}

impl Graveyard {
    /// Takes dead letters into the hand, at most ten.
    pub(super) async fn take(&self, max: usize) -> Result<Vec<Letter>, QueueError> {
        let ask = Ask {
            max: max.clamp(1, BATCH),
            wait_s: MORE_WAIT.as_secs(),
            visibility_s: LOOK.as_secs(),
            attempt_id: None,
        };
        let asked = Asked::now();
        let received: Result<Vec<Received>, Failure> = self
            .grave
            .call(Action::ReceiveMessage, async |wire| {
                wire.receive(&self.there.url, ask, TAKE).await
            })
            .await;
        let received = received.map_err(|failure| self.grave.unavailable(failure))?;
        let letters = received.into_iter().map(|message| self.letter(message, asked));
        // What came too late is somebody else's.
        Ok(letters
            .filter(|letter| letter.is_in_the_hand_for(Duration::ZERO))
            .collect())
    }

    /// Lets dead letters go again, last first. Those that cannot be let go come back by themselves.
    pub(super) async fn put_down(&self, letters: &[Letter]) {
        for batch in letters.rchunks(BATCH) {
            let held = batch
                .iter()
                .rev()
                .filter(|letter| letter.is_in_the_hand_for(Duration::ZERO));
            let endings: Vec<Ending<'_>> = held.map(|letter| ending(letter, Some(0))).collect();
            if endings.is_empty() {
                continue;
            }
            let answers = self.grave.end_all(&endings, self.grave.ending()).await;
            let failed = answers.iter().filter(|answer| answer.is_err()).count();
            if failed > 0 {
                tracing::debug!(queue = %self.grave.name, failed, "dead letters stay hidden for a while after a look");
            }
        }
    }

    fn letter(&self, received: Received, asked: Asked) -> Letter {
        let (id, handle, sent_at_ms) = (received.id.clone(), received.handle.clone(), received.sent_at_ms);
        let source_arn = received.source_arn.clone();
        let receive_count = received.receive_count.map_or(0, NonZeroU32::get);
        let opened = form::open(received);
        let mut content = opened.content;
        let own_name = self.source.address.name_and_account().0;
        if let Some(provenance) = opened.provenance {
            let is_ours = match &provenance.source {
                Some(source) => source == own_name,
                None => provenance.queue == self.source.name.as_str(),
            };
            content.group_id.clone_from(&provenance.group);
            let dead = self.told(&content, &provenance);
            return Letter {
                dead,
                id,
                handle,
                content,
                is_ours,
                asked,
            };
        }
        let source_name = source_arn.as_deref().and_then(|arn| arn.rsplit(':').next());
        let is_ours = source_name.is_none_or(|name| name == own_name);
        let queue = source_name
            .filter(|_| !is_ours)
            .and_then(|name| QueueName::new(name).ok());
        let moved = source_arn.is_some() || self.facts.redrive.is_some();
        let redrive = self.facts.redrive.as_ref().filter(|_| is_ours);
        // Without the policy at hand: it was received once more since, by this look.
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
        Letter {
            dead,
            id,
            handle,
            content,
            is_ours,
            asked,
        }
    }

    /// What a dead letter says of itself.
    fn told(&self, content: &Content, provenance: &Provenance) -> DeadLetter {
        DeadLetter {
            message: content.message(MessageId::from_queue(&provenance.id), provenance.sent_at_ms),
            queue: QueueName::new(&provenance.queue).unwrap_or_else(|_| self.source.name.clone()),
            receive_count: provenance.receive_count,
            dead_at_ms: provenance.dead_at_ms,
            failure: FailureRecord {
                kind: provenance.kind,
                // Somebody else may have written it.
                reason: printable_lines(&provenance.reason, MAX_REASON_BYTES),
                handler: printable(&provenance.handler, MAX_REASON_BYTES),
                component: printable(&provenance.component, MAX_REASON_BYTES),
            },
        }
    }
}

/// The failure of a dead letter that says nothing of itself. Somebody tried it again and again: that is all that is known.
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

pub(super) fn ending(letter: &Letter, hide_s: Option<u64>) -> Ending<'_> {
    Ending {
        handle: &letter.handle,
        hide_s,
    }
}
