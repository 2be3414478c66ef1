//! What a service manager says in the environment: systemd, or another one that speaks its notify protocol.

use std::{path::PathBuf, time::Duration};

use super::{ConfigErrors, Environment};

/// The variable with the socket on which the manager wants to be told.
const SOCKET: &str = "NOTIFY_SOCKET";
/// The variable with the microseconds after which the manager takes a silent process for dead.
const WATCHDOG: &str = "WATCHDOG_USEC";
/// The variable with the process that this is about, so that a child does not take it for its own.
const WATCHDOG_PROCESS: &str = "WATCHDOG_PID";

/// What the manager of this process wants to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SupervisorSettings {
    /// The socket of a manager that wants to know how the process is; one that begins with `@` is in the abstract namespace of
    /// Linux. `None` if there is no such manager.
    pub socket: Option<PathBuf>,
    /// The time after which the manager restarts a process that has not told that it is alive; `None` if it never does.
    pub watchdog: Option<Duration>,
}

impl SupervisorSettings {
    /// Reads them from the environment of the process with this id.
    ///
    /// # Errors
    ///
    /// The time of the watchdog is none.
    pub fn read(environment: Environment<'_>, process: u32) -> Result<Self, ConfigErrors> {
        let socket = environment(SOCKET).filter(|path| !path.is_empty());
        let is_ours = environment(WATCHDOG_PROCESS).is_none_or(|id| id == process.to_string());
        let watchdog = match environment(WATCHDOG).filter(|_| socket.is_some() && is_ours) {
            None => None,
            Some(text) => Some(microseconds(&text)?),
        };
        Ok(Self {
            socket: socket.map(PathBuf::from),
            watchdog,
        })
    }
}

fn microseconds(text: &str) -> Result<Duration, ConfigErrors> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.map(Duration::from_micros).ok_or_else(|| {
        let why = format!("{text:?} is no number of microseconds above 0; systemd sets it from WatchdogSec");
        ConfigErrors::one(WATCHDOG, why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<SupervisorSettings, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        SupervisorSettings::read(&variable, 7).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_watchdog_counts_for_the_process_that_it_names() {
        let watched = |watchdog| {
            Ok(SupervisorSettings {
                socket: Some(PathBuf::from("/run/systemd/notify")),
                watchdog,
            })
        };
        let socket = (SOCKET, "/run/systemd/notify");
        let minute = Some(Duration::from_mins(1));
        assert_eq!(read(&[]), Ok(SupervisorSettings::default()));
        assert_eq!(read(&[(WATCHDOG, "60000000")]), Ok(SupervisorSettings::default()));
        assert_eq!(read(&[socket]), watched(None));
        assert_eq!(read(&[socket, (WATCHDOG, "60000000")]), watched(minute));
        assert_eq!(
            read(&[socket, (WATCHDOG, "60000000"), (WATCHDOG_PROCESS, "7")]),
            watched(minute)
        );
        assert_eq!(
            read(&[socket, (WATCHDOG, "60000000"), (WATCHDOG_PROCESS, "8")]),
            watched(None)
        );
    }

    #[test]
    fn a_watchdog_that_is_no_time_is_named() {
        for wrong in ["0", "1m", "-1", ""] {
            let said = read(&[(SOCKET, "/x"), (WATCHDOG, wrong)]).unwrap_err();
            assert!(
                said.contains("WATCHDOG_USEC") && said.contains("microseconds"),
                "{said}"
            );
        }
    }
}
