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
    refused::RefusedRequest,
    wire::{AttributeForm, MessageForm, PeekedForm},
};
use crate::config::{DashboardSettings, Redaction};
use sandhog_queue::message_filter::{FilterClause, FilterField, MessageFilter};

/// What stands in the place of what is hidden.
const HIDDEN: &str = "(redacted)";

/// What is hidden from the one who makes a request; nothing from most.
#[derive(Debug, Clone, Default)]
pub(crate) struct RedactedView(Option<Arc<DashboardSettings>>);

impl FromRequestParts<AdminState> for RedactedView {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, Infallible> {
        let applies = parts
            .extensions
            .get()
            .is_none_or(|caller: &Caller| caller.sees_redacted);
        let settings = &state.dashboard;
        Ok(Self(
            (applies && !settings.redaction.is_empty()).then(|| Arc::clone(settings)),
        ))
    }
}

/// The fields of a message that may be hidden.
struct ShownFields<'m> {
    body: &'m mut Option<String>,
    base64: &'m mut Option<String>,
    attributes: &'m mut BTreeMap<String, AttributeForm>,
}

impl RedactedView {
    fn rules(&self) -> Option<&Redaction> {
        self.0.as_deref().map(|settings| &settings.redaction)
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

    /// Hides what is hidden of a message that was looked at, and then all of its body but `limit` bytes.
    pub(crate) fn peeked(&self, form: &mut PeekedForm, limit: Option<usize>) {
        let mut fields = ShownFields {
            body: &mut form.body,
            base64: &mut form.body_base64,
            attributes: &mut form.attributes,
        };
        form.redacted = self.apply(&mut fields);
        if let (true, Some(limit), Some(body)) = (self.needs_whole(), limit, &mut form.body)
            && body.len() > limit
        {
            body.truncate(body.floor_char_boundary(limit));
            form.cut = true;
        }
    }

    /// Hides what is hidden of a dead letter.
    pub(crate) fn letter(&self, form: &mut MessageForm) {
        let mut fields = ShownFields {
            body: &mut form.body,
            base64: &mut form.body_base64,
            attributes: &mut form.attributes,
        };
        form.redacted = self.apply(&mut fields);
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

/// Returns a body without what is hidden, and whether something is.
fn redacted(body: &[u8], rules: &Redaction) -> (String, bool) {
    let is_structure = |value: &Value| value.is_object() || value.is_array();
    // A text may hold what a path means once more, in JSON of its own.
    let Some(mut value) = serde_json::from_slice::<Value>(body).ok().filter(is_structure) else {
        return (HIDDEN.to_owned(), true);
    };
    let mut hidden = false;
    for path in &rules.paths {
        hidden |= hide(&mut value, path.segments());
    }
    // What is shown is what was read: of a name that occurs twice the first value would be there otherwise.
    (value.to_string(), hidden)
}

/// Hides the values at a path, and returns whether there was one.
fn hide(value: &mut Value, path: &[String]) -> bool {
    let Some((segment, rest)) = path.split_first() else {
        *value = Value::String(HIDDEN.to_owned());
        return true;
    };
    match value {
        Value::Object(fields) if segment == "*" => fields
            .iter_mut()
            .map(|(_, value)| hide(value, rest))
            .fold(false, |one, other| one | other),
        Value::Object(fields) => fields.get_mut(segment).is_some_and(|value| hide(value, rest)),
        Value::Array(items) if segment == "*" => items
            .iter_mut()
            .map(|value| hide(value, rest))
            .fold(false, |one, other| one | other),
        Value::Array(items) => {
            let index: Option<usize> = segment.parse().ok();
            let item = index.and_then(|index| items.get_mut(index));
            item.is_some_and(|value| hide(value, rest))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
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
    fn a_name_that_occurs_twice_shows_no_hidden_value() {
        check(&["/a"], r#"{"a":"first","a":"second"}"#, Some(r#"{"a":"(redacted)"}"#));
        let (shown, hidden) = redacted(br#"{"a":{"b":"first"},"a":0}"#, &rules(&["/a/b"]));
        assert_eq!((shown.as_str(), hidden), (r#"{"a":0}"#, false));
    }
}
