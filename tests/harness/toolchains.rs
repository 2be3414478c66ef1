//! The tools that build guests in other languages than Rust, from the package registries: Python's packages bring
//! componentize-py, Zig and Go, npm's bring the tools of JavaScript. Installed once, below the build directory.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use sandhog_demo::{guests, toolchain};

use crate::{announce::announced, repository};

/// Where the tools and what they cache are.
pub fn directory() -> PathBuf {
    guests::target().join("toolchains")
}

/// Where the pins are.
fn pins() -> PathBuf {
    repository().join("tests/toolchains")
}

/// Runs a command that has to succeed; what it printed is shown if it does not.
pub fn run(command: &mut Command) {
    try_run(command).unwrap_or_else(|why| {
        panic!(
            "{why}\nthe tests of other languages need python3, npm and make on the PATH; the README says how to run the rest"
        )
    });
}

/// The same, where the error is for somebody who can do without.
fn try_run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{command:?} did not start ({error})"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Makes a directory with what `fill` puts there, unless it was made from the same pins before.
pub(crate) fn made_of(pinned: &[&str], made: &Path, fill: impl FnOnce(&Path)) {
    let pinned: Vec<PathBuf> = pinned.iter().map(|file| pins().join(file)).collect();
    try_made_of(&pinned, made, |made| {
        fill(made);
        Ok(())
    })
    .unwrap();
}

/// Fetches the libraries of the `pom.xml` in this folder of pins with Maven, and returns where they are.
pub(crate) fn maven_libraries(pin: &str) -> PathBuf {
    let made = directory().join(pin.replace('/', "-"));
    made_of(&[&format!("{pin}/pom.xml")], &made, |made| {
        run(Command::new("mvn")
            .args([
                "--batch-mode",
                "--quiet",
                "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies",
            ])
            .arg(format!("-DoutputDirectory={}", made.join("lib").display()))
            .current_dir(pins().join(pin)));
    });
    made.join("lib")
}

fn try_made_of(pinned: &[PathBuf], made: &Path, fill: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    let pins: Vec<_> = pinned.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let (pins, stamp) = (pins.concat(), made.join("made-of"));
    if fs::read_to_string(&stamp).is_ok_and(|made_of| made_of == pins) {
        return Ok(());
    }
    if made.exists() {
        fs::remove_dir_all(made).unwrap();
    }
    fs::create_dir_all(made).unwrap();
    announced(&format!("fetching tools into {}, once", made.display()), || fill(made))?;
    fs::write(stamp, pins).unwrap();
    Ok(())
}

/// What tools leave beside sources.
const LEFT: [&str; 6] = [
    "node_modules",
    ".venv",
    "__pycache__",
    "build",
    "target",
    "sandhog.egg-info",
];

/// Copies a directory without that.
pub fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            if !LEFT.iter().any(|left| name == *left) {
                copied(&path, &to.join(name));
            }
        } else if path.extension().is_none_or(|extension| extension != "wasm") {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// A Python environment with componentize-py, Zig, Go and the SDK's own package; its `bin`.
pub fn python() -> &'static Path {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(|| {
        let made = directory().join("python");
        made_of(&["requirements.txt"], &made, |made| {
            run(Command::new("python3").args(["-m", "venv"]).arg(made));
            let requirements = pins().join("requirements.txt");
            run(Command::new(made.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
                .arg(requirements));
            // Zig's package brings a module instead of a program.
            let zig = made.join("bin/zig");
            if !zig.exists() {
                fs::write(&zig, "#!/bin/sh\nexec \"$(dirname \"$0\")/python\" -m ziglang \"$@\"\n").unwrap();
                fs::set_permissions(&zig, fs::Permissions::from_mode(0o755)).unwrap();
            }
        });
        made.join("bin")
    })
}

/// What the files of `host/sandhog/packaging` are checked with.
#[derive(Debug)]
pub struct PackagingTools {
    /// Does what `main.go` of the pins says.
    pub reader: PathBuf,
    /// A Python with what `validate.py` of the pins needs.
    pub python: PathBuf,
    /// That script.
    pub validate: PathBuf,
    /// The definitions of KEDA's objects.
    pub keda: PathBuf,
}

/// Those tools: a Python environment with the schemas of Kubernetes, and programs in Go that are built from the pins.
pub fn packaging() -> &'static PackagingTools {
    const KEDA: &str = "github.com/kedacore/keda/v2@v2.21.0";
    static MADE: OnceLock<PackagingTools> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = directory().join("packaging");
        let pinned = ["requirements.txt", "go.mod", "go.sum", "main.go"].map(|file| format!("packaging/{file}"));
        made_of(&pinned.each_ref().map(String::as_str), &made, |made| {
            run(Command::new("python3").args(["-m", "venv"]).arg(made));
            run(Command::new(made.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
                .arg(pins().join("packaging/requirements.txt")));
            let go = || {
                let mut go = Command::new(made.join("bin/go"));
                let modules = made.join("modules");
                go.env("GOTOOLCHAIN", "local")
                    .env("GOFLAGS", "-modcacherw")
                    .env("GOMODCACHE", modules);
                go.current_dir(pins().join("packaging"));
                go
            };
            run(go().args(["build", "-o"]).arg(made.join("bin/reader")).arg("."));
            run(go().args(["mod", "download", KEDA]));
        });
        PackagingTools {
            reader: made.join("bin/reader"),
            python: made.join("bin/python"),
            validate: pins().join("packaging/validate.py"),
            keda: made.join("modules").join(KEDA).join("config/crd/bases"),
        }
    })
}

/// Builds the program in Go in this folder of pins, with the Go of [`python`]; returns where it is.
pub(crate) fn go_program(pin: &str, made: &Path) -> PathBuf {
    let pinned = ["go.mod", "go.sum", "main.go"].map(|file| format!("{pin}/{file}"));
    let program = made.join("program");
    made_of(&pinned.each_ref().map(String::as_str), made, |made| {
        run(Command::new(python().join("go"))
            .args(["build", "-o"])
            .arg(&program)
            .arg(".")
            .env("GOTOOLCHAIN", "local")
            .env("GOFLAGS", "-modcacherw")
            .env("CGO_ENABLED", "0")
            .env("GOMODCACHE", made.join("modules"))
            .current_dir(pins().join(pin)));
        // Their sources are many times the program, and are not needed any more.
        fs::remove_dir_all(made.join("modules")).unwrap();
    });
    program
}

/// A directory with the `node_modules` of the pins.
pub fn node() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = directory().join("node");
        node_modules(&pins(), &made).unwrap_or_else(|why| panic!("{why}"));
        made
    })
}

/// A handler on `SpiderMonkey`, of some 12 MB, which only benchmarks want: its tools are many, and take half a minute.
pub fn spidermonkey() -> PathBuf {
    const SOURCES: [&str; 3] = ["package.json", "handler.js", "build.js"];
    let made = directory().join("spidermonkey");
    let pinned = SOURCES.map(|file| format!("spidermonkey/{file}"));
    made_of(&pinned.each_ref().map(String::as_str), &made, |made| {
        for file in SOURCES {
            fs::copy(pins().join("spidermonkey").join(file), made.join(file)).unwrap();
        }
        run(Command::new("npm")
            .args([
                "install",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--no-package-lock",
            ])
            .current_dir(made));
        run(Command::new("node")
            .args([
                "build.js".as_ref(),
                repository().join("wit").as_path(),
                "handler.wasm".as_ref(),
            ])
            .current_dir(made));
    });
    made.join("handler.wasm")
}

/// Makes a directory with the `node_modules` of the pins of another one.
///
/// # Errors
///
/// What npm said, or that there is none.
pub fn node_modules(pins: &Path, made: &Path) -> Result<(), String> {
    let pinned = ["package.json", "package-lock.json"].map(|file| pins.join(file));
    try_made_of(&pinned, made, |made| {
        for file in &pinned {
            fs::copy(file, made.join(file.file_name().unwrap())).unwrap();
        }
        try_run(
            Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                .current_dir(made),
        )
    })
}

/// A command in a shell, as a person would type it in this directory, with every tool on the PATH.
pub fn shell(directory: &Path, line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(directory);
    let old = env::var_os("PATH").unwrap_or_default();
    let mut path = vec![python().to_owned(), node().join("node_modules/.bin")];
    path.extend(env::split_paths(&old));
    command.env("PATH", env::join_paths(path).unwrap());
    command
        .env("ZIG_GLOBAL_CACHE_DIR", self::directory().join("zig"))
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=mod")
        .env_remove("VIRTUAL_ENV");
    command
}

/// The C library of WASI, which a Rust without the target of rustup is linked against: Zig's.
///
/// Debian's is older than the adapter that turns programs into components: its `malloc` takes the memory of the adapter
/// for its own.
fn wasi_libc() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = directory().join("wasi-libc");
        made_of(&["requirements.txt"], &made, |made| {
            fs::write(made.join("main.c"), "int main(void) { return 0; }\n").unwrap();
            let mut zig = shell(made, "zig cc -v -target wasm32-wasi -o main.wasm main.c");
            let output = zig.stdin(Stdio::null()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            // Zig compiles these on demand, and names them where it calls the linker.
            let linker = said.lines().rfind(|line| line.starts_with("wasm-ld "));
            let linker = linker.unwrap_or_else(|| panic!("zig cc -v does not show how it links: {said}"));
            for name in ["crt1-command.o", "libc.a", "libzigc.a", "libcompiler_rt.a"] {
                let file = linker.split(' ').find(|word| word.ends_with(&format!("/{name}")));
                let file = file.unwrap_or_else(|| panic!("zig links without {name}: {linker}"));
                fs::copy(file, made.join(name)).unwrap();
            }
        });
        made
    })
}

/// Gives a command a Rust that compiles to WebAssembly: rustup's if it has the target, or Debian's, which compiles its
/// standard library first and is told so by variables. `path` is the PATH of the command, before which Debian's goes.
pub fn with_rust_for_wasm(command: &mut Command, path: OsString) -> toolchain::Toolchain {
    for name in toolchain::steering() {
        command.env_remove(name);
    }
    let found = toolchain::Toolchain::find().unwrap();
    match found {
        toolchain::Toolchain::OnPath => command.env("PATH", path),
        toolchain::Toolchain::Debian => {
            let path = env::join_paths([PathBuf::from("/usr/bin")].into_iter().chain(env::split_paths(&path))).unwrap();
            command
                .env("PATH", path)
                .env("RUSTC", "/usr/bin/rustc")
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "/usr/bin/wasm-ld-19")
                .env_remove("LD_LIBRARY_PATH")
        }
    };
    found
}

/// Whether that Rust has the standard library of `wasm32-wasip2`: where it is compiled from its sources, its C library is missing.
pub fn rust_has_wasip2() -> bool {
    toolchain::Toolchain::find().unwrap() == toolchain::Toolchain::OnPath
}

/// The same as [`shell`] with a Rust that compiles to WebAssembly.
///
/// What is built shares the directory of the examples, and with it the standard library.
pub fn rust_shell(directory: &Path, line: &str) -> Command {
    let mut command = shell(directory, line);
    let path = command.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap();
    let path = path.to_owned();
    match with_rust_for_wasm(&mut command, path) {
        toolchain::Toolchain::Debian => {
            command
                .env("CARGO_TARGET_WASM32_WASIP1_LINKER", pins().join("wasi-ld.sh"))
                .env("WASI_LIB", wasi_libc());
        }
        toolchain::Toolchain::OnPath => {
            // That of handlers is there; programs want another one.
            static ADDED: OnceLock<()> = OnceLock::new();
            ADDED.get_or_init(|| run(Command::new("rustup").args(["target", "add", "wasm32-wasip1", "wasm32-wasip2"])));
        }
    }
    command
}
