//! One call of a guest, from deliveries to settlements, in two steps: [`attempt`] races the guest, the leases and the order to
//! stop, on the guests' threads, so that a call changes no thread; [`settle`] makes happen what came of it, where the
//! dispatcher is, so that what concerns a queue never waits behind a guest.
//!
//! Invariant: each delivery is settled at most once, and never after its lease was lost. What the guest sent and wrote is
//! committed together with the deletion of what it handled, or not at all.

use std::{collections::VecDeque, fmt, num::NonZeroU32, sync::Arc, time::Duration};

use futures_util::future::select_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Manifest,
    executor::{Call, CallMessage, Component, Executor, LogLine, LogSink, Policy, Report, Verdict, policy::LogLevel},
    keyvalue::Writes,
    lease::{Lease, LeaseKeeper},
    message::MessageId,
    metrics::Metrics,
    printable::chain,
    queue::{Delivery, Effects, Queue, SettleError, Settlement},
    queue_set::QueueSet,
    settlement::Outcome,
    slots::TakenSlots,
};

mod derived;
mod settle;

pub use self::settle::settle;

/// A component with its manifest: what a delivery runs on from its start to its end, whatever is reloaded meanwhile.
#[derive(Debug)]
pub struct Version {
    /// What is called.
    pub component: Component,
    /// What it was told to be.
    pub manifest: Manifest,
    /// What it may use, taken from the manifest.
    pub policy: Arc<Policy>,
}

impl Version {
    /// How many messages one call takes.
    pub fn batch_size(&self) -> usize {
        if self.component.info.flavour.takes_batches() {
            self.manifest.batch_size.get()
        } else {
            1
        }
    }

    /// How many attempts may be under way: what the manifest says, or as many as the executor can run if that is less.
    pub fn concurrency(&self, executor: &dyn Executor) -> usize {
        self.manifest
            .concurrency
            .get()
            .min(executor.most_at_once(&self.component, &self.policy))
    }

    /// How many bytes of bodies one batch has at most, if it has more than one message: an eighth of the guest's memory, so
    /// that large messages do not fail together what each would pass alone.
    pub fn batch_bytes(&self) -> usize {
        usize::try_from(self.policy.limits.memory / 8).unwrap_or(usize::MAX)
    }
}

/// What a manifest lets a handler's guests use and touch.
pub fn policy(handler: &str, manifest: &Manifest) -> Policy {
    Policy {
        handler: handler.to_owned(),
        timeout: manifest.timeout,
        limits: manifest.limits,
        grants: manifest.grants.clone(),
        reuse: manifest.reuse,
    }
}

/// What every attempt of one handler shares.
#[derive(Debug)]
pub struct AttemptContext {
    /// The handler's name.
    pub handler: String,
    /// Where its messages come from.
    pub queue: Arc<dyn Queue>,
    /// Holds the leases of that queue.
    pub keeper: Arc<LeaseKeeper>,
    /// Runs the guest.
    pub executor: Arc<dyn Executor>,
    /// All queues, for sends that the source cannot commit by itself.
    pub queues: Arc<QueueSet>,
    /// Where counts go.
    pub metrics: Arc<Metrics>,
    /// Cancelled when nothing new may be started.
    pub stop_receiving: CancellationToken,
    /// Cancelled when attempts under way must end.
    pub stop_working: CancellationToken,
}

/// A delivery under a lease.
#[derive(Debug)]
pub struct Leased {
    /// What was received.
    pub delivery: Delivery,
    /// The right to settle it.
    pub lease: Lease,
    /// Later messages of its group, received together with it and in order; they wait for it under leases of their own.
    pub followers: Line,
}

/// How an attempt came out, per message.
pub type Outcomes = Vec<(MessageId, Outcome)>;

/// Messages that wait for another one of their group, in order.
pub type Line = VecDeque<Leased>;

/// How an attempt ended.
#[derive(Debug)]
pub struct Ended {
    /// How it came out.
    pub outcomes: Outcomes,
    /// The next of each group whose first message was handled, with its own followers.
    pub next: Vec<Leased>,
    /// The longest wait before a message that was not handled comes back.
    pub back_in: Option<Duration>,
}

/// What every step of one attempt has to know.
struct Attempt {
    context: Arc<AttemptContext>,
    version: Arc<Version>,
    ids: Vec<(MessageId, NonZeroU32)>,
}

/// An attempt whose guest is done, and of which nothing is settled yet.
pub struct Handled {
    attempt: Attempt,
    outcomes: Vec<Outcome>,
    effects: Effects,
    leases: Vec<Lease>,
    duration: Duration,
    /// What waits behind each of the messages; shorter than these if nothing does.
    pub lines: Vec<Line>,
    /// The slots that it has taken. Not to be given back before it is settled, unless [it frees them](Handled::frees_slots).
    pub slots: Option<TakenSlots>,
    /// Its place among the attempts that have not ended.
    _unsettled: TakenSlots,
}

impl fmt::Debug for Handled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handled")
            .field("ids", &self.attempt.ids)
            .field("outcomes", &self.outcomes)
            .finish_non_exhaustive()
    }
}

/// What an attempt is made of.
#[derive(Debug)]
pub struct Start {
    /// What the dispatcher knows it by.
    pub key: u64,
    /// What it shares with all others of its handler.
    pub context: Arc<AttemptContext>,
    /// What it runs on.
    pub version: Arc<Version>,
    /// What one call takes: one delivery, or a batch.
    pub batch: Vec<(Delivery, Lease)>,
    /// Its slots, and one for each message that waits in a line behind it.
    pub slots: TakenSlots,
    /// Its place among the attempts that have not ended.
    pub unsettled: TakenSlots,
}

/// Runs one attempt until its guest is done. What it has taken it keeps, for whoever settles it.
///
/// # Cancel safety
///
/// Dropping the future interrupts the guest, and lets the messages return by themselves. Cancel `stop_working` instead.
pub async fn attempt(start: Start) -> Handled {
    let started = Instant::now();
    let Start {
        context,
        version,
        batch,
        slots,
        unsettled,
        ..
    } = start;
    let (deliveries, leases): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    let ids = deliveries
        .iter()
        .map(|delivery| (delivery.message.id.clone(), delivery.receive_count))
        .collect();
    let attempt = Attempt { context, version, ids };
    let (outcomes, effects) = attempt.outcomes(deliveries, &leases).await;
    Handled {
        attempt,
        outcomes,
        effects,
        leases,
        duration: started.elapsed(),
        lines: Vec::new(),
        slots: Some(slots),
        _unsettled: unsettled,
    }
}

impl AttemptContext {
    /// Makes messages that waited, given in order, visible again, last first, so that none of a group is received before an
    /// earlier one.
    pub async fn release_line(&self, line: Line) {
        if line.is_empty() {
            return;
        }
        let queue = self.queue.name();
        tracing::debug!(handler = self.handler, %queue, messages = line.len(), "messages that waited are released");
        let batch = line.into_iter().rev().map(|each| (each.lease, Settlement::Release));
        let (answers, _leases) = self.keeper.settle(batch.collect(), Effects::default()).await;
        for answer in answers {
            self.released(answer);
        }
    }

    /// Hears how the release of one message came out.
    fn released(&self, answer: Result<(), SettleError>) {
        let queue = self.queue.name();
        match answer {
            Ok(()) => self
                .metrics
                .settled(queue.as_str(), settlement_word(&Settlement::Release)),
            Err(SettleError::Expired) => {}
            Err(error) => {
                tracing::warn!(%queue, error = %chain(&error), "a message was not released; it returns by itself");
            }
        }
    }
}

impl Attempt {
    /// Calls the guest for what was not handled before, unless the order to stop or the loss of a lease comes first.
    async fn outcomes(&self, deliveries: Vec<Delivery>, leases: &[Lease]) -> (Vec<Outcome>, Effects) {
        let context = &self.context;
        let (mut messages, mut outcomes) = (Vec::with_capacity(deliveries.len()), Vec::new());
        for delivery in deliveries {
            if context.queues.was_handled(&*context.queue, &delivery.message.id) {
                outcomes.push(Some(Outcome::AlreadyHandled));
                continue;
            }
            outcomes.push(None);
            messages.push(CallMessage {
                message: delivery.message,
                queue: context.queue.name().clone(),
                receive_count: delivery.receive_count.get(),
            });
        }
        if messages.is_empty() {
            return (outcomes.into_iter().flatten().collect(), Effects::default());
        }
        let policy = Arc::clone(&self.version.policy);
        let keyvalue = policy
            .grants
            .keyvalue
            .then(|| context.queues.keyvalue(&context.handler));
        let call = Call {
            messages,
            policy,
            log: self.log_sink(),
            keyvalue,
        };
        let is_lost = Lease::is_lost;
        if !context.stop_working.is_cancelled() && !leases.iter().any(is_lost) {
            // First, since most guests answer at once: the others are asked each time that one lets go of its thread.
            tokio::select! {
                biased;
                report = context.executor.run(&self.version.component, call) => return self.reported(report, outcomes),
                () = context.stop_working.cancelled() => {}
                () = async { select_all(leases.iter().map(|lease| Box::pin(lease.lost().cancelled()))).await; } => {}
            }
        }
        // The others of a batch are not to blame for a lost lease: they are released.
        let outcome = |lease: &Lease| {
            if is_lost(lease) {
                Outcome::LeaseLost
            } else {
                Outcome::Interrupted
            }
        };
        (leases.iter().map(outcome).collect(), Effects::default())
    }

    /// Fills the outcomes that are not known yet with what the executor said.
    fn reported(&self, report: Report, known: Vec<Option<Outcome>>) -> (Vec<Outcome>, Effects) {
        if report.usage.log_lines_dropped > 0 {
            self.context
                .metrics
                .log_lines_dropped(&self.context.handler, report.usage.log_lines_dropped);
        }
        let mut said = report.verdicts.into_iter().map(|verdict| match verdict {
            Verdict::Success => Outcome::Success,
            Verdict::Failed(failure) => Outcome::Failed(failure),
            Verdict::NotRun(reason) => Outcome::HostFault(reason),
        });
        let missing = || Outcome::HostFault("the executor gave no verdict".to_owned());
        let outcomes = known
            .into_iter()
            .map(|known| known.or_else(|| said.next()).unwrap_or_else(missing));
        let writes = Writes {
            namespace: self.context.handler.as_str().into(),
            total_bytes: self.version.policy.limits.keyvalue_total_bytes,
            changes: report.writes,
        };
        let effects = Effects {
            sends: report.sends,
            writes,
        };
        (outcomes.collect(), effects)
    }

    fn log_sink(&self) -> LogSink {
        let handler = self.context.handler.clone();
        // A batch's output cannot be told apart by message, so it carries the first one's id.
        let message = self.ids.first().map(|(id, _)| id.clone());
        Arc::new(move |LogLine { stream, text }| {
            let message_id = message.as_ref().map_or("", MessageId::as_str);
            let (level, stream) = (stream.level(), stream.as_str());
            match level {
                LogLevel::Trace => tracing::trace!(target: "guest", handler, message_id, stream, "{text}"),
                LogLevel::Debug => tracing::debug!(target: "guest", handler, message_id, stream, "{text}"),
                LogLevel::Info => tracing::info!(target: "guest", handler, message_id, stream, "{text}"),
                LogLevel::Warn => tracing::warn!(target: "guest", handler, message_id, stream, "{text}"),
                LogLevel::Error | LogLevel::Critical => {
                    tracing::error!(target: "guest", handler, message_id, stream, "{text}");
                }
            }
        })
    }
}

fn settlement_word(settlement: &Settlement) -> &'static str {
    match settlement {
        Settlement::Delete => "delete",
        Settlement::Retry { .. } => "retry",
        Settlement::DeadLetter { .. } => "dead-letter",
        Settlement::Release => "release",
    }
}
