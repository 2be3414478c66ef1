//! The pairs of a form, or of a query. The names may occur several times, as boxes do.
//!
//! Invariant: an action takes [`ActionForm`], which is none without the token of the caller, nor for one who may only look.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts as _, Request},
    http::{Method, StatusCode},
};

use super::sessions::UiCaller;
use crate::admin::{parameters::decode, refused::RefusedRequest};
use axum::Extension;
use sandhog_queue::message::MAX_BODY_BYTES;

/// The most bytes of a form: a body in which each byte is escaped as three, and room for the rest.
pub(super) const MAX_BYTES: usize = 3 * MAX_BODY_BYTES + 256 * 1024;
/// The most pairs: a page of boxes, and what is beside them.
const MAX_PAIRS: usize = 2000;
/// The name of the field with the token.
pub(super) const TOKEN: &str = "token";

/// What a person has filled in.
#[derive(Debug, Default)]
pub(super) struct FormPairs(Vec<(String, String)>);

impl FormPairs {
    /// Parses the pairs.
    ///
    /// # Errors
    ///
    /// There are too many, or one is no text.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, RefusedRequest> {
        let text = std::str::from_utf8(bytes).map_err(|_| RefusedRequest::bad("the form is not UTF-8"))?;
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == MAX_PAIRS {
                return Err(RefusedRequest::bad(format!(
                    "the form has more than {MAX_PAIRS} fields"
                )));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let part = |text| decode(text).map_err(|why| RefusedRequest::bad(format!("the form: {why}")));
            pairs.push((part(name)?, part(value)?));
        }
        Ok(Self(pairs))
    }

    /// Reads the parameters of a page.
    pub(super) fn of_query(query: Option<&str>) -> Result<Self, RefusedRequest> {
        Self::parse(query.unwrap_or_default().as_bytes())
    }

    /// Returns the value of a field, if it is not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let values = self.0.iter().filter(|(other, _)| other == name);
        values.map(|(_, value)| value.as_str()).find(|value| !value.is_empty())
    }

    /// Returns the value of a field, or nothing if it is absent.
    pub(super) fn or_empty(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// Returns all values of a field.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(other, _)| other == name);
        values.map(|(_, value)| value.clone()).collect()
    }

    /// Refuses a form that was not made for this caller.
    pub(super) fn check_token(&self, caller: &UiCaller) -> Result<(), RefusedRequest> {
        caller.check_token(self.or_empty(TOKEN))
    }
}

impl<S: Send + Sync> FromRequest<S> for FormPairs {
    type Rejection = RefusedRequest;

    async fn from_request(request: Request, state: &S) -> Result<Self, RefusedRequest> {
        let body = Bytes::from_request(request, state).await?;
        Self::parse(&body)
    }
}

/// The form of an action, and the one who fills it in.
#[derive(Debug)]
pub(super) struct ActionForm {
    pub(super) caller: UiCaller,
    pub(super) pairs: FormPairs,
}

impl<S: Send + Sync> FromRequest<S> for ActionForm {
    type Rejection = RefusedRequest;

    async fn from_request(request: Request, state: &S) -> Result<Self, RefusedRequest> {
        let (mut parts, body) = request.into_parts();
        let caller = Extension::<UiCaller>::from_request_parts(&mut parts, state).await;
        let Ok(Extension(caller)) = caller else {
            return Err(RefusedRequest::new(StatusCode::UNAUTHORIZED, "log in first"));
        };
        caller.caller.check(&Method::POST)?;
        let pairs = FormPairs::from_request(Request::from_parts(parts, body), state).await?;
        pairs.check_token(&caller)?;
        Ok(Self { caller, pairs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_may_occur_several_times_and_an_empty_one_is_none() {
        let form = FormPairs::parse(b"id=a&id=b+c&x=&y=%26%3D").unwrap();
        assert_eq!(form.all("id"), ["a", "b c"]);
        assert_eq!(
            (form.text("x"), form.text("y"), form.text("z")),
            (None, Some("&="), None)
        );
        assert!(FormPairs::parse(b"a=%f").is_err() && FormPairs::parse(b"a=%ff").is_err());
        assert!(FormPairs::parse("a&".repeat(MAX_PAIRS + 1).as_bytes()).is_err());
    }
}
