//! Guests in the text format, one behaviour each, so that promises are tested without a WebAssembly toolchain.
//!
//! Each is a core module for the world in `wit/`, which the host wraps into a component when it loads it. The
//! signatures below are the canonical ABI's flattening of `wit/handler.wit` and `wit/sender.wit`.

use std::sync::OnceLock;

use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::repository;

/// `handle`'s parameters: id, body, attributes, queue (pointer and length each), receive count, sent at, group (option).
pub const MESSAGE: &str = "(param $id i32) (param $id-len i32) (param $body i32) (param $body-len i32) (param $attributes i32) \
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
    let text = text_of_handler(handle, ("", definitions), pages);
    embed(&text, "worker")
}

/// A handler with further imports and definitions.
pub fn handler_importing(handle: &str, further: (&str, &str)) -> Vec<u8> {
    embed(&text_of_handler(handle, further, 16), "worker")
}

/// The import behind `$wait`.
pub(crate) const WAIT_IMPORT: &str =
    r#"(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))"#;
/// `$wait` waits for milliseconds, by a subscription of preview 1 to the monotonic clock, relative.
pub(crate) const WAIT: &str = "
    (func $wait (param $ms i32)
        (i32.store8 (i32.const 520) (i32.const 0))
        (i32.store (i32.const 528) (i32.const 1))
        (i64.store (i32.const 536) (i64.mul (i64.extend_i32_u (local.get $ms)) (i64.const 1000000)))
        (if (call $poll (i32.const 512) (i32.const 576) (i32.const 1) (i32.const 640)) (then unreachable)))";

/// A handler that does what the body says, character by character, each with the digits behind it; what it sends on goes
/// to the queue `to` (at most 16 bytes).
///
/// | command | what it does |
/// | --- | --- |
/// | `wN` | waits N ms, then goes on |
/// | `f` | sends the body on, then goes on |
/// | `?` | goes on at the first receive; at later ones sends the body on and succeeds |
/// | `aN` | fails with `retry-after`, N seconds |
/// | `b` | fails with `retry` |
/// | `j` | fails with `reject` |
/// | `t` `s` `m` | traps, spins, takes all memory that there is |
/// | `d` | succeeds |
/// | anything else | sends the body on and succeeds |
pub fn obedient(to: &str) -> Vec<u8> {
    let is = |command: char| format!("(i32.eq (local.get $c) (i32.const {}))", u32::from(command));
    let fail =
        |kind: u8| format!("(return (call $fail (i32.const {kind}) (i32.const 272) (i32.const 7) (local.get $n)))");
    let on = format!("{FORWARD} (return (global.get $ok))");
    let handle = format!(
        "(local $at i32) (local $c i32) (local $n i32) (local $digit i32)
        (loop $command
            (local.set $n (i32.const 0))
            (if (i32.ge_u (local.get $at) (local.get $body-len)) (then {on}))
            (local.set $c (i32.load8_u (i32.add (local.get $body) (local.get $at))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (if {first} (then
                (br_if $command (i32.eq (local.get $receive-count) (i32.const 1)))
                {on}))
            (block $end (loop $digits
                (br_if $end (i32.ge_u (local.get $at) (local.get $body-len)))
                (local.set $digit (i32.sub (i32.load8_u (i32.add (local.get $body) (local.get $at))) (i32.const 48)))
                (br_if $end (i32.ge_u (local.get $digit) (i32.const 10)))
                (local.set $n (i32.add (i32.mul (local.get $n) (i32.const 10)) (local.get $digit)))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br $digits)))
            (if {wait} (then (call $wait (local.get $n)) (br $command)))
            (if {forward} (then {FORWARD} (br $command)))
            (if {after} (then {retry_after}))
            (if {back} (then {retry}))
            (if {junk} (then {reject}))
            (if {trap} (then unreachable))
            (if {spin} (then (loop $spin (br $spin))))
            (if {memory} (then (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable))
            (if {done} (then (return (global.get $ok))))
            {on})
        unreachable",
        first = is('?'),
        wait = is('w'),
        forward = is('f'),
        after = is('a'),
        back = is('b'),
        junk = is('j'),
        trap = is('t'),
        spin = is('s'),
        memory = is('m'),
        done = is('d'),
        retry_after = fail(1),
        retry = fail(0),
        reject = fail(2),
    );
    let text = text_of_handler(&handle, (WAIT_IMPORT, WAIT), 16);
    let named = text.replace(r#""out")"#, &format!(r#""{to}")"#));
    let sized = named.replace(
        "(i32.const 256) (i32.const 3)",
        &format!("(i32.const 256) (i32.const {})", to.len()),
    );
    embed(&sized, "worker")
}

const SENDER: &str = r#"(import "sandhog:worker/sender@0.1.0" "send" (func $raw-send
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#;
const SEND: &str = "
    (func $send (param $body i32) (param $body-len i32) (param $grouped i32) (param $group i32) (param $group-len i32)
        (call $raw-send (i32.const 256) (i32.const 3) (local.get $body) (local.get $body-len) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (local.get $grouped) (local.get $group) (local.get $group-len)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 128))
        (if (i32.load8_u (i32.const 128)) (then unreachable)))";

/// The text of a handler with further imports and definitions.
pub(crate) fn text_of_handler(handle: &str, (imports, definitions): (&str, &str), pages: u32) -> String {
    // An import is a wish for a grant, so a guest that sends nothing has none.
    let sends = [handle, definitions]
        .iter()
        .any(|code| code.contains("$send") || code.contains("$raw-send"));
    let (sender, send) = if sends { (SENDER, SEND) } else { ("", "") };
    format!(
        r#"(module
        {imports}
        {sender}
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
        {send}
        {definitions}
        (func $handle (export "sandhog:worker/handler@0.1.0#handle") {MESSAGE} (result i32)
            {handle}))"#
    )
}

/// The text of a handler that says nothing about its world: sends the body on to queue `out` and succeeds.
pub fn undescribed_handler() -> Vec<u8> {
    wat::parse_str(text_of_handler(&format!("{FORWARD} (global.get $ok)"), ("", ""), 16)).unwrap()
}

/// A program of WASI preview 1 that obeys its standard input:
///
/// | input | what it does |
/// | --- | --- |
/// | digits, a space, text | prints the text to standard error and exits with that code |
/// | `>` and text | prints the text to standard output and returns |
/// | `v` | prints its variables to standard output, a NUL behind each, and returns |
/// | `*` | prints 64 KiB without a line end to standard output, for ever |
/// | `!` and text | prints the text to standard error and traps |
pub fn program() -> Vec<u8> {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ-sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 64)
        (global $len (mut i32) (i32.const 0))
        (func $read-all
            (loop $more
                (i32.store (i32.const 0) (i32.add (i32.const 1024) (global.get $len)))
                (i32.store (i32.const 4) (i32.const 65536))
                (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
                (global.set $len (i32.add (global.get $len) (i32.load (i32.const 8))))
                (br_if $more (i32.load (i32.const 8)))))
        (func $print (param $to i32) (param $at i32) (param $len i32)
            (loop $more
                (i32.store (i32.const 0) (local.get $at))
                (i32.store (i32.const 4) (local.get $len))
                (if (call $write (local.get $to) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
                (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
                (local.set $len (i32.sub (local.get $len) (i32.load (i32.const 8))))
                (br_if $more (local.get $len))))
        (func (export "_start") (local $c i32) (local $at i32) (local $code i32)
            (call $read-all)
            (local.set $c (i32.load8_u (i32.const 1024)))
            (if (i32.eq (local.get $c) (i32.const 33)) (then
                (if (i32.gt_u (global.get $len) (i32.const 1)) (then
                    (call $print (i32.const 2) (i32.const 1025) (i32.sub (global.get $len) (i32.const 1)))))
                unreachable))
            (if (i32.eq (local.get $c) (i32.const 62)) (then
                (call $print (i32.const 1) (i32.const 1025) (i32.sub (global.get $len) (i32.const 1)))
                (return)))
            (if (i32.eq (local.get $c) (i32.const 42)) (then
                (loop $for-ever
                    (call $print (i32.const 1) (i32.const 1024) (i32.const 65536))
                    (br $for-ever))))
            (if (i32.eq (local.get $c) (i32.const 118)) (then
                (drop (call $environ-sizes (i32.const 0) (i32.const 4)))
                (local.set $c (i32.load (i32.const 4)))
                (drop (call $environ (i32.const 65536) (i32.const 131072)))
                (call $print (i32.const 1) (i32.const 131072) (local.get $c))
                (return)))
            (local.set $at (i32.const 1024))
            (loop $digits
                (local.set $c (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
                (if (i32.lt_u (local.get $c) (i32.const 10)) (then
                    (local.set $code (i32.add (i32.mul (local.get $code) (i32.const 10)) (local.get $c)))
                    (local.set $at (i32.add (local.get $at) (i32.const 1)))
                    (br $digits))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (call $print (i32.const 2) (local.get $at)
                (i32.sub (i32.add (global.get $len) (i32.const 1024)) (local.get $at)))
            (call $exit (local.get $code))))"#;
    wat::parse_str(text).unwrap()
}

/// A batch handler whose `handle-batch` gets the messages' address and number and leaves the address of a list of
/// results (20 bytes each) on the stack.
pub fn batch_handler(handle: &str) -> Vec<u8> {
    batch_handler_importing(handle, ("", ""))
}

/// A batch handler with further imports and definitions.
pub fn batch_handler_importing(handle: &str, further: (&str, &str)) -> Vec<u8> {
    embed(&batch_text(handle, further), "batch-worker")
}

/// The text of a batch handler with further imports and definitions.
pub(crate) fn batch_text(handle: &str, (imports, definitions): (&str, &str)) -> String {
    format!(
        r#"(module
        {imports}
        (memory (export "memory") 16)
        (global $next (mut i32) (i32.const 65536))
        (func (export "cabi_realloc") (param $old i32) (param $old-len i32) (param $align i32) (param $len i32) (result i32)
            (local $at i32)
            (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
            (global.set $next (i32.add (local.get $at) (local.get $len)))
            (local.get $at))
        {definitions}
        (func (export "sandhog:worker/batch-handler@0.1.0#handle-batch") (param $messages i32) (param $count i32) (result i32)
            {handle}))"#
    )
}

/// A handler in a world of its own: `wit` has the packages beside `sandhog:worker` and a world `guest`; `imports` are the core
/// module's.
pub fn handler_in(wit: &str, imports: &str, handle: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_dir(repository().join("wit")).unwrap();
    let package = resolve.push_str("guest.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    let mut module = wat::parse_str(text_of_handler(handle, (imports, ""), 16)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

/// Turns the text of a core module into a module that says which world it is for.
pub fn embed(text: &str, world: &str) -> Vec<u8> {
    static WIT: OnceLock<(Resolve, wit_parser::PackageId)> = OnceLock::new();
    let (resolve, package) = WIT.get_or_init(|| {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(repository().join("wit")).unwrap();
        (resolve, package)
    });
    embed_in(text, (resolve, *package), world)
}

/// As [`embed`], for a world of another package.
pub(crate) fn embed_in(text: &str, (resolve, package): (&Resolve, wit_parser::PackageId), world: &str) -> Vec<u8> {
    let world = resolve.select_world(&[package], Some(world)).unwrap();
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

/// A component or module with the same meaning and other bytes for each number: nobody has compiled it before.
pub fn edited(wasm: &[u8], number: u32) -> Vec<u8> {
    let mut wasm = wasm.to_vec();
    // A custom section of nine bytes: a name of four, and four of content.
    wasm.extend(*b"\0\x09\x04edit");
    wasm.extend(number.to_le_bytes());
    wasm
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
