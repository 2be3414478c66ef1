//! Putting dead letters back.

use super::remote::Remote;
use crate::{message::MessageId, queue::QueueError};

impl Remote {
    pub(super) async fn redrive(&self, _ids: Option<Vec<MessageId>>, _limit: usize) -> Result<u64, QueueError> {
        Ok(0)
    }

    pub(super) async fn purge_dead(&self) -> Result<u64, QueueError> {
        Ok(0)
    }
}
