//! Makes a version of the files of one handler, or says why they are refused.
//!
//! Invariants: files are used only if they were complete and have not changed while they were read; each error is sorted
//! once, by whether the same files may be accepted another time. Knows nothing of the other handlers.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::{
    attempt::policy,
    config::{Manifest, environment},
    plugin_dir::{FileLook, FileReadError, FileTrouble, FileWriter, HandlerStamps, PluginDir, WasmFile},
    versions::{
        BarredComponent, StoredComponent, VersionDigests, VersionFiles, VersionHistory, VersionRecord, VersionState,
        VersionStore, is_transient,
    },
    watcher::FileClosings,
};
use sandhog_executor::{Component, Executor, GuestPolicy, LoadError, MAX_WASM_BYTES, digest as sha256};
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
    pub(crate) versions: Option<Arc<VersionStore>>,
    pub(crate) closings: FileClosings,
}

/// An order to load one handler.
#[derive(Debug)]
pub(crate) struct LoadOrder {
    pub(crate) name: String,
    pub(crate) stamps: HandlerStamps,
    /// The time for which the files have had these stamps.
    pub(crate) quiet_for: Duration,
    /// The components that serve, which are not compiled again if their bytes are wanted.
    pub(crate) loaded: Vec<Component>,
    /// The versions of the handler; `None` if they are to be read from the disk.
    pub(crate) history: Option<VersionHistory>,
    /// The version that served last is wanted if the files are refused.
    pub(crate) fall_back: bool,
    /// An older version is wanted, under the manifest that is there.
    pub(crate) older: Option<u64>,
    /// The digest of a component that somebody promotes, although it is quarantined or set aside.
    pub(crate) promoted: Option<String>,
}

/// The result of a load.
#[derive(Debug)]
pub(crate) struct LoadReport {
    pub(crate) name: String,
    pub(crate) stamps: HandlerStamps,
    /// The versions of the handler, if they could be read.
    pub(crate) history: Option<VersionHistory>,
    pub(crate) version: Result<AcceptedVersion, LoadRefusal>,
    /// The version that served last, if the files were refused; or the reason why it can't be had now.
    pub(crate) fallback: Result<Option<AcceptedVersion>, LoadRefusal>,
    /// An older version was wanted.
    pub(crate) older: Option<u64>,
    /// The digest of the component in the plugin directory, if it could be read.
    pub(crate) digest: Option<String>,
}

/// A component with the manifest that counts for it.
#[derive(Debug, Clone)]
pub(crate) struct LoadedVersion {
    pub(crate) component: Component,
    pub(crate) manifest: Manifest,
    pub(crate) policy: Arc<GuestPolicy>,
}

/// A version that can serve.
#[derive(Debug)]
pub(crate) struct AcceptedVersion {
    pub(crate) loaded: LoadedVersion,
    /// The digests of its files.
    pub(crate) digests: VersionDigests,
    /// Its files are in the store of versions.
    pub(crate) is_stored: bool,
    /// The version that it is to be compared with.
    pub(crate) predecessor: LoadedPredecessor,
    /// The version of the files in the plugin directory, if this one serves in its place.
    pub(crate) instead_of: Option<BarredComponent>,
    /// The older version whose component this is.
    pub(crate) older: Option<u64>,
    /// The path that the component came from.
    pub(crate) file: PathBuf,
}

/// The version to which the host can go back.
#[derive(Debug)]
pub(crate) enum LoadedPredecessor {
    /// There is none.
    Absent,
    /// The version has this number, and runs under the newest manifest.
    Loaded(u64, Box<LoadedVersion>),
    /// There is one, and it can't run under the newest manifest, for the reason in the text.
    Unable(u64, String),
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
    pub(crate) fn text(&self) -> &str {
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
    /// Puts a text before the reason.
    fn because(self, what: &str) -> Self {
        let why = |why: String| format!("{what}: {why}");
        match self {
            Self::FilesChanged => Self::FilesChanged,
            Self::BeingWritten(reason) => Self::BeingWritten(why(reason)),
            Self::Transient(reason) => Self::Transient(why(reason)),
            Self::Final(reason) => Self::Final(why(reason)),
        }
    }

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
        let read = spawn_blocking(move || {
            let (parsed, wasm) = this.read(&order_to_read);
            (parsed, wasm, this.history(&order_to_read))
        });
        let (parsed, wasm, history) = read.await.unwrap_or_else(|error| {
            let refusal = LoadRefusal::Transient(format!("{name} can't be read: {error}"));
            (Err(refusal.clone()), Err(refusal.clone()), Err(refusal))
        });
        let digest = wasm.as_ref().ok().map(|wasm| wasm.digest.clone());
        let (version, fallback) = match &history {
            Err(refusal) => (Err(refusal.clone()), Err(refusal.clone())),
            Ok(history) => {
                let version = match (wasm, &parsed) {
                    (_, Ok(parsed)) if order.older.is_some() => self.older(&order, parsed, history).await,
                    (Err(refusal), _) => Err(refusal),
                    (Ok(_), Err(refusal)) => Err(refusal.clone()),
                    (Ok(wasm), Ok(parsed)) => self.version(&order, wasm, parsed, history).await,
                };
                let fallback = match &version {
                    Err(_) if order.fall_back => {
                        self.last_served(&order, parsed.ok(), history, digest.as_deref()).await
                    }
                    Ok(_) | Err(_) => Ok(None),
                };
                (version, fallback)
            }
        };
        LoadReport {
            name,
            stamps: order.stamps.clone(),
            history: history.ok(),
            version,
            fallback,
            older: order.older,
            digest,
        }
    }

    /// Returns the versions of a handler, which may be on the disk. Blocks. A history that is damaged keeps no handler from serving:
    /// it begins anew.
    fn history(&self, order: &LoadOrder) -> Result<VersionHistory, LoadRefusal> {
        if let Some(history) = &order.history {
            return Ok(history.clone());
        }
        let Some(store) = &self.versions else {
            return Ok(VersionHistory::default());
        };
        let stored = store.history(&order.name);
        let stored = stored.map_err(|error| LoadRefusal::Transient(format!("its versions can't be read: {error}")))?;
        if let Some(damage) = stored.damage {
            tracing::warn!(
                handler = order.name,
                damage,
                "the history of the handler's versions is damaged, and begins anew"
            );
        }
        Ok(stored.history)
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

    /// Returns the version of the files in the plugin directory; or, if it was set aside, the one that serves in its place.
    async fn version(
        &self,
        order: &LoadOrder,
        wasm: WasmFile,
        parsed: &ParsedManifest,
        history: &VersionHistory,
    ) -> Result<AcceptedVersion, LoadRefusal> {
        let is_promoted = order.promoted.as_ref() == Some(&wasm.digest);
        if let Some(barred) = history.barred(&wasm.digest).filter(|_| !is_promoted) {
            return self.instead_of(order, barred, parsed, history).await;
        }
        let bytes = ComponentBytes {
            file: self.directory.wasm(&order.name),
            digest: wasm.digest,
            bytes: Bytes::from(wasm.bytes),
        };
        let mut accepted = self.accept(order, bytes, parsed).await?;
        if let Some(number) = predecessor_of(&accepted.digests, history) {
            accepted.predecessor = self.predecessor(order, number, &accepted.loaded, history).await?;
        }
        Ok(accepted)
    }

    /// Returns the version that serves in place of one that was set aside, under the manifest that is there.
    async fn instead_of(
        &self,
        order: &LoadOrder,
        barred: &BarredComponent,
        parsed: &ParsedManifest,
        history: &VersionHistory,
    ) -> Result<AcceptedVersion, LoadRefusal> {
        let number = barred.number;
        let state = barred.state.as_str();
        let Some(serving) = history.serving() else {
            return Err(LoadRefusal::Final(format!(
                "version {number} is {state}, and no other version is kept: drop another file, or promote it"
            )));
        };
        let bytes = self.stored(order, serving).await?;
        let accepted = self.accept(order, bytes, parsed).await;
        let accepted = accepted.map_err(|refusal| {
            refusal.because(&format!(
                "version {number} is {state}, and version {} can't serve in its place",
                serving.number
            ))
        })?;
        Ok(AcceptedVersion {
            instead_of: Some(barred.clone()),
            older: Some(serving.number),
            ..accepted
        })
    }

    /// Returns an older version under the manifest that is there.
    async fn older(
        &self,
        order: &LoadOrder,
        parsed: &ParsedManifest,
        history: &VersionHistory,
    ) -> Result<AcceptedVersion, LoadRefusal> {
        let record = order.older.and_then(|number| history.version(number));
        let record = record.ok_or_else(|| LoadRefusal::Final("the version is not kept any more".to_owned()))?;
        let bytes = self.stored(order, record).await?;
        let why = format!(
            "version {} can't run under the manifest that is there now",
            record.number
        );
        let accepted = self.accept(order, bytes, parsed).await;
        let accepted = accepted.map_err(|refusal| refusal.because(&why))?;
        Ok(AcceptedVersion {
            older: order.older,
            ..accepted
        })
    }

    /// Returns the predecessor under the manifest of the newest version.
    async fn predecessor(
        &self,
        order: &LoadOrder,
        number: u64,
        newest: &LoadedVersion,
        history: &VersionHistory,
    ) -> Result<LoadedPredecessor, LoadRefusal> {
        let Some(record) = history.version(number) else {
            return Ok(LoadedPredecessor::Absent);
        };
        let loaded = match order.loaded_component(&record.digests.component) {
            Some(component) => {
                let file = PathBuf::from(&record.file);
                self.executor.relink(file, component, Arc::clone(&newest.policy)).await
            }
            None => match self.stored(order, record).await {
                Ok(ComponentBytes { file, bytes, .. }) => {
                    self.executor.load(file, bytes, Arc::clone(&newest.policy)).await
                }
                Err(LoadRefusal::Transient(why)) => return Err(LoadRefusal::Transient(why)),
                Err(refusal) => return Ok(LoadedPredecessor::Unable(number, refusal.text().to_owned())),
            },
        };
        match loaded {
            Ok(component) => {
                let loaded = LoadedVersion {
                    component,
                    ..newest.clone()
                };
                Ok(LoadedPredecessor::Loaded(number, Box::new(loaded)))
            }
            // It may be there the next time, and nothing else leads back.
            Err(error) if error.is_transient() => Err(refusal(&error)),
            Err(error) => Ok(LoadedPredecessor::Unable(number, error.to_string())),
        }
    }

    /// Reads the component of a version that is kept.
    async fn stored(&self, order: &LoadOrder, record: &VersionRecord) -> Result<ComponentBytes, LoadRefusal> {
        let number = record.number;
        let Some(store) = self.versions.clone() else {
            let loaded = order.loaded_component(&record.digests.component);
            return match loaded {
                Some(component) => Ok(ComponentBytes {
                    file: PathBuf::from(&record.file),
                    digest: component.info.digest.clone(),
                    bytes: Bytes::new(),
                }),
                None => Err(LoadRefusal::Final(format!(
                    "the component of version {number} is gone: a host without a data directory keeps no files"
                ))),
            };
        };
        let handler = order.name.clone();
        // Errors name the files that people edit, and not the ones that are kept.
        let file = self.directory.wasm(&order.name);
        let record = record.clone();
        match spawn_blocking(move || store.files(&handler, &record)).await {
            Ok(Ok(files)) => Ok(ComponentBytes {
                file,
                digest: files.digest,
                bytes: files.wasm,
            }),
            Ok(Err(error)) => {
                let why = format!("the component of version {number} can't be read: {error}");
                Err(if is_transient(&error) {
                    LoadRefusal::Transient(why)
                } else {
                    LoadRefusal::Final(why)
                })
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Compiles, or links anew, a component under a manifest, and stores the files of both.
    async fn accept(
        &self,
        order: &LoadOrder,
        of: ComponentBytes,
        parsed: &ParsedManifest,
    ) -> Result<AcceptedVersion, LoadRefusal> {
        let name = &order.name;
        let policy = Arc::new(policy(name, &parsed.manifest));
        let ComponentBytes { file, digest, bytes } = of;
        let loaded = match order.loaded_component(&digest) {
            Some(component) => self.executor.relink(file.clone(), component, Arc::clone(&policy)).await,
            None => {
                self.executor
                    .load(file.clone(), bytes.clone(), Arc::clone(&policy))
                    .await
            }
        };
        let component = loaded.map_err(|error| refusal(&error))?;
        let digests = VersionDigests {
            component: digest.clone(),
            manifest: parsed.text.as_ref().map(|text| sha256(text.as_bytes())),
        };
        let is_stored = self.store(name, bytes, digest, parsed.text.clone()).await;
        Ok(AcceptedVersion {
            loaded: LoadedVersion {
                component,
                manifest: parsed.manifest.clone(),
                policy,
            },
            digests,
            is_stored,
            predecessor: LoadedPredecessor::Absent,
            instead_of: None,
            older: None,
            file,
        })
    }

    /// Stores the files of a version that may serve soon. The version serves even if they can't be stored.
    async fn store(&self, name: &str, wasm: Bytes, digest: String, manifest: Option<String>) -> bool {
        let Some(store) = self.versions.clone() else {
            return false;
        };
        let handler = name.to_owned();
        let stored = spawn_blocking(move || {
            let component = StoredComponent {
                wasm: &wasm,
                digest: &digest,
            };
            store.store(&handler, component, manifest.as_deref())
        });
        match stored.await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::warn!(handler = name, %error, "the version could not be stored: after a restart it serves only if its file is good then");
                false
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
        order: &LoadOrder,
        parsed: Option<ParsedManifest>,
        history: &VersionHistory,
        digest: Option<&str>,
    ) -> Result<Option<AcceptedVersion>, LoadRefusal> {
        let name = &order.name;
        let Some((store, record)) = self.versions.clone().zip(history.serving().cloned()) else {
            return Ok(None);
        };
        let handler = name.clone();
        let number = record.number;
        let last = spawn_blocking(move || store.files(&handler, &record)).await;
        let files = match last {
            Ok(Ok(files)) => files,
            Ok(Err(error)) if is_transient(&error) => {
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
        match self.version_of(order, parsed, files, history).await {
            Ok(accepted) => Ok(Some(AcceptedVersion {
                older: Some(number),
                ..accepted
            })),
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
        order: &LoadOrder,
        parsed: Option<ParsedManifest>,
        files: VersionFiles,
        history: &VersionHistory,
    ) -> Result<AcceptedVersion, LoadRefusal> {
        let parsed = match parsed {
            Some(parsed) => parsed,
            None => ParsedManifest {
                manifest: self.parse_manifest(files.manifest.as_deref().unwrap_or_default(), &order.name)?,
                text: files.manifest,
            },
        };
        let bytes = ComponentBytes {
            file: self.directory.wasm(&order.name),
            digest: files.digest,
            bytes: files.wasm,
        };
        let mut accepted = self.accept(order, bytes, &parsed).await?;
        // A restart ends no probation.
        if let Some(number) = predecessor_of(&accepted.digests, history) {
            accepted.predecessor = self.predecessor(order, number, &accepted.loaded, history).await?;
        }
        Ok(accepted)
    }
}

/// Returns the number of the version with which a new one is compared: the one that serves or, as long as that is on probation
/// itself, its predecessor. A component is not compared with itself.
fn predecessor_of(newest: &VersionDigests, history: &VersionHistory) -> Option<u64> {
    let serving = history.serving()?;
    let is_unproven = serving.state == VersionState::Probation;
    let is_same = serving.digests.component == newest.component;
    let predecessor = if is_unproven || is_same {
        history.predecessor()?
    } else {
        serving
    };
    (predecessor.digests.component != newest.component).then_some(predecessor.number)
}

impl LoadOrder {
    fn loaded_component(&self, digest: &str) -> Option<&Component> {
        self.loaded.iter().find(|loaded| loaded.info.digest == digest)
    }
}

/// The bytes of a component.
#[derive(Debug)]
struct ComponentBytes {
    file: PathBuf,
    digest: String,
    /// Empty if the component is loaded and its file is not kept.
    bytes: Bytes,
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
