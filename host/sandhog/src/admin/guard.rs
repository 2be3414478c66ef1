//! Decides which requests reach a route: those with the secret, and none that a web page makes on a person's behalf.
//!
//! Without a secret the listener is on loopback, where the danger is a web page: its scripts can reach loopback addresses, and by
//! name too if they control a domain's addresses (DNS rebinding). So a request has to name a loopback host, and must not come
//! from a page of another origin.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, Uri, Version, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{
    AdminState,
    body::{RequestBodies, check_codings},
    caller::Caller,
    connections::{ClientConnection, ConnectionPhase},
    refused::RefusedRequest,
    sqs::{protocol_of, refusal, speaks_sqs},
    ui::{self, DoorAnswer, GuardedRequest, UiDoor},
};

/// The routes without a secret, because a probe has none and learns nothing.
const OPEN: [&str; 2] = ["/live", "/ready"];

/// The checks between a request and its route.
#[derive(Debug, Clone)]
pub(crate) struct RequestGuard {
    pub(crate) state: AdminState,
    pub(crate) bodies: Arc<RequestBodies>,
    /// Where people come in.
    pub(crate) door: Arc<UiDoor>,
    /// The longest that a request may take, its body included.
    pub(crate) limit: Duration,
}

/// Lets a request through with the whole of its body, but for a form with a file, or refuses it.
pub(crate) async fn guard(State(guard): State<RequestGuard>, request: Request, next: Next) -> Response {
    let protocol = protocol_of(&request);
    let page = is_page(&request).then(|| GuardedRequest::of(&request));
    match (guard.answer(request, next).await, protocol, page) {
        (Ok(answer), _, _) => answer,
        (Err(refused), Some(protocol), _) => refusal(protocol, &refused),
        (Err(refused), None, Some(page)) => ui::dressed(&refused, &page),
        (Err(refused), None, None) => refused.into_response(),
    }
}

impl RequestGuard {
    async fn answer(&self, request: Request, next: Next) -> Result<Response, RefusedRequest> {
        check_host(&request)?;
        let _under_way = self.state.metrics.listener().request();
        if OPEN.contains(&request.uri().path()) {
            return Ok(next.run(request).await);
        }
        let mut request = request;
        if speaks_sqs(&request) {
            // A client of SQS signs, and its signature is verified with the body.
            refuse_pages(request.headers())?;
            check_name(&self.state, request.uri(), request.headers())?;
            if self.state.secret.is_some() && carries_secret(&self.state, request.headers()) {
                request.extensions_mut().insert(CarriesSecret);
            }
        } else if is_page(&request) {
            refuse_pages(request.headers())?;
            check_name(&self.state, request.uri(), request.headers())?;
            // A person has a session instead of a header.
            request = match self.door.admit(request) {
                Ok(request) => request,
                Err(DoorAnswer::Login(form)) => return Ok(ui::to_login(&form)),
                Err(DoorAnswer::Refused(refused)) => return Err(refused),
            };
        } else {
            let caller = admit(&self.state, request.uri(), request.headers())?;
            caller.check(request.method())?;
            request.extensions_mut().insert(caller);
        }
        let connection = request.extensions().get::<Arc<ClientConnection>>().map(Arc::clone);
        if connection.as_ref().is_some_and(|connection| connection.for_probes) {
            let why = "the host has as many connections as it may have: try again";
            return Err(RefusedRequest::new(StatusCode::SERVICE_UNAVAILABLE, why));
        }
        if is_page(&request) && ui::takes_file(&request) {
            // It reads the body piece by piece, with bounds of its own, and waits for its client meanwhile.
            check_codings(request.headers())?;
            return within(ui::FILE_LIMIT, async { Ok(next.run(request).await) }).await;
        }
        let answer = async {
            let (request, paid) = self.bodies.whole(request).await?;
            if let Some(connection) = connection {
                connection.turn(ConnectionPhase::UnderWay);
            }
            let answer = next.run(request).await;
            drop(paid);
            Ok(answer)
        };
        within(self.limit, answer).await
    }
}

/// Refuses a request that takes longer than the limit.
async fn within(
    limit: Duration,
    answer: impl Future<Output = Result<Response, RefusedRequest>>,
) -> Result<Response, RefusedRequest> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_elapsed| {
        let why = format!("the request took more than {}", humantime::format_duration(limit));
        Err(RefusedRequest::new(StatusCode::REQUEST_TIMEOUT, why))
    })
}

/// Returns whether a request is one for the dashboard.
fn is_page(request: &Request) -> bool {
    ui::is_page(request.uri().path()) && !speaks_sqs(request)
}

/// Refuses a request that does not name its host once, as HTTP/1.1 demands.
fn check_host(request: &Request) -> Result<(), RefusedRequest> {
    let why = match request.headers().get_all(header::HOST).iter().count() {
        0 if request.version() == Version::HTTP_11 => "the header \"host\" is missing",
        0 | 1 => return Ok(()),
        _ => "the header \"host\" is given twice",
    };
    Err(RefusedRequest::new(StatusCode::BAD_REQUEST, why))
}

/// Returns whether the request carries the secret, if the listener has one.
fn carries_secret(state: &AdminState, headers: &HeaderMap) -> bool {
    let Some(secret) = &state.secret else { return true };
    bearer(headers).is_some_and(|candidate| secret.matches(candidate))
}

/// Returns whether the request carries the read-only secret.
fn is_reader(state: &AdminState, headers: &HeaderMap) -> bool {
    let candidate = bearer(headers);
    let secret = state.dashboard.reader_secret.as_ref();
    secret
        .zip(candidate)
        .is_some_and(|(secret, candidate)| secret.matches(candidate))
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?;
    value.as_bytes().strip_prefix(b"Bearer ")
}

/// Marks a request that carries the secret of the listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CarriesSecret;

/// Returns who makes a request. Refuses one without a secret, or from a web page elsewhere.
pub(crate) fn admit(state: &AdminState, uri: &Uri, headers: &HeaderMap) -> Result<Caller, RefusedRequest> {
    refuse_pages(headers)?;
    let caller = if carries_secret(state, headers) {
        Caller::owner(state.secret.is_some())
    } else if is_reader(state, headers) {
        Caller::reader()
    } else {
        return Err(RefusedRequest::new(
            StatusCode::UNAUTHORIZED,
            "the header \"authorization: Bearer SECRET\" is needed",
        ));
    };
    check_name(state, uri, headers)?;
    Ok(caller)
}

/// Refuses a request that a web page elsewhere makes.
fn refuse_pages(headers: &HeaderMap) -> Result<(), RefusedRequest> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(origin) = text(header::ORIGIN) {
        // A page of another server on this machine is another origin as well, and may show text from anywhere.
        let page = origin.split_once("://").map_or(origin, |(_, host)| host);
        if text(header::HOST) != Some(page) {
            return Err(RefusedRequest::new(
                StatusCode::FORBIDDEN,
                "refused: the request comes from a web page elsewhere",
            ));
        }
    }
    // `none` is a person who typed the address. A page of the same site on another port is a page elsewhere too.
    let site = text(HeaderName::from_static("sec-fetch-site"));
    if site.is_some_and(|site| site != "none" && site != "same-origin") {
        return Err(RefusedRequest::new(
            StatusCode::FORBIDDEN,
            "refused: the request comes from a web page elsewhere",
        ));
    }
    Ok(())
}

/// Refuses a request to a name that is not this machine's, if nothing but the name shows that it comes from here.
fn check_name(state: &AdminState, uri: &Uri, headers: &HeaderMap) -> Result<(), RefusedRequest> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    // The authority in the request's target wins over the header, so both are checked.
    let names = [uri.host(), text(header::HOST)];
    let names: Vec<&str> = names.into_iter().flatten().collect();
    if state.secret.is_none() && (names.is_empty() || !names.into_iter().all(is_loopback)) {
        let why = "refused: without a secret the host's name has to be localhost or a loopback address";
        return Err(RefusedRequest::new(StatusCode::FORBIDDEN, why));
    }
    Ok(())
}

/// Returns whether `host`, with or without a port, is a name of this machine alone.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for host in [
            "localhost",
            "LOCALHOST:9324",
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:9324",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "example.com",
            "127.0.0.1.example.com",
            "localhost.example.com:1",
            "10.0.0.1",
            "null",
            "",
            "[::2]",
            "?",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
