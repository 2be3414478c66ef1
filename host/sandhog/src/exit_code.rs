//! The exit codes of the `sandhog` command. They are part of its interface: scripts depend on them.

use std::process;

/// The way in which the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// 0: the command did what it was asked for.
    Ok,
    /// 1: the answer is no. A component was refused, a message was not handled or not accepted, or a queue or a message does not
    /// exist.
    Refused,
    /// 2: the command line is wrong.
    Usage,
    /// 3: a host with `--until-empty` has ended, and messages wait in queues that no handler serves.
    Unserved,
    /// 4: the host went back from the version that was deployed; the one before it serves.
    RolledBack,
    /// 5: the time was up before the version that was deployed was proven or not. The rollout goes on.
    Undecided,
    /// 6: the time was up before nothing was in flight. The host goes on draining.
    Undrained,
    /// 64: the configuration is wrong. The command lists every mistake.
    Config,
    /// 69: no host answers at the address, the host can't answer now (try again), or the listener's address is taken.
    Unavailable,
    /// 70: a task of the host's own died, or the machine denies what the host needs. A restart is safe.
    Internal,
    /// 74: the store has failed: the disk is full or broken.
    Store,
    /// 75: another process uses the data directory. Try again when it has ended.
    DataInUse,
    /// 130: a second SIGINT cut the grace period short, and the deliveries in flight have been released; or a deploy was told to
    /// stop waiting.
    Interrupted,
    /// 143: a second SIGTERM cut the grace period short, and the deliveries in flight have been released; or a host with
    /// `--until-empty` was stopped before its queues were empty; or a deploy was told to stop waiting.
    Terminated,
}

impl ExitCode {
    /// Returns the number.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Unserved => 3,
            Self::RolledBack => 4,
            Self::Undecided => 5,
            Self::Undrained => 6,
            Self::Config => 64,
            Self::Unavailable => 69,
            Self::Internal => 70,
            Self::Store => 74,
            Self::DataInUse => 75,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

impl From<ExitCode> for process::ExitCode {
    fn from(exit_code: ExitCode) -> Self {
        exit_code.code().into()
    }
}

/// The table of exit codes in `sandhog --help`.
pub const HELP: &str = "\
Exit codes:
  0    done
  1    refused: a component, a message, a queue that does not exist
  2    wrong command line
  3    with --until-empty: messages wait in queues that no handler serves
  4    deploy: the host went back from the version
  5    deploy: the time was up before the version was proven or not; the rollout goes on
  6    drain: the time was up, and something is in flight; the host goes on draining
  64   wrong configuration; every mistake is listed
  69   no host answers, or it can't do it now (try again), or the listener's address is taken
  70   internal error of the host, or the machine denies what it needs
  74   the store has failed (disk full or broken)
  75   another process uses the data directory
  130  a second SIGINT cut the grace period short, or SIGINT ended the waiting of deploy
  143  a second SIGTERM cut the grace period short, or --until-empty or deploy was cut short";

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_executor::COMPILER_FAILED;

    #[test]
    fn a_compiler_that_has_no_answer_ends_with_the_code_that_its_parent_expects() {
        assert_eq!(ExitCode::Internal.code(), COMPILER_FAILED);
    }
}
