//! Finds, or gets, a Rust toolchain that compiles to WebAssembly.
//!
//! The first that is there wins: the `rustc` on the PATH if it has the target; Debian's packages, which
//! work offline; the target from rustup; the Debian packages, installed. Nothing is installed where
//! something works already. This module does not know what is built.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

/// What guests are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// What Debian calls a Rust new enough, its standard library's sources, and a linker for WebAssembly.
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-19"];
const DEBIAN_CARGO: &str = "usr/bin/cargo";
const DEBIAN_RUSTC: &str = "usr/bin/rustc";
const DEBIAN_LINKER: &str = "usr/bin/wasm-ld-19";
const DEBIAN_SOURCES: &str = "usr/lib/rustlib/src/rust/library/std/Cargo.toml";

/// How long rustup may take to download the target, some 20 MB.
const RUSTUP_TIME_MAX: Duration = Duration::from_mins(2);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Variables by which a cargo that runs us would steer the cargo that we run.
const STEERING: [&str; 9] = [
    "CARGO",
    "RUSTC",
    "RUSTC_BOOTSTRAP",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "CARGO_INCREMENTAL",
];
const STEERING_PREFIXES: [&str; 9] = [
    "CARGO_BIN_",
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_CRATE_",
    "CARGO_ENCODED_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
];

/// A Rust toolchain that compiles to [`TARGET`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The one on the PATH, which has the target.
    OnPath,
    /// Debian's, which has only the sources of the standard library and compiles them first.
    Debian,
}

impl Toolchain {
    /// Finds a toolchain on this machine, or installs what is missing, and says so on standard error.
    ///
    /// # Errors
    ///
    /// If there is none and none could be installed: the text says what a person can do.
    pub fn find() -> Result<Self> {
        Machine::this().toolchain()
    }

    /// Returns `cargo build` for [`TARGET`] in this directory of a workspace, free of what the
    /// surrounding cargo set, with the build's files in `target`.
    pub fn build(&self, workspace: &Path, target: &Path) -> Command {
        let machine = Machine::this();
        let mut command = match self {
            Self::OnPath => machine.command("cargo"),
            Self::Debian => machine.command(machine.file(DEBIAN_CARGO)),
        };
        command
            .current_dir(workspace)
            .args(["build", "--release", "--locked", "--target", TARGET]);
        command.arg("--target-dir").arg(target);
        if *self == Self::Debian {
            // Always in these words: another linker or flag would compile the standard library again.
            command
                .args(["-Z", "build-std=std,panic_abort"])
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTC", machine.file(DEBIAN_RUSTC))
                .env(
                    "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER",
                    machine.file(DEBIAN_LINKER),
                )
                .env_remove("LD_LIBRARY_PATH");
        }
        command
    }
}

/// Where to look: a file system and a PATH, so that tests can make up a machine.
struct Machine {
    file_system: PathBuf,
    path: OsString,
}

impl Machine {
    fn this() -> Self {
        Self {
            file_system: PathBuf::from("/"),
            path: std::env::var_os("PATH").unwrap_or_default(),
        }
    }

    fn toolchain(&self) -> Result<Toolchain> {
        if self.has_target() {
            return Ok(Toolchain::OnPath);
        }
        if self.has_debian() {
            return Ok(Toolchain::Debian);
        }
        let mut obstacles = Vec::new();
        match self.add_target() {
            Ok(()) if self.has_target() => return Ok(Toolchain::OnPath),
            Ok(()) => obstacles.push(anyhow!("rustup added the target, but rustc does not have it")),
            Err(error) => obstacles.push(error),
        }
        match self.install_debian() {
            Ok(()) if self.has_debian() => return Ok(Toolchain::Debian),
            Ok(()) => obstacles.push(anyhow!("the packages are installed, but their files are elsewhere")),
            Err(error) => obstacles.push(error),
        }
        let tried: Vec<_> = obstacles
            .iter()
            .map(|obstacle| format!("  tried: {obstacle:#}"))
            .collect();
        bail!(
            "no Rust toolchain here compiles to {TARGET}\n{}\n\
             Either of these puts that right:\n  rustup target add {TARGET}\n  apt-get install {}    (Debian 12)",
            tried.join("\n"),
            DEBIAN_PACKAGES.join(" ")
        );
    }

    /// Tells whether the `rustc` on the PATH has the target's standard library.
    fn has_target(&self) -> bool {
        let mut rustc = self.command("rustc");
        rustc.args(["--print", "target-libdir", "--target", TARGET]);
        rustc.output().is_ok_and(|output| {
            let directory = String::from_utf8_lossy(&output.stdout);
            output.status.success() && Path::new(directory.trim()).is_dir()
        })
    }

    fn has_debian(&self) -> bool {
        [DEBIAN_CARGO, DEBIAN_RUSTC, DEBIAN_LINKER, DEBIAN_SOURCES]
            .iter()
            .all(|file| self.file(file).is_file())
    }

    fn add_target(&self) -> Result<()> {
        if !self.is_on_path("rustup") {
            bail!("there is no rustup");
        }
        let mut rustup = self.command("rustup");
        rustup.args(["target", "add", TARGET]);
        run(&mut rustup, Some(RUSTUP_TIME_MAX))
    }

    fn install_debian(&self) -> Result<()> {
        if !self.is_on_path("apt-get") {
            bail!("there is no apt-get");
        }
        if !self.is_root()? {
            bail!("apt-get needs root");
        }
        let mut update = self.command("apt-get");
        update.arg("update").env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut update, None)?;
        let mut install = self.command("apt-get");
        install
            .args(["install", "--yes", "--no-install-recommends"])
            .args(DEBIAN_PACKAGES);
        install.env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut install, None)
    }

    fn is_root(&self) -> Result<bool> {
        let output = self.command("id").arg("-u").output().context("id -u")?;
        Ok(output.stdout.trim_ascii() == b"0")
    }

    fn is_on_path(&self, program: &str) -> bool {
        std::env::split_paths(&self.path).any(|directory| directory.join(program).is_file())
    }

    fn file(&self, path: &str) -> PathBuf {
        self.file_system.join(path)
    }

    /// Returns a command of this machine without what the surrounding cargo set.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let program = program.as_ref();
        // Looked up here, because a child's PATH does not count in the search for the child itself.
        let found = std::env::split_paths(&self.path)
            .map(|directory| directory.join(program))
            .find(|p| p.is_file());
        let mut command = Command::new(found.as_deref().map_or(program, Path::as_os_str));
        command.env("PATH", &self.path).stdin(Stdio::null());
        for name in steering() {
            command.env_remove(name);
        }
        command
    }
}

/// The variables of our environment by which the cargo that runs us would steer a cargo that we run.
pub fn steering() -> Vec<OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| is_steering(name)).collect()
}

/// Tells whether a cargo that runs us would steer the cargo that we run by this variable.
fn is_steering(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    STEERING.contains(&name) || STEERING_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Runs a command that changes the machine: says so first, and passes on only the output of a failure.
fn run(command: &mut Command, time_max: Option<Duration>) -> Result<()> {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let text = format!("{program} {}", arguments.join(" "));
    say(&format!("running: {text}"));
    let output = tempfile::tempfile()?;
    let mut child = command
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .spawn()
        .with_context(|| text.clone())?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if time_max.is_some_and(|time_max| started.elapsed() > time_max) {
            child.kill()?;
            child.wait()?;
            bail!("{text}: stopped after {} s", started.elapsed().as_secs());
        }
        wait_a_little();
    };
    if status.success() {
        return Ok(());
    }
    bail!("{text}: {status}: {}", last_line(output)?)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a child's end cannot be waited for with a time limit otherwise"
)]
fn wait_a_little() {
    std::thread::sleep(POLL_INTERVAL);
}

/// Returns the last line that is not empty.
fn last_line(mut output: std::fs::File) -> Result<String> {
    use std::io::{Read as _, Seek as _};

    output.rewind()?;
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("no output")
        .trim()
        .to_owned())
}

/// Tells a person what is done to the machine.
fn say(text: &str) {
    // Nobody reads a closed standard error, and that is no reason not to build.
    drop(writeln!(std::io::stderr(), "{text}"));
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;

    /// A machine in a directory, whose programs are scripts.
    struct MadeUp {
        directory: TempDir,
    }

    impl MadeUp {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir(directory.path().join("bin")).unwrap();
            Self { directory }
        }

        /// Adds a program that notes its call and then runs a script, in which `$here` is the machine.
        fn program(self, name: &str, script: &str) -> Self {
            let here = self.directory.path().display();
            let text =
                format!("#!/bin/sh\nPATH=/usr/bin:/bin\nhere={here}\necho \"{name} $*\" >> $here/calls\n{script}\n");
            let file = self.directory.path().join("bin").join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
            self
        }

        fn with_debian(self) -> Self {
            for file in [DEBIAN_CARGO, DEBIAN_RUSTC, DEBIAN_LINKER, DEBIAN_SOURCES] {
                let file = self.directory.path().join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, "").unwrap();
            }
            self
        }

        fn toolchain(&self) -> Result<Toolchain> {
            let path = self.directory.path().join("bin").into_os_string();
            Machine {
                file_system: self.directory.path().to_owned(),
                path,
            }
            .toolchain()
        }

        fn calls(&self) -> String {
            fs::read_to_string(self.directory.path().join("calls")).unwrap_or_default()
        }
    }

    const TARGET_IS_IN_LIB: &str = "echo $here/lib";
    const INSTALL_DEBIAN: &str = "if [ $1 = install ]; then
        mkdir -p $here/usr/bin $here/usr/lib/rustlib/src/rust/library/std
        touch $here/usr/bin/cargo $here/usr/bin/rustc $here/usr/bin/wasm-ld-19
        touch $here/usr/lib/rustlib/src/rust/library/std/Cargo.toml
    fi";

    #[test]
    fn a_rustc_with_the_target_is_used_as_it_is() {
        let machine = MadeUp::new()
            .program("rustc", "mkdir -p $here/lib; echo $here/lib")
            .program("rustup", "");
        assert_eq!(machine.with_debian().toolchain().unwrap(), Toolchain::OnPath);
    }

    #[test]
    fn debian_is_used_before_anything_is_downloaded() {
        let machine = MadeUp::new()
            .program("rustc", TARGET_IS_IN_LIB)
            .program("rustup", "exit 1")
            .with_debian();
        assert_eq!(machine.toolchain().unwrap(), Toolchain::Debian);
        assert!(!machine.calls().contains("rustup"), "{}", machine.calls());
    }

    #[test]
    fn rustup_adds_the_target() {
        let machine = MadeUp::new()
            .program("rustc", TARGET_IS_IN_LIB)
            .program("rustup", "mkdir $here/lib");
        assert_eq!(machine.toolchain().unwrap(), Toolchain::OnPath);
        assert!(
            machine.calls().contains("rustup target add wasm32-unknown-unknown"),
            "{}",
            machine.calls()
        );
    }

    #[test]
    fn the_debian_packages_are_installed_where_rustup_has_no_network() {
        let machine = MadeUp::new()
            .program("rustc", TARGET_IS_IN_LIB)
            .program("rustup", "echo no network >&2; exit 1")
            .program("id", "echo 0")
            .program("apt-get", INSTALL_DEBIAN);
        assert_eq!(machine.toolchain().unwrap(), Toolchain::Debian);
        let update = machine.calls().find("apt-get update").unwrap();
        let install = "apt-get install --yes --no-install-recommends rustc-web cargo-web rust-web-src lld-19";
        assert!(machine.calls().find(install).unwrap() > update, "{}", machine.calls());
    }

    #[test]
    fn a_machine_without_a_way_is_told_both() {
        let machine = MadeUp::new()
            .program("rustup", "echo could not download >&2; exit 1")
            .program("id", "echo 1000")
            .program("apt-get", INSTALL_DEBIAN);
        let text = machine.toolchain().unwrap_err().to_string();
        for part in [
            "rustup target add wasm32-unknown-unknown: exit status: 1: could not download",
            "apt-get needs root",
            "\n  rustup target add wasm32-unknown-unknown",
            "\n  apt-get install rustc-web cargo-web rust-web-src lld-19",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
        assert!(!machine.calls().contains("apt-get"), "{}", machine.calls());
    }

    #[test]
    fn a_program_that_hangs_is_stopped() {
        let machine = MadeUp::new().program("rustup", "exec sleep 60");
        let mut command = Command::new(machine.directory.path().join("bin/rustup"));
        let text = run(command.arg("x"), Some(Duration::from_millis(100)))
            .unwrap_err()
            .to_string();
        assert_eq!(text, "rustup x: stopped after 0 s");
    }

    #[test]
    fn the_outer_cargo_does_not_steer_the_inner_one() {
        for name in [
            "CARGO",
            "RUSTUP_TOOLCHAIN",
            "CARGO_PKG_NAME",
            "CARGO_TARGET_DIR",
            "CARGO_ENCODED_RUSTFLAGS",
        ] {
            assert!(is_steering(OsStr::new(name)), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_TERM_COLOR",
            "RUSTUP_HOME",
            "PATH",
        ] {
            assert!(!is_steering(OsStr::new(name)), "{name}");
        }
    }
}
