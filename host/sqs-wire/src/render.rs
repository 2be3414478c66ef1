//! Writing an answer in either protocol.

use serde::Serialize;

use crate::{
    error::{SqsError, SqsErrorCode},
    protocol::WireProtocol,
    response::SqsResponse,
    xml::XmlWriter,
};

/// An answer, as an HTTP server sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireResponse {
    /// The HTTP status.
    pub status: u16,
    /// The headers, with names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// The body of an error in JSON.
#[derive(Serialize)]
struct JsonError<'a> {
    #[serde(rename = "__type")]
    kind: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

/// Writes what an action answered. `request_id` names the request for people who search for it, on AWS a UUID.
pub fn render(protocol: WireProtocol, request_id: &str, answer: &Result<SqsResponse, SqsError>) -> WireResponse {
    match (protocol, answer) {
        (WireProtocol::Json, Ok(response)) => match response.to_json() {
            Ok(body) => json_response(200, request_id, body),
            Err(_) => json_error(request_id, &SqsError::internal_failure()),
        },
        (WireProtocol::Json, Err(error)) => json_error(request_id, error),
        (WireProtocol::Query, Ok(response)) => xml_response(200, request_id, xml_answer(request_id, response)),
        (WireProtocol::Query, Err(error)) => {
            xml_response(error.code().status(), request_id, xml_error(request_id, error))
        }
    }
}

fn json_response(status: u16, request_id: &str, body: Vec<u8>) -> WireResponse {
    WireResponse {
        status,
        headers: vec![
            ("content-type", "application/x-amz-json-1.0".to_owned()),
            ("x-amzn-requestid", request_id.to_owned()),
        ],
        body,
    }
}

fn json_error(request_id: &str, error: &SqsError) -> WireResponse {
    let code = error.code();
    let body = JsonError {
        kind: code.json_type(),
        message: error.message(),
    };
    // JSON clients that name no operation get 400; browsers and probes get 404 in the query protocol.
    let status = if code == SqsErrorCode::UnknownOperation {
        400
    } else {
        code.status()
    };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = json_response(status, request_id, body);
    response
        .headers
        .push(("x-amzn-query-error", format!("{};{}", code.query_code(), fault(error))));
    response
}

fn fault(error: &SqsError) -> &'static str {
    if error.code().is_sender_fault() {
        "Sender"
    } else {
        "Receiver"
    }
}

fn xml_response(status: u16, request_id: &str, body: String) -> WireResponse {
    WireResponse {
        status,
        headers: vec![
            ("content-type", "text/xml".to_owned()),
            ("x-amzn-requestid", request_id.to_owned()),
        ],
        body: body.into_bytes(),
    }
}

fn xml_answer(request_id: &str, response: &SqsResponse) -> String {
    let root = format!("{}Response", response.action().name());
    let mut xml = XmlWriter::document();
    xml.open_root(&root);
    response.write_result(&mut xml);
    xml.open("ResponseMetadata");
    xml.element("RequestId", request_id);
    xml.close("ResponseMetadata");
    xml.close(&root);
    xml.finish()
}

fn xml_error(request_id: &str, error: &SqsError) -> String {
    let mut xml = XmlWriter::default();
    if error.code() == SqsErrorCode::UnknownOperation {
        xml.empty("UnknownOperationException");
        return xml.finish();
    }
    // Only the query protocol speaks of its description.
    let message = match error.message() {
        "The specified queue does not exist." => "The specified queue does not exist for this wsdl version.",
        other => other,
    };
    let mut xml = XmlWriter::document();
    xml.open_root("ErrorResponse");
    xml.open("Error");
    xml.element("Type", fault(error));
    xml.element("Code", error.code().query_code());
    xml.element("Message", message);
    xml.empty("Detail");
    xml.close("Error");
    xml.element("RequestId", request_id);
    xml.close("ErrorResponse");
    xml.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        batch::{BatchFailure, MessageAttributeValue, SendMessageBatchSuccess},
        output::{
            GetQueueAttributesOutput, ListDeadLetterSourceQueuesOutput, ListQueueTagsOutput, ReceiveMessageOutput,
            ReceivedMessage, SendMessageBatchOutput,
        },
        value::BinaryValue,
    };

    fn rendered(protocol: WireProtocol, answer: &Result<SqsResponse, SqsError>) -> (u16, String) {
        let response = render(protocol, "id", answer);
        (response.status, String::from_utf8(response.body).unwrap())
    }

    fn json(answer: SqsResponse) -> String {
        rendered(WireProtocol::Json, &Ok(answer)).1
    }

    /// Returns what is inside of the root in XML.
    fn xml(answer: SqsResponse) -> String {
        let action = answer.action().name();
        let (status, text) = rendered(WireProtocol::Query, &Ok(answer));
        assert_eq!(status, 200);
        let start =
            format!("<?xml version=\"1.0\"?><{action}Response xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\">");
        let end = format!("<ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></{action}Response>");
        text.strip_prefix(&start)
            .unwrap()
            .strip_suffix(&end)
            .unwrap()
            .to_owned()
    }

    fn message() -> ReceivedMessage {
        let value = MessageAttributeValue {
            data_type: "Binary".to_owned(),
            binary_value: Some(BinaryValue(vec![0, 255])),
            ..MessageAttributeValue::default()
        };
        ReceivedMessage {
            message_id: "m".to_owned(),
            receipt_handle: "r".to_owned(),
            md5_of_body: "d".to_owned(),
            body: "a<b".to_owned(),
            attributes: [("SenderId".to_owned(), "s".to_owned())].into(),
            md5_of_message_attributes: None,
            message_attributes: [("k".to_owned(), value)].into(),
        }
    }

    #[test]
    fn a_message_is_written_in_both_protocols() {
        let output = SqsResponse::ReceiveMessage(ReceiveMessageOutput {
            messages: vec![message()],
        });
        assert_eq!(
            json(output.clone()),
            r#"{"Messages":[{"MessageId":"m","ReceiptHandle":"r","MD5OfBody":"d","Body":"a<b","Attributes":{"SenderId":"s"},"MessageAttributes":{"k":{"DataType":"Binary","BinaryValue":"AP8="}}}]}"#
        );
        assert_eq!(
            xml(output),
            "<ReceiveMessageResult><Message><MessageId>m</MessageId><ReceiptHandle>r</ReceiptHandle><MD5OfBody>d</MD5OfBody>\
             <Body>a&lt;b</Body><Attribute><Name>SenderId</Name><Value>s</Value></Attribute><MessageAttribute><Name>k</Name>\
             <Value><DataType>Binary</DataType><BinaryValue>AP8=</BinaryValue></Value></MessageAttribute></Message>\
             </ReceiveMessageResult>"
        );
    }

    #[test]
    fn an_empty_receive_has_no_messages() {
        let output = SqsResponse::ReceiveMessage(ReceiveMessageOutput::default());
        assert_eq!(json(output.clone()), "{}");
        assert_eq!(xml(output), "<ReceiveMessageResult/>");
    }

    #[test]
    fn an_action_without_an_output_answers_nothing_but_the_request_id() {
        assert_eq!(json(SqsResponse::DeleteMessage), "");
        assert_eq!(xml(SqsResponse::DeleteMessage), "");
    }

    #[test]
    fn lists_that_are_empty_are_left_out_unless_a_client_counts_on_them() {
        let output = SqsResponse::ListDeadLetterSourceQueues(ListDeadLetterSourceQueuesOutput::default());
        assert_eq!(json(output.clone()), r#"{"queueUrls":[]}"#);
        assert_eq!(xml(output), "<ListDeadLetterSourceQueuesResult/>");
        let attributes = SqsResponse::GetQueueAttributes(GetQueueAttributesOutput::default());
        assert_eq!(json(attributes), "{}");
    }

    #[test]
    fn a_batch_says_what_became_of_each_entry() {
        let output = SqsResponse::SendMessageBatch(SendMessageBatchOutput {
            successful: vec![SendMessageBatchSuccess {
                id: "a".to_owned(),
                ..SendMessageBatchSuccess::default()
            }],
            failed: vec![BatchFailure::new("b", &SqsError::queue_does_not_exist())],
        });
        assert_eq!(
            json(output.clone()),
            r#"{"Successful":[{"Id":"a"}],"Failed":[{"Id":"b","SenderFault":true,"Code":"AWS.SimpleQueueService.NonExistentQueue","Message":"The specified queue does not exist."}]}"#
        );
        assert!(xml(output).ends_with(
            "<BatchResultErrorEntry><Id>b</Id><SenderFault>true</SenderFault>\
             <Code>AWS.SimpleQueueService.NonExistentQueue</Code><Message>The specified queue does not exist.</Message>\
             </BatchResultErrorEntry></SendMessageBatchResult>"
        ));
    }

    #[test]
    fn the_tags_of_a_queue_have_keys_where_attributes_have_names() {
        let output = SqsResponse::ListQueueTags(ListQueueTagsOutput {
            tags: [("a".to_owned(), String::new())].into(),
        });
        assert_eq!(json(output.clone()), r#"{"Tags":{"a":""}}"#);
        assert_eq!(
            xml(output),
            "<ListQueueTagsResult><Tag><Key>a</Key><Value></Value></Tag></ListQueueTagsResult>"
        );
    }

    #[test]
    fn an_error_has_both_of_its_codes_in_json() {
        let response = render(WireProtocol::Json, "id", &Err(SqsError::queue_does_not_exist()));
        assert_eq!(response.status, 400);
        assert_eq!(
            String::from_utf8(response.body).unwrap(),
            r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue does not exist."}"#
        );
        assert_eq!(
            response.headers,
            [
                ("content-type", "application/x-amz-json-1.0".to_owned()),
                ("x-amzn-requestid", "id".to_owned()),
                (
                    "x-amzn-query-error",
                    "AWS.SimpleQueueService.NonExistentQueue;Sender".to_owned()
                ),
            ]
        );
        let (status, body) = rendered(WireProtocol::Json, &Err(SqsError::missing_parameter("MessageBody")));
        assert_eq!(status, 400);
        assert!(body.contains("#MissingRequiredParameterException"), "{body}");
    }

    #[test]
    fn an_error_of_the_query_protocol_has_its_text_and_its_fault() {
        assert_eq!(
            rendered(WireProtocol::Query, &Err(SqsError::queue_does_not_exist())),
            (
                400,
                "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\"><Error>\
                 <Type>Sender</Type><Code>AWS.SimpleQueueService.NonExistentQueue</Code>\
                 <Message>The specified queue does not exist for this wsdl version.</Message><Detail/></Error>\
                 <RequestId>id</RequestId></ErrorResponse>"
                    .to_owned()
            )
        );
        let (status, body) = rendered(WireProtocol::Query, &Err(SqsError::internal_failure()));
        assert_eq!(status, 500);
        assert!(body.contains("<Type>Receiver</Type>"), "{body}");
    }

    #[test]
    fn a_request_that_names_no_operation_is_not_found() {
        let answer = rendered(WireProtocol::Query, &Err(SqsError::unknown_operation()));
        assert_eq!(answer, (404, "<UnknownOperationException/>".to_owned()));
        let answer = rendered(WireProtocol::Json, &Err(SqsError::unknown_operation()));
        let body = r#"{"__type":"com.amazon.coral.service#UnknownOperationException"}"#;
        assert_eq!(answer, (400, body.to_owned()));
    }
}
