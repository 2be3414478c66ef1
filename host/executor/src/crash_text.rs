//! What programs print when they break: the reason and the stack in the words of their language.
//!
//! Pure functions over text. A dump begins with a line that its language prints for a crash and, as good as never, for anything
//! else. A text that is no dump has a last line, and these functions say which lines tell nobody anything.

use std::mem;

/// The reason and the stack that a dump tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CrashText {
    pub(crate) reason: String,
    pub(crate) stack: String,
}

/// Reads the lines of a dump.
type Reader = fn(&[&str]) -> CrashText;

/// How the first line of a dump begins, and what reads the dump. The longer of two such beginnings comes first.
const DUMPS: &[(&str, Reader)] = &[
    ("thread ", thread),
    ("panic: ", go),
    ("fatal error: ", go),
    (TRACEBACK, python),
    ("  + Exception Group Traceback", exception_group),
    ("Fatal Python error: ", first_line),
    ("Assertion failed: ", first_line),
    ("abort: ", |lines| managed("abort: ", lines)),
    ("libc++abi: ", libcxx),
    ("terminate called after throwing an instance of ", libstdcxx),
    ("Unhandled exception. ", |lines| managed("Unhandled exception. ", lines)),
    ("Unhandled exception:", |lines| managed("Unhandled exception:", lines)),
    ("Exception in thread ", java),
    ("Uncaught (in promise) ", |lines| {
        managed("Uncaught (in promise) ", lines)
    }),
    ("Uncaught ", |lines| managed("Uncaught ", lines)),
    ("Fatal error: exception ", |lines| {
        managed("Fatal error: exception ", lines)
    }),
    ("Fatal error: ", first_line),
    ("fatal runtime error: ", first_line),
    ("memory allocation of ", first_line),
];

const TRACEBACK: &str = "Traceback (most recent call last):";
const GROUP: &str = "Exception Group Traceback";
const DIRECT_CAUSE: &str = "The above exception was the direct cause of the following exception:";
const CONTEXT: &str = "During handling of the above exception, another exception occurred:";
const RUST_PANIC: &str = " panicked at ";
const ZIG_PANIC: &str = " panic: ";
const RUST_STACK: &str = "stack backtrace:";

/// Returns whether a line is the first one of a dump.
pub(crate) fn begins_dump(line: &[u8]) -> bool {
    let begin = |prefix: &str| line.starts_with(prefix.as_bytes());
    let Some((prefix, _)) = DUMPS.iter().find(|(prefix, _)| begin(prefix)) else {
        return false;
    };
    *prefix != "thread " || {
        let line = String::from_utf8_lossy(line);
        line.contains(RUST_PANIC) || line.contains(ZIG_PANIC)
    }
}

/// Reads a dump, which begins with a line for which [`begins_dump`] is true.
pub(crate) fn read_dump(text: &str) -> CrashText {
    let lines: Vec<_> = text.trim().lines().filter(|line| !is_advice(line)).collect();
    let first = lines.first().copied().unwrap_or_default();
    let reader = DUMPS
        .iter()
        .find(|(prefix, _)| first.trim_start().starts_with(prefix.trim_start()));
    match reader {
        Some((_, reader)) => reader(&lines),
        None => first_line(&lines),
    }
}

/// Returns whether a line is advice of a toolchain to whoever runs the program in a shell.
pub(crate) fn is_advice(line: &str) -> bool {
    line.starts_with("note: ") && line.contains("RUST_BACKTRACE")
}

/// Returns whether a line, as the last one, does not say why a program failed: it is blank, advice, or part of a stack.
pub(crate) fn says_nothing(line: &str) -> bool {
    let text = line.trim();
    text.is_empty()
        || is_advice(text)
        || text.starts_with("exit status ")
        || (text.starts_with("goroutine ") && text.ends_with(':'))
        || (line.starts_with([' ', '\t']) && is_frame(text))
}

/// A frame as JavaScript, Java and .NET print it, or the place of a frame of Go.
fn is_frame(text: &str) -> bool {
    text.starts_with("at ") || text.starts_with("... ") || (text.contains(".go:") && text.contains(" +0x"))
}

fn first_line(lines: &[&str]) -> CrashText {
    let (first, rest) = lines.split_first().unwrap_or((&"", &[]));
    of_lines(&[first], rest)
}

fn of_lines(reason: &[&str], stack: &[&str]) -> CrashText {
    CrashText {
        reason: reason.join("\n").trim().to_owned(),
        stack: stack.join("\n"),
    }
}

/// Splits lines before the first one for which `is_stack` is true.
fn split<'l, 't>(lines: &'l [&'t str], is_stack: impl Fn(&str) -> bool) -> (&'l [&'t str], &'l [&'t str]) {
    let end = lines.iter().position(|line| is_stack(line)).unwrap_or(lines.len());
    lines.split_at(end)
}

/// Rust: `thread 'main' (1) panicked at src/main.rs:5:3:`, and the text below. Zig: `thread 1 panic: text`.
fn thread(lines: &[&str]) -> CrashText {
    let (first, rest) = lines.split_first().unwrap_or((&"", &[]));
    let Some((_, place)) = first.split_once(RUST_PANIC) else {
        let text = first.split_once(ZIG_PANIC).map_or(*first, |(_, text)| text);
        return of_lines(&[text], rest);
    };
    let (text, stack) = split(rest, |line| line == RUST_STACK || line.starts_with("note: "));
    if let Some(crash) = quick_js(text) {
        return crash;
    }
    let stack: Vec<_> = stack.iter().filter(|line| **line != RUST_STACK).copied().collect();
    // Rust before 1.73 printed the text in the first line: `panicked at 'text', src/main.rs:5:3`.
    let old = place.strip_prefix('\'').and_then(|place| place.rsplit_once("', "));
    let (place, text) = match old {
        Some((text, place)) => (place, vec![text]),
        None => (place.trim_end_matches(':'), text.to_vec()),
    };
    let (first, more) = text.split_first().unwrap_or((&"it panicked", &[]));
    let first = format!("{first} at {place}");
    let reason: Vec<_> = [first.as_str()].into_iter().chain(more.iter().copied()).collect();
    of_lines(&reason, &stack)
}

/// The runtime of componentize-qjs, which is written in Rust, panics with the exception of the JavaScript in it.
fn quick_js(lines: &[&str]) -> Option<CrashText> {
    let text = lines.join("\n");
    let (_, exception) = text.split_once("Exception { message: Some(\"")?;
    let (message, rest) = debugged(exception);
    let stack = rest.split_once("stack: Some(\"").map(|(_, stack)| debugged(stack).0);
    Some(CrashText {
        reason: message.trim().to_owned(),
        stack: stack.unwrap_or_default(),
    })
}

/// Reads a text in the form of Rust's `Debug`, up to the quotation mark that ends it; and what is behind.
fn debugged(quoted: &str) -> (String, &str) {
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (text, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => match chars.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, other)) => text.push(other),
                None => {}
            },
            c => text.push(c),
        }
    }
    (text, "")
}

/// Go: `panic: text`, a blank line, and the goroutines. Zig without threads begins in the same way.
fn go(lines: &[&str]) -> CrashText {
    let is_stack = |line: &str| {
        line.is_empty() || line.starts_with("goroutine ") || line.starts_with("[signal ") || line.contains(": 0x")
    };
    let (first, rest) = lines.split_first().unwrap_or((&"", &[]));
    let (more, stack) = split(rest, is_stack);
    let reason: Vec<_> = [*first].into_iter().chain(more.iter().copied()).collect();
    let stack: Vec<_> = stack
        .iter()
        .filter(|line| !line.starts_with("exit status "))
        .copied()
        .collect();
    of_lines(&reason, &stack)
}

/// Python: tracebacks, each with its exception below, the one that ended the program last.
fn python(lines: &[&str]) -> CrashText {
    let mut exceptions: Vec<Vec<&str>> = Vec::new();
    // Whether the exception before was the direct cause.
    let mut is_caused = false;
    let mut in_frames = false;
    let mut message_at = lines.len();
    for (at, line) in lines.iter().copied().enumerate() {
        match line {
            TRACEBACK => {
                // An exception that came up while another was handled is no consequence of it.
                if !mem::take(&mut is_caused) {
                    exceptions.clear();
                }
                exceptions.push(Vec::new());
                in_frames = true;
            }
            DIRECT_CAUSE => is_caused = true,
            CONTEXT => is_caused = false,
            _ if in_frames && (line.is_empty() || line.starts_with(' ')) => {}
            _ => {
                if mem::take(&mut in_frames) {
                    message_at = at;
                }
                if let Some(message) = exceptions.last_mut() {
                    message.push(line);
                }
            }
        }
    }
    let mut texts = exceptions
        .iter()
        .rev()
        .map(|message| message.join("\n").trim().to_owned());
    let reason = texts.next().unwrap_or_default();
    let mut crash = of_lines(&[], lines.get(..message_at).unwrap_or(lines));
    crash.reason = texts.fold(reason, |reason, cause| format!("{reason}; caused by {cause}"));
    crash
}

/// Python: a group of exceptions, whose lines have a margin.
fn exception_group(lines: &[&str]) -> CrashText {
    let message = |line: &&str| {
        let text = line.trim_start().strip_prefix("| ")?;
        (!text.starts_with(' ') && !text.contains(GROUP) && !text.is_empty()).then(|| text.to_owned())
    };
    CrashText {
        reason: lines.iter().find_map(message).unwrap_or_default(),
        stack: lines.join("\n"),
    }
}

/// `libc++abi: terminating due to uncaught exception of type std::runtime_error: text`.
fn libcxx(lines: &[&str]) -> CrashText {
    let mut crash = first_line(lines);
    let told = crash.reason.trim_start_matches("libc++abi: ");
    let told = told.split_once(" of type ").map_or(told, |(_, told)| told);
    crash.reason = told.to_owned();
    crash
}

/// `terminate called after throwing an instance of 'std::runtime_error'`, and `  what():  text` below.
fn libstdcxx(lines: &[&str]) -> CrashText {
    let (first, rest) = lines.split_first().unwrap_or((&"", &[]));
    let name = first.split('\'').nth(1).unwrap_or(first);
    let told = |line: &&str| line.trim().starts_with("what():");
    let what = rest.iter().find_map(|line| line.trim().strip_prefix("what():"));
    let others: Vec<_> = rest.iter().copied().filter(|line| !told(line)).collect();
    CrashText {
        reason: what.map_or_else(|| name.to_owned(), |what| format!("{name}: {}", what.trim())),
        stack: others.join("\n"),
    }
}

/// `Exception in thread "main" java.lang.Error: text`, and frames below.
fn java(lines: &[&str]) -> CrashText {
    let first = lines.first().copied().unwrap_or_default();
    let name = first.splitn(3, '"').nth(2).map_or(0, |rest| first.len() - rest.len());
    managed(first.get(..name).unwrap_or_default(), lines)
}

/// An exception behind `prefix`, and frames and causes below, as .NET, Java, JavaScript and others print them.
fn managed(prefix: &str, lines: &[&str]) -> CrashText {
    let cause = |line: &str| {
        let cause = line
            .trim()
            .strip_prefix("---> ")
            .or_else(|| line.strip_prefix("Caused by: "));
        cause.map(str::to_owned)
    };
    let is_stack = |line: &str| cause(line).is_some() || line.starts_with('#') || is_frame(line.trim_start());
    let (reason, stack) = split(lines, is_stack);
    let mut crash = of_lines(reason, stack);
    let mut reason = crash
        .reason
        .strip_prefix(prefix.trim_end())
        .unwrap_or(&crash.reason)
        .trim()
        .to_owned();
    for cause in stack.iter().filter_map(|line| cause(line)) {
        reason = format!("{reason}; caused by {cause}");
    }
    crash.reason = reason;
    crash
}

#[cfg(test)]
mod tests;
