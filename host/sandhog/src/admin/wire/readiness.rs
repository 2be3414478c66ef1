//! The JSON of readiness.

use serde::{Deserialize, Serialize};

/// The answer of `GET /ready`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReadinessAnswer {
    /// The host is ready for messages.
    pub ready: bool,
    /// The reasons why not, for people; empty for a caller without the secret.
    pub reasons: Vec<String>,
}
