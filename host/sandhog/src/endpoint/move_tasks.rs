//! Move tasks: messages of a dead-letter queue go back to where they came from, or to another queue, at a stated rate.
//!
//! A task moves what was there when it started, in steps of one transaction each. It ends with the host: what was not moved by then
//! stays where it is. Invariant: a source has at most one task that runs.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use sandhog_queue::{Queue as _, machine_clock::wall_ms, message::QueueName, printable::chain};
use sandhog_simple::SimpleQueue;
use sandhog_sqs_wire::{MoveTaskHandle, QueueArn};

/// The messages of one step, if no rate was asked for.
const STEP: usize = 256;
/// The tasks that are remembered, of all sources together.
const MAX_TASKS: usize = 1000;
/// The most tasks that run at a time.
const MAX_RUNNING: usize = 64;

/// What a client asked for.
#[derive(Debug)]
pub(super) struct MoveStart {
    pub(super) source: Arc<SimpleQueue>,
    pub(super) source_arn: QueueArn,
    /// `None`: where each message came from.
    pub(super) destination: Option<Arc<SimpleQueue>>,
    pub(super) destination_arn: Option<String>,
    /// Messages a second.
    pub(super) rate: Option<u32>,
    /// The number of messages that were there.
    pub(super) to_move: u64,
}

/// How far a task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MoveStatus {
    Running,
    Completed,
    Cancelled,
    Failed(String),
}

impl MoveStatus {
    pub(super) fn is_running(&self) -> bool {
        *self == Self::Running
    }

    /// Returns the word of SQS.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Cancelled => "CANCELLED",
            Self::Failed(_) => "FAILED",
        }
    }

    pub(super) fn failure_reason(&self) -> Option<String> {
        match self {
            Self::Failed(why) => Some(why.clone()),
            Self::Running | Self::Completed | Self::Cancelled => None,
        }
    }
}

/// One task.
#[derive(Debug)]
pub(super) struct MoveTask {
    handle: String,
    start: MoveStart,
    started_ms: u64,
    moved: AtomicU64,
    status: Mutex<MoveStatus>,
    cancelled: CancellationToken,
}

impl MoveTask {
    pub(super) fn handle(&self) -> &str {
        &self.handle
    }

    pub(super) fn start(&self) -> &MoveStart {
        &self.start
    }

    pub(super) fn started_ms(&self) -> u64 {
        self.started_ms
    }

    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    pub(super) fn status(&self) -> MoveStatus {
        self.status.lock().clone()
    }

    async fn run(&self) {
        let ended = tokio::select! {
            ended = self.move_all() => ended,
            () = self.cancelled.cancelled() => MoveStatus::Cancelled,
        };
        if let MoveStatus::Failed(why) = &ended {
            tracing::warn!(queue = %self.start.source.name(), why, "a message move task failed");
        }
        *self.status.lock() = ended;
    }

    async fn move_all(&self) -> MoveStatus {
        let step = self
            .start
            .rate
            .map_or(STEP, |rate| usize::try_from(rate).unwrap_or(STEP));
        let mut pace = interval(Duration::from_secs(1));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = None;
        loop {
            if self.start.rate.is_some() {
                pace.tick().await;
            }
            let moved = self
                .start
                .source
                .move_messages(self.start.destination.as_deref(), last, step);
            let moved = match moved.await {
                Ok(moved) => moved,
                Err(error) => return MoveStatus::Failed(chain(&error)),
            };
            last = Some(moved.last);
            self.moved.fetch_add(moved.messages, Ordering::Relaxed);
            if moved.origin_unknown {
                return MoveStatus::Failed("CouldNotDetermineMessageSource".to_owned());
            }
            if moved.messages == 0 {
                return MoveStatus::Completed;
            }
        }
    }
}

/// The tasks of an endpoint, oldest first.
#[derive(Debug)]
pub(super) struct MoveTasks {
    tasks: Mutex<VecDeque<Arc<MoveTask>>>,
    draining: CancellationToken,
    tracker: TaskTracker,
}

impl MoveTasks {
    /// Tasks end when `draining` is cancelled, and `tracker` joins them.
    pub(super) fn new(draining: CancellationToken, tracker: TaskTracker) -> Self {
        Self {
            tasks: Mutex::default(),
            draining,
            tracker,
        }
    }

    /// Starts a task. Returns its handle, or `None` if one of the source runs, or too many of all sources do.
    pub(super) fn start(&self, start: MoveStart) -> Option<String> {
        let mut tasks = self.tasks.lock();
        let running: Vec<_> = tasks.iter().filter(|task| task.status().is_running()).collect();
        let is_taken = running
            .iter()
            .any(|task| task.start.source.name() == start.source.name());
        if is_taken || running.len() >= MAX_RUNNING {
            return None;
        }
        let handle = MoveTaskHandle {
            task_id: Uuid::now_v7().to_string(),
            source: start.source_arn.clone(),
        };
        let task = Arc::new(MoveTask {
            handle: handle.encode(),
            start,
            started_ms: wall_ms(),
            moved: AtomicU64::new(0),
            status: Mutex::new(MoveStatus::Running),
            cancelled: self.draining.child_token(),
        });
        if tasks.len() >= MAX_TASKS
            && let Some(oldest) = tasks.iter().position(|task| !task.status().is_running())
        {
            tasks.remove(oldest);
        }
        tasks.push_back(Arc::clone(&task));
        let handle = task.handle.clone();
        self.tracker.spawn(async move { task.run().await });
        Some(handle)
    }

    /// Cancels a task that runs. Returns the number of messages that it has moved.
    pub(super) fn cancel(&self, handle: &str) -> Option<u64> {
        let tasks = self.tasks.lock();
        let task = tasks
            .iter()
            .find(|task| task.handle == handle && task.status().is_running())?;
        task.cancelled.cancel();
        Some(task.moved())
    }

    /// Returns the newest tasks of a source.
    pub(super) fn of_source(&self, source: &QueueName, limit: usize) -> Vec<Arc<MoveTask>> {
        let tasks = self.tasks.lock();
        let of_source = tasks.iter().rev().filter(|task| task.start.source.name() == source);
        of_source.take(limit).cloned().collect()
    }
}
