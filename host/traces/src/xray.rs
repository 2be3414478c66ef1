//! The trace header of X-Ray: `Root=1-TIME-ID;Parent=SPAN;Sampled=1`. Pure.
//!
//! The id of a trace is the time and the rest of `Root` one after the other, which is how both forms of an id are the same bytes.

use super::context::{SpanContext, parse_hex, push_hex};

/// The longest header that is read, in bytes. Senders may add fields of their own.
const MAX_HEADER_BYTES: usize = 1024;

impl SpanContext {
    /// Reads a trace header of X-Ray. `None` if it names no trace, or no span that could be a parent.
    pub fn of_xray(header: &str) -> Option<Self> {
        let (mut root, mut parent, mut flags) = (None, None, 0);
        for field in Some(header).filter(|text| text.len() <= MAX_HEADER_BYTES)?.split(';') {
            let Some((name, value)) = field.split_once('=') else {
                continue;
            };
            match name.trim() {
                "Root" => root = Some(trace_id(value.trim())?),
                "Parent" => parent = Some(parse_hex(value.trim())?),
                "Sampled" => flags = u8::from(value.trim() == "1"),
                _ => {}
            }
        }
        Self::new(root?, parent?, flags)
    }

    /// Returns the trace header of X-Ray: 74 characters.
    pub fn xray(&self) -> String {
        let mut text = String::with_capacity(74);
        let (time, rest) = self.trace_id.split_at(4);
        text.push_str("Root=1-");
        push_hex(&mut text, time);
        text.push('-');
        push_hex(&mut text, rest);
        text.push_str(";Parent=");
        push_hex(&mut text, &self.span_id);
        text.push_str(if self.is_sampled() { ";Sampled=1" } else { ";Sampled=0" });
        text
    }
}

fn trace_id(root: &str) -> Option<[u8; 16]> {
    let (time, rest) = root.strip_prefix("1-")?.split_once('-')?;
    let (time, rest): ([u8; 4], [u8; 12]) = (parse_hex(time)?, parse_hex(rest)?);
    let mut id = [0; 16];
    for (byte, part) in id.iter_mut().zip(time.into_iter().chain(rest)) {
        *byte = part;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";

    #[test]
    fn a_trace_header_is_written_as_it_was_read() {
        let context = SpanContext::of_xray(HEADER).unwrap();
        assert_eq!(context.xray(), HEADER);
        assert_eq!(
            context.traceparent(),
            "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"
        );
    }

    #[test]
    fn the_fields_of_a_header_come_in_any_order_and_others_beside_them() {
        let text = "Self=1-67891234-12456789abcdef012345678; Sampled=0 ;Parent=53995c3f42cd8ad8;Root=1-5759e988-bd862e3fe1be46a994272793;k=v";
        let context = SpanContext::of_xray(text).unwrap();
        assert!(!context.is_sampled());
        assert_eq!(context.trace_id(), "5759e988bd862e3fe1be46a994272793");
    }

    #[test]
    fn a_header_without_a_parent_or_with_a_wrong_one_is_none() {
        for wrong in [
            "",
            "Root=1",
            "Root=1-5759e988-bd862e3fe1be46a994272793",
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=1;Sampled=1",
            "Root=2-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8",
            "Root=1-00000000-000000000000000000000000;Parent=53995c3f42cd8ad8",
            &format!("{HEADER};{}", "x".repeat(1024)),
        ] {
            assert_eq!(SpanContext::of_xray(wrong), None, "{wrong}");
        }
    }
}
