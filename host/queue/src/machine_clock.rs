//! The clocks of the machine: the wall clock, which an operator may set at any time, and the time since the boot, which
//! can't be set and goes on while the machine sleeps.
//!
//! `Instant` stands still while the machine sleeps (Linux and macOS alike). A holder of a deadline that another machine
//! counts therefore compares [`asleep`] before and after. This module does not know what a time is for.

#![expect(clippy::disallowed_methods, reason = "this is the module that reads the clocks")]

use std::{
    fmt,
    os::unix::fs::MetadataExt as _,
    sync::{Arc, OnceLock},
    time::{Duration, Instant as StdInstant, SystemTime, UNIX_EPOCH},
};

/// All clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The time since 1970-01-01T00:00:00Z by the wall clock; zero before that.
    pub wall: Duration,
    /// The time since the machine was started, sleep included.
    pub since_boot: Duration,
    /// How long the machine has slept since this process first asked, which `Instant` lacks. Never too long; too short by
    /// the time between two readings.
    pub asleep: Duration,
    /// Identifies the start of the machine; `None` if the system does not tell.
    pub boot: Option<u128>,
}

impl Reading {
    /// Reads the machine's clocks. Costs some hundred nanoseconds.
    pub fn now() -> Self {
        let since_boot = since_boot();
        Self {
            asleep: asleep_until(since_boot),
            wall: wall(),
            since_boot,
            boot: boot(),
        }
    }
}

/// Returns the milliseconds since 1970-01-01T00:00:00Z that the wall clock shows; 0 if it shows an earlier time.
pub fn wall_ms() -> u64 {
    whole_ms(wall())
}

/// Returns the whole milliseconds of a duration.
pub fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the time since 1970-01-01T00:00:00Z that the wall clock shows; zero if it shows an earlier time.
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The clocks of a store: those of the machine, or those of a test.
#[derive(Clone)]
pub struct MachineClock(Arc<dyn Fn() -> Reading + Send + Sync>);

impl MachineClock {
    /// A clock that `read` reads. The store calls it at every operation, so it must not wait.
    pub fn new(read: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Reads the clocks.
    pub fn read(&self) -> Reading {
        (self.0)()
    }
}

impl Default for MachineClock {
    fn default() -> Self {
        Self::new(Reading::now)
    }
}

impl fmt::Debug for MachineClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MachineClock").field(&self.read()).finish()
    }
}

/// Returns how long the machine has slept since the first call: add it to the time that has passed by an `Instant`. Two readings may
/// differ by the time that a thread was kept waiting between two clocks; take a difference below a second for none.
pub fn asleep() -> Duration {
    asleep_until(since_boot())
}

fn asleep_until(since_boot_now: Duration) -> Duration {
    static START: OnceLock<(StdInstant, Duration)> = OnceLock::new();
    // Both pairs are read in the order that makes the sleep shorter, and never longer, if the thread is kept waiting in between.
    let (start, booted) = START.get_or_init(|| (StdInstant::now(), since_boot()));
    since_boot_now.saturating_sub(*booted).saturating_sub(start.elapsed())
}

/// Reads the clock that goes on while the machine sleeps. This is a real system call, because tools that count instructions run without
/// the code that the system maps into each process for reading clocks.
#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "the standard library has no such clock")]
    // SAFETY: the call writes one `timespec` to the address that it is given, which is that of one.
    let done = unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_BOOTTIME, &raw mut time) };
    let read = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    match read {
        (Ok(seconds), Ok(nanoseconds)) if done == 0 => Duration::new(seconds, nanoseconds),
        _ => Duration::ZERO,
    }
}

/// Reads the clock that goes on while the machine sleeps.
#[cfg(not(target_os = "linux"))]
fn since_boot() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

fn boot() -> Option<u128> {
    static BOOT: OnceLock<Option<u128>> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(uuid::Uuid::try_parse(text.trim()).ok()?.as_u128() ^ time_namespace())
    })
}

/// Returns zero in the machine's first time namespace, and else a number of the namespace, whose time since the boot may be its own.
fn time_namespace() -> u128 {
    /// `PROC_TIME_INIT_INO` of Linux.
    const FIRST: u64 = 0xEFFF_FFFA;
    let inode = std::fs::metadata("/proc/self/ns/time").map_or(FIRST, |namespace| namespace.ino());
    u128::from(inode ^ FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_does_not_sleep_has_not_slept() {
        let before = Reading::now();
        let after = Reading::now();
        assert!(after.since_boot >= before.since_boot);
        assert_eq!(after.boot, before.boot);
        assert!(after.asleep < Duration::from_secs(1), "{after:?}");
    }
}
