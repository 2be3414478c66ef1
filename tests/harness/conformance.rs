//! The handlers in `tests/conformance`, one in each language: each does what the body of its message says.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use sandhog_demo::guests::target;

use crate::{
    repository,
    toolchains::{self, copied, run, rust_shell, shell},
};

/// A handler in one language, built.
#[derive(Debug)]
pub struct Guest {
    pub name: &'static str,
    /// The file.
    pub wasm: PathBuf,
    pub is_command: bool,
}

fn source(language: &str) -> PathBuf {
    repository().join("tests/conformance").join(language)
}

/// Builds in a directory of its own, so that nothing is left beside the sources.
fn built(name: &'static str, build: impl FnOnce(&Path, &Path)) -> Guest {
    let directory = target().join("toolchains/conformance").join(name);
    fs::create_dir_all(&directory).unwrap();
    let wasm = directory.join("guest.wasm");
    build(&directory, &wasm);
    Guest {
        name,
        is_command: name.starts_with("command"),
        wasm,
    }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

pub fn rust() -> Guest {
    rust_from("rust", "conformance.wasm")
}

pub fn rust_batch() -> Guest {
    rust_from("rust-batch", "conformance_batch.wasm")
}

fn rust_from(name: &'static str, file: &str) -> Guest {
    built(name, |_, wasm| rust_for("wasm32-unknown-unknown", name, file, wasm))
}

fn rust_for(platform: &str, name: &str, file: &str, wasm: &Path) {
    let line = format!("cargo build --release --quiet --target {platform}");
    let target = target().join("guests");
    run(rust_shell(&source(name), &line).env("CARGO_TARGET_DIR", &target));
    fs::copy(target.join(platform).join("release").join(file), wasm).unwrap();
}

/// Reaches out over HTTP, into the key-value store and for configuration.
pub fn rust_reaching() -> Guest {
    rust_from("rust-reaching", "conformance_reaching.wasm")
}

/// The same for the platform with clocks, random numbers, an environment and directories.
pub fn rust_wasip2_reaching() -> Guest {
    built("rust-wasip2-reaching", |_, wasm| {
        rust_for("wasm32-wasip2", "rust-reaching", "conformance_reaching.wasm", wasm);
    })
}

pub fn javascript() -> Guest {
    javascript_from("javascript")
}

pub fn javascript_batch() -> Guest {
    javascript_from("javascript-batch")
}

pub fn javascript_reaching() -> Guest {
    javascript_from("javascript-reaching")
}

fn javascript_from(name: &'static str) -> Guest {
    built(name, |_, wasm| {
        let sdk = repository().join("guest-sdk/js/bin/sandhog-build.js");
        let line = format!(
            "node {} {} -o {}",
            quoted(&sdk),
            quoted(&source(name).join("handler.js")),
            quoted(wasm)
        );
        run(&mut shell(toolchains::node(), &line));
    })
}

pub fn python() -> Guest {
    python_from("python")
}

pub fn python_batch() -> Guest {
    python_from("python-batch")
}

pub fn python_reaching() -> Guest {
    python_from("python-reaching")
}

/// Installs the SDK into the environment of the tools, once.
fn python_sdk() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        // pip writes beside what it installs.
        let copy = tempfile::tempdir().unwrap();
        let sdk = copy.path().join("sdk");
        copied(&repository().join("guest-sdk/python"), &sdk);
        let pip = format!("pip install --quiet --disable-pip-version-check {}", quoted(&sdk));
        run(&mut shell(copy.path(), &pip));
    });
}

fn python_from(name: &'static str) -> Guest {
    python_sdk();
    built(name, |directory, wasm| {
        fs::copy(source(name).join("handler.py"), directory.join("handler.py")).unwrap();
        let line = format!(
            "{} -m sandhog build handler.py -o {}",
            quoted(&toolchains::python().join("python")),
            quoted(wasm)
        );
        run(&mut shell(directory, &line));
    })
}

pub fn go() -> Guest {
    go_from("go")
}

pub fn go_batch() -> Guest {
    go_from("go-batch")
}

pub fn go_reaching() -> Guest {
    go_from("go-reaching")
}

fn go_from(name: &'static str) -> Guest {
    built(name, |_, wasm| {
        let line = format!("go build -buildmode=c-shared -o {} .", quoted(wasm));
        run(shell(&source(name), &line).env("GOOS", "wasip1").env("GOARCH", "wasm"));
    })
}

pub fn c() -> Guest {
    compiled("c", "-mexec-model=reactor", "handler.c")
}

pub fn c_batch() -> Guest {
    compiled("c-batch", "-mexec-model=reactor", "handler.c")
}

pub fn c_reaching() -> Guest {
    compiled("c-reaching", "-mexec-model=reactor", "handler.c")
}

pub fn command_c() -> Guest {
    compiled("command-c", "", "main.c")
}

fn compiled(name: &'static str, flags: &str, file: &str) -> Guest {
    built(name, |directory, wasm| {
        let line = format!(
            "python3 -m ziglang cc -target wasm32-wasi -std=c11 -Os -Wl,--strip-all -Wl,-z,stack-size=131072 {flags} -I{} -o {} {}",
            quoted(&repository().join("guest-sdk/c")),
            quoted(wasm),
            quoted(&source(name).join(file)),
        );
        run(&mut shell(directory, &line));
    })
}
