//! Ends deliveries together: one call ends up to ten of them, for any number of callers.
//!
//! A settlement waits at most [`MAX_SETTLE_WAIT`] for others, and not at all once every delivery that the host holds of the
//! queue is being settled: no other settlement can come then. The settlements of one caller are done in their order, and in
//! one call if they fit into one.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};

use super::{
    ending::{EndFailure, Ending},
    remote::Remote,
    tasks::Tasks,
    wire::BATCH,
};
use sandhog_queue::{Receipt, SettleError, alarm::wake_at};

/// The longest wait of a settlement for others that share its call.
pub(crate) const MAX_SETTLE_WAIT: Duration = Duration::from_millis(20);
/// The most callers that wait for the batcher. The next caller waits to get in.
const REQUESTS: usize = 1024;
/// The most calls under way: enough for the largest concurrency of a few handlers, at ten deliveries a call.
const CALLS: usize = 64;

/// The answer to one settlement.
pub(crate) type Settled = Result<(), SettleError>;

/// A delivery that is to end.
#[derive(Debug)]
struct Entry {
    receipt: Receipt,
    /// The seconds for which to hide the delivery; `None` deletes it.
    hide_s: Option<u64>,
    answer: oneshot::Sender<Settled>,
}

impl Entry {
    fn ending(&self) -> Ending<'_> {
        Ending {
            handle: self.receipt.as_text().unwrap_or_default(),
            hide_s: self.hide_s,
        }
    }
}

/// The deliveries that one caller ends, in order.
#[derive(Debug, Default)]
pub(crate) struct Request {
    deletes: Vec<Entry>,
    hides: Vec<Entry>,
}

impl Request {
    /// Adds a delivery, which is deleted, or hidden for `hide_s` seconds.
    pub(crate) fn add(&mut self, receipt: Receipt, hide_s: Option<u64>) -> oneshot::Receiver<Settled> {
        let (answer, answered) = oneshot::channel();
        let entry = Entry {
            receipt,
            hide_s,
            answer,
        };
        match hide_s {
            None => self.deletes.push(entry),
            Some(_) => self.hides.push(entry),
        }
        answered
    }

    fn is_empty(&self) -> bool {
        self.deletes.is_empty() && self.hides.is_empty()
    }
}

/// The way to the batcher of one queue. The batcher is one task, which starts when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Batcher {
    // Never held across an await.
    requests: Mutex<Option<mpsc::Sender<Request>>>,
}

impl Batcher {
    /// Gives a request to the task. If the task ends before it answers, as it does with its runtime, the answers of the
    /// request never come.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have given the request.
    pub(crate) async fn submit(&self, remote: &Arc<Remote>, tasks: &Tasks, request: Request) {
        if request.is_empty() {
            return;
        }
        let sender = {
            let mut requests = self.requests.lock();
            match requests.as_ref().filter(|sender| !sender.is_closed()) {
                Some(sender) => sender.clone(),
                None => requests.insert(start(remote, tasks)).clone(),
            }
        };
        if sender.send(request).await.is_err() {
            tracing::debug!(queue = %remote.name, "the task that settles has ended");
        }
    }
}

impl Batcher {
    /// Lets the task end after the requests that it has.
    pub(crate) fn close(&self) {
        drop(self.requests.lock().take());
    }
}

fn start(remote: &Arc<Remote>, tasks: &Tasks) -> mpsc::Sender<Request> {
    let (sender, requests) = mpsc::channel(REQUESTS);
    let work = Work {
        remote: Arc::clone(remote),
        buffers: BatchBuffers::default(),
        calls: JoinSet::new(),
        under_way: 0,
    };
    tasks.spawn_on(&Handle::current(), work.run(requests));
    sender
}

/// Batches that are sent one after another, so that none overtakes the one before it.
type Load<T> = Vec<Vec<T>>;

/// The task.
#[derive(Debug)]
struct Work {
    remote: Arc<Remote>,
    buffers: BatchBuffers<Entry>,
    /// Each call answers the number of its deliveries. The calls are dropped, and so aborted, with the task.
    calls: JoinSet<usize>,
    under_way: usize,
}

impl Work {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut open = true;
        while open || !self.calls.is_empty() || !self.buffers.ready.is_empty() {
            let room = self.calls.len() < CALLS;
            tokio::select! {
                biased;
                Some(joined) = self.calls.join_next() => self.under_way -= joined.unwrap_or(0).min(self.under_way),
                request = requests.recv(), if room && open => {
                    if let Some(request) = request {
                        self.take(request);
                    } else {
                        open = false;
                        self.buffers.close_all();
                    }
                }
                () = wake_at(self.buffers.due()), if room => self.buffers.close_all(),
            }
            while self.buffers.ready.is_empty()
                && let Ok(request) = requests.try_recv()
            {
                self.take(request);
            }
            let waiting = self.buffers.waiting();
            let settling = waiting + self.buffers.ready() + self.under_way;
            if waiting > 0 && self.remote.held.are_at_most(settling) {
                self.buffers.close_all();
            }
            while self.calls.len() < CALLS
                && let Some(load) = self.buffers.ready.pop_front()
            {
                self.under_way += load.iter().map(Vec::len).sum::<usize>();
                self.calls.spawn(carry(Arc::clone(&self.remote), load));
            }
        }
    }

    fn take(&mut self, request: Request) {
        let now = Instant::now();
        self.buffers
            .deletes
            .add_each(request.deletes, now, &mut self.buffers.ready);
        self.buffers
            .hides
            .add_whole(request.hides, now, &mut self.buffers.ready);
    }
}

/// The entries that wait for others, and the loads that wait for a call.
#[derive(Debug)]
struct BatchBuffers<T> {
    deletes: BatchBuffer<T>,
    hides: BatchBuffer<T>,
    ready: VecDeque<Load<T>>,
}

#[derive(Debug)]
struct BatchBuffer<T> {
    waiting: Vec<T>,
    /// The time at which the first entry came.
    since: Option<Instant>,
}

impl<T> Default for BatchBuffer<T> {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            since: None,
        }
    }
}

impl<T> Default for BatchBuffers<T> {
    fn default() -> Self {
        Self {
            deletes: BatchBuffer::default(),
            hides: BatchBuffer::default(),
            ready: VecDeque::new(),
        }
    }
}

impl<T> BatchBuffers<T> {
    fn due(&self) -> Option<Instant> {
        let since = self.deletes.since.into_iter().chain(self.hides.since).min();
        since.map(|since| since + MAX_SETTLE_WAIT)
    }

    fn waiting(&self) -> usize {
        self.deletes.waiting.len() + self.hides.waiting.len()
    }

    fn ready(&self) -> usize {
        self.ready.iter().flatten().map(Vec::len).sum()
    }

    fn close_all(&mut self) {
        self.deletes.close(&mut self.ready);
        self.hides.close(&mut self.ready);
    }
}

impl<T> BatchBuffer<T> {
    /// Adds entries that are independent of each other.
    fn add_each(&mut self, entries: Vec<T>, now: Instant, ready: &mut VecDeque<Load<T>>) {
        for entry in entries {
            self.waiting.push(entry);
            self.since.get_or_insert(now);
            if self.waiting.len() == BATCH {
                self.close(ready);
            }
        }
    }

    /// Adds entries that stay together and in order.
    fn add_whole(&mut self, mut entries: Vec<T>, now: Instant, ready: &mut VecDeque<Load<T>>) {
        if entries.is_empty() {
            return;
        }
        if self.waiting.len() + entries.len() > BATCH {
            self.close(ready);
        }
        if entries.len() <= BATCH {
            return self.add_each(entries, now, ready);
        }
        let mut load = Load::new();
        while entries.len() > BATCH {
            let rest = entries.split_off(BATCH);
            load.push(std::mem::replace(&mut entries, rest));
        }
        load.push(entries);
        ready.push_back(load);
    }

    fn close(&mut self, ready: &mut VecDeque<Load<T>>) {
        self.since = None;
        if !self.waiting.is_empty() {
            ready.push_back(vec![std::mem::take(&mut self.waiting)]);
        }
    }
}

/// Makes the calls of one load, and answers the callers.
async fn carry(remote: Arc<Remote>, load: Load<Entry>) -> usize {
    let mut count = 0;
    for batch in load {
        count += batch.len();
        let endings: Vec<Ending<'_>> = batch.iter().map(Entry::ending).collect();
        let answers = remote.end_all(&endings, remote.ending()).await;
        let failed = answers.iter().filter(|answer| answer.is_err()).count();
        if failed > 0 {
            remote
                .metrics()
                .settlements_failed(remote.name.as_str(), u64::try_from(failed).unwrap_or(u64::MAX));
        }
        for (entry, answer) in batch.into_iter().zip(answers) {
            if answer.is_ok() {
                remote.held.end(&entry.receipt);
            }
            // The caller may have stopped waiting.
            drop(entry.answer.send(answer.map_err(settle_error)));
        }
    }
    count
}

pub(crate) fn settle_error(failure: EndFailure) -> SettleError {
    match failure {
        EndFailure::Expired => SettleError::Expired,
        EndFailure::Trouble(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds units of these sizes, and checks the loads that are ready and the number of entries that wait.
    fn check(whole: bool, units: &[u32], ready: &[&[usize]], waiting: usize) {
        let mut buffers = BatchBuffers::default();
        let now = Instant::now();
        let mut next = 0;
        for unit in units {
            let entries = (next..next + unit).collect();
            next += unit;
            if whole {
                buffers.hides.add_whole(entries, now, &mut buffers.ready);
            } else {
                buffers.deletes.add_each(entries, now, &mut buffers.ready);
            }
        }
        let sizes: Vec<Vec<usize>> = buffers
            .ready
            .iter()
            .map(|load| load.iter().map(Vec::len).collect())
            .collect();
        assert_eq!(sizes, ready, "{units:?}");
        assert_eq!(buffers.waiting(), waiting, "{units:?}");
        assert_eq!(buffers.due().is_some(), waiting > 0, "{units:?}");
        buffers.close_all();
        let all: Vec<u32> = buffers.ready.into_iter().flatten().flatten().collect();
        assert_eq!(all, (0..next).collect::<Vec<_>>(), "the order of {units:?}");
    }

    #[test]
    fn deletions_fill_calls_whoever_they_are_from() {
        check(false, &[4, 4], &[], 8);
        check(false, &[4, 9], &[&[10]], 3);
        check(false, &[20], &[&[10], &[10]], 0);
    }

    #[test]
    fn what_one_caller_hides_at_once_shares_a_call() {
        check(true, &[4, 4], &[], 8);
        check(true, &[4, 9], &[&[4]], 9);
        check(true, &[4, 6], &[&[10]], 0);
    }

    #[test]
    fn what_does_not_fit_into_one_call_goes_call_after_call() {
        check(true, &[2, 25], &[&[2], &[10, 10, 5]], 0);
    }
}
