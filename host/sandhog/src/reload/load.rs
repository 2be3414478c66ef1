//! Makes a version of the files of one handler, or says why they are refused.
//!
//! Invariants: files are used only if they were complete and have not changed while they were read; each error is sorted
//! once, by whether the same files may be accepted another time. Knows nothing of the other handlers.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::{
    attempt::{HandlerVersion, policy},
    config::{Manifest, environment},
    last_served::{self, LastServedFiles, LastServedStore, StoredComponent, VersionDigests},
    plugin_dir::{FileLook, FileReadError, FileTrouble, FileWriter, HandlerStamps, PluginDir, WasmFile},
    watcher::FileClosings,
};
use sandhog_executor::{Component, Executor, LoadError, MAX_WASM_BYTES};
use sandhog_queue::message::QueueName;

/// The time that a file must be unchanged where the system does not tell whether its writer has closed it.
const UNTOLD_QUIET: Duration = Duration::from_secs(2);
/// The time for which an unchanged file counts as open for writing because no event has told of its closing.
const UNCLOSED_LIMIT: Duration = Duration::from_mins(10);

/// Loads the files of handlers.
#[derive(Debug)]
pub(crate) struct VersionLoader {
    pub(crate) directory: PluginDir,
    pub(crate) executor: Arc<dyn Executor>,
    /// `None` if the host has no data directory.
    pub(crate) last_served: Option<Arc<LastServedStore>>,
    pub(crate) closings: FileClosings,
}

/// An order to load one handler.
#[derive(Debug)]
pub(crate) struct LoadOrder {
    pub(crate) name: String,
    pub(crate) stamps: HandlerStamps,
    /// The time for which the files have had these stamps.
    pub(crate) quiet_for: Duration,
    /// The component that serves, which is not compiled again if its bytes have not changed.
    pub(crate) running: Option<Component>,
    /// The version that served last is wanted if the files are refused.
    pub(crate) fall_back: bool,
}

/// The result of a load.
#[derive(Debug)]
pub(crate) struct LoadReport {
    pub(crate) name: String,
    pub(crate) stamps: HandlerStamps,
    pub(crate) version: Result<AcceptedVersion, LoadRefusal>,
    /// The version that served last, if the files were refused; or the reason why it can't be had now.
    pub(crate) fallback: Result<Option<AcceptedVersion>, LoadRefusal>,
}

/// A version that can serve.
#[derive(Debug)]
pub(crate) struct AcceptedVersion {
    pub(crate) version: HandlerVersion,
    /// The files in the store of the last-served versions, if they could be stored.
    pub(crate) digests: Option<VersionDigests>,
}

/// The reason why a load made no version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LoadRefusal {
    /// The files changed while they were read. The reload reads them again once they are quiet.
    FilesChanged,
    /// Another process is writing the file that the text names.
    BeingWritten(String),
    /// The host or the machine could not do its part, which the text names.
    Transient(String),
    /// The files are refused for good, for the reason in the text.
    Final(String),
}

impl LoadRefusal {
    fn text(&self) -> &str {
        match self {
            Self::FilesChanged => "the files changed while they were read",
            Self::BeingWritten(why) | Self::Transient(why) | Self::Final(why) => why,
        }
    }
}

/// A manifest without mistakes, with its text.
#[derive(Debug, Clone)]
struct ParsedManifest {
    manifest: Manifest,
    /// `None` if the handler has no manifest.
    text: Option<String>,
}

impl LoadRefusal {
    /// Returns the reason, if the same files may be accepted another time.
    pub(crate) fn into_transient_reason(self) -> Option<String> {
        match self {
            Self::Transient(why) => Some(why),
            Self::FilesChanged | Self::BeingWritten(_) | Self::Final(_) => None,
        }
    }
}

impl VersionLoader {
    /// Returns the queues that a handler needs, as far as its manifest can be read. A manifest without a component counts only if
    /// it has no mistake, because the file may belong to another program.
    pub(crate) async fn queues(self: Arc<Self>, name: String, stamps: HandlerStamps) -> Vec<QueueName> {
        let named = spawn_blocking(move || {
            let text = match stamps.manifest {
                None => String::new(),
                Some(_) => match self.directory.read_manifest(&name) {
                    Ok(read) => read.map(|(text, _)| text).unwrap_or_default(),
                    Err(_) => return Vec::new(),
                },
            };
            match Manifest::parse_in(&text, &name, self.directory.base(), &environment) {
                Ok(manifest) => manifest.queues(),
                Err(_) if stamps.wasm.is_some() => Manifest::queues_in(&text, &name),
                Err(_) => Vec::new(),
            }
        });
        // The load of the handler shows a panic again.
        named.await.unwrap_or_default()
    }

    /// Reads, checks and compiles one handler.
    ///
    /// # Cancel safety
    ///
    /// Safe: a compilation under way is ended.
    pub(crate) async fn load(self: Arc<Self>, order: LoadOrder) -> LoadReport {
        let name = order.name.clone();
        let order = Arc::new(order);
        let this = Arc::clone(&self);
        let order_to_read = Arc::clone(&order);
        let read = spawn_blocking(move || this.read(&order_to_read)).await;
        let (parsed, wasm) = read.unwrap_or_else(|error| {
            let refusal = LoadRefusal::Transient(format!("{name} can't be read: {error}"));
            (Err(refusal.clone()), Err(refusal))
        });
        let digest = wasm.as_ref().ok().map(|wasm| wasm.digest.clone());
        let version = match (wasm, &parsed) {
            (Err(refusal), _) => Err(refusal),
            (Ok(_), Err(refusal)) => Err(refusal.clone()),
            (Ok(wasm), Ok(parsed)) => self.version(&order, wasm, parsed).await,
        };
        let fallback = match &version {
            Err(_) if order.fall_back => self.last_served(&name, parsed.ok(), digest.as_deref()).await,
            Ok(_) | Err(_) => Ok(None),
        };
        LoadReport {
            name,
            stamps: order.stamps.clone(),
            version,
            fallback,
        }
    }

    /// Reads both files, each by itself, and parses the manifest. Blocks.
    fn read(&self, order: &LoadOrder) -> (Result<ParsedManifest, LoadRefusal>, Result<WasmFile, LoadRefusal>) {
        let text = self.read_manifest(order);
        let wasm = self.read_wasm(order);
        let now = self.directory.look(&order.name);
        let text = text.and_then(|text| unchanged(text, now.manifest == order.stamps.manifest));
        let wasm = wasm.and_then(|wasm| unchanged(wasm, now.wasm == order.stamps.wasm));
        let parsed = text.and_then(|text| {
            let manifest = self.parse_manifest(text.as_deref().unwrap_or_default(), &order.name)?;
            Ok(ParsedManifest { manifest, text })
        });
        (parsed, wasm)
    }

    fn read_manifest(&self, order: &LoadOrder) -> Result<Option<String>, LoadRefusal> {
        let file = self.directory.manifest(&order.name);
        let look = &order.stamps.manifest;
        match look {
            None => return Ok(None),
            Some(FileLook::Trouble(trouble)) => return Err(refused(&file, trouble)),
            Some(FileLook::File(_)) => {}
        }
        match self.directory.read_manifest(&order.name) {
            Ok(None) => Err(LoadRefusal::FilesChanged),
            Ok(Some((text, writer))) => self.complete(&file, writer, order, look.as_ref()).map(|()| Some(text)),
            Err(unread) => Err(not_read(&file, &unread)),
        }
    }

    fn read_wasm(&self, order: &LoadOrder) -> Result<WasmFile, LoadRefusal> {
        let file = self.directory.wasm(&order.name);
        let look = &order.stamps.wasm;
        if let Some(FileLook::Trouble(trouble)) = look {
            return Err(refused(&file, trouble));
        }
        match self.directory.read_wasm(&order.name, MAX_WASM_BYTES) {
            Ok(wasm) => self.complete(&file, wasm.writer, order, look.as_ref()).map(|()| wasm),
            Err(unread) => Err(not_read(&file, &unread)),
        }
    }

    /// Refuses a file that its writer may not have finished. The system's word on writers decides, or the events of the directory,
    /// or how long the file has not changed.
    fn complete(
        &self,
        file: &Path,
        writer: FileWriter,
        order: &LoadOrder,
        look: Option<&FileLook>,
    ) -> Result<(), LoadRefusal> {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let complete = match writer {
            FileWriter::Absent => true,
            FileWriter::Present => false,
            FileWriter::Untold => match self.closings.is_closed(name, look) {
                Some(true) => true,
                Some(false) => order.quiet_for >= UNCLOSED_LIMIT,
                None => order.quiet_for >= UNTOLD_QUIET,
            },
        };
        if complete { Ok(()) } else { Err(being_written(file)) }
    }

    fn parse_manifest(&self, text: &str, name: &str) -> Result<Manifest, LoadRefusal> {
        // Parsing reads the files that values come from.
        let parsed = Manifest::parse_in(text, name, self.directory.base(), &environment);
        parsed.map_err(|errors| {
            let reason = errors.to_string();
            if errors.is_transient() {
                LoadRefusal::Transient(reason)
            } else {
                LoadRefusal::Final(reason)
            }
        })
    }

    async fn version(
        &self,
        order: &LoadOrder,
        wasm: WasmFile,
        parsed: &ParsedManifest,
    ) -> Result<AcceptedVersion, LoadRefusal> {
        let name = &order.name;
        let file = self.directory.wasm(name);
        let same = order
            .running
            .as_ref()
            .filter(|running| running.info.digest == wasm.digest);
        let policy = Arc::new(policy(name, &parsed.manifest));
        let bytes = Bytes::from(wasm.bytes);
        let loaded = match same {
            Some(component) => self.executor.relink(file, component, Arc::clone(&policy)).await,
            None => self.executor.load(file, bytes.clone(), Arc::clone(&policy)).await,
        };
        let component = loaded.map_err(|error| refusal(&error))?;
        let digests = self.store(name, bytes, wasm.digest, parsed.text.clone()).await;
        let manifest = parsed.manifest.clone();
        let version = HandlerVersion {
            component,
            manifest,
            policy,
        };
        Ok(AcceptedVersion { version, digests })
    }

    /// Stores the files of a version that may serve soon. The version serves even if they can't be stored.
    async fn store(&self, name: &str, wasm: Bytes, digest: String, manifest: Option<String>) -> Option<VersionDigests> {
        let store = self.last_served.clone()?;
        let handler = name.to_owned();
        let stored = spawn_blocking(move || {
            let component = StoredComponent {
                wasm: &wasm,
                digest: &digest,
            };
            store.store(&handler, component, manifest.as_deref())
        });
        match stored.await {
            Ok(Ok(digests)) => Some(digests),
            Ok(Err(error)) => {
                tracing::warn!(handler = name, %error, "the version could not be stored: after a restart it serves only if its file is good then");
                None
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Returns the version that served last. The manifest of the directory counts for it too if it has no mistake, so that a grant
    /// that was taken away stays away. `digest` is that of the component that was refused with that manifest.
    ///
    /// # Errors
    ///
    /// A transient one.
    async fn last_served(
        &self,
        name: &str,
        parsed: Option<ParsedManifest>,
        digest: Option<&str>,
    ) -> Result<Option<AcceptedVersion>, LoadRefusal> {
        let Some(store) = self.last_served.clone() else {
            return Ok(None);
        };
        let handler = name.to_owned();
        let last = spawn_blocking(move || store.last_served(&handler)).await;
        let files = match last {
            Ok(Ok(Some(files))) => files,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) if last_served::is_transient(&error) => {
                return Err(LoadRefusal::Transient(error.to_string()));
            }
            Ok(Err(error)) => {
                tracing::warn!(handler = name, %error, "the version that served last can't be used");
                return Ok(None);
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        if parsed.is_some() && digest == Some(&files.digest) {
            return Ok(None);
        }
        match self.version_of(name, parsed, files).await {
            Ok(accepted) => Ok(Some(accepted)),
            Err(LoadRefusal::Transient(why)) => Err(LoadRefusal::Transient(why)),
            Err(refusal) => {
                tracing::warn!(
                    handler = name,
                    refusal = refusal.text(),
                    "the version that served last does not pass either"
                );
                Ok(None)
            }
        }
    }

    async fn version_of(
        &self,
        name: &str,
        parsed: Option<ParsedManifest>,
        files: LastServedFiles,
    ) -> Result<AcceptedVersion, LoadRefusal> {
        let parsed = match parsed {
            Some(parsed) => parsed,
            None => ParsedManifest {
                manifest: self.parse_manifest(files.manifest.as_deref().unwrap_or_default(), name)?,
                text: files.manifest,
            },
        };
        let policy = Arc::new(policy(name, &parsed.manifest));
        let loaded = self
            .executor
            .load(files.file, files.wasm.clone(), Arc::clone(&policy))
            .await;
        let component = loaded.map_err(|error| refusal(&error))?;
        let digests = self.store(name, files.wasm, files.digest, parsed.text).await;
        let manifest = parsed.manifest;
        let version = HandlerVersion {
            component,
            manifest,
            policy,
        };
        Ok(AcceptedVersion { version, digests })
    }
}

fn unchanged<T>(content: T, unchanged: bool) -> Result<T, LoadRefusal> {
    if unchanged {
        Ok(content)
    } else {
        Err(LoadRefusal::FilesChanged)
    }
}

fn being_written(file: &Path) -> LoadRefusal {
    LoadRefusal::BeingWritten(format!(
        "{} is being written; it is taken once its writer has closed it",
        file.display()
    ))
}

fn not_read(file: &Path, unread: &FileReadError) -> LoadRefusal {
    match unread {
        FileReadError::Gone => LoadRefusal::FilesChanged,
        FileReadError::BeingWritten => being_written(file),
        FileReadError::Trouble(trouble) => refused(file, trouble),
    }
}

fn refused(file: &Path, trouble: &FileTrouble) -> LoadRefusal {
    let reason = format!("{}: {trouble}", file.display());
    if trouble.is_transient {
        LoadRefusal::Transient(reason)
    } else {
        LoadRefusal::Final(reason)
    }
}

fn refusal(error: &LoadError) -> LoadRefusal {
    let reason = error.to_string();
    if error.is_transient() {
        LoadRefusal::Transient(reason)
    } else {
        LoadRefusal::Final(reason)
    }
}
