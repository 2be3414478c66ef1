//! A project: its directory, the name of its handler, its manifest, and how it is built and tested.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    super::super::DevArgs,
    error::DevError,
    recipe::{BuildOutput, Recipe},
};
use crate::{
    config::{ConfigErrors, DevSettings, Environment, Manifest},
    plugin_dir::{self, MAX_MANIFEST_BYTES},
};

/// Names of TOML files that belong to other tools.
const NO_MANIFESTS: [&str; 16] = [
    "Cargo",
    "Cross",
    "Pipfile",
    "book",
    "bunfig",
    "clippy",
    "config",
    "deny",
    "netlify",
    "pyproject",
    "rust-toolchain",
    "rustfmt",
    "sandhog",
    "taplo",
    "typos",
    "uv",
];

/// A project of one handler.
#[derive(Debug)]
pub(super) struct DevProject {
    /// The absolute path of the directory.
    pub(super) directory: PathBuf,
    /// The name of the handler.
    pub(super) name: String,
    /// The path of the manifest, if the project has one.
    pub(super) manifest: Option<PathBuf>,
    pub(super) recipe: Recipe,
}

impl DevProject {
    /// Finds out what the directory holds. A manifest with mistakes is no reason to refuse it: it is shown when it is loaded.
    pub(super) fn find(args: &DevArgs, environment: Environment<'_>) -> Result<Self, DevError> {
        let given = args.directory.as_deref().unwrap_or(Path::new("."));
        let unreadable = |source| DevError::Directory {
            directory: given.to_owned(),
            source,
        };
        let directory = given.canonicalize().map_err(unreadable)?;
        let manifest = match &args.manifest {
            Some(manifest) => Some(manifest.canonicalize().map_err(|source| DevError::Directory {
                directory: manifest.clone(),
                source,
            })?),
            None => find_manifest(&directory)?,
        };
        let stem = manifest.as_deref().unwrap_or(&directory).file_stem();
        let name = stem.and_then(|stem| stem.to_str()).unwrap_or("handler").to_owned();
        let settings = settings(manifest.as_deref(), &name, environment);
        let build = args.build.clone().or(settings.build);
        let mut recipe = match build {
            Some(build) => Recipe::given(build, &directory, &name),
            None => Recipe::of(&directory, &name).ok_or_else(|| DevError::Unknown(directory.clone()))?,
        };
        if let Some(output) = args.output.clone().or(settings.output) {
            recipe.output = BuildOutput::File(directory.join(output));
        }
        recipe.test = args.test_command.clone().or(settings.test).or(recipe.test);
        recipe.check_tools(environment)?;
        Ok(Self {
            directory,
            name,
            manifest,
            recipe,
        })
    }

    /// Returns the text of the manifest, or nothing if the project has none or it can't be read.
    pub(super) fn manifest_text(&self) -> Option<Vec<u8>> {
        fs::read(self.manifest.as_deref()?).ok()
    }
}

/// Reads the table `[dev]` of a manifest. What else is wrong with the manifest is shown when it is loaded.
fn settings(manifest: Option<&Path>, name: &str, environment: Environment<'_>) -> DevSettings {
    let read = || -> Option<Result<Manifest, ConfigErrors>> {
        let manifest = manifest?;
        let bytes = plugin_dir::read(manifest, MAX_MANIFEST_BYTES).ok()?.bytes;
        let text = String::from_utf8(bytes).ok()?;
        let directory = manifest.parent().unwrap_or(Path::new(""));
        Some(Manifest::parse_in(&text, name, directory, environment))
    };
    read()
        .and_then(Result::ok)
        .map(|manifest| manifest.dev)
        .unwrap_or_default()
}

fn find_manifest(directory: &Path) -> Result<Option<PathBuf>, DevError> {
    let unreadable = |source| DevError::Directory {
        directory: directory.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let is_toml = path.extension().is_some_and(|extension| extension == "toml");
        if is_toml && path.is_file() && !stem.starts_with('.') && !NO_MANIFESTS.contains(&stem) {
            found.push(path);
        }
    }
    found.sort();
    // The project and its handler often have one name.
    let named = directory
        .file_name()
        .map(|name| directory.join(name).with_extension("toml"));
    match (found.len(), named.filter(|named| found.contains(named))) {
        (2.., Some(named)) => Ok(Some(named)),
        (2.., None) => Err(DevError::Manifests {
            directory: directory.to_owned(),
            candidates: found
                .iter()
                .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
                .collect(),
        }),
        _ => Ok(found.pop()),
    }
}
