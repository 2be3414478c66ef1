//! A file's bytes -> compiled code whose flavour is known -> a component whose imports are linked. Never calls it.

use std::{path::Path, sync::Arc, time::Instant};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use wasmtime::{
    Engine,
    component::{Component, InstancePre},
};
use wasmtime_wasi_config::WasiConfigVariables;

use crate::{
    config::Grants,
    printable::{MAX_REASON_BYTES, hex, printable},
};

use super::{
    ComponentInfo, Flavour, Import, LoadError, Needs, Offer, Policy,
    bindings::{batch_worker, worker},
    import::Linkers,
    instance::GuestState,
    wasm::{self, shown},
};

/// A page of linear memory (core specification, 4.2.8).
const PAGE_BYTES: u64 = 64 * 1024;

/// What a file was compiled to. Not linked: it does not depend on a policy.
pub(super) struct Code {
    pub(super) component: Component,
    pub(super) info: Arc<ComponentInfo>,
}

/// A component that can be instantiated at once.
pub(super) struct LocalComponent {
    pub(super) code: Arc<Code>,
    pub(super) pre: InstancePre<GuestState>,
    pub(super) entry: Entry,
    /// How many slots of the pool one instance takes: one for what a toolchain makes of a module, more for a component
    /// of many memories or tables, which would otherwise take what others need.
    pub(super) slots: u32,
    /// What `wasi:config` answers.
    pub(super) config: Arc<WasiConfigVariables>,
}

/// Where a call goes in; found once, so that a call looks up nothing.
pub(super) enum Entry {
    Handler(worker::exports::sandhog::worker::handler::GuestIndices),
    BatchHandler(batch_worker::exports::sandhog::worker::batch_handler::GuestIndices),
}

impl Code {
    /// Compiles on the calling thread and the compiler's own; takes from milliseconds to many seconds.
    pub(super) fn compile(engine: &Engine, file: &Path, wasm: Bytes) -> Result<Self, LoadError> {
        let started = Instant::now();
        let size = wasm.len();
        let digest = digest(&wasm);
        let bytes = wasm::component_bytes(engine, file, wasm)?;
        let component = Component::from_binary(engine, &bytes).map_err(|error| LoadError::Invalid {
            file: file.to_owned(),
            reason: shown(&error),
        })?;
        let ty = component.component_type();
        let exports: Vec<String> = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
        let import = |name: &str| Import {
            name: printable(name, MAX_REASON_BYTES),
            offer: Offer::of(name),
        };
        let info = ComponentInfo {
            digest,
            flavour: flavour(file, &exports)?,
            size,
            imports: ty.imports(engine).map(|(name, _)| import(name)).collect(),
            needs: needs(&component),
            compile_time: started.elapsed(),
        };
        // Otherwise the first message would pay for it.
        component
            .initialize_copy_on_write_image()
            .map_err(|error| LoadError::Host {
                file: file.to_owned(),
                reason: shown(&error),
            })?;
        Ok(Self {
            component,
            info: Arc::new(info),
        })
    }
}

impl LocalComponent {
    /// Links the imports that the policy grants, and refuses a component that has others.
    pub(super) fn link(linkers: &Linkers, file: &Path, code: Arc<Code>, policy: &Policy) -> Result<Self, LoadError> {
        let invalid = |error: wasmtime::Error| LoadError::Invalid {
            file: file.to_owned(),
            reason: shown(&error),
        };
        granted(file, &code.info.imports, &policy.grants)?;
        let linker = linkers.with(&policy.grants).map_err(|error| LoadError::Host {
            file: file.to_owned(),
            reason: shown(&error),
        })?;
        let pre = linker
            .instantiate_pre(&code.component)
            .map_err(|error| LoadError::Import {
                file: file.to_owned(),
                reason: shown(&error),
            })?;
        let entry = match code.info.flavour {
            Flavour::Handler => {
                Entry::Handler(worker::exports::sandhog::worker::handler::GuestIndices::new(&pre).map_err(invalid)?)
            }
            Flavour::BatchHandler => Entry::BatchHandler(
                batch_worker::exports::sandhog::worker::batch_handler::GuestIndices::new(&pre).map_err(invalid)?,
            ),
        };
        let needs = code.info.needs;
        let config = policy.grants.config.iter().flatten();
        Ok(Self {
            slots: needs.memories.div_ceil(2).max(needs.tables.div_ceil(4)).max(1),
            config: Arc::new(config.map(|(name, value)| (name.as_str(), value.expose())).collect()),
            code,
            pre,
            entry,
        })
    }
}

fn needs(component: &Component) -> Needs {
    // It is not known what a component needs that gets modules from elsewhere, so it can't run beside anything.
    let Some(needs) = component.resources_required() else {
        return Needs {
            memories: u32::MAX,
            tables: u32::MAX,
            ..Needs::default()
        };
    };
    Needs {
        memories: needs.num_memories,
        memory_bytes: needs.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES),
        tables: needs.num_tables,
        table_elements: needs.max_initial_table_size.unwrap_or(0),
    }
}

/// Refuses a component that imports what was not granted, with the lines that would grant it.
fn granted(file: &Path, imports: &[Import], grants: &Grants) -> Result<(), LoadError> {
    let (mut names, mut missing) = (Vec::new(), Vec::new());
    for import in imports {
        match import.offer {
            Offer::With(grant) if !grant.is_in(grants) => {
                names.push(import.name.as_str());
                if !missing.contains(&grant) {
                    missing.push(grant);
                }
            }
            Offer::Always | Offer::With(_) | Offer::Never => {}
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let lines = missing.into_iter().fold("[grant]".to_owned(), |lines, grant| {
        format!("{lines}\n{}", grant.line())
    });
    Err(LoadError::NotGranted {
        file: file.to_owned(),
        imports: printable(&names.join(", "), MAX_REASON_BYTES),
        lines,
    })
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
