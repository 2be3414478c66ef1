//! The audit lines: one for each request that changes something, with who, what and how it came out.
//!
//! Invariant: a request with a method that may change something leaves a line, unless its route is one of those of messages that
//! applications use ([`OF_MESSAGES`]). So a new route can't forget it. A request that the guard refuses has changed nothing and
//! leaves none, so that a stranger can't fill the log.

use std::net::SocketAddr;

use axum::{
    body::{Body, HttpBody as _},
    extract::{MatchedPath, Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::Response,
};
use http_body_util::BodyExt as _;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::{AdminState, caller::Caller};
use crate::endpoint::{SqsCaller, queues_of};
use sandhog_queue::printable::printable;
use sandhog_sqs_wire::{SqsAction, SqsError, SqsRequest};

/// The route that sends a message.
const SEND: &str = "/queues/{name}";
/// The routes with which applications send and handle messages.
const OF_MESSAGES: [&str; 5] = [
    SEND,
    "/queues/{name}/batch",
    "/queues/{name}/receive",
    "/queues/{name}/settle",
    "/queues/{name}/extend",
];
/// The parameters of a send whose values a line repeats: the others are a part of the message.
const SHOWN_OF_SEND: [&str; 2] = ["delay", "priority"];
/// The longest text of a request in a line, in bytes.
const MAX_TEXT_BYTES: usize = 1024;
/// The largest answer that is read for its count, in bytes.
const MAX_READ_BYTES: u64 = 64 * 1024;

/// The address of a connection's other end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) SocketAddr);

/// Said of an answer, as an extension of it: nothing was changed, as the client had asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DryRun;

/// What an audit line says.
#[derive(Debug)]
struct AuditLine {
    who: String,
    peer: String,
    action: String,
    what: String,
    /// The line is written.
    is_written: bool,
}

/// The part of an answer that a line repeats.
#[derive(Debug, Default, Deserialize)]
struct AnswerFacts {
    messages: Option<u64>,
    error: Option<String>,
}

impl AuditLine {
    fn write(&mut self, result: &str, facts: AnswerFacts) {
        self.is_written = true;
        let Self {
            who,
            peer,
            action,
            what,
            ..
        } = self;
        let AnswerFacts { messages, error } = facts;
        let error = error.map(|error| printable(&error, MAX_TEXT_BYTES));
        tracing::info!(target: "audit", who, peer, action, what, result, count = messages, error, "audit");
    }
}

impl Drop for AuditLine {
    /// The request took too long, or its client went away.
    fn drop(&mut self) {
        if !self.is_written {
            self.write("unknown: the request ended before its answer", AnswerFacts::default());
        }
    }
}

/// Writes a line for a request that may change something.
pub(crate) async fn audit(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    let Some(mut line) = line_of(&state, &request) else {
        return next.run(request).await;
    };
    let has_body = request.body().size_hint().exact() != Some(0);
    let answer = next.run(request).await;
    let result = if answer.extensions().get::<DryRun>().is_some() {
        "done: a dry run, which changes nothing".to_owned()
    } else {
        result_of(answer.status())
    };
    let (answer, facts) = read(answer, has_body).await;
    line.write(&result, facts);
    answer
}

/// Writes a line about a send that a page refuses before the route has seen it. `target` is the path of the route with the parameters.
pub(crate) fn note_refused_send(who: &str, address: Option<&ClientAddress>, target: &str) {
    let mut line = AuditLine {
        who: who.to_owned(),
        peer: peer_of(address),
        action: action_of(&Method::POST, SEND),
        what: what_of_send(target),
        is_written: false,
    };
    line.write(&result_of(StatusCode::BAD_REQUEST), AnswerFacts::default());
}

/// Writes a line about the dashboard itself: somebody has logged in or out, or has not.
pub(crate) fn note(who: &str, address: Option<&ClientAddress>, action: &str, result: &str) {
    let peer = peer_of(address);
    tracing::info!(target: "audit", who, peer, action, what = "/ui", result, "audit");
}

fn result_of(status: StatusCode) -> String {
    if status.is_success() {
        "done".to_owned()
    } else {
        format!("refused: {}", status.as_u16())
    }
}

fn line_of(state: &AdminState, request: &Request) -> Option<AuditLine> {
    let method = request.method();
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return None;
    }
    // Other requests are those of SQS clients, which have lines of their own, and those that no route has.
    let route = request.extensions().get::<MatchedPath>()?.as_str();
    let caller = match request.extensions().get::<Caller>() {
        Some(caller) => caller.clone(),
        None => Caller::owner(state.secret.is_some()),
    };
    let is_of_messages = method == Method::POST && OF_MESSAGES.contains(&route);
    if is_of_messages && !caller.is_person {
        return None;
    }
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let what = if is_of_messages {
        what_of_send(target)
    } else {
        text(target)
    };
    Some(AuditLine {
        who: caller.who,
        peer: peer_of(request.extensions().get()),
        action: action_of(method, route),
        what,
        is_written: false,
    })
}

/// Returns what a send is about: its path with its parameters, but for the values of those that are words of the message.
fn what_of_send(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else {
        return text(target);
    };
    let shown = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if !SHOWN_OF_SEND.contains(&name) => name,
        Some(_) | None => pair,
    });
    text(&format!("{path}?{}", shown.collect::<Vec<_>>().join("&")))
}

/// Returns the words for what a route does: `pause queue`, `redrive queue dead`, `delete queue messages`.
fn action_of(method: &Method, route: &str) -> String {
    if *method == Method::POST && route == SEND {
        return "send message".to_owned();
    }
    let words = route
        .split('/')
        .filter(|word| !word.is_empty() && !word.starts_with('{'));
    let mut words: Vec<String> = words.map(str::to_owned).collect();
    let verb = if *method == Method::POST {
        words.pop().unwrap_or_default()
    } else {
        method.as_str().to_ascii_lowercase()
    };
    if let Some(kind) = words.first_mut() {
        *kind = kind.trim_end_matches('s').to_owned();
    }
    std::iter::once(verb).chain(words).collect::<Vec<_>>().join(" ")
}

fn peer_of(address: Option<&ClientAddress>) -> String {
    address.map_or_else(|| "-".to_owned(), |ClientAddress(address)| address.to_string())
}

fn text(escaped: &str) -> String {
    printable(&percent_decode_str(escaped).decode_utf8_lossy(), MAX_TEXT_BYTES)
}

/// Reads the count and the error of an answer of ours, which is in memory as a whole.
async fn read(answer: Response, has_body: bool) -> (Response, AnswerFacts) {
    let is_small = answer
        .body()
        .size_hint()
        .upper()
        .is_some_and(|bytes| bytes <= MAX_READ_BYTES);
    if !is_small {
        return (answer, AnswerFacts::default());
    }
    let (parts, body) = answer.into_parts();
    match body.collect().await {
        Ok(collected) => {
            let bytes = collected.to_bytes();
            let mut facts: AnswerFacts = serde_json::from_slice(&bytes).unwrap_or_default();
            if parts.status == StatusCode::BAD_REQUEST && has_body {
                // It repeats what the client has sent, which may be a part of a message. Without a body that is the path alone.
                facts.error =
                    Some("the request is wrong; the answer says in what, and may have words of its body".to_owned());
            }
            (Response::from_parts(parts, Body::from(bytes)), facts)
        }
        Err(_) => (Response::from_parts(parts, Body::empty()), AnswerFacts::default()),
    }
}

/// What somebody does in front of a page that no route does.
#[derive(Debug)]
pub(crate) struct PageAudit(AuditLine);

impl PageAudit {
    /// Begins a line. `what` names the handler or the queue by the path that its route has.
    pub(crate) fn begin(who: &str, address: Option<&ClientAddress>, action: &str, what: &str) -> Self {
        Self(AuditLine {
            who: who.to_owned(),
            peer: peer_of(address),
            action: action.to_owned(),
            what: printable(what, MAX_TEXT_BYTES),
            is_written: false,
        })
    }

    /// Ends the line, with what is known now of what it is about.
    pub(crate) fn end_with(mut self, what: &str, result: &str, error: Option<String>) {
        self.0.what = printable(what, MAX_TEXT_BYTES);
        self.end(result, error);
    }

    /// Ends the line.
    pub(crate) fn end(mut self, result: &str, error: Option<String>) {
        self.0.write(result, AnswerFacts { messages: None, error });
    }
}

/// Where a request of an SQS client comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SqsRequester {
    /// The listener has no secret.
    pub(crate) is_open: bool,
    /// The other end of the connection.
    pub(crate) address: Option<ClientAddress>,
}

/// What a client of SQS asked for, as far as it changes something.
#[derive(Debug)]
pub(crate) struct SqsAudit(AuditLine);

impl SqsAudit {
    /// Begins a line, if the action changes more than messages.
    pub(crate) fn of(request: &SqsRequest, caller: &SqsCaller, requester: SqsRequester) -> Option<Self> {
        let action = request.action();
        if !changes_queues(action) {
            return None;
        }
        let who = match caller {
            SqsCaller::Owner if requester.is_open => "local".to_owned(),
            SqsCaller::Owner => "secret".to_owned(),
            SqsCaller::Key(name, _) => format!("key {name}"),
        };
        Some(Self(AuditLine {
            who,
            peer: peer_of(requester.address.as_ref()),
            action: action.name().to_owned(),
            what: printable(&queues_of(request).join(", "), MAX_TEXT_BYTES),
            is_written: false,
        }))
    }

    /// Ends the line.
    pub(crate) fn end<T>(mut self, answer: &Result<T, SqsError>) {
        let error = answer.as_ref().err().map(ToString::to_string);
        let result = if error.is_some() { "refused" } else { "done" };
        self.0.write(result, AnswerFacts { messages: None, error });
    }
}

/// Returns whether an action changes more than messages.
fn changes_queues(action: SqsAction) -> bool {
    match action {
        SqsAction::AddPermission
        | SqsAction::CancelMessageMoveTask
        | SqsAction::CreateQueue
        | SqsAction::DeleteQueue
        | SqsAction::PurgeQueue
        | SqsAction::RemovePermission
        | SqsAction::SetQueueAttributes
        | SqsAction::StartMessageMoveTask
        | SqsAction::TagQueue
        | SqsAction::UntagQueue => true,
        SqsAction::ChangeMessageVisibility
        | SqsAction::ChangeMessageVisibilityBatch
        | SqsAction::DeleteMessage
        | SqsAction::DeleteMessageBatch
        | SqsAction::GetQueueAttributes
        | SqsAction::GetQueueUrl
        | SqsAction::ListDeadLetterSourceQueues
        | SqsAction::ListMessageMoveTasks
        | SqsAction::ListQueueTags
        | SqsAction::ListQueues
        | SqsAction::ReceiveMessage
        | SqsAction::SendMessage
        | SqsAction::SendMessageBatch => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_parameters_of_a_send_without_the_words_of_the_message() {
        assert_eq!(
            what_of_send("/queues/a%20b?group=g&delay=soon&attr.email=a%40b.example&priority=12&dedup=d"),
            "/queues/a b?group&delay=soon&attr.email&priority=12&dedup"
        );
        assert_eq!(what_of_send("/queues/in"), "/queues/in");
    }

    #[test]
    fn an_action_has_the_words_of_its_route() {
        for (method, route, expected) in [
            (Method::POST, "/queues/{name}/pause", "pause queue"),
            (Method::DELETE, "/queues/{name}", "delete queue"),
            (Method::DELETE, "/queues/{name}/messages", "delete queue messages"),
            (Method::POST, "/queues/{name}/dead/redrive", "redrive queue dead"),
            (Method::POST, "/handlers/{name}/rollback", "rollback handler"),
            (Method::POST, "/reload", "reload"),
            (Method::POST, "/queues/{name}", "send message"),
        ] {
            assert_eq!(action_of(&method, route), expected);
        }
    }
}
