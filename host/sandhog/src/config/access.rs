//! The access keys of SQS clients, `[keys.NAME]` in `sandhog.toml`: who may do what with which queues.
//!
//! The listener's own secret is the secret of the access key [`OWNER`], which may do everything.

use std::{collections::BTreeMap, path::Path};

use super::{
    secret::{ListenerSecret, read_secret_file},
    section::TomlSection,
};
use sandhog_queue::message::QueueName;

/// The access key whose secret is that of the listener.
pub const OWNER: &str = "sandhog";
/// The most items of a list.
const MAX_ITEMS: usize = 100;

/// What a key may do with its queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessRight {
    /// Send.
    Send,
    /// Receive, extend and delete messages that were received.
    Receive,
    /// Create, change, purge and delete queues, and move messages.
    Manage,
}

/// Which queues a key is for: a name, or the beginning of names with `*` behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePattern(String);

impl QueuePattern {
    /// Returns the pattern, if the text is one.
    fn new(text: &str) -> Option<Self> {
        let stem = text.strip_suffix('*').unwrap_or(text);
        let is_name = stem.is_empty() || QueueName::new(stem).is_ok();
        (is_name && !text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// Returns whether the pattern is for the queue of this name.
    pub fn covers(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(stem) => name.starts_with(stem),
            None => name == self.0,
        }
    }
}

/// One access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Its secret.
    pub secret: ListenerSecret,
    /// What it may do.
    pub rights: Vec<AccessRight>,
    /// With which queues.
    pub queues: Vec<QueuePattern>,
}

impl AccessKey {
    /// Returns whether the key may do one of `rights` with the queue of this name.
    pub fn may(&self, rights: &[AccessRight], queue: &str) -> bool {
        rights.iter().any(|right| self.rights.contains(right))
            && self.queues.iter().any(|pattern| pattern.covers(queue))
    }
}

/// Reads the tables `[keys.NAME]`. Each needs a secret and rights; without `queues` a key is for all.
pub(super) fn read_keys(root: &mut TomlSection<'_>, directory: &Path) -> BTreeMap<String, AccessKey> {
    let mut keys = BTreeMap::new();
    for (name, mut section) in root.sections("keys") {
        let is_name = (1..=128).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !is_name || name == OWNER {
            section.refuse_section(&format!(
                "an access key has 1 to 128 letters, digits, '-' and '_', and {OWNER:?} is that of the listener's own secret"
            ));
        }
        let secret = read_secret_file(&mut section, "secret-file", directory);
        let rights = section.list(
            "rights",
            "\"send\", \"receive\" or \"manage\"",
            MAX_ITEMS,
            |text| match text {
                "send" => Some(AccessRight::Send),
                "receive" => Some(AccessRight::Receive),
                "manage" => Some(AccessRight::Manage),
                _ => None,
            },
        );
        let accepted = "the name of a queue, or the beginning of names with * behind it";
        let queues = section.list("queues", accepted, MAX_ITEMS, QueuePattern::new);
        for (key, missing) in [("secret-file", secret.is_none()), ("rights", rights.is_none())] {
            if missing && !section.has(key) {
                section.refuse_section(&format!("it needs {key}"));
            }
        }
        if let (Some(secret), Some(rights)) = (secret, rights) {
            let queues = queues.unwrap_or_else(|| vec![QueuePattern("*".to_owned())]);
            keys.insert(name, AccessKey { secret, rights, queues });
        }
        section.finish();
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_do_what_it_has_a_right_to_with_the_queues_that_it_names() {
        let key = AccessKey {
            secret: ListenerSecret::new("0123456789abcdef").unwrap(),
            rights: vec![AccessRight::Send, AccessRight::Receive],
            queues: ["orders", "mail-*"].map(|text| QueuePattern::new(text).unwrap()).into(),
        };
        assert!(key.may(&[AccessRight::Send], "orders"));
        assert!(key.may(&[AccessRight::Manage, AccessRight::Receive], "mail-eu"));
        assert!(!key.may(&[AccessRight::Manage], "orders"));
        assert!(!key.may(&[AccessRight::Send], "orders-dead"));
        assert!(!key.may(&[AccessRight::Send], "mail"));
    }

    #[test]
    fn a_pattern_is_a_name_or_a_beginning() {
        for text in ["a", "*", "a-*", "a.fifo"] {
            assert!(QueuePattern::new(text).is_some(), "{text}");
        }
        for text in ["", "a*b", "**", "a b"] {
            assert!(QueuePattern::new(text).is_none(), "{text}");
        }
    }
}
