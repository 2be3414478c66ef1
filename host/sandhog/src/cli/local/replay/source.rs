//! What a replay runs messages through: a file, or a version that the host has kept.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::super::{super::ReplayArgs, LocalError};
use crate::{client::HostClient, trial::ReplayedComponent};
use sandhog_executor::{MAX_WASM_BYTES, digest};
use sandhog_queue::message::QueueName;

/// The largest manifest, in bytes.
const MAX_MANIFEST_BYTES: usize = 1024 * 1024;

/// Where a replay has its component from.
pub(crate) enum ReplaySource {
    /// A file of this machine.
    File { file: PathBuf, manifest: Option<PathBuf> },
    /// A version that the host has kept.
    Version(KeptVersion),
}

/// A version that the host has kept, as it came from there.
pub(crate) struct KeptVersion {
    handler: String,
    number: u64,
    wasm: Bytes,
    manifest: Option<String>,
}

impl ReplaySource {
    /// Finds what the arguments name, and fetches it if the host has it.
    pub(crate) fn of(args: &ReplayArgs, client: &HostClient) -> Result<Self, LocalError> {
        let Some(number) = args.version else {
            // The arguments have one of both.
            return Ok(Self::File {
                file: args.file.clone().unwrap_or_default(),
                manifest: args.manifest.clone(),
            });
        };
        let handler = match &args.handler {
            Some(handler) => handler.clone(),
            None => handler_of(&args.queue, client)?,
        };
        Ok(Self::Version(KeptVersion::fetch(handler, number, client)?))
    }

    /// Returns the component, for a sandbox.
    pub(crate) fn component(&self) -> ReplayedComponent<'_> {
        match self {
            Self::File { file, manifest } => ReplayedComponent::File {
                file,
                manifest: manifest.as_deref().map(Path::new),
            },
            Self::Version(kept) => ReplayedComponent::Version {
                handler: &kept.handler,
                wasm: kept.wasm.clone(),
                manifest: kept.manifest.as_deref(),
            },
        }
    }
}

impl std::fmt::Display for ReplaySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { file, .. } => write!(f, "{}", file.display()),
            Self::Version(kept) => write!(f, "version {} of {}", kept.number, kept.handler),
        }
    }
}

impl KeptVersion {
    fn fetch(handler: String, number: u64, client: &HostClient) -> Result<Self, LocalError> {
        let versions = client.versions(&handler)?.versions;
        let Some(version) = versions.iter().find(|version| version.number == number) else {
            let known: Vec<String> = versions.iter().map(|version| version.number.to_string()).collect();
            return Err(LocalError::Incomplete(format!(
                "the host has no version {number} of handler {handler}: it keeps {}",
                known.join(", ")
            )));
        };
        let wasm = read(client.version_component(&handler, number)?, MAX_WASM_BYTES)?;
        let manifest = match &version.manifest {
            Some(_) => Some(read(client.version_manifest(&handler, number)?, MAX_MANIFEST_BYTES)?),
            None => None,
        };
        let is_whole = |bytes: &[u8], wanted: &str| digest(bytes) == wanted;
        let manifest_is_whole = match (&manifest, &version.manifest) {
            (Some(text), Some(wanted)) => is_whole(text, wanted),
            _ => true,
        };
        if !is_whole(&wasm, &version.component) || !manifest_is_whole {
            return Err(LocalError::Incomplete(format!(
                "the files of version {number} of handler {handler} are damaged, on the host or on their way: try again"
            )));
        }
        let manifest = manifest.map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok(Self {
            handler,
            number,
            wasm: wasm.into(),
            manifest,
        })
    }
}

/// Returns the handler that takes a queue.
fn handler_of(queue: &QueueName, client: &HostClient) -> Result<String, LocalError> {
    let handlers = client.handlers()?.handlers;
    let found = handlers
        .into_iter()
        .find(|handler| handler.queue.as_deref() == Some(queue.as_str()));
    found.map(|handler| handler.name).ok_or_else(|| {
        LocalError::Incomplete(format!(
            "no handler takes queue {queue}: name the handler of the version with --handler"
        ))
    })
}

fn read(bytes: impl Read, most: usize) -> Result<Vec<u8>, LocalError> {
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    let mut all = Vec::new();
    bytes.take(limit).read_to_end(&mut all)?;
    Ok(all)
}
