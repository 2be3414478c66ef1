//! Members that may be absent, lists and maps. A list or a map that a client sends has a bounded number of members.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{JsonMember, STRAY_LIST, STRAY_MAP, WireValue};
use crate::{
    error::SqsError,
    form::{FormNode, MAX_MEMBERS},
    xml::XmlWriter,
};

struct OptionVisitor<T>(PhantomData<T>);

impl<'de, T: WireValue> Visitor<'de> for OptionVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value or null")
    }

    fn visit_none<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        T::from_json(deserializer).map(Some)
    }
}

impl<T: WireValue> WireValue for Option<T> {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(OptionVisitor(PhantomData))
    }

    fn from_form(node: &FormNode, name: &str) -> Result<Self, SqsError> {
        T::from_form(node, name).map(Some)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }

    fn write_xml(&self, xml: &mut XmlWriter, name: &str) {
        if let Some(value) = self {
            value.write_xml(xml, name);
        }
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: WireValue> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_unit<E: Error>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut members = Vec::new();
        while let Some(JsonMember(member)) = list.next_element()? {
            if members.len() >= MAX_MEMBERS {
                return Err(A::Error::custom("Too many members in a list"));
            }
            members.push(member);
        }
        Ok(members)
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Vec<T>, A::Error> {
        Err(A::Error::custom(STRAY_MAP))
    }
}

impl<T: WireValue> WireValue for Vec<T> {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }

    fn from_form(node: &FormNode, name: &str) -> Result<Self, SqsError> {
        node.members()?
            .into_iter()
            .map(|member| T::from_form(member, name))
            .collect()
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write_xml(&self, xml: &mut XmlWriter, name: &str) {
        for member in self {
            member.write_xml(xml, name);
        }
    }
}

struct MapVisitor<T>(PhantomData<T>);

impl<'de, T: WireValue> Visitor<'de> for MapVisitor<T> {
    type Value = BTreeMap<String, T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_unit<E: Error>(self) -> Result<BTreeMap<String, T>, E> {
        Ok(BTreeMap::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BTreeMap<String, T>, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if members.len() >= MAX_MEMBERS {
                return Err(A::Error::custom("Too many members in a map"));
            }
            let JsonMember(value) = map.next_value()?;
            members.insert(key, value);
        }
        Ok(members)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<BTreeMap<String, T>, A::Error> {
        // Clients of PHP write an empty map as an empty list.
        match list.next_element::<IgnoredAny>()? {
            None => Ok(BTreeMap::new()),
            Some(IgnoredAny) => Err(A::Error::custom(STRAY_LIST)),
        }
    }
}

impl<T: WireValue> WireValue for BTreeMap<String, T> {
    fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MapVisitor(PhantomData))
    }

    fn from_form(node: &FormNode, _: &str) -> Result<Self, SqsError> {
        let mut members = Self::new();
        for member in node.members()? {
            let key = member.any_child(&["Name", "Key", "key", "name"]);
            let key = key.and_then(FormNode::value).unwrap_or_default();
            let value = match member.any_child(&["Value", "value"]) {
                Some(value) => T::from_form(value, key)?,
                None => T::default(),
            };
            members.insert(key.to_owned(), value);
        }
        Ok(members)
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write_xml(&self, xml: &mut XmlWriter, name: &str) {
        let key_name = if name == "Tag" { "Key" } else { "Name" };
        for (key, value) in self {
            xml.open(name);
            xml.element(key_name, key);
            value.write_xml(xml, "Value");
            xml.close(name);
        }
    }
}
