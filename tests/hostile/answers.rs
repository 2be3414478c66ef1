//! Guests whose answers and requests are not what the contract says: lengths, addresses, texts, cases, reentrancy.

use harness::{
    guests::batch_handler,
    hostile::{Parts, escaped},
};
use sandhog_queue::FailureKind;

use super::{Expect, Hostile, hostile};

/// A handler that rejects with a reason of these bytes.
fn reason(bytes: &[u8]) -> Vec<u8> {
    let data = escaped(bytes);
    Parts::handle(&format!(
        "(call $fail (i32.const 2) (i32.const 4096) (i32.const {}) (i32.const 0))",
        bytes.len()
    ))
    .define(&format!("(data (i32.const 4096) \"{data}\")"))
    .wasm()
}

/// A handler that rejects with a reason at this address, of this length.
fn reason_at(address: &str, length: &str) -> Vec<u8> {
    Parts::handle(&format!(
        "(call $fail (i32.const 2) (i32.const {address}) (i32.const {length}) (i32.const 0))"
    ))
    .wasm()
}

/// A handler that answers with its memory at this address.
fn answer_at(address: &str) -> Vec<u8> {
    Parts::handle(&format!("(i32.const {address})")).wasm()
}

/// A handler that sends with these arguments: queue, body, attributes (address and length each).
fn send(arguments: &str) -> Vec<u8> {
    Parts::handle(&format!("(call $send {arguments}) (global.get $ok)"))
        .sends()
        .wasm()
}

/// A batch handler that answers with a list at this address, of this length.
fn list(address: &str, length: &str) -> Vec<u8> {
    batch_handler(&format!(
        "(i32.store (i32.const 16) (i32.const {address})) (i32.store (i32.const 20) (i32.const {length})) (i32.const 16)"
    ))
}

/// A batch handler whose list of a thousand failures has one and the same text of 512 KiB a thousand times.
fn overlapping() -> Vec<u8> {
    batch_handler(
        "(local $at i32)
        (memory.fill (i32.const 262144) (i32.const 97) (i32.const 524288))
        (local.set $at (i32.const 4096))
        (loop $next
            (i32.store8 (local.get $at) (i32.const 1))
            (i32.store (i32.add (local.get $at) (i32.const 8)) (i32.const 262144))
            (i32.store (i32.add (local.get $at) (i32.const 12)) (i32.const 524288))
            (local.set $at (i32.add (local.get $at) (i32.const 20)))
            (br_if $next (i32.lt_u (local.get $at) (i32.const 24096))))
        (i32.store (i32.const 16) (i32.const 4096)) (i32.store (i32.const 20) (i32.const 1000)) (i32.const 16)",
    )
}

hostile! {
    an_answer_behind_the_end_of_memory_is_a_trap: Hostile::traps(answer_at("0x7fff0000"), "out of bounds");
    an_answer_across_the_end_of_memory_is_a_trap: Hostile::traps(answer_at("262136"), "out of bounds");
    an_answer_at_the_end_of_the_address_space_is_a_trap: Hostile::traps(answer_at("-4"), "out of bounds");
    an_answer_at_a_crooked_address_is_a_trap: Hostile::traps(answer_at("18"), "align");
    an_answer_of_an_unknown_case_is_a_trap: Hostile::traps(
        Parts::handle("(i32.store8 (i32.const 32) (i32.const 2)) (i32.const 32)").wasm(),
        "discriminant",
    );
    a_failure_of_an_unknown_kind_is_a_trap: Hostile::traps(
        Parts::handle("(call $fail (i32.const 255) (i32.const 272) (i32.const 7) (i32.const 0))").wasm(),
        "discriminant",
    );
    a_reason_with_a_lying_length_is_a_trap: Hostile::traps(reason_at("272", "0x7fffffff"), "out of bounds");
    a_reason_that_wraps_around_is_a_trap: Hostile::traps(reason_at("0xfffffff0", "0x20"), "out of bounds");
    a_reason_of_all_bits_is_a_trap: Hostile::traps(reason_at("-1", "-1"), "out of bounds");
    a_reason_that_is_no_utf_8_is_a_trap: Hostile::traps(reason(b"\xff\xfe"), "utf-8");
    a_reason_with_a_surrogate_is_a_trap: Hostile::traps(reason(b"\xed\xa0\x80"), "utf-8");
    a_reason_with_an_overlong_character_is_a_trap: Hostile::traps(reason(b"\xc0\xaf"), "utf-8");
    a_reason_that_ends_within_a_character_is_a_trap: Hostile::traps(reason(b"ab\xe2\x82"), "utf-8");
    a_reason_with_control_characters_is_escaped: Hostile::rejects(reason(b"\0a\x1b[2J\r\n\rb"), "\\u{0}a\\u{1b}[2J\n\\rb");
    a_reason_that_reads_backwards_is_escaped: Hostile::rejects(reason("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    an_empty_reason_is_a_reason: Hostile::rejects(reason_at("0", "0"), "");
    a_huge_reason_is_cut: Hostile::rejects(
        Parts::handle(
            "(memory.fill (i32.const 65536) (i32.const 97) (i32.const 8388608))
            (call $fail (i32.const 2) (i32.const 65536) (i32.const 8388608) (i32.const 0))",
        )
        .pages(256)
        .wasm(),
        "aaaa…",
    );
    a_reason_larger_than_a_host_call_may_copy_is_a_failure: Hostile::traps(
        Parts::handle(
            "(memory.fill (i32.const 65536) (i32.const 97) (i32.const 33554432))
            (call $fail (i32.const 2) (i32.const 65536) (i32.const 33554432) (i32.const 0))",
        )
        .pages(1024)
        .wasm(),
        "fuel",
    );
    an_endless_list_of_answers_is_a_trap: Hostile::traps(list("1024", "-1"), "out of bounds");
    a_list_of_answers_that_wraps_around_is_a_trap: Hostile::traps(list("0", "0x0ccccccd"), "out of bounds");
    a_list_of_answers_at_a_crooked_address_is_a_trap: Hostile::traps(list("1025", "1"), "align");
    a_thousand_answers_for_one_message_are_a_failure: Hostile {
        expect: Expect::Fails(FailureKind::WrongAnswer, "1000 results for 1 messages"),
        ..Hostile::harmless(list("1024", "1000"))
    };
    a_thousand_answers_that_share_one_huge_text_are_a_failure: Hostile::traps(overlapping(), "fuel");
    an_allocator_that_answers_behind_the_end_of_memory_is_a_trap: Hostile::traps(
        Parts::handle("(global.get $ok)").allocate("(i32.const 0x7fff0000)").wasm(),
        "realloc",
    );
    an_allocator_that_answers_with_a_crooked_address_is_a_trap: Hostile::traps(
        // The only thing in a message that needs to be aligned is its list of attributes, which is empty here; an answer
        // of the host is returned in memory that the guest itself points to.
        Parts::handle("(call $send (i32.const 256) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 1)) (global.get $ok)")
            .sends()
            .wasm(),
        "align",
    );
    an_allocator_that_answers_with_the_same_address_harms_itself_only: Hostile::harmless(
        Parts::handle("(global.get $ok)").allocate("(i32.const 4096)").wasm(),
    );
    an_allocator_that_calls_the_host_is_a_trap: Hostile::traps(
        Parts::handle("(global.get $ok)")
            .sends()
            .allocate(
                "(call $send (i32.const 256) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
                (i32.const 4096)",
            )
            .wasm(),
        "cannot leave component instance",
    );
    an_allocator_that_traps_is_a_trap: Hostile::traps(
        Parts::handle("(global.get $ok)").allocate("unreachable").wasm(),
        "unreachable",
    );
    an_allocator_that_runs_the_handler_is_a_trap: Hostile::traps(
        Parts::handle("(drop (call $again (i32.const 1))) (global.get $ok)")
            .define(
                "(func $again (param i32) (result i32) (call $handle (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0)
                    (i32.const 0) (i32.const 0)))",
            )
            .allocate("(call $again (i32.const 0))")
            .wasm(),
        "stack",
    );
    a_send_of_a_body_with_a_lying_length_is_a_trap: Hostile::traps(
        send("(i32.const 256) (i32.const 3) (i32.const 0) (i32.const 0x7fffffff) (i32.const 0) (i32.const 0)"),
        "out of bounds",
    );
    a_send_with_a_queue_at_the_end_of_the_address_space_is_a_trap: Hostile::traps(
        send("(i32.const -2) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)"),
        "out of bounds",
    );
    a_send_with_a_queue_that_is_no_utf_8_is_a_trap: Hostile::traps(
        Parts::handle(
            "(i32.store (i32.const 4096) (i32.const 0x80ff80ff))
            (call $send (i32.const 4096) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) (global.get $ok)",
        )
        .sends()
        .wasm(),
        "utf-8",
    );
    a_send_with_an_endless_list_of_attributes_is_a_trap: Hostile::traps(
        send("(i32.const 256) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4096) (i32.const -1)"),
        "out of bounds",
    );
    a_send_that_wants_its_answer_outside_of_memory_is_a_trap: Hostile::traps(
        Parts::handle(
            "(call $raw-send (i32.const 256) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0x7ffffff0)) (global.get $ok)",
        )
        .sends()
        .wasm(),
        "out of bounds",
    );
}
