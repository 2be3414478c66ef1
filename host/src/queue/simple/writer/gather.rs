//! Which commands one transaction answers.
//!
//! Whoever was just answered is likely to ask again: a sender for its next message, a receiver for more. They all do so within
//! some microseconds, and a sync takes hundreds. So the first to come waits a moment for the others, where that has paid before:
//! one sync for all of them, instead of one for the first and another for the rest.

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{BATCH, BATCH_BYTES, Command, Job};

/// For how long nobody has to come before nobody else is waited for, as a part of what a commit takes, and in any case.
const QUIET_PART: u32 = 4;
const LONGEST_QUIET: Duration = Duration::from_micros(200);
/// The same for the whole wait.
const WAIT_PART: u32 = 2;
const LONGEST_WAIT: Duration = Duration::from_millis(2);
/// After so many waits in a row for which nobody came, so many transactions wait for nobody.
const IN_VAIN: u32 = 8;
const PASSED_OVER: u32 = 64;

/// What one transaction answers.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) jobs: Vec<Box<dyn Job>>,
    bytes: usize,
    /// Whether there will be nothing after it.
    pub(super) last: bool,
}

/// Who is waited for.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// How many are likely to ask again at once.
    expected: usize,
    /// What a commit takes, smoothed.
    commit: Duration,
    in_vain: u32,
    to_pass_over: u32,
}

impl Gathering {
    /// A transaction took so long, and so many of those that it answered are likely to ask again.
    pub(super) fn committed(&mut self, took: Duration, expected: usize) {
        self.commit = (self.commit * 3 + took) / 4;
        self.expected = expected;
    }

    /// The first to come, if somebody is expected and comes in a moment: waking this thread would take as long.
    pub(super) fn first(&self, waiting: &mut mpsc::Receiver<Command>) -> Option<Command> {
        let first = waiting.try_recv().ok();
        if first.is_some() || self.expected == 0 || self.to_pass_over > 0 {
            return first;
        }
        let end = Instant::now() + self.quiet();
        while Instant::now() < end {
            thread::yield_now();
            if let Ok(first) = waiting.try_recv() {
                return Some(first);
            }
        }
        None
    }

    /// Takes what is there, and waits for who is expected.
    pub(super) fn gather(&mut self, first: Command, waiting: &mut mpsc::Receiver<Command>) -> Gathered {
        let mut gathered = Gathered::default();
        gathered.take(first, waiting);
        gathered.take_all(waiting);
        let expected = std::mem::take(&mut self.expected);
        if self.to_pass_over > 0 {
            self.to_pass_over -= 1;
            return gathered;
        }
        let (before, started) = (gathered.jobs.len(), Instant::now());
        let (mut came_last, mut now) = (started, started);
        let end = started + (self.commit / WAIT_PART).min(LONGEST_WAIT);
        while gathered.jobs.len() < expected && now < end.min(came_last + self.quiet()) && gathered.has_room() {
            // Whoever is about to ask may need this core.
            thread::yield_now();
            let known = gathered.jobs.len();
            gathered.take_all(waiting);
            now = Instant::now();
            if gathered.jobs.len() > known {
                came_last = now;
            }
        }
        if before < expected {
            let came = gathered.jobs.len() > before;
            self.in_vain = if came { 0 } else { self.in_vain + 1 };
            if self.in_vain >= IN_VAIN {
                (self.in_vain, self.to_pass_over) = (0, PASSED_OVER);
            }
        }
        gathered
    }

    fn quiet(&self) -> Duration {
        (self.commit / QUIET_PART).min(LONGEST_QUIET)
    }
}

impl Gathered {
    fn has_room(&self) -> bool {
        self.jobs.len() < BATCH && self.bytes < BATCH_BYTES && !self.last
    }

    fn take(&mut self, command: Command, waiting: &mut mpsc::Receiver<Command>) {
        match command {
            Command::Apply(job) => {
                self.bytes = self.bytes.saturating_add(job.weight());
                self.jobs.push(job);
            }
            Command::Look => {}
            Command::Close => {
                self.last = true;
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
        super::{Core, Failure, Fault, Kind, Returned},
        *,
    };

    /// Somebody who asks for nothing.
    struct Idle;

    impl Job for Idle {
        fn is_awaited(&self) -> bool {
            true
        }

        fn weight(&self) -> usize {
            1
        }

        fn kind(&self) -> Kind {
            Kind::Other
        }

        fn apply(&mut self, _core: &mut Core) -> Result<(), Fault> {
            Ok(())
        }

        fn answer(self: Box<Self>, _returned: &Arc<Returned>) {}

        fn fail(self: Box<Self>, _failure: &Failure) {}
    }

    fn command() -> Command {
        Command::Apply(Box::new(Idle))
    }

    /// A disk that takes so long that the wait is as long as it gets.
    const SLOW: Duration = Duration::from_secs(1);

    #[test]
    fn without_expectations_only_those_who_are_there_are_taken() {
        let (commands, mut waiting) = mpsc::channel(10);
        commands.try_send(command()).unwrap();
        let mut gathering = Gathering::default();
        gathering.committed(SLOW, 0);
        assert_eq!(gathering.gather(command(), &mut waiting).jobs.len(), 2);
        assert!(gathering.first(&mut waiting).is_none());
        assert_eq!(gathering.in_vain, 0, "nobody was waited for");
    }

    #[test]
    fn who_is_expected_is_waited_for_until_nobody_comes_for_a_while() {
        let (_commands, mut waiting) = mpsc::channel(10);
        let mut gathering = Gathering::default();
        for _ in 0..10 {
            gathering.committed(SLOW, 2);
        }
        let started = Instant::now();
        assert_eq!(gathering.gather(command(), &mut waiting).jobs.len(), 1);
        assert!(started.elapsed() >= LONGEST_QUIET);
    }

    #[test]
    fn waits_in_vain_are_given_up_and_tried_again_later() {
        let (commands, mut waiting) = mpsc::channel(10);
        let mut gathering = Gathering::default();
        let mut waited = || {
            gathering.committed(SLOW, 2);
            let started = Instant::now();
            gathering.gather(command(), &mut waiting);
            (started.elapsed() >= LONGEST_QUIET, gathering.to_pass_over)
        };
        let waits: Vec<_> = (0..IN_VAIN).map(|_| waited()).collect();
        assert!(waits.iter().all(|(waited, _)| *waited));
        let (_, to_pass_over) = waits.last().unwrap();
        assert_eq!(*to_pass_over, PASSED_OVER);
        for left in (0..PASSED_OVER).rev() {
            assert_eq!(waited().1, left);
        }
        assert!(waited().0, "somebody may come by now");
        drop(commands);
    }

    #[test]
    fn nothing_is_taken_after_the_end_was_announced() {
        let (commands, mut waiting) = mpsc::channel(10);
        commands.try_send(Command::Close).unwrap();
        commands.try_send(command()).unwrap();
        let gathered = Gathering::default().gather(command(), &mut waiting);
        assert_eq!((gathered.jobs.len(), gathered.last), (1, true));
        assert!(waiting.try_recv().is_ok(), "it is answered on its own");
    }
}
