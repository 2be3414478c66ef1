//! The thread: which commands make up a transaction, what else the thread writes, and what a failure means.
//!
//! Notes of handled messages and the store's time are transactions of their own, because no caller waits for them and none is to be
//! refused for lack of room for them. After a failure that leaves the disk's state unknown the thread answers everything with that
//! failure and touches the disk no more.

#![expect(
    clippy::disallowed_methods,
    reason = "the writer is a thread without a runtime, and its waits end with the time of the machine"
)]

use std::{
    fs::File,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant as StdInstant},
};

use tokio::sync::mpsc;

use super::{
    super::{
        high_water_mark::CommitHighWaterMark,
        operation::CommandKind,
        processed::{MAX_NOTE_DELAY, NOTES_AT_ONCE, SharedProcessedMessages},
        row::{FaultKind, StoreFault},
        rules::StoreRules,
        sqlite::SqliteRows,
    },
    Command, StoreFailed,
    command::{PendingCommand, TransactionFailure, UndeliveredReceipts},
    commit_window::GroupCommitWindow,
    copy::{CopyFailure, CopyOrder},
    parked::{ParkedReceives, RetriedReceives},
    wait::{self, NextCommand},
};

/// How long the thread does not try again to write the time alone after it could not be written.
const TIME_PAUSE: Duration = Duration::from_mins(1);

/// The open store that the thread works on.
#[derive(Debug)]
pub(crate) struct WriterState {
    pub(crate) rules: StoreRules<SqliteRows>,
    pub(crate) mark: CommitHighWaterMark,
    pub(crate) directory: PathBuf,
    /// Held, and so locked, for as long as the thread lives.
    pub(crate) lock: File,
}

/// The thread.
pub(crate) struct WriterThread {
    state: WriterState,
    processed: SharedProcessedMessages,
    undelivered: Arc<UndeliveredReceipts>,
    commit_window: GroupCommitWindow,
    parked: ParkedReceives,
    /// The store is being closed, so a delivery handed out now could not be settled.
    is_closing: bool,
    /// Why the thread does nothing any more.
    failure: Option<TransactionFailure>,
    /// The same as a text, for the handles.
    failed: Arc<OnceLock<String>>,
    /// When the thread writes the notes that are in memory only, at the latest.
    write_notes_at: Option<StdInstant>,
    /// The last attempt to write the notes failed.
    notes_refused: bool,
    /// Before this moment the thread does not write the time alone, because the last attempt failed.
    write_time_after: Option<StdInstant>,
}

impl WriterThread {
    pub(crate) fn new(
        state: WriterState,
        undelivered: Arc<UndeliveredReceipts>,
        failed: Arc<OnceLock<String>>,
    ) -> Self {
        Self {
            processed: state.rules.processed().clone(),
            state,
            undelivered,
            commit_window: GroupCommitWindow::default(),
            parked: ParkedReceives::default(),
            is_closing: false,
            failure: None,
            failed,
            write_notes_at: None,
            notes_refused: false,
            write_time_after: None,
        }
    }

    /// Serves commands until the store is closed or its last handle is gone.
    pub(crate) fn run(&mut self, mut waiting: mpsc::Receiver<Command>) {
        let mut is_open = true;
        while is_open {
            let notes_due = self.notes_due();
            if notes_due.is_some_and(|due| due <= StdInstant::now()) {
                self.write_notes();
                continue;
            }
            let first = self.commit_window.first(&mut waiting).map(NextCommand::Command);
            match first.unwrap_or_else(|| wait::next(&mut waiting, notes_due)) {
                NextCommand::Command(command) => {
                    let group = self.commit_window.gather(command, &mut waiting);
                    is_open = !group.is_last;
                    self.is_closing = group.is_last;
                    self.serve(group.commands, &waiting);
                    self.copy(group.copies);
                    while self.parked.is_woken() {
                        self.serve(Vec::new(), &waiting);
                    }
                }
                NextCommand::Due => {}
                NextCommand::End => is_open = false,
            }
        }
        self.finish(waiting);
    }

    /// Answers the commands that came before the store was closed, writes what is in memory only, and unlocks the directory.
    fn finish(&mut self, mut waiting: mpsc::Receiver<Command>) {
        // A receive gets no answer: its deliveries could not be settled any more.
        while let Some(command) = waiting.blocking_recv() {
            if let Command::Apply(command) = command
                && command.kind() != CommandKind::Receive
            {
                self.serve(vec![command], &waiting);
            }
        }
        self.serve(Vec::new(), &waiting);
        self.write_notes();
        self.write_time();
        if self.failure.is_none() {
            self.state.rules.rows.checkpoint();
        }
        if let Err(error) = self.state.lock.unlock() {
            tracing::debug!(%error, "the lock ends with the process");
        }
    }

    /// Applies commands in one transaction, while others may be `waiting` already.
    fn serve(&mut self, mut batch: Vec<Box<dyn PendingCommand>>, waiting: &mpsc::Receiver<Command>) {
        if let Some(failure) = &self.failure {
            for command in batch {
                command.fail(failure);
            }
            return;
        }
        batch.retain(|command| command.is_awaited());
        let undelivered = self.undelivered.take();
        let mut parked = std::mem::take(&mut self.parked);
        parked.forget_given_up();
        if self.is_closing {
            // Dropping a parked receive tells its caller that no message will come: a delivery could not be settled any more.
            parked = ParkedReceives::default();
        }
        if batch.is_empty() && undelivered.is_empty() && !parked.is_woken() {
            self.parked = parked;
            return;
        }
        // The commands came at one time, so a receive finds what the others send, and parked receives came before new ones.
        batch.sort_by_key(|command| command.kind() == CommandKind::Receive);
        let mut receives = batch.split_off(batch.partition_point(|command| command.kind() != CommandKind::Receive));
        let mut retried = RetriedReceives::default();
        let started = StdInstant::now();
        let done = self.transact(|rules| {
            if !undelivered.is_empty() {
                rules.release_undelivered(&undelivered)?;
            }
            for command in &mut batch {
                command.apply(rules)?;
            }
            parked.apply(rules, &mut retried)?;
            for command in &mut receives {
                command.apply(rules)?;
            }
            rules.write_handled()?;
            rules.keep_time()
        });
        batch.append(&mut receives);
        self.parked = parked;
        match done {
            Ok(()) => {
                // A receive that stays parked keeps its place before those that were not applied, and those that are new.
                let others = self.parked.take_all();
                let mut likely_to_ask = self.answer(retried.into_commands());
                self.parked.append(others);
                likely_to_ask += self.answer(batch.into_iter());
                self.parked.wake(self.state.rules.with_any_rows());
                self.commit_window
                    .committed(started.elapsed(), waiting.len() + likely_to_ask);
                self.write_stale_time();
            }
            Err(fault) => {
                self.undelivered.put_back(undelivered);
                let failure = self.roll_back(fault);
                for command in batch {
                    command.fail(&failure);
                }
                self.parked.undo(retried, &failure);
            }
        }
    }

    /// Answers the commands that were committed, but parks the receives that found nothing. Returns the number of callers that are
    /// likely to ask again at once.
    fn answer(&mut self, batch: impl Iterator<Item = Box<dyn PendingCommand>>) -> usize {
        let mut likely_to_ask = 0;
        for mut command in batch {
            if let Some(queue) = command.parks_on().filter(|_| !self.is_closing) {
                self.parked.add(queue, command);
                continue;
            }
            likely_to_ask += usize::from(command.kind() != CommandKind::Other);
            command.answer(&self.undelivered);
        }
        likely_to_ask
    }

    /// Returns when the thread has to write the notes that are in memory only, if there are any. The delay is in real time, whatever
    /// the clock of the store does.
    fn notes_due(&mut self) -> Option<StdInstant> {
        let unwritten = self.processed.lock().unwritten();
        if unwritten == 0 || self.failure.is_some() {
            self.write_notes_at = None;
            return None;
        }
        let due = *self
            .write_notes_at
            .get_or_insert_with(|| StdInstant::now() + MAX_NOTE_DELAY);
        // A disk that had no room a moment ago has none yet.
        let at_once = unwritten >= NOTES_AT_ONCE && !self.notes_refused;
        Some(if at_once { due.min(StdInstant::now()) } else { due })
    }

    /// Writes the notes in a transaction of their own, so that no command is refused because there is no room for notes.
    fn write_notes(&mut self) {
        self.write_notes_at = None;
        if self.failure.is_some() || self.processed.lock().unwritten() == 0 {
            return;
        }
        let Err(fault) = self.transact(<StoreRules>::write_notes) else {
            self.notes_refused = false;
            return;
        };
        let failure = self.roll_back(fault);
        if failure.kind == FaultKind::Passing && !self.notes_refused {
            let cause = &failure.cause;
            tracing::warn!(%cause, "handled messages can't be noted on the disk for now: after a crash they may be handled again");
        }
        self.notes_refused = true;
    }

    /// Writes the time now and then while nothing else is written.
    fn write_stale_time(&mut self) {
        let may_try = self.write_time_after.is_none_or(|after| after <= StdInstant::now());
        if may_try && self.state.rules.with_any_rows().is_time_stale() {
            self.write_time();
        }
    }

    /// Writes the time in a transaction of its own, so that the next run knows when this one was seen last and no command is
    /// refused because there is no room for the time.
    fn write_time(&mut self) {
        if self.failure.is_some() || !self.state.rules.with_any_rows().waits_for_time() {
            return;
        }
        if let Err(fault) = self.transact(<StoreRules>::write_time) {
            let cause = self.roll_back(fault).cause;
            tracing::debug!(%cause, "the store's time could not be noted");
            self.write_time_after = Some(StdInstant::now() + TIME_PAUSE);
        }
    }

    /// Does steps of a copy, and ends one that nobody waits for any more.
    fn copy(&mut self, orders: Vec<CopyOrder>) {
        self.state.rules.rows.drop_unwanted_copy();
        for order in orders {
            if let Some(failure) = &self.failure {
                order.answer(Err(CopyFailure::Store(Arc::clone(&failure.cause))));
                continue;
            }
            // A message that was handled before the copy is whole is known as such in it.
            if self.state.rules.rows.is_copy_nearly_whole() {
                self.write_notes();
                if let Some(failure) = &self.failure {
                    order.answer(Err(CopyFailure::Store(Arc::clone(&failure.cause))));
                    continue;
                }
            }
            order.carry_out(&mut self.state.rules);
        }
    }

    fn transact(&mut self, work: impl FnOnce(&mut StoreRules) -> Result<(), StoreFault>) -> Result<(), StoreFault> {
        let rules = &mut self.state.rules;
        rules.with_any_rows().begin();
        rules.rows.begin()?;
        work(rules)?;
        if let Some(commits) = rules.rows.commit()? {
            self.state.mark.note(commits);
        }
        rules.with_any_rows().remember_handled();
        Ok(())
    }

    /// Rolls a transaction back that failed, and decides whether the store can go on.
    fn roll_back(&mut self, fault: StoreFault) -> TransactionFailure {
        let rolled_back = self.state.rules.rows.roll_back();
        self.state.rules.with_any_rows().undo();
        let kind = if rolled_back.is_ok() {
            fault.kind
        } else {
            FaultKind::Final
        };
        if kind == FaultKind::Passing {
            return TransactionFailure {
                kind,
                cause: fault.cause,
            };
        }
        let failed = StoreFailed::Disk {
            directory: self.state.directory.clone(),
            source: fault.cause,
        };
        let failure = TransactionFailure {
            kind,
            cause: Arc::new(failed),
        };
        tracing::error!(
            directory = %self.state.directory.display(), cause = %failure.cause,
            "the queue store failed: it refuses everything until the host is restarted"
        );
        self.failed.get_or_init(|| failure.cause.to_string());
        self.failure = Some(failure.clone());
        failure
    }
}
