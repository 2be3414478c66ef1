//! Guests that compute for ever, too deep, or wrongly.

use harness::hostile::{Parts, repeated};

use super::{Hostile, hostile};

const SPIN: &str = "(loop $spin (br $spin))";

/// A handler with a function that it calls first.
fn calling(function: &str) -> Vec<u8> {
    Parts::handle("(call $bad) (global.get $ok)").define(function).wasm()
}

/// A handler of a table with 1000 elements, whose instructions run for ever.
fn with_table(instructions: &str) -> Vec<u8> {
    Parts::handle(&format!("(loop $again {instructions} (br $again)) unreachable"))
        .define("(table $t 1000 funcref) (elem $e func $handle)")
        .wasm()
}

/// A handler of 32 MiB whose instructions run for ever.
fn with_memory(instructions: &str) -> Vec<u8> {
    Parts::handle(&format!("(loop $again {instructions} (br $again)) unreachable"))
        .pages(512)
        .wasm()
}

/// A branch table of ten thousand targets, in a loop.
fn giant_branch_table() -> Vec<u8> {
    let targets = "$again ".repeat(10_000);
    Parts::handle(&format!(
        "(local $n i32) (loop $again
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_table {targets} (i32.rem_u (local.get $n) (i32.const 10000))))
        unreachable"
    ))
    .wasm()
}

/// A function with a thousand vectors on the stack, which calls itself.
fn big_frames() -> Vec<u8> {
    let keep = repeated(0..1000, |local| {
        format!("(local.set {local} (v128.const i64x2 {local} 1)) (call $keep (local.get {local})) ")
    });
    let locals = "v128 ".repeat(1000);
    calling(&format!(
        "(func $keep (param v128)) (func $bad (local {locals}) (call $bad) {keep})"
    ))
}

hostile! {
    spinning_in_the_handler_ends_at_the_timeout: Hostile::endless(Parts::handle(&format!("{SPIN} unreachable")).wasm());
    spinning_in_the_start_function_is_refused_at_load: {
        let wasm = Parts::handle("(global.get $ok)").define(&format!("(func $spin {SPIN}) (start $spin)")).wasm();
        Hostile { expect: super::Expect::Refused("timeout"), ..Hostile::endless(wasm) }
    };
    a_trap_in_the_start_function_is_refused_at_load: Hostile::refused(
        Parts::handle("(global.get $ok)").define("(func $trap unreachable) (start $trap)").wasm(),
        "unreachable",
    );
    spinning_in_the_allocator_ends_at_the_timeout: Hostile::endless(
        Parts::handle("(global.get $ok)").allocate(&format!("{SPIN} unreachable")).wasm(),
    );
    spinning_after_the_answer_ends_at_the_timeout: Hostile::endless(
        Parts::handle("(global.get $ok)")
            .define(&format!(
                r#"(func (export "cabi_post_sandhog:worker/handler@0.1.0#handle") (param i32) {SPIN})"#
            ))
            .wasm(),
    );
    a_trap_after_the_answer_is_a_failure: Hostile::traps(
        Parts::handle("(global.get $ok)")
            .define(r#"(func (export "cabi_post_sandhog:worker/handler@0.1.0#handle") (param i32) unreachable)"#)
            .wasm(),
        "unreachable",
    );
    a_loop_over_a_giant_branch_table_ends_at_the_timeout: Hostile::endless(giant_branch_table());
    endless_tail_calls_end_at_the_timeout: Hostile::endless(calling("(func $bad (return_call $bad))"));
    filling_32_mib_again_and_again_ends_at_the_timeout: Hostile::endless(with_memory(
        "(memory.fill (i32.const 0) (i32.const 1) (i32.const 33554432))",
    ));
    copying_32_mib_again_and_again_ends_at_the_timeout: Hostile::endless(with_memory(
        "(memory.copy (i32.const 8) (i32.const 0) (i32.const 33554424))",
    ));
    filling_a_table_again_and_again_ends_at_the_timeout: Hostile::endless(with_table(
        "(table.fill $t (i32.const 0) (ref.func $handle) (i32.const 1000))",
    ));
    copying_a_table_again_and_again_ends_at_the_timeout: Hostile::endless(with_table(
        "(table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 999))",
    ));
    initialising_a_table_again_and_again_ends_at_the_timeout: Hostile::endless(with_table(
        "(table.init $t $e (i32.const 7) (i32.const 0) (i32.const 1))",
    ));
    direct_recursion_is_a_trap: Hostile::traps(calling("(func $bad (call $bad) (call $bad))"), "stack");
    mutual_recursion_is_a_trap: Hostile::traps(
        calling("(func $bad (call $worse) (call $worse)) (func $worse (call $bad) (call $bad))"),
        "stack",
    );
    recursion_through_a_table_is_a_trap: Hostile::traps(
        calling(
            "(type $plain (func)) (table $t funcref (elem $bad))
            (func $bad (call_indirect $t (type $plain) (i32.const 0)) (call_indirect $t (type $plain) (i32.const 0)))",
        ),
        "stack",
    );
    recursion_with_big_frames_is_a_trap: Hostile::traps(big_frames(), "stack");
    an_unreachable_instruction_is_a_trap: Hostile::traps(Parts::handle("unreachable").wasm(), "unreachable");
    a_division_by_zero_is_a_trap: Hostile::traps(
        Parts::handle("(i32.div_u (i32.const 1) (i32.wrap_i64 (i64.and (local.get $sent-at) (i64.const 0))))").wasm(),
        "divide by zero",
    );
    a_division_that_overflows_is_a_trap: Hostile::traps(
        Parts::handle("(i32.div_s (i32.const 0x80000000) (i32.sub (i32.const 0) (local.get $receive-count)))").wasm(),
        "integer overflow",
    );
    converting_what_is_no_number_is_a_trap: Hostile::traps(
        Parts::handle("(i32.trunc_f64_s (f64.const nan))").wasm(),
        "invalid conversion",
    );
    reading_outside_of_memory_is_a_trap: Hostile::traps(
        Parts::handle("(i32.load offset=0xfffffff0 (i32.const 0x7fffffff))").wasm(),
        "out of bounds memory access",
    );
    writing_behind_the_end_of_memory_is_a_trap: Hostile::traps(
        Parts::handle("(i64.store (i32.const 262137) (i64.const 1)) (global.get $ok)").wasm(),
        "out of bounds memory access",
    );
    calling_outside_of_a_table_is_a_trap: Hostile::traps(
        calling("(type $plain (func)) (table $t 1 funcref) (func $bad (call_indirect $t (type $plain) (i32.const -1)))"),
        "table",
    );
    calling_an_empty_element_is_a_trap: Hostile::traps(
        calling("(type $plain (func)) (table $t 1 funcref) (func $bad (call_indirect $t (type $plain) (i32.const 0)))"),
        "uninitialized element",
    );
    an_indirect_call_of_the_wrong_type_is_a_trap: Hostile::traps(
        calling(
            "(type $plain (func)) (table $t funcref (elem $other)) (func $other (param i64))
            (func $bad (call_indirect $t (type $plain) (i32.const 0)))",
        ),
        "indirect call type mismatch",
    );
    memory_shared_between_threads_is_refused: Hostile::refused(
        calling("(memory $shared 1 1 shared) (func $bad)"),
        "shared",
    );
    memory_of_64_bits_is_refused: Hostile::refused(calling("(memory $wide i64 1) (func $bad)"), "compile it for wasm32");
    waiting_on_an_atomic_is_refused: Hostile::refused(
        calling("(func $bad (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1))))"),
        "threads",
    );
}
