//! Guests that send too much, to where they may not, and with attributes that no queue takes.

use std::fmt::Write as _;

use harness::hostile::{Parts, escaped};

use super::{Hostile, hostile};

/// A handler that sends to queue `out` until it is refused, and rejects with what it was told: a body of that many bytes.
fn sends(bytes: u32) -> Vec<u8> {
    Parts::handle(&format!(
        "(loop $more
            (call $send (i32.const 256) (i32.const 3) (i32.const 65536) (i32.const {bytes}) (i32.const 0) (i32.const 0))
            (br_if $more (i32.eqz (i32.load8_u (i32.const 128)))))
        (call $refused)"
    ))
    .sends()
    .pages(64)
    .wasm()
}

/// A handler that sends to this queue, and rejects with what it was told.
fn sends_to(queue: &[u8]) -> Vec<u8> {
    let data = escaped(queue);
    let length = queue.len();
    Parts::handle(&format!(
        "(call $send (i32.const 4096) (i32.const {length}) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
        (if (result i32) (i32.load8_u (i32.const 128)) (then (call $refused)) (else (global.get $ok)))"
    ))
    .define(&format!("(data (i32.const 4096) \"{data}\")"))
    .sends()
    .wasm()
}

/// A handler that sends with that many attributes, of the names and texts given (the last one goes on for the rest), and
/// rejects with what it was told.
fn attributes(count: u32, given: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut data = String::new();
    let mut texts = 4096;
    let mut fill = String::new();
    for index in 0..count {
        let (name, value) = given.get(usize::try_from(index).unwrap()).or(given.last()).unwrap();
        if usize::try_from(index).unwrap() < given.len() {
            for text in [name, value] {
                write!(data, "(data (i32.const {texts}) \"{}\") ", escaped(text)).unwrap();
                texts += u32::try_from(text.len()).unwrap();
            }
            let (value_at, value_len) = (texts - u32::try_from(value.len()).unwrap(), value.len());
            let (name_at, name_len) = (value_at - u32::try_from(name.len()).unwrap(), name.len());
            let at = 65536 + index * 20;
            write!(
                fill,
                "(i32.store (i32.const {at}) (i32.const {name_at})) (i32.store (i32.const {}) (i32.const {name_len}))
                (i32.store (i32.const {}) (i32.const 0))
                (i32.store (i32.const {}) (i32.const {value_at})) (i32.store (i32.const {}) (i32.const {value_len}))",
                at + 4,
                at + 8,
                at + 12,
                at + 16,
            )
            .unwrap();
        }
    }
    let last = 65536 + (u32::try_from(given.len()).unwrap() - 1) * 20;
    let rest = (count - u32::try_from(given.len()).unwrap()) * 20;
    Parts::handle(&format!(
        "{fill} (memory.copy (i32.const 1048576) (i32.const {last}) (i32.const 20))
        (local.set $id (i32.const 0))
        (block $end (loop $next
            (br_if $end (i32.ge_u (local.get $id) (i32.const {rest})))
            (memory.copy (i32.add (i32.const {}) (local.get $id)) (i32.const 1048576) (i32.const 20))
            (local.set $id (i32.add (local.get $id) (i32.const 20))) (br $next)))
        (call $send (i32.const 256) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 65536) (i32.const {count}))
        (if (result i32) (i32.load8_u (i32.const 128)) (then (call $refused)) (else (global.get $ok)))",
        last + 20,
    ))
    .define(&data)
    .sends()
    .pages(64)
    .wasm()
}

const GOOD: (&[u8], &[u8]) = (b"name", b"text");

hostile! {
    sending_without_end_is_limited: Hostile::rejects(sends(0), "as many messages as it may");
    sending_as_much_as_a_message_holds_without_end_is_limited: Hostile::rejects(sends(1 << 20), "as many bytes as it may");
    sending_more_than_a_message_holds_is_refused: Hostile::rejects(sends((1 << 20) + 1), "body");
    a_queue_that_was_not_granted_is_refused: Hostile::rejects(sends_to(b"invoices"), "queue \"invoices\" is not granted");
    a_queue_in_other_case_is_refused: Hostile::rejects(sends_to(b"OUT"), "is not granted");
    a_queue_without_a_name_is_refused: Hostile::rejects(sends_to(b""), "queue \"\" is not granted");
    a_queue_that_is_a_path_is_refused: Hostile::rejects(sends_to(b"../../etc/passwd"), "is not granted");
    a_queue_with_a_nul_is_refused: Hostile::rejects(sends_to(b"out\0"), "is not granted");
    a_queue_with_what_a_terminal_obeys_is_refused_and_escaped: Hostile::rejects(sends_to(b"\x1b[2Jout\n"), "\\u{1b}");
    a_queue_with_an_endless_name_is_refused_and_cut: Hostile::rejects(sends_to(&[b'a'; 10_000]), "aaaa…");
    the_dead_letters_of_a_queue_are_refused: Hostile::rejects(sends_to(b"out-dead"), "is not granted");
    ten_thousand_attributes_are_refused: Hostile::rejects(attributes(10_000, &[GOOD]), "attributes");
    two_attributes_of_one_name_are_refused: Hostile::rejects(attributes(2, &[GOOD]), "name");
    an_attribute_without_a_name_is_refused: Hostile::rejects(attributes(1, &[(b"", b"text")]), "name");
    an_attribute_with_a_nul_is_refused: Hostile::rejects(attributes(1, &[(b"na\0me", b"text")]), "name");
    an_attribute_with_an_endless_name_is_refused: Hostile::rejects(attributes(1, &[(&[b'a'; 10_000], b"text")]), "name");
    an_attribute_with_what_a_terminal_obeys_is_refused: Hostile::rejects(attributes(1, &[(b"\x1b[2J", b"text")]), "name");
}
