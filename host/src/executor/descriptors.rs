//! How many of the process's file descriptors guests may have. Half of them: the rest is for the listener, the store, queues
//! and compilers, which no guest may stop.

use super::{Policy, import::files};
use crate::descriptors;

/// More than a host of guests needs; a limit of the system can be without end.
const MOST: u64 = 1 << 20;
/// Which part of those of guests idle HTTP connections may take: one of so many.
const IDLE_PART: u32 = 8;

/// The descriptors of guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// Those of attempts: files, directories and connections.
    pub(super) attempts: u32,
    /// Those of connections that wait for the next request.
    pub(super) idle: u32,
}

impl Descriptors {
    /// By the soft limit of this process, as it is now.
    pub(super) fn of_this_process() -> Self {
        Self::within(Some(descriptors::limit()))
    }

    fn within(soft_limit: Option<u64>) -> Self {
        let guests = soft_limit.unwrap_or(MOST).min(MOST) / 2;
        let guests = u32::try_from(guests).unwrap_or(u32::MAX);
        let idle = guests / IDLE_PART;
        Self {
            attempts: guests - idle,
            idle,
        }
    }
}

/// What one attempt may have open, at most: its granted directories, files and streams, and connections.
pub(super) fn worst_case(policy: &Policy) -> u32 {
    let connections = policy.grants.http.as_ref().map_or(0, |_| policy.limits.http_concurrent);
    let all = files::most_open(policy).saturating_add(connections);
    u32::try_from(all).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_have_half_of_the_descriptors_and_the_host_the_rest() {
        for (limit, attempts, idle) in [
            (Some(1024), 448, 64),
            (Some(256), 112, 16),
            (None, 458_752, 65_536),
            (Some(0), 0, 0),
        ] {
            assert_eq!(Descriptors::within(limit), Descriptors { attempts, idle });
        }
    }
}
