//! Where the code of a component comes from: an artifact that was kept, or the compiler. Made quickly first, so that its
//! handler can begin; then made well, behind the backs of the calls under way.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::spawn_blocking,
};
use wasmtime::{Engine, component::Component};

use super::{
    LoadError,
    artifacts::Artifacts,
    compiler::{CompileError, CompileOrder, Compiled, Compiler, Facts, Tier},
    component::{Code, digest},
    policy::Limits,
    wasm::{MAX_WASM_BYTES, shown},
};

/// How many files are compiled at a time: one that takes long must not hold up the next.
const MAX_AT_ONCE: usize = 2;
/// How many bytes of files are held for code that is to be made well (256 MiB), in units of [`HELD_UNIT`]. A file past
/// that is read again when its turn comes.
const MAX_HELD: usize = 256;
const HELD_UNIT: usize = 1024 * 1024;

/// Which code is made of a component.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tiers {
    /// Code that is quickly there, and better code that replaces it as soon as it is there.
    #[default]
    FastThenOptimised,
    /// Only what is quickly there.
    Fast,
    /// Only what runs fastest.
    Optimised,
}

/// Makes code for one engine.
pub(super) struct Compilations {
    engine: Engine,
    compiler: Compiler,
    tiers: Tiers,
    artifacts: Option<Artifacts>,
    at_once: Semaphore,
    /// Code that has a predecessor is made one at a time, so that a new handler never waits for two of those.
    improving: Semaphore,
    /// How many handlers wait for the first code that they can serve with.
    beginners: watch::Sender<usize>,
    held: Arc<Semaphore>,
}

/// A file, and what its compilation may cost.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) wasm: Bytes,
    /// Of `wasm`.
    pub(super) digest: String,
    pub(super) limits: Limits,
}

impl Source {
    pub(super) async fn new(file: PathBuf, wasm: Bytes, limits: Limits) -> Result<Self, LoadError> {
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
pub(super) struct Made {
    pub(super) component: Component,
    pub(super) facts: Facts,
    pub(super) tier: Tier,
    /// How long it took, if it was not there already.
    pub(super) compiled_in: Option<Duration>,
    /// What is still to be kept.
    unkept: Option<Compiled>,
}

impl Compilations {
    pub(super) fn new(engine: &Engine, compiler: Compiler, tiers: Tiers, artifacts: Option<Artifacts>) -> Arc<Self> {
        Arc::new(Self {
            engine: engine.clone(),
            compiler,
            tiers,
            artifacts,
            at_once: Semaphore::new(MAX_AT_ONCE),
            improving: Semaphore::new(1),
            beginners: watch::Sender::new(0),
            held: Arc::new(Semaphore::new(MAX_HELD)),
        })
    }

    /// The best code that is there, or else the code that is to be made first.
    ///
    /// # Cancel safety
    ///
    /// Safe: a compilation under way is ended.
    pub(super) async fn first(self: &Arc<Self>, source: &Source) -> Result<Made, LoadError> {
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
        if let Some(made) = self.kept(source, Tier::Optimised).await? {
            return Ok(made);
        }
        let tier = match self.tiers {
            Tiers::FastThenOptimised | Tiers::Fast => Tier::Fast,
            Tiers::Optimised => Tier::Optimised,
        };
        let mut made = self.made(source, tier).await?;
        if !self.improves(&made) {
            self.keep(source.digest.clone(), &mut made).await;
        }
        Ok(made)
    }

    /// Whether better code is to be made of what this was made of.
    pub(super) fn improves(&self, made: &Made) -> bool {
        self.tiers == Tiers::FastThenOptimised && made.tier == Tier::Fast
    }

    /// Makes better code and gives it to `code`, unless that is gone by then. A failure leaves everything as it is.
    pub(super) fn improve(
        self: Arc<Self>,
        source: Source,
        mut made: Made,
        code: Weak<Code>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let later = Later::new(source, &self.held);
        async move {
            self.keep(later.digest.clone(), &mut made).await;
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
            let better = match self.made(&source, Tier::Optimised).await {
                Ok(mut better) => {
                    if let Some(code) = code.upgrade() {
                        code.replace(better.component.clone());
                    }
                    self.keep(source.digest.clone(), &mut better).await;
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if let Err(error) = better {
                tracing::warn!(%error, "the component could not be optimised: its first code goes on serving");
            }
        }
    }

    /// Waits until no handler waits for code to serve with: better code is worth less than any.
    async fn beginners_first(&self) {
        let mut beginners = self.beginners.subscribe();
        // The sender is here.
        drop(beginners.wait_for(|count| *count == 0).await);
    }

    /// Code of one tier, compiled if there is no artifact.
    async fn made(self: &Arc<Self>, source: &Source, tier: Tier) -> Result<Made, LoadError> {
        let _permit = self
            .at_once
            .acquire()
            .await
            .map_err(|_| host(&source.file, "the host is stopping"))?;
        // After the wait: another handler may have the same file.
        if let Some(made) = self.kept(source, tier).await? {
            return Ok(made);
        }
        let order = CompileOrder {
            tier,
            memory_bytes: source.limits.compile_memory,
            // Whole seconds are what the system counts.
            processor_seconds: source
                .limits
                .compile_time
                .as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(u64::MAX),
            without_images: !self.engine.get_memory_init_cow(),
        };
        let started = Instant::now();
        let compiled = self.compiler.compile(source.wasm.clone(), order).await;
        let compiled = compiled.map_err(|error| match error {
            CompileError::Refused(refusal) => refusal.of(&source.file),
            CompileError::Host(reason) => host(&source.file, &reason),
        })?;
        let took = started.elapsed();
        tracing::info!(file = %source.file.display(), digest = source.digest, ?took, artifact_bytes = compiled.artifact.len(), "compiled ({tier})");
        let this = Arc::clone(self);
        let mapped = spawn_blocking(move || (this.map(&compiled), compiled)).await;
        let (component, compiled) = mapped.map_err(|_| host(&source.file, "the code could not be loaded"))?;
        Ok(Made {
            component: component.map_err(|error| unmapped(&source.file, &error))?,
            facts: compiled.facts.clone(),
            tier,
            compiled_in: Some(took),
            unkept: Some(compiled),
        })
    }

    /// What was compiled before, if it is there and as it was.
    async fn kept(self: &Arc<Self>, source: &Source, tier: Tier) -> Result<Option<Made>, LoadError> {
        let (this, digest) = (Arc::clone(self), source.digest.clone());
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
            Made {
                component,
                facts,
                tier,
                compiled_in: None,
                unkept: None,
            }
        }))
    }

    async fn keep(self: &Arc<Self>, digest: String, made: &mut Made) {
        let Some(compiled) = made.unkept.take() else { return };
        let (this, tier) = (Arc::clone(self), made.tier);
        let keeping = spawn_blocking(move || {
            if let Some(artifacts) = &this.artifacts {
                artifacts.keep(&digest, tier, &compiled);
            }
        });
        if keeping.await.is_err() {
            tracing::error!("keeping a compiled artifact panicked");
        }
    }

    /// The only place where machine code that is not the host's own becomes part of the process.
    fn map(&self, compiled: &Compiled) -> wasmtime::Result<Component> {
        #[expect(unsafe_code, reason = "the engine can't check machine code")]
        // SAFETY: the bytes are what the engine has serialised. They come out of the compiler in this process, out of the
        // pipe of a child that ran this program, or out of a file whose HMAC was verified over these very bytes, which
        // nobody can change any more. Those are the only places that make a `Compiled`.
        let component = unsafe { Component::deserialize(&self.engine, &compiled.artifact) }?;
        // Otherwise the first message would pay for it.
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

/// Why code is not mapped that the host's own compiler has made: the machine denies something, or the engine has no room for
/// what the file asks for.
fn unmapped(file: &Path, error: &wasmtime::Error) -> LoadError {
    let shown = shown(error);
    // What the system has answered says so; the engine wraps it in types of its own.
    if !shown.contains("(os error ") {
        return LoadError::Invalid {
            file: file.to_owned(),
            reason: shown,
        };
    }
    let is_denied = ["Permission denied", "Operation not permitted"];
    let advice = if is_denied.iter().any(|words| shown.contains(words)) {
        ": memory must be allowed to become executable (MemoryDenyWriteExecute=no, mprotect in the seccomp profile)"
    } else {
        ""
    };
    host(file, &format!("its code could not be mapped, {shown}{advice}"))
}

/// A handler that waits for its first code, as long as this lives.
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
struct Later {
    file: PathBuf,
    digest: String,
    limits: Limits,
    /// Its bytes, as long as there is room for them.
    held: Option<(Bytes, OwnedSemaphorePermit)>,
}

impl Later {
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

    /// `None` if the file has changed since.
    async fn source(self) -> Option<Source> {
        let (file, digest) = (self.file.clone(), self.digest.clone());
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

    #[tokio::test]
    async fn better_code_waits_for_handlers_that_can_not_serve_yet() {
        let engine = Engine::default();
        let compilations = Compilations::new(&engine, Compiler::InProcess, Tiers::default(), None);
        let (first, second) = (
            Beginner::new(&compilations.beginners),
            Beginner::new(&compilations.beginners),
        );
        let mut waiting = pin!(compilations.beginners_first());
        // It took its turn among them, so that a handler of milliseconds waited for seconds of optimising.
        assert!(poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await);
        drop(first);
        assert!(poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await);
        drop(second);
        waiting.await;
    }
}
