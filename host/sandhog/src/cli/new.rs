//! `sandhog new`: makes a project that builds with one command. The program carries the templates and the SDKs, so that a
//! project has the SDK that fits the host.
//!
//! Invariants: what is embedded lies in this package, so that its archive carries it: `guest-sdk` has symbolic links to the SDKs,
//! which cargo follows. A manifest of cargo is named `Cargo.toml.template` there, because cargo leaves out of an archive whatever
//! looks like another package.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::ValueEnum as _;
use rust_embed::{Embed, EmbeddedFile};

use super::{Feature, Language, NewArgs};

mod sections;
mod taken;

/// The placeholder of the project's name in the text of a template.
const NAME: &str = "{{name}}";
/// The placeholder of the project's name in the names of files.
const NAME_OF_FILE: &str = "NAME";
/// The placeholder of the project's name where a hyphen can't stand.
const MODULE: &str = "{{module}}";
/// The end of the name of a file that must not bear its own name in this package.
const TEMPLATE: &str = ".template";
/// The directory of the SDK in a project.
const SDK_DIRECTORY: &str = "sandhog";
/// The longest name of a project, which is also the name of its queue.
const MAX_NAME_BYTES: usize = 80;
/// Lines of a manifest that only the workspace of this repository can resolve.
const WORKSPACE_LINTS: &str = "[lints]\nworkspace = true\n";

#[derive(Embed)]
#[folder = "templates"]
#[exclude = "*/sandhog/*"]
#[exclude = "*/target/*"]
#[exclude = "*/node_modules/*"]
struct Templates;

#[derive(Embed)]
#[folder = "guest-sdk"]
#[exclude = "*/target/*"]
#[exclude = "*/tests/*"]
#[exclude = "*/test/*"]
#[exclude = "*/build/*"]
#[exclude = "*/node_modules/*"]
#[exclude = "*/.venv/*"]
#[exclude = "*/__pycache__/*"]
#[exclude = "*.egg-info/*"]
#[exclude = "*_test.go"]
#[exclude = "*/bindings.sh"]
struct Sdks;

/// The reason why no project was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NewError {
    /// The name can't be that of a project in every language.
    #[error(
        "{0:?} can't be the name of a project: use 1 to {MAX_NAME_BYTES} lower-case letters, digits and '-', beginning with a letter"
    )]
    Name(String),
    /// The name is legal, and the project could not be built.
    #[error(
        "{name:?} can't be the name of this project: it belongs to {taken_by}; choose another, such as {name}-handler"
    )]
    Taken {
        /// The name.
        name: String,
        /// The owner of the name.
        taken_by: &'static str,
    },
    /// A program was asked for what needs an SDK.
    #[error(
        "--with is for handlers, and {program} makes a program without the SDK: use {handler} instead of {program}{by_hand}"
    )]
    Program {
        /// The kind of project.
        program: String,
        /// The same language with its SDK.
        handler: &'static str,
        /// Where a program of the language can use the SDK: the page that says how.
        by_hand: &'static str,
    },
    /// The directory has an entry of this name.
    #[error("{0} is there already: choose another name, or remove it")]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("{0} can't be written")]
    Write(PathBuf, #[source] io::Error),
}

impl Language {
    /// Returns the directory of the template, which is the name of the language on the command line.
    fn template(self) -> String {
        let value = self.to_possible_value().expect("no language is hidden");
        value.get_name().to_owned()
    }

    /// Returns the directory of the SDK. A program needs none.
    fn sdk(self) -> Option<&'static str> {
        match self {
            Self::Rust => Some("rust"),
            Self::Javascript | Self::Typescript => Some("js"),
            Self::Python => Some("python"),
            Self::Go => Some("go"),
            Self::C | Self::Cpp | Self::Zig => Some("c"),
            Self::CommandRust | Self::CommandGo | Self::CommandC | Self::CommandZig => None,
        }
    }
}

/// The error of features for a language that has no SDK.
fn refuse_features(program: Language) -> Result<(), NewError> {
    let (handler, by_hand) = match program {
        Language::CommandRust => (
            "rust",
            " (docs/reference/languages/rust.md#programs says how a program uses the SDK)",
        ),
        Language::CommandC => (
            "c",
            " (docs/reference/languages/c.md#programs says how a program uses the SDK)",
        ),
        Language::CommandGo => (
            "go",
            " (docs/reference/languages/go.md#programs says how a program uses the SDK)",
        ),
        Language::CommandZig => ("zig", ""),
        Language::Rust
        | Language::Javascript
        | Language::Typescript
        | Language::Python
        | Language::Go
        | Language::C
        | Language::Cpp
        | Language::Zig => return Ok(()),
    };
    let program = program.template();
    Err(NewError::Program {
        program,
        handler,
        by_hand,
    })
}

/// Makes the directory of the project and everything in it.
pub(crate) fn new(args: &NewArgs, output: &mut dyn Write) -> Result<(), NewError> {
    let name = &args.name;
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_legal = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(legal);
    if !is_legal || name.len() > MAX_NAME_BYTES {
        return Err(NewError::Name(name.clone()));
    }
    if let Some(taken_by) = taken::by(args.language, name) {
        let name = name.clone();
        return Err(NewError::Taken { name, taken_by });
    }
    if !args.with.is_empty() {
        refuse_features(args.language)?;
    }
    let project = args.directory.join(name);
    match fs::create_dir(&project) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(NewError::Exists(project)),
        Err(error) => return Err(NewError::Write(project, error)),
    }
    if let Err(error) = write_files(&project, files(args.language, name, &args.with)) {
        // An unfinished project would be in the way of the next try.
        drop(fs::remove_dir_all(&project));
        return Err(error);
    }
    let written = writeln!(
        output,
        "made {}: its README.md says how it is built, tested and run",
        project.display()
    );
    written.map_err(|error| NewError::Write(PathBuf::from("standard output"), error))
}

fn write_files(project: &Path, files: Vec<(String, Vec<u8>)>) -> Result<(), NewError> {
    for (path, text) in files {
        let file = project.join(path);
        write_file(&file, &text).map_err(|error| NewError::Write(file, error))?;
    }
    Ok(())
}

fn write_file(file: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(file, text)
}

/// Returns every file of a project, with its path in the project.
fn files(language: Language, name: &str, with: &[Feature]) -> Vec<(String, Vec<u8>)> {
    let filled = |text: &[u8]| -> Vec<u8> {
        let text = sections::resolve(&String::from_utf8_lossy(text), with);
        let text = text.expect("a unit test resolves every template");
        let text = text.replace(NAME, name).replace(MODULE, &name.replace('-', "_"));
        text.into_bytes()
    };
    let template = below(Templates::iter(), Templates::get, &language.template());
    let mut files: Vec<_> = template
        .into_iter()
        .map(|(path, text)| (path.replace(NAME_OF_FILE, name), filled(&text)))
        .collect();
    let sdk = language.sdk().map(|sdk| below(Sdks::iter(), Sdks::get, sdk));
    files.extend(sdk.into_iter().flatten().map(|(path, text)| {
        let text = String::from_utf8_lossy(&text).replace(WORKSPACE_LINTS, "");
        (format!("{SDK_DIRECTORY}/{path}"), text.into_bytes())
    }));
    files
}

/// Returns the embedded files below a directory, with their paths in the directory.
fn below(
    paths: impl Iterator<Item = std::borrow::Cow<'static, str>>,
    get: fn(&str) -> Option<EmbeddedFile>,
    directory: &str,
) -> Vec<(String, Vec<u8>)> {
    let files = paths.filter_map(|path| {
        let below = path.strip_prefix(directory)?.strip_prefix('/')?;
        let below = below.strip_suffix(TEMPLATE).unwrap_or(below);
        Some((below.to_owned(), get(&path)?.data.into_owned()))
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_embedded_that_does_not_belong_to_the_repository() {
        // The manifest of the SDK bears its own name where it belongs.
        let of_sdk = |path: std::borrow::Cow<'static, str>| path.trim_end_matches(TEMPLATE).to_owned();
        for (folder, paths) in [
            ("templates", Templates::iter().map(String::from).collect::<Vec<_>>()),
            ("../../guest-sdk", Sdks::iter().map(of_sdk).collect()),
        ] {
            let listed = std::process::Command::new("git")
                .args(["ls-files", "--cached", "--others", "--exclude-standard", "."])
                .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
                .output()
                .unwrap();
            let listed = String::from_utf8(listed.stdout).unwrap();
            let listed: Vec<_> = listed.lines().collect();
            for path in paths {
                assert!(listed.contains(&&*path), "{folder}/{path} is embedded");
            }
        }
    }

    #[test]
    fn a_project_in_rust_has_the_manifests_of_cargo() {
        for (language, expected) in [
            (Language::Rust, &["Cargo.toml", "sandhog/Cargo.toml"][..]),
            (Language::CommandRust, &["Cargo.toml"]),
        ] {
            let files = files(language, "orders", &[]);
            let mut manifests: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
            manifests.retain(|path| path.contains("Cargo.toml"));
            manifests.sort_unstable();
            assert_eq!(manifests, expected);
        }
    }

    #[test]
    fn every_language_has_a_template_with_a_manifest_and_no_gaps_left_in_it() {
        for language in Language::value_variants() {
            let files = files(*language, "two-words", &[]);
            let names: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
            for expected in ["two-words.toml", "README.md", ".gitignore"] {
                assert!(names.contains(&expected), "{language:?} has no {expected}: {names:?}");
            }
            assert_eq!(
                language.sdk().is_some(),
                names.contains(&"sandhog/README.md"),
                "{language:?}: {names:?}"
            );
            for (path, text) in &files {
                let text = String::from_utf8_lossy(text);
                assert!(
                    !text.contains(NAME) && !text.contains(MODULE) && !text.contains("workspace = true"),
                    "{language:?}: {path}"
                );
            }
        }
    }

    #[test]
    fn every_section_of_a_template_is_well_formed() {
        for path in Templates::iter() {
            let text = Templates::get(&path).unwrap().data;
            let resolved = sections::resolve(&String::from_utf8_lossy(&text), &[]);
            assert!(resolved.is_ok(), "{path}: {}", resolved.unwrap_err());
        }
    }

    /// Every choice of features.
    fn choices() -> Vec<Vec<Feature>> {
        let all = Feature::value_variants();
        (0..1 << all.len())
            .map(|bits: usize| (0..all.len()).filter(|i| bits >> i & 1 == 1).map(|i| all[i]).collect())
            .collect()
    }

    #[test]
    fn every_language_grants_what_was_chosen_and_nothing_else() {
        let languages = Language::value_variants().iter();
        for language in languages.filter(|language| language.sdk().is_some()) {
            for chosen in choices() {
                let files = files(*language, "two-words", &chosen);
                let (_, manifest) = files.iter().find(|(path, _)| path == "two-words.toml").unwrap();
                let manifest: toml::Table = toml::from_str(std::str::from_utf8(manifest).unwrap()).unwrap();
                let mut granted: Vec<_> = manifest["grant"].as_table().unwrap().keys().cloned().collect();
                let names = chosen
                    .iter()
                    .map(|feature| feature.to_possible_value().unwrap().get_name().to_owned());
                let mut expected: Vec<_> = names.chain(["send".to_owned()]).collect();
                granted.sort();
                expected.sort();
                assert_eq!(granted, expected, "{language:?}");
                let template = files.iter().filter(|(path, _)| !path.starts_with(SDK_DIRECTORY));
                for (path, text) in template {
                    let text = String::from_utf8_lossy(text);
                    assert!(!text.lines().any(|line| line.starts_with("{{")), "{language:?}: {path}");
                }
            }
        }
    }

    #[test]
    fn a_program_with_features_is_refused_with_what_to_use_instead() {
        for (language, handler) in [
            (
                Language::CommandRust,
                "use rust instead of command-rust (docs/reference/languages/rust.md",
            ),
            (
                Language::CommandC,
                "use c instead of command-c (docs/reference/languages/c.md",
            ),
            (Language::CommandGo, "use go instead of command-go"),
            (Language::CommandZig, "use zig instead of command-zig"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let args = NewArgs {
                language,
                name: "tally".to_owned(),
                with: vec![Feature::Http],
                directory: directory.path().to_owned(),
            };
            let refused = new(&args, &mut Vec::new()).unwrap_err().to_string();
            assert!(refused.contains(handler), "{refused}");
            assert!(!directory.path().join("tally").exists());
        }
    }
}
