//! The listener: probes, metrics, and the queues for curl, scripts and the command line.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /live` | 200 while the process can answer at all |
//! | `GET /ready` | 200, or 503 with the reasons |
//! | `GET /metrics` | the page for Prometheus; as `OpenMetrics` if the header `accept` says so |
//! | `POST /reload` | reads `sandhog.toml` again, and looks at the plugin directory |
//! | `POST /drain` | no handler receives any more; what is in flight ends |
//! | `GET /drain` | how far that has come, by handler; parameter `wait` |
//! | `POST /drain/end` | ends that |
//! | `GET /handlers` | every handler with its state |
//! | `GET /handlers/{name}/versions` | the versions of a handler, newest first, and how the newest one proves itself |
//! | `GET /handlers/{name}/versions/{number}/component` | the component of a version that is kept |
//! | `GET /handlers/{name}/versions/{number}/manifest` | its manifest |
//! | `POST /handlers/{name}/rollback` | goes back to the version before, or to the one of the parameter `version` |
//! | `POST /handlers/{name}/promote` | ends a probation, or serves the version that the host or somebody went back from; parameter `version`, its number |
//! | `GET /handlers/{name}/attempts` | the newest attempts of a handler, oldest first; parameters `limit`, `before`, `message`, `outcome`, `version`, `failed` |
//! | `GET /events` | attempts as they end, as server-sent events; parameters `handler`, `queue`, `message`, `outcome`, `failed`, `last` |
//! | `GET /messages/{id}` | the way of a message: its attempts, the one that sent it, and what they sent |
//! | `GET /handlers/{name}/profile` | in which functions the processor time of a handler goes; parameter `for` |
//! | `POST /handlers/{name}/pause` | the handler receives nothing more; parameters `reason`, `for` or `until` |
//! | `POST /handlers/{name}/resume` | ends that |
//! | `GET /queues` | every queue with its counts |
//! | `POST /backup` | a tar file with a copy of the data directory, made while the host works |
//! | `GET /openapi.json` | what all these routes take and answer |
//! | `GET /queues/{name}` | one of them |
//! | `POST /queues/{name}/pause` | nobody receives from the queue any more; parameters `reason`, `for` or `until` |
//! | `POST /queues/{name}/resume` | ends that |
//! | `POST /queues/{name}` | sends the body as a message; parameters `group`, `delay`, `priority`, `dedup`, `attr.NAME` |
//! | `DELETE /queues/{name}` | deletes a queue that nothing declares; parameters `with-messages`, `dry-run` |
//! | `POST /queues/{name}/batch` | sends up to 1000 messages given as JSON; one result each |
//! | `POST /queues/{name}/receive` | up to `max` messages (1 to 1000), waiting `wait` (0s to 20s), hidden for `visibility` |
//! | `POST /queues/{name}/settle` | ends one delivery that was received here, or up to 1000: `delete`, `release`, `retry` or `reject` |
//! | `POST /queues/{name}/extend` | hides up to 1000 messages that were received here for longer |
//! | `GET /queues/{name}/messages` | messages, without receiving them; parameters `limit`, `after`, `state`, `contains`, `id`, `group`, `older-than`, `newer-than`, `attr.NAME`, `where`, `body-limit`, `whole` |
//! | `GET /queues/{name}/messages/{id}` | one of them, whole |
//! | `POST /queues/{name}/messages/{id}/again` | sends a copy of a message or a dead letter, which stays |
//! | `DELETE /queues/{name}/messages` | deletes every message that is not in flight |
//! | `GET /queues/{name}/dead` | dead letters, oldest first; parameters `limit` (1 to 1000), `after` (an id), or `where` (a filter) and `cursor`, and `body-limit`; `more` if there are others behind |
//! | `GET /queues/{name}/dead/{id}` | one of them |
//! | `POST /queues/{name}/dead/redrive` | puts dead letters back: those with the given ids, those that pass a filter, or all; `more` if time was too short |
//! | `POST /queues/{name}/dead/delete` | deletes dead letters: those with the given ids, or those that pass a filter; `more` if time was too short |
//! | `POST /queues/{name}/dead/{id}/edit` | sends a dead letter with another body or other attributes, and deletes it |
//! | `POST /queues/{name}/dead/replay` | runs dead letters through a version that the host has kept, without effects |
//! | `DELETE /queues/{name}/dead/{id}` | deletes one dead letter |
//! | `DELETE /queues/{name}/dead` | deletes the dead letters |
//!
//! Below `/ui` is the dashboard, see `admin/ui.rs`. Everything else is the SQS protocol, see `admin/sqs.rs`.
//!
//! An error is `{"error": ".."}` with 400 (wrong request), 401 (no secret), 403 (a browser's request from
//! elsewhere), 404 (no such queue, message or handler), 409 (the receipt is no longer valid, or the versions do not allow the order), 413 (too large), 501 (this
//! kind of queue has no such operation), 503 (the queue is unavailable) or 507 (the queue is full). The listener knows no handler's code and never waits for a guest.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, Uri, header},
    middleware,
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    body::RequestBodies, caller::Caller, guard::RequestGuard, long_work::LongWork, parameters::Path,
    refused::RefusedRequest, replay::ReplayTurns, ui::UiDoor,
};
use crate::{
    backup::BackupDesk,
    config::{DashboardSettings, ListenerSecret},
    config_reload::ReloadDesk,
    deploy_desk::DeployDesk,
    endpoint::{EndpointParts, NamedKeys, SqsEndpoint},
    halts::Halts,
    handler_status::HandlerStatuses,
    journal::Journal,
    metrics::{Metrics, PageFormat},
    queue_set::QueueSet,
    spy::TestSpy,
    traces::HostTraces,
    versions::VersionBoard,
};
use sandhog_executor::Executor;
use sandhog_queue::{Counts, Queue, message::QueueName, printable::chain};

mod accept;
mod audit;
mod backup;
mod body;
mod caller;
mod chosen_dead;
mod connections;
mod dead_letters;
mod deletion;
mod drain;
mod guard;
mod halts;
mod journal;
mod long_work;
mod messages;
mod metrics;
mod parameters;
mod peek;
mod profile;
mod redaction;
mod refused;
mod reload;
mod replay;
mod settlements;
mod spy;
mod sqs;
mod standing;
mod stream;
mod traced;
mod ui;
mod version_files;
mod versions;
pub mod wire;

pub use self::{
    accept::{ListenerLimits, serve, serve_within},
    metrics::ListenerMetrics,
};

/// The longest time that a queue without an answer may hold up the counts of the others.
const COUNTS_LIMIT: Duration = Duration::from_secs(3);

/// The parts of the host that the listener reads and changes.
#[derive(Debug, Clone)]
pub struct AdminState {
    /// All queues.
    pub queues: Arc<QueueSet>,
    /// All handlers.
    pub handlers: Arc<HandlerStatuses>,
    /// Runs the guests of all handlers.
    pub executor: Arc<dyn Executor>,
    /// The versions of all handlers.
    pub versions: Arc<VersionBoard>,
    /// What operators have halted.
    pub halts: Arc<Halts>,
    /// Reads the configuration again.
    pub reload: Option<ReloadDesk>,
    /// The metrics on `/metrics`.
    pub metrics: Arc<Metrics>,
    /// The recent attempts of all handlers.
    pub journal: Arc<Journal>,
    /// The traces; `None` if the host has nothing to do with any.
    pub traces: Option<Arc<HostTraces>>,
    /// Makes backups.
    pub backups: Arc<BackupDesk>,
    /// The secret that requests carry, if they need one.
    pub secret: Option<ListenerSecret>,
    /// The settings of the dashboard, with the read-only secret.
    pub dashboard: Arc<DashboardSettings>,
    /// Where components come in by a page, if they may.
    pub deploys: Option<Arc<DeployDesk>>,
    /// The access keys of SQS clients.
    pub keys: NamedKeys,
    /// What tests may ask, if they may.
    pub spy: Option<TestSpy>,
    /// The token is cancelled when the host begins to stop. Then readiness turns red, and waiting receives end.
    pub draining: CancellationToken,
}

impl AdminState {
    fn endpoint_parts(&self) -> EndpointParts {
        EndpointParts {
            queues: Arc::clone(&self.queues),
            halts: Arc::clone(&self.halts),
            metrics: Arc::clone(&self.metrics),
            secret: self.secret.clone(),
            keys: self.keys.clone(),
            traces: self.traces.clone(),
        }
    }
}

/// Returns the routes behind their guard.
fn routes(state: AdminState, limits: &ListenerLimits, tasks: TaskTracker) -> Router {
    let bodies = Arc::new(RequestBodies::new(limits.body_bytes, limits.body));
    let door = Arc::new(UiDoor::new(state.secret.clone(), state.dashboard.reader_secret.clone()));
    let guard = RequestGuard {
        state: state.clone(),
        bodies: Arc::clone(&bodies),
        door: Arc::clone(&door),
        limit: limits.request,
    };
    let endpoint = endpoint_of(&state, &tasks);
    endpoint.finish_deletions();
    let (router, document) = documented();
    let document = Json(document);
    let router = match state.spy.clone() {
        Some(spy) => router.merge(spy::routes(spy)),
        None => router,
    };
    let (work, turns) = (LongWork::default(), ReplayTurns::default());
    let inside = router
        .route("/openapi.json", get(async move || document))
        // The guard reads the body, with a bound of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(state.clone(), audit::audit))
        .layer(Extension(Arc::clone(&bodies)))
        .layer(Extension(Arc::clone(&endpoint)))
        .layer(Extension(turns.clone()))
        .layer(Extension(tasks.clone()))
        .layer(Extension(work.clone()))
        .with_state(state.clone());
    inside
        .clone()
        .merge(ui::routes(state, inside, door, work))
        .fallback(sqs::answer)
        .method_not_allowed_fallback(async || {
            RefusedRequest::new(StatusCode::METHOD_NOT_ALLOWED, "no such method here")
        })
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(guard, guard::guard))
        .layer(Extension(bodies))
        .layer(Extension(endpoint))
        .layer(Extension(turns))
        .layer(Extension(tasks))
}

/// Returns what `GET /openapi.json` answers.
pub fn openapi() -> utoipa::openapi::OpenApi {
    documented().1
}

/// Returns the routes, and what each takes and answers.
fn documented() -> (Router<AdminState>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(live))
        .routes(routes!(ready))
        .routes(routes!(metrics_page))
        .routes(routes!(reload::reload))
        .routes(routes!(drain::order, drain::show))
        .routes(routes!(drain::end))
        .routes(routes!(handlers))
        .routes(routes!(versions::list))
        .routes(routes!(versions::roll_back))
        .routes(routes!(versions::promote))
        .routes(routes!(version_files::component))
        .routes(routes!(version_files::manifest))
        .routes(routes!(journal::attempts))
        .routes(routes!(journal::events))
        .routes(routes!(journal::way))
        .routes(routes!(profile::take))
        .routes(routes!(halts::pause_handler))
        .routes(routes!(halts::resume_handler))
        .routes(routes!(halts::pause_queue))
        .routes(routes!(halts::resume_queue))
        .routes(routes!(queues))
        .routes(routes!(backup::make))
        .routes(routes!(queue, messages::send, deletion::delete))
        .routes(routes!(messages::send_batch))
        .routes(routes!(messages::receive))
        .routes(routes!(settlements::settle))
        .routes(routes!(settlements::extend))
        .routes(routes!(peek::list, messages::purge))
        .routes(routes!(peek::show))
        .routes(routes!(peek::send_again))
        .routes(routes!(dead_letters::list, dead_letters::purge))
        .routes(routes!(dead_letters::show, chosen_dead::delete_one))
        .routes(routes!(dead_letters::redrive))
        .routes(routes!(chosen_dead::delete))
        .routes(routes!(chosen_dead::edit))
        .routes(routes!(replay::replay))
        .split_for_parts()
}

fn endpoint_of(state: &AdminState, tasks: &TaskTracker) -> Arc<SqsEndpoint> {
    Arc::new(SqsEndpoint::new(
        state.endpoint_parts(),
        state.draining.clone(),
        tasks.clone(),
    ))
}

/// The `OpenAPI` document. The routes add themselves.
#[derive(OpenApi)]
#[openapi(info(
    title = "sandhog",
    description = "The HTTP interface of a sandhog host. Applications may speak the SQS protocol on the same port instead.",
    license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
), security((), ("secret" = [])), modifiers(&SecretScheme))]
struct Document;

/// Adds how a request carries the listener's secret.
struct SecretScheme;

impl Modify for SecretScheme {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The secret of the listener, if it has one"))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("secret", SecurityScheme::Http(scheme));
    }
}

type Answer<T> = Result<Json<T>, RefusedRequest>;
type ReceivedBody = Result<Bytes, BytesRejection>;

#[utoipa::path(
    get,
    path = "/live",
    tag = "host",
    responses((status = 200, body = String, content_type = "text/plain", description = "The process can answer")),
)]
async fn live() -> &'static str {
    "live\n"
}

#[utoipa::path(
    get,
    path = "/ready",
    tag = "host",
    responses(
        (status = 200, body = wire::ReadinessAnswer, description = "The host is ready"),
        (status = 503, body = wire::ReadinessAnswer, description = "The host is not ready"),
    ),
)]
async fn ready(
    State(state): State<AdminState>,
    caller: Option<Extension<Caller>>,
    uri: Uri,
    headers: HeaderMap,
) -> (StatusCode, Json<wire::ReadinessAnswer>) {
    let drain = state.halts.drain_cause(state.draining.is_cancelled());
    match state.handlers.readiness(drain) {
        Ok(()) => (
            StatusCode::OK,
            Json(wire::ReadinessAnswer {
                ready: true,
                reasons: vec![],
            }),
        ),
        Err(reasons) => {
            // A reason can hold words of a guest, which only a client with the secret may see.
            let reasons = if caller.is_some() || guard::admit(&state, &uri, &headers).is_ok() {
                reasons
            } else {
                vec![]
            };
            (
                StatusCode::SERVICE_UNAVAILABLE,
                Json(wire::ReadinessAnswer { ready: false, reasons }),
            )
        }
    }
}

#[utoipa::path(
    get,
    path = "/metrics",
    tag = "host",
    responses(
        (status = 200, body = String, content_type = "text/plain", description = "The metrics for Prometheus"),
    ),
)]
async fn metrics_page(State(state): State<AdminState>, headers: HeaderMap) -> Response {
    let mut queues = state.queues.lasting_names(&state.metrics.handlers().used_queues());
    for (queue, counts) in all_counts(&state).await {
        let name = queue.name().as_str();
        let is_halted = state.halts.of_queue(queue.name()).is_some();
        let is_idle = matches!(&counts, Ok(counts) if *counts == Counts::default());
        if is_idle && !is_halted && !queues.contains(name) {
            continue;
        }
        state.metrics.queues().halted(name, is_halted);
        match counts {
            Ok(counts) => {
                state.metrics.queues().counts(name, &counts);
                queues.insert(name.to_owned());
            }
            // The gauges of a failed queue stay as they were, so that its metrics still say that it failed.
            Err(_) => drop(queues.insert(name.to_owned())),
        }
    }
    if let Ok(Ok(Some(disk))) = timeout(COUNTS_LIMIT, state.queues.disk_use()).await {
        state.metrics.queues().disk_use(&disk);
    }
    let handlers = state.handlers.list().into_iter().map(|handler| {
        let is_halted = state.halts.of_handler(&handler.name).is_some();
        state.metrics.handler_halted(&handler.name, is_halted);
        handler.name
    });
    state.metrics.keep_only(handlers.collect(), queues);
    let accept = headers.get_all(header::ACCEPT).iter();
    let format = PageFormat::accepted(accept.filter_map(|line| line.to_str().ok()));
    (
        [(header::CONTENT_TYPE, format.content_type())],
        state.metrics.page_in(format),
    )
        .into_response()
}

#[utoipa::path(
    get,
    path = "/handlers",
    tag = "host",
    responses(
        (status = 200, body = wire::HandlerList, description = "Every handler with its state"),
    ),
)]
async fn handlers(State(state): State<AdminState>) -> Json<wire::HandlerList> {
    Json(wire::HandlerList {
        plugins: state.versions.plugins().display().to_string(),
        handlers: join_all(
            state
                .handlers
                .list()
                .into_iter()
                .map(|status| state.handler_form(status)),
        )
        .await,
    })
}

/// Asks all queues for their counts at the same time. A queue that does not answer holds the others up for a short time only.
async fn all_counts(state: &AdminState) -> Vec<(Arc<dyn Queue>, Result<Counts, String>)> {
    let ask = async |queue: Arc<dyn Queue>| {
        let counts = match timeout(COUNTS_LIMIT, queue.counts()).await {
            Ok(counts) => counts.map_err(|error| chain(&error)),
            Err(_) => Err(format!("queue {} did not answer within {COUNTS_LIMIT:?}", queue.name())),
        };
        (queue, counts)
    };
    join_all(state.queues.list().into_iter().map(ask)).await
}

#[utoipa::path(
    get,
    path = "/queues",
    tag = "queues",
    responses(
        (status = 200, body = wire::QueueList, description = "Every queue with its counts"),
    ),
)]
async fn queues(State(state): State<AdminState>) -> Json<wire::QueueList> {
    let handlers = state.handlers.list();
    let counted = all_counts(&state).await.into_iter();
    let forms = counted.map(|(queue, counts)| state.queue_form(queue.name().clone(), counts, &handlers));
    Json(wire::QueueList {
        queues: join_all(forms).await,
    })
}

#[utoipa::path(
    get,
    path = "/queues/{name}",
    tag = "queues",
    params(
        ("name" = String, Path, description = "The name of the queue"),
    ),
    responses(
        (status = 200, body = wire::QueueForm, description = "The counts of a queue"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
    ),
)]
async fn queue(State(state): State<AdminState>, Path(name): Path<String>) -> Answer<wire::QueueForm> {
    let queue = state.find(&name)?;
    let (name, counts) = (queue.name().clone(), queue.counts().await?);
    Ok(Json(state.queue_form(name, Ok(counts), &state.handlers.list()).await))
}

impl AdminState {
    /// Returns the queue of this name, or the answer that lists the known queues.
    fn find(&self, name: &str) -> Result<Arc<dyn Queue>, RefusedRequest> {
        let found = QueueName::new(name).ok().and_then(|name| self.queues.get(&name));
        found.ok_or_else(|| {
            let known: Vec<String> = self
                .queues
                .list()
                .iter()
                .map(|queue| queue.name().to_string())
                .collect();
            RefusedRequest::unknown("queue", name, &known)
        })
    }
}
