//! The reasons for which a file is not compiled.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::LoadError;

/// A file is not compiled. This is final for its bytes and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    NotWasm(String),
    NotAComponent(String),
    Invalid(String),
}

impl Refusal {
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
