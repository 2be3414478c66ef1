//! A file's bytes -> a compiled component whose imports are linked and whose flavour is known. Never calls it.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, InstancePre};

use crate::printable::{MAX_REASON_BYTES, hex, printable};

use super::{
    ComponentInfo, Flavour, LoadError,
    bindings::{batch_worker, worker},
    engine::Shared,
    instance::GuestState,
    wasm::{self, shown},
};

/// A component that can be instantiated at once.
pub(super) struct LocalComponent {
    pub(super) pre: InstancePre<GuestState>,
    pub(super) entry: Entry,
    /// How many slots of the pool one instance takes: one for what a toolchain makes of a module, more for a component
    /// of many memories or tables, which would otherwise take what others need.
    pub(super) slots: u32,
}

/// Where a call goes in; found once, so that a call looks up nothing.
pub(super) enum Entry {
    Handler(worker::exports::sandhog::worker::handler::GuestIndices),
    BatchHandler(batch_worker::exports::sandhog::worker::batch_handler::GuestIndices),
}

impl LocalComponent {
    /// Compiles on the calling thread and the compiler's own; takes from milliseconds to many seconds.
    pub(super) fn compile(shared: &Shared, file: &Path, wasm: Bytes) -> Result<(Self, ComponentInfo), LoadError> {
        let started = Instant::now();
        let path = || PathBuf::from(file);
        let size = wasm.len();
        let digest = digest(&wasm);
        let bytes = wasm::component_bytes(&shared.engine, file, wasm)?;
        let component = Component::from_binary(&shared.engine, &bytes).map_err(|error| LoadError::Invalid {
            file: path(),
            reason: shown(&error),
        })?;
        let ty = component.component_type();
        let exports: Vec<String> = ty.exports(&shared.engine).map(|(name, _)| name.to_owned()).collect();
        let flavour = flavour(file, &exports)?;
        let imports = ty.imports(&shared.engine).map(|(name, _)| name.to_owned()).collect();
        let pre = shared
            .linker
            .instantiate_pre(&component)
            .map_err(|error| LoadError::Import {
                file: path(),
                reason: shown(&error),
            })?;
        let wrong_type = |error: wasmtime::Error| LoadError::Invalid {
            file: path(),
            reason: shown(&error),
        };
        let entry = match flavour {
            Flavour::Handler => {
                Entry::Handler(worker::exports::sandhog::worker::handler::GuestIndices::new(&pre).map_err(wrong_type)?)
            }
            Flavour::BatchHandler => Entry::BatchHandler(
                batch_worker::exports::sandhog::worker::batch_handler::GuestIndices::new(&pre).map_err(wrong_type)?,
            ),
        };
        let needs = component.resources_required();
        let slots = needs.map_or(u32::MAX, |needs| {
            needs.num_memories.div_ceil(2).max(needs.num_tables.div_ceil(4)).max(1)
        });
        // Otherwise the first message would pay for it.
        component
            .initialize_copy_on_write_image()
            .map_err(|error| LoadError::Host {
                file: path(),
                reason: shown(&error),
            })?;
        let info = ComponentInfo {
            digest,
            flavour,
            size,
            imports,
            compile_time: started.elapsed(),
        };
        Ok((Self { pre, entry, slots }, info))
    }
}

/// The one flavour that the exports match. Other exports are tolerated: some toolchains add their own.
fn flavour(file: &Path, exports: &[String]) -> Result<Flavour, LoadError> {
    let matches = |interface: &str| {
        exports
            .iter()
            .any(|export| export.split_once('@').map_or(export.as_str(), |(name, _)| name) == interface)
    };
    let found: Vec<_> = Flavour::ALL
        .into_iter()
        .filter(|(_, interface)| matches(interface))
        .collect();
    match found.as_slice() {
        [(flavour, _)] => Ok(*flavour),
        _ => Err(LoadError::Flavour {
            file: file.to_owned(),
            accepted: Flavour::ALL.map(|(_, interface)| interface).join(", "),
            found: if exports.is_empty() {
                "nothing".to_owned()
            } else {
                printable(&exports.join(", "), MAX_REASON_BYTES)
            },
        }),
    }
}

/// What a component is known by: the SHA-256 of its file's bytes, in hexadecimal.
pub fn digest(wasm: &[u8]) -> String {
    hex(&Sha256::digest(wasm))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(exports: &[&str], expected: Option<Flavour>) {
        let exports: Vec<String> = exports.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(flavour(Path::new("a.wasm"), &exports).ok(), expected, "{exports:?}");
    }

    #[test]
    fn exactly_one_flavour_must_match() {
        check(&[], None);
        check(&["wasi:cli/run@0.2.0"], None);
        check(&["sandhog:worker/handler@0.1.0"], Some(Flavour::Handler));
        check(
            &["init", "sandhog:worker/batch-handler@0.1.3"],
            Some(Flavour::BatchHandler),
        );
        check(
            &["sandhog:worker/handler@0.1.0", "sandhog:worker/batch-handler@0.1.0"],
            None,
        );
        check(&["sandhog:worker/handlers@0.1.0"], None);
    }
}
