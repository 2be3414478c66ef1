//! The SQS protocol on the listener: requests of any AWS SDK become actions of the [endpoint](crate::endpoint).
//!
//! Every path belongs to it that no other route has, because SDKs of the query protocol post to the URL of a queue, whatever
//! it looks like. It reads the request, and writes answers and errors as SQS does.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use axum::{
    Extension,
    body::Body,
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use http_body_util::BodyExt as _;
use uuid::Uuid;

use super::{
    audit::{SqsAudit, SqsRequester},
    body::RequestBodies,
    guard::CarriesSecret,
    refused::RefusedRequest,
    traced::RequestTrace,
};
use crate::endpoint::{AccessKeys, ClientView, DEFAULT_REGION, SqsCaller, SqsEndpoint};
use sandhog_queue::machine_clock::wall_ms;
use sandhog_sqs_wire::{
    SqsError, SqsErrorCode, SqsRequest, SqsResponse, WireProtocol, WireRequest, WireResponse, parse, render,
    signature::{SignedRequest, is_signed, verify},
};

/// The header that names the action in the JSON protocol.
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
/// The header of X-Ray, which SDKs add to every request of a traced application.
const TRACE: HeaderName = HeaderName::from_static("x-amzn-trace-id");
/// Longer ones are not kept.
const MAX_TRACE_BYTES: usize = 1024;
/// How the header `Authorization` of a signed request begins.
const SIGNATURE: &[u8] = b"AWS4-HMAC-SHA256";
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/x-amz-json-";

/// Returns whether a request speaks the protocol of SQS. `GET` does only with the parameter `Action` or with a signature, and what
/// goes to another route of the listener never does.
pub(crate) fn speaks_sqs(request: &Request) -> bool {
    if request.extensions().get::<MatchedPath>().is_some() {
        return false;
    }
    let headers = request.headers();
    let signature = headers.get(header::AUTHORIZATION);
    if headers.contains_key(TARGET) || signature.is_some_and(|value| value.as_bytes().starts_with(SIGNATURE)) {
        return true;
    }
    if request.uri().query().is_some_and(names_action) {
        return true;
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    request.method() == Method::POST
        && content_type.is_some_and(|media| media.starts_with(FORM) || media.starts_with(JSON))
}

fn names_action(query: &str) -> bool {
    let mut pairs = query.split('&');
    pairs.any(|pair| pair.starts_with("Action=") || pair.starts_with("X-Amz-Signature="))
}

/// Returns the protocol of a request, if it speaks that of SQS.
pub(crate) fn protocol_of(request: &Request) -> Option<WireProtocol> {
    let text = |name: &HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    speaks_sqs(request).then(|| {
        WireProtocol::of(&WireRequest {
            method: request.method().as_str(),
            path: request.uri().path(),
            query: request.uri().query().unwrap_or_default(),
            content_type: text(&header::CONTENT_TYPE),
            target: text(&TARGET),
            body: &[],
        })
    })
}

/// Writes a refusal of the guard as an error of SQS.
pub(crate) fn refusal(protocol: WireProtocol, refused: &RefusedRequest) -> Response {
    let code = match refused.status() {
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => SqsErrorCode::AccessDenied,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            SqsErrorCode::InvalidParameterValue
        }
        StatusCode::REQUEST_TIMEOUT => SqsErrorCode::RequestExpired,
        _ => SqsErrorCode::ServiceUnavailable,
    };
    written(protocol, &Err(SqsError::new(code, refused.to_string())))
}

/// Answers a request that no other route has.
pub(crate) async fn answer(
    Extension(endpoint): Extension<Arc<SqsEndpoint>>,
    Extension(bodies): Extension<Arc<RequestBodies>>,
    request: Request,
) -> Response {
    if !speaks_sqs(&request) {
        return RefusedRequest::new(StatusCode::NOT_FOUND, "no such route").into_response();
    }
    let (parts, body) = request.into_parts();
    let trace = RequestTrace::of(endpoint.traces(), &parts.headers);
    // A reload may replace the keys meanwhile.
    let keys = endpoint.keys();
    let requester = SqsRequester {
        is_open: keys.is_open(),
        address: parts.extensions.get().copied(),
    };
    // The guard has read the body, and bounded it.
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return RefusedRequest::new(StatusCode::BAD_REQUEST, "the body did not come to its end").into_response();
    };
    let read = bodies.parse(body, move |body| Ok(read(&keys, &parts, body))).await;
    let (protocol, asked) = match read {
        Ok(read) => read,
        Err(refused) => return refused.into_response(),
    };
    let answer = match asked {
        Ok((request, mut view)) => {
            if let Some(trace) = trace {
                view.trace = trace.header(view.trace);
            }
            let audit = SqsAudit::of(&request, &view.caller, requester);
            let answer = endpoint.answer(request, &view).await;
            if let Some(audit) = audit {
                audit.end(&answer);
            }
            answer
        }
        Err(error) => Err(error),
    };
    written(protocol, &answer)
}

/// Reads a request, and verifies its signature.
fn read(keys: &AccessKeys, parts: &Parts, body: &[u8]) -> (WireProtocol, Result<(SqsRequest, ClientView), SqsError>) {
    let text = |name: &HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let wire = WireRequest {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        content_type: text(&header::CONTENT_TYPE),
        target: text(&TARGET),
        body,
    };
    let protocol = WireProtocol::of(&wire);
    let view = client_view(keys, parts, body);
    let asked = view.and_then(|view| Ok((parse(protocol, &wire)?, view)));
    (protocol, asked)
}

/// Finds out who sent a request. Where there are secrets the signature must be right, or the listener's own secret be in the header
/// as on the other routes. Without secrets any signature will do, and none, but a `GET` needs one: a link on a web page has none.
fn client_view(keys: &AccessKeys, parts: &Parts, body: &[u8]) -> Result<ClientView, SqsError> {
    let headers: Vec<(&str, &str)> = parts
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect();
    let signed = SignedRequest {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: &headers,
        body,
    };
    let text = |name: &HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let region = text(&header::AUTHORIZATION)
        .and_then(signed_region)
        .unwrap_or(DEFAULT_REGION);
    let mut view = ClientView {
        authority: text(&header::HOST).unwrap_or("localhost").to_owned(),
        region: region.to_owned(),
        caller: SqsCaller::Owner,
        trace: text(&TRACE)
            .filter(|trace| (1..=MAX_TRACE_BYTES).contains(&trace.len()))
            .map(str::to_owned),
    };
    let is_signed = is_signed(&signed);
    if keys.is_open() {
        // A link has no header.
        let may = parts.method != Method::GET || (is_signed && parts.headers.contains_key(header::AUTHORIZATION));
        return if may { Ok(view) } else { Err(unsigned()) };
    }
    if !is_signed && parts.extensions.get::<CarriesSecret>().is_some() {
        return Ok(view);
    }
    let now = UNIX_EPOCH + Duration::from_millis(wall_ms());
    let caller = verify(&signed, now, |access_key| keys.secret_of(access_key))?;
    view.region = caller.region;
    view.caller = keys.caller(caller.access_key);
    Ok(view)
}

fn unsigned() -> SqsError {
    let text = "Request is missing Authentication Token";
    SqsError::new(SqsErrorCode::MissingAuthenticationToken, text)
}

/// Writes an answer with a new request id.
pub(crate) fn written(protocol: WireProtocol, answer: &Result<SqsResponse, SqsError>) -> Response {
    let WireResponse { status, headers, body } = render(protocol, &Uuid::new_v4().to_string(), answer);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// Returns the region of the credential in an `Authorization` header of AWS.
fn signed_region(authorization: &str) -> Option<&str> {
    let (_, rest) = authorization.split_once("Credential=")?;
    rest.split(',')
        .next()?
        .split('/')
        .nth(2)
        .filter(|region| !region.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_of_a_signature_is_that_of_its_scope() {
        let header =
            "AWS4-HMAC-SHA256 Credential=AK/20261129/eu-west-1/sqs/aws4_request, SignedHeaders=host, Signature=0";
        assert_eq!(signed_region(header), Some("eu-west-1"));
        assert_eq!(signed_region("Bearer x"), None);
    }
}
