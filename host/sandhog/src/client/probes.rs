//! What a probe asks: whether the host lives, and whether it is ready. The routes are open, so the secret only adds the reasons.

use std::time::Duration;

use super::{ClientError, HostClient};
use crate::{admin::wire::ReadinessAnswer, config::ListenerSecret};

impl HostClient {
    /// Returns a client as [`HostClient::new`] does, whose requests take so long at most.
    ///
    /// # Errors
    ///
    /// [`ClientError::Address`].
    pub fn for_probes(url: &str, secret: Option<ListenerSecret>, limit: Duration) -> Result<Self, ClientError> {
        Self::within(url, secret, [limit, limit])
    }

    /// Returns whether the host is ready, and why not. Without the secret of the host the reasons are empty.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]. A host that is not ready is no error.
    pub fn readiness(&self) -> Result<ReadinessAnswer, ClientError> {
        let (status, bytes) = self.answer("/ready")?;
        serde_json::from_slice(&bytes).map_err(|_| self.refused(status, &bytes))
    }

    /// Checks that the host can answer at all.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn live(&self) -> Result<(), ClientError> {
        let (status, bytes) = self.answer("/live")?;
        if bytes == b"live\n" {
            Ok(())
        } else {
            Err(self.refused(status, &bytes))
        }
    }
}
