//! What a page does with a queue: send and purge.

use std::collections::BTreeMap;

use axum::{Extension, body::Bytes, extract::State, http::Method, response::Response};

use super::{
    UiState,
    done::{ActionQuestion, is_answered, messages_were},
    form::{ActionForm, FormPairs},
    inside::{page_path, path, with_query},
    sessions::UiCaller,
};
use crate::admin::{
    parameters::Path,
    refused::RefusedRequest,
    wire::{AffectedMessages, QueueForm, SentMessage},
};
use sandhog_queue::printable::printable;

/// Sends a message.
pub(super) async fn send(
    State(state): State<UiState>,
    Path(name): Path<String>,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    let ActionForm { caller, pairs } = form;
    let attributes = attributes(pairs.or_empty("attributes"))?;
    let named: Vec<(String, &str)> = attributes
        .iter()
        .map(|(name, value)| (format!("attr.{name}"), value.as_str()))
        .collect();
    let plain = ["group", "delay", "priority", "dedup"].map(|name| (name, pairs.or_empty(name)));
    let named = named.iter().map(|(name, value)| (name.as_str(), *value));
    let parameters: Vec<(&str, &str)> = plain.into_iter().chain(named).collect();
    let target = with_query(&path(&["queues", &name]), &parameters);
    let sent: SentMessage = state.inside.post(&caller, &target, Bytes::from(body(&pairs))).await?;
    let text = format!("1 message was sent: {}", printable(&sent.id, 100));
    Ok(state.done(&page_of(&name), text))
}

/// Returns the body of a form. A browser writes the ends of lines as two characters, of which a person has typed one.
pub(super) fn body(pairs: &FormPairs) -> String {
    pairs.or_empty("body").replace("\r\n", "\n")
}

/// Reads a line `NAME=VALUE` each.
pub(super) fn attributes(text: &str) -> Result<BTreeMap<String, String>, RefusedRequest> {
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    let pairs = lines.map(|line| match line.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err(RefusedRequest::bad(format!(
            "attributes, {:?}: use a line NAME=VALUE for each",
            printable(line, 100)
        ))),
    });
    pairs.collect()
}

/// Asks before a purge.
pub(super) async fn ask_purge(
    State(state): State<UiState>,
    Extension(caller): Extension<UiCaller>,
    Path(name): Path<String>,
) -> Result<Response, RefusedRequest> {
    caller.caller.check(&Method::POST)?;
    let queue: QueueForm = state.inside.get(&caller, &path(&["queues", &name])).await?;
    let place = page_of(&name);
    let title = format!("Purge {}?", printable(&name, 100));
    let question = ActionQuestion {
        title: &title,
        meaning: "Deletes every message that is not in flight: those that wait, and those with a delay. Messages that come meanwhile go with them. Dead letters stay.",
        verb: "Delete",
        messages: queue.ready + queue.delayed,
        is_final: true,
        action: &format!("{place}/purge"),
        fields: Vec::new(),
        back: &place,
    };
    Ok(question.page(&caller))
}

/// Purges the queue.
pub(super) async fn purge(
    State(state): State<UiState>,
    Path(name): Path<String>,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    if !is_answered(&form.pairs)? {
        return ask_purge(State(state), Extension(form.caller), Path(name)).await;
    }
    let target = path(&["queues", &name, "messages"]);
    let purged: AffectedMessages = state.inside.delete(&form.caller, &target).await?;
    Ok(state.done(&page_of(&name), messages_were(purged.messages, "deleted")))
}

/// Returns the path of the page of a queue.
pub(super) fn page_of(name: &str) -> String {
    page_path(&["queues", name])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_lines() {
        let read = attributes("a=1\r\n\r\nb=c=d\r\n").unwrap();
        assert_eq!(
            read.into_iter().collect::<Vec<_>>(),
            [("a", "1"), ("b", "c=d")].map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
        for wrong in ["a", "=1", "a="] {
            assert!(
                attributes(wrong).unwrap_err().to_string().contains("NAME=VALUE"),
                "{wrong}"
            );
        }
    }
}
