//! What is wrong with a configuration: every mistake, not just the first.

use std::fmt;

/// One mistake: where it stands, and what is accepted there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file, or the option or variable, that has the mistake.
    pub place: String,
    /// The line in the file, from 1.
    pub line: Option<usize>,
    /// The key, its value, and what is accepted.
    pub text: String,
    /// Whether the same text may be right another time: it leads to a file or directory that is not as it should be now.
    pub is_transient: bool,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.place, self.text),
            None => write!(f, "{}: {}", self.place, self.text),
        }
    }
}

/// Every mistake that was found, in the order in which they stand; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub(super) Vec<Mistake>);

impl ConfigErrors {
    /// The mistakes.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.0
    }

    /// Whether the same text may be accepted another time.
    pub fn is_transient(&self) -> bool {
        self.0.iter().all(|mistake| mistake.is_transient)
    }

    pub(super) fn one(place: &str, text: String) -> Self {
        Self(vec![Mistake {
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
