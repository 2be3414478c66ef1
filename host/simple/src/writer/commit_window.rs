//! The group-commit window: which commands one transaction answers.
//!
//! A caller that was just answered is likely to ask again: a sender with its next message, a receiver for more. Such callers come within some
//! microseconds, and a sync takes hundreds. So the first of them waits a moment for the others where that has paid before:
//! one sync for all, instead of one for the first and another for the rest.

#![expect(
    clippy::disallowed_methods,
    reason = "the writer is a thread without a runtime, and its waits end with the time of the machine"
)]

use std::{
    thread,
    time::{Duration, Instant as StdInstant},
};

use tokio::sync::mpsc;

use super::{Command, MAX_BATCH, MAX_BATCH_BYTES, command::PendingCommand, copy::CopyOrder};

/// The window closes after a quiet time without a command: this part of the duration of a commit,
const QUIET_PART: u32 = 4;
/// but no longer than this.
const MAX_QUIET: Duration = Duration::from_micros(200);
/// The whole window lasts at most this part of the duration of a commit,
const WINDOW_PART: u32 = 2;
/// and no longer than this.
const MAX_WINDOW: Duration = Duration::from_millis(2);
/// After this number of windows in a row that brought no command,
const MAX_IN_VAIN: u32 = 8;
/// this number of transactions have no window.
const PASSED_OVER: u32 = 64;

/// The commands that one transaction answers.
#[derive(Default)]
pub(crate) struct CommandGroup {
    /// Steps of a copy, which are done after the transaction.
    pub(crate) copies: Vec<CopyOrder>,
    pub(crate) commands: Vec<Box<dyn PendingCommand>>,
    bytes: usize,
    /// The store is being closed: no group comes after this one.
    pub(crate) is_last: bool,
}

/// How long the thread waits for further commands before it commits.
#[derive(Debug, Default)]
pub(crate) struct GroupCommitWindow {
    /// The number of callers that are likely to ask again at once.
    expected: usize,
    /// The duration of a commit, smoothed.
    commit: Duration,
    in_vain: u32,
    to_pass_over: u32,
}

impl GroupCommitWindow {
    /// Learns from a transaction how long it took and how many of its callers are likely to ask again.
    pub(crate) fn committed(&mut self, took: Duration, expected: usize) {
        self.commit = (self.commit * 3 + took) / 4;
        self.expected = expected;
    }

    /// Returns the first command, if a caller is expected and comes within the quiet time: waking this thread would take as long.
    pub(crate) fn first(&self, waiting: &mut mpsc::Receiver<Command>) -> Option<Command> {
        let first = waiting.try_recv().ok();
        if first.is_some() || self.expected == 0 || self.to_pass_over > 0 {
            return first;
        }
        let end = StdInstant::now() + self.quiet();
        while StdInstant::now() < end {
            thread::yield_now();
            if let Ok(first) = waiting.try_recv() {
                return Some(first);
            }
        }
        None
    }

    /// Takes the commands that wait already, and those that come while the window is open.
    pub(crate) fn gather(&mut self, first: Command, waiting: &mut mpsc::Receiver<Command>) -> CommandGroup {
        let mut group = CommandGroup::default();
        group.take(first, waiting);
        group.take_all(waiting);
        let expected = std::mem::take(&mut self.expected);
        if self.to_pass_over > 0 {
            self.to_pass_over -= 1;
            return group;
        }
        let before = group.commands.len();
        let started = StdInstant::now();
        let mut came_last = started;
        let mut now = started;
        let end = started + (self.commit / WINDOW_PART).min(MAX_WINDOW);
        while group.commands.len() < expected && now < end.min(came_last + self.quiet()) && group.has_room() {
            // A caller that is about to ask may need this core.
            thread::yield_now();
            let known = group.commands.len();
            group.take_all(waiting);
            now = StdInstant::now();
            if group.commands.len() > known {
                came_last = now;
            }
        }
        if before < expected {
            let came = group.commands.len() > before;
            self.in_vain = if came { 0 } else { self.in_vain + 1 };
            if self.in_vain >= MAX_IN_VAIN {
                self.in_vain = 0;
                self.to_pass_over = PASSED_OVER;
            }
        }
        group
    }

    fn quiet(&self) -> Duration {
        (self.commit / QUIET_PART).min(MAX_QUIET)
    }
}

impl CommandGroup {
    fn has_room(&self) -> bool {
        self.commands.len() < MAX_BATCH && self.bytes < MAX_BATCH_BYTES && !self.is_last
    }

    fn take(&mut self, command: Command, waiting: &mut mpsc::Receiver<Command>) {
        match command {
            Command::Apply(pending) => {
                self.bytes = self.bytes.saturating_add(pending.weight());
                self.commands.push(pending);
            }
            Command::Copy(order) => self.copies.push(order),
            Command::Wake => {}
            Command::Close => {
                self.is_last = true;
                waiting.close();
            }
        }
    }

    fn take_all(&mut self, waiting: &mut mpsc::Receiver<Command>) {
        while self.has_room()
            && let Ok(command) = waiting.try_recv()
        {
            self.take(command, waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::{
            StoreFault, StoreRules,
            command::{TransactionFailure, UndeliveredReceipts},
        },
        *,
    };
    use crate::operation::CommandKind;

    /// A command that does nothing.
    struct IdleCommand;

    impl PendingCommand for IdleCommand {
        fn is_awaited(&self) -> bool {
            true
        }

        fn weight(&self) -> usize {
            1
        }

        fn kind(&self) -> CommandKind {
            CommandKind::Other
        }

        fn apply(&mut self, _rules: &mut StoreRules) -> Result<(), StoreFault> {
            Ok(())
        }

        fn answer(self: Box<Self>, _undelivered: &Arc<UndeliveredReceipts>) {}

        fn fail(self: Box<Self>, _failure: &TransactionFailure) {}
    }

    fn command() -> Command {
        Command::Apply(Box::new(IdleCommand))
    }

    /// A disk on which the window is as long as it gets.
    const SLOW: Duration = Duration::from_secs(1);

    #[test]
    fn without_expectations_only_those_who_are_there_are_taken() {
        let (commands, mut waiting) = mpsc::channel(10);
        commands.try_send(command()).unwrap();
        let mut window = GroupCommitWindow::default();
        window.committed(SLOW, 0);
        assert_eq!(window.gather(command(), &mut waiting).commands.len(), 2);
        assert!(window.first(&mut waiting).is_none());
        assert_eq!(window.in_vain, 0, "nobody was waited for");
    }

    #[test]
    fn who_is_expected_is_waited_for_until_nobody_comes_for_a_while() {
        let (_commands, mut waiting) = mpsc::channel(10);
        let mut window = GroupCommitWindow::default();
        for _ in 0..10 {
            window.committed(SLOW, 2);
        }
        let started = StdInstant::now();
        assert_eq!(window.gather(command(), &mut waiting).commands.len(), 1);
        assert!(started.elapsed() >= MAX_QUIET);
    }

    #[test]
    fn waits_in_vain_are_given_up_and_tried_again_later() {
        let (commands, mut waiting) = mpsc::channel(10);
        let mut window = GroupCommitWindow::default();
        let mut waited = || {
            window.committed(SLOW, 2);
            let started = StdInstant::now();
            window.gather(command(), &mut waiting);
            (started.elapsed() >= MAX_QUIET, window.to_pass_over)
        };
        let waits: Vec<_> = (0..MAX_IN_VAIN).map(|_| waited()).collect();
        assert!(waits.iter().all(|(waited, _)| *waited));
        let (_, to_pass_over) = waits.last().unwrap();
        assert_eq!(*to_pass_over, PASSED_OVER);
        for left in (0..PASSED_OVER).rev() {
            assert_eq!(waited().1, left);
        }
        assert!(waited().0, "a caller may come by now");
        drop(commands);
    }

    #[test]
    fn nothing_is_taken_after_the_end_was_announced() {
        let (commands, mut waiting) = mpsc::channel(10);
        commands.try_send(Command::Close).unwrap();
        commands.try_send(command()).unwrap();
        let group = GroupCommitWindow::default().gather(command(), &mut waiting);
        assert_eq!((group.commands.len(), group.is_last), (1, true));
        assert!(waiting.try_recv().is_ok(), "it is answered on its own");
    }
}
