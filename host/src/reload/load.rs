//! The files of one handler -> a version that can serve, or why there is none now.
//!
//! Invariants: files are used only if they were complete and have not changed while they were read; each error is sorted
//! once, by whether the same files may pass another time. Knows nothing of what the other handlers do.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::{
    attempt::{Version, policy},
    config::{Manifest, environment},
    executor::{Component, Executor, LoadError, MAX_WASM_BYTES},
    last_served::{LastServedFiles, LastServedStore, VersionDigests, may_pass},
    message::QueueName,
    plugin_dir::{FileLook, FileReadError, FileTrouble, FileWriter, HandlerStamps, PluginDir, WasmFile},
    watcher::FileClosings,
};

/// How long a file must not have changed where nothing tells whether its writer has closed it.
const UNTOLD_QUIET: Duration = Duration::from_secs(2);
/// For how long a writer is believed to be there although nothing changes and only an event that is missing says so.
const UNCLOSED_LIMIT: Duration = Duration::from_mins(10);

/// Makes versions.
#[derive(Debug)]
pub(super) struct VersionLoader {
    pub(super) directory: PluginDir,
    pub(super) executor: Arc<dyn Executor>,
    /// `None`: nothing is kept.
    pub(super) kept: Option<Arc<LastServedStore>>,
    pub(super) closings: FileClosings,
}

/// What is to be loaded.
#[derive(Debug)]
pub(super) struct LoadOrder {
    pub(super) name: String,
    pub(super) stamps: HandlerStamps,
    /// For how long the files have looked like that.
    pub(super) quiet_for: Duration,
    /// What serves now: not compiled again if its bytes have not changed.
    pub(super) running: Option<Component>,
    /// Whether what served last is wanted if the files do not pass.
    pub(super) fall_back: bool,
}

/// What a load came to.
#[derive(Debug)]
pub(super) struct LoadReport {
    pub(super) name: String,
    pub(super) stamps: HandlerStamps,
    pub(super) version: Result<AcceptedVersion, LoadRefusal>,
    /// What served last, if the files did not pass; or why it can't be had now.
    pub(super) fallback: Result<Option<AcceptedVersion>, LoadRefusal>,
}

/// A version that can serve.
#[derive(Debug)]
pub(super) struct AcceptedVersion {
    pub(super) version: Version,
    /// Its files on disk, if they could be kept.
    pub(super) pair: Option<VersionDigests>,
}

/// Why a load came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LoadRefusal {
    /// The files changed while they were read: look again once they are quiet.
    FilesChanged,
    /// Somebody is writing a file; the text says which.
    BeingWritten(String),
    /// The host or the machine could not do its part; the text says what.
    Transient(String),
    /// The files are not acceptable; the text says why.
    Final(String),
}

/// A manifest of the directory that was read and understood.
#[derive(Debug, Clone)]
struct ParsedManifest {
    manifest: Manifest,
    /// `None`: there is no file.
    text: Option<String>,
}

impl LoadRefusal {
    /// The reason, if the same files may pass another time.
    pub(super) fn passing(self) -> Option<String> {
        match self {
            Self::Transient(why) => Some(why),
            Self::FilesChanged | Self::BeingWritten(_) | Self::Final(_) => None,
        }
    }
}

impl VersionLoader {
    /// The queues that a handler needs, as far as its manifest tells. A manifest without a component counts only if it is
    /// one without a mistake: it may belong to something else.
    pub(super) async fn queues(self: Arc<Self>, name: String, stamps: HandlerStamps) -> Vec<QueueName> {
        let named = spawn_blocking(move || {
            let text = match stamps.manifest {
                None => String::new(),
                Some(_) => match self.directory.read_manifest(&name) {
                    Ok(read) => read.map(|(text, _)| text).unwrap_or_default(),
                    Err(_) => return Vec::new(),
                },
            };
            match Manifest::parse_in(&text, &name, self.directory.path(), &environment) {
                Ok(manifest) => manifest.queues(),
                Err(_) if stamps.wasm.is_some() => Manifest::queues_in(&text, &name),
                Err(_) => Vec::new(),
            }
        });
        // A panic shows again when the handler is loaded.
        named.await.unwrap_or_default()
    }

    /// Reads, checks and compiles one handler.
    ///
    /// # Cancel safety
    ///
    /// Safe: a compilation under way is ended.
    pub(super) async fn load(self: Arc<Self>, order: LoadOrder) -> LoadReport {
        let (this, name) = (Arc::clone(&self), order.name.clone());
        let order = Arc::new(order);
        let reading = Arc::clone(&order);
        let read = spawn_blocking(move || this.read(&reading)).await;
        let (understood, wasm) = read.unwrap_or_else(|error| {
            let refusal = LoadRefusal::Transient(format!("{name} can't be read: {error}"));
            (Err(refusal.clone()), Err(refusal))
        });
        let digest = wasm.as_ref().ok().map(|wasm| wasm.digest.clone());
        let version = match (wasm, &understood) {
            (Err(refusal), _) => Err(refusal),
            (Ok(_), Err(refusal)) => Err(refusal.clone()),
            (Ok(wasm), Ok(understood)) => self.version(&order, wasm, understood).await,
        };
        let fallback = match &version {
            Err(_) if order.fall_back => self.last(&name, understood.ok(), digest.as_deref()).await,
            Ok(_) | Err(_) => Ok(None),
        };
        LoadReport {
            name,
            stamps: order.stamps.clone(),
            version,
            fallback,
        }
    }

    /// Reads both files, each for itself, and understands the manifest. Blocks.
    fn read(&self, order: &LoadOrder) -> (Result<ParsedManifest, LoadRefusal>, Result<WasmFile, LoadRefusal>) {
        let text = self.read_manifest(order);
        let wasm = self.read_wasm(order);
        let now = self.directory.look(&order.name);
        let text = text.and_then(|text| unchanged(text, now.manifest == order.stamps.manifest));
        let wasm = wasm.and_then(|wasm| unchanged(wasm, now.wasm == order.stamps.wasm));
        let understood = text.and_then(|text| {
            let manifest = self.understood(text.as_deref().unwrap_or_default(), &order.name)?;
            Ok(ParsedManifest { manifest, text })
        });
        (understood, wasm)
    }

    fn read_manifest(&self, order: &LoadOrder) -> Result<Option<String>, LoadRefusal> {
        let (file, look) = (self.directory.manifest(&order.name), &order.stamps.manifest);
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
        let (file, look) = (self.directory.wasm(&order.name), &order.stamps.wasm);
        if let Some(FileLook::Trouble(trouble)) = look {
            return Err(refused(&file, trouble));
        }
        match self.directory.read_wasm(&order.name, MAX_WASM_BYTES) {
            Ok(wasm) => self.complete(&file, wasm.writer, order, look.as_ref()).map(|()| wasm),
            Err(unread) => Err(not_read(&file, &unread)),
        }
    }

    /// Whether a file that was read is all that its writer has to say: by what the system tells of writers, by the events of
    /// the directory, or by how long nothing has changed.
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
        if complete { Ok(()) } else { Err(held(file)) }
    }

    fn understood(&self, text: &str, name: &str) -> Result<Manifest, LoadRefusal> {
        // It reads the files that values come from.
        let parsed = Manifest::parse_in(text, name, self.directory.path(), &environment);
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
        understood: &ParsedManifest,
    ) -> Result<AcceptedVersion, LoadRefusal> {
        let (name, file) = (&order.name, self.directory.wasm(&order.name));
        let same = order
            .running
            .as_ref()
            .filter(|running| running.info.digest == wasm.digest);
        let policy = Arc::new(policy(name, &understood.manifest));
        let bytes = Bytes::from(wasm.bytes);
        let loaded = match same {
            Some(component) => self.executor.relink(file, component, Arc::clone(&policy)).await,
            None => self.executor.load(file, bytes.clone(), Arc::clone(&policy)).await,
        };
        let component = loaded.map_err(|error| refusal(&error))?;
        let pair = self.put(name, (bytes, wasm.digest), understood.text.clone()).await;
        let manifest = understood.manifest.clone();
        let version = Version {
            component,
            manifest,
            policy,
        };
        Ok(AcceptedVersion { version, pair })
    }

    /// Keeps the files of a version that may serve soon. Without them it serves as well.
    async fn put(
        &self,
        name: &str,
        (wasm, digest): (Bytes, String),
        manifest: Option<String>,
    ) -> Option<VersionDigests> {
        let (kept, handler) = (self.kept.clone()?, name.to_owned());
        let put = spawn_blocking(move || kept.put(&handler, (&wasm, &digest), manifest.as_deref()));
        match put.await {
            Ok(Ok(pair)) => Some(pair),
            Ok(Err(error)) => {
                tracing::warn!(handler = name, %error, "the version could not be kept: after a restart it serves only if its file is good then");
                None
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// What served last. The manifest of the directory counts for it too if it can be understood, so that what was taken away
    /// by it does not come back. `digest` is that of a component that does not pass with it. An error is one that passes.
    async fn last(
        &self,
        name: &str,
        understood: Option<ParsedManifest>,
        digest: Option<&str>,
    ) -> Result<Option<AcceptedVersion>, LoadRefusal> {
        let Some(kept) = self.kept.clone() else { return Ok(None) };
        let handler = name.to_owned();
        let last = spawn_blocking(move || kept.last(&handler)).await;
        let files = match last {
            Ok(Ok(Some(files))) => files,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) if may_pass(&error) => return Err(LoadRefusal::Transient(error.to_string())),
            Ok(Err(error)) => {
                tracing::warn!(handler = name, %error, "the version that served last can't be used");
                return Ok(None);
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        if understood.is_some() && digest == Some(&files.digest) {
            return Ok(None);
        }
        match self.last_of(name, understood, files).await {
            Ok(accepted) => Ok(Some(accepted)),
            Err(LoadRefusal::Transient(why)) => Err(LoadRefusal::Transient(why)),
            Err(refusal) => {
                tracing::warn!(
                    handler = name,
                    ?refusal,
                    "the version that served last does not pass either"
                );
                Ok(None)
            }
        }
    }

    async fn last_of(
        &self,
        name: &str,
        understood: Option<ParsedManifest>,
        files: LastServedFiles,
    ) -> Result<AcceptedVersion, LoadRefusal> {
        let understood = match understood {
            Some(understood) => understood,
            None => ParsedManifest {
                manifest: self.understood(files.manifest.as_deref().unwrap_or_default(), name)?,
                text: files.manifest,
            },
        };
        let policy = Arc::new(policy(name, &understood.manifest));
        let loaded = self
            .executor
            .load(files.file, files.wasm.clone(), Arc::clone(&policy))
            .await;
        let component = loaded.map_err(|error| refusal(&error))?;
        let pair = self.put(name, (files.wasm, files.digest), understood.text).await;
        let manifest = understood.manifest;
        let version = Version {
            component,
            manifest,
            policy,
        };
        Ok(AcceptedVersion { version, pair })
    }
}

fn unchanged<T>(content: T, unchanged: bool) -> Result<T, LoadRefusal> {
    if unchanged {
        Ok(content)
    } else {
        Err(LoadRefusal::FilesChanged)
    }
}

fn held(file: &Path) -> LoadRefusal {
    LoadRefusal::BeingWritten(format!(
        "{} is being written; it is taken once its writer has closed it",
        file.display()
    ))
}

fn not_read(file: &Path, unread: &FileReadError) -> LoadRefusal {
    match unread {
        FileReadError::Gone => LoadRefusal::FilesChanged,
        FileReadError::BeingWritten => held(file),
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
