//! The JSON of a reload.

use serde::{Deserialize, Serialize};

/// The answer of `POST /reload`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ReloadAnswer {
    /// The keys that have changed, and are in force.
    pub changed: Vec<String>,
    /// The keys that have changed, and need a restart.
    pub needs_restart: Vec<String>,
}
