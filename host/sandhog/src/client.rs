//! The client of a running host, for the commands that ask one. It blocks and does not retry, because a person waits.

use std::{
    io::{self, Read},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use ureq::{
    Agent, Body,
    http::{Request, Response, StatusCode, request},
};

use crate::{
    admin::wire::{
        AffectedMessages, BatchResults, DeadLetterList, EditRequest, ErrorAnswer, HandlerList, MessageForm, PeekedForm,
        PeekedList, QueueList, SendBatch, SentMessage, SweepAnswer, SweepRequest, VersionList,
    },
    config::ListenerSecret,
    exit_code::ExitCode,
};
use sandhog_queue::printable::printable_lines;

mod events;
mod probes;
mod steering;

pub use self::events::{EventStream, HostEvent};

pub use steering::HaltRequest;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time of a request: more than the host lets any request take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(70);
/// The largest answer: a page of 1000 dead letters can carry 1000 bodies.
const MAX_ANSWER_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// The longest shown part of an answer's error, in bytes: the server may not be a host.
const MAX_WHY_BYTES: usize = 16 * 1024;

/// The reason why a request to the host failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The text can't be the address of a host.
    #[error("{0:?} is not the address of a host: use http://HOST:PORT")]
    Address(String),
    /// No server answers at the address.
    #[error("no sandhog host answers at {url}: start one with `sandhog run`, or set SANDHOG_URL")]
    NoHost {
        /// The address of the request.
        url: String,
        /// The error of the connection.
        #[source]
        cause: ureq::Error,
    },
    /// The connection broke, or no answer came in time. The request may or may not have been carried out.
    #[error("the host at {url} gave no answer, so the request may or may not have been carried out")]
    NoAnswer {
        /// The address of the host.
        url: String,
        /// The error of the connection.
        #[source]
        cause: ureq::Error,
    },
    /// The host refused the request.
    #[error("{why}")]
    Refused {
        /// The status of the answer.
        status: u16,
        /// The reason in the host's words.
        why: String,
    },
    /// A server answers, but not as a sandhog host does.
    #[error("what answers at {url} is not a sandhog host of this version (status {status})")]
    Foreign {
        /// The address of the server.
        url: String,
        /// The status of the answer.
        status: u16,
    },
}

impl ClientError {
    /// Returns the exit code of a command that failed in this way.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Address(_) => ExitCode::Usage,
            // The host is slow, busy or full: the same request may succeed another time.
            Self::NoHost { .. }
            | Self::NoAnswer { .. }
            | Self::Foreign { .. }
            | Self::Refused {
                status: 408 | 429 | 500 | 502..=599,
                ..
            } => ExitCode::Unavailable,
            Self::Refused { .. } => ExitCode::Refused,
        }
    }
}

/// A client of one host.
#[derive(Debug)]
pub struct HostClient {
    agent: Agent,
    url: String,
    secret: Option<ListenerSecret>,
}

impl HostClient {
    /// Returns a client of the host at `url` (`http://HOST:PORT`, or just `HOST:PORT`), which connects on the first request.
    ///
    /// # Errors
    ///
    /// [`ClientError::Address`].
    pub fn new(url: &str, secret: Option<ListenerSecret>) -> Result<Self, ClientError> {
        Self::within(url, secret, [CONNECT_TIMEOUT, REQUEST_TIMEOUT])
    }

    /// As [`HostClient::new`], with the longest times for a connection and for a request as a whole.
    fn within(
        url: &str,
        secret: Option<ListenerSecret>,
        [connect, request]: [Duration; 2],
    ) -> Result<Self, ClientError> {
        // Some tools write a line end behind the value of a variable.
        let url = url.trim();
        let address = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let foreign = |c: char| matches!(c, '/' | '?' | '#' | '@') || c.is_whitespace() || c.is_control();
        if address.is_empty() || address.contains(foreign) {
            return Err(ClientError::Address(url.to_owned()));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A proxy is for the internet, and the host is nearby.
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(connect))
            .timeout_global(Some(request))
            .build();
        Ok(Self {
            agent: config.new_agent(),
            url: format!("http://{address}"),
            secret,
        })
    }

    /// Lists the queues.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn queues(&self) -> Result<QueueList, ClientError> {
        self.call("GET", "/queues", None::<&()>)
    }

    /// Sends messages in order.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]. The answer has a result for each message, which can be a refusal.
    pub fn send(&self, queue: &str, batch: &SendBatch) -> Result<BatchResults, ClientError> {
        self.call("POST", &format!("/queues/{}/batch", escape(queue)), Some(batch))
    }

    /// Lists up to `limit` dead letters of a queue, oldest first, after the one with the id `after`.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn dead_letters(&self, queue: &str, limit: u16, after: Option<&str>) -> Result<DeadLetterList, ClientError> {
        let after = after.map(|id| format!("&after={}", escape(id))).unwrap_or_default();
        self.call(
            "GET",
            &format!("/queues/{}/dead?limit={limit}{after}", escape(queue)),
            None::<&()>,
        )
    }

    /// Returns one dead letter.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn dead_letter(&self, queue: &str, id: &str) -> Result<MessageForm, ClientError> {
        self.call(
            "GET",
            &format!("/queues/{}/dead/{}", escape(queue), escape(id)),
            None::<&()>,
        )
    }

    /// Looks at messages of a queue, without receiving them, by the parameters of the route.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn peek(&self, queue: &str, parameters: &[(String, String)]) -> Result<PeekedList, ClientError> {
        let query = query(parameters);
        self.call(
            "GET",
            &format!("/queues/{}/messages{query}", escape(queue)),
            None::<&()>,
        )
    }

    /// Looks at one message of a queue, whole, without receiving it.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]. The status 404 says that the queue has no such message.
    pub fn peek_one(&self, queue: &str, id: &str) -> Result<PeekedForm, ClientError> {
        let path = format!("/queues/{}/messages/{}", escape(queue), escape(id));
        self.call("GET", &path, None::<&()>)
    }

    /// Sends a copy of a message of a queue, or of a dead letter of it.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn send_again(&self, queue: &str, id: &str) -> Result<SentMessage, ClientError> {
        let path = format!("/queues/{}/messages/{}/again", escape(queue), escape(id));
        self.call("POST", &path, None::<&()>)
    }

    /// Lists up to `limit` dead letters of a queue that pass a filter, oldest first, from where `cursor` says.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn filtered_dead_letters(
        &self,
        queue: &str,
        filter: &str,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<DeadLetterList, ClientError> {
        let mut parameters = vec![
            ("where".to_owned(), filter.to_owned()),
            ("limit".to_owned(), limit.to_string()),
        ];
        parameters.extend(cursor.map(|cursor| ("cursor".to_owned(), cursor.to_owned())));
        let query = query(&parameters);
        self.call("GET", &format!("/queues/{}/dead{query}", escape(queue)), None::<&()>)
    }

    /// Puts dead letters back into their queue, as the request says.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn redrive(&self, queue: &str, request: &SweepRequest) -> Result<SweepAnswer, ClientError> {
        let path = format!("/queues/{}/dead/redrive", escape(queue));
        self.call("POST", &path, Some(request))
    }

    /// Deletes dead letters of a queue, as the request says.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn delete_dead(&self, queue: &str, request: &SweepRequest) -> Result<SweepAnswer, ClientError> {
        let path = format!("/queues/{}/dead/delete", escape(queue));
        self.call("POST", &path, Some(request))
    }

    /// Sends a dead letter again with changes, and deletes it.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn edit_dead(&self, queue: &str, id: &str, edit: &EditRequest) -> Result<SentMessage, ClientError> {
        let path = format!("/queues/{}/dead/{}/edit", escape(queue), escape(id));
        self.call("POST", &path, Some(edit))
    }

    /// Deletes the dead letters of a queue.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn purge_dead(&self, queue: &str) -> Result<AffectedMessages, ClientError> {
        self.call("DELETE", &format!("/queues/{}/dead", escape(queue)), None::<&()>)
    }

    /// Has the host make a backup, and returns the archive, which comes for as long as that takes.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn backup(&self) -> Result<impl Read + use<>, ClientError> {
        self.stream("POST", "/backup")
    }

    /// Returns the bytes of an answer that lasts as long as it takes.
    fn stream(&self, method: &str, path: &str) -> Result<impl Read + use<>, ClientError> {
        let request = self.request(method, path).body(());
        let answer = request.map_err(ureq::Error::from).and_then(|request| {
            let patient = self.agent.configure_request(request);
            let patient = patient
                .timeout_global(None)
                .timeout_recv_response(Some(REQUEST_TIMEOUT));
            self.agent.run(patient.build())
        });
        let answer = answer.map_err(|cause| self.failure(cause))?;
        if answer.status() == StatusCode::OK {
            return Ok(answer.into_body().into_reader());
        }
        let status = answer.status();
        Err(self.refused(status, &self.bytes(answer)?))
    }

    /// Lists the handlers.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn handlers(&self) -> Result<HandlerList, ClientError> {
        self.call("GET", "/handlers", None::<&()>)
    }

    /// Lists the versions of a handler, newest first.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn versions(&self, handler: &str) -> Result<VersionList, ClientError> {
        self.call("GET", &format!("/handlers/{}/versions", escape(handler)), None::<&()>)
    }

    /// Returns the bytes of a kept version's component.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn version_component(&self, handler: &str, number: u64) -> Result<impl Read + use<>, ClientError> {
        let handler = escape(handler);
        self.stream("GET", &format!("/handlers/{handler}/versions/{number}/component"))
    }

    /// Returns the bytes of its manifest.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn version_manifest(&self, handler: &str, number: u64) -> Result<impl Read + use<>, ClientError> {
        let handler = escape(handler);
        self.stream("GET", &format!("/handlers/{handler}/versions/{number}/manifest"))
    }

    /// Goes back to the version `to` of a handler, or to the one before. Returns its versions as they are afterwards.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn roll_back(&self, handler: &str, to: Option<u64>) -> Result<VersionList, ClientError> {
        let version = to.map(|number| format!("?version={number}")).unwrap_or_default();
        let path = format!("/handlers/{}/rollback{version}", escape(handler));
        self.call("POST", &path, None::<&()>)
    }

    /// Ends the probation of a handler's newest version, or serves one that the host or somebody went back from. Returns its
    /// versions as they are afterwards.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn promote(&self, handler: &str) -> Result<VersionList, ClientError> {
        self.call("POST", &format!("/handlers/{}/promote", escape(handler)), None::<&()>)
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let body = body.map(|body| serde_json::to_vec(body).expect("our own types have a JSON form"));
        let request = self.request(method, path);
        let answer = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                request
                    .body(body)
                    .map_err(ureq::Error::from)
                    .and_then(|request| self.agent.run(request))
            }
            None => request
                .body(())
                .map_err(ureq::Error::from)
                .and_then(|request| self.agent.run(request)),
        };
        self.read(answer.map_err(|cause| self.failure(cause))?)
    }

    /// Returns the status and the bytes of an answer, whatever they are.
    fn answer(&self, path: &str) -> Result<(StatusCode, Vec<u8>), ClientError> {
        let request = self.request("GET", path).body(());
        let answer = request
            .map_err(ureq::Error::from)
            .and_then(|request| self.agent.run(request));
        let answer = answer.map_err(|cause| self.failure(cause))?;
        Ok((answer.status(), self.bytes(answer)?))
    }

    /// Returns a request with the secret, if there is one.
    fn request(&self, method: &str, path: &str) -> request::Builder {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        match &self.secret {
            Some(secret) => request.header("authorization", format!("Bearer {}", secret.expose())),
            None => request,
        }
    }

    fn bytes(&self, mut answer: Response<Body>) -> Result<Vec<u8>, ClientError> {
        let bytes = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        bytes.map_err(|cause| ClientError::NoAnswer {
            url: self.url.clone(),
            cause,
        })
    }

    fn read<T: DeserializeOwned>(&self, answer: Response<Body>) -> Result<T, ClientError> {
        let status = answer.status();
        let bytes = self.bytes(answer)?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&bytes).map_err(|_| self.foreign(status));
        }
        Err(self.refused(status, &bytes))
    }

    fn refused(&self, status: StatusCode, bytes: &[u8]) -> ClientError {
        let Ok(refusal) = serde_json::from_slice::<ErrorAnswer>(bytes) else {
            return self.foreign(status);
        };
        let why = match (status, &self.secret) {
            (StatusCode::UNAUTHORIZED, None) => {
                format!("the host at {} has a secret: set SANDHOG_SECRET to it", self.url)
            }
            (StatusCode::UNAUTHORIZED, Some(_)) => {
                format!("the host at {} has another secret than SANDHOG_SECRET says", self.url)
            }
            // A line that the server adds is no line of this command.
            _ => printable_lines(&refusal.error, MAX_WHY_BYTES).replace('\n', "\n  "),
        };
        ClientError::Refused {
            status: status.as_u16(),
            why,
        }
    }

    fn foreign(&self, status: StatusCode) -> ClientError {
        ClientError::Foreign {
            url: self.url.clone(),
            status: status.as_u16(),
        }
    }

    fn failure(&self, cause: ureq::Error) -> ClientError {
        let url = self.url.clone();
        if matches!(cause, ureq::Error::BadUri(_) | ureq::Error::Http(_)) {
            return ClientError::Address(url);
        }
        let refused = matches!(&cause, ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused);
        let nobody = matches!(
            cause,
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve)
                | ureq::Error::HostNotFound
                | ureq::Error::ConnectionFailed
        );
        if refused || nobody {
            ClientError::NoHost { url, cause }
        } else {
            ClientError::NoAnswer { url, cause }
        }
    }
}

/// Returns the query of a request.
fn query(parameters: &[(String, String)]) -> String {
    let pairs = parameters
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)));
    format!("?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// Escapes one segment of a path, or one value of a query.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_of_a_path_cannot_leave_its_place() {
        assert_eq!(escape("a/../b?c=d é"), "a%2F..%2Fb%3Fc%3Dd%20%C3%A9");
    }

    #[test]
    fn a_refusal_that_passes_has_the_code_of_one() {
        let code = |status| {
            let why = String::new();
            ClientError::Refused { status, why }.exit_code()
        };
        for status in [408, 429, 500, 502, 503, 504, 507] {
            assert_eq!(code(status), ExitCode::Unavailable, "{status}");
        }
        for status in [400, 401, 403, 404, 409, 413, 415, 501] {
            assert_eq!(code(status), ExitCode::Refused, "{status}");
        }
    }

    #[test]
    fn an_address_is_a_host_with_a_port_and_nothing_more() {
        for (url, expected) in [
            ("http://127.0.0.1:9324", Some("http://127.0.0.1:9324")),
            ("http://127.0.0.1:9324/", Some("http://127.0.0.1:9324")),
            ("localhost:1", Some("http://localhost:1")),
            (" http://localhost:1/\r\n", Some("http://localhost:1")),
            ("http://local host:1", None),
            ("http://localhost:1\nx", None),
            ("https://example.com", None),
            ("http://user@example.com", None),
            ("http://example.com/queues", None),
            ("", None),
        ] {
            assert_eq!(
                HostClient::new(url, None).ok().map(|client| client.url).as_deref(),
                expected,
                "{url}"
            );
        }
    }
}
