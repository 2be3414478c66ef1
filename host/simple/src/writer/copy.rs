//! A step of a copy of the database on its way to the thread, and its answer on its way back.
//!
//! Invariant: between two steps the thread serves the commands that have come meanwhile. A copy whose ticket is gone ends with the next
//! command.

use std::{path::PathBuf, sync::Arc};

use tokio::sync::oneshot;

use super::{
    super::{
        rules::StoreRules,
        sqlite::{CopyProgress, SqliteRows},
    },
    Command, Writer,
};
use sandhog_queue::Cause;

/// Why a copy was not made.
#[derive(Debug, Clone)]
pub(crate) enum CopyFailure {
    /// Another copy is being made.
    Busy,
    /// The store is closed or has begun another copy.
    Ended,
    /// A read of the store or a write of the copy failed.
    Store(Cause),
}

/// How far a copy is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CopyStanding {
    pub(crate) progress: CopyProgress,
    /// The number of the last transaction in the copy, if it is whole.
    pub(crate) commits: u64,
    /// The number of messages in the copy, if it is whole.
    pub(crate) messages: u64,
}

/// What the thread is to do for a copy.
enum CopyStep {
    Begin(PathBuf, Arc<()>),
    Go,
}

/// A step on its way to the thread.
pub(crate) struct CopyOrder {
    step: CopyStep,
    reply: oneshot::Sender<Result<CopyStanding, CopyFailure>>,
}

impl CopyOrder {
    pub(crate) fn answer(self, answer: Result<CopyStanding, CopyFailure>) {
        // Whoever has gone away wants no copy.
        drop(self.reply.send(answer));
    }

    pub(crate) fn carry_out(self, rules: &mut StoreRules<SqliteRows>) {
        let done = match &self.step {
            CopyStep::Begin(path, wanted) => match rules.rows.begin_copy(path, wanted) {
                Ok(true) => Ok(Some(CopyProgress::default())),
                Ok(false) => return self.answer(Err(CopyFailure::Busy)),
                Err(fault) => Err(fault),
            },
            CopyStep::Go => rules.rows.step_copy(),
        };
        let standing = match done {
            Ok(Some(progress)) => Ok(CopyStanding {
                progress,
                commits: rules.rows.commits(),
                messages: rules.with_any_rows().message_count(),
            }),
            Ok(None) => Err(CopyFailure::Ended),
            Err(fault) => Err(CopyFailure::Store(fault.cause)),
        };
        self.answer(standing);
    }
}

/// The right to a copy that is being made. Dropping it ends the copy.
pub(crate) struct CopyTicket<'w> {
    writer: &'w Writer,
    wanted: Option<Arc<()>>,
}

impl<'w> CopyTicket<'w> {
    /// Begins a copy in a new file.
    pub(crate) async fn begin(writer: &'w Writer, path: PathBuf) -> Result<Self, CopyFailure> {
        let wanted = Arc::new(());
        let ticket = Self {
            writer,
            wanted: Some(Arc::clone(&wanted)),
        };
        ticket.ask(CopyStep::Begin(path, wanted)).await?;
        Ok(ticket)
    }

    /// Copies some more.
    pub(crate) async fn step(&self) -> Result<CopyStanding, CopyFailure> {
        self.ask(CopyStep::Go).await
    }

    async fn ask(&self, step: CopyStep) -> Result<CopyStanding, CopyFailure> {
        let (reply, answer) = oneshot::channel();
        let sent = self
            .writer
            .commands
            .send(Command::Copy(CopyOrder { step, reply }))
            .await;
        sent.map_err(|_closed| CopyFailure::Ended)?;
        answer.await.unwrap_or(Err(CopyFailure::Ended))
    }
}

impl Drop for CopyTicket<'_> {
    fn drop(&mut self) {
        drop(self.wanted.take());
        self.writer.wake();
    }
}
