//! Guests that flood the log, or try to make it lie.

use harness::hostile::{Parts, escaped};
use sandhog_executor::{LogLine, policy::Limits};

use super::{Hostile, hostile};

/// A handler that writes `bytes` of a pattern, which is repeated over 64,000 bytes of memory, `times` times.
fn floods(pattern: &[u8], bytes: u32, times: u32) -> Vec<u8> {
    let data = escaped(pattern);
    let length = pattern.len();
    Parts::handle(&format!(
        "(local $n i32) (local.set $n (i32.const {length}))
        (loop $fill (memory.copy (i32.add (i32.const 131072) (local.get $n)) (i32.const 131072) (i32.const {length}))
            (local.set $n (i32.add (local.get $n) (i32.const {length})))
            (br_if $fill (i32.lt_u (local.get $n) (i32.const 64000))))
        (i32.store (i32.const 4096) (i32.const 131072)) (i32.store (i32.const 4100) (i32.const {bytes}))
        (local.set $n (i32.const 0))
        (loop $flood
            (if (call $fd_write (i32.const 1) (i32.const 4096) (i32.const 1) (i32.const 4104)) (then unreachable))
            (if (call $fd_write (i32.const 2) (i32.const 4096) (i32.const 1) (i32.const 4104)) (then unreachable))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $flood (i32.lt_u (local.get $n) (i32.const {times}))))
        (global.get $ok)"
    ))
    .define(&format!("(data (i32.const 131072) \"{data}\")"))
    .preview1("fd_write", "i32 i32 i32 i32")
    .pages(8)
    .wasm()
}

/// No record is too long or has anything that a terminal would obey, and all together cost what they may.
fn tame(lines: &[LogLine]) {
    let limits = Limits::default();
    let mut total = 0;
    for line in lines {
        let obeyed = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!line.text.contains(obeyed), "{line:?}");
        let length = u64::try_from(line.text.len()).unwrap();
        assert!(length <= limits.log_line_bytes + 16, "a line of {length} bytes");
        total += length;
    }
    assert!(
        !lines.is_empty() && total <= limits.log_bytes,
        "{} records of {total} bytes",
        lines.len()
    );
}

hostile! {
    a_line_without_an_end_is_cut: Hostile::harmless(floods(b"a", 64_000, 200)).prints(|lines| {
        tame(lines);
        assert_eq!(lines.len(), 2, "one line of each stream");
    });
    // What the adapter of preview 1 keeps begins where the first lines do, so each write brings some text.
    a_flood_of_empty_lines_is_not_logged: Hostile::harmless(floods(b"\n", 64_000, 50)).prints(|lines| {
        tame(lines);
        assert!(lines.len() <= 100, "{} records", lines.len());
    });
    a_flood_of_short_lines_is_cut: Hostile::harmless(floods(b"x\n", 64_000, 50)).prints(|lines| {
        tame(lines);
        assert!(lines.len() <= 4096, "{} records", lines.len());
    });
    a_flood_of_beginnings_of_dumps_is_cut: Hostile::harmless(floods(b"panic: x\n", 63_000, 50)).prints(tame);
    a_dump_that_has_no_end_is_cut: Hostile::harmless(floods(b"Traceback (most recent call last):\n  File\n", 63_000, 50)).prints(tame);
    control_characters_are_escaped: Hostile::harmless(floods(b"\x00\x07\x08\x7f\x0b\r\n", 63_000, 4)).prints(tame);
    sequences_that_a_terminal_obeys_are_escaped: Hostile::harmless(floods(b"\x1b[2J\x1b]0;owned\x07\n", 64_000, 4)).prints(tame);
    text_that_reads_backwards_is_escaped: Hostile::harmless(floods("ok\u{202e}ko\u{2066}\n".as_bytes(), 60_000, 4)).prints(tame);
    lines_that_are_no_utf_8_are_shown_as_such: Hostile::harmless(floods(b"\xff\xc0\xaf\xed\xa0\x80\n", 63_000, 4)).prints(|lines| {
        tame(lines);
        assert!(lines.iter().any(|line| line.text.contains('\u{fffd}')));
    });
    lines_that_look_like_lines_of_the_host_stay_one_line: Hostile::harmless(floods(b"x\r2026-01-01T00:00:00Z ERROR owned\n", 34, 1)).prints(|lines| {
        tame(lines);
        assert!(lines.iter().all(|line| line.text.starts_with("x\\r2026")), "{lines:?}");
    });
    writing_byte_by_byte_is_harmless: Hostile::harmless(floods(b"a", 1, 50_000)).prints(tame);
    writing_nothing_again_and_again_is_harmless: Hostile::harmless(floods(b"a", 0, 50_000)).prints(|lines| assert!(lines.is_empty()));
    a_panic_with_a_huge_message_is_a_trap_and_its_message_is_cut: Hostile::traps(
        Parts::handle(
            "(local $n i32) (memory.fill (i32.const 65536) (i32.const 112) (i32.const 4096))
            (loop $more
                (call $write (call $stdout) (i32.const 65536) (i32.const 4096) (i32.const 64))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $n) (i32.const 2500))))
            unreachable",
        )
        .stdout()
        .wasm(),
        "unreachable",
    )
    .with(|policy| policy.limits.handles = 4096)
    .prints(tame);
}
