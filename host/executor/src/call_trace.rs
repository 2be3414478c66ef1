//! The trace context that a call passes on to what it reaches: its requests, and the environment of a program.
//!
//! The host decides what the context is. Whatever the guest has set itself stays.

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The variables that programs find a context in.
const VARIABLES: [&str; 2] = ["TRACEPARENT", "TRACESTATE"];

/// A trace context in the form of the W3C. Its values are shared by all requests of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallTrace {
    parent: HeaderValue,
    state: Option<HeaderValue>,
}

impl CallTrace {
    /// Makes a context of its two headers. `None` if `traceparent` can't be a header; a `tracestate` that can't is left out.
    pub fn new(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        Some(Self {
            parent: HeaderValue::from_str(traceparent).ok()?,
            state: tracestate.and_then(|state| HeaderValue::from_str(state).ok()),
        })
    }

    /// Adds the context to the headers of a request that has none.
    pub(crate) fn add_to(&self, headers: &mut HeaderMap) {
        if headers.contains_key(TRACEPARENT) {
            return;
        }
        // A state without its parent means nothing.
        headers.remove(TRACESTATE);
        // A guest can't make so many headers that there is no room.
        drop(headers.try_insert(TRACEPARENT, self.parent.clone()));
        if let Some(state) = &self.state {
            drop(headers.try_insert(TRACESTATE, state.clone()));
        }
    }

    /// Returns the variables of a program, unless `is_set` says that it has one of them.
    pub(crate) fn variables(&self, is_set: impl Fn(&str) -> bool) -> Vec<(&'static str, &str)> {
        if VARIABLES.into_iter().any(is_set) {
            return Vec::new();
        }
        let values = [Some(&self.parent), self.state.as_ref()];
        let pairs = VARIABLES.into_iter().zip(values);
        let texts = pairs.filter_map(|(name, value)| Some((name, value?.to_str().ok()?)));
        texts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_request_gets_the_context_unless_the_guest_has_set_one() {
        let trace = CallTrace::new(PARENT, Some("a=1")).unwrap();
        let mut headers = HeaderMap::new();
        trace.add_to(&mut headers);
        assert_eq!(headers[TRACEPARENT], PARENT);
        assert_eq!(headers[TRACESTATE], "a=1");
        let mut own = HeaderMap::new();
        own.insert(TRACEPARENT, HeaderValue::from_static("own"));
        trace.add_to(&mut own);
        assert_eq!(own[TRACEPARENT], "own");
        assert_eq!(own.len(), 1);
    }

    #[test]
    fn a_program_gets_the_context_unless_its_manifest_says_one() {
        let trace = CallTrace::new(PARENT, None).unwrap();
        assert_eq!(trace.variables(|_| false), [("TRACEPARENT", PARENT)]);
        assert!(trace.variables(|name| name == "TRACESTATE").is_empty());
    }
}
