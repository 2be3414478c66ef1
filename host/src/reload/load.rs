//! The files of one handler -> a version that can serve, or why there is none now.
//!
//! Invariants: files are used only if they were complete and have not changed while they were read; each error is sorted
//! once, by whether the same files may pass another time. Knows nothing of what the other handlers do.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::{
    attempt::{HandlerVersion, policy},
    config::{Manifest, environment},
    executor::{Component, Executor, LoadError, MAX_WASM_BYTES},
    kept::{Kept, KeptFiles, KeptPair, may_pass},
    message::QueueName,
    plugin_dir::{Look, PluginDir, Stamps, Trouble, Unread, Wasm, Writer},
    watcher::Closings,
};

/// How long a file must not have changed where nothing tells whether its writer has closed it.
const UNTOLD_QUIET: Duration = Duration::from_secs(2);
/// For how long a writer is believed to be there although nothing changes and only an event that is missing says so.
const UNCLOSED_LIMIT: Duration = Duration::from_mins(10);

/// Makes versions.
#[derive(Debug)]
pub(super) struct Loader {
    pub(super) directory: PluginDir,
    pub(super) executor: Arc<dyn Executor>,
    /// `None`: nothing is kept.
    pub(super) kept: Option<Arc<Kept>>,
    pub(super) closings: Closings,
}

/// What is to be loaded.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) name: String,
    pub(super) stamps: Stamps,
    /// For how long the files have looked like that.
    pub(super) quiet_for: Duration,
    /// What serves now: not compiled again if its bytes have not changed.
    pub(super) running: Option<Component>,
    /// Whether what served last is wanted if the files do not pass.
    pub(super) fall_back: bool,
}

/// What a load came to.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) name: String,
    pub(super) stamps: Stamps,
    pub(super) version: Result<Accepted, Refusal>,
    /// What served last, if the files did not pass; or why it can't be had now.
    pub(super) fallback: Result<Option<Accepted>, Refusal>,
}

/// A version that can serve.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) version: HandlerVersion,
    /// Its files on disk, if they could be kept.
    pub(super) pair: Option<KeptPair>,
}

/// Why a load came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The files changed while they were read: look again once they are quiet.
    Changed,
    /// Somebody is writing a file; the text says which.
    Held(String),
    /// The host or the machine could not do its part; the text says what.
    Again(String),
    /// The files are not acceptable; the text says why.
    Final(String),
}

/// A manifest of the directory that was read and understood.
#[derive(Debug, Clone)]
struct Understood {
    manifest: Manifest,
    /// `None`: there is no file.
    text: Option<String>,
}

impl Refusal {
    /// The reason, if the same files may pass another time.
    pub(super) fn passing(self) -> Option<String> {
        match self {
            Self::Again(why) => Some(why),
            Self::Changed | Self::Held(_) | Self::Final(_) => None,
        }
    }
}

impl Loader {
    /// The queues that a handler needs, as far as its manifest tells. A manifest without a component counts only if it is
    /// one without a mistake: it may belong to something else.
    pub(super) async fn queues(self: Arc<Self>, name: String, stamps: Stamps) -> Vec<QueueName> {
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
    pub(super) async fn load(self: Arc<Self>, order: Order) -> Loaded {
        let (this, name) = (Arc::clone(&self), order.name.clone());
        let order = Arc::new(order);
        let reading = Arc::clone(&order);
        let read = spawn_blocking(move || this.read(&reading)).await;
        let (understood, wasm) = read.unwrap_or_else(|error| {
            let refusal = Refusal::Again(format!("{name} can't be read: {error}"));
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
        Loaded {
            name,
            stamps: order.stamps.clone(),
            version,
            fallback,
        }
    }

    /// Reads both files, each for itself, and understands the manifest. Blocks.
    fn read(&self, order: &Order) -> (Result<Understood, Refusal>, Result<Wasm, Refusal>) {
        let text = self.read_manifest(order);
        let wasm = self.read_wasm(order);
        let now = self.directory.look(&order.name);
        let text = text.and_then(|text| unchanged(text, now.manifest == order.stamps.manifest));
        let wasm = wasm.and_then(|wasm| unchanged(wasm, now.wasm == order.stamps.wasm));
        let understood = text.and_then(|text| {
            let manifest = self.understood(text.as_deref().unwrap_or_default(), &order.name)?;
            Ok(Understood { manifest, text })
        });
        (understood, wasm)
    }

    fn read_manifest(&self, order: &Order) -> Result<Option<String>, Refusal> {
        let (file, look) = (self.directory.manifest(&order.name), &order.stamps.manifest);
        match look {
            None => return Ok(None),
            Some(Look::Trouble(trouble)) => return Err(refused(&file, trouble)),
            Some(Look::File(_)) => {}
        }
        match self.directory.read_manifest(&order.name) {
            Ok(None) => Err(Refusal::Changed),
            Ok(Some((text, writer))) => self.complete(&file, writer, order, look.as_ref()).map(|()| Some(text)),
            Err(unread) => Err(not_read(&file, &unread)),
        }
    }

    fn read_wasm(&self, order: &Order) -> Result<Wasm, Refusal> {
        let (file, look) = (self.directory.wasm(&order.name), &order.stamps.wasm);
        if let Some(Look::Trouble(trouble)) = look {
            return Err(refused(&file, trouble));
        }
        match self.directory.read_wasm(&order.name, MAX_WASM_BYTES) {
            Ok(wasm) => self.complete(&file, wasm.writer, order, look.as_ref()).map(|()| wasm),
            Err(unread) => Err(not_read(&file, &unread)),
        }
    }

    /// Whether a file that was read is all that its writer has to say: by what the system tells of writers, by the events of
    /// the directory, or by how long nothing has changed.
    fn complete(&self, file: &Path, writer: Writer, order: &Order, look: Option<&Look>) -> Result<(), Refusal> {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let complete = match writer {
            Writer::Absent => true,
            Writer::Present => false,
            Writer::Untold => match self.closings.is_closed(name, look) {
                Some(true) => true,
                Some(false) => order.quiet_for >= UNCLOSED_LIMIT,
                None => order.quiet_for >= UNTOLD_QUIET,
            },
        };
        if complete { Ok(()) } else { Err(held(file)) }
    }

    fn understood(&self, text: &str, name: &str) -> Result<Manifest, Refusal> {
        // It reads the files that values come from.
        let parsed = Manifest::parse_in(text, name, self.directory.path(), &environment);
        parsed.map_err(|errors| {
            let reason = errors.to_string();
            if errors.is_transient() {
                Refusal::Again(reason)
            } else {
                Refusal::Final(reason)
            }
        })
    }

    async fn version(&self, order: &Order, wasm: Wasm, understood: &Understood) -> Result<Accepted, Refusal> {
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
        let version = HandlerVersion {
            component,
            manifest,
            policy,
        };
        Ok(Accepted { version, pair })
    }

    /// Keeps the files of a version that may serve soon. Without them it serves as well.
    async fn put(&self, name: &str, (wasm, digest): (Bytes, String), manifest: Option<String>) -> Option<KeptPair> {
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
        understood: Option<Understood>,
        digest: Option<&str>,
    ) -> Result<Option<Accepted>, Refusal> {
        let Some(kept) = self.kept.clone() else { return Ok(None) };
        let handler = name.to_owned();
        let last = spawn_blocking(move || kept.last(&handler)).await;
        let files = match last {
            Ok(Ok(Some(files))) => files,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) if may_pass(&error) => return Err(Refusal::Again(error.to_string())),
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
            Err(Refusal::Again(why)) => Err(Refusal::Again(why)),
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

    async fn last_of(&self, name: &str, understood: Option<Understood>, files: KeptFiles) -> Result<Accepted, Refusal> {
        let understood = match understood {
            Some(understood) => understood,
            None => Understood {
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
        let version = HandlerVersion {
            component,
            manifest,
            policy,
        };
        Ok(Accepted { version, pair })
    }
}

fn unchanged<T>(content: T, unchanged: bool) -> Result<T, Refusal> {
    if unchanged { Ok(content) } else { Err(Refusal::Changed) }
}

fn held(file: &Path) -> Refusal {
    Refusal::Held(format!(
        "{} is being written; it is taken once its writer has closed it",
        file.display()
    ))
}

fn not_read(file: &Path, unread: &Unread) -> Refusal {
    match unread {
        Unread::Gone => Refusal::Changed,
        Unread::Written => held(file),
        Unread::Trouble(trouble) => refused(file, trouble),
    }
}

fn refused(file: &Path, trouble: &Trouble) -> Refusal {
    let reason = format!("{}: {trouble}", file.display());
    if trouble.passes {
        Refusal::Again(reason)
    } else {
        Refusal::Final(reason)
    }
}

fn refusal(error: &LoadError) -> Refusal {
    let reason = error.to_string();
    if error.is_transient() {
        Refusal::Again(reason)
    } else {
        Refusal::Final(reason)
    }
}
