//! What the exit codes of a command mean: the table `[exit-codes]` of a manifest.
//!
//! Invariant: a code means one thing. Those that nothing is said about keep the meaning that they have for every command.

use std::collections::BTreeSet;

use super::section::Section;

/// The most codes of one list: there are no more.
const MAX_CODES: usize = 256;

/// Exit codes that mean something else than they would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitCodes {
    /// The message was handled, and what the program printed counts. Key `success`.
    pub success: BTreeSet<u8>,
    /// The message stays bad. Key `reject`.
    pub reject: BTreeSet<u8>,
    /// Another time may do. Key `retry`.
    pub retry: BTreeSet<u8>,
}

impl ExitCodes {
    /// Whether nothing is said about any code.
    pub fn is_empty(&self) -> bool {
        self.success.is_empty() && self.reject.is_empty() && self.retry.is_empty()
    }

    pub(super) fn read(mut section: Section<'_>) -> Self {
        let codes = Self {
            success: read_codes(&mut section, "success"),
            reject: read_codes(&mut section, "reject"),
            retry: read_codes(&mut section, "retry"),
        };
        let pairs = [
            ("reject", &codes.reject, "success", &codes.success),
            ("retry", &codes.retry, "success", &codes.success),
            ("retry", &codes.retry, "reject", &codes.reject),
        ];
        for (key, later, other, earlier) in pairs {
            if let Some(code) = later.intersection(earlier).next() {
                section.refuse(key, &format!("{code} is in {other} already"));
            }
        }
        section.finish();
        codes
    }
}

fn read_codes(section: &mut Section<'_>, key: &'static str) -> BTreeSet<u8> {
    let codes = section.numbers(key, 0..=255, MAX_CODES).unwrap_or_default();
    codes.into_iter().filter_map(|code| u8::try_from(code).ok()).collect()
}
