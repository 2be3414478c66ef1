//! The files of a handler, as a component that came in by a page finds them.

use std::{fs, io::ErrorKind};

use rustix::{fs::Access, io::Errno};

use super::DeskRefused;
use crate::plugin_dir::{FileLook, FileReadError, PluginDir};
use sandhog_executor::{MAX_WASM_BYTES, digest};

/// The link behind which the files of a ConfigMap are.
const CONFIG_MAP: &str = "..data";

/// Which files a handler has in the plugin directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeployPlace {
    /// The digest of the component.
    pub(crate) component: String,
    /// The size of the component in bytes.
    pub(crate) size: usize,
    /// The digest of the manifest; `None` if there is none.
    pub(crate) manifest: Option<String>,
}

impl DeployPlace {
    /// Looks at the files, and returns the text of the manifest with them. Blocks on the disk.
    pub(super) fn look(plugins: &PluginDir, handler: &str) -> Result<(Self, Option<String>), DeskRefused> {
        let component = plugins
            .read_wasm(handler, MAX_WASM_BYTES)
            .map_err(|error| match error {
                FileReadError::Gone => DeskRefused::NoHandler(handler.to_owned()),
                FileReadError::BeingWritten => unread(handler, "wasm", "somebody is writing it"),
                FileReadError::Trouble(trouble) => unread(handler, "wasm", &trouble.reason),
            })?;
        let manifest = match plugins.read_manifest(handler) {
            Ok(manifest) => manifest.map(|(text, _)| text),
            Err(FileReadError::Gone) => None,
            Err(FileReadError::BeingWritten) => return Err(unread(handler, "toml", "somebody is writing it")),
            Err(FileReadError::Trouble(trouble)) => return Err(unread(handler, "toml", &trouble.reason)),
        };
        let place = Self {
            component: component.digest,
            size: component.bytes.len(),
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
    let wasm = scan.handlers.get(handler).and_then(|here| here.wasm.as_ref());
    // A manifest alone is no handler that runs: with a component it would begin to.
    let wasm = wasm.ok_or_else(|| DeskRefused::NoHandler(handler.to_owned()))?;
    // A name that is no text is listed in a form for people, and with trouble.
    if let FileLook::Trouble(trouble) = wasm {
        return Err(unread(handler, "wasm", &trouble.reason));
    }
    for (path, shown) in [
        (plugins.wasm(handler), format!("{handler}.wasm")),
        (plugins.path().join(CONFIG_MAP), CONFIG_MAP.to_owned()),
    ] {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => return Err(DeskRefused::Link(handler.to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(DeskRefused::Unread {
                    file: shown,
                    why: error.to_string(),
                });
            }
        }
    }
    match rustix::fs::access(plugins.path(), Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(()),
        Err(Errno::ROFS) => Err(DeskRefused::ReadOnly),
        Err(_) => Err(DeskRefused::NoRight),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_a_component_that_is_there_and_can_be_read_has_a_place() {
        let directory = tempfile::tempdir().unwrap();
        let plugins = PluginDir::new(directory.path().join("plugins"));
        fs::create_dir(plugins.path()).unwrap();
        fs::write(plugins.wasm("orders"), "x").unwrap();
        fs::write(plugins.manifest("alone"), "").unwrap();
        fs::create_dir(plugins.wasm("folder")).unwrap();
        symlink("orders.wasm", plugins.wasm("link")).unwrap();
        symlink("nowhere", plugins.wasm("broken")).unwrap();
        fs::write(directory.path().join("outside.wasm"), "x").unwrap();
        assert!(obstacle(&plugins, "orders").is_ok());
        for (name, why) in [
            ("alone", "makes none"),
            ("../outside", "makes none"),
            ("nobody", "makes none"),
            ("folder", "(folder.wasm): it is a directory"),
            ("broken", "(broken.wasm): it is a link that leads nowhere"),
            ("link", "link.wasm is a link"),
        ] {
            let refused = obstacle(&plugins, name).unwrap_err().to_string();
            assert!(refused.contains(why), "{name}: {refused}");
        }
    }

    #[test]
    fn a_component_that_cannot_be_read_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let plugins = PluginDir::new(directory.path().to_owned());
        let look = |name| DeployPlace::look(&plugins, name).map(|(place, _)| place.size);
        fs::write(plugins.wasm("orders"), "bytes").unwrap();
        assert_eq!(look("orders").unwrap(), 5);
        assert!(matches!(look("gone"), Err(DeskRefused::NoHandler(_))));
        let large = fs::File::create(plugins.wasm("large")).unwrap();
        large.set_len(u64::try_from(MAX_WASM_BYTES).unwrap() + 1).unwrap();
        drop(large);
        assert!(matches!(look("large"), Err(DeskRefused::Unread { .. })));
    }
}
