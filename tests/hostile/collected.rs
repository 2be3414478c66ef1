//! Guests that misuse the collected heap, exceptions and tail calls.

use super::{Hostile, hostile};
use harness::{guests::handler, hostile::Parts};

/// A list whose elements carry a kilobyte each, and a pair of elements that point at each other.
const TYPES: &str = "
    (type $bytes (array (mut i8)))
    (type $node (struct (field $rest (mut (ref null $node))) (field (ref $bytes))))
    (global $kept (mut (ref null $node)) (ref.null $node))";
/// A kilobyte that nobody keeps.
const KILOBYTE: &str = "(array.new_default $bytes (i32.const 1024))";

fn collected(handle: &str) -> Parts {
    Parts::handle(handle).define(TYPES)
}

/// The old instructions for exceptions: `try` and `catch_all`, which the text format no longer has.
fn legacy_exceptions() -> Vec<u8> {
    let mut module = handler("(block (nop) (nop)) (i32.const 16)");
    let block = [0x02, 0x40, 0x01, 0x01, 0x0b];
    let at = module.windows(block.len()).position(|bytes| bytes == block).unwrap();
    module.splice(at..at + block.len(), [0x06, 0x40, 0x19, 0x01, 0x0b]);
    module
}

hostile! {
    hoarding_collected_objects_ends_at_the_limit_of_memory: Hostile::exhausts(
        collected(&format!(
            "(loop $more (global.set $kept (struct.new $node (global.get $kept) {KILOBYTE})) (br $more)) unreachable"
        ))
        .wasm(),
    );
    one_giant_collected_array_ends_at_the_limit_of_memory: Hostile::exhausts(
        collected("(drop (array.new_default $bytes (i32.const 0x7fff0000))) unreachable").wasm(),
    );
    collected_objects_and_memory_share_one_limit: Hostile::exhausts(
        collected(&format!(
            "(drop (memory.grow (i32.const 190)))
            (loop $more (global.set $kept (struct.new $node (global.get $kept) {KILOBYTE})) (br $more)) unreachable"
        ))
        .wasm(),
    );
    fifty_megabytes_of_garbage_fit_into_sixteen: Hostile::harmless(
        collected(&format!(
            "(local $left i32) (local $one (ref null $node))
            (local.set $left (i32.const 50000))
            (loop $more
                (local.set $one (struct.new $node (ref.null $node) {KILOBYTE}))
                (struct.set $node $rest (local.get $one) (local.get $one))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br_if $more (local.get $left)))
            (global.get $ok)"
        ))
        .wasm(),
    )
    .with(|policy| policy.limits.memory = 16 << 20);
    collecting_for_ever_ends_at_the_timeout: Hostile::endless(
        collected(&format!(
            "(local $left i32)
            (local.set $left (i32.const 5000))
            (loop $more
                (global.set $kept (struct.new $node (global.get $kept) {KILOBYTE}))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br_if $more (local.get $left)))
            (loop $garbage (drop {KILOBYTE}) (br $garbage)) unreachable"
        ))
        .wasm(),
    );
    an_exception_that_nobody_catches_is_a_trap: Hostile::traps(
        Parts::handle("(throw $wrong (i32.const 7))").define("(tag $wrong (param i32))").wasm(),
        "exception",
    );
    throwing_and_catching_for_ever_ends_at_the_timeout: Hostile::endless(
        Parts::handle(
            "(loop $more
                (block $caught (result i32) (try_table (catch $wrong $caught) (throw $wrong (i32.const 7))) (i32.const 0))
                drop
                (br $more))
            unreachable",
        )
        .define("(tag $wrong (param i32))")
        .wasm(),
    );
    hoarding_exceptions_ends_at_the_limit_of_memory: Hostile::exhausts(
        Parts::handle(
            "(loop $more
                (global.set $all (struct.new $caught (global.get $all)
                    (block $caught (result exnref)
                        (try_table (catch_all_ref $caught) (throw $wrong (i32.const 7)))
                        unreachable)))
                (br $more))
            unreachable",
        )
        .define(
            "(type $caught (struct (field (ref null $caught)) (field exnref)))
            (global $all (mut (ref null $caught)) (ref.null $caught)) (tag $wrong (param i32))",
        )
        .wasm(),
    );
    tail_calls_for_ever_end_at_the_timeout: Hostile::endless(
        Parts::handle("(return_call $again)")
            .define("(func $again (result i32) (return_call $again))")
            .wasm(),
    );
    casting_to_a_type_that_it_is_not_is_a_trap: Hostile::traps(
        collected(&format!("(drop (struct.get $node $rest (ref.cast (ref $node) {KILOBYTE}))) unreachable")).wasm(),
        "cast",
    );
    old_instructions_for_exceptions_are_refused_with_the_flag_to_use: Hostile::refused(
        legacy_exceptions(),
        "compile it with",
    );
}
