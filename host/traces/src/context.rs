//! The place of a span in its trace, and its form of the W3C: `traceparent` and `tracestate`. Pure.

use std::{fmt::Write as _, sync::Arc};

/// The longest `tracestate` that is passed on, in bytes. A longer one is left out.
pub const MAX_STATE_BYTES: usize = 512;
/// The length of a `traceparent` of version 0.
const PARENT_BYTES: usize = 55;
/// The bit of the flags that says that the span is recorded.
const SAMPLED: u8 = 1;
/// The bits of the flags that have a meaning: recorded, and an id of random bits.
const KNOWN_FLAGS: u8 = 3;

/// The place of a span in its trace: what a message or a request carries, so that spans elsewhere belong to the same trace.
///
/// Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanContext {
    /// The id of the trace. Not all zero.
    pub(crate) trace_id: [u8; 16],
    /// The id of the span. Not all zero.
    pub(crate) span_id: [u8; 8],
    pub(crate) flags: u8,
    /// What the vendors of traces have noted, in their own words.
    pub(crate) state: Option<Arc<str>>,
}

impl SpanContext {
    /// Makes the context of the first span of a new trace.
    pub(crate) fn root(is_sampled: bool) -> Self {
        Self {
            trace_id: random_id(|| rand::random::<u128>().to_be_bytes()),
            span_id: random_id(|| rand::random::<u64>().to_be_bytes()),
            // The ids are of random bits.
            flags: 2 | u8::from(is_sampled),
            state: None,
        }
    }

    /// Makes the context of another span of the same trace, which is recorded if `is_sampled`.
    pub(crate) fn successor(&self, is_sampled: bool) -> Self {
        Self {
            trace_id: self.trace_id,
            span_id: random_id(|| rand::random::<u64>().to_be_bytes()),
            flags: (self.flags & !SAMPLED) | u8::from(is_sampled),
            state: self.state.clone(),
        }
    }

    /// Returns the same place, of a span that is recorded or not.
    pub(crate) fn sampled(mut self, is_sampled: bool) -> Self {
        self.flags = (self.flags & !SAMPLED) | u8::from(is_sampled);
        self
    }

    /// Whether spans of this trace are recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Returns the id of the trace: 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        let mut text = String::with_capacity(32);
        push_hex(&mut text, &self.trace_id);
        text
    }

    /// Reads a context in the form of the W3C. `None` if `traceparent` is none. A wrong or too long `tracestate` is left out.
    pub fn of_w3c(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let text = traceparent.trim();
        let mut parts = text.split('-');
        let version: [u8; 1] = parse_hex(parts.next()?)?;
        let trace_id = parse_hex(parts.next()?)?;
        let span_id = parse_hex(parts.next()?)?;
        let [flags] = parse_hex::<1>(parts.next()?)?;
        // Later versions may say more behind what is known.
        let is_of_version = match version {
            [0] => text.len() == PARENT_BYTES,
            [0xff] => false,
            _ => true,
        };
        let state = tracestate.map(str::trim).filter(|state| is_state(state));
        Self::new(trace_id, span_id, flags & KNOWN_FLAGS)
            .filter(|_| is_of_version)
            .map(|context| Self {
                state: state.map(Into::into),
                ..context
            })
    }

    /// Makes a context of ids that came from elsewhere. `None` if one of them is zero.
    pub(crate) fn new(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Option<Self> {
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self {
            trace_id,
            span_id,
            flags,
            state: None,
        })
    }

    /// Returns the `traceparent` of the W3C: 55 characters.
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(PARENT_BYTES);
        text.push_str("00-");
        push_hex(&mut text, &self.trace_id);
        text.push('-');
        push_hex(&mut text, &self.span_id);
        text.push('-');
        push_hex(&mut text, &[self.flags]);
        text
    }

    /// Returns the `tracestate` of the W3C, if there is one: 1 to [`MAX_STATE_BYTES`] printable characters.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// Whether a text can be passed on as a `tracestate`. Vendors read what is in it.
fn is_state(text: &str) -> bool {
    (1..=MAX_STATE_BYTES).contains(&text.len())
        && text.contains('=')
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn random_id<const N: usize>(mut draw: impl FnMut() -> [u8; N]) -> [u8; N] {
    loop {
        let id = draw();
        if id != [0; N] {
            return id;
        }
    }
}

pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
}

/// Reads exactly as many bytes, of lower-case hexadecimal digits.
pub(crate) fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |digit: &u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_of_the_w3c_is_written_as_it_was_read() {
        let context = SpanContext::of_w3c(PARENT, Some("vendor=1,other=a b")).unwrap();
        assert!(context.is_sampled());
        assert_eq!(context.traceparent(), PARENT);
        assert_eq!(context.tracestate(), Some("vendor=1,other=a b"));
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-011",
            "00-4bf92f3577b34da6a3ce929d0e0e47é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(SpanContext::of_w3c(wrong, None), None, "{wrong}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-what";
        let context = SpanContext::of_w3c(later, None).unwrap();
        assert_eq!(
            context.traceparent(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03"
        );
    }

    #[test]
    fn a_state_that_no_header_can_carry_is_left_out() {
        for wrong in [
            "",
            "no pair",
            "a=\nb=1",
            "a=\u{e9}",
            &format!("a={}", "x".repeat(MAX_STATE_BYTES)),
        ] {
            let context = SpanContext::of_w3c(PARENT, Some(wrong)).unwrap();
            assert_eq!(context.tracestate(), None, "{wrong}");
        }
    }

    #[test]
    fn a_successor_is_another_span_of_the_same_trace() {
        let first = SpanContext::root(true);
        let second = first.successor(false);
        assert_eq!(first.trace_id(), second.trace_id());
        assert_ne!(first.span_id, second.span_id);
        assert!(first.is_sampled() && !second.is_sampled());
        assert!(first.traceparent().ends_with("-03") && second.traceparent().ends_with("-02"));
    }
}
