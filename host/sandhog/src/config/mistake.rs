//! The mistakes of a configuration: all of them, and not only the first.

use std::fmt;

/// One mistake: its place, and the values that are accepted there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMistake {
    /// The file, or the option or variable, that has the mistake.
    pub place: String,
    /// The line in the file, from 1.
    pub line: Option<usize>,
    /// The key, its value, and the accepted values.
    pub text: String,
    /// The same text may be right another time: it names a file or directory that can't be used now.
    pub is_transient: bool,
}

impl fmt::Display for ConfigMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.place, self.text),
            None => write!(f, "{}: {}", self.place, self.text),
        }
    }
}

/// Every mistake of a configuration, in the order of the lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub(crate) Vec<ConfigMistake>);

impl ConfigErrors {
    /// The mistakes.
    pub fn mistakes(&self) -> &[ConfigMistake] {
        &self.0
    }

    /// Returns whether the same text may be accepted another time.
    pub fn is_transient(&self) -> bool {
        self.0.iter().all(|mistake| mistake.is_transient)
    }

    pub(crate) fn one(place: &str, text: String) -> Self {
        Self(vec![ConfigMistake {
            place: place.to_owned(),
            line: None,
            text,
            is_transient: false,
        }])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => write!(f, "{only}"),
            all => {
                write!(f, "{} mistakes in the configuration", all.len())?;
                all.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
            }
        }
    }
}
