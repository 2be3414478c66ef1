//! Waiting for a command, or until a moment: what a thread outside of any runtime can't have from the channel itself.

use std::{
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Instant,
};

use tokio::sync::mpsc;

/// What the waiting ended with.
pub(super) enum Next<T> {
    Command(T),
    /// The moment has come.
    Moment,
    /// There will be no command any more.
    End,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for the next command, but not beyond `until`. What waits already is taken first.
pub(super) fn next<T>(waiting: &mut mpsc::Receiver<T>, until: Option<Instant>) -> Next<T> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        // Asking registers the waker: what comes after it ends the parking below, also if it comes before that begins.
        if let Poll::Ready(command) = waiting.poll_recv(&mut context) {
            return command.map_or(Next::End, Next::Command);
        }
        let Some(until) = until else {
            thread::park();
            continue;
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Next::Moment;
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
        assert!(matches!(next(&mut waiting, Some(Instant::now())), Next::Command(1)));
        assert!(matches!(next(&mut waiting, Some(Instant::now())), Next::Moment));
    }

    #[test]
    fn a_wait_ends_when_its_moment_comes() {
        let (_commands, mut waiting) = mpsc::channel::<()>(1);
        let until = Instant::now() + Duration::from_millis(20);
        assert!(matches!(next(&mut waiting, Some(until)), Next::Moment));
        assert!(Instant::now() >= until);
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
            let until = (number % 2 == 0).then(|| Instant::now() + Duration::from_mins(1));
            assert!(matches!(next(&mut waiting, until), Next::Command(got) if got == number));
        }
        assert!(matches!(next(&mut waiting, None), Next::End));
        sender.join().unwrap();
    }
}
