//! One call of a guest, from deliveries to settlements, in two steps.
//!
//! [`attempt`] races the guest, the leases and the order to stop. It runs on the guests' threads, so that a call changes no
//! thread. [`settle`] commits the effects of the guest and settles the messages. It runs where the dispatcher does, so that a
//! queue never waits behind a guest.
//!
//! Invariants: each delivery is settled at most once, and never after its lease was lost; the sends and writes of the guest are
//! committed together with the deletion of the messages that it handled, or before it where the queue cannot do that, or not at
//! all.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use futures_util::future::select_all;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Manifest,
    group_backlog::{FirstCall, Followers, GroupHead, LeasedDelivery},
    halts::Halts,
    journal::{Journal, PrintedLines},
    metrics::Metrics,
    queue_set::QueueSet,
    rollout::SecondOpinions,
    settlement::AttemptOutcome,
    slots::TakenSlots,
    traces::HostTraces,
    versions::SharedTally,
};
use sandhog_executor::{
    CallMessage, CallReport, CallUsage, Component, Executor, GuestCall, GuestPolicy, LogLine, LogSink, Verdict,
    policy::LogLevel,
};
use sandhog_queue::{
    Delivery, Effects, Queue, SendIds, SendOrigin, SettleError, Settlement,
    keyvalue::Writes,
    lease::{Lease, LeaseKeeper},
    machine_clock::wall_ms,
    message::MessageId,
    printable::chain,
};

mod derived;
mod effects;
mod entries;
mod log;
mod planned;
mod settle;
mod traced;

pub use self::settle::settle;
use self::traced::AttemptTrace;

/// A component with its manifest. A delivery runs on one version from its start to its end, whatever is reloaded meanwhile.
#[derive(Debug)]
pub struct HandlerVersion {
    /// The number of the version among those of its handler.
    pub number: u64,
    /// The component whose instances are called.
    pub component: Component,
    /// The settings of the handler.
    pub manifest: Manifest,
    /// The limits and grants of its guests, taken from the manifest.
    pub policy: Arc<GuestPolicy>,
    /// What is counted of the version.
    pub tally: SharedTally,
}

impl HandlerVersion {
    /// Returns the number of messages that one call takes.
    pub fn batch_size(&self) -> usize {
        if self.component.info.flavour.takes_batches() {
            self.manifest.batch_size.get()
        } else {
            1
        }
    }

    /// Returns the number of attempts that may be under way: the manifest's, or the executor's limit if that is less.
    pub fn concurrency(&self, executor: &dyn Executor) -> usize {
        self.manifest
            .concurrency
            .get()
            .min(executor.most_at_once(&self.component, &self.policy))
    }

    /// Returns the largest size in bytes that the bodies of a batch have together, if it has more than one message: an eighth of
    /// the guest's memory, so that large messages that each fit alone do not exhaust it together.
    pub fn batch_bytes(&self) -> usize {
        usize::try_from(self.policy.limits.memory / 8).unwrap_or(usize::MAX)
    }
}

/// Returns the limits and grants that a manifest gives to a handler's guests.
pub fn policy(handler: &str, manifest: &Manifest) -> GuestPolicy {
    GuestPolicy {
        handler: handler.to_owned(),
        timeout: manifest.timeout,
        limits: manifest.limits,
        grants: manifest.grants.clone(),
        reuse: manifest.reuse,
    }
}

/// The surroundings that all attempts of one handler share.
#[derive(Debug)]
pub struct AttemptContext {
    /// The handler's name.
    pub handler: String,
    /// The queue that its messages come from.
    pub queue: Arc<dyn Queue>,
    /// The keeper of the leases of that queue.
    pub keeper: Arc<LeaseKeeper>,
    /// The executor that runs the guests.
    pub executor: Arc<dyn Executor>,
    /// All queues, for sends that the source cannot commit by itself.
    pub queues: Arc<QueueSet>,
    /// The metrics of the host.
    pub metrics: Arc<Metrics>,
    /// The recent attempts of all handlers.
    pub journal: Arc<Journal>,
    /// The traces; `None` if the host has nothing to do with any.
    pub traces: Option<Arc<HostTraces>>,
    /// What operators have halted.
    pub halts: Arc<Halts>,
    /// Cancelled when nothing new may be started.
    pub stop_receiving: CancellationToken,
    /// Cancelled when attempts under way must end.
    pub stop_working: CancellationToken,
}

/// An attempt whose messages are settled.
#[derive(Debug)]
pub struct SettledAttempt {
    /// The version that the attempt ran on.
    pub version: Arc<HandlerVersion>,
    /// When the attempt began.
    pub began: Instant,
    /// The messages.
    pub messages: Vec<SettledMessage>,
    /// The cost of the call; `None` if the guest was not called, or not to its end.
    pub usage: Option<CallUsage>,
    /// The next message of each group whose first message was handled, with its own followers; and the messages of an attempt that
    /// met a conflict, for their next attempt under the same leases.
    pub next: Vec<GroupHead>,
    /// The longest wait before a message that was not handled comes back.
    pub back_in: Option<Duration>,
}

/// One message of an attempt that is settled.
#[derive(Debug)]
pub struct SettledMessage {
    /// The message.
    pub id: MessageId,
    /// How the attempt came out for it.
    pub outcome: AttemptOutcome,
    /// The call that broke before this one, if this one gave a second opinion.
    pub first_call: Option<Box<FirstCall>>,
}

/// The handler and the version that an attempt runs for.
struct HandlerAttempt {
    context: Arc<AttemptContext>,
    version: Arc<HandlerVersion>,
    began: Instant,
    opinions: SecondOpinions,
    /// What the guest prints.
    printed: Arc<Mutex<PrintedLines>>,
    /// The place of the attempt in a trace, if it has one.
    trace: Option<Box<AttemptTrace>>,
}

/// One message of an attempt whose guest is done.
#[derive(Debug)]
pub(crate) struct FinishedMessage {
    id: MessageId,
    sent_at_ms: u64,
    receive_count: NonZeroU32,
    outcome: AttemptOutcome,
    /// How the queue has settled it, if it has.
    settled: Option<SettledAs>,
    /// Later messages of its group that wait for it.
    followers: Followers,
    /// The delivery, if the handler has a key-value store or a predecessor gives second opinions: the attempt may not be its last
    /// one.
    delivery: Option<Box<Delivery>>,
    /// The call before, to which this one gave a second opinion.
    first_call: Option<Box<FirstCall>>,
    /// The delivery that is to be tried again at once.
    again: Option<Box<LeasedDelivery>>,
}

/// What became of a delivery, for people.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SettledAs {
    word: &'static str,
    retry_in: Option<Duration>,
}

impl SettledAs {
    fn word(&self) -> &'static str {
        self.word
    }

    /// `becomes_dead` says that the queue makes a dead letter of the message instead of a retry.
    fn new(settlement: &Settlement, becomes_dead: bool) -> Self {
        if becomes_dead {
            return Self {
                word: "dead-letter",
                retry_in: None,
            };
        }
        Self {
            word: settlement_word(settlement),
            retry_in: match settlement {
                Settlement::Retry { delay, .. } => Some(*delay),
                Settlement::Delete | Settlement::DeadLetter { .. } | Settlement::Release => None,
            },
        }
    }
}

/// An attempt whose guest is done, or was not called, and whose messages are not settled yet.
pub struct GuestFinished {
    attempt: HandlerAttempt,
    messages: Vec<FinishedMessage>,
    /// The lease of each message, in order.
    leases: Vec<Lease>,
    effects: Effects,
    duration: Duration,
    usage: Option<CallUsage>,
    /// The slots of the attempt. They are given back once it is settled, or before if [it frees them](GuestFinished::frees_slots).
    pub slots: Option<TakenSlots>,
    /// The place of the attempt among those that are not settled.
    _unsettled: TakenSlots,
}

impl fmt::Debug for GuestFinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestFinished")
            .field("messages", &self.messages)
            .finish_non_exhaustive()
    }
}

/// An attempt that can start.
#[derive(Debug)]
pub struct AttemptInput {
    /// The number by which the dispatcher knows the attempt.
    pub key: u64,
    /// The surroundings that the attempt shares with all others of its handler.
    pub context: Arc<AttemptContext>,
    /// The version that the attempt runs on.
    pub version: Arc<HandlerVersion>,
    /// The deliveries of one call.
    pub batch: Vec<LeasedDelivery>,
    /// The failures about which the predecessor of the version is asked.
    pub opinions: SecondOpinions,
    /// A slot for the attempt, and one for each message that waits behind one of its batch.
    pub slots: TakenSlots,
    /// The place of the attempt among those that are not settled.
    pub unsettled: TakenSlots,
}

/// Runs one attempt until its guest is done. The leases and the slots stay taken until the attempt is settled.
///
/// # Cancel safety
///
/// Dropping the future interrupts the guest, and lets the messages return by themselves. Cancel `stop_working` instead.
pub async fn attempt(input: AttemptInput) -> GuestFinished {
    let began = Instant::now();
    let AttemptInput {
        context,
        version,
        batch,
        opinions,
        slots,
        unsettled,
        ..
    } = input;
    let may_go_on = version.policy.grants.keyvalue || opinions != SecondOpinions::None;
    let now_ms = wall_ms();
    let mut deliveries = Vec::with_capacity(batch.len());
    let mut leases = Vec::with_capacity(batch.len());
    let mut received = Vec::with_capacity(batch.len());
    for leased in batch {
        let LeasedDelivery {
            delivery,
            lease,
            first_call,
            is_repeat,
        } = leased;
        if !is_repeat && delivery.receive_count == NonZeroU32::MIN {
            let waited = Duration::from_millis(now_ms.saturating_sub(delivery.message.sent_at_ms));
            context.metrics.waited(&context.handler, waited);
        }
        received.push(FinishedMessage {
            id: delivery.message.id.clone(),
            sent_at_ms: delivery.message.sent_at_ms,
            receive_count: delivery.receive_count,
            outcome: AttemptOutcome::Interrupted,
            settled: None,
            followers: Followers::default(),
            delivery: may_go_on.then(|| Box::new(delivery.clone())),
            first_call,
            again: None,
        });
        deliveries.push(delivery);
        leases.push(lease);
    }
    let trace = AttemptTrace::of(&context, &version, &deliveries);
    let attempt = HandlerAttempt {
        context,
        version,
        began,
        opinions,
        printed: Arc::default(),
        trace,
    };
    let called = attempt.outcomes(deliveries, &leases).await;
    let mut messages = received;
    let last_receive = attempt.context.queue.last_receive();
    for (message, outcome) in messages.iter_mut().zip(called.outcomes) {
        let is_last = last_receive.is_some_and(|last| message.receive_count >= last);
        message.outcome = outcome.with_second_opinion(opinions, is_last);
    }
    GuestFinished {
        attempt,
        messages,
        leases,
        effects: called.effects,
        duration: began.elapsed(),
        usage: called.usage,
        slots: Some(slots),
        _unsettled: unsettled,
    }
}

/// The message that what a call sends is said to come from: the first one of a batch.
struct SendingMessage {
    id: MessageId,
    receive_count: u32,
}

/// What came of the call of a guest.
#[derive(Debug, Default)]
struct CalledGuest {
    /// One for each delivery, in order.
    outcomes: Vec<AttemptOutcome>,
    effects: Effects,
    /// `None` if the guest was not called, or not to its end.
    usage: Option<CallUsage>,
}

impl AttemptContext {
    /// Makes messages whose attempts never started visible again, in the order given: of a group the last one first.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have released; the messages return by themselves if not.
    pub async fn release(&self, messages: Vec<LeasedDelivery>) {
        if messages.is_empty() {
            return;
        }
        let queue = self.queue.name();
        tracing::debug!(handler = self.handler, %queue, messages = messages.len(), "messages that waited are released");
        let batch = messages.into_iter().map(|leased| (leased.lease, Settlement::Release));
        let (answers, _batch) = self.keeper.settle(batch.collect()).await;
        for answer in answers {
            self.record_release(answer);
        }
    }

    /// Records the answer of the queue to the release of one message.
    fn record_release(&self, answer: Result<(), SettleError>) {
        let queue = self.queue.name();
        match answer {
            Ok(()) => self
                .metrics
                .settled(queue.as_str(), settlement_word(&Settlement::Release)),
            Err(SettleError::Expired) => {}
            Err(error @ (SettleError::DeadLetterRefused { .. } | SettleError::Queue(_))) => {
                tracing::warn!(%queue, error = %chain(&error), "a message was not released; it returns by itself");
            }
        }
    }
}

impl HandlerAttempt {
    /// Calls the guest for the messages that were not handled before, unless the order to stop or the loss of a lease comes first.
    async fn outcomes(&self, deliveries: Vec<Delivery>, leases: &[Lease]) -> CalledGuest {
        let context = &self.context;
        // The output of a batch cannot be told apart by message, so it carries the id of the first one.
        let first = deliveries.first().map(|delivery| delivery.message.id.clone());
        let mut messages = Vec::with_capacity(deliveries.len());
        let mut known_outcomes = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            if context.queues.was_handled(&*context.queue, &delivery.message.id) {
                known_outcomes.push(Some(AttemptOutcome::AlreadyHandled));
                continue;
            }
            known_outcomes.push(None);
            messages.push(CallMessage {
                message: delivery.message,
                queue: context.queue.name().clone(),
                receive_count: delivery.receive_count.get(),
            });
        }
        if messages.is_empty() {
            let outcomes = known_outcomes.into_iter().flatten().collect();
            return CalledGuest {
                outcomes,
                ..CalledGuest::default()
            };
        }
        // A batch's sends can't be told apart by message either.
        let sender = messages.first().map(|message| SendingMessage {
            id: message.message.id.clone(),
            receive_count: message.receive_count,
        });
        let policy = Arc::clone(&self.version.policy);
        let keyvalue = policy
            .grants
            .keyvalue
            .then(|| context.queues.keyvalue(&context.handler));
        let call = GuestCall {
            messages,
            policy,
            log: self.log_sink(first),
            keyvalue,
            trace: self.trace.as_ref().and_then(|trace| trace.of_call()),
        };
        let is_lost = Lease::is_lost;
        if !context.stop_working.is_cancelled() && !leases.iter().any(is_lost) {
            // The guest is polled first, since most guests answer at once. A guest that lets go of its thread lets the others be
            // polled.
            tokio::select! {
                biased;
                report = context.executor.run(&self.version.component, call) => return self.reported(report, known_outcomes, sender),
                () = context.stop_working.cancelled() => {}
                () = async { select_all(leases.iter().map(|lease| Box::pin(lease.lost().cancelled()))).await; } => {}
            }
        }
        // The other messages of a batch are not to blame for a lost lease: they are released.
        let outcome = |lease: &Lease| {
            if is_lost(lease) {
                AttemptOutcome::LeaseLost
            } else {
                AttemptOutcome::Interrupted
            }
        };
        CalledGuest {
            outcomes: leases.iter().map(outcome).collect(),
            ..CalledGuest::default()
        }
    }

    /// Fills the outcomes that are not known yet with the verdicts of the executor.
    fn reported(
        &self,
        report: CallReport,
        known_outcomes: Vec<Option<AttemptOutcome>>,
        sender: Option<SendingMessage>,
    ) -> CalledGuest {
        if report.usage.log_lines_dropped > 0 {
            self.context
                .metrics
                .log_lines_dropped(&self.context.handler, report.usage.log_lines_dropped);
        }
        self.context.metrics.call_cost(&self.context.handler, &report.usage);
        let mut verdicts = report.verdicts.into_iter().map(|verdict| match verdict {
            Verdict::Success => AttemptOutcome::Success,
            Verdict::Failed(failure) => AttemptOutcome::Failed(failure),
            Verdict::NotRun(reason) => AttemptOutcome::HostFault(reason),
        });
        let outcomes = known_outcomes.into_iter().map(|known| {
            known
                .or_else(|| verdicts.next())
                .expect("the executor gives one verdict per message")
        });
        let writes = Writes {
            namespace: self.context.handler.as_str().into(),
            total_bytes: self.version.policy.limits.keyvalue_total_bytes,
            changes: report.writes,
        };
        let origin = sender.filter(|_| !report.sends.is_empty()).map(|sender| SendOrigin {
            message: sender.id,
            queue: self.context.queue.name().clone(),
            handler: self.context.handler.clone(),
            version: self.version.number,
            receive_count: sender.receive_count,
            ids: SendIds::random(),
        });
        let effects = Effects {
            origin,
            sends: report.sends,
            writes,
        };
        CalledGuest {
            outcomes: outcomes.collect(),
            effects,
            usage: Some(report.usage),
        }
    }

    fn log_sink(&self, message: Option<MessageId>) -> LogSink {
        let handler = self.context.handler.clone();
        let printed = Arc::clone(&self.printed);
        Arc::new(move |LogLine { stream, text }| {
            printed.lock().add(stream.as_str(), &text);
            let message_id = message.as_ref().map_or("", MessageId::as_str);
            let level = stream.level();
            let stream = stream.as_str();
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
