//! The secret that requests to the listener carry: the form of a secret, and the comparison of two.
//!
//! Invariant: no text of this module, error or debug form, has a character of a secret.

use std::{fs, path::Path};

use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use super::section::TomlSection;

const MIN_BYTES: usize = 16;

/// The secret that requests to the listener carry. No output shows it.
#[derive(Debug, Clone)]
pub struct ListenerSecret(SecretString);

/// The reason why a text can't be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadSecret {
    /// The text is empty.
    #[error("it is empty: a secret has 16 or more visible ASCII characters without spaces")]
    Empty,
    /// The text is short, and so easy to guess.
    #[error("a secret has 16 or more visible ASCII characters without spaces")]
    Short,
    /// The text has a character that a header can't carry.
    #[error("it has {0} inside: a secret has 16 or more visible ASCII characters without spaces")]
    Inside(&'static str),
}

impl ListenerSecret {
    /// Checks a secret: 16 or more visible ASCII characters, because a header carries it. White space around it, such as the line
    /// end that editors write, is not a part of it.
    ///
    /// # Errors
    ///
    /// See [`BadSecret`].
    pub fn new(text: &str) -> Result<Self, BadSecret> {
        let text = text.trim_ascii();
        let wrong = text.chars().find_map(|c| match c {
            '!'..='~' => None,
            ' ' => Some("a space"),
            '\t' => Some("a tab"),
            '\n' | '\r' => Some("a line end"),
            '\0'..='\x7f' => Some("a control character"),
            _ => Some("a character beyond ASCII"),
        });
        match wrong {
            Some(wrong) => Err(BadSecret::Inside(wrong)),
            None if text.is_empty() => Err(BadSecret::Empty),
            None if text.len() < MIN_BYTES => Err(BadSecret::Short),
            None => Ok(Self(text.into())),
        }
    }

    /// Returns the text, for the header of a request.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Returns whether a request carried this secret. The comparison takes as long for a wrong text as for the right one of the
    /// same length.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        self.expose().as_bytes().ct_eq(candidate).into()
    }
}

impl PartialEq for ListenerSecret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.expose().as_bytes())
    }
}

impl Eq for ListenerSecret {}

/// Reads the secret in the file that a key names. `None` without the key, or with a mistake, which the section notes.
pub(super) fn read_secret_file(
    section: &mut TomlSection<'_>,
    key: &'static str,
    directory: &Path,
) -> Option<ListenerSecret> {
    let path = |text: &str| (!text.is_empty() && !text.contains('\0')).then(|| directory.join(text));
    let file = section.text(key, "the path of a file", path)?;
    let secret = match fs::read_to_string(&file) {
        Ok(text) => ListenerSecret::new(&text).map_err(|why| why.to_string()),
        Err(error) => Err(format!("{} cannot be read: {error}", file.display())),
    };
    secret.map_err(|why| section.refuse(key, &why)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, BadSecret>) {
        let secret = ListenerSecret::new(text);
        assert_eq!(
            secret.as_ref().map(ListenerSecret::expose).map_err(|&why| why),
            expected,
            "{text:?}"
        );
    }

    #[test]
    fn white_space_around_a_secret_is_no_part_of_it_and_inside_it_is_named() {
        for text in [
            "0123456789abcdef",
            "0123456789abcdef\n",
            "0123456789abcdef\r\n\n",
            " \t0123456789abcdef ",
        ] {
            check(text, Ok("0123456789abcdef"));
        }
        for (inside, name) in [
            (" ", "a space"),
            ("\t", "a tab"),
            ("\n", "a line end"),
            ("\r\n", "a line end"),
            ("\0", "a control character"),
            ("\u{7f}", "a control character"),
            ("é", "a character beyond ASCII"),
            ("\u{feff}", "a character beyond ASCII"),
        ] {
            check(&format!("01234567{inside}89abcdef"), Err(BadSecret::Inside(name)));
        }
        check("", Err(BadSecret::Empty));
        check("\n", Err(BadSecret::Empty));
        check("0123456789abcde\n", Err(BadSecret::Short));
    }
}
