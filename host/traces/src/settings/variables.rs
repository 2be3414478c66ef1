//! Reads single variables, and notes those that can't be used. An empty value counts as none.

use std::{ops::RangeInclusive, time::Duration};

use super::MAX_TIME;
use sandhog_queue::printable::printable;

/// The length to which a warning cuts a wrong value.
const SHOWN_BYTES: usize = 100;

/// The variables, and what was found wrong with them.
pub(crate) struct Variables<'e> {
    environment: &'e dyn Fn(&str) -> Option<String>,
    pub(crate) mistakes: Vec<String>,
}

impl<'e> Variables<'e> {
    pub(crate) fn new(environment: &'e dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            environment,
            mistakes: Vec::new(),
        }
    }

    pub(crate) fn value(&self, name: &str) -> Option<String> {
        (self.environment)(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Notes that a value is not accepted. `instead` says what happens.
    pub(crate) fn refuse(&mut self, name: &str, value: &str, accepted: &str, instead: &str) {
        // Headers, and the password in an address, may be secrets.
        let shown = if name.ends_with("HEADERS") || value.contains('@') {
            String::new()
        } else {
            format!(" = {:?}", printable(value, SHOWN_BYTES))
        };
        let instead = if instead.is_empty() { "it is ignored" } else { instead };
        self.mistakes.push(format!("{name}{shown}: use {accepted}; {instead}"));
    }

    /// Reads a text that `parse` accepts.
    pub(crate) fn text<T>(
        &mut self,
        name: &str,
        accepted: &str,
        instead: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(name)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.refuse(name, &value, accepted, instead);
        }
        parsed
    }

    pub(crate) fn one_of<T>(&mut self, name: &str, accepted: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.text(name, accepted, "", parse)
    }

    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        self.text(name, "true or false", "it counts as false", parse)
            .unwrap_or(false)
    }

    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<u64>, usual: usize) -> usize {
        let accepted = format!("a whole number from {} to {}", range.start(), range.end());
        let instead = format!("{usual} is used");
        let number = self.text(name, &accepted, &instead, |text| {
            text.parse().ok().filter(|number| range.contains(number))
        });
        number.and_then(|number| usize::try_from(number).ok()).unwrap_or(usual)
    }

    /// Reads a time in milliseconds.
    pub(crate) fn time(&mut self, name: &str, usual: Duration) -> Duration {
        let instead = format!("{} is used", usual.as_millis());
        let time = self.text(name, "a whole number of milliseconds", &instead, |text| {
            text.parse().ok().map(Duration::from_millis)
        });
        time.unwrap_or(usual)
    }

    /// Reads a limit of time in milliseconds: 0 stands for none.
    pub(crate) fn timeout(&mut self, name: &str, usual: Duration) -> Duration {
        let time = self.time(name, usual);
        if time.is_zero() { MAX_TIME } else { time.min(MAX_TIME) }
    }

    /// Returns the name of a variable of the exporter: that for traces, if it is set, or else that for all signals.
    fn exporter(&self, name: &str) -> String {
        let own = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
        if self.has(&own) {
            own
        } else {
            format!("OTEL_EXPORTER_OTLP_{name}")
        }
    }

    pub(crate) fn exporter_text<T>(
        &mut self,
        name: &str,
        accepted: &str,
        instead: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let name = self.exporter(name);
        self.text(&name, accepted, instead, parse)
    }

    pub(crate) fn exporter_time(&mut self, name: &str, usual: Duration) -> Duration {
        let name = self.exporter(name);
        self.timeout(&name, usual)
    }

    /// Notes that a variable of the exporter is set and means nothing here.
    pub(crate) fn unsupported(&mut self, name: &str, why: &str) {
        let name = self.exporter(name);
        if self.has(&name) {
            self.mistakes.push(format!("{name} {why}"));
        }
    }
}
