//! The values that members of shapes have, and how each is read and written in both protocols.
//!
//! A member that is absent or `null` is the default of its type. JSON is as strict about types as AWS is; the query
//! protocol has only text, from which numbers and binary values are read.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

use crate::{error::SqsError, form::FormNode, xml::XmlWriter};

mod collections;

/// A value of a member of a shape.
pub(crate) trait WireValue: Default {
    /// Reads the value from JSON. `null` is the default.
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;

    /// Reads the value from the parameters of the query protocol. `name` is for errors.
    fn from_form(node: &FormNode, name: &str) -> Result<Self, SqsError>;

    /// Returns whether the value is left out of an answer and counts as missing in a request.
    fn is_absent(&self) -> bool;

    /// Returns the first member of a shape that a request must have and that is absent.
    fn missing(&self) -> Option<&'static str> {
        None
    }

    /// Writes the value as an element of this name. Lists are flat: one element for each member.
    fn write_xml(&self, xml: &mut XmlWriter, name: &str);
}

/// For `deserialize_with`: reads a member from JSON.
pub(crate) fn from_json<'de, D: Deserializer<'de>, T: WireValue>(deserializer: D) -> Result<T, D::Error> {
    T::from_json(deserializer)
}

/// For `skip_serializing_if`: whether the member is left out.
pub(crate) fn is_absent<T: WireValue>(value: &T) -> bool {
    value.is_absent()
}

/// Lets serde read the members of lists and maps.
struct JsonMember<T>(T);

impl<'de, T: WireValue> Deserialize<'de> for JsonMember<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::from_json(deserializer).map(Self)
    }
}

/// What AWS says when a structure or a list stands where neither may.
const STRAY_MAP: &str = "Start of structure or map found where not expected.";
const STRAY_LIST: &str = "Start of list found where not expected";

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<String, E> {
        Ok(text)
    }

    fn visit_unit<E: Error>(self) -> Result<String, E> {
        Ok(String::new())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<String, E> {
        let token = if value { "TRUE_VALUE" } else { "FALSE_VALUE" };
        Err(E::custom(format_args!("{token} can not be converted to a String")))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<String, E> {
        Err(E::custom("NUMBER_VALUE can not be converted to a String"))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<String, E> {
        Err(E::custom("NUMBER_VALUE can not be converted to a String"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<String, E> {
        Err(E::custom("NUMBER_VALUE can not be converted to a String"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(A::Error::custom(STRAY_LIST))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(A::Error::custom(STRAY_MAP))
    }
}

impl WireValue for String {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }

    fn from_form(node: &FormNode, _: &str) -> Result<Self, SqsError> {
        Ok(node.value().unwrap_or_default().to_owned())
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write_xml(&self, xml: &mut XmlWriter, name: &str) {
        xml.element(name, self);
    }
}

struct IntegerVisitor;

impl<'de> Visitor<'de> for IntegerVisitor {
    type Value = i64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an integer")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<i64, E> {
        Ok(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<i64, E> {
        i64::try_from(value).map_err(|_| E::custom("NUMBER_VALUE can not be converted to an Integer"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<i64, E> {
        Err(E::custom("NUMBER_VALUE can not be converted to an Integer"))
    }

    fn visit_unit<E: Error>(self) -> Result<i64, E> {
        Ok(0)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<i64, E> {
        Err(E::custom("STRING_VALUE can not be converted to an Integer"))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<i64, E> {
        let token = if value { "TRUE_VALUE" } else { "FALSE_VALUE" };
        Err(E::custom(format_args!("{token} can not be converted to an Integer")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<i64, A::Error> {
        Err(A::Error::custom(STRAY_LIST))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<i64, A::Error> {
        Err(A::Error::custom(STRAY_MAP))
    }
}

impl WireValue for i64 {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntegerVisitor)
    }

    fn from_form(node: &FormNode, name: &str) -> Result<Self, SqsError> {
        let text = node.value().unwrap_or_default();
        text.trim()
            .parse()
            .map_err(|_| SqsError::invalid_value(text, name, "Must be an integer."))
    }

    fn is_absent(&self) -> bool {
        false
    }

    fn write_xml(&self, xml: &mut XmlWriter, name: &str) {
        xml.element(name, &self.to_string());
    }
}

impl WireValue for bool {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<Self>::deserialize(deserializer).map(Option::unwrap_or_default)
    }

    fn from_form(node: &FormNode, _: &str) -> Result<Self, SqsError> {
        Ok(node.value() == Some("true"))
    }

    fn is_absent(&self) -> bool {
        false
    }

    fn write_xml(&self, xml: &mut XmlWriter, name: &str) {
        xml.element(name, if *self { "true" } else { "false" });
    }
}

/// Bytes, which both protocols carry as base64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BinaryValue(pub Vec<u8>);

impl Serialize for BinaryValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl WireValue for BinaryValue {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::from_json(deserializer)?;
        let bytes = STANDARD.decode(text.trim());
        bytes
            .map(Self)
            .map_err(|_| D::Error::custom("Failed to base64 decode a value"))
    }

    fn from_form(node: &FormNode, name: &str) -> Result<Self, SqsError> {
        let text = node.value().unwrap_or_default();
        STANDARD
            .decode(text.trim())
            .map(Self)
            .map_err(|_| SqsError::invalid_value(text, name, "Must be base64."))
    }

    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }

    fn write_xml(&self, xml: &mut XmlWriter, name: &str) {
        xml.element(name, &STANDARD.encode(&self.0));
    }
}

/// A list of text that an answer states where it is empty too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatedList(pub Vec<String>);

impl WireValue for StatedList {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::from_json(deserializer).map(Self)
    }

    fn from_form(node: &FormNode, name: &str) -> Result<Self, SqsError> {
        Vec::from_form(node, name).map(Self)
    }

    fn is_absent(&self) -> bool {
        false
    }

    fn write_xml(&self, xml: &mut XmlWriter, name: &str) {
        self.0.write_xml(xml, name);
    }
}
