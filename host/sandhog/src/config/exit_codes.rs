//! Reads the meanings of a command's exit codes: the table `[exit-codes]` of a manifest.
//!
//! Invariant: a code has one meaning. A code that the table does not name keeps the meaning that it has for every command.

use std::collections::BTreeSet;

use super::section::TomlSection;
use sandhog_executor::policy::ExitCodes;

/// The number of codes that exist, and so the most in one list.
const MAX_CODES: usize = 256;

pub(crate) fn read_exit_codes(mut section: TomlSection<'_>) -> ExitCodes {
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

fn read_codes(section: &mut TomlSection<'_>, key: &'static str) -> BTreeSet<u8> {
    let codes = section.numbers(key, 0..=255, MAX_CODES).unwrap_or_default();
    codes.into_iter().filter_map(|code| u8::try_from(code).ok()).collect()
}
