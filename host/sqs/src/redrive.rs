//! Puts dead letters back, or deletes them: all at once where SQS does it by itself, else one by one.
//!
//! A dead letter is sent to its queue before it is deleted here, so it may be in both for a moment, and for good if the
//! deletion fails; it is never lost. Both are one step, which ends whole even if its caller stops waiting. A long redrive
//! ends after [`LONGEST`], or when the queue closes, and tells the number of messages so far.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    dead::{group_of, stable_id},
    ending::Ending,
    facts_lookup::QUESTION,
    failure::{Action, Failure},
    letters::{DeadLetterQueue, Letter, SEEN, ending},
    remote::Remote,
    tasks::Tasks,
    wire::{BATCH, Move, Sendable},
};
use sandhog_queue::{QueueError, SendError, message::MessageId};

/// The longest time of a redrive or a purge, besides one more step.
const LONGEST: Duration = Duration::from_secs(40);
/// The time for which a dead letter must still be hidden when its step begins.
const TIME_OF_A_STEP: Duration = Duration::from_secs(10);
/// The number of tries to delete a dead letter that was put back, while it is hidden.
const DELETIONS: usize = 4;
/// The time between two questions to SQS about its progress.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The operation on dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    PutBack,
    Delete,
}

/// The progress of the operation, and the dead letters that it holds.
#[derive(Debug, Default)]
struct Progress {
    done: u64,
    failed: Option<QueueError>,
    left: Vec<Letter>,
}

impl Progress {
    fn add(&mut self, step: Self) {
        self.done += step.done;
        self.failed = self.failed.take().or(step.failed);
        self.left.extend(step.left);
    }
}

impl Remote {
    /// See [`sandhog_queue::Queue::redrive`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves each dead letter where it was, or where it is to go, once the step under way has ended.
    /// The step goes on, and so does a move that SQS does by itself.
    pub(crate) async fn redrive(
        self: &Arc<Self>,
        tasks: &Tasks,
        ids: Option<Vec<MessageId>>,
        limit: usize,
    ) -> Result<u64, QueueError> {
        let Some(dead_letter_queue) = self.dead_letter_queue().await? else {
            return Ok(0);
        };
        if ids.is_some() {
            return dead_letter_queue.each(tasks, Fate::PutBack, ids, limit).await;
        }
        let waiting = usize::try_from(dead_letter_queue.target.waiting().await?).unwrap_or(usize::MAX);
        if waiting <= limit
            && dead_letter_queue.is_alone().await == Some(true)
            && let Some(moved) = dead_letter_queue.move_all().await?
        {
            return Ok(moved);
        }
        // A message that fails again at once is dead again before this ends. So the number of dead letters now, as far as
        // SQS knows it, is the limit.
        dead_letter_queue
            .each(tasks, Fate::PutBack, None, limit.min(waiting.max(SEEN)))
            .await
    }

    /// See [`sandhog_queue::Queue::purge_dead`]. A dead-letter queue that other queues share is not purged: only the dead
    /// letters of this queue are deleted from it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have deleted them.
    pub(crate) async fn purge_dead(self: &Arc<Self>, tasks: &Tasks) -> Result<u64, QueueError> {
        let Some(dead_letter_queue) = self.dead_letter_queue().await? else {
            return Ok(0);
        };
        if dead_letter_queue.is_alone().await == Some(true) {
            return dead_letter_queue.target.purge().await;
        }
        dead_letter_queue.each(tasks, Fate::Delete, None, usize::MAX).await
    }
}

impl DeadLetterQueue {
    /// Whether no other queue has its dead letters here, as far as this host and SQS know. `None` if SQS did not tell.
    async fn is_alone(&self) -> Option<bool> {
        if self.target.is_shared() {
            return Some(false);
        }
        let listed: Result<Vec<String>, Failure> = self
            .target
            .call(Action::ListDeadLetterSourceQueues, async |wire| {
                wire.sources(&self.there.url, QUESTION).await
            })
            .await;
        let sources = match listed {
            Ok(sources) => sources,
            Err(failure) => {
                tracing::debug!(queue = %self.target.name, failure = failure.said(), "which queues have their dead letters here is not known");
                return None;
            }
        };
        let own = self.source.address.name_and_account().0;
        // Without a redrive policy the server knows of no source, and another host's queue may be one.
        Some(!sources.is_empty() && sources.iter().all(|url| url.rsplit('/').next() == Some(own)))
    }

    /// Lets SQS move all dead letters. Returns `None` if SQS does not do that here.
    async fn move_all(&self) -> Result<Option<u64>, QueueError> {
        let (Some(from), Some(to)) = (&self.there.arn, &self.facts.arn) else {
            return Ok(None);
        };
        let started = self
            .target
            .call(Action::StartMessageMoveTask, async |wire| {
                wire.start_move(from, to, QUESTION).await
            })
            .await;
        match started {
            Ok(()) => {}
            Err(failure) if failure.is_answer() => {
                tracing::debug!(queue = %self.target.name, failure = failure.said(), "dead letters are moved one by one");
                return Ok(None);
            }
            Err(failure) => return Err(self.target.unavailable(failure)),
        }
        let end = Instant::now() + LONGEST;
        let mut moved = 0;
        while Instant::now() < end {
            sleep(ASK_EVERY).await;
            let asked: Result<Option<Move>, Failure> = self
                .target
                .call(Action::ListMessageMoveTasks, async |wire| {
                    wire.latest_move(from, QUESTION).await
                })
                .await;
            let task = match asked {
                Ok(task) => task,
                Err(failure) if moved == 0 => return Err(self.target.unavailable(failure)),
                Err(_) => break,
            };
            let Some(task) = task else { break };
            moved = task.moved;
            if let (Some(reason), 0) = (&task.failed, moved) {
                let failure = Failure::answered(Action::StartMessageMoveTask, Some(reason), None, "");
                return Err(self.target.unavailable(failure));
            }
            if !task.running {
                break;
            }
        }
        Ok(Some(moved))
    }

    /// Does the operation to the dead letters with these ids, or to `limit` of all, one by one. Dead letters of other
    /// queues are left alone, unless their ids are given.
    async fn each(
        &self,
        tasks: &Tasks,
        fate: Fate,
        ids: Option<Vec<MessageId>>,
        limit: usize,
    ) -> Result<u64, QueueError> {
        let end = Instant::now() + LONGEST;
        let limit = ids.as_ref().map_or(limit, |ids| limit.min(ids.len()));
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        // Dead letters that are left alone are held until the end, so that they do not come again.
        let mut progress = Progress::default();
        let mut seen = HashSet::new();
        while progress.done < limit
            && progress.failed.is_none()
            && progress.left.len() < SEEN
            && Instant::now() < end
            && !tasks.is_closing()
        {
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
            // There are no more of them, or the rest has been seen.
            let last = fresh.is_empty() || fresh.len() < count;
            let (chosen, rest): (Vec<_>, Vec<_>) = fresh.into_iter().partition(|letter| match &ids {
                Some(ids) => ids.iter().any(|id| letter.is_called(id)),
                None => letter.is_ours,
            });
            progress.left.extend(rest);
            if !chosen.is_empty() {
                let Some(step) = tasks.whole(self.clone().fulfil(fate, chosen)).await else {
                    break;
                };
                progress.add(step);
            }
            if last {
                break;
            }
        }
        let Progress { done, failed, left } = progress;
        self.release(&left).await;
        match failed {
            Some(error) if done == 0 => Err(error),
            Some(error) => {
                tracing::warn!(queue = %self.source.name, done, %error, "not all dead letters could be dealt with");
                Ok(done)
            }
            None => Ok(done),
        }
    }

    /// Does the operation to at most ten dead letters. Those for which it failed are left.
    async fn fulfil(self, fate: Fate, chosen: Vec<Letter>) -> Progress {
        let mut step = Progress::default();
        let (chosen, late): (Vec<_>, Vec<_>) = chosen
            .into_iter()
            .partition(|letter| letter.is_hidden_for(TIME_OF_A_STEP));
        step.left = late;
        let ready = match fate {
            Fate::Delete => chosen,
            Fate::PutBack => self.send_back(chosen, &mut step).await,
        };
        let kept = self.delete(&ready).await;
        let deleted = ready.len() - kept.len();
        step.done += u64::try_from(deleted).unwrap_or(u64::MAX);
        if fate == Fate::PutBack {
            for letter in kept {
                step.done += 1;
                tracing::warn!(
                    queue = %self.target.name, id = letter.id,
                    "a dead letter was put back and could not be deleted: it is in both queues"
                );
            }
        }
        step
    }

    /// Deletes dead letters. Returns those that could not be deleted.
    async fn delete<'a>(&self, letters: &'a [Letter]) -> Vec<&'a Letter> {
        let mut kept: Vec<&Letter> = letters.iter().collect();
        for _ in 0..DELETIONS {
            if !kept.iter().any(|letter| letter.is_hidden_for(Duration::ZERO)) {
                break;
            }
            let endings: Vec<Ending<'_>> = kept.iter().map(|letter| ending(letter, None)).collect();
            let answers = self.target.end_all(&endings, self.target.ending()).await;
            kept = kept
                .into_iter()
                .zip(answers)
                .filter(|(_, answer)| answer.is_err())
                .map(|(letter, _)| letter)
                .collect();
        }
        kept
    }

    /// Sends dead letters to their queue. Returns those that were sent.
    async fn send_back(&self, chosen: Vec<Letter>, step: &mut Progress) -> Vec<Letter> {
        let messages: Vec<Sendable> = chosen.iter().map(|letter| self.back(letter)).collect();
        let answers = self.source.send_all(&self.facts, &messages).await;
        let mut sent = Vec::new();
        for (letter, answer) in chosen.into_iter().zip(answers) {
            match answer {
                Ok(_) => sent.push(letter),
                Err(SendError::Queue(error)) => {
                    step.failed.get_or_insert(error);
                    step.left.push(letter);
                }
                Err(error @ (SendError::Invalid(_) | SendError::Full { .. } | SendError::NoSuchQueue(_))) => {
                    tracing::warn!(queue = %self.source.name, id = letter.id, %error, "a dead letter cannot be put back");
                    step.left.push(letter);
                }
            }
        }
        sent
    }

    /// Returns the message as it was before it became a dead letter.
    fn back(&self, letter: &Letter) -> Sendable {
        let mut message = letter.content.sendable();
        if self.facts.fifo {
            message.group_id = Some(group_of(message.group_id.as_deref(), &letter.id).into_owned());
            message.deduplication_id = Some(stable_id("redrive", self.source.name.as_str(), &letter.id));
        }
        message
    }
}
