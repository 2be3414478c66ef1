//! Limits that the compiler gives itself.

use rustix::process::Resource;

use super::denied::Denied;
use crate::process_limit::{self, ProcessLimit};

/// Never above what the process was allowed before.
pub(super) fn limit(resource: Resource, wanted: u64, above: u64) -> Result<(), Denied> {
    let denied = |error| Denied::new("prlimit64", error);
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
