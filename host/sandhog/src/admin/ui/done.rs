//! Where an action leads: back to a page that says what was done. And the question before what can't be undone.

use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};

use super::{
    UiState,
    form::FormPairs,
    inside::with_query,
    layout::{Frame, page as framed, token},
    sessions::UiCaller,
    shown::{number, of},
};
use crate::admin::refused::RefusedRequest;

/// A question about so many messages.
#[derive(Debug)]
pub(super) struct ActionQuestion<'q> {
    /// What will be done, as a question.
    pub(super) title: &'q str,
    /// What that means.
    pub(super) meaning: &'q str,
    /// The word of the button.
    pub(super) verb: &'q str,
    /// To how many messages.
    pub(super) messages: u64,
    /// It can't be undone, so the number has to be typed.
    pub(super) is_final: bool,
    /// Where the answer goes.
    pub(super) action: &'q str,
    /// What goes with it.
    pub(super) fields: Vec<(&'q str, String)>,
    /// Where somebody goes who does not want it.
    pub(super) back: &'q str,
}

impl ActionQuestion<'_> {
    /// Shows the question.
    pub(super) fn page(&self, caller: &UiCaller) -> Response {
        framed(&Frame::of(caller, self.title), self.form(caller))
    }

    fn form(&self, caller: &UiCaller) -> Markup {
        let messages = of(self.messages, "message", "messages");
        html! {
            form.panel.narrow method="post" action=(self.action) {
                (token(caller))
                @for (name, value) in &self.fields { input type="hidden" name=(name) value=(value); }
                input type="hidden" name="expected" value=(self.messages);
                h1 { (self.title) }
                p { (self.meaning) }
                @if self.is_final {
                    p { "This can't be undone. Type " strong { (self.messages) } " to go on:" }
                    label { "Number of messages" input type="text" inputmode="numeric" name="typed" autocomplete="off" required pattern="[0-9]+" autofocus; }
                } @else {
                    input type="hidden" name="typed" value=(self.messages);
                }
                div.actions {
                    button type="submit" class=(if self.is_final { "danger" } else { "primary" }) { (self.verb) " " (messages) }
                    a.button href=(self.back) { "Leave it" }
                }
            }
        }
    }
}

/// Returns whether the form is the answer to a question, and not what asks for one.
///
/// # Errors
///
/// Another number was typed.
pub(super) fn is_answered(pairs: &FormPairs) -> Result<bool, RefusedRequest> {
    let Some(typed) = pairs.text("typed") else {
        return Ok(false);
    };
    let expected = pairs.or_empty("expected");
    if typed.trim() == expected {
        return Ok(true);
    }
    Err(RefusedRequest::bad(format!(
        "nothing was done: {typed:?} was typed, and the number is {expected}"
    )))
}

impl UiState {
    /// Leads back to a page, which says what was done.
    pub(super) fn done(&self, place: &str, text: String) -> Response {
        let number = self.door.notices.keep(text);
        Redirect::to(&with_query(place, &[("done", &number)])).into_response()
    }
}

/// Says what became of so many messages.
pub(super) fn messages_were(messages: u64, what: &str) -> String {
    let were = if messages == 1 { "message was" } else { "messages were" };
    format!("{} {were} {what}.", number(messages))
}
