//! What a page does with dead letters: put back, delete, and send another in the place of one.
//!
//! Invariant: an action about a filter is about the dead letters that were counted before the question, and about none that came later.

use std::{collections::BTreeMap, time::Duration};

use axum::{Extension, body::Bytes, extract::State, http::Method, response::Response};
use maud::html;
use tokio::time::Instant;

use super::{
    UiState,
    done::{ActionQuestion, is_answered, messages_were},
    form::{ActionForm, FormPairs},
    inside::{path, with_query},
    layout::{Frame, page as framed, token},
    queue_actions::{attributes, body, page_of},
    sessions::UiCaller,
    shown::short,
};
use crate::admin::{
    parameters::Path,
    refused::RefusedRequest,
    wire::{
        AffectedMessages, AttributeForm, DeadLetterList, EditRequest, MessageForm, QueueForm, SentMessage, SweepAnswer,
        SweepRequest,
    },
};
use sandhog_queue::printable::printable;

/// How long an action goes on: a person waits for it.
const TIME: Duration = Duration::from_secs(30);
/// The most bytes of a filter in a sentence.
const SHOWN_FILTER: usize = 600;
/// How long dead letters are counted.
const COUNT_TIME: Duration = Duration::from_secs(10);

/// What is done with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LetterAction {
    Redrive,
    Delete,
}

impl LetterAction {
    fn word(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Delete => "delete",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Redrive => "put back into the queue",
            Self::Delete => "deleted",
        }
    }
}

/// Puts dead letters back.
pub(super) async fn redrive(
    State(state): State<UiState>,
    Path(name): Path<String>,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    LetterSweep::new(&state, name, form).run(LetterAction::Redrive).await
}

/// Deletes dead letters.
pub(super) async fn delete(
    State(state): State<UiState>,
    Path(name): Path<String>,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    LetterSweep::new(&state, name, form).run(LetterAction::Delete).await
}

/// One form about dead letters of a queue.
struct LetterSweep<'s> {
    state: &'s UiState,
    caller: UiCaller,
    pairs: FormPairs,
    name: String,
}

/// How many dead letters a filter finds, and the place that stands for them.
struct CountedLetters {
    messages: u64,
    counted: Option<String>,
    is_all: bool,
}

/// What became of an action.
struct SweepDone {
    messages: u64,
    /// Why not all of them, if so.
    rest: Option<String>,
}

impl SweepDone {
    fn new(messages: u64, more: bool) -> Self {
        Self {
            messages,
            rest: more.then(|| "the time was up".to_owned()),
        }
    }

    fn text(&self, action: LetterAction) -> String {
        let done = messages_were(self.messages, action.done());
        match &self.rest {
            Some(why) => format!("{done} Not all were: {why}. Do it again for the rest."),
            None => done,
        }
    }
}

impl<'s> LetterSweep<'s> {
    fn new(state: &'s UiState, name: String, form: ActionForm) -> Self {
        let ActionForm { caller, pairs } = form;
        Self {
            state,
            caller,
            pairs,
            name,
        }
    }

    async fn run(self, action: LetterAction) -> Result<Response, RefusedRequest> {
        let done = match self.pairs.text("scope") {
            Some("selected") => {
                let ids = self.pairs.all("id");
                if ids.is_empty() {
                    return Err(RefusedRequest::bad("nothing was done: no dead letter is selected"));
                }
                if action == LetterAction::Delete && !is_answered(&self.pairs)? {
                    return Ok(self.ask_selected(ids));
                }
                let request = SweepRequest {
                    ids: Some(ids),
                    ..SweepRequest::default()
                };
                let answer = self.sweep(action, &request).await?;
                SweepDone::new(answer.messages, answer.more)
            }
            Some("all") if !is_answered(&self.pairs)? => return self.ask_all(action).await,
            Some("all") => self.all(action).await?,
            Some(_) | None => return Err(RefusedRequest::bad("nothing was done: scope is selected or all")),
        };
        let place = format!("{}/dead", page_of(&self.name));
        Ok(self.state.done(&place, done.text(action)))
    }

    fn ask_selected(&self, ids: Vec<String>) -> Response {
        let place = format!("{}/dead", page_of(&self.name));
        let messages = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        let ids = ids.into_iter().map(|id| ("id", id));
        ActionQuestion {
            title: "Delete the selected dead letters?",
            meaning: "They are gone for good.",
            verb: "Delete",
            messages,
            is_final: true,
            action: &format!("{place}/delete"),
            fields: ids.chain([("scope", "selected".to_owned())]).collect(),
            back: &place,
        }
        .page(&self.caller)
    }

    async fn ask_all(&self, action: LetterAction) -> Result<Response, RefusedRequest> {
        let place = format!("{}/dead", page_of(&self.name));
        let counted = self.count().await?;
        if counted.messages == 0 {
            return Err(RefusedRequest::bad(
                "nothing was done: no dead letter passes the filter",
            ));
        }
        if !counted.is_all && action == LetterAction::Delete {
            // A number that is too small would be typed for more.
            return Err(RefusedRequest::bad(
                "nothing was done: more dead letters pass than can be counted in time, so narrow the filter, or use `sandhog dead purge`",
            ));
        }
        let many = if counted.is_all {
            ""
        } else {
            "More dead letters pass than could be counted in time. "
        };
        let which = match self.pairs.text("where") {
            Some(filter) => format!("those that pass {}", printable(filter, SHOWN_FILTER)),
            None if counted.counted.is_none() => "all of the queue, also those that come until you go on".to_owned(),
            None => "all of the queue".to_owned(),
        };
        let (title, what) = match action {
            LetterAction::Redrive => (
                "Put the dead letters back?",
                "Their handler gets them again, with a receive count of 0.",
            ),
            LetterAction::Delete => ("Delete the dead letters?", "They are gone for good."),
        };
        let question = ActionQuestion {
            title,
            meaning: &format!("{many}These are {which}. {what}"),
            verb: if action == LetterAction::Redrive {
                "Redrive"
            } else {
                "Delete"
            },
            messages: counted.messages,
            is_final: action == LetterAction::Delete,
            action: &format!("{place}/{}", action.word()),
            fields: vec![
                ("scope", "all".to_owned()),
                ("where", self.pairs.or_empty("where").to_owned()),
                ("after", counted.counted.unwrap_or_default()),
            ],
            back: &place,
        };
        Ok(question.page(&self.caller))
    }

    async fn count(&self) -> Result<CountedLetters, RefusedRequest> {
        let Some(filter) = self.state.dead_filter(&self.name, &self.pairs) else {
            let target = path(&["queues", &self.name]);
            let queue: QueueForm = self.state.inside.get(&self.caller, &target).await?;
            return Ok(CountedLetters {
                messages: queue.dead,
                counted: None,
                is_all: true,
            });
        };
        let end = Instant::now() + COUNT_TIME;
        let (mut messages, mut counted, mut cursor) = (0, None, String::new());
        loop {
            // A look changes nothing, and leaves no line in the audit.
            let pairs = [
                ("where", filter),
                ("cursor", &cursor),
                ("limit", "1000"),
                ("body-limit", "0"),
            ];
            let target = with_query(&path(&["queues", &self.name, "dead"]), &pairs);
            let page: DeadLetterList = self.state.inside.get(&self.caller, &target).await?;
            messages += u64::try_from(page.dead_letters.len()).unwrap_or(u64::MAX);
            counted = counted.or(page.counted);
            let is_all = page.next.is_none();
            if is_all || Instant::now() >= end {
                return Ok(CountedLetters {
                    messages,
                    counted,
                    is_all,
                });
            }
            cursor = page.next.unwrap_or_default();
        }
    }

    /// Does something with all that were counted, for as long as a person waits.
    async fn all(&self, action: LetterAction) -> Result<SweepDone, RefusedRequest> {
        let end = Instant::now() + TIME;
        let Some(filter) = self.state.dead_filter(&self.name, &self.pairs) else {
            return match action {
                LetterAction::Redrive => {
                    let answer = self.sweep(action, &SweepRequest::default()).await?;
                    Ok(SweepDone::new(answer.messages, answer.more))
                }
                LetterAction::Delete => {
                    let target = path(&["queues", &self.name, "dead"]);
                    let gone: AffectedMessages = self.state.inside.delete(&self.caller, &target).await?;
                    Ok(SweepDone::new(gone.messages, false))
                }
            };
        };
        let mut request = SweepRequest {
            filter: Some(filter.to_owned()),
            after: self.pairs.text("after").map(str::to_owned),
            ..SweepRequest::default()
        };
        let mut messages = 0;
        loop {
            let answer = match self.sweep(action, &request).await {
                Ok(answer) => answer,
                Err(refused) if messages == 0 => return Err(refused),
                Err(refused) => {
                    return Ok(SweepDone {
                        messages,
                        rest: Some(refused.to_string()),
                    });
                }
            };
            messages += answer.messages;
            request.after = answer.next;
            if !answer.more || request.after.is_none() {
                return Ok(SweepDone::new(messages, false));
            }
            if Instant::now() >= end {
                return Ok(SweepDone::new(messages, true));
            }
        }
    }

    async fn sweep(&self, action: LetterAction, request: &SweepRequest) -> Result<SweepAnswer, RefusedRequest> {
        let target = path(&["queues", &self.name, "dead", action.word()]);
        // A redrive of all has no body.
        let is_all = request.ids.is_none() && request.filter.is_none();
        let body = if is_all {
            String::new()
        } else {
            serde_json::to_string(request).expect("texts have a JSON form")
        };
        self.state.inside.post(&self.caller, &target, Bytes::from(body)).await
    }
}

/// Shows the form with a dead letter's body and attributes.
pub(super) async fn show_edit(
    State(state): State<UiState>,
    Extension(caller): Extension<UiCaller>,
    Path((name, id)): Path<(String, String)>,
) -> Result<Response, RefusedRequest> {
    caller.caller.check(&Method::POST)?;
    let form: MessageForm = state
        .inside
        .get(&caller, &path(&["queues", &name, "dead", &id]))
        .await?;
    let place = format!("{}{}", page_of(&name), path(&["dead", &id]));
    let texts = form.attributes.iter().filter_map(|(name, value)| match value {
        AttributeForm::Text(text) if fits_a_line(name, text) => Some(format!("{name}={text}")),
        AttributeForm::Text(_) | AttributeForm::Number(_) | AttributeForm::BinaryBase64(_) => None,
    });
    let lines: Vec<String> = texts.collect();
    // A browser would write the end of a line otherwise, and something else for a zero.
    let text = form.body.as_ref().filter(|text| !text.contains(['\r', '\0']));
    let main = html! {
        p.crumbs { a href="/ui" { "Overview" } " / " a href=(page_of(&name)) { (short(&name, 80)) } " / " a href=(place) { "Dead letter" } }
        h1 { "Edit and send" }
        p.dim { "Sends a new message in the place of the dead letter, which is deleted, in one transaction. The new one has an id of its own." }
        form method="post" action={ (place) "/edit" } {
            (token(&caller))
            @match (&text, form.redacted) {
                (_, true) => p.empty { "The configuration hides a part of this dead letter, so it can't be edited here: use " code { "sandhog dead edit" } "." }
                (None, false) => p.empty { "The body is no text that a form can hold, and stays as it is." }
                (Some(text), false) => label { "Body" textarea name="body" spellcheck="false" rows="16" { "\n" (text) } }
            }
            @if !form.redacted {
                input type="hidden" name="has-body" value=(if text.is_some() { "1" } else { "" });
                label { "Attributes that are texts, a line each: NAME=VALUE" textarea name="attributes" spellcheck="false" rows="4" { "\n" (lines.join("\n")) } }
                div.actions { button.primary type="submit" { "Send 1 message, delete the dead letter" } a.button href=(place) { "Leave it" } }
            }
        }
    };
    Ok(framed(&Frame::of(&caller, "Edit"), main))
}

/// Sends another message in the place of a dead letter.
pub(super) async fn edit(
    State(state): State<UiState>,
    Path((name, id)): Path<(String, String)>,
    form: ActionForm,
) -> Result<Response, RefusedRequest> {
    let target = path(&["queues", &name, "dead", &id]);
    let letter: MessageForm = state.inside.get(&form.caller, &target).await?;
    if letter.redacted {
        return Err(RefusedRequest::bad(
            "nothing was done: the configuration hides a part of this dead letter here",
        ));
    }
    let wanted = attributes(form.pairs.or_empty("attributes"))?;
    let mut request = EditRequest::default();
    if form.pairs.text("has-body").is_some() {
        request.body = Some(body(&form.pairs));
    }
    request.unset_attributes = gone(&letter.attributes, &wanted);
    request.attributes = wanted
        .into_iter()
        .map(|(name, value)| (name, AttributeForm::Text(value)))
        .collect();
    let request = serde_json::to_string(&request).expect("texts have a JSON form");
    let target = path(&["queues", &name, "dead", &id, "edit"]);
    let sent: SentMessage = state.inside.post(&form.caller, &target, Bytes::from(request)).await?;
    let id = printable(&sent.id, 100);
    let text = format!("1 message was sent in the place of the dead letter: {id}");
    Ok(state.done(&format!("{}/dead", page_of(&name)), text))
}

/// Whether an attribute can stand in the form as a line NAME=VALUE that comes back as it is. Others stay as they are.
fn fits_a_line(name: &str, value: &str) -> bool {
    let odd = ['\n', '\r', '\0'];
    !name.contains(['=', '\n', '\r', '\0']) && !value.is_empty() && !value.contains(odd) && value.trim_end() == value
}

/// Returns the names of the text attributes that the form has no more.
fn gone(before: &BTreeMap<String, AttributeForm>, wanted: &BTreeMap<String, String>) -> Vec<String> {
    let texts = before.iter().filter(|(name, value)| match value {
        AttributeForm::Text(text) => fits_a_line(name, text),
        AttributeForm::Number(_) | AttributeForm::BinaryBase64(_) => false,
    });
    let gone = texts.filter(|(name, _)| !wanted.contains_key(*name));
    gone.map(|(name, _)| name.clone()).collect()
}
