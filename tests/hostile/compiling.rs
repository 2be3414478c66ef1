//! Guests whose shape is the attack: small files that are hard to check, to compile or to link. A refusal would be as good, but
//! what the compiler can take it should.

use std::fmt::Write as _;

use harness::hostile::{Parts, repeated};

use super::{Hostile, hostile};

/// A harmless handler with further definitions.
fn shaped(definitions: &str) -> Vec<u8> {
    Parts::handle("(global.get $ok)").define(definitions).wasm()
}

/// A module whose instances are named after each other in ever longer names.
fn long_names() -> String {
    let mut text = String::new();
    for number in 0..200 {
        write!(
            text,
            "(func (@name \"{}\") (export \"{}\"))",
            "n".repeat(number * 50),
            "e".repeat(number * 50 + 1)
        )
        .unwrap();
    }
    text
}

hostile! {
    twenty_thousand_functions_are_compiled: Hostile::harmless(shaped(&repeated(0..20_000, |_| "(func)".to_owned())));
    fifty_thousand_locals_are_refused: Hostile::refused(
        shaped(&format!("(func (local {}))", "v128 ".repeat(50_001))),
        "local variables",
    );
    ten_thousand_nested_blocks_are_compiled: Hostile::harmless(shaped(&format!(
        "(func {} {})",
        "block ".repeat(10_000),
        "end ".repeat(10_000)
    )));
    three_thousand_nested_loops_are_compiled: Hostile::harmless(shaped(&format!(
        "(func {} {})",
        "loop ".repeat(3000),
        "end ".repeat(3000)
    )));
    a_deep_expression_is_compiled: Hostile::harmless(shaped(&format!(
        "(func (result i32) i32.const 1 {})",
        "i32.const 1 i32.add ".repeat(20_000)
    )));
    a_deep_stack_of_values_is_compiled: Hostile::harmless(shaped(&format!(
        "(func (result i32) {} {})",
        "i32.const 1 ".repeat(20_000),
        "i32.add ".repeat(19_999)
    )));
    a_thousand_parameters_are_compiled: Hostile::harmless(shaped(&format!("(func (param {}))", "i64 ".repeat(1000))));
    a_thousand_results_are_compiled: Hostile::harmless(shaped(&format!(
        "(func (result {}) {})",
        "i64 ".repeat(1000),
        "i64.const 1 ".repeat(1000)
    )));
    ten_thousand_globals_are_compiled: Hostile::harmless(shaped(&repeated(0..10_000, |_| {
        "(global (mut v128) (v128.const i64x2 1 1))".to_owned()
    })));
    ten_thousand_types_are_compiled: Hostile::harmless(shaped(&repeated(0..10_000_u32, |number| {
        format!("(type (func (param {})))", "i32 i64 ".repeat(usize::try_from(number % 50).unwrap()))
    })));
    ten_thousand_pieces_of_data_are_compiled: Hostile::harmless(shaped(&repeated(0..10_000, |number| {
        format!("(data (i32.const {}) \"x\")", 4096 + number)
    })));
    data_outside_of_memory_is_refused_at_load: Hostile::refused(shaped(r#"(data (i32.const 0x7fffffff) "x")"#), "out of bounds");
    elements_outside_of_a_table_are_refused_at_load: Hostile::refused(
        shaped("(table $t 1 funcref) (elem (table $t) (i32.const 7) func $handle)"),
        "out of bounds",
    );
    endless_names_are_compiled: Hostile::harmless(shaped(&long_names()));
}
