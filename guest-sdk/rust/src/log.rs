//! Lines of the host's log.

use std::fmt;

/// How much a line matters. The manifest says from which level on lines are kept (`[grant] log`; `info` if it does not).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For whoever looks for a mistake.
    Debug,
    /// What is worth knowing in normal operation.
    Info,
    /// Something is odd, and the handler goes on.
    Warn,
    /// Something failed.
    Error,
    /// Nothing works.
    Critical,
}

/// Writes a line into the host's log, with the message's id and the handler's name.
///
/// In a native build it is kept for [`testing::logged`](crate::testing::logged).
///
/// # Examples
///
/// ```
/// use sandhog_guest::{Level, log, testing};
///
/// log(Level::Info, format_args!("{} items", 3));
/// assert_eq!(testing::logged(), [(Level::Info, "3 items".to_owned())]);
/// ```
pub fn log(level: Level, text: impl fmt::Display) {
    let text = text.to_string();
    #[cfg(target_family = "wasm")]
    crate::exchange::log(level, &text);
    #[cfg(not(target_family = "wasm"))]
    crate::testing::keep_line(level, text);
}
