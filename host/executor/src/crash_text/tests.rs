//! The dumps of many languages, as their programs print them.

use super::*;

fn check(dump: &str, reason: &str, stack: &str) {
    assert!(
        begins_dump(dump.trim_start_matches('\n').lines().next().unwrap().as_bytes()),
        "{dump}"
    );
    let expected = CrashText {
        reason: reason.to_owned(),
        stack: stack.to_owned(),
    };
    assert_eq!(read_dump(dump), expected);
}

#[test]
fn a_panic_of_rust_is_its_text_and_its_place() {
    check(
        "\nthread 'main' (1) panicked at src/main.rs:5:3:\nno such order\n\
        note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
        "no such order at src/main.rs:5:3",
        "",
    );
    check(
        "thread '<unnamed>' panicked at src/lib.rs:7:9:\nassertion `left == right` failed\n  left: 1\n right: 2\n\
        stack backtrace:\n   0: handler::handle\n   1: main\nnote: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.\n",
        "assertion `left == right` failed at src/lib.rs:7:9\n  left: 1\n right: 2",
        "   0: handler::handle\n   1: main",
    );
    check(
        "thread 'main' panicked at 'it's late', src/main.rs:5:3\n",
        "it's late at src/main.rs:5:3",
        "",
    );
    check(
        "memory allocation of 1073741824 bytes failed\n",
        "memory allocation of 1073741824 bytes failed",
        "",
    );
}

#[test]
fn a_panic_of_the_engine_of_javascript_is_the_exception_in_it() {
    check(
        "\nthread '<unnamed>' (1) panicked at crates/runtime/src/interpreter.rs:51:31:\n\
        Failed to call 'handle': Value(Exception(\n\
        Exception { message: Some(\"no \\\"items\\\"\"), stack: Some(\"    at price (orders.js:4:5)\\n    at handle (orders.js:9:1)\\n\") })\n)\n\
        note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
        "no \"items\"",
        "    at price (orders.js:4:5)\n    at handle (orders.js:9:1)\n",
    );
    let cut = read_dump("thread '<unnamed>' panicked at interpreter.rs:1:1:\nException { message: Some(\"no \\");
    assert_eq!(cut.reason, "no");
}

#[test]
fn a_panic_of_go_is_its_text_and_its_goroutines() {
    check(
        "panic: runtime error: index out of range [5] with length 3\n\ngoroutine 1 [running]:\nmain.total(...)\n\t/src/main.go:12\n\
        main.main()\n\t/src/main.go:7 +0x5\nexit status 2\n",
        "panic: runtime error: index out of range [5] with length 3",
        "\ngoroutine 1 [running]:\nmain.total(...)\n\t/src/main.go:12\nmain.main()\n\t/src/main.go:7 +0x5",
    );
    check(
        "panic: first [recovered]\n\tpanic: second\n\ngoroutine 1 [running]:\nmain.main()\n",
        "panic: first [recovered]\n\tpanic: second",
        "\ngoroutine 1 [running]:\nmain.main()",
    );
    check(
        "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [select (no cases)]:\nmain.main()\n",
        "fatal error: all goroutines are asleep - deadlock!",
        "\ngoroutine 1 [select (no cases)]:\nmain.main()",
    );
    check(
        "panic: runtime error: invalid memory address or nil pointer dereference\n[signal SIGSEGV: segmentation violation]\n\ngoroutine 1:\n",
        "panic: runtime error: invalid memory address or nil pointer dereference",
        "[signal SIGSEGV: segmentation violation]\n\ngoroutine 1:",
    );
}

#[test]
fn a_traceback_of_python_is_its_last_exception_and_its_direct_causes() {
    check(
        "Traceback (most recent call last):\n  File \"app.py\", line 3, in handle\n    int(\"x\")\n    ~~~^^^^^\nValueError: invalid literal\n",
        "ValueError: invalid literal",
        "Traceback (most recent call last):\n  File \"app.py\", line 3, in handle\n    int(\"x\")\n    ~~~^^^^^",
    );
    check(
        "Traceback (most recent call last):\n  File \"app.py\", line 3\nKeyError: 'id'\n\n\
        The above exception was the direct cause of the following exception:\n\n\
        Traceback (most recent call last):\n  File \"app.py\", line 5\nOrderError: no id\n  and no date\n",
        "OrderError: no id\n  and no date; caused by KeyError: 'id'",
        "Traceback (most recent call last):\n  File \"app.py\", line 3\nKeyError: 'id'\n\n\
        The above exception was the direct cause of the following exception:\n\n\
        Traceback (most recent call last):\n  File \"app.py\", line 5",
    );
    let dump = format!(
        "{TRACEBACK}\n  File \"a.py\", line 1\nKeyError: 1\n\n{CONTEXT}\n\n{TRACEBACK}\n  File \"a.py\", line 2\nTypeError: 2"
    );
    assert_eq!(read_dump(&dump).reason, "TypeError: 2");
    let group = "  + Exception Group Traceback (most recent call last):\n  |   File \"a.py\", line 1, in <module>\n  |     raise g\n\
        \x20 | ExceptionGroup: two (2 sub-exceptions)\n  +-+---------------- 1 ----------------\n    | ValueError: 1\n";
    assert!(begins_dump(group.lines().next().unwrap().as_bytes()));
    assert_eq!(read_dump(group).reason, "ExceptionGroup: two (2 sub-exceptions)");
}

#[test]
fn an_assertion_of_c_is_its_line() {
    check(
        "Assertion failed: count > 0 (main.c: main: 7)\n",
        "Assertion failed: count > 0 (main.c: main: 7)",
        "",
    );
}

#[test]
fn a_panic_of_zig_is_its_text() {
    check(
        "thread 1 panic: integer overflow\n/src/main.zig:3:5: 0x2f in main (main.zig)\n",
        "integer overflow",
        "/src/main.zig:3:5: 0x2f in main (main.zig)",
    );
    check(
        "panic: integer overflow\n???:?:?: 0x2f in ??? (???)\n",
        "panic: integer overflow",
        "???:?:?: 0x2f in ??? (???)",
    );
}

#[test]
fn an_exception_of_another_language_is_its_type_and_text() {
    check(
        "abort: no items in assembly/index.ts(12:3)\n",
        "no items in assembly/index.ts(12:3)",
        "",
    );
    check(
        "libc++abi: terminating due to uncaught exception of type std::runtime_error: no items\n",
        "std::runtime_error: no items",
        "",
    );
    check(
        "libc++abi: Pure virtual function called!\n",
        "Pure virtual function called!",
        "",
    );
    check(
        "terminate called after throwing an instance of 'std::runtime_error'\n  what():  no items\n",
        "std::runtime_error: no items",
        "",
    );
    check(
        "Unhandled exception. System.InvalidOperationException: no items\n ---> System.FormatException: bad date\n   at Orders.Parse()\n   at Orders.Main()\n",
        "System.InvalidOperationException: no items; caused by System.FormatException: bad date",
        " ---> System.FormatException: bad date\n   at Orders.Parse()\n   at Orders.Main()",
    );
    check(
        "Exception in thread \"main\" java.lang.IllegalStateException: no items\n\tat Orders.main(Orders.java:3)\nCaused by: java.io.IOException: gone\n\t... 1 more\n",
        "java.lang.IllegalStateException: no items; caused by java.io.IOException: gone",
        "\tat Orders.main(Orders.java:3)\nCaused by: java.io.IOException: gone\n\t... 1 more",
    );
    check(
        "Unhandled exception:\nBad state: No element\n#0      main (file:///a.dart:2:3)\n",
        "Bad state: No element",
        "#0      main (file:///a.dart:2:3)",
    );
    check(
        "Uncaught TypeError: x is not a function\n    at handle (orders.js:4:5)\n",
        "TypeError: x is not a function",
        "    at handle (orders.js:4:5)",
    );
    check(
        "Fatal error: exception Failure(\"no items\")\n",
        "Failure(\"no items\")",
        "",
    );
}

#[test]
fn what_a_guest_logs_is_no_dump() {
    for line in [
        "",
        "thread 7 waits",
        "order 7: panic: at the disco",
        "error: no",
        "a Traceback",
        " panic: x",
        "panicked",
    ] {
        assert!(!begins_dump(line.as_bytes()), "{line}");
    }
    assert!(!begins_dump(b"\xff\xfe"));
}

#[test]
fn the_last_line_that_says_something_is_no_advice_and_no_frame() {
    for line in [
        "",
        "  \t",
        "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
        "exit status 2",
        "goroutine 1 [running]:",
        "    at handle (orders.js:4:5)",
        "\t/src/main.go:7 +0x5",
    ] {
        assert!(says_nothing(line), "{line}");
    }
    for line in [
        "no items",
        "at noon",
        "  indented",
        "note: the disk is full",
        "goroutine leak",
    ] {
        assert!(!says_nothing(line), "{line}");
    }
}

#[test]
fn a_dump_that_ends_anywhere_is_read() {
    let whole = "Traceback (most recent call last):\n  File \"a.py\"\nKeyError: 'ü'\n\nThe above exception was the direct cause of the following exception:\n\n";
    for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
        drop(read_dump(&whole[..end]));
    }
    for (prefix, _) in DUMPS {
        drop(read_dump(prefix));
    }
}
