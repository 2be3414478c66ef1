//! The files of one name in the plugin directory, and the next step of the reload for them. Pure; the caller passes the time.

use std::time::Duration;

use tokio::time::Instant;

use crate::plugin_dir::HandlerStamps;
use sandhog_queue::message::QueueName;

/// The time that a file must be unchanged before it is read.
pub(crate) const QUIET: Duration = Duration::from_millis(100);
/// The first wait after the machine could not do its part of a load. The wait doubles each time.
const FIRST_AGAIN: Duration = Duration::from_secs(1);
/// The longest wait after the machine could not do its part of a load.
const LAST_AGAIN: Duration = Duration::from_mins(1);
/// The first wait for a writer. The wait doubles each time.
const FIRST_WRITER: Duration = Duration::from_millis(250);
/// The longest wait for a writer.
const LAST_WRITER: Duration = Duration::from_secs(2);

/// The files of one name.
#[derive(Debug)]
pub(crate) struct HandlerFiles {
    /// The stamps of the last scan; `None` if the name has no files.
    pub(crate) stamps: Option<HandlerStamps>,
    /// Since when the files have had these stamps.
    since: Instant,
    /// The earliest time of the next step.
    not_before: Instant,
    /// Loads in a row that ended without a verdict.
    tries: u32,
    /// The files of the version that was accepted or refused last.
    applied: Option<HandlerStamps>,
    /// The files for whose manifest the queues exist.
    named: Option<HandlerStamps>,
    /// The queue that the handler is going to serve, if that is known.
    pub(crate) queue: Option<QueueName>,
    /// A step is under way.
    busy: bool,
    /// The component is gone, and the handler was removed; or the handler was never loaded.
    ended: bool,
    /// The last reason that was reported of these files.
    pub(crate) reported: Option<String>,
    /// The last report that another handler has the queue.
    pub(crate) reported_clash: Option<String>,
}

/// A step of the reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DueStep {
    /// Declare the queues that the manifest names.
    Name,
    /// Load the files.
    Load,
    /// Remove the handler: its component is gone.
    Remove,
    /// Forget the name: it has no files.
    Forget,
}

impl HandlerFiles {
    pub(crate) fn new(stamps: HandlerStamps, since: Instant) -> Self {
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
            reported: None,
            reported_clash: None,
        }
    }

    /// Notes the stamps that a scan has found.
    pub(crate) fn look(&mut self, stamps: Option<HandlerStamps>, now: Instant) {
        if self.stamps != stamps {
            self.since = now;
            self.not_before = now;
            self.tries = 0;
            self.reported = None;
            self.stamps = stamps;
        }
    }

    /// Returns the time of the next step, unless the files change before; `None` if there is no next step.
    pub(crate) fn at(&self) -> Option<Instant> {
        (!self.busy && self.next().is_some()).then(|| (self.since + QUIET).max(self.not_before))
    }

    /// Returns the step that is due.
    pub(crate) fn due(&self, now: Instant) -> Option<DueStep> {
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

    /// Returns whether the first verdict on these files is still to come.
    pub(crate) fn is_coming(&self) -> bool {
        let wanted = matches!(self.next(), Some(DueStep::Name | DueStep::Load));
        wanted && self.tries == 0 && self.stamps.as_ref().is_some_and(|stamps| stamps.wasm.is_some())
    }

    pub(crate) fn quiet_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Returns whether this load is the first of these files.
    pub(crate) fn is_first_try(&self) -> bool {
        self.tries == 0
    }

    pub(crate) fn begin(&mut self) {
        self.busy = true;
        self.ended &= self.stamps.as_ref().is_none_or(|stamps| stamps.wasm.is_none());
    }

    /// Notes that the queues of the manifest exist.
    pub(crate) fn named(&mut self, stamps: HandlerStamps, queue: Option<QueueName>) {
        self.busy = false;
        self.named = Some(stamps);
        self.queue = queue;
    }

    /// Whether a step is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Notes that an older version was loaded, which says nothing about the files.
    pub(crate) fn loaded_older(&mut self) {
        self.busy = false;
    }

    /// Makes the files due as if they had changed, because the verdict on them is no longer valid.
    pub(crate) fn load_again(&mut self, now: Instant) {
        self.applied = None;
        self.tries = 0;
        self.hurry(now);
    }

    /// Notes that these files were accepted or refused.
    pub(crate) fn settle(&mut self, stamps: HandlerStamps) {
        self.busy = false;
        self.tries = 0;
        self.applied = Some(stamps);
    }

    /// Notes that the files changed while they were read.
    pub(crate) fn changed(&mut self, now: Instant) {
        self.busy = false;
        self.since = now;
    }

    /// Puts the next try off, because the machine could not do its part.
    pub(crate) fn try_again(&mut self, now: Instant) {
        self.put_off(now, FIRST_AGAIN, LAST_AGAIN);
    }

    /// Puts the next try off, because another process is writing a file.
    pub(crate) fn wait_for_writer(&mut self, now: Instant) {
        self.put_off(now, FIRST_WRITER, LAST_WRITER);
    }

    /// Makes the next try due now.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.not_before = self.not_before.min(now);
    }

    fn put_off(&mut self, now: Instant, first: Duration, last: Duration) {
        let wait = first.saturating_mul(2_u32.saturating_pow(self.tries)).min(last);
        self.busy = false;
        self.not_before = now + wait;
        self.tries = self.tries.saturating_add(1);
        // A manifest that could not be read may be readable by then.
        self.named = None;
    }

    /// Notes that the handler was removed.
    pub(crate) fn removed(&mut self) {
        self.ended = true;
        self.applied = None;
        self.tries = 0;
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
        let mut files = HandlerFiles::new(stamps(Some("a")), start);
        assert_eq!(files.due(start), None);
        let quiet = start + QUIET;
        assert_eq!(files.due(quiet), Some(DueStep::Name));
        files.begin();
        assert_eq!(files.due(quiet), None);
        files.named(stamps(Some("a")), None);
        assert_eq!(files.due(quiet), Some(DueStep::Load));
        files.begin();
        files.settle(stamps(Some("a")));
        assert_eq!(files.at(), None);
        files.look(None, quiet);
        assert_eq!(
            (files.due(quiet), files.due(quiet + QUIET)),
            (None, Some(DueStep::Remove))
        );
        files.removed();
        assert_eq!(files.due(quiet + QUIET), Some(DueStep::Forget));
    }

    /// The load was tried every five seconds, and reported each time, for ever.
    #[tokio::test(start_paused = true)]
    async fn a_load_that_the_machine_refuses_is_tried_again_at_growing_intervals_up_to_a_minute() {
        let start = Instant::now();
        let mut files = HandlerFiles::new(stamps(Some("a")), start);
        let waits = [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs);
        for wait in waits {
            files.named(stamps(Some("a")), None);
            files.begin();
            files.try_again(start + QUIET);
            assert_eq!(files.at(), Some(start + QUIET + wait));
            assert!(!files.is_coming());
        }
        // A change is due at once.
        files.look(Some(stamps(Some("b"))), start + QUIET);
        assert_eq!(files.at(), Some(start + QUIET * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_manifest_alone_is_named_and_never_loaded_or_removed() {
        let start = Instant::now();
        let mut files = HandlerFiles::new(stamps(None), start - QUIET);
        assert_eq!(files.due(start), Some(DueStep::Name));
        files.begin();
        files.named(stamps(None), None);
        assert_eq!(files.at(), None);
    }
}
