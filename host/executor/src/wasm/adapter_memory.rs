//! Hides from a program the memory that the adapter of WASI preview 1 takes.
//!
//! The adapter keeps its stack and its state in the program's memory, in two pages that it grows the memory by. A program does not
//! know: the runtime of Go and some allocators take all that lies behind their heap for their own. So the program's instructions for
//! the size and the growth of its memory become calls of the adapter. The pages of the adapter are the last ones, always: when the
//! program grows its memory, the adapter moves behind what is new. The adapter can move because it keeps no address of its pages
//! in them from one call to the next.

use std::convert::Infallible;

use anyhow::{Context as _, Result, anyhow};
use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER;
use wasm_encoder::{
    CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection, Instruction,
    MemoryType, Module, TypeSection, ValType,
    reencode::{Error, Reencode, utils},
};
use wasmparser::{
    CodeSectionReader, CustomSectionReader, ExportSectionReader, FunctionSectionReader, ImportSectionReader,
    KnownCustom, Name, Operator, Parser, Payload, TypeRef, TypeSectionReader,
};

use super::world::PREVIEW1;

/// The functions of the adapter, and how many there are.
const SIZE: &str = "memory_size";
const GROW: &str = "memory_grow";
const FUNCTIONS: u32 = 2;

/// The pages that the adapter takes: one before the program starts, and one at the first call that needs state.
const ADAPTER_PAGES: u64 = 2;
/// The most pages of a memory.
const MAX_PAGES: u64 = 65536;
/// The logarithm of the bytes of a page.
const PAGE_SHIFT: i32 = 16;
/// The globals of the adapter that hold addresses. The second is zero while there is no state.
const STACK: &str = "__stack_pointer";
const STATE: &str = "internal_state_ptr";

/// Returns the program with calls of the adapter in place of its instructions. `None` if nothing can be done.
pub(super) fn hidden(wasm: &[u8]) -> Result<Option<Vec<u8>>> {
    let layout = Layout::of(wasm)?;
    if !layout.can_be_hidden_from() {
        return Ok(None);
    }
    reencoded(&mut Program { layout }, wasm).map(Some)
}

/// Returns the adapter of programs with the functions that hide its memory.
pub(super) fn hiding_adapter() -> Result<Vec<u8>> {
    let adapter = WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER;
    let layout = Layout::of(adapter)?;
    let global = |name: &str| {
        let found = layout.globals.iter().find(|(_, global)| global == name);
        found
            .map(|(index, _)| *index)
            .with_context(|| format!("the adapter has no global {name}"))
    };
    let (stack, state) = (global(STACK)?, global(STATE)?);
    reencoded(&mut Adapter { layout, stack, state }, adapter)
}

fn reencoded(reencoder: &mut impl Reencode<Error = Infallible>, wasm: &[u8]) -> Result<Vec<u8>> {
    let mut module = Module::new();
    let parsed = reencoder.parse_core_module(&mut module, Parser::new(0), wasm);
    parsed.map_err(|error| anyhow!("it can't be encoded again: {error}"))?;
    Ok(module.finish())
}

/// How many things a module has, where something is added to them.
#[derive(Debug, Default)]
struct Layout {
    types: u32,
    imported_functions: u32,
    functions: u32,
    memories: u32,
    imports_memory: bool,
    has_start: bool,
    /// The globals that have names.
    globals: Vec<(u32, String)>,
}

impl Layout {
    fn of(wasm: &[u8]) -> Result<Self> {
        let mut layout = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            if let Payload::TypeSection(groups) = payload {
                for group in groups {
                    layout.types += u32::try_from(group?.types().len())?;
                }
            } else if let Payload::ImportSection(section) = payload {
                for import in section.into_imports() {
                    let ty = import?.ty;
                    layout.imported_functions += u32::from(matches!(ty, TypeRef::Func(_) | TypeRef::FuncExact(_)));
                    layout.imports_memory |= matches!(ty, TypeRef::Memory(_));
                }
            } else if let Payload::FunctionSection(section) = payload {
                layout.functions = section.count();
            } else if let Payload::MemorySection(section) = payload {
                layout.memories = section.count();
            } else if let Payload::StartSection { .. } = payload {
                layout.has_start = true;
            } else if let Payload::CustomSection(section) = payload {
                layout.read_names(&section);
            }
        }
        Ok(layout)
    }

    fn read_names(&mut self, section: &CustomSectionReader<'_>) {
        let KnownCustom::Name(names) = section.as_known() else {
            return;
        };
        for name in names {
            // A program may have anything in this section.
            let Ok(Name::Global(globals)) = name else { continue };
            for global in globals.into_iter().map_while(Result::ok) {
                self.globals.push((global.index, global.name.to_owned()));
            }
        }
    }

    /// A module with a start function runs before the adapter can be called.
    fn can_be_hidden_from(&self) -> bool {
        let has_one_memory = self.memories == 1 && !self.imports_memory;
        has_one_memory && self.imported_functions > 0 && !self.has_start
    }

    /// The functions with the indices of the types that were added.
    fn added(&self) -> [(&'static str, u32); 2] {
        [(SIZE, self.types), (GROW, self.types + 1)]
    }
}

/// Adds the types of the functions.
fn add_types(types: &mut TypeSection) {
    types.ty().function([], [ValType::I32]);
    types.ty().function([ValType::I32], [ValType::I32]);
}

struct Program {
    layout: Layout,
}

impl Reencode for Program {
    type Error = Infallible;

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: TypeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_type_section(self, types, section)?;
        add_types(types);
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: ImportSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_import_section(self, imports, section)?;
        for (name, ty) in self.layout.added() {
            imports.import(PREVIEW1, name, EntityType::Function(ty));
        }
        Ok(())
    }

    fn function_index(&mut self, function: u32) -> Result<u32, Error<Infallible>> {
        let is_imported = function < self.layout.imported_functions;
        Ok(if is_imported { function } else { function + FUNCTIONS })
    }

    fn memory_type(&mut self, memory: wasmparser::MemoryType) -> Result<MemoryType, Error<Infallible>> {
        let mut memory = utils::memory_type(self, memory);
        memory.maximum = memory.maximum.map(|pages| (pages + ADAPTER_PAGES).min(MAX_PAGES));
        Ok(memory)
    }

    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Result<Instruction<'a>, Error<Infallible>> {
        let first = self.layout.imported_functions;
        if matches!(operator, Operator::MemorySize { .. }) {
            return Ok(Instruction::Call(first));
        }
        if matches!(operator, Operator::MemoryGrow { .. }) {
            return Ok(Instruction::Call(first + 1));
        }
        utils::instruction(self, operator)
    }

    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: CustomSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        // These tell of places in the code, which are others now.
        if section.name().starts_with(".debug_") || section.name().starts_with("metadata.code.") {
            return Ok(());
        }
        // Names that can't be read are left out.
        drop(utils::parse_custom_section(self, module, section));
        Ok(())
    }
}

struct Adapter {
    layout: Layout,
    /// The globals with the address of the stack and with that of the state.
    stack: u32,
    state: u32,
}

impl Adapter {
    /// Pushes the number of pages that the adapter has now.
    fn push_pages(&self, function: &mut Function) {
        let mut code = function.instructions();
        code.i32_const(1).global_get(self.state).i32_const(0).i32_ne().i32_add();
    }

    /// The size of the memory without the adapter's pages.
    fn size(&self) -> Function {
        let mut function = Function::new([]);
        function.instructions().memory_size(0);
        self.push_pages(&mut function);
        function.instructions().i32_sub().end();
        function
    }

    /// Grows the memory by some pages, and puts them before those of the adapter.
    fn grow(&self) -> Function {
        let (more, pages, start, bytes) = (0, 1, 2, 3);
        let mut function = Function::new([(3, ValType::I32)]);
        self.push_pages(&mut function);
        let mut code = function.instructions();
        code.local_set(pages);
        // The number of pages before, or -1, which is what the program gets then.
        code.local_get(more).memory_grow(0).local_tee(start);
        code.i32_const(-1).i32_eq();
        code.if_(wasm_encoder::BlockType::Empty).i32_const(-1).return_().end();
        code.local_get(start).local_get(pages).i32_sub().local_set(start);
        code.local_get(more).i32_const(PAGE_SHIFT).i32_shl().local_set(bytes);
        // To, from, how much.
        code.local_get(start)
            .i32_const(PAGE_SHIFT)
            .i32_shl()
            .local_get(bytes)
            .i32_add();
        code.local_get(start).i32_const(PAGE_SHIFT).i32_shl();
        code.local_get(pages).i32_const(PAGE_SHIFT).i32_shl().memory_copy(0, 0);
        // New pages hold zeros.
        code.local_get(start).i32_const(PAGE_SHIFT).i32_shl().i32_const(0);
        code.local_get(more)
            .local_get(pages)
            .local_get(more)
            .local_get(pages)
            .i32_lt_u()
            .select();
        code.i32_const(PAGE_SHIFT).i32_shl().memory_fill(0);
        code.global_get(self.stack)
            .local_get(bytes)
            .i32_add()
            .global_set(self.stack);
        code.global_get(self.state).if_(wasm_encoder::BlockType::Empty);
        code.global_get(self.state)
            .local_get(bytes)
            .i32_add()
            .global_set(self.state)
            .end();
        code.local_get(start).end();
        function
    }
}

impl Reencode for Adapter {
    type Error = Infallible;

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: TypeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_type_section(self, types, section)?;
        add_types(types);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_function_section(self, functions, section)?;
        for (_, ty) in self.layout.added() {
            functions.function(ty);
        }
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: ExportSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_export_section(self, exports, section)?;
        let first = self.layout.imported_functions + self.layout.functions;
        for ((name, _), function) in self.layout.added().into_iter().zip(first..) {
            exports.export(name, ExportKind::Func, function);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_code_section(self, code, section)?;
        code.function(&self.size()).function(&self.grow());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn the_instructions_of_a_program_become_calls_and_its_functions_keep_their_names() {
        let text = |types: &str, imports: &str, maximum: u32, body: &str| {
            format!(
                r#"(module (type (func)) (type (func (param i32))) {types}
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (type 1))) {imports}
                (memory (export "memory") 1 {maximum}) (table 1 funcref) (elem (i32.const 0) $run)
                (func $run (export "_start") (type 0) {body} call $exit))"#
            )
        };
        let before = text("", "", 4, "memory.size memory.grow");
        let types = "(type (func (result i32))) (type (func (param i32) (result i32)))";
        let imports = r#"(import "wasi_snapshot_preview1" "memory_size" (func (type 2)))
            (import "wasi_snapshot_preview1" "memory_grow" (func (type 3)))"#;
        let after = text(types, imports, 6, "call 1 call 2");
        assert_eq!(hidden(&module(&before)).unwrap().unwrap(), module(&after));
    }

    #[test]
    fn a_program_that_the_adapter_can_not_hide_from_is_left_alone() {
        let import = r#"(import "wasi_snapshot_preview1" "sched_yield" (func $y (result i32)))"#;
        for rest in ["(memory 1) (func $init) (start $init)", "(memory 1) (memory 1)", ""] {
            let program = module(&format!("(module {import} {rest})"));
            assert_eq!(hidden(&program).unwrap(), None, "{rest}");
        }
        assert_eq!(hidden(&module("(module (memory 1))")).unwrap(), None);
    }

    #[test]
    fn names_that_cannot_be_read_do_not_keep_a_program_from_running() {
        let text = r#"(module (import "wasi_snapshot_preview1" "sched_yield" (func (result i32))) (memory 1) (@custom "name" "\01\ff"))"#;
        assert!(hidden(&module(text)).unwrap().is_some());
    }
}
