//! Claims about what messages a queue takes, with the answers that AWS gave.

use super::*;
use crate::value::BinaryValue;

const STANDARD: SendRules = SendRules {
    is_fifo: false,
    content_based_deduplication: false,
    maximum_message_size: 1_048_576,
};
const FIFO: SendRules = SendRules {
    is_fifo: true,
    ..STANDARD
};

fn message() -> SendMessageInput {
    SendMessageInput {
        message_body: "hello".to_owned(),
        ..SendMessageInput::default()
    }
}

fn fifo_message() -> SendMessageInput {
    SendMessageInput {
        message_group_id: Some("g".to_owned()),
        message_deduplication_id: Some("d".to_owned()),
        ..message()
    }
}

fn check(input: &SendMessageInput, rules: SendRules) -> Result<CheckedSend, SqsError> {
    OutgoingMessage::of_input(input)
        .check(rules)
        .map_err(SendRefusal::into_error)
}

fn refusal(input: &SendMessageInput, rules: SendRules) -> (&'static str, String) {
    let error = check(input, rules).unwrap_err();
    (error.code().query_code(), error.message().to_owned())
}

fn value(data_type: &str, text: &str) -> MessageAttributeValue {
    MessageAttributeValue {
        data_type: data_type.to_owned(),
        string_value: Some(text.to_owned()),
        ..MessageAttributeValue::default()
    }
}

fn with_attribute(name: &str, value: MessageAttributeValue) -> SendMessageInput {
    SendMessageInput {
        message_attributes: [(name.to_owned(), value)].into(),
        ..message()
    }
}

fn invalid(text: &str) -> (&'static str, String) {
    ("InvalidParameterValue", text.to_owned())
}

#[test]
fn a_message_is_as_long_as_the_queue_allows_with_its_attributes() {
    let rules = SendRules {
        maximum_message_size: 1024,
        ..STANDARD
    };
    let text = "One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes.";
    let mut input = message();
    input.message_body = "x".repeat(1024);
    assert!(check(&input, rules).is_ok());
    input.message_body.push('x');
    assert_eq!(refusal(&input, rules), invalid(text));
    input.message_body = "x".repeat(1024 - "nameString".len());
    input.message_attributes = [("name".to_owned(), value("String", "v"))].into();
    assert_eq!(refusal(&input, rules), invalid(text));

    let entry = SendMessageBatchEntry {
        message_body: "x".repeat(1025),
        ..SendMessageBatchEntry::default()
    };
    let error = OutgoingMessage::of_entry(&entry).check(rules).unwrap_err();
    let text = "One or more parameters cannot be validated. Reason: Message must be shorter than 1024 bytes.";
    assert_eq!(error, SendRefusal::Message(SqsError::invalid_parameter(text)));
}

#[test]
fn a_body_has_something_and_only_characters_of_xml() {
    let mut input = message();
    for body in ["\u{0}", "a\u{8}", "\u{fffe}", "\u{1f}"] {
        body.clone_into(&mut input.message_body);
        assert_eq!(refusal(&input, STANDARD).0, "InvalidMessageContents");
    }
    "\t\r\n é \u{fffd} \u{10ffff}".clone_into(&mut input.message_body);
    assert!(check(&input, STANDARD).is_ok());
    input.message_body.clear();
    assert_eq!(refusal(&input, STANDARD).0, "MissingParameter");
}

#[test]
fn a_delay_has_up_to_fifteen_minutes_and_a_fifo_queue_takes_none() {
    let delayed = |seconds, input: SendMessageInput| SendMessageInput {
        delay_seconds: Some(seconds),
        ..input
    };
    assert_eq!(
        check(&delayed(900, message()), STANDARD).unwrap().delay,
        Some(Duration::from_mins(15))
    );
    assert_eq!(
        check(&delayed(0, message()), STANDARD).unwrap().delay,
        Some(Duration::ZERO)
    );
    for seconds in [-1, 901] {
        let text = format!(
            "Value {seconds} for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900."
        );
        assert_eq!(refusal(&delayed(seconds, message()), STANDARD), invalid(&text));
    }
    let text = "Value 2 for parameter DelaySeconds is invalid. Reason: The request include parameter that is not valid for \
                this queue type.";
    assert_eq!(refusal(&delayed(2, fifo_message()), FIFO), invalid(text));
    assert_eq!(check(&delayed(0, fifo_message()), FIFO).unwrap().delay, None);
}

#[test]
fn a_fifo_queue_wants_a_group_and_a_deduplication_id_or_the_body_for_it() {
    let group = SendMessageInput {
        message_group_id: Some("g".to_owned()),
        ..message()
    };
    assert_eq!(
        refusal(&message(), FIFO),
        (
            "MissingParameter",
            "The request must contain the parameter MessageGroupId.".to_owned()
        )
    );
    let text =
        "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly";
    assert_eq!(refusal(&group, FIFO), invalid(text));
    let rules = SendRules {
        content_based_deduplication: true,
        ..FIFO
    };
    assert!(check(&group, rules).is_ok());
    assert!(check(&fifo_message(), FIFO).is_ok());
}

#[test]
fn an_entry_without_group_or_deduplication_id_refuses_the_whole_batch() {
    let mut entry = SendMessageBatchEntry {
        message_body: "x".to_owned(),
        ..SendMessageBatchEntry::default()
    };
    let text = "The request must contain the parameter MessageGroupId.";
    let refused = OutgoingMessage::of_entry(&entry).check(FIFO).unwrap_err();
    assert_eq!(refused, SendRefusal::Call(SqsError::invalid_parameter(text)));
    entry.message_group_id = Some("g".to_owned());
    let refused = OutgoingMessage::of_entry(&entry).check(FIFO).unwrap_err();
    assert!(matches!(refused, SendRefusal::Call(_)), "{refused:?}");
}

#[test]
fn a_standard_queue_takes_a_group_and_no_deduplication_id() {
    let mut input = message();
    input.message_group_id = Some("test".to_owned());
    assert!(check(&input, STANDARD).is_ok());
    input.message_deduplication_id = Some("d".to_owned());
    assert_eq!(refusal(&input, STANDARD).0, "InvalidParameterValue");
}

#[test]
fn ids_are_letters_digits_and_punctuation_up_to_128() {
    for id in ["", "group 123", &"a".repeat(129)] {
        let reason = "can only include alphanumeric and punctuation characters. 1 to 128 in length.";
        let mut input = message();
        input.message_group_id = Some(id.to_owned());
        let text = format!("Value {id} for parameter MessageGroupId is invalid. Reason: MessageGroupId {reason}");
        assert_eq!(refusal(&input, STANDARD), invalid(&text));
        let mut input = fifo_message();
        input.message_deduplication_id = Some(id.to_owned());
        let text = format!(
            "Value {id} for parameter MessageDeduplicationId is invalid. Reason: MessageDeduplicationId {reason}"
        );
        assert_eq!(refusal(&input, FIFO), invalid(&text));
    }
    let mut input = fifo_message();
    input.message_group_id = Some("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~aZ9".to_owned());
    assert!(check(&input, FIFO).is_ok());
}

#[test]
fn an_attribute_has_a_value_of_its_type() {
    let text = "Message (user) attribute 'ErrorDetails' must contain a non-empty value of type 'String'.";
    assert_eq!(
        refusal(&with_attribute("ErrorDetails", value("String", "")), STANDARD),
        invalid(text)
    );
    for (data_type, content) in [
        ("Binary", "x"),
        ("Text", "x"),
        ("Stringx", "x"),
        ("String.", "x"),
        ("", "x"),
        ("Number", "abc"),
        ("Number", "NaN"),
        ("Number", "1e127"),
        ("String", "\u{1}"),
    ] {
        assert!(
            check(&with_attribute("a", value(data_type, content)), STANDARD).is_err(),
            "{data_type} {content}"
        );
    }
    for (data_type, content) in [
        ("String.label", "x"),
        ("Number", "-1.50"),
        ("Number.int", "10"),
        ("Number", "1e126"),
    ] {
        assert!(
            check(&with_attribute("a", value(data_type, content)), STANDARD).is_ok(),
            "{data_type} {content}"
        );
    }
    let binary = MessageAttributeValue {
        data_type: "Binary.png".to_owned(),
        binary_value: Some(BinaryValue(vec![0])),
        ..MessageAttributeValue::default()
    };
    assert!(check(&with_attribute("a", binary), STANDARD).is_ok());
}

#[test]
fn characters_that_no_attribute_has_are_a_wrong_parameter_and_no_wrong_content() {
    let input = with_attribute("a", value("String", "a\u{8}"));
    assert_eq!(refusal(&input, STANDARD).0, "InvalidParameterValue");
    let trace = SendMessageInput {
        message_system_attributes: [("AWSTraceHeader".to_owned(), value("String", "\u{b}"))].into(),
        ..message()
    };
    assert_eq!(refusal(&trace, STANDARD).0, "InvalidParameterValue");
}

#[test]
fn the_name_of_an_attribute_is_no_reserved_one() {
    for name in [
        "",
        ".a",
        "a.",
        "a..b",
        "AWS.a",
        "amazon.a",
        "a b",
        "a!",
        &"a".repeat(257),
    ] {
        assert!(
            check(&with_attribute(name, value("String", "x")), STANDARD).is_err(),
            "{name}"
        );
    }
    for name in ["a", "a.b-c_d9", "AWSome", "é", &"a".repeat(256)] {
        assert!(
            check(&with_attribute(name, value("String", "x")), STANDARD).is_ok(),
            "{name}"
        );
    }
}

#[test]
fn a_message_has_up_to_ten_attributes() {
    let many = |count: u32| SendMessageInput {
        message_attributes: (0..count)
            .map(|number| (format!("a{number}"), value("String", "x")))
            .collect(),
        ..message()
    };
    assert!(check(&many(10), STANDARD).is_ok());
    let text = "Number of message attributes [11] exceeds the allowed maximum [10].";
    assert_eq!(refusal(&many(11), STANDARD), invalid(text));
}

#[test]
fn the_header_for_tracing_is_the_only_system_attribute() {
    let with = |name: &str| SendMessageInput {
        message_system_attributes: [(name.to_owned(), value("String", "Root=1"))].into(),
        ..message()
    };
    let checked = check(&with("AWSTraceHeader"), STANDARD).unwrap();
    assert_eq!(checked.trace_header.as_deref(), Some("Root=1"));
    assert!(checked.md5_of_system_attributes.is_some());
    assert!(check(&with("SenderId"), STANDARD).is_err());
}
