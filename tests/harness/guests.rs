//! Guests in the text format, one behaviour each, so that promises are tested without a WebAssembly toolchain.
//!
//! Each is a core module for the world in `wit/`, which the host wraps into a component when it loads it. The
//! signatures below are the canonical ABI's flattening of `wit/handler.wit` and `wit/sender.wit`.

use std::sync::OnceLock;

use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::repository;

/// `handle`'s parameters: id, body, attributes, queue (pointer and length each), receive count, sent at, group (option).
const MESSAGE: &str = "(param $id i32) (param $id-len i32) (param $body i32) (param $body-len i32) (param $attributes i32) \
    (param $attributes-len i32) (param $queue i32) (param $queue-len i32) (param $receive-count i32) (param $sent-at i64) \
    (param $grouped i32) (param $group i32) (param $group-len i32)";

/// A handler whose `handle` has the given instructions, which leave the address of a result on the stack.
///
/// `$ok` is a global with the address of a success; `$fail` makes a failure: kind (0 retry, 1 retry-after, 2
/// reject), reason (address and length), seconds. `$send` sends the body on to queue `out` in the message's group.
/// `$starts-with` compares the first byte of the body.
pub fn handler(handle: &str) -> Vec<u8> {
    handler_with(handle, "", 16)
}

/// A handler with further definitions and a number of memory pages to start with.
pub fn handler_with(handle: &str, definitions: &str, pages: u32) -> Vec<u8> {
    let text = format!(
        r#"(module
        (import "sandhog:worker/sender@0.1.0" "send" (func $raw-send
            (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
        (memory (export "memory") {pages})
        (global $ok i32 (i32.const 16))
        (global $next (mut i32) (i32.const 65536))
        (data (i32.const 256) "out")
        (data (i32.const 272) "because")
        (func (export "cabi_realloc") (param $old i32) (param $old-len i32) (param $align i32) (param $len i32) (result i32)
            (local $at i32)
            (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
            (global.set $next (i32.add (local.get $at) (local.get $len)))
            (block $enough
                (loop $more
                    (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
                    (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))
                    unreachable))
            (local.get $at))
        (func $fail (param $kind i32) (param $reason i32) (param $reason-len i32) (param $seconds i32) (result i32)
            (i32.store8 (i32.const 32) (i32.const 1))
            (i32.store8 (i32.const 36) (local.get $kind))
            (i32.store (i32.const 40) (local.get $reason))
            (i32.store (i32.const 44) (local.get $reason-len))
            (i32.store (i32.const 48) (local.get $seconds))
            (i32.const 32))
        (func $send (param $body i32) (param $body-len i32) (param $grouped i32) (param $group i32) (param $group-len i32)
            (call $raw-send (i32.const 256) (i32.const 3) (local.get $body) (local.get $body-len) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (local.get $grouped) (local.get $group) (local.get $group-len)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 128))
            (if (i32.load8_u (i32.const 128)) (then unreachable)))
        {definitions}
        (func $handle (export "sandhog:worker/handler@0.1.0#handle") {MESSAGE} (result i32)
            {handle}))"#
    );
    embed(&text, "worker")
}

/// A batch handler whose `handle-batch` gets the messages' address and number and leaves the address of a list of
/// results (20 bytes each) on the stack.
pub fn batch_handler(handle: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
        (memory (export "memory") 16)
        (global $next (mut i32) (i32.const 65536))
        (func (export "cabi_realloc") (param $old i32) (param $old-len i32) (param $align i32) (param $len i32) (result i32)
            (local $at i32)
            (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
            (global.set $next (i32.add (local.get $at) (local.get $len)))
            (local.get $at))
        (func (export "sandhog:worker/batch-handler@0.1.0#handle-batch") (param $messages i32) (param $count i32) (result i32)
            {handle}))"#
    );
    embed(&text, "batch-worker")
}

/// Turns the text of a core module into a module that says which world it is for.
pub fn embed(text: &str, world: &str) -> Vec<u8> {
    static WIT: OnceLock<(Resolve, wit_parser::PackageId)> = OnceLock::new();
    let (resolve, package) = WIT.get_or_init(|| {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(repository().join("wit")).unwrap();
        (resolve, package)
    });
    let world = resolve.select_world(&[*package], Some(world)).unwrap();
    let mut module = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).unwrap();
    module
}

/// Succeeds and does nothing else.
pub fn no_op() -> Vec<u8> {
    handler("(global.get $ok)")
}

/// Sends the body on to queue `out`, in the message's group.
pub fn forward() -> Vec<u8> {
    handler(&format!("{FORWARD} (global.get $ok)"))
}

/// The instructions that send the body on.
pub const FORWARD: &str = "(call $send (local.get $body) (local.get $body-len) (local.get $grouped) (local.get $group) (local.get $group-len))";

/// The body's first byte is `b'x'`: instructions for a condition.
pub fn body_starts_with(first: char) -> String {
    format!(
        "(i32.and (i32.ne (local.get $body-len) (i32.const 0)) (i32.eq (i32.load8_u (local.get $body)) (i32.const {})))",
        u32::from(first)
    )
}
