//! The query parameters of a request: each is asked for by name, and one that nobody asked for is an error.

use std::{ops::RangeInclusive, time::Duration};

use axum::{
    extract::{FromRequestParts, Query},
    http::{StatusCode, request::Parts},
};

use super::refused::Refused;

/// The parameters that nobody has asked for so far.
#[derive(Debug)]
pub(super) struct Parameters {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let query = Query::from_request_parts(parts, state).await;
        let Query(pairs) = query.map_err(|rejection| bad(rejection.body_text()))?;
        Ok(Self { pairs, known: vec![] })
    }
}

impl Parameters {
    /// The value of a parameter.
    pub(super) fn take(&mut self, key: &'static str) -> Option<String> {
        self.known.push(key);
        let index = self.pairs.iter().position(|(name, _)| name == key)?;
        Some(self.pairs.remove(index).1)
    }

    /// A whole number.
    pub(super) fn number<N>(&mut self, key: &'static str, range: RangeInclusive<N>) -> Result<Option<N>, Refused>
    where
        N: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.take(key) else { return Ok(None) };
        match text.parse().ok().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(bad(format!(
                "{key}={text}: use a whole number from {} to {}",
                range.start(),
                range.end()
            ))),
        }
    }

    /// A duration, such as `5s`.
    pub(super) fn duration(&mut self, key: &'static str, max: Duration) -> Result<Option<Duration>, Refused> {
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
            .ok_or_else(|| bad(format!("{key}={text}: {}", accepted())))
    }

    /// All parameters whose name begins with `prefix`, without it.
    pub(super) fn take_prefixed(&mut self, prefix: &'static str) -> Vec<(String, String)> {
        self.known.push(prefix);
        let (taken, left) = self.pairs.drain(..).partition(|(name, _)| name.starts_with(prefix));
        self.pairs = left;
        let taken: Vec<(String, String)> = taken;
        taken
            .into_iter()
            .map(|(name, value)| (name.chars().skip(prefix.len()).collect(), value))
            .collect()
    }

    /// Refuses what nobody asked for, and what was given twice.
    pub(super) fn finish(self) -> Result<(), Refused> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) if self.known.contains(&name.as_str()) => Err(bad(format!("{name} is given twice"))),
            Some((name, _)) => Err(bad(format!(
                "unknown parameter {name}; known here: {}",
                self.known.join(", ")
            ))),
        }
    }
}

fn bad(why: String) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, why)
}
