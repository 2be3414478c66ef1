//! The health of a store, for the readiness of its host. This file knows no host.

use std::fmt;

/// A store that reports its troubles. A host asks for them whenever it is asked for its readiness.
pub trait StoreHealth: fmt::Debug + Send + Sync {
    /// Returns the reasons why the store is in trouble, for people, one text each; none if the store is well. Never waits.
    fn troubles(&self) -> Vec<String>;
}
