//! What the reload knows of one name in the plugin directory, and what is to be done about it next. Pure; the time is passed in.

use std::time::Duration;

use tokio::time::Instant;

use crate::{message::QueueName, plugin_dir::HandlerStamps};

/// How long a file must not have changed before it is read.
pub(super) const QUIET: Duration = Duration::from_millis(100);
/// The first wait after the machine could not do its part of a load; it doubles each time.
const FIRST_AGAIN: Duration = Duration::from_secs(1);
/// The longest wait of that kind.
const LAST_AGAIN: Duration = Duration::from_mins(1);
/// The first wait for a writer; it doubles each time.
const FIRST_HELD: Duration = Duration::from_millis(250);
/// The longest wait of that kind.
const LAST_HELD: Duration = Duration::from_secs(2);

/// What was seen of one name.
#[derive(Debug)]
pub(super) struct HandlerFiles {
    /// As of the last scan; `None` if nothing is there.
    pub(super) stamps: Option<HandlerStamps>,
    /// Since when it has looked like that.
    since: Instant,
    /// Left alone until then.
    not_before: Instant,
    /// Loads in a row that ended without a verdict.
    tries: u32,
    /// What the handler that runs, or was refused, was made of.
    applied: Option<HandlerStamps>,
    /// The files for whose manifest the queues exist.
    named: Option<HandlerStamps>,
    /// The queue that it is going to serve, if that is known.
    pub(super) queue: Option<QueueName>,
    /// Something is under way for it.
    busy: bool,
    /// The component is gone, and the handler was removed.
    ended: bool,
    /// What was said of its files last.
    pub(super) said: Option<String>,
    /// What was said of another handler that has its queue.
    pub(super) clash: Option<String>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DueStep {
    /// Its queues are to exist.
    Name,
    /// It is to be loaded.
    Load,
    /// Its component is gone.
    Remove,
    /// Nothing of it is left.
    Forget,
}

impl HandlerFiles {
    pub(super) fn new(stamps: HandlerStamps, since: Instant) -> Self {
        Self {
            stamps: Some(stamps),
            since,
            not_before: since,
            tries: 0,
            applied: None,
            named: None,
            queue: None,
            busy: false,
            ended: true,
            said: None,
            clash: None,
        }
    }

    /// Notes what a scan has found.
    pub(super) fn look(&mut self, stamps: Option<HandlerStamps>, now: Instant) {
        if self.stamps != stamps {
            (self.since, self.not_before, self.tries, self.said) = (now, now, 0, None);
            self.stamps = stamps;
        }
    }

    /// When it is to be looked at again, unless it changes; `None` if there is nothing to do.
    pub(super) fn at(&self) -> Option<Instant> {
        (!self.busy && self.next().is_some()).then(|| (self.since + QUIET).max(self.not_before))
    }

    /// What is to be done now.
    pub(super) fn due(&self, now: Instant) -> Option<DueStep> {
        self.at().filter(|at| *at <= now).and_then(|_| self.next())
    }

    fn next(&self) -> Option<DueStep> {
        let Some(stamps) = &self.stamps else {
            return Some(if self.ended { DueStep::Forget } else { DueStep::Remove });
        };
        if stamps.wasm.is_none() && !self.ended {
            Some(DueStep::Remove)
        } else if self
            .named
            .as_ref()
            .is_none_or(|named| named.manifest != stamps.manifest)
        {
            Some(DueStep::Name)
        } else if stamps.wasm.is_some() && self.applied.as_ref() != Some(stamps) {
            Some(DueStep::Load)
        } else {
            None
        }
    }

    /// Whether a first verdict on what is there is still to come.
    pub(super) fn is_coming(&self) -> bool {
        let wanted = matches!(self.next(), Some(DueStep::Name | DueStep::Load));
        wanted && self.tries == 0 && self.stamps.as_ref().is_some_and(|stamps| stamps.wasm.is_some())
    }

    pub(super) fn quiet_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Whether this load is the first of these files.
    pub(super) fn is_first_try(&self) -> bool {
        self.tries == 0
    }

    pub(super) fn begin(&mut self) {
        self.busy = true;
        self.ended &= self.stamps.as_ref().is_none_or(|stamps| stamps.wasm.is_none());
    }

    /// The queues that the manifest names exist.
    pub(super) fn named(&mut self, stamps: HandlerStamps, queue: Option<QueueName>) {
        (self.busy, self.named, self.queue) = (false, Some(stamps), queue);
    }

    /// There is a verdict on these files.
    pub(super) fn settle(&mut self, stamps: HandlerStamps) {
        (self.busy, self.tries, self.applied) = (false, 0, Some(stamps));
    }

    /// The files changed while they were read.
    pub(super) fn changed(&mut self, now: Instant) {
        (self.busy, self.since) = (false, now);
    }

    /// The machine could not do its part.
    pub(super) fn again(&mut self, now: Instant) {
        self.put_off(now, FIRST_AGAIN, LAST_AGAIN);
    }

    /// Somebody is writing.
    pub(super) fn held(&mut self, now: Instant) {
        self.put_off(now, FIRST_HELD, LAST_HELD);
    }

    /// What waits for another try is tried now.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.not_before = self.not_before.min(now);
    }

    fn put_off(&mut self, now: Instant, first: Duration, last: Duration) {
        let wait = first.saturating_mul(2_u32.saturating_pow(self.tries)).min(last);
        (self.busy, self.not_before) = (false, now + wait);
        self.tries = self.tries.saturating_add(1);
        // What could not be read then may say more by then.
        self.named = None;
    }

    /// The handler is gone.
    pub(super) fn removed(&mut self) {
        (self.ended, self.applied, self.tries) = (true, None, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin_dir::{FileLook, FileTrouble};

    fn stamps(wasm: Option<&str>) -> HandlerStamps {
        let look = |reason: &str| {
            FileLook::Trouble(FileTrouble {
                reason: reason.to_owned(),
                is_transient: false,
            })
        };
        HandlerStamps {
            wasm: wasm.map(look),
            manifest: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_is_named_then_loaded_then_removed() {
        let start = Instant::now();
        let mut seen = HandlerFiles::new(stamps(Some("a")), start);
        assert_eq!(seen.due(start), None);
        let quiet = start + QUIET;
        assert_eq!(seen.due(quiet), Some(DueStep::Name));
        seen.begin();
        assert_eq!(seen.due(quiet), None);
        seen.named(stamps(Some("a")), None);
        assert_eq!(seen.due(quiet), Some(DueStep::Load));
        seen.begin();
        seen.settle(stamps(Some("a")));
        assert_eq!(seen.at(), None);
        seen.look(None, quiet);
        assert_eq!(
            (seen.due(quiet), seen.due(quiet + QUIET)),
            (None, Some(DueStep::Remove))
        );
        seen.removed();
        assert_eq!(seen.due(quiet + QUIET), Some(DueStep::Forget));
    }

    /// It was tried every five seconds, and reported each time, for ever.
    #[tokio::test(start_paused = true)]
    async fn what_the_machine_refuses_is_tried_again_at_growing_intervals_up_to_a_minute() {
        let start = Instant::now();
        let mut seen = HandlerFiles::new(stamps(Some("a")), start);
        let waits = [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs);
        for wait in waits {
            seen.named(stamps(Some("a")), None);
            seen.begin();
            seen.again(start + QUIET);
            assert_eq!(seen.at(), Some(start + QUIET + wait));
            assert!(!seen.is_coming());
        }
        // A change is looked at at once.
        seen.look(Some(stamps(Some("b"))), start + QUIET);
        assert_eq!(seen.at(), Some(start + QUIET * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_manifest_alone_is_named_and_never_loaded_or_removed() {
        let start = Instant::now();
        let mut seen = HandlerFiles::new(stamps(None), start - QUIET);
        assert_eq!(seen.due(start), Some(DueStep::Name));
        seen.begin();
        seen.named(stamps(None), None);
        assert_eq!(seen.at(), None);
    }
}
