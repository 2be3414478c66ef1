//! One collector, over HTTP: a request with spans, and what its answer means.

use std::{fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::{
    otlp::{self, Rejection},
    settings::ExportSettings,
};

/// The most bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The time after which an idle connection is closed.
const IDLE: Duration = Duration::from_mins(1);

/// The reason that a collector did not take spans.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    /// It could not be reached, or did not answer.
    #[error("no answer")]
    NoAnswer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It did not answer in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// It can't take them now.
    #[error("it answered {status}")]
    Busy {
        /// The status of the answer.
        status: StatusCode,
        /// The time after which it wants to be asked again.
        after: Option<Duration>,
    },
    /// It does not take them.
    #[error("it answered {0}: look at the endpoint, the headers and the log of the collector")]
    Refused(StatusCode),
}

impl ExportError {
    /// Whether the same request may be taken later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::NoAnswer(_) | Self::Late(_) | Self::Busy { .. } => true,
            Self::Refused(_) => false,
        }
    }
}

/// A collector. The connection is kept between requests.
pub(crate) struct Collector {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    settings: ExportSettings,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Collector {
    /// Connects to nothing yet. Blocks for a moment if the endpoint is one of TLS: certificates are read.
    ///
    /// # Errors
    ///
    /// Certificates can't be read.
    pub(crate) fn new(settings: ExportSettings) -> io::Result<Self> {
        let roots = if settings.endpoint.scheme_str() == Some("https") {
            roots(&settings)?
        } else {
            RootCertStore::empty()
        };
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(settings.timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .build(connector);
        Ok(Self { client, settings })
    }

    /// Sends spans once, within `time` and the timeout of the settings. Returns what the collector has not taken of them.
    ///
    /// # Errors
    ///
    /// See [`ExportError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have sent.
    pub(crate) async fn send(&self, body: Bytes, time: Duration) -> Result<Option<Rejection>, ExportError> {
        let time = time.min(self.settings.timeout);
        let answered = timeout(time, self.exchange(body)).await;
        answered.unwrap_or(Err(ExportError::Late(time)))
    }

    async fn exchange(&self, body: Bytes) -> Result<Option<Rejection>, ExportError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.settings.endpoint.clone();
        *request.headers_mut() = self.settings.headers.clone();
        let agent = concat!("sandhog/", env!("CARGO_PKG_VERSION"));
        for (name, value) in [
            (header::CONTENT_TYPE, "application/x-protobuf"),
            (header::USER_AGENT, agent),
        ] {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| ExportError::NoAnswer(error.into()))?;
        match answer.status() {
            status if status.is_success() => Ok(otlp::rejection(&body_of(answer).await)),
            status @ (StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT) => Err(ExportError::Busy {
                status,
                after: retry_after(&answer),
            }),
            status => Err(ExportError::Refused(status)),
        }
    }
}

/// Returns the body of an answer; nothing, if it is too long or does not come to its end.
async fn body_of(answer: Response<Incoming>) -> Bytes {
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
    body.map(http_body_util::Collected::to_bytes).unwrap_or_default()
}

fn retry_after(answer: &Response<Incoming>) -> Option<Duration> {
    let seconds = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

/// Reads the certificates that are trusted.
fn roots(settings: &ExportSettings) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(file) = &settings.certificate else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        return match found.errors.into_iter().next() {
            Some(error) if roots.is_empty() => Err(io::Error::other(error)),
            Some(_) | None => Ok(roots),
        };
    };
    let certificates = CertificateDer::pem_file_iter(file).map_err(io::Error::other)?;
    for certificate in certificates {
        let certificate = certificate.map_err(io::Error::other)?;
        roots.add(certificate).map_err(io::Error::other)?;
    }
    if roots.is_empty() {
        return Err(io::Error::other(format!("{} has no certificate", file.display())));
    }
    Ok(roots)
}
