//! The resource `bucket`, which the generated bindings name.

use std::sync::Arc;

/// An open bucket of a handler's store.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct Bucket(Arc<str>);

impl Bucket {
    /// Opens the bucket of this name.
    pub(crate) fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.0
    }
}
