//! Limits of the running process, also where the newer call for them is denied.

use rustix::process::Resource;

use super::denied::Denied;

/// Never above what the process was allowed before.
pub(super) fn limit(resource: Resource, wanted: u64, above: u64) -> Result<(), Denied> {
    let within = |allowed: u64| (wanted.min(allowed), wanted.saturating_add(above).min(allowed));
    #[cfg(target_os = "linux")]
    return linux::set(resource, within).map_err(|error| Denied::new("prlimit64", error));
    #[cfg(not(target_os = "linux"))]
    {
        let allowed = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let (current, maximum) = within(allowed);
        let limits = rustix::process::Rlimit {
            current: Some(current),
            maximum: Some(maximum),
        };
        rustix::process::setrlimit(resource, limits).map_err(|error| Denied::new("setrlimit", error))
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{io, ptr};

    use rustix::process::Resource;

    /// Sets a limit of this process to what `within` says of the hard one that holds now.
    pub(super) fn set(resource: Resource, within: impl Fn(u64) -> (u64, u64)) -> io::Result<()> {
        let mut limits = libc::rlimit64 {
            rlim_cur: 0,
            rlim_max: 0,
        };
        limits_of(resource, None, Some(&mut limits))?;
        (limits.rlim_cur, limits.rlim_max) = within(limits.rlim_max);
        limits_of(resource, Some(&limits), None)
    }

    /// Writes or reads a limit, by the older call where the newer one is denied: no safe function does.
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

    /// What younger architectures do not have any more.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    const OLD_LIMITS: (Option<i64>, Option<i64>) = (Some(libc::SYS_getrlimit), Some(libc::SYS_setrlimit));
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    const OLD_LIMITS: (Option<i64>, Option<i64>) = (None, None);
    const GET_LIMIT: Option<i64> = OLD_LIMITS.0;
    const SET_LIMIT: Option<i64> = OLD_LIMITS.1;
}
