//! Asks a person before something is deleted for good. A script says `--yes`.

use std::io::{BufRead as _, BufReader, Read as _};

use super::{CliError, CommandStreams};

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 100;

/// Asks whether `what` is to happen, such as "this deletes 3 messages of orders for good".
///
/// # Errors
///
/// [`CliError::Unconfirmed`]: the answer is not yes, or there is nobody to ask.
pub(crate) fn confirm(what: &str, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    if !streams.interactive {
        return Err(CliError::Unconfirmed(format!("{what}: repeat it with --yes")));
    }
    write!(streams.output, "{what}. Go on? [y/N] ")?;
    streams.output.flush()?;
    let mut answer = String::new();
    let mut input = BufReader::new((&mut *streams.input).take(MAX_ANSWER_BYTES));
    input.read_line(&mut answer).map_err(CliError::Input)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::Unconfirmed("nothing was deleted".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &str, interactive: bool) -> Result<(), CliError> {
        let mut input = text.as_bytes();
        let mut output = Vec::new();
        let mut streams = CommandStreams {
            input: &mut input,
            output: &mut output,
            progress: false,
            interactive,
        };
        confirm("this deletes it", &mut streams)
    }

    #[test]
    fn only_yes_is_a_yes() {
        for text in ["y\n", "YES\n", "yes"] {
            assert!(answered(text, true).is_ok(), "{text:?}");
        }
        for text in ["", "\n", "n\n", "yesterday\n", "sure\n"] {
            assert!(answered(text, true).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_script_is_not_asked() {
        let refused = answered("y\n", false).unwrap_err();
        assert_eq!(refused.to_string(), "this deletes it: repeat it with --yes");
    }
}
