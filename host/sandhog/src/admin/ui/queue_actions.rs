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
    audit::note_refused_send,
    parameters::Path,
    refused::RefusedRequest,
    wire::{AffectedMessages, QueueForm, SentMessage},
};
use sandhog_queue::printable::printable;

/// The longest path with parameters, in bytes: somewhat less than an address may have.
const MAX_TARGET_BYTES: usize = 60_000;

/// Sends a message.
pub(super) async fn send(
    State(state): State<UiState>,
    Path(name): Path<String>,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    let ActionForm { caller, pairs } = form;
    let plain = ["group", "delay", "priority", "dedup"].map(|name| (name, pairs.or_empty(name)));
    let target = with_query(&path(&["queues", &name]), &plain);
    let whole = attributes(pairs.or_empty("attributes")).and_then(|attributes| with_attributes(&target, &attributes));
    // The route leaves a line of what it refuses. It has not seen this.
    let target = whole.inspect_err(|_| note_refused_send(&caller.caller.who, caller.address.as_ref(), &target))?;
    let sent: SentMessage = state.inside.post(&caller, &target, Bytes::from(body(&pairs))).await?;
    let text = format!("1 message was sent: {}", printable(&sent.id, 100));
    Ok(state.done(&page_of(&name), text))
}

/// Returns the path of a send with these attributes, too.
fn with_attributes(target: &str, attributes: &BTreeMap<String, String>) -> Result<String, RefusedRequest> {
    let named: Vec<(String, &str)> = attributes
        .iter()
        .map(|(name, value)| (format!("attr.{name}"), value.as_str()))
        .collect();
    let named: Vec<(&str, &str)> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let whole = with_query("", &named);
    // The parameters before, if there are any, have the mark already.
    let whole = if target.contains('?') {
        whole.replacen('?', "&", 1)
    } else {
        whole
    };
    let whole = format!("{target}{whole}");
    if whole.len() > MAX_TARGET_BYTES {
        let why = "nothing was sent: the attributes and the other fields beside the body are too long for a page, so use `sandhog send`";
        return Err(RefusedRequest::bad(why));
    }
    Ok(whole)
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
    fn attributes_are_parameters_behind_the_others_and_not_too_long_for_an_address() {
        let one = BTreeMap::from([("a b".to_owned(), "c&d?".to_owned())]);
        for (target, expected) in [
            ("/queues/in", "/queues/in?attr.a%20b=c%26d%3F"),
            ("/queues/in?delay=5s", "/queues/in?delay=5s&attr.a%20b=c%26d%3F"),
        ] {
            assert_eq!(with_attributes(target, &one).unwrap(), expected);
            assert_eq!(with_attributes(target, &BTreeMap::new()).unwrap(), target);
        }
        let long = BTreeMap::from([("a".to_owned(), "x".repeat(MAX_TARGET_BYTES))]);
        assert!(
            with_attributes("/queues/in", &long)
                .unwrap_err()
                .to_string()
                .contains("too long")
        );
    }

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
