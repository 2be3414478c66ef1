//! Configuration of the handler, from its manifest. Secrets are values that the manifest takes from elsewhere.
//!
//! ```toml
//! [grant]
//! config = { api = "https://api.example.com", token = { from-env = "API_TOKEN" } }
//! ```
//!
//! ```
//! use sandhog_guest::{config, testing};
//!
//! testing::config([("api", "https://api.example.com")]);
//! assert_eq!(config::get("api").as_deref(), Some("https://api.example.com"));
//! assert_eq!(config::get("token"), None);
//! ```
//!
//! The host prints no value, and a handler should not either. This module is there with the feature `config` of the crate. A handler
//! that does not call it imports no configuration, and needs no grant.

use std::collections::BTreeMap;

use crate::Failure;
#[cfg(target_family = "wasm")]
use crate::bindings::config::wasi::config::store;
#[cfg(not(target_family = "wasm"))]
use crate::testing::config as store;

/// Returns the value of this name; `None` if the manifest has none.
///
/// # Panics
///
/// If the host can't say, which this host does not do; and in a test that has prepared no configuration.
pub fn get(name: &str) -> Option<String> {
    store::get(name).expect("the host has the configuration")
}

/// Returns the value of this name.
///
/// # Errors
///
/// [`Failure::Retry`] that has the name, if the manifest has no such value: an operator can add it while the messages wait.
///
/// # Panics
///
/// As [`get`].
pub fn require(name: &str) -> Result<String, Failure> {
    get(name).ok_or_else(|| {
        Failure::retry(format!(
            "{name} is not configured: add it to config in [grant] of the manifest"
        ))
    })
}

/// Returns every value by its name.
///
/// # Panics
///
/// As [`get`].
pub fn all() -> BTreeMap<String, String> {
    let all = store::get_all().expect("the host has the configuration");
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_value_that_is_missing_is_named() {
        testing::config([("api", "x")]);
        assert_eq!(require("api").as_deref(), Ok("x"));
        assert_eq!(
            require("token"),
            Err(Failure::retry(
                "token is not configured: add it to config in [grant] of the manifest"
            ))
        );
        assert_eq!(all(), BTreeMap::from([("api".to_owned(), "x".to_owned())]));
    }
}
