//! Outgoing `wasi:http`, 0.2 and 0.3: a request goes where the manifest says, and nowhere else.
//!
//! In this order: its origin must be granted; the attempt's limits must have room; a name is looked up once; the addresses
//! are checked; a connection is made to one of those that were checked, never to the name. The host follows no redirect and
//! uses no proxy. Connections are kept for the next attempt of the same handler under the same policy, and for no other
//! handler, which may have other grants.

mod account;
mod address;
mod connection;
mod download;
mod origin;
mod outbound;
mod requests;
mod resolver;
mod texts;
mod upload;

use std::{future::Future, sync::Arc};

use http::Request;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

use self::{
    connection::MAX_HEAD_BYTES,
    origin::Origin,
    requests::{AdmittedRequest, AttemptRequests},
    texts::TextAccount,
};
use super::super::output::OutputAccount;
use crate::{
    CallTrace,
    policy::{Limits, OriginPattern},
};

pub(crate) use outbound::{Network, Outbound};
pub use resolver::{NameResolver, SystemResolver};
pub(crate) use texts::is_request;

/// The most bytes of one set of fields that a guest makes. It can make as many sets as it may have handles.
const MAX_FIELDS_BYTES: usize = 16 * 1024;
/// The bytes that a guest writes to a body in one go. Twice as much waits in the host's memory for each open body, which takes
/// three handles of the guest: with the fields of the request no more than three sets of fields.
const CHUNK_BYTES: usize = MAX_FIELDS_BYTES;

/// The bytes that one connection buffers: what it reads and what it writes, with and without TLS.
const CONNECTION_BYTES: usize = 4 * MAX_HEAD_BYTES;

/// Returns the most bytes of requests and responses that an attempt can make the host hold: as many fields as the attempt has
/// handles (a body on its way takes three), the fields of requests that wait for their turn, texts of requests, heads of
/// responses, and connections.
pub(crate) fn worst_case(limits: &Limits) -> u64 {
    let bytes = |count: u64, each: usize| count.saturating_mul(u64::try_from(each).unwrap_or(u64::MAX));
    let sent = limits.http_requests.min(limits.handles);
    [
        bytes(limits.handles, MAX_FIELDS_BYTES),
        bytes(sent, MAX_FIELDS_BYTES),
        texts::worst_case(limits),
        bytes(sent, MAX_HEAD_BYTES),
        bytes(limits.http_concurrent, CONNECTION_BYTES),
    ]
    .into_iter()
    .fold(0, u64::saturating_add)
}

/// Links both versions of `wasi:http`, for a component that is granted it. `texts` must return the account of the state
/// that the view of `T` shows.
pub(crate) fn add_to_linker<T: WasiHttpView + 'static>(
    linker: &mut Linker<T>,
    texts: fn(&mut T) -> &mut TextAccount,
) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    wasmtime_wasi_http::p3::add_to_linker(linker)?;
    texts::add_to_linker(linker, texts)
}

/// The state of `wasi:http` in a store. It must be dropped before the guest's resources: from then on no body ends well.
pub(crate) struct HttpState {
    ctx: WasiHttpCtx,
    hooks: Hooks,
    texts: TextAccount,
}

impl HttpState {
    pub(crate) fn new(outbound: Option<&Arc<Outbound>>, limits: &Limits, output: &Arc<OutputAccount>) -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(MAX_FIELDS_BYTES);
        let hooks = Hooks {
            requests: outbound.map(|outbound| Arc::new(AttemptRequests::new(outbound, limits, output))),
            count: 0,
            limit: limits.http_requests,
            trace: None,
        };
        Self {
            ctx,
            hooks,
            texts: TextAccount::new(limits),
        }
    }

    pub(crate) fn view<'a>(&'a mut self, table: &'a mut ResourceTable) -> WasiHttpCtxView<'a> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table,
            ctx: &mut self.ctx,
        }
    }

    /// Gives the requests of the call this trace context, unless they have one of their own.
    pub(crate) fn trace(&mut self, trace: Option<Arc<CallTrace>>) {
        self.hooks.trace = trace;
    }

    /// Returns the account of the texts that the guest sets.
    pub(crate) fn texts(&mut self) -> &mut TextAccount {
        &mut self.texts
    }

    /// Returns whether the guest holds something that keeps a connection open.
    pub(crate) fn has_open_connections(&self) -> bool {
        let requests = self.hooks.requests.as_ref();
        requests.is_some_and(|requests| requests.account.has_open_connections())
    }

    /// Returns the number of requests that the guest has made, refused ones included.
    pub(crate) fn requests(&self) -> u64 {
        self.hooks.count
    }
}

impl Drop for HttpState {
    fn drop(&mut self) {
        if let Some(requests) = &self.hooks.requests {
            requests.account.end();
        }
    }
}

struct Hooks {
    /// `None` if the handler is granted no HTTP.
    requests: Option<Arc<AttemptRequests>>,
    /// The number of requests so far.
    count: u64,
    limit: u64,
    /// The trace context of requests that have none of their own.
    trace: Option<Arc<CallTrace>>,
}

impl Hooks {
    /// Admits a request, by what can be told from the request alone.
    fn admit(&mut self, mut request: Request<WasiBody>) -> Result<(Arc<AttemptRequests>, AdmittedRequest), Error> {
        let requests = self.requests.as_ref().ok_or(Error::HttpRequestDenied)?;
        if self.count >= self.limit {
            requests.account.note(&format!(
                "it has made {} HTTP requests, as many as it may (limits.http-requests)",
                self.limit
            ));
            return Err(Error::HttpRequestDenied);
        }
        self.count += 1;
        let origin = Origin::of(request.method(), request.uri())?;
        if !origin.is_in(requests.grant()) {
            let shown = origin.to_string();
            let how = match OriginPattern::new(&shown) {
                Some(_) => format!(": to grant it, add \"{shown}\" to http in [grant] of its manifest"),
                None => String::new(),
            };
            requests.account.note(&format!("{shown} is not granted{how}"));
            return Err(Error::HttpRequestDenied);
        }
        if let Some(trace) = &self.trace {
            trace.add_to(request.headers_mut());
        }
        let admitted = AdmittedRequest {
            turn: requests.account.turn(),
            origin,
            request,
        };
        Ok((Arc::clone(requests), admitted))
    }
}

/// The answer that the engine expects to a request: the response, and a future for the end of the connection. The host sees to
/// connections by itself, so that future ends at once.
type EngineResponse = Result<(http::Response<WasiBody>, ConnectionEnd), Error>;
type ConnectionEnd = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: ConnectionEnd,
    ) -> Box<dyn Future<Output = EngineResponse> + Send> {
        let admitted = self.admit(request);
        Box::new(async move {
            let (requests, request) = admitted?;
            let response = requests.send(request, options.unwrap_or_default()).await?;
            let end: ConnectionEnd = Box::new(std::future::ready(Ok(())));
            Ok((response, end))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }
}
