//! The route that runs dead letters through a version that the host has kept, without effects.
//!
//! Invariant: one replay at a time, one message at a time, for a bounded time; the instances are those of the executor of all handlers,
//! and count in its budget.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
};
use bytes::Bytes;
use tokio::{
    fs,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::{
    AdminState, Answer, ReceivedBody,
    body::{RequestBodies, json},
    parameters::Path,
    peek::parsed,
    redaction::RedactedView,
    refused::RefusedRequest,
    wire::{self, ReplayAnswer, ReplayRequest, ReplayedForm},
};
use crate::{
    config::{Manifest, environment},
    plugin_dir::MAX_MANIFEST_BYTES,
    rehearsal::{Rehearsal, without_effects},
    versions::VersionRecord,
};
use sandhog_executor::{CallMessage, CallReport, MAX_WASM_BYTES, digest};
use sandhog_queue::{
    DeadLetter, FailureRecord, Queue,
    message::{Message, MessageId, QueueName},
    peek::{PeekRequest, PeekScope},
    printable::chain,
};

/// The dead letters without a limit.
const USUAL: usize = 20;
/// The most dead letters of a replay.
const MOST: usize = 100;
/// The time of a replay: its client waits for it, and no call goes on behind it.
const TIME: Duration = Duration::from_secs(30);
/// The dead letters that are in memory at a time.
const STEP: usize = 10;

/// Gives one replay its turn.
#[derive(Debug, Clone)]
pub(crate) struct ReplayTurns(Arc<Semaphore>);

impl Default for ReplayTurns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// The turn of a request, until that was answered.
pub(crate) struct ReplayTurn {
    _permit: OwnedSemaphorePermit,
}

impl<S: Send + Sync> FromRequestParts<S> for ReplayTurn {
    type Rejection = RefusedRequest;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, RefusedRequest> {
        let turns = parts.extensions.get::<ReplayTurns>();
        let permit = turns.and_then(|turns| Arc::clone(&turns.0).try_acquire_owned().ok());
        let taken = permit.map(|permit| Self { _permit: permit });
        taken.ok_or_else(|| {
            let why = "another replay is under way: try again when it has ended";
            RefusedRequest::new(StatusCode::CONFLICT, why)
        })
    }
}

#[utoipa::path(
    post,
    path = "/queues/{name}/dead/replay",
    operation_id = "replay_dead",
    tag = "dead letters",
    params(
        ("name" = String, Path, description = "The name of the queue"),
    ),
    request_body(content = ReplayRequest),
    responses(
        (status = 200, body = ReplayAnswer, description = "What would become of the dead letters; nothing has changed, and no server was asked"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue, handler, version or dead letter"),
        (status = 409, body = wire::ErrorAnswer, description = "Another replay is under way, or the version can't be loaded any more"),
        (status = 501, body = wire::ErrorAnswer, description = "The host keeps no versions, or this kind of queue has no such operation"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable, or the host is about to stop"),
    ),
)]
pub(crate) async fn replay(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    (_turn, view): (ReplayTurn, RedactedView),
    Extension(bodies): Extension<Arc<RequestBodies>>,
    body: ReceivedBody,
) -> Answer<ReplayAnswer> {
    let queue = state.find(&name)?;
    check_kind(&*queue)?;
    let request: ReplayRequest = bodies.parse(body?, json).await?;
    let letters = ChosenLetters::of(&request, &view)?;
    let handler = match &request.handler {
        Some(handler) => handler.clone(),
        None => state.handler_of(queue.name())?,
    };
    let loading = state.kept_version(&handler, request.version);
    let Replayed { messages, more } = state.replayed(&*queue, loading, letters).await?;
    Ok(Json(ReplayAnswer {
        handler,
        version: request.version,
        handled: messages.iter().filter(|message| message.is_handled()).count(),
        more,
        messages,
    }))
}

/// Refuses a queue whose dead letters have to be received to be seen.
fn check_kind(queue: &dyn Queue) -> Result<(), RefusedRequest> {
    if queue.capabilities().calls_cost {
        let why =
            "this kind of queue shows a dead letter by receiving it, which hides it from others: use `sandhog replay`";
        return Err(RefusedRequest::new(StatusCode::NOT_IMPLEMENTED, why));
    }
    Ok(())
}

/// A component, and the manifest that it is called with.
pub(crate) struct ReplayedComponent {
    /// The name of the handler.
    pub(crate) handler: String,
    /// The bytes of the component.
    pub(crate) wasm: Bytes,
    /// The manifest, with what would have effects.
    pub(crate) manifest: Manifest,
}

/// The dead letters that a request names.
enum ChosenLetters {
    Ids(Vec<MessageId>),
    Filter(PeekRequest, usize),
}

impl ChosenLetters {
    fn of(request: &ReplayRequest, view: &RedactedView) -> Result<Self, RefusedRequest> {
        let limit = request.limit.unwrap_or(USUAL);
        if !(1..=MOST).contains(&limit) {
            return Err(RefusedRequest::bad(format!("limit: use 1 to {MOST}")));
        }
        let filter = match (&request.ids, &request.filter) {
            (Some(_), Some(_)) => return Err(RefusedRequest::bad("use either ids or where")),
            (Some(ids), None) if (1..=MOST).contains(&ids.len()) => {
                return Ok(Self::Ids(ids.iter().map(|id| MessageId::from_queue(id)).collect()));
            }
            (Some(_), None) => return Err(RefusedRequest::bad(format!("ids: use 1 to {MOST}"))),
            (None, Some(text)) => parsed(text)?,
            (None, None) => parsed("id != \"\"")?,
        };
        view.check(&filter)?;
        let request = PeekRequest {
            scope: PeekScope::DeadLetters,
            filter,
            after: None,
            limit: STEP,
            body_limit: None,
        };
        Ok(Self::Filter(request, limit))
    }
}

/// A replay under way.
struct Replay<'r> {
    queue: &'r dyn Queue,
    rehearsal: Rehearsal,
    until: Instant,
}

/// What has come of it.
#[derive(Default)]
pub(crate) struct Replayed {
    /// Those that were replayed, in order.
    pub(crate) messages: Vec<ReplayedForm>,
    /// There are others.
    pub(crate) more: bool,
}

impl Replay<'_> {
    async fn all(self, letters: ChosenLetters) -> Result<Replayed, RefusedRequest> {
        let mut replayed = Replayed::default();
        match letters {
            ChosenLetters::Ids(ids) => self.each(ids, &mut replayed).await?,
            ChosenLetters::Filter(request, limit) => self.passing(request, limit, &mut replayed).await?,
        }
        Ok(replayed)
    }

    async fn each(&self, ids: Vec<MessageId>, replayed: &mut Replayed) -> Result<(), RefusedRequest> {
        for id in ids {
            if self.is_over() {
                replayed.more = true;
                break;
            }
            if let Some(DeadLetter { message, failure, .. }) = self.queue.dead_letter(&id).await? {
                self.one(message, Some(failure), replayed).await;
                continue;
            }
            // Somebody has put it back meanwhile, or deleted it. The others are replayed all the same.
            let report = CallReport::not_run(1, "the queue has no such dead letter (any more)");
            replayed.messages.push(ReplayedForm::new(&id, None, &report));
        }
        Ok(())
    }

    async fn passing(
        &self,
        mut request: PeekRequest,
        limit: usize,
        replayed: &mut Replayed,
    ) -> Result<(), RefusedRequest> {
        loop {
            request.limit = limit.saturating_sub(replayed.messages.len()).min(STEP);
            // Few may pass of very many.
            let Ok(page) = timeout_at(self.until, self.queue.peek(request.clone())).await else {
                replayed.more = true;
                return Ok(());
            };
            let page = page?;
            for peeked in page.messages {
                if self.is_over() {
                    replayed.more = true;
                    return Ok(());
                }
                if peeked.damage.is_none() {
                    self.one(peeked.message, peeked.failure, replayed).await;
                }
            }
            request.after = page.next;
            replayed.more = request.after.is_some();
            if request.after.is_none() || replayed.messages.len() >= limit {
                return Ok(());
            }
        }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Calls the component with one message.
    async fn one(&self, message: Message, failure: Option<FailureRecord>, replayed: &mut Replayed) {
        let id = message.id.clone();
        let call = self.rehearsal.call(CallMessage {
            message,
            queue: self.queue.name().clone(),
            // As after a redrive.
            receive_count: 1,
        });
        let called = timeout_at(self.until, call).await;
        let report = called.map_or_else(
            |_| CallReport::not_run(1, "the time of the replay was up before the handler answered"),
            |called| called.report,
        );
        let form = ReplayedForm::new(&id, failure.as_ref(), &report);
        replayed.messages.push(form);
    }
}

impl AdminState {
    /// Returns the handler that takes a queue.
    fn handler_of(&self, queue: &QueueName) -> Result<String, RefusedRequest> {
        let all = self.handlers.list();
        let taker = all.into_iter().find(|status| status.queue.as_ref() == Some(queue));
        taker.map(|status| status.name).ok_or_else(|| {
            let why = format!("no handler takes queue {queue}: name the handler of the version");
            RefusedRequest::new(StatusCode::NOT_FOUND, why)
        })
    }

    /// Runs the oldest dead letters of a handler's queue through a component that is no version.
    ///
    /// # Errors
    ///
    /// As for [`replay()`].
    ///
    /// # Cancel safety
    ///
    /// Safe: the guest is interrupted.
    pub(crate) async fn replay_component(
        &self,
        _turn: ReplayTurn,
        component: ReplayedComponent,
    ) -> Result<Replayed, RefusedRequest> {
        let queue = self.find(component.manifest.queue.as_str())?;
        check_kind(&*queue)?;
        let letters = ChosenLetters::of(&ReplayRequest::default(), &RedactedView::default())?;
        self.replayed(&*queue, async { Ok(component) }, letters).await
    }

    /// Loads a component, and calls it with dead letters, until the time is up or the host stops.
    async fn replayed(
        &self,
        queue: &dyn Queue,
        loading: impl Future<Output = Result<ReplayedComponent, RefusedRequest>>,
        letters: ChosenLetters,
    ) -> Result<Replayed, RefusedRequest> {
        let until = Instant::now() + TIME;
        let replayed = async {
            let rehearsal = async { self.rehearsal(loading.await?).await };
            let rehearsal = timeout_at(until, rehearsal).await;
            let replay = Replay {
                queue,
                rehearsal: rehearsal.unwrap_or_else(|_| Err(too_slow()))?,
                until,
            };
            replay.all(letters).await
        };
        tokio::select! {
            replayed = replayed => replayed,
            () = self.draining.cancelled() => {
                Err(RefusedRequest::new(StatusCode::SERVICE_UNAVAILABLE, "the host is about to stop"))
            }
        }
    }

    /// Loads a component without effects.
    async fn rehearsal(&self, component: ReplayedComponent) -> Result<Rehearsal, RefusedRequest> {
        let ReplayedComponent {
            handler,
            wasm,
            mut manifest,
        } = component;
        without_effects(&mut manifest, false);
        let file = format!("{handler}.wasm").into();
        let loaded = Rehearsal::load(Arc::clone(&self.executor), file, wasm, &manifest).await;
        loaded.map_err(|error| {
            let why = format!("this component of handler {handler} can't be loaded: {}", chain(&error));
            RefusedRequest::new(StatusCode::CONFLICT, why)
        })
    }

    /// Reads a version that was kept. Its code is kept, too, as a rule.
    async fn kept_version(&self, handler: &str, number: u64) -> Result<ReplayedComponent, RefusedRequest> {
        let record = self.version(handler, &number.to_string())?;
        Ok(ReplayedComponent {
            handler: handler.to_owned(),
            manifest: self.kept_manifest(handler, &record).await?,
            wasm: self
                .kept_file(handler, &record.digests.component, MAX_WASM_BYTES)
                .await?,
        })
    }

    async fn kept_manifest(&self, handler: &str, record: &VersionRecord) -> Result<Manifest, RefusedRequest> {
        let bytes = match &record.digests.manifest {
            Some(digest) => Some(self.kept_file(handler, digest, MAX_MANIFEST_BYTES).await?),
            None => None,
        };
        let (name, versions) = (handler.to_owned(), Arc::clone(&self.versions));
        // It reads the files that the manifest names, which may be on another machine.
        let parsed = spawn_blocking(move || match bytes {
            Some(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                Manifest::parse_in(&text, &name, versions.plugins(), &environment)
            }
            None => Manifest::defaults(&name),
        })
        .await;
        let parsed = parsed.map_err(|error| {
            tracing::error!(%error, "a manifest could not be read");
            RefusedRequest::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the host could not do it; its log says why",
            )
        })?;
        parsed.map_err(|error| {
            let why = format!(
                "the manifest of this version of handler {handler} can't be used now: {}",
                chain(&error)
            );
            RefusedRequest::new(StatusCode::CONFLICT, why)
        })
    }

    /// Reads a file of a version as a whole, and compares it with its digest.
    async fn kept_file(&self, handler: &str, wanted: &str, most: usize) -> Result<Bytes, RefusedRequest> {
        let path = self.version_file(handler, wanted)?;
        let refused = |why: &str| {
            let why = format!("a file of handler {handler}, {}, {why}", path.display());
            RefusedRequest::new(StatusCode::SERVICE_UNAVAILABLE, why)
        };
        let length = fs::metadata(&path).await.map(|found| found.len());
        let length = length.map_err(|error| unread(&error)).map_err(|why| refused(&why))?;
        if usize::try_from(length).is_ok_and(|length| length > most) {
            return Err(refused("is longer than any that the host accepts"));
        }
        let bytes = fs::read(&path).await.map_err(|error| refused(&unread(&error)))?;
        let wanted = wanted.to_owned();
        let checked = spawn_blocking(move || (digest(&bytes) == wanted).then_some(bytes)).await;
        let whole = checked.ok().flatten();
        whole
            .map(Bytes::from)
            .ok_or_else(|| refused("is damaged: another version may be replayed"))
    }
}

fn too_slow() -> RefusedRequest {
    let seconds = TIME.as_secs();
    let why = format!("the component has to be compiled anew, which takes more than {seconds} s: use `sandhog replay`");
    RefusedRequest::new(StatusCode::CONFLICT, why)
}

fn unread(error: &io::Error) -> String {
    format!("can't be read: {error}")
}
