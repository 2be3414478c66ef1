//! Reading a request of either protocol. Whatever the bytes are, the answer is a request or an error of SQS.

use std::str;

use crate::{
    action::SqsAction,
    check::check,
    error::{SqsError, SqsErrorCode},
    form::FormNode,
    protocol::{WireProtocol, WireRequest},
    request::SqsRequest,
};

/// What the header `X-Amz-Target` begins with.
const TARGET_PREFIX: &str = "AmazonSQS.";
const FORM: &str = "application/x-www-form-urlencoded";

/// Reads a request in the protocol that [`WireProtocol::of`] found.
///
/// # Errors
///
/// Returns the error that AWS answers when no action or an unknown one is named, when the body can't be read, when a
/// parameter is missing, and when one has a value that no queue would take.
pub fn parse(protocol: WireProtocol, request: &WireRequest<'_>) -> Result<SqsRequest, SqsError> {
    let parsed = match protocol {
        WireProtocol::Json => parse_json(request)?,
        WireProtocol::Query => parse_query(request)?,
    };
    if let Some(name) = parsed.missing() {
        return Err(SqsError::missing_parameter(name));
    }
    check(&parsed)?;
    Ok(parsed)
}

fn parse_json(request: &WireRequest<'_>) -> Result<SqsRequest, SqsError> {
    if request.method != "POST" {
        return Err(SqsError::unknown_operation());
    }
    let target = request.target.ok_or_else(SqsError::unknown_operation)?;
    let action = target
        .strip_prefix(TARGET_PREFIX)
        .and_then(SqsAction::from_name)
        .ok_or_else(SqsError::unknown_operation)?;
    // A client may send nothing where the input has no member that must be there.
    let body = if request.body.is_empty() { b"{}" } else { request.body };
    SqsRequest::from_json(action, body).map_err(|error| unreadable(&error))
}

/// Returns what AWS says of JSON that it can't read: the reason for a wrong type, and nothing for what is no JSON.
fn unreadable(error: &serde_json::Error) -> SqsError {
    if !error.is_data() {
        return SqsError::serialization("");
    }
    let text = error.to_string();
    let reason = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(reason, _)| reason);
    SqsError::serialization(reason)
}

fn parse_query(request: &WireRequest<'_>) -> Result<SqsRequest, SqsError> {
    let form = parameters(request)?;
    if form.is_empty() {
        return Err(SqsError::unknown_operation());
    }
    let name = form.child("Action").and_then(FormNode::value).unwrap_or_default();
    if name.is_empty() {
        return Err(SqsError::new(
            SqsErrorCode::MissingAction,
            "The request must contain the parameter Action.",
        ));
    }
    let action = SqsAction::from_name(name).ok_or_else(|| SqsError::invalid_action(name))?;
    // The address of a queue takes only what works on a queue, and the question for the address of another one.
    let is_queue = is_path_of_queue(request.path);
    if is_queue && action.is_without_queue_url() && action != SqsAction::GetQueueUrl {
        return Err(SqsError::invalid_action(name));
    }
    let mut parsed = SqsRequest::from_form(action, &form)?;
    if is_queue {
        parsed.default_queue_url(request.path);
    }
    Ok(parsed)
}

/// Returns the parameters of the URL, and those of the body if it is a form.
fn parameters(request: &WireRequest<'_>) -> Result<FormNode, SqsError> {
    let media_type = request.media_type();
    let is_form = media_type == FORM || media_type.is_empty();
    let body = match request.method {
        "POST" if is_form => str::from_utf8(request.body).map_err(|_| {
            SqsError::new(
                SqsErrorCode::MalformedQueryString,
                "The query string contains a syntax error.",
            )
        })?,
        "POST" | "GET" => "",
        _ => return Err(SqsError::unknown_operation()),
    };
    FormNode::parse(request.query, body)
}

/// Returns whether the path can be that of a queue: an account and a name.
fn is_path_of_queue(path: &str) -> bool {
    path.split('/').filter(|segment| !segment.is_empty()).count() >= 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::input::{MessageAttributeValue, SendMessageInput};
    use crate::value::BinaryValue;

    fn json(action: &str, body: &str) -> Result<SqsRequest, SqsError> {
        let target = format!("AmazonSQS.{action}");
        let request = WireRequest {
            method: "POST",
            path: "/",
            content_type: Some("application/x-amz-json-1.0"),
            target: Some(&target),
            body: body.as_bytes(),
            ..WireRequest::default()
        };
        assert_eq!(WireProtocol::of(&request), WireProtocol::Json);
        parse(WireProtocol::Json, &request)
    }

    fn form(path: &str, body: &str) -> Result<SqsRequest, SqsError> {
        let request = WireRequest {
            method: "POST",
            path,
            content_type: Some("application/x-www-form-urlencoded; charset=utf-8"),
            body: body.as_bytes(),
            ..WireRequest::default()
        };
        assert_eq!(WireProtocol::of(&request), WireProtocol::Query);
        parse(WireProtocol::Query, &request)
    }

    fn refusal<T: std::fmt::Debug>(answer: Result<T, SqsError>) -> (&'static str, String) {
        let error = answer.unwrap_err();
        (error.code().query_code(), error.message().to_owned())
    }

    fn message() -> SendMessageInput {
        let text = MessageAttributeValue {
            data_type: "String".to_owned(),
            string_value: Some("a & b".to_owned()),
            ..MessageAttributeValue::default()
        };
        let bytes = MessageAttributeValue {
            data_type: "Binary".to_owned(),
            binary_value: Some(BinaryValue(vec![0, 255])),
            ..MessageAttributeValue::default()
        };
        SendMessageInput {
            queue_url: "http://host/000000000000/q".to_owned(),
            message_body: "hello".to_owned(),
            delay_seconds: Some(5),
            message_attributes: [("text".to_owned(), text), ("bytes".to_owned(), bytes)].into(),
            ..SendMessageInput::default()
        }
    }

    #[test]
    fn both_protocols_say_the_same_message() {
        let in_json = json(
            "SendMessage",
            r#"{"QueueUrl":"http://host/000000000000/q","MessageBody":"hello","DelaySeconds":5,"MessageGroupId":null,
                "Unknown":[{}],"MessageAttributes":{"text":{"DataType":"String","StringValue":"a & b"},
                "bytes":{"DataType":"Binary","BinaryValue":"AP8="}}}"#,
        );
        assert_eq!(in_json, Ok(SqsRequest::SendMessage(message())));
        let in_form = form(
            "/",
            "Action=SendMessage&Version=2012-11-05&QueueUrl=http%3A%2F%2Fhost%2F000000000000%2Fq&MessageBody=hello\
             &DelaySeconds=5&MessageAttribute.1.Name=text&MessageAttribute.1.Value.StringValue=a+%26+b\
             &MessageAttribute.1.Value.DataType=String&MessageAttribute.2.Name=bytes\
             &MessageAttribute.2.Value.BinaryValue=AP8%3D&MessageAttribute.2.Value.DataType=Binary",
        );
        assert_eq!(in_form, in_json);
    }

    #[test]
    fn whatever_serde_writes_of_an_input_is_read_again() {
        let body = serde_json::to_string(&message()).unwrap();
        assert_eq!(json("SendMessage", &body), Ok(SqsRequest::SendMessage(message())));
    }

    #[test]
    fn the_lists_and_maps_of_the_query_protocol_are_read() {
        let SqsRequest::CreateQueue(input) = form(
            "/",
            "Action=CreateQueue&QueueName=q&Attribute.1.Name=DelaySeconds&Attribute.1.Value=5&Tag.1.Key=a&Tag.1.Value=",
        )
        .unwrap() else {
            panic!("another action");
        };
        assert_eq!(input.queue_name.as_deref(), Some("q"));
        assert_eq!(input.attributes, [("DelaySeconds".to_owned(), "5".to_owned())].into());
        assert_eq!(input.tags, [("a".to_owned(), String::new())].into());

        let SqsRequest::SendMessageBatch(input) = form(
            "/000000000000/q",
            "Action=SendMessageBatch&SendMessageBatchRequestEntry.1.Id=a&SendMessageBatchRequestEntry.1.MessageBody=A\
             &SendMessageBatchRequestEntry.2.Id=b&SendMessageBatchRequestEntry.2.MessageBody=B",
        )
        .unwrap() else {
            panic!("another action");
        };
        assert_eq!(input.queue_url, "/000000000000/q");
        let ids: Vec<_> = input.entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
    }

    #[test]
    fn the_address_of_a_queue_takes_no_action_without_a_queue_but_the_question_for_another() {
        let refused = (
            "InvalidAction",
            "The action ListQueues is not valid for this endpoint.".to_owned(),
        );
        assert_eq!(refusal(form("/000000000000/q", "Action=ListQueues")), refused);
        assert!(form("/", "Action=ListQueues").is_ok());
        assert!(form("/000000000000/q", "Action=GetQueueUrl&QueueName=other").is_ok());
    }

    #[test]
    fn a_queue_that_the_request_names_goes_before_its_path() {
        let request = form("/000000000000/q", "Action=PurgeQueue&QueueUrl=http://host/0/other").unwrap();
        assert_eq!(request.queue_url(), Some("http://host/0/other"));
    }

    #[test]
    fn an_action_that_is_missing_or_unknown_is_refused_as_aws_does() {
        assert_eq!(refusal(form("/", "Version=2012-11-05")).0, "MissingAction");
        let unknown = (
            "InvalidAction",
            "The action FooBar is not valid for this endpoint.".to_owned(),
        );
        assert_eq!(refusal(form("/", "Action=FooBar")), unknown);
        assert_eq!(refusal(form("/000000000000/q", "")).0, "UnknownOperationException");
        let signed = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00";
        assert_eq!(refusal(form("/000000000000/q", signed)).0, "UnknownOperationException");
        assert_eq!(refusal(json("FooBar", "{}")).0, "UnknownOperationException");
        let request = WireRequest {
            method: "POST",
            content_type: Some("application/x-amz-json-1.0"),
            ..WireRequest::default()
        };
        assert_eq!(
            refusal(parse(WireProtocol::Json, &request)).0,
            "UnknownOperationException"
        );
    }

    #[test]
    fn what_is_no_json_or_of_another_type_is_a_serialization_error() {
        let because = |text: &str| ("SerializationException", text.to_owned());
        assert_eq!(refusal(json("SendMessage", "{")), because(""));
        assert_eq!(
            refusal(json("ReceiveMessage", r#"{"MaxNumberOfMessages":"5"}"#)),
            because("STRING_VALUE can not be converted to an Integer")
        );
        assert_eq!(
            refusal(json("CreateQueue", r#"{"Attributes":{"DelaySeconds":5}}"#)),
            because("NUMBER_VALUE can not be converted to a String")
        );
        assert_eq!(
            refusal(json("CreateQueue", r#"{"QueueName":{}}"#)),
            because("Start of structure or map found where not expected.")
        );
    }

    #[test]
    fn a_parameter_that_is_missing_is_named() {
        let missing = |name: &str| {
            (
                "MissingParameter",
                format!("The request must contain the parameter {name}."),
            )
        };
        let url = r#""QueueUrl":"http://host/0/q""#;
        assert_eq!(
            refusal(json("SendMessage", &format!("{{{url},\"MessageBody\":\"\"}}"))),
            missing("MessageBody")
        );
        assert_eq!(refusal(form("/0/q", "Action=SendMessage")), missing("MessageBody"));
        assert_eq!(refusal(json("DeleteQueue", "")), missing("QueueUrl"));
        assert_eq!(refusal(json("CreateQueue", "{}")), missing("QueueName"));
        let change = format!("{{{url},\"ReceiptHandle\":\"r\"}}");
        assert_eq!(
            refusal(json("ChangeMessageVisibility", &change)),
            missing("VisibilityTimeout")
        );
    }

    #[test]
    fn what_no_queue_would_take_is_refused_at_once() {
        let url = r#""QueueUrl":"http://host/0/q""#;
        let empty = "AWS.SimpleQueueService.EmptyBatchRequest";
        assert_eq!(refusal(json("SendMessageBatch", &format!("{{{url}}}"))).0, empty);
        assert_eq!(refusal(form("/0/q", "Action=DeleteMessageBatch")).0, empty);
        let receive = format!("{{{url},\"MaxNumberOfMessages\":11}}");
        assert_eq!(refusal(json("ReceiveMessage", &receive)).0, "InvalidParameterValue");
        assert_eq!(
            refusal(form("/", "Action=CreateQueue&QueueName=a+b")).0,
            "InvalidParameterValue"
        );
    }

    #[test]
    fn numbers_are_text_in_the_query_protocol() {
        let SqsRequest::ReceiveMessage(input) = form("/0/q", "Action=ReceiveMessage&WaitTimeSeconds=20").unwrap()
        else {
            panic!("another action");
        };
        assert_eq!(input.wait_time_seconds, Some(20));
        assert_eq!(
            refusal(form("/0/q", "Action=ReceiveMessage&WaitTimeSeconds=x")).0,
            "InvalidParameterValue"
        );
    }

    #[test]
    fn a_list_that_is_too_long_is_refused_before_it_is_held() {
        let body = format!("{{\"Entries\":[{}{{}}]}}", "{},".repeat(2000));
        assert_eq!(refusal(json("SendMessageBatch", &body)).0, "SerializationException");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(
            action in 0..SqsAction::ALL.len(),
            body in proptest::collection::vec(any::<u8>(), 0..300),
            query in ".{0,100}",
            path in "[/a-z.%]{0,20}",
        ) {
            let action = SqsAction::ALL[action].name();
            let target = format!("AmazonSQS.{action}");
            for (content_type, target) in [
                (Some("application/x-amz-json-1.0"), Some(target.as_str())),
                (Some("application/x-www-form-urlencoded"), None),
                (None, None),
            ] {
                let query = format!("Action={action}&{query}");
                let request = WireRequest { method: "POST", path: &path, query: &query, content_type, target, body: &body };
                drop(parse(WireProtocol::of(&request), &request));
            }
        }

        #[test]
        fn any_json_of_the_right_names_is_a_request_or_an_error(
            action in 0..SqsAction::ALL.len(),
            members in proptest::collection::vec(
                (
                    prop_oneof![
                        Just("QueueUrl"), Just("Entries"), Just("MessageAttributes"), Just("Attributes"), Just("tags"),
                        Just("Tags"), Just("MaxResults"), Just("AttributeNames"), Just("MessageBody"), Just("QueueName"),
                    ],
                    prop_oneof![
                        Just("{}"), Just("[]"), Just("null"), Just("1"), Just("-1e400"), Just("\"x\""), Just("[[[]]]"),
                        Just("{\"a\":{\"DataType\":[]}}"), Just("[{\"Id\":\"\\ud83d\\ude00\"}]"), Just("\"\\ud800\""),
                        Just("99999999999999999999"), Just("true"), Just("[null]"),
                    ],
                ),
                0..6,
            ),
        ) {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            drop(json(SqsAction::ALL[action].name(), &format!("{{{}}}", members.join(","))));
        }

        #[test]
        fn any_form_of_the_right_names_is_a_request_or_an_error(
            action in 0..SqsAction::ALL.len(),
            names in proptest::collection::vec(
                "(Attribute|Tag|MessageAttribute|SendMessageBatchRequestEntry|AttributeName)(\\.(member|entry|[0-9]{1,11}|Name|Value|Key|Id|DataType)){0,5}=[a-z0-9%+]{0,4}",
                0..20,
            ),
        ) {
            let body = format!("Action={}&{}", SqsAction::ALL[action].name(), names.join("&"));
            drop(form("/0/q", &body));
        }
    }
}
