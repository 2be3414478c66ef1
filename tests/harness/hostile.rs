//! Guests that mean harm, in the text format: parts of a handler to put together, down to its allocator, and the
//! interfaces of WASI 0.2 that it may call directly.

use std::{
    fmt::Write as _,
    sync::{Arc, OnceLock},
};

use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

use crate::repository;

/// The functions of WASI that hostile guests call, and a world with all of them.
const WASI: &str = include_str!("hostile.wit");

/// What `handle` is given, and what it gives back.
const HANDLE: &str = "(param $id i32) (param $id-len i32) (param $body i32) (param $body-len i32) (param $attributes i32) \
    (param $attributes-len i32) (param $queue i32) (param $queue-len i32) (param $receive-count i32) (param $sent-at i64) \
    (param $grouped i32) (param $group i32) (param $group-len i32) (result i32)";

/// An allocator that never frees.
const BUMP: &str = "(local $at i32)
    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.set $next (i32.add (local.get $at) (local.get $len)))
    (block $enough (loop $more
        (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size $memory) (i32.const 65536))))
        (br_if $more (i32.ne (memory.grow $memory (i32.const 16)) (i32.const -1)))
        unreachable))
    (local.get $at)";

/// The parts of a handler. `$ok` is the address of a success, `$fail` makes a failure (kind, reason, its length, seconds),
/// `$refused` makes a rejection of the error that a send left at 128. Memory from 4096 to 65536 is the guest's own.
#[derive(Debug, Clone)]
pub struct Parts {
    pub imports: String,
    pub definitions: String,
    /// Instructions of the allocator: `$old`, `$old-len`, `$align`, `$len`.
    pub allocator: String,
    /// Instructions of the handler.
    pub handle: String,
    /// Pages of memory to start with.
    pub pages: u32,
}

impl Parts {
    pub fn handle(handle: &str) -> Self {
        Self {
            imports: String::new(),
            definitions: String::new(),
            allocator: BUMP.to_owned(),
            handle: handle.to_owned(),
            pages: 4,
        }
    }

    #[must_use]
    pub fn define(mut self, definitions: &str) -> Self {
        self.definitions.push_str(definitions);
        self
    }

    #[must_use]
    pub fn allocate(mut self, allocator: &str) -> Self {
        allocator.clone_into(&mut self.allocator);
        self
    }

    #[must_use]
    pub fn pages(mut self, pages: u32) -> Self {
        self.pages = pages;
        self
    }

    /// Imports a function: of an interface, by its name there, as `$name`, with the type of its core function.
    #[must_use]
    pub fn import(mut self, from: &str, function: &str, name: &str, ty: &str) -> Self {
        write!(self.imports, r#"(import "{from}" "{function}" (func {name} {ty})) "#).unwrap();
        self
    }

    /// Imports `send` as `$send`: queue, body and attributes (address and length each), the address of the answer.
    #[must_use]
    pub fn sends(self) -> Self {
        let sixteen = "i32 ".repeat(17);
        self.import(
            "sandhog:worker/sender@0.1.0",
            "send",
            "$raw-send",
            &format!("(param {sixteen})"),
        )
        .define(
            "(func $send (param $queue i32) (param $queue-len i32) (param $body i32) (param $body-len i32) (param $attributes i32)
                (param $attributes-len i32)
            (call $raw-send (local.get $queue) (local.get $queue-len) (local.get $body) (local.get $body-len)
                (local.get $attributes) (local.get $attributes-len) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 128)))
            (func $refused (result i32) (call $fail (i32.const 2) (i32.load (i32.const 136)) (i32.load (i32.const 140)) (i32.const 0)))",
        )
    }

    /// Imports a function of WASI preview 1, which the host adapts.
    #[must_use]
    pub fn preview1(self, function: &str, parameters: &str) -> Self {
        let ty = if function == "proc_exit" {
            format!("(param {parameters})")
        } else {
            format!("(param {parameters}) (result i32)")
        };
        self.import("wasi_snapshot_preview1", function, &format!("${function}"), &ty)
    }

    /// Imports what it takes to sleep: `$after` makes a pollable for a duration, `$at` one for an instant, `$block` waits.
    #[must_use]
    pub fn clocks(self) -> Self {
        let clock = "wasi:clocks/monotonic-clock@0.2.0";
        self.import(clock, "subscribe-duration", "$after", "(param i64) (result i32)")
            .import(clock, "subscribe-instant", "$at", "(param i64) (result i32)")
            .import(clock, "now", "$now", "(result i64)")
            .import("wasi:io/poll@0.2.0", "[method]pollable.block", "$block", "(param i32)")
            .import(
                "wasi:io/poll@0.2.0",
                "[method]pollable.ready",
                "$ready",
                "(param i32) (result i32)",
            )
            .import("wasi:io/poll@0.2.0", "poll", "$poll", "(param i32 i32 i32)")
            .import(
                "wasi:io/poll@0.2.0",
                "[resource-drop]pollable",
                "$forget",
                "(param i32)",
            )
    }

    /// Imports standard output as `$stdout`, and `$write`: stream, address, length, address of the answer.
    #[must_use]
    pub fn stdout(self) -> Self {
        let streams = "wasi:io/streams@0.2.0";
        self.import("wasi:cli/stdout@0.2.0", "get-stdout", "$stdout", "(result i32)")
            .import(
                streams,
                "[method]output-stream.blocking-write-and-flush",
                "$write",
                "(param i32 i32 i32 i32)",
            )
            .import(
                streams,
                "[method]output-stream.subscribe",
                "$watch",
                "(param i32) (result i32)",
            )
    }

    /// The core module, which says which world it is for.
    pub fn wasm(&self) -> Vec<u8> {
        let Self {
            imports,
            definitions,
            allocator,
            handle,
            pages,
        } = self;
        embed(&format!(
            r#"(module {imports}
            (memory $memory (export "memory") {pages})
            (global $ok i32 (i32.const 16))
            (global $next (mut i32) (i32.const 65536))
            (data (i32.const 256) "out") (data (i32.const 272) "because")
            (func (export "cabi_realloc") (param $old i32) (param $old-len i32) (param $align i32) (param $len i32) (result i32)
                {allocator})
            (func $fail (param $kind i32) (param $reason i32) (param $reason-len i32) (param $seconds i32) (result i32)
                (i32.store8 (i32.const 32) (i32.const 1)) (i32.store8 (i32.const 36) (local.get $kind))
                (i32.store (i32.const 40) (local.get $reason)) (i32.store (i32.const 44) (local.get $reason-len))
                (i32.store (i32.const 48) (local.get $seconds)) (i32.const 32))
            {definitions}
            (func $handle (export "sandhog:worker/handler@0.1.0#handle") {HANDLE}
                {handle}))"#
        ))
    }
}

/// Turns the text of a core module into a module of the world of hostile guests.
fn embed(text: &str) -> Vec<u8> {
    of_the_world(wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}")))
}

/// A core module that says that it is of the world of hostile guests.
pub fn of_the_world(mut module: Vec<u8>) -> Vec<u8> {
    static WORLD: OnceLock<(Arc<Resolve>, WorldId)> = OnceLock::new();
    let (resolve, world) = WORLD.get_or_init(|| {
        let mut resolve = Resolve::default();
        resolve.push_dir(repository().join("wit")).unwrap();
        let package = resolve.push_str("hostile.wit", WASI).unwrap();
        let world = resolve.select_world(&[package], Some("hostile")).unwrap();
        (Arc::new(resolve), world)
    });
    embed_component_metadata(&mut module, resolve, *world, StringEncoding::UTF8).unwrap();
    module
}

/// A component with `count` further core instances of a core module that it brings along.
///
/// The sections are written behind those of a component that was encoded before: the index of the new module is the number
/// of modules that it had.
pub fn with_instances(component: &[u8], modules: u32, bomb: &str, count: u32) -> Vec<u8> {
    let module = wat::parse_str(bomb).unwrap();
    let mut instances = leb(count);
    for _ in 0..count {
        instances.push(0);
        instances.extend(leb(modules));
        instances.push(0);
    }
    let mut bytes = component.to_vec();
    for (id, section) in [(1, module), (2, instances)] {
        bytes.push(id);
        bytes.extend(leb(u32::try_from(section.len()).unwrap()));
        bytes.extend(section);
    }
    bytes
}

/// A number as the binary format writes it.
fn leb(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// The component that wraps a core module, as the host makes it when it loads one.
pub fn encoded(module: &[u8]) -> Vec<u8> {
    wit_component::ComponentEncoder::default()
        .module(module)
        .unwrap()
        .encode()
        .unwrap()
}

/// Bytes as a string of the text format.
pub fn escaped(bytes: &[u8]) -> String {
    repeated(bytes, |byte| format!("\\{byte:02x}"))
}

/// A text for each, one after another.
pub fn repeated<T>(all: impl IntoIterator<Item = T>, text: impl FnMut(T) -> String) -> String {
    all.into_iter().map(text).collect::<Vec<_>>().concat()
}
