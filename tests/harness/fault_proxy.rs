//! A network and a service with faults: a proxy in front of a server that speaks SQS. It knows the requests, does with
//! them what its rules say, and remembers them.
//!
//! Client and server are hyper's, which the host's HTTP stack brings along: it ends a connection without an answer if a
//! handler fails, and drops a handler whose client has left, which is all that the faults need.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::{Body, Frame, Incoming},
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, TRANSFER_ENCODING},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::Runtime,
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{sqs_client::legacy_code, wait_for};

/// More than any request or answer of SQS.
const BODY_LENGTH_MAX: usize = 16 << 20;
/// How many requests are remembered; all are counted.
const LOG_LENGTH_MAX: usize = 10_000;
const BACKLOG: u32 = 1024;
/// After a failure to accept, which may well be one that lasts: no more files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Idle connections to the server are given up before the server may do so, which would be a fault that nobody ordered.
const IDLE_TIME_MAX: Duration = Duration::from_secs(1);

type Picks = Box<dyn Fn(&Value) -> bool + Send + Sync>;

/// Closed until a test opens it, for good.
#[derive(Clone, Debug, Default)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn passed(&self) {
        let mut gate = self.0.subscribe();
        gate.wait_for(|is_open| *is_open).await.expect("the gate is here");
    }
}

/// What happens to a request.
pub enum Fault {
    /// It reaches the server late.
    Delay(Duration),
    /// It reaches the server once the gate is open.
    Hold(Gate),
    /// The server does it at once, and the answer comes late.
    DelayAnswer(Duration),
    /// The connection ends, and the server has not heard of it.
    DropRequest,
    /// The connection ends, but the server has done it.
    DropAnswer,
    /// The connection ends in the middle of the answer.
    Cut,
    /// The server does it twice; the second answer is the answer.
    Duplicate,
    /// An error, and the server has not heard of it.
    Status(u16, &'static str, &'static str),
    /// An answer out of the air, and the server has not heard of it.
    Answer(Box<dyn Fn(&Value) -> Value + Send + Sync>),
    /// The entries of a batch that this picks fail, with a code and with `SenderFault`; the server does the others.
    FailEntries(Picks, &'static str, bool),
    /// Nothing happens until the client leaves.
    Hang,
}

impl Fault {
    /// The answer is always this.
    pub fn answer(answer: Value) -> Self {
        Self::Answer(Box::new(move |_| answer.clone()))
    }

    /// All is done, says the answer, and nothing is.
    pub fn pretend() -> Self {
        Self::Answer(Box::new(|request| {
            let entries = request.get("Entries").and_then(Value::as_array);
            entries.map_or_else(
                || json!({ "MessageId": "pretended", "MD5OfMessageBody": "" }),
                |entries| {
                    let done = |entry: &Value| {
                        let id = entry.get("Id").cloned().unwrap_or_default();
                        json!({ "Id": id, "MessageId": "pretended", "MD5OfMessageBody": "" })
                    };
                    json!({ "Successful": entries.iter().map(done).collect::<Vec<_>>(), "Failed": [] })
                },
            )
        }))
    }

    /// Every entry of a batch fails, in an answer of status 200.
    pub fn fail_all_entries(code: &'static str, sender_fault: bool) -> Self {
        Self::FailEntries(Box::new(|_| true), code, sender_fault)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Delay(_) => "Delay",
            Self::Hold(_) => "Hold",
            Self::DelayAnswer(_) => "DelayAnswer",
            Self::DropRequest => "DropRequest",
            Self::DropAnswer => "DropAnswer",
            Self::Cut => "Cut",
            Self::Duplicate => "Duplicate",
            Self::Status(..) => "Status",
            Self::Answer(_) => "Answer",
            Self::FailEntries(..) => "FailEntries",
            Self::Hang => "Hang",
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Which requests meet a fault: all, unless it is narrowed.
pub struct Rule {
    fault: Arc<Fault>,
    action: Option<&'static str>,
    matches: Option<Picks>,
    times: usize,
    after: usize,
    used: Arc<AtomicUsize>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            fault, action, used, ..
        } = self;
        write!(formatter, "{fault:?} for {action:?}, used {used:?} times")
    }
}

impl Rule {
    pub fn new(fault: Fault) -> Self {
        Self {
            fault: Arc::new(fault),
            action: None,
            matches: None,
            times: usize::MAX,
            after: 0,
            used: Arc::default(),
        }
    }

    /// Only requests of this action, such as `DeleteMessageBatch`.
    #[must_use]
    pub fn action(mut self, action: &'static str) -> Self {
        self.action = Some(action);
        self
    }

    /// Only requests whose body is like this.
    #[must_use]
    pub fn matching(mut self, matches: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Self {
        self.matches = Some(Box::new(matches));
        self
    }

    /// Only so often.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Only after so many requests that it would have been for.
    #[must_use]
    pub fn after(mut self, spared: usize) -> Self {
        self.after = spared;
        self
    }

    fn take(&mut self, action: &str, request: &Value) -> Option<Arc<Fault>> {
        let concerned = self.action.is_none_or(|only| only == action)
            && self.matches.as_ref().is_none_or(|matches| matches(request))
            && self.times > 0;
        if !concerned {
            return None;
        }
        if self.after > 0 {
            self.after -= 1;
            return None;
        }
        self.times -= 1;
        self.used.fetch_add(1, Ordering::SeqCst);
        Some(Arc::clone(&self.fault))
    }
}

/// A rule that was given to a proxy.
#[derive(Clone, Debug)]
pub struct Given(Arc<AtomicUsize>);

impl Given {
    /// How many requests have met its fault.
    pub fn used(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Entry {
    pub action: String,
    pub request: Value,
    /// The fault that it met.
    pub fault: Option<&'static str>,
    pub at: Instant,
    /// What the client was answered, and when. There is none as long as the request is under way, and if the connection
    /// ended.
    pub status: Option<u16>,
    pub answer: Value,
    pub answered_at: Option<Instant>,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    log: VecDeque<Entry>,
    /// How many entries the log has lost at its start.
    forgotten: usize,
    counts: HashMap<String, usize>,
    open: usize,
    connections: usize,
}

impl State {
    fn enter(&mut self, action: &str, request: &Value) -> (usize, Option<Arc<Fault>>) {
        let fault = self.rules.iter_mut().find_map(|rule| rule.take(action, request));
        *self.counts.entry(action.to_owned()).or_default() += 1;
        if self.log.len() == LOG_LENGTH_MAX {
            self.log.pop_front();
            self.forgotten += 1;
        }
        self.log.push_back(Entry {
            action: action.to_owned(),
            request: request.clone(),
            fault: fault.as_ref().map(|fault| fault.name()),
            at: Instant::now(),
            status: None,
            answer: Value::Null,
            answered_at: None,
        });
        (self.forgotten + self.log.len() - 1, fault)
    }

    fn answered(&mut self, number: usize, status: StatusCode, answer: &[u8]) {
        let place = number.checked_sub(self.forgotten);
        if let Some(entry) = place.and_then(|place| self.log.get_mut(place)) {
            entry.status = Some(status.as_u16());
            entry.answer = serde_json::from_slice(answer).unwrap_or_default();
            entry.answered_at = Some(Instant::now());
        }
    }
}

/// What the connections share.
struct Shared {
    upstream: Mutex<String>,
    client: Client<HttpConnector, Full<Bytes>>,
    state: Mutex<State>,
}

/// A proxy on a port of its own. It, and every connection through it, ends when it is dropped.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Mutex<Listening>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

enum Listening {
    Up(CancellationToken, JoinHandle<()>),
    /// Bound, so that the port stays ours, and not listening, so that every connection is refused.
    Down(TcpSocket),
    Changing,
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a proxy on {} for {:?}", self.address, self.shared.upstream)
    }
}

impl FaultProxy {
    /// A proxy for the server at this URL, which lets everything pass.
    pub fn start(upstream: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fault-proxy")
            .enable_all()
            .build()
            .unwrap();
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIME_MAX)
            .build(connector);
        let socket = bound(([127, 0, 0, 1], 0).into());
        let proxy = Self {
            address: socket.local_addr().unwrap(),
            shared: Arc::new(Shared {
                upstream: Mutex::new(upstream.trim_end_matches('/').to_owned()),
                client,
                state: Mutex::default(),
            }),
            listening: Mutex::new(Listening::Down(socket)),
            runtime: Some(runtime),
        };
        proxy.up();
        proxy
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, requests go to the server at this URL: it was started anew, on another port.
    pub fn aim_at(&self, upstream: &str) {
        upstream
            .trim_end_matches('/')
            .clone_into(&mut self.shared.upstream.lock().unwrap());
    }

    /// From now on, requests that the rule is for meet its fault. Of several rules for a request the oldest counts.
    pub fn rule(&self, rule: Rule) -> Given {
        let given = Given(Arc::clone(&rule.used));
        self.shared.state.lock().unwrap().rules.push(rule);
        given
    }

    /// Everything passes again. What has met its fault already is not spared.
    pub fn clear(&self) {
        self.shared.state.lock().unwrap().rules.clear();
    }

    /// Cuts all connections, and refuses new ones.
    pub fn down(&self) {
        let mut listening = self.listening.lock().unwrap();
        if let Listening::Up(stop, serving) = std::mem::replace(&mut *listening, Listening::Changing) {
            stop.cancel();
            wait_for("the proxy to go down", || serving.is_finished().then_some(()));
            *listening = Listening::Down(bound(self.address));
        } else {
            panic!("the proxy is down already");
        }
    }

    /// Listens again, on the same port.
    pub fn up(&self) {
        let mut listening = self.listening.lock().unwrap();
        let Listening::Down(socket) = std::mem::replace(&mut *listening, Listening::Changing) else {
            panic!("the proxy is up already");
        };
        let runtime = self.runtime.as_ref().unwrap();
        let listener = {
            let _context = runtime.enter();
            socket.listen(BACKLOG).unwrap()
        };
        let stop = CancellationToken::new();
        let serving = runtime.spawn(serve(listener, Arc::clone(&self.shared), stop.clone()));
        *listening = Listening::Up(stop, serving);
    }

    /// The requests that came, in their order.
    pub fn log(&self) -> Vec<Entry> {
        self.shared.state.lock().unwrap().log.iter().cloned().collect()
    }

    /// The requests of one action that came, in their order.
    pub fn log_of(&self, action: &str) -> Vec<Entry> {
        let state = self.shared.state.lock().unwrap();
        state
            .log
            .iter()
            .filter(|entry| entry.action == action)
            .cloned()
            .collect()
    }

    /// How many requests of an action came.
    pub fn count(&self, action: &str) -> usize {
        let state = self.shared.state.lock().unwrap();
        state.counts.get(action).copied().unwrap_or_default()
    }

    /// How many connections are open, and how many there were.
    pub fn connections(&self) -> (usize, usize) {
        let state = self.shared.state.lock().unwrap();
        (state.open, state.connections)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // Not waited for, which asynchronous tests must not do.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    // Connections that have just ended do not hold the port.
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// A connection, counted.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: &Arc<Shared>) -> Self {
        let mut state = shared.state.lock().unwrap();
        state.open += 1;
        state.connections += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().open -= 1;
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                drop(stream.set_nodelay(true));
                let counted = Counted::new(&shared);
                connections.spawn(async move {
                    let service = service_fn(|request| handle(&counted.0, request));
                    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    // That it fails is what many of the faults are.
                    drop(connection.await);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}

type Answer = Response<Either<Full<Bytes>, Half>>;

/// Answers one request; an error ends the connection.
async fn handle(shared: &Shared, request: Request<Incoming>) -> anyhow::Result<Answer> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_LENGTH_MAX).collect().await;
    let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
    let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let action = target.and_then(|target| target.rsplit('.').next()).unwrap_or_default();
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (number, fault) = shared.state.lock().unwrap().enter(action, &value);

    let forward = async |body: Bytes| shared.forward(&head, body).await;
    let whole = match fault.as_deref() {
        None => forward(body).await?,
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(*time).await;
            forward(body).await?
        }
        Some(Fault::Hold(gate)) => {
            gate.passed().await;
            forward(body).await?
        }
        Some(Fault::DelayAnswer(time)) => {
            let answer = forward(body).await?;
            tokio::time::sleep(*time).await;
            answer
        }
        Some(Fault::DropRequest) => anyhow::bail!("dropped"),
        Some(Fault::DropAnswer) => {
            forward(body).await?;
            anyhow::bail!("dropped")
        }
        Some(Fault::Cut) => return Ok(cut(forward(body).await?)),
        Some(Fault::Duplicate) => {
            forward(body.clone()).await?;
            forward(body).await?
        }
        Some(Fault::Status(status, code, message)) => error_answer(*status, code, message)?,
        Some(Fault::Answer(answer)) => json_answer(StatusCode::OK, &answer(&value)),
        Some(Fault::FailEntries(picks, code, sender_fault)) => {
            let (failed, rest) = split(value, picks);
            let mut answer = match rest {
                Some(rest) => forward(rest.to_string().into()).await?,
                None => json_answer(StatusCode::OK, &json!({ "Successful": [] })),
            };
            add_failed(&mut answer, &failed, code, *sender_fault);
            answer
        }
        Some(Fault::Hang) => std::future::pending().await,
    };
    let (head, body) = whole.into_parts();
    shared.state.lock().unwrap().answered(number, head.status, &body);
    Ok(Response::from_parts(head, Either::Left(Full::new(body))))
}

impl Shared {
    async fn forward(&self, head: &hyper::http::request::Parts, body: Bytes) -> anyhow::Result<Response<Bytes>> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = format!("{}{path}", self.upstream.lock().unwrap())
            .parse::<Uri>()
            .context("the path")?;
        // With the name of the host that the client used, from which servers make the URLs of queues.
        *request.headers_mut() = without_connection(head.headers.clone());
        let answer = self.client.request(request).await?;
        let (mut head, body) = answer.into_parts();
        let body = Limited::new(body, BODY_LENGTH_MAX).collect().await;
        let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
        head.headers = without_connection(head.headers);
        Ok(Response::from_parts(head, body))
    }
}

/// Without the headers that concern one connection, or a body that may be changed.
fn without_connection(mut headers: HeaderMap) -> HeaderMap {
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("expect");
    headers
}

fn json_answer(status: StatusCode, answer: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(answer.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/x-amz-json-1.0");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn error_answer(status: u16, code: &str, message: &str) -> anyhow::Result<Response<Bytes>> {
    let body = json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": message });
    let status = StatusCode::from_u16(status)?;
    let mut response = json_answer(status, &body);
    let fault = if status.is_client_error() { "Sender" } else { "Receiver" };
    let query_error = format!("{};{fault}", legacy_code(code));
    response
        .headers_mut()
        .insert("x-amzn-query-error", query_error.parse()?);
    Ok(response)
}

/// The entries of a batch that are picked, and the request without them, if that leaves any.
fn split(mut request: Value, picks: &Picks) -> (Vec<Value>, Option<Value>) {
    let entries = match request.get_mut("Entries") {
        Some(Value::Array(entries)) => std::mem::take(entries),
        _ => Vec::new(),
    };
    let (failed, rest): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| picks(entry));
    if rest.is_empty() {
        return (failed, None);
    }
    if let Some(entries) = request.get_mut("Entries") {
        *entries = rest.into();
    }
    (failed, Some(request))
}

fn add_failed(answer: &mut Response<Bytes>, entries: &[Value], code: &str, sender_fault: bool) {
    let fail = |entry: &Value| {
        let id = entry.get("Id").cloned().unwrap_or_default();
        json!({ "Id": id, "Code": code, "Message": "as ordered", "SenderFault": sender_fault })
    };
    let Ok(Value::Object(mut whole)) = serde_json::from_slice(answer.body()) else {
        return;
    };
    if !answer.status().is_success() {
        return;
    }
    if let Value::Array(failed) = whole.entry("Failed").or_insert_with(|| json!([])) {
        failed.extend(entries.iter().map(fail));
    }
    *answer.body_mut() = Value::Object(whole).to_string().into();
}

/// An answer whose body announces its length, and ends in the middle.
fn cut(answer: Response<Bytes>) -> Answer {
    let (mut head, mut body) = answer.into_parts();
    head.headers.insert(CONTENT_LENGTH, body.len().into());
    body.truncate(body.len() / 2);
    Response::from_parts(head, Either::Right(Half::Unsent(body)))
}

/// Half a body.
enum Half {
    Unsent(Bytes),
    Sent,
    /// The connection had the time to send it.
    Flushed,
}

impl Body for Half {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match std::mem::replace(&mut *self, Self::Flushed) {
            Self::Unsent(half) => {
                *self = Self::Sent;
                Poll::Ready(Some(Ok(Frame::data(half))))
            }
            Self::Sent => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Flushed => Poll::Ready(Some(Err(std::io::Error::other("cut")))),
        }
    }
}
