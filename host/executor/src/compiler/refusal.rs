//! The reasons for which a file is not compiled.

use std::{fmt, path::Path};

use serde::{Deserialize, Serialize};

use crate::{LoadError, wasm::shown};

/// A file is not compiled. This is final for its bytes and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    NotWasm(String),
    NotAComponent(String),
    Invalid(String),
}

/// What the engine says of a proposal that it does not take, and what to do about it.
const ADVICE: &[(&str, &str)] = &[
    (
        "legacy_exceptions",
        "it uses the old instructions for exceptions: compile it with the new ones (clang: -mllvm -wasm-use-legacy-eh=false; \
        Emscripten: -sWASM_LEGACY_EXCEPTIONS=0; Kotlin: -Xwasm-use-new-exception-proposal)",
    ),
    ("memory64", "its memory has 64-bit addresses: compile it for wasm32"),
    (
        "threads",
        "it uses threads, which an attempt does not have: compile it without them",
    ),
    (
        "shared memor",
        "it uses shared memory, which an attempt does not have: compile it without threads",
    ),
];

impl Refusal {
    /// Makes the refusal of a file that the engine does not take: what the engine says, and what to do if that is known.
    pub(crate) fn invalid(error: &dyn fmt::Display) -> Self {
        let said = shown(error);
        let advice = ADVICE.iter().find(|(proposal, _)| said.contains(proposal));
        Self::Invalid(match advice {
            Some((_, advice)) => format!("{advice} ({said})"),
            None => said,
        })
    }

    /// Returns the error of loading this file.
    pub(crate) fn into_load_error(self, file: &Path) -> LoadError {
        let file = file.to_owned();
        match self {
            Self::NotWasm(found) => LoadError::NotWasm { file, found },
            Self::NotAComponent(reason) => LoadError::NotAComponent { file, reason },
            Self::Invalid(reason) => LoadError::Invalid { file, reason },
        }
    }
}
