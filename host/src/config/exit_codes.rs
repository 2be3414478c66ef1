//! What the exit codes of a command mean: the table `[exit-codes]` of a manifest.
//!
//! Invariant: a code means one thing. Those that nothing is said about keep the meaning that they have for every command.

use std::collections::BTreeSet;

use super::section::Section;
use crate::executor::policy::ExitCodes;

/// The most codes of one list: there are no more.
const MAX_CODES: usize = 256;

pub(super) fn read_exit_codes(mut section: Section<'_>) -> ExitCodes {
    let codes = ExitCodes {
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

fn read_codes(section: &mut Section<'_>, key: &'static str) -> BTreeSet<u8> {
    let codes = section.numbers(key, 0..=255, MAX_CODES).unwrap_or_default();
    codes.into_iter().filter_map(|code| u8::try_from(code).ok()).collect()
}
