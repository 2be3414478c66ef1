//! What a call of `wasi:keyvalue` is answered with if it fails, in both drafts.

use wasmtime::component::ResourceTableError;

use sandhog_queue::keyvalue::{InvalidEntry, OverlayError};

/// Why a call failed.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub enum Refusal {
    /// The handler is granted no store.
    AccessDenied,
    /// What happened, for people.
    Other(String),
    /// The guest broke a rule of the component model.
    Trap(wasmtime::Error),
}

impl From<OverlayError> for Refusal {
    fn from(error: OverlayError) -> Self {
        // The causes are for the operator, and name directories.
        Self::Other(error.to_string())
    }
}

impl From<InvalidEntry> for Refusal {
    fn from(error: InvalidEntry) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<ResourceTableError> for Refusal {
    fn from(error: ResourceTableError) -> Self {
        match error {
            ResourceTableError::Full => {
                Self::Other("the attempt has as many handles as it may (limits.handles)".to_owned())
            }
            other @ (ResourceTableError::NotPresent
            | ResourceTableError::WrongType
            | ResourceTableError::HasChildren) => Self::Trap(other.into()),
        }
    }
}
