//! The messages of the protocol OTLP that an export of spans takes. Their fields and numbers are those of its published definitions
//! (`opentelemetry/proto`), as far as they are used here.

use std::{collections::BTreeMap, time::Duration};

use prost::Message;

use super::{
    context::SpanContext,
    span::{AttributeValue, MAX_LINKS, SpanKind, SpanLink, SpanRecord},
};

/// The version of the conventions by which spans and attributes are named.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";
/// The bits of a span's flags that say that it is known where its parent is, and that the parent is elsewhere.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<WireSpan>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct WireSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    links: Vec<Link>,
    #[prost(uint32, tag = "14")]
    dropped_links_count: u32,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Link {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    attributes: Vec<KeyValue>,
    #[prost(fixed32, tag = "6")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3, 4")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
}

#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// What a collector has not taken of a request that it accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) spans: u64,
    pub(crate) why: String,
}

/// Returns the body of a request that exports these spans.
pub(crate) fn request(resource: &BTreeMap<String, String>, spans: &[SpanRecord]) -> Vec<u8> {
    let attribute = |(key, value): (&String, &String)| KeyValue {
        key: key.clone(),
        value: Some(any(&AttributeValue::Text(value.clone().into()))),
    };
    let request = ExportRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: resource.iter().map(attribute).collect(),
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(Scope {
                    name: "sandhog".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                }),
                spans: spans.iter().map(span).collect(),
                schema_url: SCHEMA_URL.to_owned(),
            }],
            schema_url: SCHEMA_URL.to_owned(),
        }],
    };
    request.encode_to_vec()
}

/// Returns what a collector says that it has not taken, if it says so.
pub(crate) fn rejection(response: &[u8]) -> Option<Rejection> {
    let partial = ExportResponse::decode(response).ok()?.partial_success?;
    let rejection = Rejection {
        spans: u64::try_from(partial.rejected_spans).unwrap_or_default(),
        why: partial.error_message,
    };
    (rejection != Rejection::default()).then_some(rejection)
}

fn span(span: &SpanRecord) -> WireSpan {
    let SpanRecord {
        context,
        parent,
        kind,
        name,
        start,
        duration,
        attributes,
        links,
        error,
    } = span;
    let parent_flags = match parent {
        // The parents of sends and settlements are attempts of this process, and those of attempts are not.
        Some(_) if *kind == SpanKind::Consumer => HAS_IS_REMOTE | IS_REMOTE,
        Some(_) | None => HAS_IS_REMOTE,
    };
    WireSpan {
        trace_id: context.trace_id.to_vec(),
        span_id: context.span_id.to_vec(),
        trace_state: context.tracestate().unwrap_or_default().to_owned(),
        parent_span_id: parent
            .as_ref()
            .map(|parent| parent.span_id.to_vec())
            .unwrap_or_default(),
        name: name.clone(),
        kind: match kind {
            SpanKind::Client => 3,
            SpanKind::Producer => 4,
            SpanKind::Consumer => 5,
        },
        start_time_unix_nano: start.wall_ns(Duration::ZERO),
        end_time_unix_nano: start.wall_ns(*duration),
        attributes: key_values(attributes),
        links: links.iter().take(MAX_LINKS).map(link).collect(),
        dropped_links_count: u32::try_from(links.len().saturating_sub(MAX_LINKS)).unwrap_or(u32::MAX),
        status: error.as_ref().map(|why| Status {
            message: why.clone(),
            code: 2,
        }),
        flags: u32::from(context.flags) | parent_flags,
    }
}

fn link(link: &SpanLink) -> Link {
    let SpanContext {
        trace_id,
        span_id,
        flags,
        state: _,
    } = &link.context;
    Link {
        trace_id: trace_id.to_vec(),
        span_id: span_id.to_vec(),
        attributes: key_values(&link.attributes),
        flags: u32::from(*flags) | HAS_IS_REMOTE | IS_REMOTE,
    }
}

fn key_values(attributes: &[(&'static str, AttributeValue)]) -> Vec<KeyValue> {
    let pairs = attributes.iter().map(|(key, value)| KeyValue {
        key: (*key).to_owned(),
        value: Some(any(value)),
    });
    pairs.collect()
}

fn any(value: &AttributeValue) -> AnyValue {
    AnyValue {
        value: Some(match value {
            AttributeValue::Text(text) => Value::Text(text.clone().into_owned()),
            AttributeValue::Int(number) => Value::Int(*number),
            AttributeValue::Double(number) => Value::Double(*number),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_collector_has_not_taken_is_read_from_its_answer() {
        let response = ExportResponse {
            partial_success: Some(PartialSuccess {
                rejected_spans: 3,
                error_message: "too old".to_owned(),
            }),
        };
        let expected = Rejection {
            spans: 3,
            why: "too old".to_owned(),
        };
        assert_eq!(rejection(&response.encode_to_vec()), Some(expected));
        assert_eq!(rejection(b""), None);
        assert_eq!(rejection(b"{}"), None);
    }
}
