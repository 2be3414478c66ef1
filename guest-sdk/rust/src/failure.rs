//! Why a message was not handled, and how other errors become that.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why a message was not handled: what a handler returns instead of `Ok(())`.
///
/// The reason is for people. It is logged, and kept with a dead letter. Whatever the handler sent in
/// this attempt is dropped.
///
/// A panic counts as [`Retry`](Self::Retry), with its text and its place as the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Something that may pass: the message becomes visible again after a growing delay, until the
    /// queue's limit of receives is reached.
    Retry(String),
    /// As [`Retry`](Self::Retry), but after a delay of the handler's choice.
    RetryAfter {
        /// Why.
        reason: String,
        /// 0 to 12 hours; a longer one counts as 12 hours. A fraction of a second is rounded up.
        delay: Duration,
    },
    /// Something that will never pass: the message goes to the dead-letter queue at once.
    Reject(String),
}

impl Failure {
    /// Something that may pass: try again after a growing delay.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry(reason.into())
    }

    /// Something that may pass: try again after `delay`, 0 to 12 hours.
    pub fn retry_after(delay: Duration, reason: impl Into<String>) -> Self {
        Self::RetryAfter {
            reason: reason.into(),
            delay,
        }
    }

    /// Something that will never pass: a dead letter at once.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::Reject(reason.into())
    }

    /// Returns the reason, whichever failure it is.
    pub fn reason(&self) -> &str {
        match self {
            Self::Retry(reason) | Self::RetryAfter { reason, .. } | Self::Reject(reason) => reason,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(reason) => write!(f, "retry: {reason}"),
            Self::RetryAfter { reason, delay } => write!(f, "retry after {delay:?}: {reason}"),
            Self::Reject(reason) => write!(f, "reject: {reason}"),
        }
    }
}

impl Error for Failure {}

/// Turns any other error into a [`Failure`], for use with `?`.
///
/// There is no blanket conversion on purpose: whether an error may pass is a decision, and it is the
/// handler's. The reason is the error's text followed by those of its sources.
///
/// # Examples
///
/// ```
/// use sandhog_guest::{Failure, Message, OrFailure};
///
/// fn handle(message: Message) -> Result<(), Failure> {
///     let port: u16 = message.text()?.parse().or_reject()?;
///     connect(port).or_retry()
/// }
/// # fn connect(_: u16) -> Result<(), std::io::Error> { Ok(()) }
///
/// let failure = handle(sandhog_guest::testing::message("http").build()).unwrap_err();
/// assert_eq!(failure, Failure::reject("invalid digit found in string"));
/// ```
pub trait OrFailure<T> {
    /// Turns an error into [`Failure::Retry`].
    ///
    /// # Errors
    ///
    /// The failure, if there was an error.
    fn or_retry(self) -> Result<T, Failure>;

    /// Turns an error into [`Failure::RetryAfter`] with this delay, 0 to 12 hours.
    ///
    /// # Errors
    ///
    /// The failure, if there was an error.
    fn or_retry_after(self, delay: Duration) -> Result<T, Failure>;

    /// Turns an error into [`Failure::Reject`].
    ///
    /// # Errors
    ///
    /// The failure, if there was an error.
    fn or_reject(self) -> Result<T, Failure>;
}

impl<T, E: Into<Box<dyn Error>>> OrFailure<T> for Result<T, E> {
    fn or_retry(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::Retry(chain(error)))
    }

    fn or_retry_after(self, delay: Duration) -> Result<T, Failure> {
        self.map_err(|error| Failure::RetryAfter {
            reason: chain(error),
            delay,
        })
    }

    fn or_reject(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::Reject(chain(error)))
    }
}

/// Returns an error's text and those of its sources, from the outside in.
fn chain(error: impl Into<Box<dyn Error>>) -> String {
    let error = error.into();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("no such port")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_reason_tells_the_whole_chain_of_errors() {
        let outer = "x".parse::<u16>().map_err(Outer);
        assert_eq!(
            outer.or_retry(),
            Err(Failure::retry("no such port: invalid digit found in string"))
        );
    }

    #[test]
    fn text_is_an_error_as_well() {
        let minute = Duration::from_secs(60);
        assert_eq!(
            Err::<(), _>("busy").or_retry_after(minute),
            Err(Failure::retry_after(minute, "busy"))
        );
        assert_eq!(Err::<(), _>("no".to_owned()).or_reject(), Err(Failure::reject("no")));
    }

    #[test]
    fn a_success_stays_one() {
        assert_eq!(Ok::<_, &str>(1).or_retry(), Ok(1));
    }
}
