//! Changes of a queue's settings and tags.

use std::sync::Arc;

use super::{SqsEndpoint, queues::refused_change};
use crate::queue_set::{SimpleQueueEntry, WireQueue};
use sandhog_queue::{Queue as _, machine_clock::wall_ms};
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
        wire.modified_at_ms = wall_ms();
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
