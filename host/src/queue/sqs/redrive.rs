//! Putting dead letters back, or deleting them: all at once where SQS does it by itself, else one by one.
//!
//! A dead letter is sent to its queue before it is deleted here, so it may be in both for a moment, and for good if the
//! delete fails; it is never lost. Both are one step, which ends whole whoever stops waiting for it. A long redrive ends after
//! [`LONGEST`], or when the queue closes, and says how far it got.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    dead::{group_of, stable_id},
    ending::Ending,
    facts::QUESTION,
    failure::{Action, Failure},
    letters::{Graveyard, Letter, SEEN, ending},
    remote::Remote,
    tasks::Tasks,
    wire::{BATCH, Move, Sendable},
};
use crate::{
    message::MessageId,
    queue::{QueueError, SendError},
};

/// How long a redrive or a purge lasts at most, and one more step.
const LONGEST: Duration = Duration::from_secs(40);
/// How long a dead letter must still be hidden for its step to begin.
const TIME_OF_A_STEP: Duration = Duration::from_secs(10);
/// How often it is tried to delete what was put back, as long as that is hidden.
const DELETIONS: usize = 4;
/// How often SQS is asked how far it is.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What is done with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    PutBack,
    Delete,
}

/// How far it is done, and what is still in the hand.
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
    /// See [`crate::queue::Queue::redrive`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves each dead letter where it was, or where it is to go, once the step under way has ended, which
    /// goes on. So does what SQS does by itself.
    pub(super) async fn redrive(
        self: &Arc<Self>,
        tasks: &Tasks,
        ids: Option<Vec<MessageId>>,
        limit: usize,
    ) -> Result<u64, QueueError> {
        let Some(yard) = self.graveyard().await? else {
            return Ok(0);
        };
        if ids.is_some() {
            return yard.each(tasks, Fate::PutBack, ids, limit).await;
        }
        let waiting = usize::try_from(yard.grave.waiting().await?).unwrap_or(usize::MAX);
        if waiting <= limit
            && yard.is_alone().await == Some(true)
            && let Some(moved) = yard.move_all().await?
        {
            return Ok(moved);
        }
        // What fails again at once is dead again before this ends: no more than there are now, as far as SQS knows.
        yard.each(tasks, Fate::PutBack, None, limit.min(waiting.max(SEEN)))
            .await
    }

    /// See [`crate::queue::Queue::purge_dead`]. A dead-letter queue that other queues share is not purged: only the dead
    /// letters of this queue are deleted from it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have deleted.
    pub(super) async fn purge_dead(self: &Arc<Self>, tasks: &Tasks) -> Result<u64, QueueError> {
        let Some(yard) = self.graveyard().await? else {
            return Ok(0);
        };
        if yard.is_alone().await == Some(true) {
            return yard.grave.purge().await;
        }
        yard.each(tasks, Fate::Delete, None, usize::MAX).await
    }
}

impl Graveyard {
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
        // What is left alone stays in the hand until the end, so that it does not come again.
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
            // No more of them, or what is left has been seen.
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
        self.put_down(&left).await;
        match failed {
            Some(error) if done == 0 => Err(error),
            Some(error) => {
                tracing::warn!(queue = %self.source.name, done, %error, "not all dead letters could be dealt with");
                Ok(done)
            }
            None => Ok(done),
        }
    }

    /// Does it to at most ten; those to which it could not be done are left.
    async fn fulfil(self, fate: Fate, chosen: Vec<Letter>) -> Progress {
        let mut step = Progress::default();
        let (chosen, late): (Vec<_>, Vec<_>) = chosen
            .into_iter()
            .partition(|letter| letter.is_in_the_hand_for(TIME_OF_A_STEP));
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
                    queue = %self.grave.name, id = letter.id,
                    "a dead letter was put back and could not be deleted: it is in both queues"
                );
            }
        }
        step
    }

    /// Deletes dead letters. Answers those that could not be deleted.
    async fn delete<'a>(&self, letters: &'a [Letter]) -> Vec<&'a Letter> {
        let mut kept: Vec<&Letter> = letters.iter().collect();
        for _ in 0..DELETIONS {
            if !kept.iter().any(|letter| letter.is_in_the_hand_for(Duration::ZERO)) {
                break;
            }
            let endings: Vec<Ending<'_>> = kept.iter().map(|letter| ending(letter, None)).collect();
            let answers = self.grave.end_all(&endings, self.grave.ending()).await;
            kept = kept
                .into_iter()
                .zip(answers)
                .filter(|(_, answer)| answer.is_err())
                .map(|(letter, _)| letter)
                .collect();
        }
        kept
    }

    /// Sends dead letters to their queue. Answers those sent.
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
