//! Waiting for a command, or until a moment, on a thread outside of any runtime. The channel itself waits there without a limit only.

#![expect(
    clippy::disallowed_methods,
    reason = "the writer is a thread without a runtime, and its waits end with the time of the machine"
)]

use std::{
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Instant as StdInstant,
};

use tokio::sync::mpsc;

/// How a wait ended.
pub(crate) enum NextCommand<T> {
    Command(T),
    /// The moment came first.
    Due,
    /// No sender is left, so no command will come.
    End,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for the next command, but not beyond `until`. A command that waits already goes before a moment that has come.
pub(crate) fn next<T>(waiting: &mut mpsc::Receiver<T>, until: Option<StdInstant>) -> NextCommand<T> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        // Polling registers the waker, so a command that comes from here on ends the parking below, even before it begins.
        if let Poll::Ready(command) = waiting.poll_recv(&mut context) {
            return command.map_or(NextCommand::End, NextCommand::Command);
        }
        let Some(until) = until else {
            thread::park();
            continue;
        };
        let left = until.saturating_duration_since(StdInstant::now());
        if left.is_zero() {
            return NextCommand::Due;
        }
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_command_goes_before_a_moment_that_has_come() {
        let (commands, mut waiting) = mpsc::channel(1);
        commands.try_send(1).unwrap();
        assert!(matches!(
            next(&mut waiting, Some(StdInstant::now())),
            NextCommand::Command(1)
        ));
        assert!(matches!(next(&mut waiting, Some(StdInstant::now())), NextCommand::Due));
    }

    #[test]
    fn a_wait_ends_when_its_moment_comes() {
        let (_commands, mut waiting) = mpsc::channel::<()>(1);
        let until = StdInstant::now() + Duration::from_millis(20);
        assert!(matches!(next(&mut waiting, Some(until)), NextCommand::Due));
        assert!(StdInstant::now() >= until);
    }

    #[test]
    fn commands_from_another_thread_all_arrive_and_then_the_end() {
        let (commands, mut waiting) = mpsc::channel(1);
        let sender = thread::spawn(move || {
            for number in 0..10_000 {
                commands.blocking_send(number).unwrap();
            }
        });
        for number in 0..10_000 {
            let until = (number % 2 == 0).then(|| StdInstant::now() + Duration::from_mins(1));
            assert!(matches!(next(&mut waiting, until), NextCommand::Command(got) if got == number));
        }
        assert!(matches!(next(&mut waiting, None), NextCommand::End));
        sender.join().unwrap();
    }
}
