//! The MD5 sums with which clients check that a message arrived as it was sent.

use std::{collections::BTreeMap, fmt::Write};

use md5::{Digest, Md5};

use crate::input::MessageAttributeValue;

/// Says that a value is text.
const TEXT_TRANSPORT: u8 = 1;
/// Says that a value is bytes.
const BINARY_TRANSPORT: u8 = 2;

fn hex(digest: &[u8]) -> String {
    let mut text = String::with_capacity(digest.len() * 2);
    for byte in digest {
        // Writing to a string can't fail.
        _ = write!(text, "{byte:02x}");
    }
    text
}

/// Returns the MD5 of a body, in hexadecimal digits.
pub fn md5_of_body(body: &str) -> String {
    hex(&Md5::digest(body.as_bytes()))
}

/// Adds bytes with their length in front. No attribute is as long as 4 GiB, for a message is not.
fn update(digest: &mut Md5, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    digest.update(length.to_be_bytes());
    digest.update(bytes);
}

/// Returns the MD5 of attributes or system attributes, in hexadecimal digits, or nothing if there are none.
///
/// The sum is over the attributes in the order of their names: name, type, a byte for the kind of the value, and value.
pub fn md5_of_attributes<'a>(
    attributes: impl IntoIterator<Item = (&'a str, &'a MessageAttributeValue)>,
) -> Option<String> {
    let sorted: BTreeMap<_, _> = attributes.into_iter().collect();
    if sorted.is_empty() {
        return None;
    }
    let mut digest = Md5::new();
    for (name, value) in sorted {
        update(&mut digest, name.as_bytes());
        update(&mut digest, value.data_type.as_bytes());
        match &value.binary_value {
            Some(bytes) if value.data_type.starts_with("Binary") => {
                digest.update([BINARY_TRANSPORT]);
                update(&mut digest, &bytes.0);
            }
            _ => {
                digest.update([TEXT_TRANSPORT]);
                update(
                    &mut digest,
                    value.string_value.as_deref().unwrap_or_default().as_bytes(),
                );
            }
        }
    }
    Some(hex(&digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::BinaryValue;

    fn text(value: &str) -> MessageAttributeValue {
        MessageAttributeValue {
            data_type: "String".to_owned(),
            string_value: Some(value.to_owned()),
            ..MessageAttributeValue::default()
        }
    }

    #[test]
    fn the_sum_of_a_body_is_that_of_aws() {
        assert_eq!(md5_of_body("message-body-1"), "19c9e282d65f9733bc6b35d50062c7ee");
    }

    #[test]
    fn the_sum_of_attributes_is_that_of_aws_in_whatever_order_they_come() {
        let (hello, general, help) = (text("There"), text("Kenobi"), text("Me"));
        let all = [("Hello", &hello), ("General", &general), ("Help.Me", &help)];
        assert_eq!(md5_of_attributes(all).unwrap(), "4c360f3fdafd970e05fae2f149d997f5");
        let two = [("Help.Me", &help), ("Hello", &hello)];
        assert_eq!(md5_of_attributes(two).unwrap(), "83fee93c1bcd8b9a5a923ffacdc636c7");
        assert_eq!(md5_of_attributes([]), None);
    }

    #[test]
    fn the_type_counts_in_the_sum() {
        let value = MessageAttributeValue {
            data_type: "Number".to_owned(),
            ..text("1493147359900")
        };
        let sum = md5_of_attributes([("timestamp", &value)]).unwrap();
        assert_eq!(sum, "235c5c510d26fb653d073faed50ae77c");
    }

    #[test]
    fn the_sum_of_a_binary_attribute_is_that_of_aws() {
        let trace = b"traceparent\x1e00-774062d6c37081a5a0b9b5b88e30627c-2d2482211f6489da-01";
        let value = MessageAttributeValue {
            data_type: "Binary".to_owned(),
            binary_value: Some(BinaryValue(trace.to_vec())),
            ..MessageAttributeValue::default()
        };
        let sum = md5_of_attributes([("attr1", &value)]).unwrap();
        assert_eq!(sum, "8cbe4db156db8a94db8b801b7addb984");
    }
}
