//! The two protocols, and which of them a request speaks.

/// How a request and its answer are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireProtocol {
    /// AWS JSON 1.0: the action is a header, the body is JSON both ways.
    Json,
    /// The query protocol: parameters as a form or in the URL, XML as the answer.
    Query,
}

/// A request, as the HTTP server has it. The caller bounds the body: a message of 1 MiB is up to 3 MiB as a form, and up to
/// 6 MiB as JSON of which every character is escaped.
#[derive(Clone, Copy, Debug, Default)]
pub struct WireRequest<'a> {
    /// The method, such as `POST`.
    pub method: &'a str,
    /// The path, still percent-encoded, such as `/000000000000/orders`.
    pub path: &'a str,
    /// What comes after `?` in the URL, or nothing.
    pub query: &'a str,
    /// The header `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The header `X-Amz-Target`.
    pub target: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

impl WireRequest<'_> {
    /// Returns the content type without its parameters, in lower case.
    pub(crate) fn media_type(&self) -> String {
        let whole = self.content_type.unwrap_or_default();
        let media_type = whole.split(';').next().unwrap_or_default();
        media_type.trim().to_ascii_lowercase()
    }
}

impl WireProtocol {
    /// Returns the protocol of a request. One that speaks neither gets its error in the query protocol, as on AWS.
    pub fn of(request: &WireRequest<'_>) -> Self {
        // Some clients state JSON in requests that have no body.
        let names_action = request.query.split('&').any(|pair| pair.starts_with("Action="));
        if request.target.is_none() && names_action {
            return Self::Query;
        }
        let media_type = request.media_type();
        let is_json = media_type.starts_with("application/x-amz-json-") || media_type == "application/json";
        if is_json || (request.target.is_some() && media_type.is_empty()) {
            Self::Json
        } else {
            Self::Query
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_that_of_the_content_type_unless_the_url_names_an_action() {
        let target = Some("AmazonSQS.ListQueues");
        let form = Some("application/x-www-form-urlencoded");
        let action = "Action=ListQueues";
        for (content_type, target, query, protocol) in [
            (Some("application/x-amz-json-1.0"), target, "", WireProtocol::Json),
            (
                Some("Application/X-Amz-Json-1.0; charset=utf-8"),
                target,
                "",
                WireProtocol::Json,
            ),
            (Some("application/json"), target, "", WireProtocol::Json),
            (None, target, "", WireProtocol::Json),
            (form, None, "", WireProtocol::Query),
            (form, target, "", WireProtocol::Query),
            (None, None, action, WireProtocol::Query),
            (Some("application/json"), None, action, WireProtocol::Query),
            (Some("text/plain"), target, "", WireProtocol::Query),
        ] {
            let request = WireRequest {
                query,
                content_type,
                target,
                ..WireRequest::default()
            };
            assert_eq!(WireProtocol::of(&request), protocol, "{request:?}");
        }
    }
}
