//! The hosts that core modules are made for and that are not this one, by what the modules import; and what to compile with instead.

use wasmparser::{Parser, Payload};

/// A host, or the runtime of a language.
struct OtherHost {
    /// Whether an import, by its module and its name, is one of this host.
    has: fn(&str, &str) -> bool,
    advice: &'static str,
}

/// The first one of which a module has an import is the one that it was made for.
const HOSTS: &[OtherHost] = &[
    OtherHost {
        has: |from, _| {
            from == "wbg" || from.starts_with("__wbindgen_") || (from.starts_with("./") && from.ends_with("_bg.js"))
        },
        advice: "it was made for JavaScript by wasm-bindgen: compile a program for wasm32-wasip1, or a handler with the SDK, \
            without wasm-bindgen and wasm-pack; a feature of a dependency, such as js or wasmbind, can bring wasm-bindgen in",
    },
    OtherHost {
        has: |from, _| from == "gojs" || from == "go",
        advice: "it was made for JavaScript by Go: compile it with GOOS=wasip1 GOARCH=wasm, or with TinyGo's -target=wasip1",
    },
    OtherHost {
        has: |from, _| from == "rb-js-abi-host",
        advice: "this Ruby is a library for JavaScript: join it with a script to a program, as docs/reference/languages.md says",
    },
    OtherHost {
        has: |from, _| from == "dart2wasm",
        advice: "it was made for JavaScript by dart compile wasm, which makes no programs for WASI",
    },
    OtherHost {
        has: |from, _| from == "js_code",
        advice: "it was made for JavaScript by Kotlin: compile it for the target wasmWasi",
    },
    OtherHost {
        has: |from, _| from == "spectest" || from.starts_with("__moonbit_") || from == "moonbit:ffi",
        advice: "it was made for MoonBit's own runtime: make a component of it, with the bindings of wit-bindgen moonbit",
    },
    OtherHost {
        has: is_emscripten,
        advice: "it was made for JavaScript by Emscripten: compile it for WASI, with wasi-sdk or zig cc -target wasm32-wasi",
    },
    OtherHost {
        has: |from, _| from.starts_with("wasm:js-string") || from.starts_with("wasm:text-"),
        advice: "it uses strings of JavaScript: compile it for WASI, or without the builtins of JavaScript",
    },
    OtherHost {
        has: |from, name| from == "env" && ["abort", "seed", "trace", "console.log"].contains(&name),
        advice: "it was made for JavaScript, as AssemblyScript does by itself: compile it with asc --config \
            node_modules/@assemblyscript/wasi-shim/asconfig.json",
    },
    OtherHost {
        has: |from, _| from.starts_with("wasix_"),
        advice: "it was made for WASIX, which is more than WASI: compile it for wasm32-wasi",
    },
    OtherHost {
        has: |from, name| from == "wasi" && name == "thread-spawn",
        advice: "it starts threads, which an attempt does not have: compile it without them",
    },
    OtherHost {
        has: |from, _| from == "wasi_unstable",
        advice: "it was made for a WASI before preview 1: compile it with tools of today",
    },
    OtherHost {
        has: |from, _| from == "env",
        advice: "it imports functions from env, where nothing is: they were declared and not linked, or another host has them",
    },
];

/// Returns what to do with a module that imports what this host does not have, if that is known.
pub(super) fn advice(wasm: &[u8]) -> Option<&'static str> {
    let mut imports = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let Ok(Payload::ImportSection(section)) = payload else {
            continue;
        };
        imports.extend(section.into_imports().map_while(Result::ok));
    }
    let has = |host: &&OtherHost| imports.iter().any(|import| (host.has)(import.module, import.name));
    HOSTS.iter().find(has).map(|host| host.advice)
}

/// The JavaScript that Emscripten writes; with optimisation, the names of its module and its functions are letters.
fn is_emscripten(from: &str, name: &str) -> bool {
    const BEGINNINGS: [&str; 8] = [
        "emscripten_",
        "_emscripten_",
        "__syscall_",
        "invoke_",
        "_embind_",
        "__asyncjs",
        "__cxa_",
        "_abort_js",
    ];
    (from == "env" && BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))) || (from == "a" && name.len() < 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_imports_tells_for_whom_it_was_made() {
        let program = |imports: &[(&str, &str)]| {
            let imports = imports
                .iter()
                .map(|(from, name)| format!("(import {from:?} {name:?} (func))"));
            wat::parse_str(format!("(module {})", imports.collect::<String>())).unwrap()
        };
        let wasi = ("wasi_snapshot_preview1", "fd_write");
        for (import, part) in [
            (("wbg", "__wbg_log_1"), "wasm-bindgen"),
            (("__wbindgen_placeholder__", "__wbindgen_throw"), "wasm32-wasip1"),
            (("./orders_bg.js", "__wbindgen_throw"), "wasm-bindgen"),
            (("gojs", "runtime.wasmExit"), "GOOS=wasip1"),
            (("go", "debug"), "GOOS=wasip1"),
            (("env", "emscripten_resize_heap"), "Emscripten"),
            (("env", "__syscall_openat"), "zig cc -target wasm32-wasi"),
            (("a", "b"), "Emscripten"),
            (("rb-js-abi-host", "global-this: func()"), "Ruby"),
            (("dart2wasm", "_1"), "dart compile wasm"),
            (("js_code", "kotlin.captureStackTrace"), "wasmWasi"),
            (("spectest", "print_char"), "wit-bindgen moonbit"),
            (("wasm:js-string", "length"), "strings of JavaScript"),
            (("env", "abort"), "@assemblyscript/wasi-shim"),
            (("wasix_32v1", "proc_fork"), "WASIX"),
            (("wasi", "thread-spawn"), "threads"),
            (("wasi_unstable", "fd_write"), "preview 1"),
            (("env", "my_function"), "declared and not linked"),
        ] {
            let found = advice(&program(&[wasi, import]));
            assert!(found.is_some_and(|found| found.contains(part)), "{import:?}: {found:?}");
        }
        assert_eq!(advice(&program(&[wasi])), None);
        // Emscripten's modules have this import of AssemblyScript's, too.
        let found = advice(&program(&[("env", "abort"), ("env", "invoke_vii")])).unwrap();
        assert!(found.contains("Emscripten"), "{found}");
    }
}
