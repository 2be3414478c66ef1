//! Turns compiled code into code whose flavour is known, and that into a component whose imports are linked. Calls no guest.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::{
    Engine,
    component::{Component, InstancePre, Linker, types::ComponentItem},
};
use wasmtime_wasi_config::WasiConfigVariables;

use crate::policy::Grants;
use sandhog_queue::printable::{MAX_REASON_BYTES, printable};

use super::{
    ComponentImport, ComponentInfo, Flavour, GuestPolicy, ImportOffer, InstanceNeeds, LoadError,
    entry::Entry,
    guest_state::{GuestResources, GuestState},
    import::{
        Linkers, files,
        http::{Network, Outbound},
    },
    profiler::Profiler,
    tiers::{CompiledComponent, Source},
    wasm::shown,
};

/// A page of linear memory (core specification, 4.2.8).
const PAGE_BYTES: u64 = 64 * 1024;

/// The code that a file was compiled to. It is not linked, so it does not depend on a policy.
pub(crate) struct Code {
    /// The code that new calls run. Better code of the same file replaces it.
    current: ArcSwap<Component>,
    pub(crate) info: Arc<ComponentInfo>,
    /// The task that makes the better code, aborted with the last user of this code.
    improving: OnceLock<AbortOnDropHandle<()>>,
}

/// Links components, with what all components of an executor share.
pub(crate) struct ComponentLinker {
    linkers: Linkers,
    network: Arc<Network>,
    profiler: Arc<Profiler>,
}

/// A component that can be instantiated at once.
pub(crate) struct LocalComponent {
    pub(crate) code: Arc<Code>,
    linker: Arc<Linker<GuestState>>,
    linked: ArcSwap<Linked>,
    /// The number of slots of the pool that one instance takes: one if a toolchain made the component of a module, more if the
    /// component has many memories or tables, which would otherwise take those that others need.
    pub(crate) slots: u32,
    pub(crate) resources: GuestResources,
    /// The component imports functions that can still be under way when it has answered, so that no instance of it is kept.
    pub(crate) outlives_answer: bool,
}

/// Code with its imports. A call begins and ends on the same one.
pub(crate) struct Linked {
    of: Arc<Component>,
    pub(crate) pre: InstancePre<GuestState>,
    pub(crate) entry: Entry,
}

impl Code {
    /// Reads the facts about a component from its code.
    ///
    /// # Errors
    ///
    /// [`LoadError::Flavour`]: it is not a handler.
    pub(crate) fn new(engine: &Engine, source: &Source, compiled: &CompiledComponent) -> Result<Self, LoadError> {
        let ty = compiled.component.component_type();
        let exports: Vec<String> = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
        let import = |name: &str| ComponentImport {
            name: printable(name, MAX_REASON_BYTES),
            offer: ImportOffer::of(name),
        };
        let info = ComponentInfo {
            digest: source.digest.clone(),
            flavour: flavour(&source.file, &exports)?,
            size: source.wasm.len(),
            core_module: compiled.facts.core_module,
            toolchain: compiled.facts.toolchain.clone(),
            imports: ty.imports(engine).map(|(name, _)| import(name)).collect(),
            needs: needs(&compiled.component),
            compile_time: compiled.compiled_in.unwrap_or_default(),
            from_cache: compiled.compiled_in.is_none(),
        };
        Ok(Self {
            current: ArcSwap::from_pointee(compiled.component.clone()),
            info: Arc::new(info),
            improving: OnceLock::new(),
        })
    }

    /// Replaces the code that new calls run with better code of the same file.
    pub(crate) fn replace(&self, better: Component) {
        self.current.store(Arc::new(better));
    }

    /// Keeps the task that makes better code alive as long as this code is used.
    pub(crate) fn improve_with(&self, task: JoinHandle<()>) {
        // A second task would be for the same code: it is aborted here.
        drop(self.improving.set(AbortOnDropHandle::new(task)));
    }
}

impl ComponentLinker {
    pub(crate) fn new(engine: &Engine, network: Network, profiler: Arc<Profiler>) -> Self {
        Self {
            linkers: Linkers::new(engine),
            network: Arc::new(network),
            profiler,
        }
    }

    /// Links the imports that the policy grants.
    ///
    /// # Errors
    ///
    /// See [`LoadError`]: above all, the component has imports that are not granted.
    pub(crate) fn link(&self, file: &Path, code: Arc<Code>, policy: &GuestPolicy) -> Result<LocalComponent, LoadError> {
        check_grants(file, &code.info.imports, &policy.grants)?;
        check_settings(&code, self.linkers.engine(), policy).map_err(|reason| LoadError::Start {
            file: file.to_owned(),
            reason,
        })?;
        let linker = self.linkers.with(&policy.grants).map_err(|error| LoadError::Host {
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
        let outlives_answer = outlives_answer(&code.info.imports);
        if outlives_answer && policy.reuse.is_some() {
            tracing::warn!(
                file = %file.display(),
                "it imports WASI 0.3, whose calls can be under way when it has answered: none of its instances is reused"
            );
        }
        let needs = code.info.needs;
        Ok(LocalComponent {
            slots: needs.memories.div_ceil(2).max(needs.tables.div_ceil(4)).max(1),
            resources: GuestResources {
                config: Arc::new(config_variables(&policy.grants)),
                outbound: Outbound::new(policy, &self.network),
                files,
                profiler: Arc::clone(&self.profiler),
                is_program: code.info.flavour == Flavour::Command,
            },
            outlives_answer,
            code,
            linker,
            linked: ArcSwap::from_pointee(ready),
        })
    }
}

fn config_variables(grants: &Grants) -> WasiConfigVariables {
    let granted = grants.config.iter().flatten();
    granted.map(|(name, value)| (name.as_str(), value.expose())).collect()
}

impl LocalComponent {
    pub(crate) fn engine(&self) -> &Engine {
        self.linker.engine()
    }

    /// Returns the linked code that a call that begins now runs.
    pub(crate) fn linked(&self) -> Arc<Linked> {
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

impl Linked {
    fn new(linker: &Linker<GuestState>, of: Arc<Component>, flavour: Flavour) -> wasmtime::Result<Self> {
        let pre = linker.instantiate_pre(&of)?;
        let entry = Entry::new(flavour, &pre)?;
        Ok(Self { of, pre, entry })
    }
}

fn needs(component: &Component) -> InstanceNeeds {
    // The engine does not know the needs of a component that imports modules, so that component can't run beside anything.
    let Some(needs) = component.resources_required() else {
        return InstanceNeeds {
            memories: u32::MAX,
            tables: u32::MAX,
            ..InstanceNeeds::default()
        };
    };
    InstanceNeeds {
        memories: needs.num_memories,
        memory_bytes: needs.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES),
        tables: needs.num_tables,
        table_elements: needs.max_initial_table_size.unwrap_or(0),
    }
}

/// Returns whether a function that the component exports can go on after its answer.
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

/// Returns whether a call or a stream that a guest begins with these imports can go on after its answer: those of WASI 0.3 can.
fn outlives_answer(imports: &[ComponentImport]) -> bool {
    imports
        .iter()
        .any(|import| import.name.starts_with("wasi:") && import.name.contains("@0.3."))
}

/// Refuses settings that mean nothing for the flavour, so that no operator waits for their effect.
fn check_settings(code: &Code, engine: &Engine, policy: &GuestPolicy) -> Result<(), String> {
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

/// Refuses a component whose imports are not granted, with the lines of the manifest that would grant them.
fn check_grants(file: &Path, imports: &[ComponentImport], grants: &Grants) -> Result<(), LoadError> {
    let (mut names, mut missing) = (Vec::new(), Vec::new());
    for import in imports {
        match import.offer {
            ImportOffer::With(grant) if !grant.is_in(grants) => {
                names.push(import.name.as_str());
                if !missing.contains(&grant) {
                    missing.push(grant);
                }
            }
            ImportOffer::Always | ImportOffer::With(_) | ImportOffer::Never => {}
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

/// Returns the one flavour that the exports match. Other exports are tolerated: some toolchains add their own.
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
