//! The directory `.sandhog/dev` of a project: what is built comes here, whole, and the host serves it from here.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::{error::DevError, project::DevProject};

/// Names in the directory.
const PLUGINS: &str = "plugins";
const LOCK: &str = "lock";
const ANSWER: &str = "answer.json";
const SETUP: &str = "setup-under-way";

/// The place of one `sandhog dev`, which no other has at the same time.
#[derive(Debug)]
pub(super) struct DevPlace {
    directory: PathBuf,
    plugins: PathBuf,
    manifest_base: PathBuf,
    name: String,
    /// Locked for as long as it is open.
    _lock: File,
}

impl DevPlace {
    /// Makes the directory, or takes it over empty.
    pub(super) fn open(project: &DevProject) -> Result<Self, DevError> {
        let directory = project.directory.join(".sandhog/dev");
        let failed = |source| DevError::Place {
            directory: directory.clone(),
            source,
        };
        let plugins = directory.join(PLUGINS);
        fs::create_dir_all(&plugins).map_err(failed)?;
        let lock = File::create(directory.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DevError::InUse(project.directory.clone())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        for entry in fs::read_dir(&plugins).map_err(failed)? {
            fs::remove_file(entry.map_err(failed)?.path()).map_err(failed)?;
        }
        let manifest = project.manifest.as_deref().and_then(Path::parent);
        Ok(Self {
            manifest_base: manifest.unwrap_or(&project.directory).to_owned(),
            name: project.name.clone(),
            plugins,
            directory,
            _lock: lock,
        })
    }

    /// Returns the plugin directory of the host.
    pub(super) fn plugins(&self) -> &Path {
        &self.plugins
    }

    /// Returns the directory that paths in the manifest are relative to.
    pub(super) fn manifest_base(&self) -> &Path {
        &self.manifest_base
    }

    /// Returns the file to which a build writes its answer.
    pub(super) fn answer(&self) -> PathBuf {
        self.directory.join(ANSWER)
    }

    /// Returns the file that is there from the beginning of a set-up step to its good end, in whichever session that was.
    pub(super) fn setup_mark(&self) -> PathBuf {
        self.directory.join(SETUP)
    }

    /// Puts a version into the plugin directory. Each file is renamed into place.
    pub(super) fn put(&self, wasm: &[u8], manifest: Option<&[u8]>) -> io::Result<()> {
        match manifest {
            Some(manifest) => self.write("toml", manifest)?,
            None => match fs::remove_file(self.plugins.join(format!("{}.toml", self.name))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            },
        }
        self.write("wasm", wasm)
    }

    /// Names the files of the project in a text about those of the plugin directory.
    pub(super) fn in_words_of(&self, project: &DevProject, text: &str) -> String {
        let file = |directory: &Path, extension: &str| directory.join(format!("{}.{extension}", self.name));
        let shown = |path: &Path| path.display().to_string();
        let manifest = project.manifest.clone();
        let manifest = manifest.unwrap_or_else(|| file(&project.directory, "toml"));
        text.replace(&shown(&file(&self.plugins, "toml")), &shown(&manifest))
            .replace(&shown(&file(&self.plugins, "wasm")), &format!("{}.wasm", self.name))
    }

    fn write(&self, extension: &str, bytes: &[u8]) -> io::Result<()> {
        let unfinished = self.directory.join("unfinished");
        fs::write(&unfinished, bytes)?;
        fs::rename(unfinished, self.plugins.join(format!("{}.{extension}", self.name)))
    }
}
