//! `sandhog backup`: a copy of the running host's data directory.
//!
//! Invariant: the directory is there with everything in it, on the disk, or not at all. It is written under another name beside it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Component, Path, PathBuf},
    process,
};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{BackupArgs, CliError, CommandStreams, send::byte_bar, write_json};
use crate::{
    backup::{BackupFacts, FACTS, FAILED, FORMAT},
    client::HostClient,
    exit_code::ExitCode,
};
use sandhog_queue::{
    machine_clock::whole_ms,
    printable::{MAX_REASON_BYTES, printable},
};

/// A file is synced whenever it has got so many bytes more.
const SYNC_EVERY: usize = 16 * 1024 * 1024;
/// The longest reason and the longest facts of an archive that are read, in bytes.
const MAX_TEXT_BYTES: u64 = 64 * 1024;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The directory is in use.
    #[error("{} is there already and is not an empty directory: name one that is not there", .0.display())]
    Taken(PathBuf),
    /// There is no directory in which the copy could be made.
    #[error("{} can't be made, because {} is not a directory that is there: make it first", place.display(), parent.display())]
    NoParent {
        /// The place of the copy.
        place: PathBuf,
        /// The directory that is missing.
        parent: PathBuf,
    },
    /// A file can't be written.
    #[error("cannot write {}", path.display())]
    Local {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host could not make the backup.
    #[error("the host could not make the backup, and goes on as before: {0}")]
    Host(String),
    /// The archive has no end.
    #[error("the backup ended before it was whole: the host has stopped, or the connection broke")]
    Cut(#[source] Option<io::Error>),
    /// The archive is none of a host.
    #[error("what the host sent is not a backup: {0}")]
    Foreign(String),
    /// The archive has a form that this version does not know.
    #[error(
        "the backup has the form {form}, and this sandhog knows the form {FORMAT}: use `sandhog backup` of the host's version{}",
        made_by.as_ref().map(|made_by| format!(", {made_by}")).unwrap_or_default()
    )]
    OtherForm {
        /// The form.
        form: u32,
        /// The version that made it, as it says.
        made_by: Option<String>,
    },
    /// Other bytes came than the host has copied.
    #[error("the host has copied {said} bytes, and {came} came: its files changed meanwhile, so make the backup again")]
    OtherSize {
        /// The size of the copy.
        said: u64,
        /// What was received.
        came: u64,
    },
}

impl BackupError {
    /// Returns the exit code of the command.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Taken(_) | Self::NoParent { .. } | Self::Local { .. } => ExitCode::Refused,
            Self::Host(_) | Self::Cut(_) | Self::Foreign(_) | Self::OtherForm { .. } | Self::OtherSize { .. } => {
                ExitCode::Unavailable
            }
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct BackupAnswer<'a> {
    directory: &'a Path,
    bytes: u64,
    messages: u64,
    milliseconds: u64,
    longest_step_us: u64,
}

pub(crate) fn backup(args: &BackupArgs, client: &HostClient, streams: &mut CommandStreams<'_>) -> Result<(), CliError> {
    let started = Instant::now();
    let progress = byte_bar(streams.progress);
    let copied =
        UnfinishedBackup::begin(&args.directory)?.fill(|| client.backup().map(|archive| progress.wrap_read(archive)));
    progress.finish_and_clear();
    let facts = copied?;
    let took = started.elapsed();
    if args.json {
        let answer = BackupAnswer {
            directory: &args.directory,
            bytes: facts.bytes,
            messages: facts.messages,
            milliseconds: whole_ms(took),
            longest_step_us: facts.longest_step_us,
        };
        write_json(streams.output, &answer)?;
    } else {
        let bytes = ByteSize::b(facts.bytes).display().iec();
        let (messages, directory) = (facts.messages, args.directory.display());
        writeln!(
            streams.output,
            "{messages} messages, {bytes}, in {directory} after {:.1} s",
            took.as_secs_f64()
        )?;
    }
    Ok(())
}

/// A directory that is removed unless it becomes a backup.
struct UnfinishedBackup {
    place: PathBuf,
    path: PathBuf,
    is_done: bool,
}

impl UnfinishedBackup {
    fn begin(place: &Path) -> Result<Self, BackupError> {
        let is_free = match fs::read_dir(place) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        let Some(name) = place.file_name().filter(|_| is_free) else {
            return Err(BackupError::Taken(place.to_owned()));
        };
        let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
            return Err(BackupError::NoParent {
                place: place.to_owned(),
                parent: parent.to_owned(),
            });
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.unfinished", process::id()));
        let path = place.with_file_name(hidden);
        DirBuilder::new().mode(0o700).create(&path).map_err(local(&path))?;
        Ok(Self {
            place: place.to_owned(),
            path,
            is_done: false,
        })
    }

    /// Unpacks an archive, and gives the directory its name.
    fn fill<R: Read, E>(mut self, open: impl FnOnce() -> Result<R, E>) -> Result<BackupFacts, CliError>
    where
        CliError: From<E>,
    {
        let facts = self.unpack(open()?)?;
        sync_below(&self.path).map_err(local(&self.path))?;
        fs::rename(&self.path, &self.place).map_err(local(&self.place))?;
        self.is_done = true;
        let parent = self.place.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(local(parent))?;
        Ok(facts)
    }

    fn unpack(&self, archive: impl Read) -> Result<BackupFacts, BackupError> {
        let mut archive = tar::Archive::new(archive);
        let (mut facts, mut came) = (None, 0);
        for entry in archive.entries().map_err(cut)? {
            let mut entry = entry.map_err(cut)?;
            let name = entry.path().map_err(cut)?.into_owned();
            let is_plain = name.components().all(|part| matches!(part, Component::Normal(_)));
            if facts.is_some() || !is_plain || !entry.header().entry_type().is_file() {
                let name = name.display().to_string();
                return Err(BackupError::Foreign(format!(
                    "it has {}",
                    printable(&name, MAX_REASON_BYTES)
                )));
            }
            if name == Path::new(FAILED) {
                let mut why = Vec::new();
                entry.take(MAX_TEXT_BYTES).read_to_end(&mut why).map_err(cut)?;
                return Err(BackupError::Host(printable(
                    &String::from_utf8_lossy(&why),
                    MAX_REASON_BYTES,
                )));
            }
            let path = self.path.join(&name);
            if name == Path::new(FACTS) {
                let mut text = Vec::new();
                let whole = entry.size().min(MAX_TEXT_BYTES);
                entry.take(MAX_TEXT_BYTES).read_to_end(&mut text).map_err(cut)?;
                if u64::try_from(text.len()).unwrap_or(u64::MAX) < whole {
                    return Err(BackupError::Cut(None));
                }
                facts = Some(read_facts(&text, came)?);
                write(&path, &mut text.as_slice())?;
            } else {
                came += write(&path, &mut entry)?;
            }
        }
        facts.ok_or(BackupError::Cut(None))
    }
}

impl Drop for UnfinishedBackup {
    fn drop(&mut self) {
        if !self.is_done
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the unfinished backup can't be removed");
        }
    }
}

/// The part of the facts that every form has.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FactsOfAnyForm {
    format: u32,
    made_by: Option<String>,
}

/// Reads what a backup says about itself, after the given number of bytes of files.
fn read_facts(text: &[u8], came: u64) -> Result<BackupFacts, BackupError> {
    let foreign = |error: serde_json::Error| BackupError::Foreign(error.to_string());
    let FactsOfAnyForm { format: form, made_by } = serde_json::from_slice(text).map_err(foreign)?;
    if form != FORMAT {
        let made_by = made_by.map(|made_by| printable(&made_by, MAX_REASON_BYTES));
        return Err(BackupError::OtherForm { form, made_by });
    }
    let facts: BackupFacts = serde_json::from_slice(text).map_err(foreign)?;
    if facts.bytes != came {
        let said = facts.bytes;
        return Err(BackupError::OtherSize { said, came });
    }
    Ok(facts)
}

/// Writes a file and the directories that it is in. Returns its bytes.
fn write(path: &Path, from: &mut dyn Read) -> Result<u64, BackupError> {
    if let Some(parent) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(local(parent))?;
    }
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = made.map_err(local(path))?;
    let mut piece = vec![0; 256 * 1024];
    let (mut unsynced, mut written) = (0, 0);
    loop {
        let length = from.read(&mut piece).map_err(cut)?;
        let Some(read) = piece.get(..length).filter(|read| !read.is_empty()) else {
            break;
        };
        file.write_all(read).map_err(local(path))?;
        unsynced += read.len();
        written += u64::try_from(read.len()).unwrap_or(u64::MAX);
        if unsynced >= SYNC_EVERY {
            // All at the end would take long, while nobody reads what the host sends.
            file.sync_data().map_err(local(path))?;
            unsynced = 0;
        }
    }
    file.sync_all().map_err(local(path))?;
    Ok(written)
}

/// Syncs the directories below one, so that the names in them are on the disk.
fn sync_below(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_below(&entry.path())?;
        }
    }
    File::open(directory)?.sync_all()
}

fn local(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Local { path, source }
}

fn cut(error: io::Error) -> BackupError {
    BackupError::Cut(Some(error))
}

#[cfg(test)]
mod tests;
