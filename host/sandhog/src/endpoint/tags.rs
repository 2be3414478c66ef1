//! `TagQueue`, `UntagQueue` and `ListQueueTags`.

use super::SqsEndpoint;
use sandhog_sqs_wire::{
    SqsError, SqsResponse, check_tags,
    input::{ListQueueTagsInput, TagQueueInput, UntagQueueInput},
    output::ListQueueTagsOutput,
};

impl SqsEndpoint {
    pub(super) async fn tag_queue(&self, input: TagQueueInput) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        self.change(&queue, |wire| {
            wire.tags.extend(input.tags);
            check_tags(&wire.tags)
        })
        .await?;
        Ok(SqsResponse::TagQueue)
    }

    pub(super) async fn untag_queue(&self, input: UntagQueueInput) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        self.change(&queue, |wire| {
            for key in &input.tag_keys {
                wire.tags.remove(key);
            }
            Ok(())
        })
        .await?;
        Ok(SqsResponse::UntagQueue)
    }

    pub(super) fn list_tags(&self, input: &ListQueueTagsInput) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        Ok(SqsResponse::ListQueueTags(ListQueueTagsOutput {
            tags: queue.wire.tags.clone(),
        }))
    }
}
