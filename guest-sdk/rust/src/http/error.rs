//! Why a request has no answer.

use std::error::Error;
use std::fmt;
use std::io;

use crate::Failure;

/// Why a request has no answer, or none that can be read. An answer of any status is none of these.
///
/// With `?` it becomes a [`Failure`]: what may pass, and what an operator can grant while the messages wait, is retried; what
/// would fail again is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpError {
    /// The manifest does not grant this; the text has what to add to it.
    NotGranted(String),
    /// The request can't be made; the text says why. An address without a host is an example.
    Invalid(String),
    /// The bodies of the attempt have more bytes than the manifest lets them (`limits.http-request-bytes`,
    /// `limits.http-response-bytes`).
    Limit(String),
    /// The attempt makes more requests than the manifest lets it (`limits.http-requests`, `limits.http-concurrent`). It is
    /// retried: whether they are too many depends on the batch and on the server, not on the message alone.
    TooMany(String),
    /// The answer has not come in the time that the client gives it, or that the host does.
    Timeout(String),
    /// The server was not found, refused the connection, failed its TLS, or broke off.
    Connection(String),
    /// The answer is here, and its body is not what was asked for: no text, or not the JSON expected.
    Malformed(String),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted(text)
            | Self::Invalid(text)
            | Self::Limit(text)
            | Self::TooMany(text)
            | Self::Timeout(text)
            | Self::Connection(text)
            | Self::Malformed(text) => f.write_str(text),
        }
    }
}

impl Error for HttpError {}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::NotGranted(text)
            | HttpError::TooMany(text)
            | HttpError::Timeout(text)
            | HttpError::Connection(text)
            | HttpError::Malformed(text) => Self::Retry(text),
            HttpError::Invalid(text) | HttpError::Limit(text) => Self::Reject(text),
        }
    }
}

impl From<HttpError> for io::Error {
    fn from(error: HttpError) -> Self {
        let kind = match error {
            HttpError::NotGranted(_) => io::ErrorKind::PermissionDenied,
            HttpError::Timeout(_) => io::ErrorKind::TimedOut,
            HttpError::Invalid(_) => io::ErrorKind::InvalidInput,
            HttpError::Malformed(_) => io::ErrorKind::InvalidData,
            HttpError::Limit(_) | HttpError::TooMany(_) | HttpError::Connection(_) => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<::http::Error> for HttpError {
    fn from(error: ::http::Error) -> Self {
        Self::Invalid(format!("the request can't be made: {error}"))
    }
}

/// A request that its builder refuses would be refused again.
impl From<::http::Error> for Failure {
    fn from(error: ::http::Error) -> Self {
        HttpError::from(error).into()
    }
}

/// Returns an address without its query and its user, which are often secret: the text of an error is in logs and dead letters.
pub(super) fn shown(address: &str) -> String {
    let address = address.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = address.split_once("//").unwrap_or(("", address));
    let (server, path) = rest
        .split_once('/')
        .map_or((rest, None), |(server, path)| (server, Some(path)));
    let mut shown = String::new();
    if rest.len() < address.len() {
        shown.extend([scheme, "//"]);
    }
    shown.push_str(without_user(server));
    if let Some(path) = path {
        shown.extend(["/", path]);
    }
    shown
}

/// Returns the host and port of an authority.
pub(crate) fn without_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, server)| server)
}

/// Returns the error of an origin that the manifest does not grant.
pub(crate) fn not_granted(origin: &str) -> HttpError {
    HttpError::NotGranted(format!(
        "{origin} is not granted: to grant it, add \"{origin}\" to http in [grant] of the manifest"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn what_may_pass_is_retried_and_the_rest_rejected() {
        let failure = Failure::from(not_granted("https://api.example.com"));
        assert_eq!(
            failure,
            Failure::retry(
                "https://api.example.com is not granted: to grant it, add \"https://api.example.com\" to http in [grant] of \
                 the manifest"
            )
        );
        let malformed = ::http::Request::get("no address").body(()).unwrap_err();
        assert_eq!(
            Failure::from(malformed),
            Failure::reject("the request can't be made: invalid uri character")
        );
    }

    #[test]
    fn too_many_requests_are_retried_and_too_large_bodies_rejected() {
        let send = |error: HttpError| {
            testing::answer(move |_| error.clone());
            crate::http::send(::http::Request::get("https://a.example/").body(()).unwrap()).unwrap_err()
        };
        let too_many = send(HttpError::TooMany("too many".to_owned()));
        assert_eq!(Failure::from(too_many), Failure::retry("too many"));
        let too_large = send(HttpError::Limit("too large".to_owned()));
        assert_eq!(Failure::from(too_large), Failure::reject("too large"));
    }

    #[test]
    fn a_reader_passes_the_error_on_as_it_is() {
        let error = io::Error::from(HttpError::Timeout("too late".to_owned()));
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(
            error.downcast::<HttpError>().unwrap(),
            HttpError::Timeout("too late".to_owned())
        );
    }
}
