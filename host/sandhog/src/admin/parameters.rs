//! The query parameters of a request. A route asks for each by name, and a parameter that it did not ask for is an error.

use std::{ops::RangeInclusive, time::Duration};

use axum::{
    extract::{self, FromRequestParts},
    http::request::Parts,
};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::refused::RefusedRequest;
use sandhog_queue::printable::printable;

/// The longest part of a wrong parameter that an answer repeats, in bytes.
const SHOWN_BYTES: usize = 100;
/// The most parameters of a request: more than any route knows.
const MAX_PARAMETERS: usize = 100;

/// The parameters that the route has not asked for so far.
#[derive(Debug)]
pub(crate) struct QueryParameters {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl<S: Send + Sync> FromRequestParts<S> for QueryParameters {
    type Rejection = RefusedRequest;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, RefusedRequest> {
        Ok(Self {
            pairs: pairs(parts.uri.query().unwrap_or_default())?,
            known: vec![],
        })
    }
}

/// Parses the pairs of a query, in which each name occurs once.
fn pairs(query: &str) -> Result<Vec<(String, String)>, RefusedRequest> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let undecodable = |why| RefusedRequest::bad(format!("{}: {why}", printable(name, SHOWN_BYTES)));
        let name = decode(name).map_err(undecodable)?;
        let value = decode(value).map_err(undecodable)?;
        if pairs.iter().any(|(other, _)| *other == name) {
            return Err(RefusedRequest::bad(format!(
                "{} is given twice",
                printable(&name, SHOWN_BYTES)
            )));
        }
        if pairs.len() == MAX_PARAMETERS {
            return Err(RefusedRequest::bad(format!("more than {MAX_PARAMETERS} parameters")));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// Decodes an escaped text. A wrong escape is refused and not guessed at, because two texts would become the same.
pub(crate) fn decode(escaped: &str) -> Result<String, &'static str> {
    let is_escape = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !escaped.split('%').skip(1).all(is_escape) {
        return Err("a % is followed by two hexadecimal digits; the sign itself is %25");
    }
    let spaced = escaped.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Into::into).map_err(|_| "its bytes are not UTF-8")
}

/// The segments of a path that a route has names for.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = RefusedRequest;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, RefusedRequest> {
        let segments = extract::Path::from_request_parts(parts, state).await;
        segments
            .map(|extract::Path(segments)| Self(segments))
            .map_err(|rejection| RefusedRequest::new(rejection.status(), rejection.body_text()))
    }
}

impl QueryParameters {
    /// Takes the value of a parameter.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<String> {
        self.known.push(key);
        let index = self.pairs.iter().position(|(name, _)| name == key)?;
        Some(self.pairs.remove(index).1)
    }

    /// Takes a whole number.
    pub(crate) fn number<N>(&mut self, key: &'static str, range: RangeInclusive<N>) -> Result<Option<N>, RefusedRequest>
    where
        N: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.take(key) else { return Ok(None) };
        match text.parse().ok().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(RefusedRequest::bad(format!(
                "{key}={text}: use a whole number from {} to {}",
                range.start(),
                range.end()
            ))),
        }
    }

    /// Takes `true` or `false`; the name alone is `true`.
    pub(crate) fn flag(&mut self, key: &'static str) -> Result<bool, RefusedRequest> {
        match self.take(key).as_deref() {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(text) => Err(RefusedRequest::bad(format!(
                "{key}={}: use true or false",
                printable(text, SHOWN_BYTES)
            ))),
        }
    }

    /// Takes a duration, such as `5s`.
    pub(crate) fn duration(&mut self, key: &'static str, max: Duration) -> Result<Option<Duration>, RefusedRequest> {
        let Some(text) = self.take(key) else { return Ok(None) };
        let duration = humantime::parse_duration(&text)
            .ok()
            .filter(|duration| *duration <= max);
        let accepted = || {
            format!(
                "use a duration of at most {}, such as 5s",
                humantime::format_duration(max)
            )
        };
        duration
            .map(Some)
            .ok_or_else(|| RefusedRequest::bad(format!("{key}={text}: {}", accepted())))
    }

    /// Takes all parameters whose name begins with `prefix`, and removes the prefix.
    pub(crate) fn take_prefixed(&mut self, prefix: &'static str) -> Vec<(String, String)> {
        self.known.push(prefix);
        let (taken, left) = self.pairs.drain(..).partition(|(name, _)| name.starts_with(prefix));
        self.pairs = left;
        let taken: Vec<(String, String)> = taken;
        taken
            .into_iter()
            .map(|(name, value)| (name.chars().skip(prefix.len()).collect(), value))
            .collect()
    }

    /// Refuses the parameters that the route did not ask for.
    pub(crate) fn finish(self) -> Result<(), RefusedRequest> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => Err(RefusedRequest::bad(format!(
                "unknown parameter {}; known here: {}",
                printable(name, SHOWN_BYTES),
                self.known.join(", ")
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: Result<&[(&str, &str)], &str>) {
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let expected: Result<Vec<(String, String)>, String> = expected.map(owned).map_err(str::to_owned);
        assert_eq!(pairs(query).map_err(|refused| refused.to_string()), expected, "{query}");
    }

    #[test]
    fn what_stands_for_no_text_is_refused_by_the_name_of_its_parameter() {
        check("", Ok(&[]));
        check("a=1&&b=%c3%A9+x%2B&c", Ok(&[("a", "1"), ("b", "\u{e9} x+"), ("c", "")]));
        check("dedup=%ff", Err("dedup: its bytes are not UTF-8"));
        check("attr.n=%c3", Err("attr.n: its bytes are not UTF-8"));
        check("%ff=1", Err("%ff: its bytes are not UTF-8"));
        check(
            "a=%u0041",
            Err("a: a % is followed by two hexadecimal digits; the sign itself is %25"),
        );
        check(
            "a=100%",
            Err("a: a % is followed by two hexadecimal digits; the sign itself is %25"),
        );
        check(
            "a=%4",
            Err("a: a % is followed by two hexadecimal digits; the sign itself is %25"),
        );
        check("a=1&b=2&%61=3", Err("a is given twice"));
    }
}
