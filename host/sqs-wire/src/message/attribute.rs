//! The attributes that a message may have.

use std::collections::BTreeMap;

use super::check_characters;
use crate::{error::SqsError, input::MessageAttributeValue};

/// The most attributes of a message.
const MAX_ATTRIBUTES: usize = 10;
/// The longest header for tracing, in bytes. It does not count to the size of a message, so that it needs a bound of its own.
const MAX_TRACE_BYTES: usize = 1024;
/// The most characters of the name and of the type of an attribute.
const MAX_NAME_LENGTH: usize = 256;
/// The bounds of a number, without their signs: the smallest has 128 zeros, the largest 126.
const LEAST_NUMBER: f64 = -1e128;
const LARGEST_NUMBER: f64 = 1e126;

/// The kinds of values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ValueKind {
    Text,
    Number,
    Binary,
}

impl ValueKind {
    /// Returns the kind of a type, whatever label the sender gave it.
    fn of(data_type: &str) -> Option<Self> {
        let (prefix, label) = match data_type.split_once('.') {
            Some((prefix, label)) => (prefix, Some(label)),
            None => (data_type, None),
        };
        if data_type.len() > MAX_NAME_LENGTH || label == Some("") {
            return None;
        }
        match prefix {
            "String" => Some(Self::Text),
            "Number" => Some(Self::Number),
            "Binary" => Some(Self::Binary),
            _ => None,
        }
    }
}

/// Refuses attributes that no message may have.
pub(super) fn check_attributes(attributes: &BTreeMap<String, MessageAttributeValue>) -> Result<(), SqsError> {
    let count = attributes.len();
    if count > MAX_ATTRIBUTES {
        return Err(SqsError::invalid_parameter(format!(
            "Number of message attributes [{count}] exceeds the allowed maximum [{MAX_ATTRIBUTES}]."
        )));
    }
    for (name, value) in attributes {
        check_name(name)?;
        check_value(name, value)?;
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), SqsError> {
    if name.is_empty() {
        return Err(SqsError::invalid_parameter(
            "The request must contain non-empty message (user) attribute names.",
        ));
    }
    if name.len() > MAX_NAME_LENGTH {
        return Err(SqsError::invalid_parameter(format!(
            "Length of message (user) attribute name must be less than or equal to {MAX_NAME_LENGTH} bytes."
        )));
    }
    // AWS takes the letters of Latin with accents too.
    let is_allowed = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.' | '\u{c0}'..='\u{17f}')
    };
    if !name.chars().all(is_allowed) {
        return Err(SqsError::invalid_parameter(
            "Invalid non-alphanumeric character was found in the message (user) attribute name. Can only include \
             alphanumeric characters, hyphens, underscores, or dots.",
        ));
    }
    let lower = name.to_lowercase();
    let is_reserved = lower.starts_with("aws.") || lower.starts_with("amazon.");
    if is_reserved || name.starts_with('.') || name.ends_with('.') || name.contains("..") {
        return Err(SqsError::invalid_parameter(
            "You can't use message attribute names beginning with 'AWS.' or 'Amazon.'. These strings are reserved for \
             internal use. Additionally, they cannot start or end with '.' or have two in a row.",
        ));
    }
    Ok(())
}

fn check_value(name: &str, value: &MessageAttributeValue) -> Result<(), SqsError> {
    let data_type = value.data_type.as_str();
    if data_type.is_empty() {
        return Err(SqsError::invalid_parameter(format!(
            "Message (user) attribute '{name}' must contain a non-empty attribute type."
        )));
    }
    let Some(kind) = ValueKind::of(data_type) else {
        return Err(SqsError::invalid_parameter(format!(
            "The type of message (user) attribute '{name}' is invalid. You must use only the following supported type \
             prefixes: Binary, Number, String."
        )));
    };
    if !value.string_list_values.is_empty() || !value.binary_list_values.is_empty() {
        return Err(SqsError::invalid_parameter(format!(
            "Message (user) attribute '{name}' can't be a list: list values are not implemented."
        )));
    }
    let text = value.string_value.as_deref().unwrap_or_default();
    let is_empty = match kind {
        ValueKind::Binary => value.binary_value.as_ref().is_none_or(|bytes| bytes.0.is_empty()),
        ValueKind::Text | ValueKind::Number => text.is_empty(),
    };
    if is_empty {
        return Err(SqsError::invalid_parameter(format!(
            "Message (user) attribute '{name}' must contain a non-empty value of type '{data_type}'."
        )));
    }
    if value.string_value.is_some() && value.binary_value.is_some() {
        return Err(SqsError::invalid_parameter(format!(
            "Message (user) attribute '{name}' has two values: give the one that its type says."
        )));
    }
    if kind == ValueKind::Number && !is_number(text) {
        return Err(SqsError::invalid_parameter(format!(
            "Can't cast the value of message (user) attribute '{name}' to a number."
        )));
    }
    // AWS has one code for the characters of a body, and another for those of an attribute.
    check_characters(text).map_err(|refused| SqsError::invalid_parameter(refused.message()))
}

/// Returns whether the text is a number that SQS takes. Its digits are kept as they are.
fn is_number(text: &str) -> bool {
    let number: Result<f64, _> = text.parse();
    // What is infinite or no number is in no range.
    number.is_ok_and(|number| (LEAST_NUMBER..=LARGEST_NUMBER).contains(&number))
}

/// Returns the header for tracing, which is the only system attribute that a client can send.
pub(super) fn trace_header(attributes: &BTreeMap<String, MessageAttributeValue>) -> Result<Option<String>, SqsError> {
    let mut header = None;
    for (name, value) in attributes {
        if name != "AWSTraceHeader" {
            return Err(SqsError::invalid_parameter(format!(
                "Message system attribute name '{name}' is invalid."
            )));
        }
        if value.data_type != "String" {
            return Err(SqsError::invalid_parameter(format!(
                "The type of message system attribute '{name}' is invalid. You must use only the following supported type \
                 prefixes: String."
            )));
        }
        let text = value
            .string_value
            .clone()
            .filter(|text| !text.is_empty())
            .ok_or_else(|| {
                SqsError::invalid_parameter(format!(
                    "Message system attribute '{name}' must contain a non-empty value of type 'String'."
                ))
            })?;
        check_characters(&text).map_err(|refused| SqsError::invalid_parameter(refused.message()))?;
        if text.len() > MAX_TRACE_BYTES {
            return Err(SqsError::invalid_parameter(format!(
                "Message system attribute '{name}' is longer than {MAX_TRACE_BYTES} bytes."
            )));
        }
        header = Some(text);
    }
    Ok(header)
}
