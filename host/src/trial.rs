//! `sandhog check` and `sandhog invoke`: one component, here and now, without a queue.

use std::{
    fs, io,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;

use crate::{
    attempt::policy,
    config::{ConfigErrors, Manifest, environment},
    executor::{
        Call, CallMessage, Compiler, Component, ComponentInfo, EngineError, EngineOptions, Executor, LoadError,
        LocalExecutor, LogLine, MAX_WASM_BYTES, Policy, Report, Tiers, digest,
    },
    message::{Message, MessageId, Outgoing},
    plugin_dir::{self, FileLook, FileReadError, MAX_MANIFEST_BYTES},
    queue::simple::SimpleStore,
};

/// Why a component could not be tried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrialError {
    /// A file could not be read.
    #[error("{file} can't be read")]
    Read {
        /// Which file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file can't be read now: somebody is writing it.
    #[error("{file} can't be read: somebody is writing it")]
    BeingWritten {
        /// Which file.
        file: PathBuf,
    },
    /// The machine does not let a file be read, which may be good.
    #[error("the machine does not let {file} be read")]
    Denied {
        /// Which file.
        file: PathBuf,
        /// What the system says.
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
}

/// A component that the host accepts, with its manifest.
#[derive(Debug)]
pub struct ComponentTrial {
    component: Component,
    manifest: Manifest,
    policy: Arc<Policy>,
    executor: LocalExecutor,
    control: tokio::runtime::Runtime,
}

/// What is known of a file, whether a host would accept it or not.
#[derive(Debug)]
pub struct ComponentInspection {
    /// Bytes of the file.
    pub size: usize,
    /// SHA-256 of them, in hexadecimal.
    pub digest: String,
    /// What its manifest says, or the defaults.
    pub manifest: Manifest,
    /// What it is; `None` if it could not be compiled.
    pub info: Option<Arc<ComponentInfo>>,
    /// Why a host would refuse it.
    pub refusal: Option<LoadError>,
    /// How long it takes to link it and to make one instance.
    pub dry_run: Option<Duration>,
}

fn stem(file: &Path) -> &str {
    file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

fn read(file: &Path) -> Result<Vec<u8>, TrialError> {
    read_up_to(file, MAX_WASM_BYTES)
}

/// As the host reads it, which waits for nobody.
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

/// Sorts why a manifest of any kind was not read.
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
        // It can be a pipe, as a shell makes one of a command.
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

/// What a message came to.
#[derive(Debug)]
pub struct TrialInvocation {
    /// Verdict, sends and cost.
    pub report: Report,
    /// What the guest printed, in order.
    pub log: Vec<LogLine>,
}

impl ComponentTrial {
    /// Loads `file` as a host would, with a manifest: `NAME.toml` beside it if there is one, unless another is given.
    /// Compiles in a child of this program, which has to be `sandhog` itself, and keeps nothing. Blocks.
    ///
    /// # Errors
    ///
    /// See [`TrialError`].
    pub fn load(file: &Path, manifest: Option<&Path>, tiers: Tiers) -> Result<Self, TrialError> {
        let wasm = read(file)?;
        let manifest = read_manifest(file, manifest)?;
        Self::of((file, wasm), manifest, tiers)
    }

    /// Looks at `file` with a manifest as [`ComponentTrial::load`] does: what it is, and whether a host would accept it. Blocks.
    ///
    /// # Errors
    ///
    /// See [`TrialError`]; never [`TrialError::Refused`].
    pub fn inspect(file: &Path, manifest: Option<&Path>) -> Result<ComponentInspection, TrialError> {
        let wasm = read(file)?;
        let manifest = read_manifest(file, manifest)?;
        let mut inspection = ComponentInspection {
            size: wasm.len(),
            digest: digest(&wasm),
            manifest,
            info: None,
            refusal: None,
            dry_run: None,
        };
        // With grants that lead nowhere it can be looked at whatever it imports, and is compiled once.
        let mut generous = inspection.manifest.clone();
        generous.grants = generous.grants.with_every_import();
        match Self::of((file, wasm), generous, Tiers::Fast) {
            Ok(trial) => {
                inspection.info = Some(Arc::clone(&trial.component.info));
                let started = Instant::now();
                let policy = Arc::new(policy(stem(file), &inspection.manifest));
                let again = trial.executor.relink(file.to_owned(), &trial.component, policy);
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

    fn of((file, wasm): (&Path, Vec<u8>), manifest: Manifest, tiers: Tiers) -> Result<Self, TrialError> {
        let policy = Arc::new(policy(stem(file), &manifest));
        let executor = LocalExecutor::new(EngineOptions {
            max_live_instances: 1,
            compiler: Compiler::of_this_program(environment("PATH").as_deref()).map_err(TrialError::Process)?,
            tiers,
            ..EngineOptions::default()
        })?;
        let control = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(TrialError::Process)?;
        let component = control.block_on(executor.load(file.to_owned(), Bytes::from(wasm), Arc::clone(&policy)))?;
        Ok(Self {
            component,
            manifest,
            policy,
            executor,
            control,
        })
    }

    /// Runs one message through the component. What it sends and writes is shown and goes nowhere; its key-value store is
    /// empty. Blocks.
    pub fn invoke(&self, outgoing: Outgoing, receive_count: NonZeroU32) -> TrialInvocation {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let log = Arc::new(move |line| sink.lock().unwrap_or_else(PoisonError::into_inner).push(line));
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let message = Message {
            id: MessageId::random(),
            body: outgoing.body,
            attributes: outgoing.attributes,
            sent_at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            group_id: outgoing.group_id,
            priority: outgoing.priority.unwrap_or(0),
        };
        let message = CallMessage {
            message,
            queue: self.manifest.queue.clone(),
            receive_count: receive_count.get(),
        };
        // What it would find on its first message.
        let empty = || SimpleStore::ephemeral().keyvalue(&self.policy.handler);
        let keyvalue = self.policy.grants.keyvalue.then(empty);
        let call = Call {
            messages: vec![message],
            policy: Arc::clone(&self.policy),
            log,
            keyvalue,
        };
        let report = self.control.block_on(self.executor.run(&self.component, call));
        let log = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
        TrialInvocation { report, log }
    }
}
