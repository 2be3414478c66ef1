//! Which attributes a request asks for: of a message that it receives, or of a queue.

use std::collections::BTreeSet;

use crate::{
    error::SqsError,
    input::ReceiveMessageInput,
    names::{MessageSystemName, QueueAttributeName},
};

/// The attributes of messages that a receive asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributeSelection {
    all: bool,
    names: BTreeSet<String>,
    prefixes: Vec<String>,
}

impl AttributeSelection {
    /// Returns what `MessageAttributeNames` asks for: names, prefixes such as `bar.*`, and everything with `All`, `*` or `.*`. A
    /// name that no attribute can have is asked for in vain.
    pub fn of(names: &[String]) -> Self {
        let mut selection = Self::default();
        for name in names {
            match name.strip_suffix(".*") {
                Some("") => selection.all = true,
                Some(prefix) => selection.prefixes.push(prefix.to_owned()),
                None if name == "All" || name == "*" => selection.all = true,
                None => {
                    selection.names.insert(name.clone());
                }
            }
        }
        selection
    }

    /// Returns whether the attribute is asked for.
    pub fn picks(&self, name: &str) -> bool {
        self.all || self.names.contains(name) || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// The system attributes of messages that a receive asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemSelection(BTreeSet<MessageSystemName>);

impl SystemSelection {
    /// Returns what `MessageSystemAttributeNames` and `AttributeNames`, its old name, ask for together.
    ///
    /// # Errors
    ///
    /// `InvalidAttributeName` for a name that is none.
    pub fn of(input: &ReceiveMessageInput) -> Result<Self, SqsError> {
        let mut selection = BTreeSet::new();
        let names = input.attribute_names.iter();
        for name in names.chain(&input.message_system_attribute_names) {
            match MessageSystemName::from_name(name) {
                Some(known) => {
                    selection.insert(known);
                }
                None if name == "All" => selection.extend(MessageSystemName::ALL),
                // The model lets the old member have the names of queue attributes, which no message has.
                None if QueueAttributeName::from_name(name).is_some() => (),
                None => return Err(SqsError::unknown_attribute(name)),
            }
        }
        Ok(Self(selection))
    }

    /// Returns whether the attribute is asked for.
    pub fn picks(&self, name: MessageSystemName) -> bool {
        self.0.contains(&name)
    }
}

/// Returns the attributes of a queue that `AttributeNames` asks for, each of them once.
///
/// # Errors
///
/// `InvalidAttributeName` for a name that is none.
pub fn selected_queue_attributes(names: &[String]) -> Result<BTreeSet<QueueAttributeName>, SqsError> {
    let mut selected = BTreeSet::new();
    for name in names {
        match QueueAttributeName::from_name(name) {
            Some(known) => {
                selected.insert(known);
            }
            None if name == "All" => selected.extend(QueueAttributeName::ALL),
            None => return Err(SqsError::unknown_attribute(name)),
        }
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(names: &[&str]) -> Vec<&'static str> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let selection = AttributeSelection::of(&names);
        let there = ["General", "Hello", "Help.Me"];
        there.into_iter().filter(|name| selection.picks(name)).collect()
    }

    #[test]
    fn attributes_are_picked_by_names_prefixes_and_all() {
        assert_eq!(picked(&[]), [""; 0]);
        assert_eq!(picked(&["All"]), ["General", "Hello", "Help.Me"]);
        assert_eq!(picked(&[".*"]), ["General", "Hello", "Help.Me"]);
        assert_eq!(picked(&["*"]), ["General", "Hello", "Help.Me"]);
        assert_eq!(picked(&["Hello", "Foo"]), ["Hello"]);
        assert_eq!(picked(&["Hel.*"]), ["Hello", "Help.Me"]);
        assert_eq!(picked(&["AWS.", "..foo", "hello"]), [""; 0]);
    }

    fn input(old: &[&str], new: &[&str]) -> ReceiveMessageInput {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        ReceiveMessageInput {
            attribute_names: owned(old),
            message_system_attribute_names: owned(new),
            ..ReceiveMessageInput::default()
        }
    }

    #[test]
    fn system_attributes_are_asked_for_under_the_old_and_the_new_name() {
        let none = SystemSelection::of(&input(&[], &[])).unwrap();
        assert!(!none.picks(MessageSystemName::SenderId));
        let both = SystemSelection::of(&input(&["SenderId"], &["SentTimestamp"])).unwrap();
        assert!(both.picks(MessageSystemName::SenderId) && both.picks(MessageSystemName::SentTimestamp));
        assert!(!both.picks(MessageSystemName::MessageGroupId));
        for all in [
            input(&["All"], &[]),
            input(&[], &["All"]),
            input(&["All"], &["SenderId"]),
        ] {
            let all = SystemSelection::of(&all).unwrap();
            assert!(MessageSystemName::ALL.iter().all(|name| all.picks(*name)));
        }
        let error = SystemSelection::of(&input(&[], &["Foobar"])).unwrap_err();
        assert_eq!(error.message(), "Unknown Attribute Foobar.");
    }

    #[test]
    fn an_attribute_that_no_queue_has_is_refused() {
        let error = selected_queue_attributes(&["Foobar".to_owned()]).unwrap_err();
        assert_eq!(error.message(), "Unknown Attribute Foobar.");
        let all = selected_queue_attributes(&["All".to_owned(), "Policy".to_owned()]).unwrap();
        assert_eq!(all.len(), 21);
    }
}
