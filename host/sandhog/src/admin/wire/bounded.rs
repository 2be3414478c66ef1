//! Reads lists and tables of a request, and stops where they are too long.
//!
//! Invariant: a list takes no more memory than its text, and a name that occurs twice is refused.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{AttributeForm, MAX_BATCH, OutgoingForm, SettleEntry};
use sandhog_queue::{message::MAX_ATTRIBUTES, printable::printable};

/// The longest part of a wrong name that an answer repeats, in bytes.
const SHOWN_BYTES: usize = 100;

/// Reads the messages of a batch: at most [`MAX_BATCH`].
pub(crate) fn messages<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<OutgoingForm>, D::Error> {
    deserializer.deserialize_seq(AtMost::new("messages"))
}

/// Reads the receipts of an extension: at most [`MAX_BATCH`].
pub(crate) fn receipts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_seq(AtMost::new("receipts"))
}

/// Reads the settlements of a request, if it has a list of them: at most [`MAX_BATCH`].
pub(crate) fn settlements<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<SettleEntry>>, D::Error> {
    deserializer.deserialize_seq(AtMost::new("settlements")).map(Some)
}

/// Reads the ids of a redrive, which may be absent: at most [`MAX_BATCH`].
pub(crate) fn ids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    /// Visits a list that may be absent.
    struct Ids;

    impl<'de> Visitor<'de> for Ids {
        type Value = Option<Vec<String>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of ids")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_seq(AtMost::new("ids")).map(Some)
        }
    }

    deserializer.deserialize_option(Ids)
}

/// Reads names of attributes: at most [`MAX_BATCH`].
pub(crate) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_seq(AtMost::new("names"))
}

/// Reads the attributes of one message. Of too many attributes it keeps one more than the limit, so that this message is refused
/// and not the whole batch.
pub(crate) fn attributes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, AttributeForm>, D::Error> {
    deserializer.deserialize_map(Unique)
}

struct AtMost<T> {
    what: &'static str,
    items: PhantomData<T>,
}

impl<T> AtMost<T> {
    fn new(what: &'static str) -> Self {
        Self {
            what,
            items: PhantomData,
        }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for AtMost<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX_BATCH} {}", self.what)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == MAX_BATCH {
                let why = format!("more than {MAX_BATCH} {}: send 1 to {MAX_BATCH}", self.what);
                return Err(A::Error::custom(why));
            }
            list.push(item);
        }
        Ok(list)
    }
}

struct Unique;

impl<'de> Visitor<'de> for Unique {
    type Value = BTreeMap<String, AttributeForm>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("attributes by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Self::Value, A::Error> {
        let mut attributes = BTreeMap::new();
        while attributes.len() <= MAX_ATTRIBUTES {
            let Some((name, value)) = pairs.next_entry::<String, AttributeForm>()? else {
                return Ok(attributes);
            };
            if attributes.contains_key(&name) {
                let name = printable(&name, SHOWN_BYTES);
                return Err(A::Error::custom(format!("attribute {name:?} is given twice")));
            }
            attributes.insert(name, value);
        }
        while pairs.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(attributes)
    }
}

#[cfg(test)]
mod tests {
    use crate::admin::wire::{SendBatch, SweepRequest};

    fn check<T: serde::de::DeserializeOwned>(text: &str, expected: Result<(), &str>) {
        let read = serde_json::from_str::<T>(text);
        let error = read.map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(error, expected.map_err(str::to_owned), "{text:.100}");
    }

    fn list(key: &str, item: &str, count: usize, rest: &str) -> String {
        format!("{{\"{key}\":[{}{rest}", vec![item; count].join(","))
    }

    #[test]
    fn reading_ends_at_the_first_entry_too_many() {
        check::<SendBatch>(&list("messages", "{}", 1000, "]}"), Ok(()));
        // The reader does not look at the rest of the text, which is not JSON.
        let why = "more than 1000 messages: send 1 to 1000 at line 1 column 3015";
        check::<SendBatch>(&list("messages", "{}", 1001, "!!!"), Err(why));
        check::<SweepRequest>(&list("ids", "\"\"", 1000, "]}"), Ok(()));
        let why = "more than 1000 ids: send 1 to 1000 at line 1 column 3010";
        check::<SweepRequest>(&list("ids", "\"\"", 1001, "!!!"), Err(why));
    }

    #[test]
    fn no_ids_are_all_ids() {
        let ids = |text| serde_json::from_str::<SweepRequest>(text).unwrap().ids;
        assert_eq!(ids("{}"), None);
        assert_eq!(ids("{\"ids\":null}"), None);
        assert_eq!(ids("{\"ids\":[]}"), Some(vec![]));
    }

    #[test]
    fn too_many_attributes_refuse_one_message_and_take_no_memory() {
        let attributes: Vec<_> = (0..100_000).map(|n| format!("\"a{n}\":{{\"text\":\"\"}}")).collect();
        let text = format!(
            "{{\"messages\":[{{\"body\":\"\",\"attributes\":{{{}}}}}]}}",
            attributes.join(",")
        );
        let batch: SendBatch = serde_json::from_str(&text).unwrap();
        let entry = batch.messages.into_iter().next().unwrap();
        assert_eq!(entry.attributes.len(), 11);
        assert!(entry.into_message().is_err());
    }

    #[test]
    fn an_attribute_that_is_given_twice_is_refused() {
        let text = r#"{"messages":[{"body":"","attributes":{"n":{"text":"1"},"n":{"text":"2"}}}]}"#;
        check::<SendBatch>(text, Err("attribute \"n\" is given twice at line 1 column 72"));
    }
}
