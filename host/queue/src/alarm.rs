//! Waiting for a time that may never come.

use tokio::time::{Instant, sleep_until};

/// Waits until `at`, or for ever if there is no such time.
///
/// # Cancel safety
///
/// Safe.
pub async fn wake_at(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
