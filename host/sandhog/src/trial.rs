//! Tries one component without a queue and without a host: for `sandhog check`, `sandhog invoke`, and a component that came in by a page.

#![expect(clippy::disallowed_methods, reason = "the time of a dry run is that of the machine")]

use std::{
    fs, future, io,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    attempt::policy,
    config::{ConfigErrors, Manifest, environment},
    plugin_dir::{self, FileLook, FileReadError, MAX_MANIFEST_BYTES},
    rehearsal::{Rehearsal, RehearsedCall, without_effects},
};
use sandhog_executor::{
    CallMessage, CodeTiers, Compiler, ComponentInfo, EngineError, EngineOptions, Executor, LoadError, LocalExecutor,
    MAX_WASM_BYTES, digest,
};
use sandhog_queue::{
    machine_clock::wall_ms,
    message::{CheckedMessage, Message, MessageId},
};

mod facts;

pub(crate) use self::facts::{Facts, shown_lines};

/// The reason why a component could not be tried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrialError {
    /// A file could not be read.
    #[error("{file} can't be read")]
    Read {
        /// The path of the file.
        file: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// A file can't be read now: another process is writing it.
    #[error("{file} can't be read: somebody is writing it")]
    BeingWritten {
        /// The path of the file.
        file: PathBuf,
    },
    /// The machine does not let a file be read. The file may be good.
    #[error("the machine does not let {file} be read")]
    Denied {
        /// The path of the file.
        file: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The manifest beside the component has mistakes.
    #[error(transparent)]
    Manifest(#[from] ConfigErrors),
    /// The host would refuse the component.
    #[error(transparent)]
    Refused(#[from] LoadError),
    /// The executor could not be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Threads could not be started.
    #[error("the process could not be set up")]
    Process(#[source] io::Error),
    /// The trial was ended before its end.
    #[error("the trial was stopped")]
    Stopped,
}

/// The bytes that the code of all tried components may take together on the disk (1 GiB).
const TRIAL_ARTIFACTS_BYTES: u64 = 1024 * 1024 * 1024;

/// The code of a component that is tried.
#[derive(Debug, Clone)]
pub struct TrialCode {
    /// The code that is made, if none was kept.
    pub tiers: CodeTiers,
    /// The directory that keeps code; `None` keeps nothing.
    pub artifacts: Option<PathBuf>,
    /// A person waits, and the machine has nothing else to do.
    pub urgent: bool,
}

impl TrialCode {
    /// Returns the options of an executor whose code a person waits for.
    ///
    /// # Errors
    ///
    /// The system can't say which program is running.
    pub(crate) fn options(self, search_path: Option<&str>) -> io::Result<EngineOptions> {
        Ok(EngineOptions {
            compiler: Compiler::of_this_program(search_path)?,
            tiers: self.tiers,
            artifacts: self.artifacts,
            artifacts_bytes: TRIAL_ARTIFACTS_BYTES,
            urgent: self.urgent,
            ..EngineOptions::default()
        })
    }
}

/// A component that the host accepts, with its manifest.
#[derive(Debug)]
pub struct ComponentTrial {
    rehearsal: Rehearsal,
    manifest: Manifest,
    executor: Arc<LocalExecutor>,
    control: tokio::runtime::Runtime,
}

/// What messages that happened are run through.
#[derive(Debug)]
pub enum ReplayedComponent<'a> {
    /// A file, with a manifest as for [`ComponentTrial::load`].
    File {
        /// The path of the file.
        file: &'a Path,
        /// The path of the manifest.
        manifest: Option<&'a Path>,
    },
    /// A version that a host has kept. Directories that its manifest names are looked for here.
    Version {
        /// The name of the handler.
        handler: &'a str,
        /// The bytes of the component.
        wasm: Bytes,
        /// The text of the manifest.
        manifest: Option<&'a str>,
    },
}

/// A file that is inspected, as it was read.
#[derive(Debug)]
pub(crate) struct InspectedFile<'f> {
    /// The path of the file, or a name for messages. Its stem is the name of the handler.
    pub(crate) file: &'f Path,
    /// The bytes of the file.
    pub(crate) wasm: Bytes,
    /// The manifest that it would run with.
    pub(crate) manifest: Manifest,
    /// See [`TrialCode::urgent`].
    pub(crate) urgent: bool,
}

/// The facts about a file, which a host would accept or refuse.
#[derive(Debug)]
pub struct ComponentInspection {
    /// The size of the file in bytes.
    pub size: usize,
    /// The SHA-256 digest of the file, in hexadecimal.
    pub digest: String,
    /// The manifest of the file, or the defaults.
    pub manifest: Manifest,
    /// The facts about the component; `None` if it could not be compiled.
    pub info: Option<Arc<ComponentInfo>>,
    /// The reason why a host would refuse the file.
    pub refusal: Option<LoadError>,
    /// The time that linking and making one instance take.
    pub dry_run: Option<Duration>,
}

fn stem(file: &Path) -> &str {
    file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

fn read(file: &Path) -> Result<Vec<u8>, TrialError> {
    read_up_to(file, MAX_WASM_BYTES)
}

/// Reads a file as the host does, without waiting for a writer.
fn read_up_to(file: &Path, max_bytes: usize) -> Result<Vec<u8>, TrialError> {
    plugin_dir::read(file, max_bytes)
        .map(|content| content.bytes)
        .map_err(|unread| TrialError::of(file, unread))
}

impl TrialError {
    fn of(file: &Path, unread: FileReadError) -> Self {
        let file = file.to_owned();
        match unread {
            FileReadError::Gone => Self::Read {
                file,
                source: io::ErrorKind::NotFound.into(),
            },
            FileReadError::BeingWritten => Self::BeingWritten { file },
            FileReadError::Trouble(trouble) if trouble.is_transient => Self::Denied {
                file,
                source: io::Error::other(trouble),
            },
            FileReadError::Trouble(trouble) => Self::Read {
                file,
                source: io::Error::other(trouble),
            },
        }
    }
}

/// Sorts an error of reading a manifest that was named, which may be a file of any kind.
fn of_given(file: &Path, source: io::Error) -> TrialError {
    let file = file.to_owned();
    let is_of_the_path = matches!(
        source.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    );
    if is_of_the_path {
        TrialError::Read { file, source }
    } else {
        TrialError::Denied { file, source }
    }
}

fn read_manifest(file: &Path, given: Option<&Path>) -> Result<Manifest, TrialError> {
    let beside = file.with_extension("toml");
    let path = given.unwrap_or(&beside);
    let bytes = match given {
        // The path can be a pipe, as a shell makes one of a command.
        Some(given) => fs::read(given).map_err(|source| of_given(given, source))?,
        None if FileLook::at(path).is_none() => return Ok(Manifest::defaults(stem(file))?),
        None => read_up_to(path, MAX_MANIFEST_BYTES)?,
    };
    let text = String::from_utf8(bytes).map_err(|_| TrialError::Read {
        file: path.to_owned(),
        source: io::Error::other("it is not UTF-8"),
    })?;
    let directory = path.parent().unwrap_or(Path::new(""));
    Ok(Manifest::parse_in(&text, stem(file), directory, &environment)?)
}

impl ComponentTrial {
    /// Loads `file` as a host would, with a manifest: the given one, or else `NAME.toml` beside the file if it exists.
    /// Compiles in a child of this program, which has to be `sandhog` itself. Blocks.
    ///
    /// # Errors
    ///
    /// See [`TrialError`].
    pub fn load(file: &Path, manifest: Option<&Path>, code: TrialCode) -> Result<Self, TrialError> {
        let wasm = read(file)?;
        let manifest = read_manifest(file, manifest)?;
        Self::new(file, wasm, manifest, code)
    }

    /// As [`ComponentTrial::load`], for messages that happened: nothing that a guest does has an effect outside of it. Its directories
    /// can't be written, and servers are reached only with `http`.
    ///
    /// # Errors
    ///
    /// See [`TrialError`].
    pub fn load_for_replay(component: ReplayedComponent<'_>, code: TrialCode, http: bool) -> Result<Self, TrialError> {
        let (file, wasm, mut manifest) = match component {
            ReplayedComponent::File { file, manifest } => (
                file.to_owned(),
                Bytes::from(read(file)?),
                read_manifest(file, manifest)?,
            ),
            ReplayedComponent::Version {
                handler,
                wasm,
                manifest,
            } => {
                let manifest = match manifest {
                    Some(text) => Manifest::parse_in(text, handler, Path::new(""), &environment)?,
                    None => Manifest::defaults(handler)?,
                };
                (PathBuf::from(format!("{handler}.wasm")), wasm, manifest)
            }
        };
        without_effects(&mut manifest, http);
        Self::new(&file, wasm, manifest, code)
    }

    /// Returns the facts about the component.
    pub fn info(&self) -> &ComponentInfo {
        &self.rehearsal.component().info
    }

    /// Inspects `file`, with a manifest as for [`ComponentTrial::load`]: the facts about the component, and whether a host would
    /// accept it. An instance of it is made, whose start functions run; they can't write its directories, and reach no server. Blocks.
    ///
    /// # Errors
    ///
    /// See [`TrialError`]; never [`TrialError::Refused`].
    pub fn inspect(file: &Path, manifest: Option<&Path>) -> Result<ComponentInspection, TrialError> {
        let inspected = InspectedFile {
            file,
            wasm: Bytes::from(read(file)?),
            manifest: read_manifest(file, manifest)?,
            urgent: true,
        };
        Self::inspect_until(inspected, future::pending())
    }

    /// As [`ComponentTrial::inspect`], for bytes that are there already. Ends with [`TrialError::Stopped`] when `stop` does, while the
    /// component is compiled.
    pub(crate) fn inspect_until(
        inspected: InspectedFile<'_>,
        stop: impl Future<Output = ()>,
    ) -> Result<ComponentInspection, TrialError> {
        let InspectedFile {
            file,
            wasm,
            manifest,
            urgent,
        } = inspected;
        let mut inspection = ComponentInspection {
            size: wasm.len(),
            digest: digest(&wasm),
            manifest,
            info: None,
            refusal: None,
            dry_run: None,
        };
        // A check changes nothing, and the start functions of a component run in it. Every granted import stays.
        let mut harmless = inspection.manifest.clone();
        without_effects(&mut harmless, false);
        // With grants that reach nothing every component can be linked, whatever it imports, and one compilation is enough.
        let mut generous = harmless.clone();
        generous.grants = generous.grants.with_every_import();
        // What is kept would not show that it compiles within the limits.
        let code = TrialCode {
            tiers: CodeTiers::Fast,
            artifacts: None,
            urgent,
        };
        match Self::new_until(file, wasm, generous, code, stop) {
            Ok(trial) => {
                let component = trial.rehearsal.component();
                inspection.info = Some(Arc::clone(&component.info));
                let started = Instant::now();
                let policy = Arc::new(policy(stem(file), &harmless));
                let again = trial.executor.relink(file.to_owned(), component, policy);
                match trial.control.block_on(again) {
                    Ok(_) => inspection.dry_run = Some(started.elapsed()),
                    Err(refusal) => inspection.refusal = Some(refusal),
                }
            }
            Err(TrialError::Refused(refusal)) => inspection.refusal = Some(refusal),
            Err(error) => return Err(error),
        }
        Ok(inspection)
    }

    fn new(file: &Path, wasm: impl Into<Bytes>, manifest: Manifest, code: TrialCode) -> Result<Self, TrialError> {
        Self::new_until(file, wasm, manifest, code, future::pending())
    }

    fn new_until(
        file: &Path,
        wasm: impl Into<Bytes>,
        manifest: Manifest,
        code: TrialCode,
        stop: impl Future<Output = ()>,
    ) -> Result<Self, TrialError> {
        let executor = Arc::new(LocalExecutor::new(EngineOptions {
            max_live_instances: 1,
            ..code
                .options(environment("PATH").as_deref())
                .map_err(TrialError::Process)?
        })?);
        let control = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(TrialError::Process)?;
        let shared: Arc<dyn Executor> = Arc::<LocalExecutor>::clone(&executor);
        let loading = Rehearsal::load(shared, file.to_owned(), wasm.into(), &manifest);
        let rehearsal = control.block_on(async {
            tokio::select! {
                loaded = loading => Ok(loaded?),
                () = stop => Err(TrialError::Stopped),
            }
        })?;
        Ok(Self {
            rehearsal,
            manifest,
            executor,
            control,
        })
    }

    /// Runs one message through the component. Its sends and writes are in the answer and happen nowhere, and its key-value store
    /// is empty. Blocks.
    pub fn invoke(&self, message: CheckedMessage, receive_count: NonZeroU32) -> RehearsedCall {
        let outgoing = message.into_outgoing();
        let message = Message {
            id: MessageId::random(),
            body: outgoing.body,
            attributes: outgoing.attributes,
            sent_at_ms: wall_ms(),
            group_id: outgoing.group_id,
            priority: outgoing.priority.unwrap_or(0),
        };
        self.call(CallMessage {
            message,
            queue: self.manifest.queue.clone(),
            receive_count: receive_count.get(),
        })
    }

    /// As [`ComponentTrial::invoke`], with a message that a queue has handed out.
    pub fn call(&self, message: CallMessage) -> RehearsedCall {
        self.control.block_on(self.rehearsal.call(message))
    }
}
