//! What a store tells a host about its own state, for the host's readiness. Knows nothing of hosts.

use std::fmt;

/// A store that can say what is wrong with it. A host asks each time somebody asks whether the host is ready.
pub trait StoreHealth: fmt::Debug + Send + Sync {
    /// Returns the reasons why the store is in trouble, for people, one text each; none if the store is well. Never waits.
    fn troubles(&self) -> Vec<String>;
}
