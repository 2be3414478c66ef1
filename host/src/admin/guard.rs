//! Who may ask: the secret, and what a browser must not do on somebody else's behalf.
//!
//! Without a secret the listener is on loopback, where the danger is a web page: its scripts can reach
//! loopback addresses, by name too if they control a domain's addresses (DNS rebinding). So a request has to
//! name a loopback host, and must not come from a page of another origin.

use std::{net::IpAddr, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{AdminState, refused::Refused};

/// The longest that a request may take, its body included; the longest receive waits 20 s.
const MAX_REQUEST_TIME: Duration = Duration::from_mins(1);
/// Routes that anyone may ask, since a probe has no secret and learns nothing.
const OPEN: [&str; 2] = ["/live", "/ready"];

/// Lets a request through, or refuses it.
pub(super) async fn guard(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    if !OPEN.contains(&request.uri().path())
        && let Err(refused) = admit(&state, request.headers())
    {
        return refused.into_response();
    }
    let _under_way = state.metrics.request();
    match tokio::time::timeout(MAX_REQUEST_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => {
            Refused::new(StatusCode::REQUEST_TIMEOUT, "the request took more than a minute").into_response()
        }
    }
}

/// Whether the request bears the secret, if one is needed.
fn bears_secret(state: &AdminState, headers: &HeaderMap) -> bool {
    let Some(secret) = &state.secret else { return true };
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    bearer.is_some_and(|candidate| secret.matches(candidate))
}

/// Whether a request may do what it asks for.
pub(super) fn admit(state: &AdminState, headers: &HeaderMap) -> Result<(), Refused> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(origin) = text(header::ORIGIN) {
        // Another page on this machine is another origin as well: it may show what anybody wrote.
        let page = origin.split_once("://").map_or(origin, |(_, host)| host);
        if text(header::HOST) != Some(page) {
            return Err(Refused::new(
                StatusCode::FORBIDDEN,
                "refused: the request comes from a web page elsewhere",
            ));
        }
    }
    if text(HeaderName::from_static("sec-fetch-site")) == Some("cross-site") {
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            "refused: the request comes from a web page elsewhere",
        ));
    }
    if !bears_secret(state, headers) {
        return Err(Refused::new(
            StatusCode::UNAUTHORIZED,
            "the header \"authorization: Bearer SECRET\" is needed",
        ));
    }
    match text(header::HOST) {
        Some(host) if state.secret.is_none() && !is_loopback(host) => {
            let why = "refused: without a secret the host's name has to be localhost or a loopback address";
            Err(Refused::new(StatusCode::FORBIDDEN, why))
        }
        _ => Ok(()),
    }
}

/// Whether `host`, with or without a port, is this machine and nothing else.
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
