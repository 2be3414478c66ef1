//! Guests that sleep, leave, hoard what the host gives them, and try what was not granted.

use harness::{hostile::Parts, interfaces::Packages};

use super::{Hostile, hostile};

/// Cases of `wasi:sockets/network.error-code`.
const ACCESS_DENIED: u8 = 1;
const PERMANENT_RESOLVER_FAILURE: u8 = 20;

/// A handler that sleeps in this way.
fn sleeps(instructions: &str) -> Vec<u8> {
    Parts::handle(&format!("{instructions} (global.get $ok)"))
        .clocks()
        .wasm()
}

/// A handler that exits through preview 1.
fn exits(code: u32) -> Vec<u8> {
    Parts::handle(&format!("(call $proc_exit (i32.const {code})) unreachable"))
        .preview1("proc_exit", "i32")
        .wasm()
}

/// A handler that exits through WASI 0.2, well or badly.
fn exits_directly(bad: u32) -> Vec<u8> {
    Parts::handle(&format!("(call $exit (i32.const {bad})) unreachable"))
        .import("wasi:cli/exit@0.2.0", "exit", "$exit", "(param i32)")
        .wasm()
}

/// A handler with a random generator: `$random`, number of bytes and address of the answer.
fn draws(instructions: &str) -> Vec<u8> {
    Parts::handle(&format!("{instructions} (global.get $ok)"))
        .import(
            "wasi:random/random@0.2.0",
            "get-random-bytes",
            "$random",
            "(param i64 i32)",
        )
        .wasm()
}

/// A handler that rejects unless the byte at 4096 says that there was an error, and the one at 4100 that it was `code`.
fn denied(parts: Parts, code: u8, instructions: &str) -> Vec<u8> {
    Parts {
        handle: format!(
            "{instructions}
            (if (i32.and (i32.eq (i32.load8_u (i32.const 4096)) (i32.const 1)) (i32.eq (i32.load8_u (i32.const 4100)) (i32.const {code})))
                (then (return (global.get $ok))))
            (call $fail (i32.const 2) (i32.const 272) (i32.const 7) (i32.const 0))"
        ),
        ..parts
    }
    .wasm()
}

/// A handler that does something with its key-value store again and again, a million times: `$note` notes the value of a key, and
/// `$swap` replaces the last one that was noted. A refusal is the reason of a reject. The key is `k`, and has a value of 1 MiB.
fn compares(again: &str, reason: &'static str) -> Hostile {
    const STORE: &str = "wasi:keyvalue/store@0.2.0-draft2";
    const ATOMICS: &str = "wasi:keyvalue/atomics@0.2.0-draft2";
    let imports = format!(
        r#"(import "{STORE}" "open" (func $open (param i32 i32 i32)))
        (import "{STORE}" "[method]bucket.set" (func $set (param i32 i32 i32 i32 i32 i32)))
        (import "{ATOMICS}" "[static]cas.new" (func $raw-note (param i32 i32 i32 i32)))
        (import "{ATOMICS}" "swap" (func $raw-swap (param i32 i32 i32 i32)))
        (func $note (param $key-len i32)
            (call $raw-note (i32.load (i32.const 4)) (i32.const 512) (local.get $key-len) (i32.const 384)))
        (func $swap
            (call $raw-swap (i32.load (i32.const 388)) (i32.const 4096) (i32.const 1048576) (i32.const 384))
            ;; The error of the store is behind one tag more.
            (if (i32.load8_u (i32.const 384)) (then (memory.copy (i32.const 388) (i32.const 392) (i32.const 12)))))"#
    );
    let handle = format!(
        "(local $n i32)
        (drop (memory.grow (i32.const 32)))
        (i32.store8 (i32.const 512) (i32.const 107))
        (call $open (i32.const 0) (i32.const 0) (i32.const 0))
        (call $set (i32.load (i32.const 4)) (i32.const 512) (i32.const 1) (i32.const 4096) (i32.const 1048576) (i32.const 384))
        (loop $again
            {again}
            (if (i32.load8_u (i32.const 384)) (then
                (return (call $fail (i32.const 2) (i32.load (i32.const 392)) (i32.load (i32.const 396)) (i32.const 0)))))
            (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000000))))
        (global.get $ok)"
    );
    let wasm = Packages::with(ATOMICS).handler(&[STORE, ATOMICS], &imports, &handle);
    Hostile::rejects(wasm, reason).with(|policy| policy.grants.keyvalue = true)
}

fn network() -> Parts {
    let tcp = "wasi:sockets/tcp@0.2.0";
    let address = "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)";
    Parts::handle("")
        .import(
            "wasi:sockets/instance-network@0.2.0",
            "instance-network",
            "$network",
            "(result i32)",
        )
        .import(
            "wasi:sockets/tcp-create-socket@0.2.0",
            "create-tcp-socket",
            "$tcp",
            "(param i32 i32)",
        )
        .import(tcp, "[method]tcp-socket.start-bind", "$bind", address)
        .import(tcp, "[method]tcp-socket.start-connect", "$connect", address)
        .import(
            "wasi:sockets/udp-create-socket@0.2.0",
            "create-udp-socket",
            "$udp",
            "(param i32 i32)",
        )
        .import(
            "wasi:sockets/ip-name-lookup@0.2.0",
            "resolve-addresses",
            "$resolve",
            "(param i32 i32 i32 i32)",
        )
}

hostile! {
    noting_a_large_value_a_million_times_is_refused: compares("(call $note (i32.const 1))", "(limits.keyvalue-bytes)");
    noting_a_key_without_a_value_a_million_times_is_refused: compares("(call $note (i32.const 2))", "1000 values are noted");
    replacing_a_large_value_a_million_times_is_refused: compares(
        "(call $note (i32.const 1)) (if (i32.eqz (i32.load8_u (i32.const 384))) (then (call $swap)))",
        "(limits.keyvalue-bytes)",
    );
    sleeping_as_long_as_a_clock_can_count_ends_at_the_timeout: Hostile::endless(sleeps("(call $block (call $after (i64.const -1)))"));
    sleeping_until_the_end_of_time_ends_at_the_timeout: Hostile::endless(sleeps("(call $block (call $at (i64.const -1)))"));
    sleeping_an_hour_ends_at_the_timeout: Hostile::endless(sleeps("(call $block (call $after (i64.const 3600000000000)))"));
    sleeping_no_time_again_and_again_ends_at_the_timeout: Hostile::endless(sleeps(
        "(local $p i32) (loop $again
            (local.set $p (call $after (i64.const 0))) (call $block (local.get $p)) (call $forget (local.get $p)) (br $again))",
    ));
    asking_for_the_time_again_and_again_ends_at_the_timeout: Hostile::endless(sleeps("(loop $again (drop (call $now)) (br $again))"));
    asking_whether_it_may_wake_again_and_again_ends_at_the_timeout: Hostile::endless(sleeps(
        "(local $p i32) (local.set $p (call $after (i64.const -1)))
        (loop $again (drop (call $ready (local.get $p))) (br $again))",
    ));
    sleeping_on_many_clocks_ends_at_the_timeout: Hostile::endless(sleeps(
        "(local $n i32)
        (loop $more
            (i32.store (i32.add (i32.const 4096) (i32.mul (local.get $n) (i32.const 4))) (call $after (i64.const -1)))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $more (i32.lt_u (local.get $n) (i32.const 1000))))
        (call $poll (i32.const 4096) (i32.const 1000) (i32.const 64))",
    ));
    sleeping_on_one_clock_a_million_times_is_a_trap: Hostile::traps(
        sleeps("(call $poll (i32.const 4096) (i32.const 50000000) (i32.const 64))"),
        "out of bounds",
    );
    sleeping_on_nothing_is_a_trap: Hostile::traps(sleeps("(call $poll (i32.const 4096) (i32.const 0) (i32.const 64))"), "empty poll list");
    sleeping_through_preview_1_ends_at_the_timeout: Hostile::endless(
        Parts::handle(
            "(i32.store (i32.const 4112) (i32.const 1)) (i64.store (i32.const 4120) (i64.const 3600000000000))
            (drop (call $poll_oneoff (i32.const 4096) (i32.const 8192) (i32.const 1) (i32.const 512))) (global.get $ok)",
        )
        .preview1("poll_oneoff", "i32 i32 i32 i32")
        .wasm(),
    );
    yielding_for_ever_ends_at_the_timeout: Hostile::endless(
        Parts::handle("(loop $again (drop (call $sched_yield)) (br $again)) unreachable").preview1("sched_yield", "").wasm(),
    );
    writing_for_ever_ends_at_the_timeout: Hostile::endless(
        Parts::handle(
            "(local $out i32) (local.set $out (call $stdout))
            (loop $again (call $write (local.get $out) (i32.const 4096) (i32.const 4096) (i32.const 64)) (br $again))
            unreachable",
        )
        .stdout()
        .wasm(),
    );
    writing_more_than_a_stream_permits_is_a_trap: Hostile::traps(
        Parts::handle("(call $write (call $stdout) (i32.const 65536) (i32.const 131072) (i32.const 64)) (global.get $ok)")
            .stdout()
            .wasm(),
        "4096",
    );
    reading_from_a_standard_input_that_nobody_feeds_ends_at_once: Hostile::harmless(
        Parts::handle(
            "(call $read (call $stdin) (i64.const -1) (i32.const 64))
            (if (i32.eqz (i32.load8_u (i32.const 64))) (then unreachable)) (global.get $ok)",
        )
        .import("wasi:cli/stdin@0.2.0", "get-stdin", "$stdin", "(result i32)")
        .import("wasi:io/streams@0.2.0", "[method]input-stream.blocking-read", "$read", "(param i32 i64 i32)")
        .wasm(),
    );
    hoarding_clocks_is_a_trap: Hostile::traps(sleeps("(loop $more (drop (call $after (i64.const -1))) (br $more))"), "table");
    hoarding_streams_is_a_trap: Hostile::traps(
        Parts::handle("(loop $more (drop (call $stdout)) (br $more)) unreachable").stdout().wasm(),
        "limit exceeded",
    );
    hoarding_what_hangs_on_a_stream_is_a_trap: Hostile::traps(
        Parts::handle(
            "(local $out i32) (local.set $out (call $stdout)) (loop $more (drop (call $watch (local.get $out))) (br $more)) unreachable",
        )
        .stdout()
        .wasm(),
        "limit exceeded",
    );
    a_handle_that_was_never_given_is_a_trap: Hostile::traps(sleeps("(call $block (i32.const 77))"), "unknown handle index 77");
    a_handle_that_was_given_back_is_a_trap: Hostile::traps(
        sleeps(
            "(local $p i32) (local.set $p (call $after (i64.const 0))) (call $forget (local.get $p)) (call $block (local.get $p))",
        ),
        "unknown handle index",
    );
    giving_a_handle_back_twice_is_a_trap: Hostile::traps(
        sleeps(
            "(local $p i32) (local.set $p (call $after (i64.const 0))) (call $forget (local.get $p)) (call $forget (local.get $p))",
        ),
        "unknown handle index",
    );
    a_handle_of_another_kind_is_a_trap: Hostile::traps(
        Parts::handle("(call $block (call $stdout)) (global.get $ok)").stdout().clocks().wasm(),
        "handle index",
    );
    giving_a_stream_back_before_what_hangs_on_it_is_a_trap: Hostile::traps(
        Parts::handle(
            "(local $out i32) (local.set $out (call $stdout)) (drop (call $watch (local.get $out)))
            (call $close (local.get $out)) (global.get $ok)",
        )
        .stdout()
        .import("wasi:io/streams@0.2.0", "[resource-drop]output-stream", "$close", "(param i32)")
        .wasm(),
        "children",
    );
    an_exit_with_0_is_a_failure: Hostile::traps(exits(0), "exited with code 0");
    an_exit_with_1_is_a_failure: Hostile::traps(exits(1), "exited with code 1");
    an_exit_with_2_is_a_failure: Hostile::traps(exits(2), "exited with code");
    an_exit_with_65_is_a_failure: Hostile::traps(exits(65), "exited with code");
    an_exit_with_75_is_a_failure: Hostile::traps(exits(75), "exited with code");
    an_exit_with_255_is_a_failure: Hostile::traps(exits(255), "exited with code");
    an_exit_well_through_wasi_0_2_is_a_failure: Hostile::traps(exits_directly(0), "exited with code 0");
    an_exit_badly_through_wasi_0_2_is_a_failure: Hostile::traps(exits_directly(1), "exited with code 1");
    drawing_more_random_bytes_than_it_may_is_a_trap: Hostile::traps(
        draws("(call $random (i64.const 1048577) (i32.const 64))"),
        "exceeds limit",
    );
    drawing_random_bytes_without_end_is_a_failure: Hostile::traps(
        draws("(loop $more (call $random (i64.const 1024) (i32.const 64)) (global.set $next (i32.const 65536)) (br $more))"),
        "limits.random-bytes",
    );
    drawing_more_random_bytes_than_it_may_in_two_calls_is_a_failure: Hostile::traps(
        draws("(call $random (i64.const 1048576) (i32.const 64)) (call $random (i64.const 1) (i32.const 64))"),
        "limits.random-bytes",
    );
    drawing_as_many_random_bytes_as_it_may_is_harmless: Hostile::harmless(
        draws("(call $random (i64.const 524288) (i32.const 64)) (call $random (i64.const 524288) (i32.const 64))"),
    );
    drawing_all_random_bytes_that_a_number_can_say_is_a_trap: Hostile::traps(
        draws("(call $random (i64.const -1) (i32.const 64))"),
        "exceeds limit",
    );
    connecting_anywhere_is_denied: Hostile::harmless(
        denied(
            network(),
            ACCESS_DENIED,
            "(call $tcp (i32.const 0) (i32.const 4096))
            (if (i32.eqz (i32.load8_u (i32.const 4096))) (then
                (call $connect (i32.load (i32.const 4100)) (call $network) (i32.const 0) (i32.const 80) (i32.const 127) (i32.const 0)
                    (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                    (i32.const 4096))
                (i32.store8 (i32.const 4100) (i32.load8_u (i32.const 4097)))))",
        ),
    );
    listening_anywhere_is_denied: Hostile::harmless(
        denied(
            network(),
            ACCESS_DENIED,
            "(call $tcp (i32.const 0) (i32.const 4096))
            (if (i32.eqz (i32.load8_u (i32.const 4096))) (then
                (call $bind (i32.load (i32.const 4100)) (call $network) (i32.const 0) (i32.const 8080) (i32.const 0) (i32.const 0)
                    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                    (i32.const 4096))
                (i32.store8 (i32.const 4100) (i32.load8_u (i32.const 4097)))))",
        ),
    );
    asking_for_a_name_is_denied: Hostile::harmless(
        denied(
            network().define(r#"(data (i32.const 8192) "localhost")"#),
            PERMANENT_RESOLVER_FAILURE,
            "(call $resolve (call $network) (i32.const 8192) (i32.const 9) (i32.const 4096))",
        ),
    );
    http_without_a_grant_is_refused_at_load: Hostile::refused(
        Parts::handle("(drop (call $fields)) (global.get $ok)")
            .import("wasi:http/types@0.2.0", "[constructor]fields", "$fields", "(result i32)")
            .wasm(),
        "wasi:http",
    );
}
