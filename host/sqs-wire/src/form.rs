//! The parameters of the query protocol as a tree: `Tag.1.Key` is the child `Key` of the child `1` of the child `Tag`.
//!
//! The tree knows no action and no type. Its size is bounded by [`MAX_PARAMETERS`] and [`MAX_DEPTH`].

use std::{borrow::Cow, collections::BTreeMap};

use percent_encoding::percent_decode_str;

use crate::error::{SqsError, SqsErrorCode};

/// The most parameters of a request. The largest that SQS takes is a batch of ten messages with ten attributes each,
/// which needs about 400.
const MAX_PARAMETERS: usize = 4000;
/// The most names in a path such as `SendMessageBatchRequestEntry.1.MessageAttribute.2.Value.StringValue`, with room for
/// `member` in between.
const MAX_DEPTH: usize = 12;
/// The most members of a list or a map.
pub(crate) const MAX_MEMBERS: usize = 128;

/// A parameter and those below it.
#[derive(Debug, Default)]
pub(crate) struct FormNode {
    value: Option<String>,
    children: BTreeMap<String, Self>,
}

/// Returns one decoded name or value of a form.
fn decoded(raw: &str) -> Result<String, SqsError> {
    let spaced: Cow<'_, str> = if raw.contains('+') {
        raw.replace('+', " ").into()
    } else {
        raw.into()
    };
    percent_decode_str(&spaced)
        .decode_utf8()
        .map(Cow::into_owned)
        .map_err(|_| malformed())
}

fn malformed() -> SqsError {
    SqsError::new(
        SqsErrorCode::MalformedQueryString,
        "The query string contains a syntax error.",
    )
}

impl FormNode {
    /// Reads the query string and the body of a request, which may both have parameters. Where both have the same one, the
    /// body wins.
    pub(crate) fn parse(query: &str, body: &str) -> Result<Self, SqsError> {
        let mut root = Self::default();
        let pairs = query.split('&').chain(body.split('&')).filter(|pair| !pair.is_empty());
        for (count, pair) in pairs.enumerate() {
            if count >= MAX_PARAMETERS {
                return Err(malformed());
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            root.insert(&decoded(name)?, decoded(value)?)?;
        }
        Ok(root)
    }

    fn insert(&mut self, path: &str, value: String) -> Result<(), SqsError> {
        let mut node = self;
        for (depth, name) in path.split('.').enumerate() {
            if depth >= MAX_DEPTH {
                return Err(malformed());
            }
            node = node.children.entry(name.to_owned()).or_default();
        }
        node.value = Some(value);
        Ok(())
    }

    /// Returns whether the request has no parameter at all but those of its signature.
    pub(crate) fn is_empty(&self) -> bool {
        self.value.is_none() && self.children.keys().all(|name| name.starts_with("X-Amz-"))
    }

    /// Returns the value at this very place.
    pub(crate) fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// Returns what is below `name`.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.get(name)
    }

    /// Returns what is below the first of the names that is there.
    pub(crate) fn any_child(&self, names: &[&str]) -> Option<&Self> {
        names.iter().find_map(|name| self.child(name))
    }

    /// Returns the members of a list by their numbers: `Name.1`, `Name.2`, or `Name.member.1`. A lone `Name=value` is a
    /// list of one.
    pub(crate) fn members(&self) -> Result<Vec<&Self>, SqsError> {
        let list = self.any_child(&["member", "entry"]).unwrap_or(self);
        let mut numbered: Vec<(u32, &Self)> = list
            .children
            .iter()
            .filter_map(|(name, node)| Some((name.parse().ok()?, node)))
            .collect();
        if numbered.len() > MAX_MEMBERS {
            return Err(malformed());
        }
        if numbered.is_empty() && list.value.as_ref().is_some_and(|value| !value.is_empty()) {
            return Ok(vec![list]);
        }
        numbered.sort_by_key(|(number, _)| *number);
        Ok(numbered.into_iter().map(|(_, node)| node).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(form: &FormNode, name: &str) -> Vec<String> {
        let members = form.child(name).unwrap().members().unwrap();
        members
            .into_iter()
            .map(|node| node.value().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn members_come_in_the_order_of_their_numbers_with_or_without_member() {
        let form = FormNode::parse("A.10=ten&A.2=two&A.1=one", "B.member.2=b&B.member.1=a&C=lone").unwrap();
        assert_eq!(values(&form, "A"), ["one", "two", "ten"]);
        assert_eq!(values(&form, "B"), ["a", "b"]);
        assert_eq!(values(&form, "C"), ["lone"]);
    }

    #[test]
    fn plus_and_percent_are_decoded_and_bytes_that_are_no_text_are_refused() {
        let form = FormNode::parse("", "a=x+y%26%C3%A9&b").unwrap();
        assert_eq!(form.child("a").unwrap().value(), Some("x y&é"));
        assert_eq!(form.child("b").unwrap().value(), Some(""));
        assert!(FormNode::parse("a=%ff", "").is_err());
    }

    #[test]
    fn too_deep_too_many_and_too_long_are_refused() {
        assert!(FormNode::parse(&format!("{}=1", "a.".repeat(20)), "").is_err());
        assert!(FormNode::parse(&"a=1&".repeat(5000), "").is_err());
        let many: Vec<_> = (0..2000).map(|number| format!("A.{number}=x")).collect();
        let form = FormNode::parse(&many.join("&"), "").unwrap();
        assert!(form.child("A").unwrap().members().is_err());
    }
}
