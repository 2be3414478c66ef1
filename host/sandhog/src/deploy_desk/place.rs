//! The files of a handler, as a component that came in by a page finds them.

use std::{fs, path::Path};

use rustix::{fs::Access, io::Errno};

use super::DeskRefused;
use crate::plugin_dir::{FileReadError, PluginDir};
use sandhog_executor::{MAX_WASM_BYTES, digest};

/// The link behind which the files of a ConfigMap are.
const CONFIG_MAP: &str = "..data";

/// Which files a handler has in the plugin directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeployPlace {
    /// The digest of the component, if there is one that can be read.
    pub(crate) component: Option<String>,
    /// The size of the component in bytes.
    pub(crate) size: usize,
    /// The digest of the manifest; `None` if there is none.
    pub(crate) manifest: Option<String>,
}

impl DeployPlace {
    /// Looks at the files, and returns the text of the manifest with them. Blocks on the disk.
    pub(super) fn look(plugins: &PluginDir, handler: &str) -> Result<(Self, Option<String>), DeskRefused> {
        let (component, size) = match plugins.read_wasm(handler, MAX_WASM_BYTES) {
            Ok(file) => (Some(file.digest), file.bytes.len()),
            // What can't be a component is replaced by one that can.
            Err(FileReadError::Gone | FileReadError::Trouble(_)) => (None, 0),
            Err(FileReadError::BeingWritten) => return Err(unread(handler, "wasm", "somebody is writing it")),
        };
        let manifest = match plugins.read_manifest(handler) {
            Ok(manifest) => manifest.map(|(text, _)| text),
            Err(FileReadError::Gone) => None,
            Err(FileReadError::BeingWritten) => return Err(unread(handler, "toml", "somebody is writing it")),
            Err(FileReadError::Trouble(trouble)) => return Err(unread(handler, "toml", &trouble.reason)),
        };
        let place = Self {
            component,
            size,
            manifest: manifest.as_ref().map(|text| digest(text.as_bytes())),
        };
        Ok((place, manifest))
    }

    /// Returns the extension of a file that is another one than in an earlier look.
    pub(super) fn differs_from(&self, earlier: &Self) -> Option<&'static str> {
        if self.component != earlier.component {
            return Some("wasm");
        }
        (self.manifest != earlier.manifest).then_some("toml")
    }
}

fn unread(handler: &str, extension: &str, why: &str) -> DeskRefused {
    DeskRefused::Unread {
        file: format!("{handler}.{extension}"),
        why: why.to_owned(),
    }
}

/// Looks for what keeps a component from its place. Blocks on the disk.
///
/// The name comes from a request: only the directory itself says that it is one, so that no path is made of anything else.
pub(super) fn obstacle(plugins: &PluginDir, handler: &str) -> Result<(), DeskRefused> {
    let scan = plugins.scan().map_err(|error| DeskRefused::Unread {
        file: ".".to_owned(),
        why: error.to_string(),
    })?;
    // A name that is no text is listed in a form for people, which no file has.
    let here = plugins.look(handler);
    if !scan.handlers.contains_key(handler) || (here.wasm.is_none() && here.manifest.is_none()) {
        return Err(DeskRefused::NoHandler(handler.to_owned()));
    }
    let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    if is_link(&plugins.wasm(handler)) || is_link(&plugins.path().join(CONFIG_MAP)) {
        return Err(DeskRefused::Link(handler.to_owned()));
    }
    match rustix::fs::access(plugins.path(), Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(()),
        Err(Errno::ROFS) => Err(DeskRefused::ReadOnly),
        Err(_) => Err(DeskRefused::NoRight),
    }
}
