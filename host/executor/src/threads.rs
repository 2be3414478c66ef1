//! Checks that the machine lets this process start threads, before anything needs one: the libraries that start most threads can
//! only panic.

use std::{
    io,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use rustix::io::Errno;

/// The number of threads of a host beside those that run guests: control, log, epochs, the store, compiling, and some that
/// block.
const OF_A_HOST: usize = 12;

/// The machine allows no threads, or not enough of them.
#[derive(Debug, thiserror::Error)]
#[error("the machine did not let thread {number} of {count} start: {advice}")]
pub struct ThreadsError {
    number: usize,
    count: usize,
    advice: &'static str,
    #[source]
    source: io::Error,
}

/// Starts as many threads as a host needs, and ends them again.
///
/// # Errors
///
/// [`ThreadsError`] names what to change.
pub fn check() -> Result<(), ThreadsError> {
    let of_guests = thread::available_parallelism().map_or(2, usize::from);
    check_for(of_guests.saturating_add(OF_A_HOST))
}

/// The same for another number of threads.
///
/// # Errors
///
/// See [`check`].
pub fn check_for(count: usize) -> Result<(), ThreadsError> {
    // All threads exist at one time: one waits until the sender is dropped, and the others wait for the lock that it holds.
    let (gate, waiting) = mpsc::channel::<()>();
    let waiting = Arc::new(Mutex::new(waiting));
    let mut probes = Vec::with_capacity(count);
    let mut failure = None;
    for number in 1..=count {
        let waiting = Arc::clone(&waiting);
        let waits = move || drop(waiting.lock().map(|waiting| waiting.recv()));
        match thread::Builder::new().name("sandhog-probe".to_owned()).spawn(waits) {
            Ok(probe) => probes.push(probe),
            Err(source) => {
                failure = Some(refused(number, count, source));
                break;
            }
        }
    }
    drop(gate);
    for probe in probes {
        drop(probe.join());
    }
    failure.map_or(Ok(()), Err)
}

fn refused(number: usize, count: usize, source: io::Error) -> ThreadsError {
    let advice = match Errno::from_io_error(&source) {
        Some(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => {
            "what confines it denies the system call clone3; allow it, or let it answer ENOSYS, so that clone is called"
        }
        _ => "raise ulimit -u, the pids limit of the control group, or the memory that it may have",
    };
    ThreadsError {
        number,
        count,
        advice,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_are_allowed_start() {
        check_for(40).unwrap();
    }

    #[test]
    fn a_thread_that_is_denied_says_what_to_allow() {
        let denied = |errno: Errno| refused(1, 14, errno.into()).to_string();
        assert!(denied(Errno::PERM).contains("clone3"), "{}", denied(Errno::PERM));
        assert!(denied(Errno::AGAIN).contains("pids limit"), "{}", denied(Errno::AGAIN));
    }
}
