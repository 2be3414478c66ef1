//! Looking at dead letters.

use super::remote::Remote;
use crate::{
    message::MessageId,
    queue::{DeadLetter, QueueError},
};

impl Remote {
    pub(super) async fn dead_letters(&self, _limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        let _ = self.is_shared();
        Ok(Vec::new())
    }

    pub(super) async fn dead_letter(&self, _id: &MessageId) -> Result<Option<DeadLetter>, QueueError> {
        Ok(None)
    }
}
