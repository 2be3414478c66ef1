//! Putting dead letters back, or deleting them: all at once where SQS does it by itself, else one by one.
//!
//! A dead letter is sent to its queue before it is deleted here, so it may be in both for a moment, and for good if the
//! delete fails; it is never lost. A long redrive ends after [`LONGEST`] and says how far it got.

use std::{collections::HashSet, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    dead::{group_of, stable_id},
    ending::Ending,
    facts::QUESTION,
    failure::{Action, Failure},
    letters::{Graveyard, Letter, SEEN, ending},
    remote::Remote,
    wire::{BATCH, Move, Sendable},
};
use crate::{
    message::MessageId,
    queue::{QueueError, SendError},
};

/// How long a redrive or a purge lasts at most.
const LONGEST: Duration = Duration::from_secs(50);
/// How often SQS is asked how far it is.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What is done with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    PutBack,
    Delete,
}

/// How far it is done.
#[derive(Debug, Default)]
struct Progress {
    done: u64,
    failed: Option<QueueError>,
}

impl Remote {
    /// See [`crate::queue::Queue::redrive`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves each dead letter where it was, or where it is to go, or in both places. What SQS does
    /// by itself goes on.
    pub(super) async fn redrive(&self, ids: Option<Vec<MessageId>>, limit: usize) -> Result<u64, QueueError> {
        let Some(yard) = self.graveyard().await? else {
            return Ok(0);
        };
        if ids.is_none()
            && (limit == usize::MAX || yard.grave.waiting().await? <= u64::try_from(limit).unwrap_or(u64::MAX))
            && yard.is_alone().await == Some(true)
            && let Some(moved) = yard.move_all().await?
        {
            return Ok(moved);
        }
        yard.each(Fate::PutBack, ids, limit).await
    }

    /// See [`crate::queue::Queue::purge_dead`]. A dead-letter queue that other queues share is not purged: only the dead
    /// letters of this queue are deleted from it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have deleted.
    pub(super) async fn purge_dead(&self) -> Result<u64, QueueError> {
        let Some(yard) = self.graveyard().await? else {
            return Ok(0);
        };
        if yard.is_alone().await == Some(true) {
            return yard.grave.purge().await;
        }
        yard.each(Fate::Delete, None, usize::MAX).await
    }
}

impl Graveyard<'_> {
    /// Whether no other queue has its dead letters here, as far as this host and SQS know. `None`: SQS did not say.
    async fn is_alone(&self) -> Option<bool> {
        if self.grave.is_shared() {
            return Some(false);
        }
        let listed: Result<Vec<String>, Failure> = self
            .grave
            .call(Action::ListDeadLetterSourceQueues, async |wire| {
                wire.sources(&self.there.url, QUESTION).await
            })
            .await;
        let sources = match listed {
            Ok(sources) => sources,
            Err(failure) => {
                tracing::debug!(queue = %self.grave.name, failure = failure.said(), "which queues have their dead letters here is not known");
                return None;
            }
        };
        let own = self.source.address.name_and_account().0;
        // Without a redrive policy the server knows of no source: another host's queue may be one.
        Some(!sources.is_empty() && sources.iter().all(|url| url.rsplit('/').next() == Some(own)))
    }

    /// Lets SQS move all of them. `None` if it does not do that here.
    async fn move_all(&self) -> Result<Option<u64>, QueueError> {
        let (Some(from), Some(to)) = (&self.there.arn, &self.facts.arn) else {
            return Ok(None);
        };
        let started = self
            .grave
            .call(Action::StartMessageMoveTask, async |wire| {
                wire.start_move(from, to, QUESTION).await
            })
            .await;
        match started {
            Ok(()) => {}
            Err(failure) if failure.is_answer() => {
                tracing::debug!(queue = %self.grave.name, failure = failure.said(), "dead letters are moved one by one");
                return Ok(None);
            }
            Err(failure) => return Err(self.grave.unavailable(failure)),
        }
        let end = Instant::now() + LONGEST;
        let mut moved = 0;
        while Instant::now() < end {
            sleep(ASK_EVERY).await;
            let asked: Result<Option<Move>, Failure> = self
                .grave
                .call(Action::ListMessageMoveTasks, async |wire| {
                    wire.latest_move(from, QUESTION).await
                })
                .await;
            let task = match asked {
                Ok(task) => task,
                Err(failure) if moved == 0 => return Err(self.grave.unavailable(failure)),
                Err(_) => break,
            };
            let Some(task) = task else { break };
            moved = task.moved;
            if let (Some(reason), 0) = (&task.failed, moved) {
                let failure = Failure::answered(Action::StartMessageMoveTask, Some(reason), None, "");
                return Err(self.grave.unavailable(failure));
            }
            if !task.running {
                break;
            }
        }
        Ok(Some(moved))
    }

    /// Does it to those with these ids, or to `limit` of all, one by one. Those of other queues are left alone, unless they
    /// are named.
    async fn each(&self, fate: Fate, ids: Option<Vec<MessageId>>, limit: usize) -> Result<u64, QueueError> {
        let end = Instant::now() + LONGEST;
        let limit = ids.as_ref().map_or(limit, |ids| limit.min(ids.len()));
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let mut progress = Progress::default();
        // Left alone, and in the hand until the end so that they do not come again.
        let mut others: Vec<Letter> = Vec::new();
        let mut seen = HashSet::new();
        while progress.done < limit && progress.failed.is_none() && others.len() < SEEN && Instant::now() < end {
            let most = match &ids {
                Some(_) => BATCH,
                None => usize::try_from(limit - progress.done).unwrap_or(BATCH),
            };
            let taken = match self.take(most).await {
                Ok(taken) => taken,
                Err(error) => {
                    progress.failed = Some(error);
                    break;
                }
            };
            let count = taken.len();
            let fresh: Vec<Letter> = taken
                .into_iter()
                .filter(|letter| seen.insert(letter.id.clone()))
                .collect();
            // No more of them, or what is left has been seen.
            let last = fresh.is_empty() || fresh.len() < count;
            let (chosen, rest): (Vec<_>, Vec<_>) = fresh.into_iter().partition(|letter| match &ids {
                Some(ids) => ids.iter().any(|id| letter.is_called(id)),
                None => letter.is_ours,
            });
            others.extend(rest);
            others.extend(self.fulfil(fate, chosen, &mut progress).await);
            if last {
                break;
            }
        }
        self.put_down(&others).await;
        match progress {
            Progress {
                done: 0,
                failed: Some(error),
            } => Err(error),
            Progress { done, failed } => {
                if let Some(error) = failed {
                    tracing::warn!(queue = %self.source.name, done, %error, "not all dead letters could be dealt with");
                }
                Ok(done)
            }
        }
    }

    /// Does it to these, and gives back those to which it could not be done.
    async fn fulfil(&self, fate: Fate, chosen: Vec<Letter>, progress: &mut Progress) -> Vec<Letter> {
        let (ready, failed) = match fate {
            Fate::Delete => (chosen, Vec::new()),
            Fate::PutBack => self.send_back(chosen, progress).await,
        };
        let endings: Vec<Ending<'_>> = ready.iter().map(|letter| ending(letter, None)).collect();
        if endings.is_empty() {
            return failed;
        }
        let deleted = self.grave.end_all(&endings, self.grave.ending()).await;
        for (letter, deleted) in ready.iter().zip(deleted) {
            match (fate, deleted) {
                (_, Ok(())) => progress.done += 1,
                (Fate::Delete, Err(_)) => {}
                (Fate::PutBack, Err(_)) => {
                    progress.done += 1;
                    tracing::warn!(
                        queue = %self.grave.name, id = letter.id,
                        "a dead letter was put back and could not be deleted: it is in both queues"
                    );
                }
            }
        }
        failed
    }

    /// Sends dead letters to their queue. Those sent, and those not.
    async fn send_back(&self, chosen: Vec<Letter>, progress: &mut Progress) -> (Vec<Letter>, Vec<Letter>) {
        let messages: Vec<Sendable> = chosen.iter().map(|letter| self.back(letter)).collect();
        let answers = self.source.send_all(&self.facts, &messages).await;
        let (mut sent, mut left) = (Vec::new(), Vec::new());
        for (letter, answer) in chosen.into_iter().zip(answers) {
            match answer {
                Ok(_) => sent.push(letter),
                Err(SendError::Queue(error)) => {
                    progress.failed.get_or_insert(error);
                    left.push(letter);
                }
                Err(error @ (SendError::Invalid(_) | SendError::Full { .. } | SendError::NoSuchQueue(_))) => {
                    tracing::warn!(queue = %self.source.name, id = letter.id, %error, "a dead letter cannot be put back");
                    left.push(letter);
                }
            }
        }
        (sent, left)
    }

    /// The message as it was before it became a dead letter.
    fn back(&self, letter: &Letter) -> Sendable {
        let mut message = letter.content.sendable();
        if self.facts.fifo {
            message.group_id = Some(group_of(message.group_id.as_deref(), &letter.id).into_owned());
            message.deduplication_id = Some(stable_id("redrive", self.source.name.as_str(), &letter.id));
        }
        message
    }
}
