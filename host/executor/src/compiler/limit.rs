//! The limits that a compiler sets for itself.

use rustix::process::Resource;

use super::denied::DeniedCall;
use crate::process_limit::{self, ProcessLimit};

/// Sets the soft limit to `wanted`, and the hard limit to `above` more; never above the hard limit that the process has.
///
/// # Errors
///
/// The machine denies it.
pub(crate) fn limit(resource: Resource, wanted: u64, above: u64) -> Result<(), DeniedCall> {
    let denied = |error| DeniedCall::new("prlimit64", error);
    let allowed = process_limit::read(resource)
        .map_err(denied)?
        .maximum
        .unwrap_or(u64::MAX);
    let limit = ProcessLimit {
        current: Some(wanted.min(allowed)),
        maximum: Some(wanted.saturating_add(above).min(allowed)),
    };
    process_limit::write(resource, limit).map_err(denied)
}
