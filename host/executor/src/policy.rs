//! The policy of a handler: the limits that bound an attempt, the grants that an attempt has, and the life of an instance.
//!
//! These types carry values only. The configuration reads them from a manifest; this module knows no TOML.

use std::time::Duration;

mod grants;
mod limits;
mod origin;

pub use self::{
    grants::{DirGrant, ExitCodes, GrantedValue, Grants, HttpGrant, LogLevel},
    limits::{LimitEntry, LimitField, LimitQuantity, Limits, MAX_MEMORY_BYTES},
    origin::{OriginPattern, default_port},
};

/// The life of an instance that answers one message after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reuse {
    /// The most calls that the instance answers. Key `reuse-max`: 2 to 1,000,000, default 1000.
    pub max: u64,
    /// The longest time that the instance is kept without a message. Key `reuse-idle`: 1 ms to 12 h, default 1 min.
    pub idle: Duration,
}
