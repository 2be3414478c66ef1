//! The refusals of the machine, in words for its operator. Such a refusal says nothing about a file.

use std::{fmt, io};

use rustix::io::Errno;

/// The machine did not carry out a system call.
#[derive(Debug)]
pub(crate) struct DeniedCall {
    call: &'static str,
    error: io::Error,
}

impl DeniedCall {
    pub(crate) fn new(call: &'static str, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        Self { call, error }
    }
}

impl fmt::Display for DeniedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, error } = self;
        write!(
            f,
            "the machine denied the system call {call} ({error}): {}",
            advice(error)
        )
    }
}

/// Returns what an operator can do about an error of a system call.
pub(crate) fn advice(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::PERM | Errno::ACCESS) => {
            "allow it in the seccomp profile, or in what else confines the host (docs/explanation/security.md lists what it needs)"
        }
        Some(Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => {
            "this kernel does not have it, or what confines the host says so (docs/explanation/security.md lists what it needs)"
        }
        Some(Errno::AGAIN) => {
            "no more processes or threads are allowed: raise ulimit -u, or the pids limit of the control group"
        }
        Some(Errno::MFILE) => "no more files may be open: raise ulimit -n",
        Some(Errno::NFILE) => "no more files can be open on this machine: raise fs.file-max",
        Some(Errno::NOMEM) => "the machine has no memory left for it",
        _ => "the machine is the reason, and not the file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_denies_is_named_with_what_to_do() {
        let text = DeniedCall::new("close_range", Errno::PERM).to_string();
        assert!(
            text.starts_with("the machine denied the system call close_range (Operation not permitted"),
            "{text}"
        );
        assert!(text.contains("seccomp"), "{text}");
        for (errno, said) in [
            (Errno::NOSYS, "kernel"),
            (Errno::AGAIN, "ulimit -u"),
            (Errno::MFILE, "ulimit -n"),
            (Errno::NFILE, "fs.file-max"),
            (Errno::NOMEM, "no memory"),
        ] {
            assert!(advice(&errno.into()).contains(said), "{errno:?}");
        }
    }
}
