//! Reads and sets limits of the running process, also where the machine denies the newer call for them. Knows no purpose of a
//! limit.

use std::io;

use rustix::process::Resource;

/// The soft and the hard limit of a resource; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessLimit {
    pub(crate) current: Option<u64>,
    pub(crate) maximum: Option<u64>,
}

/// Returns the limit that holds now.
///
/// # Errors
///
/// The machine denies the call.
#[cfg(target_os = "linux")]
pub(crate) fn read(resource: Resource) -> io::Result<ProcessLimit> {
    linux::read(resource)
}

/// Sets a limit of this process.
///
/// # Errors
///
/// The machine denies the call, or the limit is above the hard limit.
#[cfg(target_os = "linux")]
pub(crate) fn write(resource: Resource, limit: ProcessLimit) -> io::Result<()> {
    linux::write(resource, limit)
}

/// Returns the limit that holds now.
///
/// # Errors
///
/// The machine denies the call.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "the function can fail on Linux")]
pub(crate) fn read(resource: Resource) -> io::Result<ProcessLimit> {
    let rustix::process::Rlimit { current, maximum } = rustix::process::getrlimit(resource);
    Ok(ProcessLimit { current, maximum })
}

/// Sets a limit of this process.
///
/// # Errors
///
/// The machine denies the call, or the limit is above the hard limit.
#[cfg(not(target_os = "linux"))]
pub(crate) fn write(resource: Resource, limit: ProcessLimit) -> io::Result<()> {
    let ProcessLimit { current, maximum } = limit;
    Ok(rustix::process::setrlimit(
        resource,
        rustix::process::Rlimit { current, maximum },
    )?)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{io, ptr};

    use rustix::process::Resource;

    use super::ProcessLimit;

    pub(crate) fn read(resource: Resource) -> io::Result<ProcessLimit> {
        let mut limits = libc::rlimit64 {
            rlim_cur: 0,
            rlim_max: 0,
        };
        limits_of(resource, None, Some(&mut limits))?;
        let limit = |number| (number != libc::RLIM64_INFINITY).then_some(number);
        Ok(ProcessLimit {
            current: limit(limits.rlim_cur),
            maximum: limit(limits.rlim_max),
        })
    }

    pub(crate) fn write(resource: Resource, limit: ProcessLimit) -> io::Result<()> {
        let limits = libc::rlimit64 {
            rlim_cur: limit.current.unwrap_or(libc::RLIM64_INFINITY),
            rlim_max: limit.maximum.unwrap_or(libc::RLIM64_INFINITY),
        };
        limits_of(resource, Some(&limits), None)
    }

    /// Writes or reads a limit, by the older call where the newer one is denied. No safe function does this.
    fn limits_of(resource: Resource, new: Option<&libc::rlimit64>, old: Option<&mut libc::rlimit64>) -> io::Result<()> {
        let number = number(resource)?;
        let old_call = if new.is_some() { SET_LIMIT } else { GET_LIMIT };
        let new = new.map_or(ptr::null(), ptr::from_ref);
        let old = old.map_or(ptr::null_mut(), ptr::from_mut);
        let both = if new.is_null() { old.cast_const() } else { new };
        #[expect(unsafe_code, reason = "the kernel is given pointers")]
        // SAFETY: each pointer is null, which the first call allows, or leads to such a structure; the second call writes only
        // if it is the one that reads a limit, and then `both` is `old`.
        let done = unsafe {
            match libc::syscall(libc::SYS_prlimit64, 0, number, new, old) {
                0 => 0,
                failed => old_call.map_or(failed, |call| libc::syscall(call, number, both)),
            }
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    fn number(resource: Resource) -> io::Result<libc::c_long> {
        let numbers = [
            (Resource::As, libc::RLIMIT_AS),
            (Resource::Cpu, libc::RLIMIT_CPU),
            (Resource::Core, libc::RLIMIT_CORE),
            (Resource::Fsize, libc::RLIMIT_FSIZE),
            (Resource::Nofile, libc::RLIMIT_NOFILE),
        ];
        let found = numbers.into_iter().find(|(known, _)| *known == resource);
        found
            .map(|(_, number)| number.into())
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// The older calls, which younger architectures do not have.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    const OLD_LIMITS: (Option<i64>, Option<i64>) = (Some(libc::SYS_getrlimit), Some(libc::SYS_setrlimit));
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    const OLD_LIMITS: (Option<i64>, Option<i64>) = (None, None);
    const GET_LIMIT: Option<i64> = OLD_LIMITS.0;
    const SET_LIMIT: Option<i64> = OLD_LIMITS.1;
}
