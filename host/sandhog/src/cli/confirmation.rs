//! The question before something is deleted for good.

use super::{CliError, CommandStreams};

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 1024;

/// Asks whether `what` is to happen, such as "this deletes 3 messages of orders for good". A script says `--yes`.
///
/// # Errors
///
/// [`CliError::Unconfirmed`]: there is nobody to ask. Otherwise as [`ask`].
pub(crate) fn confirm(what: &str, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    if !streams.asks {
        return Err(CliError::Unconfirmed(format!("{what}: repeat it with --yes")));
    }
    ask(&format!("{what}."), streams)
}

/// Asks a person whether to go on.
///
/// # Errors
///
/// The person does not want it, or [`CliError::Input`].
fn ask(question: &str, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    write!(streams.output, "{question} Go on? [y/N] ")?;
    streams.output.flush()?;
    let mut answer = Vec::new();
    let mut byte = [0];
    // Byte by byte, so that nothing behind the line is taken.
    while answer.len() < MAX_ANSWER_BYTES && streams.input.read(&mut byte).map_err(CliError::Input)? > 0 {
        if byte == *b"\n" {
            break;
        }
        answer.extend(byte);
    }
    let answer = String::from_utf8_lossy(&answer).trim().to_ascii_lowercase();
    if answer == "y" || answer == "yes" {
        Ok(())
    } else {
        Err(CliError::Declined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Paint, test_streams::asked};

    #[test]
    fn a_script_is_not_asked() {
        let mut output = Vec::new();
        let mut streams = CommandStreams {
            input: &mut b"y\n".as_slice(),
            output: &mut output,
            progress: false,
            columns: None,
            paint: Paint::default(),
            asks: false,
        };
        let refused = confirm("this deletes it", &mut streams).unwrap_err();
        assert_eq!(refused.to_string(), "this deletes it: repeat it with --yes");
    }

    #[test]
    fn only_a_plain_yes_goes_on() {
        for (typed, expected) in [
            ("y\n", true),
            ("YES\r\n", true),
            ("\n", false),
            ("", false),
            ("n\n", false),
            ("yesterday\n", false),
        ] {
            let (done, output) = asked(typed, |streams| ask("This deletes it.", streams));
            assert_eq!(done.is_ok(), expected, "{typed:?}");
            assert_eq!(output, "This deletes it. Go on? [y/N] ");
        }
    }
}
