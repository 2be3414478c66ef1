//! The reasons why a project can't be developed.

use std::{io, path::PathBuf};

/// The reason why a directory can't be developed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevError {
    /// The directory can't be read.
    #[error("{directory} can't be read")]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// It is not clear which file is the manifest.
    #[error("{directory} has several files that could be the manifest ({}): name one with --manifest", candidates.join(", "))]
    Manifests {
        /// The directory.
        directory: PathBuf,
        /// The names of the files.
        candidates: Vec<String>,
    },
    /// No file says how the project is built.
    #[error(
        "{0} has no file that says how it is built (Cargo.toml, package.json, go.mod, Makefile, build.zig, main.zig, requirements.txt, \
         pyproject.toml, app.py): give the command with --build \"CMD\", or with build = \"CMD\" in the table [dev] of the manifest"
    )]
    Unknown(PathBuf),
    /// A tool of the project is missing.
    #[error("{tool} is not on the PATH: {advice}")]
    Tool {
        /// The name of the program.
        tool: &'static str,
        /// Where it comes from.
        advice: &'static str,
    },
    /// Another `sandhog dev` has the project.
    #[error("another sandhog dev works on {0}: end it first")]
    InUse(PathBuf),
    /// The directory for what is made can't be used.
    #[error("{directory} can't be written")]
    Place {
        /// The directory.
        directory: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}
