//! The double of the configuration.

use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    /// `None` until a test has granted it.
    static VALUES: RefCell<Option<BTreeMap<String, String>>> = const { RefCell::new(None) };
}

/// Gives the handlers of this thread this configuration. Without it, none is granted.
pub fn config<K: Into<String>, V: Into<String>>(values: impl IntoIterator<Item = (K, V)>) {
    let values = values
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    VALUES.set(Some(values));
}

/// The error of a manifest without the grant.
#[derive(Debug)]
#[expect(dead_code, reason = "the text is shown by the panic that the error becomes")]
pub(crate) struct NotGranted(&'static str);

pub(crate) fn get(name: &str) -> Result<Option<String>, NotGranted> {
    get_all().map(|values| values.get(name).cloned())
}

pub(crate) fn get_all() -> Result<BTreeMap<String, String>, NotGranted> {
    let values = VALUES.with_borrow(Clone::clone);
    values.ok_or(NotGranted(
        "configuration is not granted: to grant it, add config = { NAME = \"VALUE\" } to [grant] of the manifest",
    ))
}
