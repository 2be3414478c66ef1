//! The limit of files, sockets and pipes that the process may have open, and the guests' share of it.
//!
//! Guests get half of the descriptors. The rest is for the listener, the store, queues and compilers, which no guest may stop.

use rustix::process::Resource;

use crate::process_limit::{self, ProcessLimit};

/// The highest limit that is asked for: programs that go through all descriptors would take long with a higher one. A system
/// can also have no limit.
const MOST: u64 = 1 << 20;
/// A limit that every system accepts; macOS names no limit and refuses to have none.
const MODEST: u64 = 10_240;
/// A host with fewer descriptors runs, and warns its operator.
const FEW: u64 = 1024;
/// Idle HTTP connections get one part of so many of the guests' descriptors.
const IDLE_PART: u32 = 8;

/// Raises the limit of this process, and of the processes that it starts, as far as it may. Many systems begin with 1024, for
/// the sake of old programs. A limit that can't be raised stays.
pub fn raise() {
    let Ok(ProcessLimit { current, maximum }) = process_limit::read(Resource::Nofile) else {
        return;
    };
    let wanted = maximum.unwrap_or(MOST).min(MOST);
    for soft in [wanted, wanted.min(MODEST)] {
        // `None` is no limit, which needs no raising.
        let raised = current.is_some_and(|current| current < soft)
            && process_limit::write(
                Resource::Nofile,
                ProcessLimit {
                    current: Some(soft),
                    maximum,
                },
            )
            .is_ok();
        if raised {
            tracing::debug!(descriptors = soft, "the limit of open files was raised");
            return;
        }
    }
}

/// Returns the number of descriptors that the process may have open now, at most 1,048,576; 1024 if the machine does not tell.
pub fn limit() -> u64 {
    process_limit::read(Resource::Nofile).map_or(FEW, |limit| limit.current.unwrap_or(MOST).min(MOST))
}

/// Warns the operator if the process may have few descriptors.
pub fn warn_if_few() {
    let descriptors = limit();
    if descriptors < FEW {
        tracing::warn!(
            descriptors,
            "the process may have few files open: raise the hard limit (ulimit -n, LimitNOFILE=) to {FEW} or more"
        );
    }
}

/// The guests' share of the descriptors of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GuestDescriptors {
    /// For the files, directories and connections of attempts.
    pub(crate) attempts: u32,
    /// For connections that wait for the next request.
    pub(crate) idle: u32,
}

impl GuestDescriptors {
    /// Returns the share of the soft limit that this process has now.
    pub(crate) fn of_this_process() -> Self {
        Self::within(limit())
    }

    fn within(soft_limit: u64) -> Self {
        let guests = u32::try_from(soft_limit.min(MOST) / 2).unwrap_or(u32::MAX);
        let idle = guests / IDLE_PART;
        Self {
            attempts: guests - idle,
            idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_have_half_of_the_descriptors_and_the_host_the_rest() {
        for (limit, attempts, idle) in [(1024, 448, 64), (256, 112, 16), (u64::MAX, 458_752, 65_536), (0, 0, 0)] {
            assert_eq!(GuestDescriptors::within(limit), GuestDescriptors { attempts, idle });
        }
    }
}
