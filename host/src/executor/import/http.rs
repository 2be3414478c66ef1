//! Outgoing `wasi:http`, 0.2 and 0.3: a request goes where the manifest says, and nowhere else.
//!
//! In this order: its origin must be granted; the attempt's limits must have room; a name is looked up once; the addresses
//! are checked; a connection is made to one of those that were checked, never to the name. The host follows no redirect and
//! uses no proxy. Connections are kept for the next attempt of the same handler under the same policy, and for nobody
//! else: another handler may have other grants.

mod address;
mod attempt;
mod body;
mod connection;
mod origin;
mod resolver;
mod texts;

use std::{future::Future, io, sync::Arc};

use http::Request;
use tokio::sync::{OnceCell, Semaphore};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs},
};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks};

use self::{attempt::Attempt, connection::Pool, origin::Origin, resolver::Lookups, texts::Texts};
use super::super::{
    Policy,
    instance::GuestState,
    output::OutputAccount,
    policy::{HttpGrant, Limits, OriginPattern},
};

pub use resolver::{Resolver, SystemResolver};
pub(in crate::executor) use texts::is_request;

/// The head of a response, at most.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// What one set of fields takes that a guest makes. It can make as many as it may have handles.
const MAX_FIELDS_BYTES: usize = 16 * 1024;
/// What a guest writes to a body in one go. Twice as much waits in the host's memory for each body that is open, which takes
/// a guest three handles: with the fields of the request no more than three sets of fields.
const CHUNK_BYTES: usize = MAX_FIELDS_BYTES;

/// What one connection buffers: what it reads and what it writes, with and without TLS.
const CONNECTION_BYTES: usize = 4 * MAX_HEAD_BYTES;

/// What an attempt can make the host hold of its requests and responses: as many fields as it has handles (a body on its way
/// takes three), those of requests that wait for their turn, texts of requests, heads of responses, and connections.
pub(in crate::executor) fn worst_case(limits: &Limits) -> u64 {
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

/// Links `wasi:http` of both versions, for a component that it is granted to.
pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    wasmtime_wasi_http::p3::add_to_linker(linker)?;
    texts::add_to_linker(linker)
}

/// What all handlers share of the network: the resolver, the room for connections that nobody uses, and the system's root
/// certificates, read when they are first needed.
pub(in crate::executor) struct Network {
    lookups: Lookups,
    idle: Arc<Semaphore>,
    roots: OnceCell<Arc<RootCertStore>>,
}

impl Network {
    /// With so many connections that wait for the next request, of all handlers together.
    ///
    /// # Errors
    ///
    /// The threads of lookups can't be had.
    pub(in crate::executor) fn new(resolver: Arc<dyn Resolver>, idle: u32) -> io::Result<Self> {
        Ok(Self {
            lookups: Lookups::new(resolver)?,
            idle: Arc::new(Semaphore::new(usize::try_from(idle).unwrap_or(Semaphore::MAX_PERMITS))),
            roots: OnceCell::new(),
        })
    }

    async fn roots(&self) -> io::Result<Arc<RootCertStore>> {
        let roots = self.roots.get_or_try_init(|| async {
            let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await?;
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(found.certs);
            match found.errors.into_iter().next() {
                Some(error) if roots.is_empty() => Err(io::Error::other(error)),
                _ => Ok(Arc::new(roots)),
            }
        });
        roots.await.map(Arc::clone)
    }
}

/// What one component under one policy shares between its attempts. Dropping the last clone closes its connections.
pub(in crate::executor) struct Outbound {
    grant: HttpGrant,
    network: Arc<Network>,
    lookups: Lookups,
    tls: OnceCell<TlsConnector>,
    pool: Arc<Pool>,
}

impl Outbound {
    /// `None` if the policy grants no HTTP.
    pub(in crate::executor) fn new(policy: &Policy, network: &Arc<Network>) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            grant: policy.grants.http.clone()?,
            network: Arc::clone(network),
            lookups: network.lookups.share(),
            tls: OnceCell::new(),
            pool: Arc::new(Pool::new(&network.idle)),
        }))
    }

    /// A connector with sessions of its own, which would otherwise tell a server which handlers belong together.
    async fn tls(&self) -> io::Result<&TlsConnector> {
        let connector = self.tls.get_or_try_init(|| async {
            let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(io::Error::other)?
                .with_root_certificates(self.network.roots().await?)
                .with_no_client_auth();
            Ok(TlsConnector::from(Arc::new(config)))
        });
        connector.await
    }
}

/// What a store carries for `wasi:http`. Its drop comes before that of the guest's resources: from then on no body ends well.
pub(in crate::executor) struct HttpState {
    ctx: WasiHttpCtx,
    hooks: Hooks,
    texts: Texts,
}

impl HttpState {
    pub(in crate::executor) fn new(
        outbound: Option<&Arc<Outbound>>,
        limits: &Limits,
        output: &Arc<OutputAccount>,
    ) -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(MAX_FIELDS_BYTES);
        let hooks = Hooks {
            attempt: outbound.map(|outbound| Arc::new(Attempt::new(outbound, limits, output))),
            requests: 0,
            limit: limits.http_requests,
        };
        Self {
            ctx,
            hooks,
            texts: Texts::new(limits),
        }
    }

    pub(in crate::executor) fn view<'a>(&'a mut self, table: &'a mut ResourceTable) -> WasiHttpCtxView<'a> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table,
            ctx: &mut self.ctx,
        }
    }

    /// Whether the guest holds something that keeps a connection open.
    pub(in crate::executor) fn has_open_connections(&self) -> bool {
        self.hooks
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.has_open_connections())
    }

    /// How many requests the guest has made, refused ones included.
    pub(in crate::executor) fn requests(&self) -> u64 {
        self.hooks.requests
    }
}

impl Drop for HttpState {
    fn drop(&mut self) {
        if let Some(attempt) = &self.hooks.attempt {
            attempt.end();
        }
    }
}

struct Hooks {
    attempt: Option<Arc<Attempt>>,
    requests: u64,
    limit: u64,
}

impl Hooks {
    /// Decides on what can be told from the request alone.
    fn admit(&mut self, request: &Request<WasiBody>) -> Result<(Arc<Attempt>, Origin), Error> {
        let attempt = self.attempt.as_ref().ok_or(Error::HttpRequestDenied)?;
        if self.requests >= self.limit {
            attempt.note(&format!(
                "it has made {} HTTP requests, as many as it may (limits.http-requests)",
                self.limit
            ));
            return Err(Error::HttpRequestDenied);
        }
        self.requests += 1;
        let origin = Origin::of(request.method(), request.uri())?;
        if !origin.is_in(attempt.grant()) {
            let shown = origin.to_string();
            let how = match OriginPattern::new(&shown) {
                Some(_) => format!(": to grant it, add \"{shown}\" to http in [grant] of its manifest"),
                None => String::new(),
            };
            attempt.note(&format!("{shown} is not granted{how}"));
            return Err(Error::HttpRequestDenied);
        }
        Ok((Arc::clone(attempt), origin))
    }
}

/// What the engine wants of a request: the response, and what becomes of the connection, which here is not its business.
type Sent = Result<(http::Response<WasiBody>, BoxedEnd), Error>;
type BoxedEnd = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: BoxedEnd,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let admitted = self
            .admit(&request)
            .map(|(attempt, origin)| (attempt.turn(), attempt, origin));
        Box::new(async move {
            let (turn, attempt, origin) = admitted?;
            let sent = attempt.send(turn, (origin, request), options.unwrap_or_default());
            let response = sent.await?;
            let end: BoxedEnd = Box::new(std::future::ready(Ok(())));
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
