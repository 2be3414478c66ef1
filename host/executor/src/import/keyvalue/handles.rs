//! The resources `bucket` and `cas`, which the generated bindings name.

use std::sync::Arc;

use sandhog_queue::keyvalue::NotedValue;

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

/// The value that an attempt compares later. An instance that is used again keeps the handles of earlier attempts, which are
/// empty.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct Cas(Option<NotedValue>);

impl Cas {
    pub(crate) fn new(noted: NotedValue) -> Self {
        Self(Some(noted))
    }

    pub(crate) fn noted(&self) -> Option<&NotedValue> {
        self.0.as_ref()
    }

    pub(crate) fn into_noted(self) -> Option<NotedValue> {
        self.0
    }

    /// Drops the value, since the attempt is over.
    pub(crate) fn expire(&mut self) {
        self.0 = None;
    }
}
