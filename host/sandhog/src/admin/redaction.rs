//! Hides of messages what the configuration hides, from pages and from those with the read-only secret.
//!
//! Invariant: what can't be shown in part is not shown. A body that is to be redacted by paths and is no JSON is hidden as a whole, and a
//! filter that would tell what is in a hidden place is refused.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use axum::{extract::FromRequestParts, http::request::Parts};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;

use super::{
    AdminState,
    caller::Caller,
    long_work::LongWork,
    refused::RefusedRequest,
    wire::{AttributeForm, MessageForm, PeekedForm},
};
use crate::config::{DashboardSettings, Redaction};
use sandhog_queue::message_filter::{FilterClause, FilterField, MessageFilter};

/// What stands in the place of what is hidden.
const HIDDEN: &str = "(redacted)";
/// The most values of a body that are hidden one by one: one with as many is hidden as a whole.
const MOST_HIDDEN: usize = 10_000;

/// What is hidden from the one who makes a request; nothing from most.
#[derive(Debug, Clone, Default)]
pub(crate) struct RedactedView {
    settings: Option<Arc<DashboardSettings>>,
    /// Where long bodies are read.
    work: LongWork,
}

impl FromRequestParts<AdminState> for RedactedView {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Infallible> {
        let applies = parts
            .extensions
            .get()
            .is_none_or(|caller: &Caller| caller.sees_redacted);
        let settings = &state.dashboard;
        Ok(Self {
            settings: (applies && !settings.redaction.is_empty()).then(|| Arc::clone(settings)),
            work: parts.extensions.get().cloned().unwrap_or_default(),
        })
    }
}

/// The fields of a message that may be hidden, and what is said about them.
pub(crate) struct ShownFields<'m> {
    body: &'m mut Option<String>,
    base64: &'m mut Option<String>,
    attributes: &'m mut BTreeMap<String, AttributeForm>,
    cut: &'m mut bool,
    redacted: &'m mut bool,
}

impl ShownFields<'_> {
    /// Returns the length of the body, as it is in memory.
    fn bytes(&self) -> usize {
        let text = self.body.as_ref().or(self.base64.as_ref());
        text.map_or(0, String::len)
    }
}

/// A message as a client gets it.
pub(crate) trait ShownForm: Send + 'static {
    /// Returns what of it may be hidden.
    fn fields(&mut self) -> ShownFields<'_>;
}

impl ShownForm for PeekedForm {
    fn fields(&mut self) -> ShownFields<'_> {
        ShownFields {
            body: &mut self.body,
            base64: &mut self.body_base64,
            attributes: &mut self.attributes,
            cut: &mut self.cut,
            redacted: &mut self.redacted,
        }
    }
}

impl ShownForm for MessageForm {
    fn fields(&mut self) -> ShownFields<'_> {
        ShownFields {
            body: &mut self.body,
            base64: &mut self.body_base64,
            attributes: &mut self.attributes,
            cut: &mut self.cut,
            redacted: &mut self.redacted,
        }
    }
}

impl RedactedView {
    fn rules(&self) -> Option<&Redaction> {
        self.settings.as_deref().map(|settings| &settings.redaction)
    }

    /// Returns whether a body has to be read as a whole before it can be shown in part.
    pub(crate) fn needs_whole(&self) -> bool {
        self.rules()
            .is_some_and(|rules| !rules.bodies && !rules.paths.is_empty())
    }

    /// Refuses a filter that would tell what is hidden.
    pub(crate) fn check(&self, filter: &MessageFilter) -> Result<(), RefusedRequest> {
        let Some(rules) = self.rules() else { return Ok(()) };
        let hides_bodies = rules.bodies || !rules.paths.is_empty();
        for clause in filter.clone().into_clauses() {
            let FilterClause::Text { field, .. } = clause else {
                continue;
            };
            let hidden = match field {
                FilterField::Body if hides_bodies => "bodies".to_owned(),
                FilterField::Attribute(name) if rules.attributes.contains(&name) => format!("the attribute {name:?}"),
                FilterField::Body
                | FilterField::Attribute(_)
                | FilterField::Id
                | FilterField::Group
                | FilterField::Reason
                | FilterField::Kind
                | FilterField::Handler
                | FilterField::Queue => continue,
            };
            let why = format!("the filter asks for {hidden}, which the table [redact] hides here");
            return Err(RefusedRequest::bad(why));
        }
        Ok(())
    }

    /// Hides what is hidden of messages, and then all of their bodies but `limit` bytes each.
    ///
    /// # Errors
    ///
    /// See [`LongWork::run`].
    ///
    /// # Cancel safety
    ///
    /// See [`LongWork::run`].
    pub(crate) async fn shown<F: ShownForm>(
        &self,
        mut forms: Vec<F>,
        limit: Option<usize>,
    ) -> Result<Vec<F>, RefusedRequest> {
        // Otherwise no body is looked at.
        let reads = self.needs_whole() || limit.is_some();
        let bytes = if reads {
            forms.iter_mut().map(|form| form.fields().bytes()).sum()
        } else {
            0
        };
        let view = self.clone();
        let hide = move || {
            for form in &mut forms {
                let mut fields = form.fields();
                *fields.redacted = view.apply(&mut fields);
                if let Some(limit) = limit {
                    *fields.cut |= shorten(fields.body, fields.base64, limit);
                }
            }
            forms
        };
        self.work.run(bytes, hide).await
    }

    /// Returns whether something was hidden.
    fn apply(&self, fields: &mut ShownFields<'_>) -> bool {
        let Some(rules) = self.rules() else { return false };
        let mut hidden = false;
        for name in &rules.attributes {
            if let Some(value) = fields.attributes.get_mut(name) {
                *value = AttributeForm::Text(HIDDEN.to_owned());
                hidden = true;
            }
        }
        let shown = match (&*fields.body, &*fields.base64) {
            _ if rules.bodies => Some((HIDDEN.to_owned(), true)),
            _ if rules.paths.is_empty() => None,
            (Some(text), _) => Some(redacted(text.as_bytes(), rules)),
            (None, Some(base64)) => Some(redacted(&BASE64.decode(base64).unwrap_or_default(), rules)),
            (None, None) => None,
        };
        if let Some((shown, is_hidden)) = shown {
            (*fields.body, *fields.base64) = (Some(shown), None);
            hidden |= is_hidden;
        }
        hidden
    }
}

/// Cuts a body, and not within a character if it is text. Returns whether there was more of it.
fn shorten(body: &mut Option<String>, base64: &mut Option<String>, limit: usize) -> bool {
    match (body, base64) {
        (Some(text), _) if text.len() > limit => {
            text.truncate(text.floor_char_boundary(limit));
            true
        }
        (None, Some(base64)) => {
            // What was made here is base64.
            let bytes = BASE64.decode(&*base64).unwrap_or_default();
            bytes
                .get(..limit)
                .filter(|kept| kept.len() < bytes.len())
                .is_some_and(|kept| {
                    *base64 = BASE64.encode(kept);
                    true
                })
        }
        (Some(_) | None, _) => false,
    }
}

/// Returns a body without what is hidden, and whether something is.
fn redacted(body: &[u8], rules: &Redaction) -> (String, bool) {
    let is_structure = |value: &Value| value.is_object() || value.is_array();
    // A text may hold what a path means once more, in JSON of its own.
    let Some(mut value) = serde_json::from_slice::<Value>(body).ok().filter(is_structure) else {
        return (HIDDEN.to_owned(), true);
    };
    let mut left = MOST_HIDDEN;
    for path in &rules.paths {
        hide(&mut value, path.segments(), &mut left);
    }
    if left == 0 {
        // What stands in the place of so many values would be several times as long as the body.
        return (HIDDEN.to_owned(), true);
    }
    // What is shown is what was read: of a name that occurs twice the first value would be there otherwise.
    (value.to_string(), left < MOST_HIDDEN)
}

/// Hides the values at a path, and takes their number from `left`.
fn hide(value: &mut Value, path: &[String], left: &mut usize) {
    let Some((segment, rest)) = path.split_first() else {
        *value = Value::String(HIDDEN.to_owned());
        *left = left.saturating_sub(1);
        return;
    };
    match value {
        Value::Object(fields) if segment == "*" => {
            for (_, value) in fields {
                hide(value, rest, left);
            }
        }
        Value::Object(fields) => {
            if let Some(value) = fields.get_mut(segment) {
                hide(value, rest, left);
            }
        }
        Value::Array(items) if segment == "*" => {
            for value in items {
                hide(value, rest, left);
            }
        }
        Value::Array(items) => {
            let index: Option<usize> = segment.parse().ok();
            if let Some(value) = index.and_then(|index| items.get_mut(index)) {
                hide(value, rest, left);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RedactedPath;

    fn rules(paths: &[&str]) -> Redaction {
        Redaction {
            paths: paths.iter().map(|path| RedactedPath::new(path).unwrap()).collect(),
            ..Redaction::default()
        }
    }

    fn check(paths: &[&str], body: &str, expected: Option<&str>) {
        let (shown, hidden) = redacted(body.as_bytes(), &rules(paths));
        assert_eq!(hidden.then_some(shown).as_deref(), expected, "{paths:?} {body}");
    }

    #[test]
    fn values_at_paths_are_hidden_and_nothing_else() {
        check(
            &["/a/b"],
            r#"{"a":{"b":1,"c":2}}"#,
            Some(r#"{"a":{"b":"(redacted)","c":2}}"#),
        );
        check(
            &["/items/*/card"],
            r#"{"items":[{"card":"1"},{"card":{"x":2}},3]}"#,
            Some(r#"{"items":[{"card":"(redacted)"},{"card":"(redacted)"},3]}"#),
        );
        check(
            &["/*"],
            r#"{"a":1,"b":[2]}"#,
            Some(r#"{"a":"(redacted)","b":"(redacted)"}"#),
        );
        check(&["/0/a"], r#"[{"a":1}]"#, Some(r#"[{"a":"(redacted)"}]"#));
        check(&["/a"], r#"{"b": 1}"#, None);
    }

    #[test]
    fn a_body_that_cannot_be_hidden_in_part_is_hidden_as_a_whole() {
        for body in [
            "{\"a\":1}\n{\"a\":2}",
            "a=1",
            "",
            "{\"a\":",
            "\u{0}",
            r#""{\"a\":1}""#,
            "1",
        ] {
            check(&["/a"], body, Some(HIDDEN));
        }
    }

    #[test]
    fn a_body_with_very_many_hidden_values_is_hidden_as_a_whole() {
        let body = |values: usize| format!("[{}]", vec!["1"; values].join(","));
        let shown = |values| redacted(body(values).as_bytes(), &rules(&["/*"])).0;
        assert!(shown(MOST_HIDDEN - 1).starts_with("[\"(redacted)\","));
        assert_eq!(shown(MOST_HIDDEN), HIDDEN);
    }

    #[test]
    fn a_body_is_cut_between_characters_whatever_it_is() {
        let cut = |text: Option<&str>, bytes: Option<&[u8]>, limit| {
            let mut body = text.map(str::to_owned);
            let mut base64 = bytes.map(|bytes| BASE64.encode(bytes));
            let is_cut = shorten(&mut body, &mut base64, limit);
            (body, base64.map(|base64| BASE64.decode(base64).unwrap()), is_cut)
        };
        let text = |text: &str, is_cut| (Some(text.to_owned()), None, is_cut);
        assert_eq!(cut(Some("a\u{e9}b"), None, 2), text("a", true));
        assert_eq!(cut(Some("a\u{e9}b"), None, 4), text("a\u{e9}b", false));
        assert_eq!(cut(None, Some(&[255, 1, 2]), 2), (None, Some(vec![255, 1]), true));
        assert_eq!(cut(None, Some(&[255, 1]), 2), (None, Some(vec![255, 1]), false));
        assert_eq!(cut(None, None, 2), (None, None, false));
    }

    #[test]
    fn a_name_that_occurs_twice_shows_no_hidden_value() {
        check(&["/a"], r#"{"a":"first","a":"second"}"#, Some(r#"{"a":"(redacted)"}"#));
        let (shown, hidden) = redacted(br#"{"a":{"b":"first"},"a":0}"#, &rules(&["/a/b"]));
        assert_eq!((shown.as_str(), hidden), (r#"{"a":0}"#, false));
    }
}
