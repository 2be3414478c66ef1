//! What a core module is, by its exports, and the world that the host writes into one that names none.

use anyhow::{Context as _, Result};
use wasm_encoder::{ImportSection, Module, RawSection, reencode::Reencode as _, reencode::RoundtripReencoder};
use wasmparser::{CustomSectionReader, ExternalKind, Parser, Payload};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::{PackageId, Resolve, SourceMap};

/// What every binding generator calls the section in which it describes the world; some add to the name.
const WORLD_SECTION: &str = "component-type";
/// What a program exports (WASI application ABI).
const PROGRAM: &str = "_start";
/// The function of a handler, as a core module names it (component model, name mangling).
const HANDLER: &str = "sandhog:worker/handler@0.1.0#handle";
const BATCH_HANDLER: &str = "sandhog:worker/batch-handler@0.1.0#handle-batch";

const PREVIEW1: &str = "wasi_snapshot_preview1";
const PREVIEW1_EXIT: &str = "proc_exit";
const EXIT_INTERFACE: &str = "wasi:cli/exit@0.2.12";
const EXIT: &str = "exit-with-code";

const WORKER: [(&str, &str); 5] = [
    ("types.wit", include_str!("../../../../wit/types.wit")),
    ("sender.wit", include_str!("../../../../wit/sender.wit")),
    ("handler.wit", include_str!("../../../../wit/handler.wit")),
    ("batch-handler.wit", include_str!("../../../../wit/batch-handler.wit")),
    ("world.wit", include_str!("../../../../wit/world.wit")),
];
const KEYVALUE: &str = include_str!("../../../wit/keyvalue/keyvalue.wit");
const CORE_MODULE: &str = include_str!("../../../wit/core-module/core-module.wit");

/// What a core module tells about itself.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// It carries the description of its world.
    describes_itself: bool,
    /// It is a program: it runs from its start to its exit.
    pub(super) is_program: bool,
    /// Of which handlers it exports the functions: worlds of `host/wit/core-module`.
    handlers: Vec<&'static str>,
}

impl Shape {
    pub(super) fn of(wasm: &[u8]) -> Result<Self> {
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
                        HANDLER => shape.handlers.push("handler"),
                        BATCH_HANDLER => shape.handlers.push("batch-handler"),
                        _ => {}
                    }
                }
            }
        }
        // What has a handler's functions is one, and its start is its toolchain's business.
        shape.is_program &= shape.handlers.is_empty();
        Ok(shape)
    }

    /// The worlds that the module has to be told of. `None` if it is nothing that the host knows.
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

/// The module with every description that it needs to become a component, and a way out that keeps the exit code.
pub(super) fn described(wasm: &[u8], shape: &Shape) -> Result<Vec<u8>> {
    let worlds = shape.worlds().with_context(|| {
        format!("it exports neither {PROGRAM}, as a program does, nor {HANDLER}, and has no description of its world")
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

fn interfaces() -> Result<(Resolve, PackageId)> {
    let mut resolve = Resolve::default();
    let mut worker = SourceMap::default();
    for (name, text) in WORKER {
        worker.push_str(name, text);
    }
    let worker = worker.parse().map_err(|(_, error)| error)?;
    resolve.push_group(worker)?;
    resolve.push_source("keyvalue.wit", KEYVALUE)?;
    let package = resolve.push_source("core-module.wit", CORE_MODULE)?;
    Ok((resolve, package))
}

/// The adapter of WASI preview 1 knows success and failure only. So the one import that takes an exit code is given to the host
/// directly; both have the same type, and both never return.
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
        assert_eq!(
            shape(r#"(module (@custom "component-type:x" "") )"#).worlds(),
            Some(vec![])
        );
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
