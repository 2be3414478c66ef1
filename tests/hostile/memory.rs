//! Guests that take memory, tables and instances until there are none.

use harness::{
    guests::{batch_handler, handler_with},
    hostile::{Parts, encoded, with_instances},
};
use sandhog_queue::FailureKind;

use super::{Expect, Hostile, hostile};

const TRAP: &str = "unreachable";

/// A batch handler with that many further instances of a module.
fn bomb(module: &str, count: u32) -> Vec<u8> {
    let innocent = encoded(&batch_handler("(i32.const 16)"));
    with_instances(&innocent, 1, module, count)
}

hostile! {
    growing_memory_page_by_page_ends_at_its_limit: Hostile::exhausts(
        Parts::handle(&format!(
            "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) {TRAP}"
        ))
        .wasm(),
    );
    growing_and_touching_memory_ends_at_its_limit: Hostile::exhausts(
        Parts::handle(&format!(
            "(local $at i32) (loop $more
                (local.set $at (memory.grow (i32.const 1)))
                (if (i32.ne (local.get $at) (i32.const -1)) (then
                    (memory.fill (i32.mul (local.get $at) (i32.const 65536)) (i32.const 7) (i32.const 65536))
                    (br $more))))
            {TRAP}"
        ))
        .wasm(),
    );
    asking_for_all_memory_at_once_is_refused: Hostile::exhausts(
        Parts::handle(&format!("(drop (memory.grow (i32.const 65535))) {TRAP}")).wasm(),
    );
    several_memories_share_one_limit: Hostile::exhausts(
        Parts::handle(&format!(
            "(loop $more (br_if $more (i32.or
                (i32.ne (memory.grow $a (i32.const 16)) (i32.const -1))
                (i32.ne (memory.grow $b (i32.const 16)) (i32.const -1)))))
            {TRAP}"
        ))
        .define("(memory $a 1) (memory $b 1)")
        .wasm(),
    );
    asking_again_and_again_for_refused_memory_ends_at_the_timeout: Hostile::endless(
        Parts::handle("(loop $more (drop (memory.grow (i32.const 65535))) (br $more)) unreachable").wasm(),
    );
    growing_a_table_ends_at_its_limit: Hostile::exhausts(
        Parts::handle(&format!(
            "(loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 100)) (i32.const -1)))) {TRAP}"
        ))
        .define("(table $t 0 funcref)")
        .wasm(),
    );
    an_allocator_that_takes_all_memory_ends_at_its_limit: Hostile::exhausts(
        Parts::handle("(global.get $ok)")
            .allocate(&format!(
                "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) {TRAP}"
            ))
            .wasm(),
    );
    a_table_that_starts_past_its_limit_is_refused_at_load: Hostile::refused(
        Parts::handle("(global.get $ok)").define("(table $t 50000 funcref)").wasm(),
        "table",
    );
    a_memory_that_starts_past_its_limit_is_refused_at_load: Hostile::refused(
        handler_with("(global.get $ok)", "", 2049),
        "memory",
    );
    a_table_that_starts_past_every_limit_is_refused_at_load: Hostile::refused(
        Parts::handle("(global.get $ok)").define("(table $t 4294967295 funcref)").wasm(),
        "table",
    );
    a_bomb_of_instances_is_refused_at_load: Hostile::refused(bomb("(module)", 10_000), "instances");
    a_small_bomb_of_instances_is_refused_at_load: Hostile::refused(bomb("(module)", 100), "instances");
    a_bomb_of_memories_is_refused_at_load: Hostile::refused(bomb("(module (memory 1))", 100), "memories");
    a_bomb_of_tables_is_refused_at_load: Hostile::refused(bomb("(module (table 1 funcref))", 100), "tables");
    some_instances_are_harmless: Hostile {
        expect: Expect::Fails(FailureKind::WrongAnswer, "0 results for 1 messages"),
        ..Hostile::harmless(bomb("(module (memory 1))", 20))
    };
}
