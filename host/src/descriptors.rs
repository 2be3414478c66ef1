//! How many files, sockets and pipes the process may have open.
//!
//! Whoever opens things on behalf of others takes a part of the limit, so that the host keeps some for itself.

use rustix::process::Resource;

use crate::process_limit::{self, ProcessLimit};

/// More than this is not asked for: programs that go through all descriptors would take long.
const MOST: u64 = 1 << 20;
/// What every system accepts; macOS names no limit and refuses to have none.
const MODEST: u64 = 10_240;
/// A host with fewer runs, and is told to its operator.
const FEW: u64 = 1024;

/// Raises the limit of this process, and of those that it starts, to what it may have. Many systems begin with 1024, for the
/// sake of old programs. Where it can't be raised it stays.
pub fn raise() {
    let Ok(ProcessLimit { current, maximum }) = process_limit::read(Resource::Nofile) else {
        return;
    };
    let wanted = maximum.unwrap_or(MOST).min(MOST);
    for soft in [wanted, wanted.min(MODEST)] {
        // No limit is read as none.
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

/// How many the process may have open now, at most 1,048,576; 1024 where the machine does not tell.
pub fn limit() -> u64 {
    process_limit::read(Resource::Nofile).map_or(FEW, |limit| limit.current.unwrap_or(MOST).min(MOST))
}

/// Tells the operator if there are few.
pub fn warn_if_few() {
    let descriptors = limit();
    if descriptors < FEW {
        tracing::warn!(
            descriptors,
            "the process may have few files open: raise the hard limit (ulimit -n, LimitNOFILE=) to {FEW} or more"
        );
    }
}
