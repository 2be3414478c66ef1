//! The kind of a core module, by its exports, and the world that the host writes into a module that names none.

use anyhow::{Context as _, Result, bail};
use wasm_encoder::{ImportSection, Module, RawSection, reencode::Reencode as _, reencode::RoundtripReencoder};
use wasmparser::{CustomSectionReader, ExternalKind, Parser, Payload};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::{PackageId, Resolve, SourceMap};

/// The section in which every binding generator describes the world; some generators add to the name.
const WORLD_SECTION: &str = "component-type";
/// The export of a program, and the export of a library that has to be initialised (WASI application ABI).
const PROGRAM: &str = "_start";
const LIBRARY: &str = "_initialize";
/// The export of a program that was compiled for no system.
const BARE_PROGRAM: &str = "main";
/// The function of a handler, as a core module names it (component model, name mangling).
const HANDLER: &str = "sandhog:worker/handler@0.1.0#handle";
const BATCH_HANDLER: &str = "sandhog:worker/batch-handler@0.1.0#handle-batch";

pub(super) const PREVIEW1: &str = "wasi_snapshot_preview1";
const PREVIEW1_EXIT: &str = "proc_exit";
const EXIT_INTERFACE: &str = "wasi:cli/exit@0.2.12";
const EXIT: &str = "exit-with-code";

const WORKER: [(&str, &str); 7] = [
    ("types.wit", include_str!("../../wit/worker/types.wit")),
    ("crash.wit", include_str!("../../wit/worker/crash.wit")),
    ("sender.wit", include_str!("../../wit/worker/sender.wit")),
    ("handler.wit", include_str!("../../wit/worker/handler.wit")),
    ("async-handler.wit", include_str!("../../wit/worker/async-handler.wit")),
    ("batch-handler.wit", include_str!("../../wit/worker/batch-handler.wit")),
    ("world.wit", include_str!("../../wit/worker/world.wit")),
];
const KEYVALUE: [(&str, &str); 2] = [
    ("keyvalue.wit", include_str!("../../wit/keyvalue/keyvalue.wit")),
    (
        "keyvalue-draft2.wit",
        include_str!("../../wit/keyvalue-draft2/keyvalue.wit"),
    ),
];
const CORE_MODULE: &str = include_str!("../../wit/core-module/core-module.wit");

/// The kind of a core module.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// The module carries the description of its world.
    describes_itself: bool,
    /// The module is a program: it runs from its start to its exit.
    pub(crate) is_program: bool,
    /// The module has a function that prepares it for calls of its functions.
    is_library: bool,
    /// The worlds of `host/wit/core-module` whose functions the module exports.
    handlers: Vec<&'static str>,
}

impl Shape {
    pub(crate) fn of(wasm: &[u8]) -> Result<Self> {
        let mut shape = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            if let Payload::CustomSection(section) = payload {
                shape.describes_itself |= describes_world(&section);
            } else if let Payload::ExportSection(exports) = payload {
                for export in exports {
                    let export = export?;
                    if export.kind != ExternalKind::Func {
                        continue;
                    }
                    match export.name {
                        PROGRAM => shape.is_program = true,
                        LIBRARY => shape.is_library = true,
                        HANDLER => shape.handlers.push("handler"),
                        BATCH_HANDLER => shape.handlers.push("batch-handler"),
                        _ => {}
                    }
                }
            }
        }
        // As a program the module would succeed without a call of its handler, and as a handler it would not be initialised.
        let [handler, ..] = shape.handlers.as_slice() else {
            return Ok(shape);
        };
        if shape.is_program && !shape.is_library && !shape.describes_itself {
            bail!(
                "it has the functions of a {handler}, and was linked as a program ({PROGRAM} without {LIBRARY}): link it as a \
                 library, in Go with -buildmode=c-shared, in C with -mexec-model=reactor"
            );
        }
        shape.is_program = false;
        Ok(shape)
    }

    /// Returns the worlds that the host has to write into the module. `None` if the host does not know its kind.
    fn worlds(&self) -> Option<Vec<&'static str>> {
        let mut worlds = Vec::new();
        if self.is_program {
            worlds.push("command");
        }
        if !self.describes_itself {
            worlds.extend(&self.handlers);
        }
        (self.describes_itself || !worlds.is_empty()).then_some(worlds)
    }
}

fn describes_world(section: &CustomSectionReader<'_>) -> bool {
    section.name().starts_with(WORLD_SECTION)
}

/// Returns the module with every description that it needs to become a component, and with an exit that keeps the exit code.
pub(crate) fn described(wasm: &[u8], shape: &Shape) -> Result<Vec<u8>> {
    let worlds = shape.worlds().with_context(|| {
        let advice = if is_bare_program(wasm) {
            ": it was compiled as a program for no system; compile it for WASI, in Rust with --target wasm32-wasip1, or make it a \
             library with the SDK"
        } else {
            ""
        };
        format!(
            "it exports neither {PROGRAM}, as a program does, nor {HANDLER}, and has no description of its world{advice}"
        )
    })?;
    let mut module = if shape.is_program {
        with_exit_code(wasm)?
    } else {
        wasm.to_vec()
    };
    if worlds.is_empty() {
        return Ok(module);
    }
    let (resolve, package) = interfaces()?;
    for world in worlds {
        let world = resolve.select_world(&[package], Some(world))?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    }
    Ok(module)
}

/// Returns whether a module is a program that nothing starts.
fn is_bare_program(wasm: &[u8]) -> bool {
    Parser::new(0).parse_all(wasm).any(|payload| {
        let Ok(Payload::ExportSection(exports)) = payload else {
            return false;
        };
        exports.into_iter().flatten().any(|export| export.name == BARE_PROGRAM)
    })
}

fn interfaces() -> Result<(Resolve, PackageId)> {
    let mut resolve = Resolve::default();
    let mut worker = SourceMap::default();
    for (name, text) in WORKER {
        worker.push_str(name, text);
    }
    let worker = worker.parse().map_err(|(_, error)| error)?;
    resolve.push_group(worker)?;
    for (name, text) in KEYVALUE {
        resolve.push_source(name, text)?;
    }
    let package = resolve.push_source("core-module.wit", CORE_MODULE)?;
    Ok((resolve, package))
}

/// Links the import that takes an exit code to the host, past the adapter of WASI preview 1, which knows success and failure
/// only. Both functions have the same type, and neither returns.
fn with_exit_code(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut module = Module::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        if let Payload::ImportSection(section) = payload {
            let mut imports = ImportSection::new();
            for import in section.into_imports() {
                let import = import?;
                let (from, name) = match (import.module, import.name) {
                    (PREVIEW1, PREVIEW1_EXIT) => (EXIT_INTERFACE, EXIT),
                    other => other,
                };
                imports.import(from, name, RoundtripReencoder.entity_type(import.ty)?);
            }
            module.section(&imports);
        } else if let Some((id, range)) = payload.as_section() {
            let data = wasm.get(range).context("a section is cut short")?;
            module.section(&RawSection { id, data });
        }
    }
    Ok(module.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Shape {
        Shape::of(&wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn a_module_is_known_by_its_exports() {
        assert!(shape(r#"(module (func (export "_start")))"#).is_program);
        let handler = shape(r#"(module (func (export "sandhog:worker/handler@0.1.0#handle")))"#);
        assert_eq!(handler.worlds(), Some(vec!["handler"]));
        assert_eq!(shape(r#"(module (func (export "main")))"#).worlds(), None);
        let library = r#"(module (func (export "_initialize")) (func (export "_start"))
            (func (export "sandhog:worker/handler@0.1.0#handle")))"#;
        assert_eq!(shape(library).worlds(), Some(vec!["handler"]));
        assert_eq!(
            shape(r#"(module (@custom "component-type:x" "") )"#).worlds(),
            Some(vec![])
        );
    }

    #[test]
    fn a_program_for_no_system_is_told_which_target_to_compile_for() {
        // As rustc makes of a program for wasm32-unknown-unknown.
        let text =
            r#"(module (memory (export "memory") 1) (func (export "main") (param i32 i32) (result i32) unreachable))"#;
        let module = wat::parse_str(text).unwrap();
        let error = described(&module, &Shape::of(&module).unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("--target wasm32-wasip1"), "{error}");
    }

    #[test]
    fn a_handler_that_was_linked_as_a_program_is_refused() {
        // Go without -buildmode=c-shared: it was taken, and trapped at every message.
        let text = r#"(module (func (export "_start")) (func (export "sandhog:worker/handler@0.1.0#handle")))"#;
        let error = Shape::of(&wat::parse_str(text).unwrap()).unwrap_err().to_string();
        assert!(error.contains("-buildmode=c-shared"), "{error}");
    }

    #[test]
    fn only_the_way_out_of_a_program_is_changed() {
        let text = |module: &str, name: &str| {
            format!(
                r#"(module (import "{module}" "{name}" (func $exit (param i32)))
                (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))
                (memory 1) (data (i32.const 8) "data") (func (export "_start") (call $exit (i32.const 75)))
                (@custom "name-of-mine" "kept"))"#
            )
        };
        let before = wat::parse_str(text(PREVIEW1, PREVIEW1_EXIT)).unwrap();
        let after = wat::parse_str(text(EXIT_INTERFACE, EXIT)).unwrap();
        assert_eq!(with_exit_code(&before).unwrap(), after);
    }
}
