//! The door of the dashboard: who may see a page, the form for the secret, and the end of a session.
//!
//! Invariant: a request without a session, on a listener with a secret, reaches the form, the style and the script alone. Its body is
//! not read, but for a secret, which has room of its own.

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
};
use maud::html;

use super::{
    UiState,
    form::FormPairs,
    inside::with_query,
    layout::{Frame, page},
    notices::UiNotices,
    sessions::{UiCaller, UiSessions},
};
use crate::{
    admin::{
        audit::{ClientAddress, note},
        caller::CallerRight,
        refused::RefusedRequest,
    },
    config::ListenerSecret,
};

/// The path of the form for the secret.
pub(super) const LOGIN: &str = "/ui/login";
/// The path of its end.
pub(super) const LOGOUT: &str = "/ui/logout";
/// The path below which the style and the script are.
pub(super) const ASSETS: &str = "/ui/assets/";
/// The name of the cookie.
const COOKIE: &str = "sandhog_session";

/// The answer to a request that does not come in.
#[derive(Debug)]
pub(crate) enum DoorAnswer {
    /// The form for the secret is at this path.
    Login(String),
    /// The session is over.
    Refused(RefusedRequest),
}

/// The door: the secrets and the sessions.
#[derive(Debug)]
pub(crate) struct UiDoor {
    secret: Option<ListenerSecret>,
    reader_secret: Option<ListenerSecret>,
    pub(super) sessions: UiSessions,
    pub(super) notices: UiNotices,
}

impl UiDoor {
    pub(crate) fn new(secret: Option<ListenerSecret>, reader_secret: Option<ListenerSecret>) -> Self {
        Self {
            secret,
            reader_secret,
            sessions: UiSessions::default(),
            notices: UiNotices::default(),
        }
    }

    /// Lets a request in, with its caller.
    ///
    /// # Errors
    ///
    /// What the request is answered with.
    pub(crate) fn admit(&self, mut request: Request) -> Result<Request, DoorAnswer> {
        let address = request.extensions().get().copied();
        let caller = if self.secret.is_none() {
            Some(self.sessions.local(address))
        } else {
            cookie(request.headers()).and_then(|cookie| self.sessions.caller(&cookie, address))
        };
        let path = request.uri().path();
        let looks = matches!(*request.method(), Method::GET | Method::HEAD);
        match caller {
            Some(caller) => {
                // Before the body is read. Who may only look logs in and out all the same.
                if path != LOGIN && path != LOGOUT {
                    caller.caller.check(request.method()).map_err(DoorAnswer::Refused)?;
                }
                request.extensions_mut().insert(caller);
                Ok(request)
            }
            None if path == LOGIN || (path.starts_with(ASSETS) && looks) => Ok(request),
            None if looks => {
                let target = request.uri().path_and_query().map_or(path, |target| target.as_str());
                Err(DoorAnswer::Login(with_query(LOGIN, &[("to", target)])))
            }
            None => {
                let why = "the session is over, and nothing was done: log in again";
                Err(DoorAnswer::Refused(RefusedRequest::new(StatusCode::UNAUTHORIZED, why)))
            }
        }
    }

    /// Returns what a secret opens.
    fn right_of(&self, candidate: &str) -> Option<CallerRight> {
        let candidate = candidate.trim_ascii().as_bytes();
        let is = |secret: &Option<ListenerSecret>| secret.as_ref().is_some_and(|secret| secret.matches(candidate));
        // Both are compared, so that the time says nothing about either.
        match (is(&self.secret), is(&self.reader_secret)) {
            (true, _) => Some(CallerRight::All),
            (false, true) => Some(CallerRight::Look),
            (false, false) => None,
        }
    }
}

/// Returns the cookie of a request. Of several with the name, the first counts, as browsers send the one with the longest path first.
pub(super) fn cookie(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    let ours = pairs.filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='));
    ours.map(str::to_owned).next()
}

fn set_cookie(value: &str, more: &str) -> (header::HeaderName, HeaderValue) {
    let text = format!("{COOKIE}={value}; Path=/ui; HttpOnly; SameSite=Strict{more}");
    let value = HeaderValue::from_str(&text).expect("hexadecimal digits are a header");
    (header::SET_COOKIE, value)
}

/// Returns where somebody goes after the login: a page of the dashboard, and nowhere else.
fn target(text: Option<&str>) -> String {
    let is_safe =
        |to: &&str| super::is_page(to.split('?').next().unwrap_or_default()) && !to.contains(['\\', '\r', '\n']);
    text.filter(is_safe).unwrap_or(super::ROOT).to_owned()
}

/// Shows the form.
pub(super) async fn show(State(state): State<UiState>, request: Request) -> Response {
    let caller: Option<&UiCaller> = request.extensions().get();
    let pairs = FormPairs::of_query(request.uri().query());
    let to = target(pairs.as_ref().ok().and_then(|pairs| pairs.text("to")));
    if caller.is_some() {
        return Redirect::to(&to).into_response();
    }
    form_page(&state, &to, None)
}

fn form_page(state: &UiState, to: &str, wrong: Option<&str>) -> Response {
    let has_reader = state.door.reader_secret.is_some();
    page(
        &Frame::plain("Log in"),
        html! {
            form.login.panel method="post" action=(LOGIN) {
                h1 { "Log in" }
                p.dim {
                    "The secret of the listener opens everything"
                    @if has_reader { ", and the read-only secret shows everything and changes nothing" }
                    "."
                }
                @if let Some(wrong) = wrong { p.bad role="alert" { (wrong) } }
                input type="hidden" name="to" value=(to);
                label { "Secret" input type="password" name="secret" autocomplete="current-password" required autofocus; }
                button.primary type="submit" { "Log in" }
            }
        },
    )
}

/// Takes the secret.
pub(super) async fn log_in(
    State(state): State<UiState>,
    address: Option<Extension<ClientAddress>>,
    headers: HeaderMap,
    pairs: FormPairs,
) -> Response {
    let address = address.map(|Extension(address)| address);
    let to = target(pairs.text("to"));
    let with = |status, why| {
        let mut answer = form_page(&state, &to, Some(why));
        *answer.status_mut() = status;
        answer
    };
    let sessions = &state.door.sessions;
    // The right secret opens the door whatever others have tried: nobody can guess one of 16 characters.
    let Some(right) = state.door.right_of(pairs.text("secret").unwrap_or_default()) else {
        if !sessions.may_try(address) {
            // Without a line for the audit, which has one for each of the tries before.
            let why = "Too many wrong secrets within a minute: wait for one, and try again.";
            return with(StatusCode::TOO_MANY_REQUESTS, why);
        }
        sessions.tried(address);
        note("-", address.as_ref(), "log in", "refused: a wrong secret");
        return with(StatusCode::UNAUTHORIZED, "That is not the secret.");
    };
    if let Some(before) = cookie(&headers) {
        sessions.end(&before);
    }
    let cookie = sessions.begin(right);
    if let Some(caller) = sessions.caller(&cookie, address) {
        note(&caller.caller.who, address.as_ref(), "log in", "done");
    }
    // A browser that came by TLS sends the cookie by nothing else from then on.
    let by_tls = headers
        .get(header::ORIGIN)
        .is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    let more = if by_tls { "; Secure" } else { "" };
    ([set_cookie(&cookie, more)], Redirect::to(&to)).into_response()
}

/// Ends the session.
pub(super) async fn log_out(
    State(state): State<UiState>,
    Extension(caller): Extension<UiCaller>,
    headers: HeaderMap,
    pairs: FormPairs,
) -> Result<Response, RefusedRequest> {
    pairs.check_token(&caller)?;
    if let Some(cookie) = cookie(&headers) {
        state.door.sessions.end(&cookie);
        note(&caller.caller.who, caller.address.as_ref(), "log out", "done");
    }
    Ok(([set_cookie("", "; Max-Age=0")], Redirect::to(LOGIN)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_a_page_of_the_dashboard_alone() {
        for text in ["/ui", "/ui/queues/orders?where=a", "/ui/"] {
            assert_eq!(target(Some(text)), text);
        }
        for text in [
            "https://evil.example/ui",
            "//evil.example/ui",
            "/uix",
            "/queues/orders",
            "/ui/\\evil.example",
            "",
        ] {
            assert_eq!(target(Some(text)), "/ui", "{text}");
        }
        assert_eq!(target(None), "/ui");
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=b; sandhog_session=ab12; c=d".parse().unwrap());
        assert_eq!(cookie(&headers).as_deref(), Some("ab12"));
        headers.clear();
        headers.append(
            header::COOKIE,
            "sandhog_sessions=1; xsandhog_session=2".parse().unwrap(),
        );
        assert_eq!(cookie(&headers), None);
    }
}
