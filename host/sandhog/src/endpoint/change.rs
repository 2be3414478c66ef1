//! Changes of a queue's settings and tags.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{SqsEndpoint, queues::refused_change};
use crate::queue_set::{SimpleQueueEntry, WireQueue};
use sandhog_queue::Queue as _;
use sandhog_sqs_wire::SqsError;

/// The most bytes that a queue's settings and tags take as JSON.
const MAX_RECORD_BYTES: usize = 64 * 1024;

impl SqsEndpoint {
    /// Changes what was said of a queue over the wire. Two changes at the same moment may overwrite each other, as on AWS.
    pub(super) async fn change(
        &self,
        queue: &SimpleQueueEntry,
        change: impl FnOnce(&mut WireQueue) -> Result<(), SqsError>,
    ) -> Result<(), SqsError> {
        let mut wire = WireQueue::clone(&queue.wire);
        change(&mut wire)?;
        wire.modified_at_ms = unix_ms();
        let bytes = wire.record_bytes();
        if bytes > MAX_RECORD_BYTES {
            return Err(SqsError::invalid_parameter(format!(
                "The attributes and tags of a queue take at most {MAX_RECORD_BYTES} bytes."
            )));
        }
        let (queues, name) = (Arc::clone(&self.queues), queue.queue.name().clone());
        let updated = self.change_whole(async move { queues.update(&name, wire).await }).await;
        updated.map_err(|refused| refused_change(&refused))
    }
}

/// Returns the milliseconds since 1970-01-01T00:00:00Z. The clock is what clients are shown; nothing is compared with it.
#[expect(
    clippy::disallowed_methods,
    reason = "people and clients are shown the wall clock's time"
)]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
