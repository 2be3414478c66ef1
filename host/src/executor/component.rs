//! Compiled code -> code whose flavour is known -> a component whose imports are linked. Never calls it.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::{
    Engine,
    component::{Component, InstancePre, Linker, types::ComponentItem},
};
use wasmtime_wasi_config::WasiConfigVariables;

use crate::printable::{MAX_REASON_BYTES, hex, printable};

use super::{
    ComponentInfo, Flavour, Import, LoadError, Needs, Offer, Policy,
    admission::{Claim, Turn},
    engine::Shared,
    entry::Entry,
    import::{files, http::Outbound},
    instance::GuestState,
    policy::Grants,
    reuse::{ComponentId, IdleInstances},
    threads::BlockingThreads,
    tiers::{Made, Source},
    wasm::shown,
};

/// A page of linear memory (core specification, 4.2.8).
const PAGE_BYTES: u64 = 64 * 1024;

/// What a file was compiled to. Not linked: it does not depend on a policy.
pub(super) struct Code {
    /// Replaced by better code of the same file.
    current: ArcSwap<Component>,
    pub(super) info: Arc<ComponentInfo>,
    /// What makes the better code; given up with the last user of this one.
    improving: OnceLock<AbortOnDropHandle<()>>,
}

/// A component that can be instantiated at once.
pub(super) struct LocalComponent {
    pub(super) id: ComponentId,
    /// Has those of this component, until it is dropped.
    idle: Arc<IdleInstances>,
    pub(super) code: Arc<Code>,
    linker: Arc<Linker<GuestState>>,
    linked: ArcSwap<Linked>,
    /// How many slots of the pool one instance takes: one for what a toolchain makes of a module, more for a component
    /// of many memories or tables, which would otherwise take what others need.
    pub(super) slots: u32,
    turn: Turn,
    /// What `wasi:config` answers.
    pub(super) config: Arc<WasiConfigVariables>,
    /// Its way to the network, if it is granted one.
    pub(super) outbound: Option<Arc<Outbound>>,
    /// The threads that wait for its files, if it is granted any.
    pub(super) files: Option<Arc<BlockingThreads>>,
    /// Whether it imports what can still be under way when it has answered, so that no instance of it is kept.
    pub(super) goes_on: bool,
}

/// One code with its imports. A call begins and ends on the same.
pub(super) struct Linked {
    of: Arc<Component>,
    pub(super) pre: InstancePre<GuestState>,
    pub(super) entry: Entry,
}

impl Code {
    /// Learns from code what it is. Refuses what is no handler.
    pub(super) fn new(engine: &Engine, source: &Source, made: &Made) -> Result<Self, LoadError> {
        let ty = made.component.component_type();
        let exports: Vec<String> = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
        let import = |name: &str| Import {
            name: printable(name, MAX_REASON_BYTES),
            offer: Offer::of(name),
        };
        let info = ComponentInfo {
            digest: source.digest.clone(),
            flavour: flavour(&source.file, &exports)?,
            size: source.wasm.len(),
            core_module: made.facts.core_module,
            toolchain: made.facts.toolchain.clone(),
            imports: ty.imports(engine).map(|(name, _)| import(name)).collect(),
            needs: needs(&made.component),
            compile_time: made.compiled_in.unwrap_or_default(),
            from_cache: made.compiled_in.is_none(),
        };
        Ok(Self {
            current: ArcSwap::from_pointee(made.component.clone()),
            info: Arc::new(info),
            improving: OnceLock::new(),
        })
    }

    /// Calls that begin from now on run this code, which is of the same file.
    pub(super) fn replace(&self, better: Component) {
        self.current.store(Arc::new(better));
    }

    /// Keeps the task that makes better code alive as long as somebody uses this.
    pub(super) fn improve_with(&self, task: JoinHandle<()>) {
        // A second one would be for the same code: it ends here.
        drop(self.improving.set(AbortOnDropHandle::new(task)));
    }
}

impl LocalComponent {
    /// Links the imports that the policy grants, and refuses a component that has others.
    pub(super) fn link(shared: &Shared, file: &Path, code: Arc<Code>, policy: &Policy) -> Result<Self, LoadError> {
        granted(file, &code.info.imports, &policy.grants)?;
        suits(&code, &shared.engine, policy).map_err(|reason| LoadError::Start {
            file: file.to_owned(),
            reason,
        })?;
        let linker = shared.linkers.with(&policy.grants).map_err(|error| LoadError::Host {
            file: file.to_owned(),
            reason: shown(&error),
        })?;
        let ready = Linked::new(&linker, code.current.load_full(), code.info.flavour);
        let ready = ready.map_err(|error| LoadError::Import {
            file: file.to_owned(),
            reason: shown(&error),
        })?;
        let files = files::threads(policy).map_err(|error| LoadError::Host {
            file: file.to_owned(),
            reason: format!("the threads for its files could not be made: {error}"),
        })?;
        let goes_on = goes_on(&code.info.imports);
        if goes_on && policy.reuse.is_some() {
            tracing::warn!(
                file = %file.display(),
                "it imports WASI 0.3, whose calls can be under way when it has answered: none of its instances is reused"
            );
        }
        let needs = code.info.needs;
        let config = policy.grants.config.iter().flatten();
        Ok(Self {
            id: ComponentId::next(),
            idle: Arc::clone(&shared.idle),
            slots: needs.memories.div_ceil(2).max(needs.tables.div_ceil(4)).max(1),
            turn: Turn::default(),
            config: Arc::new(config.map(|(name, value)| (name.as_str(), value.expose())).collect()),
            outbound: Outbound::new(policy, &shared.network),
            files,
            goes_on,
            code,
            linker,
            linked: ArcSwap::from_pointee(ready),
        })
    }

    /// What it takes to run, of its own idle instances if some will do.
    pub(super) fn claim(&self, reuses: Option<ComponentId>) -> Claim<'_> {
        Claim {
            turn: &self.turn,
            slots: self.slots,
            reuses,
        }
    }

    /// What a call that begins now runs.
    pub(super) fn linked(&self) -> Arc<Linked> {
        let linked = self.linked.load_full();
        let current = self.code.current.load_full();
        if Arc::ptr_eq(&linked.of, &current) {
            return linked;
        }
        match Linked::new(&self.linker, current, self.code.info.flavour) {
            Ok(better) => {
                let better = Arc::new(better);
                self.linked.store(Arc::clone(&better));
                tracing::info!(digest = self.code.info.digest, "the optimised code serves from now on");
                better
            }
            Err(error) => {
                // The same file with the same imports was linked before.
                tracing::error!(digest = self.code.info.digest, error = %shown(&error), "better code can't be linked");
                linked
            }
        }
    }
}

impl Drop for LocalComponent {
    fn drop(&mut self) {
        self.idle.give_up_all_of(self.id);
    }
}

impl Linked {
    fn new(linker: &Linker<GuestState>, of: Arc<Component>, flavour: Flavour) -> wasmtime::Result<Self> {
        let pre = linker.instantiate_pre(&of)?;
        let entry = Entry::new(flavour, &pre)?;
        Ok(Self { of, pre, entry })
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

/// Whether any function that it exports can go on behind its answer.
fn is_asynchronous(component: &Component, engine: &Engine) -> bool {
    fn is(item: &ComponentItem, engine: &Engine) -> bool {
        match item {
            ComponentItem::ComponentFunc(function) => function.async_(),
            ComponentItem::ComponentInstance(instance) => {
                instance.exports(engine).any(|(_, item)| is(&item.ty, engine))
            }
            ComponentItem::CoreFunc(_)
            | ComponentItem::Module(_)
            | ComponentItem::Component(_)
            | ComponentItem::Type(_)
            | ComponentItem::Resource(_) => false,
        }
    }
    component
        .component_type()
        .exports(engine)
        .any(|(_, item)| is(&item.ty, engine))
}

/// Whether something that a guest began with these imports can go on behind its answer: calls and streams of WASI 0.3.
fn goes_on(imports: &[Import]) -> bool {
    imports
        .iter()
        .any(|import| import.name.starts_with("wasi:") && import.name.contains("@0.3."))
}

/// Refuses settings that mean nothing for a flavour, so that nobody waits for their effect.
fn suits(code: &Code, engine: &Engine, policy: &Policy) -> Result<(), String> {
    let flavour = code.info.flavour;
    let is_asynchronous = is_asynchronous(&code.current.load(), engine);
    let is_command = flavour == Flavour::Command;
    let settings = [
        ("stdout", policy.grants.stdout.is_some() && !is_command),
        ("args", !policy.grants.args.is_empty() && !is_command),
        ("exit-codes", !policy.grants.exit_codes.is_empty() && !is_command),
    ];
    if let Some((key, _)) = settings.into_iter().find(|(_, is_wrong)| *is_wrong) {
        return Err(format!(
            "its manifest has {key}, which is for a {}, and it is a {flavour}: remove it",
            Flavour::Command
        ));
    }
    let imports_files = |version: &str| {
        let mut names = code.info.imports.iter().map(|import| import.name.as_str());
        names.any(|name| name.starts_with("wasi:filesystem/") && name.contains(version))
    };
    if !policy.grants.dirs.is_empty() && imports_files("@0.3.") && !imports_files("@0.2.") {
        return Err(
            "its manifest has [[grant.dirs]], and it imports wasi:filesystem of WASI 0.3 only, where the host offers no \
            directories: build it for WASI 0.2, or remove them"
                .to_owned(),
        );
    }
    if policy.reuse.is_some() && is_asynchronous {
        return Err(
            "its manifest says instance = \"reuse\", and it is asynchronous: what it does behind its answer would become part \
             of the next message; remove it"
                .to_owned(),
        );
    }
    if policy.reuse.is_some() && is_command {
        return Err(
            "its manifest says instance = \"reuse\", and a program ends with its message: remove it".to_owned(),
        );
    }
    Ok(())
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
    let made = |flavour: &Flavour| exports.iter().any(|export| flavour.is_made_by(export));
    let found: Vec<_> = Flavour::ALL.into_iter().filter(made).collect();
    match found.as_slice() {
        [flavour] => Ok(*flavour),
        _ => Err(LoadError::Flavour {
            file: file.to_owned(),
            accepted: Flavour::ALL.map(shown_export).join(", "),
            found: if exports.is_empty() {
                "nothing".to_owned()
            } else {
                printable(&exports.join(", "), MAX_REASON_BYTES)
            },
        }),
    }
}

fn shown_export(flavour: Flavour) -> String {
    match flavour.export() {
        (name, "") => name.to_owned(),
        (name, version) => format!("{name}@{}", version.trim_end_matches('.')),
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
        check(&["wasi:cli/run@0.2.0"], Some(Flavour::Command));
        check(&["wasi:cli/run@0.3.0"], None);
        check(
            &["wasi:messaging/incoming-handler@0.2.0-draft"],
            Some(Flavour::WasiMessaging),
        );
        check(
            &["wasmcloud:messaging/handler@0.2.0"],
            Some(Flavour::WasmcloudMessaging),
        );
        check(&["wasmcloud:messaging/handler@0.3.0"], None);
        check(&["handle-queue-message"], Some(Flavour::SpinSqs));
        check(&["handle-queue-message", "wasi:cli/run@0.2.0"], None);
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
