//! The meaning of an error of `SQLite` for the store: either nothing was done and the same may work later, or the state of the disk is
//! unknown.

use std::{
    io::{self, ErrorKind},
    sync::Arc,
};

use rusqlite::{ErrorCode, ffi};

use super::super::row::{FaultKind, StoreFault};

/// Returns the fault for an error of the call that has just returned.
pub(crate) fn fault(error: rusqlite::Error) -> StoreFault {
    // Read first, because any other call may overwrite it.
    let system = io::Error::last_os_error();
    let extended = error.sqlite_error().map(|error| error.extended_code);
    let kind = match error.sqlite_error_code() {
        Some(code) => kind(code, extended.unwrap_or_default(), system.kind()),
        None => FaultKind::Final,
    };
    if kind == FaultKind::Passing && is_refused_write(extended.unwrap_or_default()) {
        return StoreFault {
            kind,
            cause: Arc::new(NoRoom { system, error }),
        };
    }
    StoreFault {
        kind,
        cause: Arc::new(error),
    }
}

/// A full disk that the system reports in a way that `SQLite` does not know.
#[derive(Debug, thiserror::Error)]
#[error("the disk is full for this process: {system}")]
struct NoRoom {
    system: io::Error,
    #[source]
    error: rusqlite::Error,
}

fn kind(code: ErrorCode, extended: i32, system: ErrorKind) -> FaultKind {
    // The transaction is rolled back, and the part of it that was written lies behind the end of the log.
    let passes = matches!(
        code,
        ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::OutOfMemory | ErrorCode::FileLockingProtocolFailed
    );
    // SQLite knows one full disk, ENOSPC. A quota and the largest size of a file are two more.
    let full = code == ErrorCode::SystemIoFailure && is_refused_write(extended) && is_full(system);
    if passes || full {
        FaultKind::Passing
    } else {
        FaultKind::Final
    }
}

/// Returns whether an error is that of a write that was not done, or of a file that was not made longer. A failed sync is neither: after
/// it the state of the disk is unknown.
fn is_refused_write(extended: i32) -> bool {
    matches!(
        extended,
        ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_TRUNCATE | ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_SHMMAP
    )
}

fn is_full(system: ErrorKind) -> bool {
    matches!(
        system,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_and_the_largest_size_of_a_file_are_a_full_disk() {
        for system in [
            ErrorKind::StorageFull,
            ErrorKind::QuotaExceeded,
            ErrorKind::FileTooLarge,
        ] {
            for extended in [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE] {
                let kind = kind(ErrorCode::SystemIoFailure, extended, system);
                assert_eq!(kind, FaultKind::Passing, "{system:?} {extended}");
            }
        }
        assert_eq!(
            kind(ErrorCode::DiskFull, ffi::SQLITE_FULL, ErrorKind::Other),
            FaultKind::Passing
        );
    }

    #[test]
    fn a_failed_sync_or_a_bad_disk_is_final_whatever_else_failed_before() {
        let io = ErrorCode::SystemIoFailure;
        for (extended, system) in [
            (ffi::SQLITE_IOERR_FSYNC, ErrorKind::StorageFull),
            (ffi::SQLITE_IOERR_READ, ErrorKind::QuotaExceeded),
            (ffi::SQLITE_IOERR_WRITE, ErrorKind::Other),
        ] {
            assert_eq!(kind(io, extended, system), FaultKind::Final, "{extended}");
        }
        assert_eq!(
            kind(ErrorCode::DatabaseCorrupt, ffi::SQLITE_CORRUPT, ErrorKind::StorageFull),
            FaultKind::Final
        );
    }
}
