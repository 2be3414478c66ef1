//! The reasons for which a file is not accepted as a component.

use std::path::PathBuf;

/// A file was not accepted as a component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes are neither a component nor a core module.
    #[error("{file} is not a WebAssembly component: {found}")]
    NotWasm {
        /// The file.
        file: PathBuf,
        /// A description of the bytes.
        found: String,
    },
    /// The file is too large.
    #[error("{file} has {size} bytes, more than the {limit} that are accepted")]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The module cannot be made a component.
    #[error("{file} is a core module that can't be made a component: {reason}")]
    NotAComponent {
        /// The file.
        file: PathBuf,
        /// The reason, and what to do.
        reason: String,
    },
    /// The compiler refused the file.
    #[error("{file} was refused by the compiler: {reason}")]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The compiler's reason.
        reason: String,
    },
    /// The component fulfils none of the contracts, or more than one.
    #[error("{file} must export exactly one of {accepted}; it exports {found}")]
    Flavour {
        /// The file.
        file: PathBuf,
        /// The exports of the contracts.
        accepted: String,
        /// The exports that the component has.
        found: String,
    },
    /// The component has an import that the host does not offer.
    #[error("{file} imports something that the host does not offer: {reason}")]
    Import {
        /// The file.
        file: PathBuf,
        /// The import.
        reason: String,
    },
    /// The component has imports that its manifest does not grant.
    #[error("{file} imports {imports}, which its manifest does not grant. To grant it, add to {manifest}:\n{lines}", manifest = file.with_extension("toml").display())]
    NotGranted {
        /// The file.
        file: PathBuf,
        /// The imports.
        imports: String,
        /// The lines of the manifest that would grant them.
        lines: String,
    },
    /// An instance could not be made within the handler's limits.
    #[error("{file} could not be started: {reason}")]
    Start {
        /// The file.
        file: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The host could not do its part; the file may be good.
    #[error("{file} could not be loaded now: {reason}")]
    Host {
        /// The file.
        file: PathBuf,
        /// The reason.
        reason: String,
    },
}

impl LoadError {
    /// Returns whether the same bytes may be accepted another time.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Host { .. } => true,
            Self::NotWasm { .. }
            | Self::TooLarge { .. }
            | Self::NotAComponent { .. }
            | Self::Invalid { .. }
            | Self::Flavour { .. }
            | Self::Import { .. }
            | Self::NotGranted { .. }
            | Self::Start { .. } => false,
        }
    }
}
