//! Builds workspaces of handlers into WebAssembly files.
//!
//! Cargo decides what is out of date, and its lock on the build directory lets one of several builds
//! at a time do the work. All workspaces share that directory, and with it the standard library.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::toolchain::Toolchain;

/// Whether a person sees the compiler at work. Its messages are part of the error if the build fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// On standard error, if that is a terminal.
    Shown,
    /// Not at all.
    Hidden,
}

/// Returns the directory of this repository.
pub fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_owned()
}

/// Returns the directory for what is built: `target/`, or as `CARGO_TARGET_DIR` says.
pub fn target() -> PathBuf {
    let repository = repository();
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository.join("target"), |path| repository.join(path))
}

/// Builds the example handlers and returns their files by name, such as `orders`.
///
/// The first build compiles the standard library where only its sources are, which takes a minute or
/// two; a build with nothing to do takes well under a second.
///
/// # Errors
///
/// If there is no toolchain ([`Toolchain::find`]), or the build fails.
pub fn build(progress: Progress) -> Result<BTreeMap<String, PathBuf>> {
    build_workspace(&repository().join("examples"), progress)
}

/// Builds a workspace of handlers, which has a `Cargo.lock`, and returns their files by library name.
///
/// # Errors
///
/// If there is no toolchain ([`Toolchain::find`]), or the build fails.
pub fn build_workspace(workspace: &Path, progress: Progress) -> Result<BTreeMap<String, PathBuf>> {
    let mut command = Toolchain::find()?.build(workspace, &target().join("guests"));
    let is_shown = progress == Progress::Shown && std::io::stderr().is_terminal();
    let output = command
        .arg("--message-format=json-render-diagnostics")
        .stderr(if is_shown { Stdio::inherit() } else { Stdio::piped() })
        .output()
        .with_context(|| format!("{} did not start", command.get_program().display()))?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr);
        bail!("building {} failed: {}\n{messages}", workspace.display(), output.status);
    }
    let messages = String::from_utf8(output.stdout).context("cargo's messages")?;
    let mut files = BTreeMap::new();
    for line in messages.lines() {
        files.extend(component(&serde_json::from_str(line).context("cargo's messages")?));
    }
    ensure!(
        !files.is_empty(),
        "{} has no package of crate-type cdylib",
        workspace.display()
    );
    Ok(files)
}

/// Returns the name and file of a handler, if that is what this message of cargo's is about.
fn component(message: &Value) -> Option<(String, PathBuf)> {
    let is_library = message
        .pointer("/target/kind")?
        .as_array()?
        .iter()
        .any(|kind| kind == "cdylib");
    let files = message.get("filenames")?.as_array()?;
    let file = files
        .iter()
        .filter_map(Value::as_str)
        .map(Path::new)
        .find(|file| file.extension() == Some("wasm".as_ref()))?;
    is_library.then(|| Some((file.file_stem()?.to_str()?.to_owned(), file.to_owned())))?
}
