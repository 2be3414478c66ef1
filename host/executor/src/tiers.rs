//! The source of the code of a component: an artifact that was kept, or the compiler.
//!
//! The code is first made quickly, so that its handler can begin. Then it is made well, while the first code serves.

#![expect(
    clippy::disallowed_methods,
    reason = "the time of a compilation is that of the machine"
)]

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustix::io::Errno;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::spawn_blocking,
};
use wasmtime::{Engine, component::Component};

use super::{
    LoadError,
    artifacts::Artifacts,
    compiler::{CodeTier, CompileError, CompileOrder, Compiled, Compiler, Facts},
    wasm::{MAX_WASM_BYTES, digest, shown},
};
use crate::policy::Limits;

/// A component of this size is compiled for so long that the log says so.
const LARGE_BYTES: usize = 4 * 1024 * 1024;
/// The most files that are compiled at a time: one that takes long must not hold up the next.
const MAX_AT_ONCE: usize = 2;
/// The most bytes of files that are held for code that is to be made well (256 MiB), in units of [`HELD_UNIT`]. Further files
/// are read again when their turn comes.
const MAX_HELD: usize = 256;
const HELD_UNIT: usize = 1024 * 1024;

/// The code that is made of a component.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CodeTiers {
    /// Code that is compiled quickly, and then code that runs faster, which replaces it.
    #[default]
    FastThenOptimised,
    /// Only code that is compiled quickly.
    Fast,
    /// Only code that runs fastest.
    Optimised,
}

/// Makes code for one engine.
pub(crate) struct Compilations {
    engine: Engine,
    compiler: Compiler,
    tiers: CodeTiers,
    artifacts: Option<Artifacts>,
    urgent: bool,
    at_once: Semaphore,
    /// Better code is made for one component at a time, so that a new handler never waits for two of those compilations.
    improving: Semaphore,
    /// The number of handlers that wait for their first code.
    beginners: watch::Sender<usize>,
    held: Arc<Semaphore>,
}

/// A file, and the limits of its compilation.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) file: PathBuf,
    pub(crate) wasm: Bytes,
    /// The digest of `wasm`.
    pub(crate) digest: String,
    pub(crate) limits: Limits,
}

impl Source {
    pub(crate) async fn new(file: PathBuf, wasm: Bytes, limits: Limits) -> Result<Self, LoadError> {
        let hashed = wasm.clone();
        let digest = spawn_blocking(move || digest(&hashed)).await;
        Ok(Self {
            digest: digest.map_err(|_| host(&file, "its digest could not be computed"))?,
            file,
            wasm,
            limits,
        })
    }
}

/// Code that the engine can run.
pub(crate) struct CompiledComponent {
    pub(crate) component: Component,
    pub(crate) facts: Facts,
    pub(crate) tier: CodeTier,
    /// The time that compiling took; `None` if the code was an artifact.
    pub(crate) compiled_in: Option<Duration>,
    /// The artifact, until it is kept.
    unkept: Option<Compiled>,
}

impl Compilations {
    pub(crate) fn new(
        engine: &Engine,
        compiler: Compiler,
        tiers: CodeTiers,
        artifacts: Option<Artifacts>,
        urgent: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            engine: engine.clone(),
            compiler,
            tiers,
            artifacts,
            urgent,
            at_once: Semaphore::new(MAX_AT_ONCE),
            improving: Semaphore::new(1),
            beginners: watch::Sender::new(0),
            held: Arc::new(Semaphore::new(MAX_HELD)),
        })
    }

    /// Returns the best code that was kept, or else makes the first code.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    ///
    /// # Cancel safety
    ///
    /// Safe: a compilation under way is ended.
    pub(crate) async fn first(self: &Arc<Self>, source: &Source) -> Result<CompiledComponent, LoadError> {
        let _beginner = Beginner::new(&self.beginners);
        let limit = usize::try_from(source.limits.wasm_bytes)
            .unwrap_or(usize::MAX)
            .min(MAX_WASM_BYTES);
        if source.wasm.len() > limit {
            return Err(LoadError::TooLarge {
                file: source.file.clone(),
                size: source.wasm.len(),
                limit,
            });
        }
        if let Some(made) = self.kept(source, CodeTier::Optimised).await? {
            return Ok(made);
        }
        let tier = match self.tiers {
            CodeTiers::FastThenOptimised | CodeTiers::Fast => CodeTier::Fast,
            CodeTiers::Optimised => CodeTier::Optimised,
        };
        if source.wasm.len() >= LARGE_BYTES {
            let size = u64::try_from(source.wasm.len()).unwrap_or(u64::MAX);
            let size = bytesize::ByteSize::b(size).display().iec().to_string();
            tracing::info!(file = %source.file.display(), size, "compiling, which takes some seconds");
        }
        let mut made = self.made(source, tier).await?;
        if !self.improves(&made) {
            self.keep(&source.file, &source.digest, &mut made).await;
        }
        Ok(made)
    }

    /// Returns whether better code of the same component is to be made.
    pub(crate) fn improves(&self, made: &CompiledComponent) -> bool {
        self.tiers == CodeTiers::FastThenOptimised && made.tier == CodeTier::Fast
    }

    /// Makes better code and calls `replace` with it. A failure leaves everything as it is.
    ///
    /// # Cancel safety
    ///
    /// Safe: a compilation under way is ended.
    pub(crate) fn improve(
        self: Arc<Self>,
        source: Source,
        mut made: CompiledComponent,
        replace: impl FnOnce(Component) + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let later = LaterSource::new(source, &self.held);
        async move {
            self.keep(&later.file, &later.digest, &mut made).await;
            drop(made);
            let Ok(_turn) = self.improving.acquire().await else {
                return;
            };
            self.beginners_first().await;
            let file = later.file.clone();
            let Some(source) = later.source().await else {
                tracing::debug!(file = %file.display(), "the file is another now, and nothing is optimised");
                return;
            };
            let better = match self.made(&source, CodeTier::Optimised).await {
                Ok(mut better) => {
                    replace(better.component.clone());
                    self.keep(&source.file, &source.digest, &mut better).await;
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if let Err(error) = better {
                tracing::warn!(%error, "the component could not be optimised: its first code goes on serving");
            }
        }
    }

    /// Waits until no handler waits for its first code: better code is worth less than the first.
    async fn beginners_first(&self) {
        let mut beginners = self.beginners.subscribe();
        // The wait can't fail: the sender is a field of `self`.
        drop(beginners.wait_for(|count| *count == 0).await);
    }

    /// Returns the code of one tier, compiled if there is no artifact.
    async fn made(self: &Arc<Self>, source: &Source, tier: CodeTier) -> Result<CompiledComponent, LoadError> {
        let _permit = self
            .at_once
            .acquire()
            .await
            .map_err(|_| host(&source.file, "the host is stopping"))?;
        // After the wait: another handler may have the same file.
        if let Some(made) = self.kept(source, tier).await? {
            return Ok(made);
        }
        let functions = self.functions(source, tier).await;
        let order = CompileOrder {
            tier,
            memory_bytes: source.limits.compile_memory,
            // The system counts whole seconds.
            processor_seconds: source
                .limits
                .compile_time
                .as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(u64::MAX),
            without_images: !self.engine.get_memory_init_cow(),
            urgent: self.urgent,
            functions_bytes: functions
                .as_ref()
                .map(|known| u64::try_from(known.len()).unwrap_or(u64::MAX)),
        };
        let started = Instant::now();
        let functions = functions.unwrap_or_default();
        let compiled = self.compiler.compile(source.wasm.clone(), functions, order).await;
        let compiled = compiled.map_err(|error| match error {
            CompileError::Refused(refusal) => refusal.into_load_error(&source.file),
            CompileError::Host(reason) => host(&source.file, &reason),
        })?;
        let took = started.elapsed();
        tracing::info!(file = %source.file.display(), digest = source.digest, ?took, artifact_bytes = compiled.artifact.len(), functions_taken = compiled.functions_taken, "compiled ({tier})");
        let this = Arc::clone(self);
        let mapped = spawn_blocking(move || (this.map(&compiled), compiled)).await;
        let (component, compiled) = mapped.map_err(|_| host(&source.file, "the code could not be loaded"))?;
        Ok(CompiledComponent {
            component: component.map_err(|error| unmapped(&source.file, &error))?,
            facts: compiled.facts.clone(),
            tier,
            compiled_in: Some(took),
            unkept: Some(compiled),
        })
    }

    /// Returns the code of one tier if its artifact was kept and the engine takes it.
    async fn kept(self: &Arc<Self>, source: &Source, tier: CodeTier) -> Result<Option<CompiledComponent>, LoadError> {
        let this = Arc::clone(self);
        let digest = source.digest.clone();
        let found = spawn_blocking(move || {
            let artifacts = this.artifacts.as_ref()?;
            let compiled = artifacts.find(&digest, tier)?;
            match this.map(&compiled) {
                Ok(component) => Some((component, compiled.facts)),
                Err(error) => {
                    tracing::warn!(digest, %error, "a compiled artifact is not taken by the engine, and made anew");
                    artifacts.discard(&digest, tier);
                    None
                }
            }
        });
        let found = found
            .await
            .map_err(|_| host(&source.file, "the artifacts could not be read"))?;
        Ok(found.map(|(component, facts)| {
            tracing::info!(file = %source.file.display(), digest = source.digest, "already compiled ({tier})");
            CompiledComponent {
                component,
                facts,
                tier,
                compiled_in: None,
                unkept: None,
            }
        }))
    }

    /// Returns the compiled functions of the version before; `None` if functions are not kept.
    async fn functions(self: &Arc<Self>, source: &Source, tier: CodeTier) -> Option<Bytes> {
        let this = Arc::clone(self);
        let file = source.file.clone();
        let known = spawn_blocking(move || Some(this.artifacts.as_ref()?.functions(&file, tier)));
        known.await.ok().flatten()
    }

    async fn keep(self: &Arc<Self>, file: &Path, digest: &str, made: &mut CompiledComponent) {
        let Some(compiled) = made.unkept.take() else { return };
        let this = Arc::clone(self);
        let tier = made.tier;
        let (file, digest) = (file.to_owned(), digest.to_owned());
        let keeping = spawn_blocking(move || {
            if let Some(artifacts) = &this.artifacts {
                artifacts.keep(&digest, tier, &compiled);
                if !compiled.functions.is_empty() {
                    artifacts.keep_functions(&file, tier, &compiled.functions);
                }
            }
        });
        if keeping.await.is_err() {
            tracing::error!("keeping a compiled artifact panicked");
        }
    }

    /// The only place where machine code that is not the host's own becomes part of the process.
    fn map(&self, compiled: &Compiled) -> wasmtime::Result<Component> {
        #[expect(unsafe_code, reason = "the engine can't check machine code")]
        // SAFETY: the engine has serialised the bytes. They come out of the compiler in this process, out of the pipe of a
        // child that ran this program, or out of a file whose HMAC was verified over these very bytes, which nothing can
        // change any more. Those are the only places that make a `Compiled`.
        let component = unsafe { Component::deserialize(&self.engine, &compiled.artifact) }?;
        // Without this the first message would pay for the image.
        component.initialize_copy_on_write_image()?;
        Ok(component)
    }
}

fn host(file: &Path, reason: &str) -> LoadError {
    LoadError::Host {
        file: file.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Returns the error for code that the host's own compiler has made and the engine does not map: the system refuses something,
/// or the engine has no room for what the file asks for.
fn unmapped(file: &Path, error: &wasmtime::Error) -> LoadError {
    let shown = shown(error);
    let Some(errno) = system_error(error) else {
        return LoadError::Invalid {
            file: file.to_owned(),
            reason: shown,
        };
    };
    let advice = if matches!(errno, Errno::ACCESS | Errno::PERM) {
        ": memory must be allowed to become executable (MemoryDenyWriteExecute=no, mprotect in the seccomp profile)"
    } else {
        ""
    };
    host(file, &format!("its code could not be mapped, {shown}{advice}"))
}

/// Returns the answer of the system among the causes of an error, if there is one.
fn system_error(error: &wasmtime::Error) -> Option<Errno> {
    error.chain().find_map(|cause| {
        let errno = cause.downcast_ref::<Errno>().copied();
        errno.or_else(|| Errno::from_io_error(cause.downcast_ref::<io::Error>()?))
    })
}

/// Counts a handler that waits for its first code, until it is dropped.
struct Beginner<'c>(&'c watch::Sender<usize>);

impl<'c> Beginner<'c> {
    fn new(count: &'c watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Beginner<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// A file that is compiled later.
struct LaterSource {
    file: PathBuf,
    digest: String,
    limits: Limits,
    /// The bytes of the file; `None` if there was no room for them.
    held: Option<(Bytes, OwnedSemaphorePermit)>,
}

impl LaterSource {
    fn new(source: Source, room: &Arc<Semaphore>) -> Self {
        let Source {
            file,
            wasm,
            digest,
            limits,
        } = source;
        let units = u32::try_from(wasm.len().div_ceil(HELD_UNIT)).unwrap_or(u32::MAX);
        let permit = Arc::clone(room).try_acquire_many_owned(units).ok();
        Self {
            file,
            digest,
            limits,
            held: permit.map(|permit| (wasm, permit)),
        }
    }

    /// Returns the file, read again if its bytes were not held. `None` if the file has changed since.
    async fn source(self) -> Option<Source> {
        let file = self.file.clone();
        let digest = self.digest.clone();
        let wasm = match self.held {
            Some((wasm, _permit)) => wasm,
            None => spawn_blocking(move || read(&file, &digest)).await.ok()??,
        };
        Some(Source {
            file: self.file,
            wasm,
            digest: self.digest,
            limits: self.limits,
        })
    }
}

fn read(file: &Path, expected: &str) -> Option<Bytes> {
    use std::io::Read as _;
    let mut wasm = Vec::new();
    let bound = u64::try_from(MAX_WASM_BYTES).ok()?;
    std::fs::File::open(file)
        .ok()?
        .take(bound)
        .read_to_end(&mut wasm)
        .ok()?;
    (digest(&wasm) == expected).then(|| wasm.into())
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin, task::Poll};

    use super::*;

    #[test]
    fn code_that_the_system_does_not_map_is_not_the_fault_of_the_file() {
        let load_error = |error: wasmtime::Error| {
            let error = error.context("unable to make memory executable");
            let error = unmapped(Path::new("a.wasm"), &error);
            (error.is_transient(), error.to_string())
        };
        let denied = "MemoryDenyWriteExecute=no";
        let (is_transient, text) = load_error(Errno::ACCESS.into());
        assert!(is_transient && text.contains(denied), "{text}");
        let (is_transient, text) = load_error(io::Error::from(Errno::PERM).into());
        assert!(is_transient && text.contains(denied), "{text}");
        let (is_transient, text) = load_error(Errno::NOMEM.into());
        assert!(is_transient && !text.contains(denied), "{text}");
        let (is_transient, text) = load_error(wasmtime::Error::msg("its text is long (os error 12)"));
        assert!(!is_transient, "{text}");
    }

    #[tokio::test]
    async fn better_code_waits_for_handlers_that_can_not_serve_yet() {
        let engine = Engine::default();
        let compilations = Compilations::new(&engine, Compiler::InProcess, CodeTiers::default(), None, false);
        let (first, second) = (
            Beginner::new(&compilations.beginners),
            Beginner::new(&compilations.beginners),
        );
        let mut waiting = pin!(compilations.beginners_first());
        // Better code took its turn among first codes, so that a handler of milliseconds waited for seconds of optimising.
        assert!(poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await);
        drop(first);
        assert!(poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await);
        drop(second);
        waiting.await;
    }
}
